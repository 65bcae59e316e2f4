//! A secret itself: fit for a header, wiped when it is dropped, and shown by nothing.

use std::fmt;

use zeroize::Zeroizing;

/// Shorter ones would be found in answers that have nothing to do with them.
const SHORTEST: usize = 8;

/// As long as the longest tokens in use, and a fraction of what servers take as headers.
const LONGEST: usize = 8 << 10;

/// A secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Value(Zeroizing<String>);

/// Why something cannot be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// It is too short to be told from other text.
    #[error("it has fewer than {SHORTEST} characters, too few to be told from other text in an answer")]
    TooShort,
    /// It is too long for a header.
    #[error("it has more than {LONGEST} bytes, too many for a header")]
    TooLong,
    /// It has something that a header cannot carry.
    #[error("it has a character that a header cannot carry: only visible ASCII and spaces between them can be")]
    Unfit,
}

impl Value {
    /// The secret in `bytes`, less one end of line, which files and programs put there.
    ///
    /// # Errors
    /// When a header could not carry it.
    pub fn new(bytes: Vec<u8>) -> Result<Self, ValueError> {
        let bytes = Zeroizing::new(bytes);
        let text = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let edge = |byte: Option<&u8>| byte == Some(&b' ');
        if text.len() > LONGEST {
            return Err(ValueError::TooLong);
        }
        if !text.iter().all(|byte| (b' '..=b'~').contains(byte)) || edge(text.first()) || edge(text.last()) {
            return Err(ValueError::Unfit);
        }
        if text.len() < SHORTEST {
            return Err(ValueError::TooShort);
        }
        let text = std::str::from_utf8(text).map_err(|_| ValueError::Unfit)?;
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// The secret itself. Whoever asks sees that it goes where it may.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Value(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_what_a_header_carries_and_is_not_shown() {
        let value = Value::new(b"hunter2-hunter2\r\n".to_vec()).unwrap();
        assert_eq!(value.expose(), "hunter2-hunter2");
        assert!(!format!("{value:?}").contains("hunter2"));
        for (bytes, error) in [
            (&b"short"[..], ValueError::TooShort),
            (b"", ValueError::TooShort),
            (b"two\nlines-of-it", ValueError::Unfit),
            (b"ends-in-two-lines\n\n", ValueError::Unfit),
            (b" begins-with-a-space", ValueError::Unfit),
            (b"has-\xc3\xbc-umlaut", ValueError::Unfit),
            (&[b'a'; 9000], ValueError::TooLong),
        ] {
            assert_eq!(Value::new(bytes.to_vec()).unwrap_err(), error);
        }
    }
}
