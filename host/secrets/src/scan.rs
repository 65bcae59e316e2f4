//! Finds secrets in what comes back, and covers them with asterisks.
//!
//! Best effort: a server that answers with the secret turned round, compressed or encrypted is not found out. The host
//! asks for no compression where a request carries a secret. What is covered keeps its length, so that what a response says
//! of its length stays true.

use std::{mem, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue};
use zeroize::Zeroizing;

use crate::Value;

/// The forms of secrets that are looked for.
#[derive(Clone)]
pub struct Scan {
    forms: Arc<Vec<Zeroizing<Vec<u8>>>>,
    limit: u64,
}

impl Scan {
    /// Looks for `values`, as they are and in Base64, also of more than the value, in the first `limit` bytes of a body and
    /// in all headers.
    #[must_use]
    pub fn new(values: &[Value], limit: u64) -> Self {
        let mut forms = Vec::new();
        for value in values {
            let value = value.expose().as_bytes();
            forms.push(Zeroizing::new(value.to_vec()));
            forms.push(Zeroizing::new(STANDARD.encode(value).into_bytes()));
            forms.extend((0..3).map(|before| within(before, value)));
        }
        Self { forms: Arc::new(forms), limit }
    }

    /// Covers secrets in the values of `headers`; returns how many values had one.
    pub fn headers(&self, headers: &mut HeaderMap) -> usize {
        let mut covered = 0;
        for value in headers.values_mut() {
            let mut bytes = value.as_bytes().to_vec();
            if self.cover(&mut bytes) == 0 {
                continue;
            }
            covered += 1;
            *value = HeaderValue::from_bytes(&bytes).unwrap_or_else(|_| HeaderValue::from_static("*"));
        }
        covered
    }

    fn cover(&self, bytes: &mut [u8]) -> usize {
        let mut covered = 0;
        for form in self.forms.iter() {
            let mut from = 0;
            while let Some(at) = bytes.get(from..).and_then(|rest| find(rest, form)) {
                bytes[from + at..from + at + form.len()].fill(b'*');
                from += at + form.len();
                covered += 1;
            }
        }
        covered
    }

    /// How many bytes at the end of `bytes` may be the beginning of a secret.
    fn unfinished(&self, bytes: &[u8]) -> usize {
        let begins = |form: &Zeroizing<Vec<u8>>| {
            let most = bytes.len().min(form.len() - 1);
            (1..=most).rev().find(|length| bytes.ends_with(&form[..*length])).unwrap_or(0)
        };
        self.forms.iter().map(begins).max().unwrap_or(0)
    }
}

/// The digits of Base64 that say `value` and nothing else, where so many bytes beyond a multiple of three stand before it.
fn within(before: usize, value: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut padded = Zeroizing::new(vec![0; before]);
    padded.extend_from_slice(value);
    let encoded = Zeroizing::new(STANDARD.encode(padded.as_slice()));
    let (from, to) = ((before * 8).div_ceil(6), padded.len() * 8 / 6);
    Zeroizing::new(encoded.as_bytes().get(from..to).unwrap_or_default().to_vec())
}

impl std::fmt::Debug for Scan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scan").field("forms", &self.forms.len()).field("limit", &self.limit).finish()
    }
}

fn find(bytes: &[u8], form: &[u8]) -> Option<usize> {
    let first = *form.first()?;
    let mut from = 0;
    loop {
        let rest = bytes.get(from..)?;
        let at = from + rest.iter().position(|byte| *byte == first)?;
        if bytes.get(at..)?.starts_with(form) {
            return Some(at);
        }
        from = at + 1;
    }
}

/// A body on its way, part by part.
#[derive(Debug)]
pub struct Scanner {
    scan: Scan,
    /// What may be the beginning of a secret, and waits for what follows.
    held: BytesMut,
    seen: u64,
    covered: usize,
}

impl Scanner {
    /// A scanner of one body.
    #[must_use]
    pub fn new(scan: Scan) -> Self {
        Self { scan, held: BytesMut::new(), seen: 0, covered: 0 }
    }

