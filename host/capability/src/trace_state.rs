//! What tracing systems pass on beside a trace, as W3C Trace Context has it.

use std::sync::Arc;

/// Members of a list; one with more is dropped whole, as the standard says.
const MEMBERS: usize = 32;
/// Bytes of it that are kept.
const BYTES: usize = 512;
/// Members that are longer go first where there are too many bytes.
const LONG: usize = 128;

/// The header `tracestate`: what each tracing system on the way wrote down for itself. This host reads none of it and writes
/// none of its own; it is handed to whoever is asked within the call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceState(Arc<str>);

impl TraceState {
    /// Reads the values of all headers of that name, in their order. None where there is nothing, or something that is no
    /// list; the trace itself goes on then. Of more than 512 bytes, whole members are left out: the long ones first, then
    /// the last.
    #[must_use]
    pub fn parse<'a>(values: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let mut members: Vec<&str> = Vec::new();
        for member in values.into_iter().flat_map(|value| value.split(',')) {
            let member = member.trim_matches([' ', '\t']);
            if member.is_empty() {
                continue;
            }
            let (key, value) = member.split_once('=')?;
            let twice = members.iter().any(|other| other.split_once('=').is_some_and(|(other, _)| other == key));
            if members.len() == MEMBERS || twice || !is_key(key) || !is_value(value) {
                return None;
            }
            members.push(member);
        }
        let length = |members: &[&str]| members.iter().map(|member| member.len() + 1).sum::<usize>().saturating_sub(1);
        while length(&members) > BYTES {
            let long = members.iter().rposition(|member| member.len() > LONG);
            members.remove(long.unwrap_or(members.len() - 1));
        }
        (!members.is_empty()).then(|| Self(members.join(",").into()))
    }

    /// The header for whoever is asked within the call: visible ASCII, of at most 512 bytes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `vendor`, or `tenant@vendor`.
fn is_key(key: &str) -> bool {
    let part = |part: &str, most: usize, begins: fn(u8) -> bool| {
        let bytes = part.as_bytes();
        let rest = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/');
        bytes.len() <= most && bytes.first().copied().is_some_and(begins) && bytes.iter().all(rest)
    };
    let letter = |byte: u8| byte.is_ascii_lowercase();
    match key.split_once('@') {
        None => part(key, 256, letter),
        Some((tenant, vendor)) => {
            part(tenant, 241, |byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) && part(vendor, 14, letter)
        }
    }
}

/// Printable ASCII without `,` and `=`, which does not end with a space; those around a member were taken off.
fn is_value(value: &str) -> bool {
    let fits = |byte: u8| matches!(byte, b' '..=b'~') && byte != b',' && byte != b'=';
    (1..=256).contains(&value.len()) && value.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(values: &[&str]) -> Option<String> {
        TraceState::parse(values.iter().copied()).map(|state| state.as_str().to_owned())
    }

    #[test]
    fn what_systems_wrote_is_kept_in_its_order_over_several_headers() {
        assert_eq!(
            read(&["rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"]).unwrap(),
            "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"
        );
        assert_eq!(read(&["a=1 ,\t b=2", ",,c= 3"]).unwrap(), "a=1,b=2,c= 3");
        assert_eq!(read(&["7tenant@vendor=x:y;z"]).unwrap(), "7tenant@vendor=x:y;z");
    }

    #[test]
    fn what_is_no_list_is_dropped_whole() {
        let many: Vec<String> = (0..33).map(|number| format!("k{number}=v")).collect();
        assert!(read(&[&many[..32].join(",")]).is_some());
        let many = many.join(",");
        let long_key = format!("{}=1", "a".repeat(257));
        let long_value = format!("a={}", "1".repeat(257));
        let wrong = [
            "", ",", "a", "a=", "=1", "A=1", "1a=1", "a=1=2", "a=1,a=2", "a@=1", "a@1=1", "a@b@c=1", "a=\u{e9}", "a=\n",
        ];
        for wrong in wrong.into_iter().chain([many.as_str(), &long_key, &long_value]) {
            assert_eq!(read(&[wrong]), None, "{wrong}");
        }
    }

    #[test]
    fn of_too_many_bytes_the_long_members_go_first_and_then_the_last() {
        let long = format!("long={}", "x".repeat(200));
        let short: Vec<String> = (0..10).map(|number| format!("k{number}={}", "y".repeat(40))).collect();
        let state = read(&[&long, &short.join(",")]).unwrap();
        assert_eq!(state, short.join(","));
        let more: Vec<String> = (0..20).map(|number| format!("k{number}={}", "y".repeat(40))).collect();
        let state = read(&[&more.join(",")]).unwrap();
        assert!(
            state.len() <= BYTES && more.join(",").starts_with(&state) && state.split(',').count() == 11,
            "{state}"
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_harm_and_what_is_read_reads_the_same(
            values in proptest::collection::vec("[a-z0-9@=, \t_*/\u{e9}A-]{0,120}|.{0,80}", 0..6)
        ) {
            if let Some(state) = TraceState::parse(values.iter().map(String::as_str)) {
                prop_assert!(state.as_str().len() <= BYTES && state.as_str().is_ascii());
                prop_assert!(state.as_str().split(',').count() <= MEMBERS);
                prop_assert_eq!(TraceState::parse([state.as_str()]), Some(state));
            }
        }

        #[test]
        fn a_good_list_is_kept(
            members in proptest::collection::btree_map("[a-z][a-z0-9_*/-]{0,6}", "[!-+.-<>-~]{1,6}", 1..20)
        ) {
            let text = members.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",");
            let state = TraceState::parse([text.as_str()]).unwrap();
            prop_assert_eq!(state.as_str(), text);
        }
    }
}