    /// What of the body can go on now that `part` has come; perhaps nothing.
    pub fn feed(&mut self, part: Bytes) -> Bytes {
        if self.seen >= self.scan.limit {
            if self.held.is_empty() {
                return part;
            }
            self.held.extend_from_slice(&part);
            return mem::take(&mut self.held).freeze();
        }
        self.seen += part.len() as u64;
        let mut bytes = mem::take(&mut self.held);
        bytes.extend_from_slice(&part);
        self.covered += self.scan.cover(&mut bytes);
        self.held = bytes.split_off(bytes.len() - self.scan.unfinished(&bytes));
        bytes.freeze()
    }

    /// What is left at the end of the body.
    pub fn finish(&mut self) -> Bytes {
        mem::take(&mut self.held).freeze()
    }

    /// Whether something is left that [`Self::finish`] gives.
    #[must_use]
    pub fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// How often a secret was found so far.
    #[must_use]
    pub fn covered(&self) -> usize {
        self.covered
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECRET: &str = "abcabcabd-secret";

    fn scan(limit: u64) -> Scan {
        Scan::new(&[Value::new(SECRET.into()).unwrap()], limit)
    }

    fn through(scan: Scan, body: &[u8], cuts: &[usize]) -> (Vec<u8>, usize) {
        let (mut scanner, mut out, mut rest) = (Scanner::new(scan), Vec::new(), body);
        for cut in cuts {
            let (part, after) = rest.split_at(cut % (rest.len() + 1));
            out.extend(scanner.feed(Bytes::copy_from_slice(part)));
            rest = after;
        }
        out.extend(scanner.feed(Bytes::copy_from_slice(rest)));
        out.extend(scanner.finish());
        (out, scanner.covered())
    }

    proptest! {
        #[test]
        fn a_secret_is_covered_wherever_the_body_is_cut(
            before in "[abc]{0,20}", after in "[abcd]{0,20}", cuts in proptest::collection::vec(0_usize..40, 0..8),
        ) {
            let body = format!("{before}{SECRET}{after}");
            let (out, covered) = through(scan(1 << 10), body.as_bytes(), &cuts);
            prop_assert_eq!(String::from_utf8(out).unwrap(), format!("{before}{}{after}", "*".repeat(SECRET.len())));
            prop_assert_eq!(covered, 1);
        }

        #[test]
        fn what_has_no_secret_passes_as_it_is(
            body in proptest::collection::vec(any::<u8>(), 0..200), cuts in proptest::collection::vec(0_usize..40, 0..8),
        ) {
            prop_assert_eq!(through(scan(64), &body, &cuts).0, body);
        }
    }

    #[test]
    fn headers_and_base64_are_looked_into() {
        let mut headers = HeaderMap::new();
        headers.insert("x-echo", HeaderValue::from_static("Bearer abcabcabd-secret"));
        headers.insert("x-other", HeaderValue::from_static("abcabcabd"));
        assert_eq!(scan(0).headers(&mut headers), 1);
        assert_eq!(headers["x-echo"], "Bearer ****************");
        assert_eq!(headers["x-other"], "abcabcabd");
        let (out, covered) = through(scan(100), format!("<{}>", STANDARD.encode(SECRET)).as_bytes(), &[]);
        assert!(covered == 1 && out.iter().filter(|byte| **byte == b'*').count() == 24);
    }

    #[test]
    fn a_secret_among_others_in_base64_is_covered() {
        for before in ["user:", "me:", "a:", "", "someone-else:"] {
            let encoded = STANDARD.encode(format!("{before}{SECRET}"));
            let (out, covered) = through(scan(100), encoded.as_bytes(), &[7]);
            // What is left at each end says less than a byte of the secret.
            let digits = (SECRET.len() * 8 / 6).saturating_sub(1);
            assert!(covered >= 1 && out.iter().filter(|byte| **byte == b'*').count() >= digits, "{before}");
        }
    }

    #[test]
    fn beyond_the_limit_nothing_is_looked_for() {
        let (out, covered) = through(scan(4), format!("12345{SECRET}").as_bytes(), &[5]);
        assert_eq!((String::from_utf8(out).unwrap(), covered), (format!("12345{SECRET}"), 0));
    }
}
