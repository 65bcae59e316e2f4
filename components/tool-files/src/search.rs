//! Which lines of a file match.

use regex_lite::{Regex, RegexBuilder};

use crate::arguments::{ArgumentsError, Search};

/// How many characters of a matching line are given: a line of a minified file must not fill the answer.
const MOST_CHARACTERS: usize = 400;

/// How far a file is looked at to tell whether it is text.
const LOOK_AT: usize = 8 * 1024;

/// What is searched for.
pub struct Query(Regex);

impl Query {
    /// The query of `arguments`.
    ///
    /// # Errors
    /// Where it is empty, no regular expression, or one too large.
    pub fn new(arguments: &Search) -> Result<Self, ArgumentsError> {
        if arguments.query.is_empty() {
            return Err(ArgumentsError::EmptyQuery);
        }
        let pattern = match arguments.regex {
            true => arguments.query.clone(),
            false => regex_lite::escape(&arguments.query),
        };
        Ok(Self(RegexBuilder::new(&pattern).case_insensitive(!arguments.case_sensitive).build()?))
    }

    /// The matching lines of `data`, each with its number, counted from 1. Bytes that are not UTF-8 are shown as `�`.
    pub fn lines(&self, data: &[u8]) -> impl Iterator<Item = (u32, String)> {
        (1..).zip(data.split(|byte| *byte == b'\n')).filter_map(|(number, line)| {
            let line = String::from_utf8_lossy(line);
            let line = line.strip_suffix('\r').unwrap_or(&line);
            self.0.is_match(line).then(|| (number, shorten(line)))
        })
    }
}

/// Whether `data` looks like something other than text.
#[must_use]
pub fn is_binary(data: &[u8]) -> bool {
    data[..data.len().min(LOOK_AT)].contains(&0)
}

fn shorten(line: &str) -> String {
    match line.char_indices().nth(MOST_CHARACTERS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(arguments: &str, data: &[u8]) -> Vec<(u32, String)> {
        Query::new(&crate::arguments::parse(arguments).unwrap()).unwrap().lines(data).collect()
    }

    #[test]
    fn plain_text_is_taken_literally() {
        let found = lines(r#"{"path": "/", "query": "a.c"}"#, b"abc\r\na.c\r\n");
        assert_eq!(found, [(2, "a.c".to_owned())]);
    }

    #[test]
    fn a_regular_expression_matches_within_a_line() {
        let found =
            lines(r#"{"path": "/", "query": "^B.c$", "regex": true, "case_sensitive": false}"#, b"x\nbxc\nbxcd");
        assert_eq!(found, [(2, "bxc".to_owned())]);
    }

    #[test]
    fn a_wrong_query_is_refused() {
        let query = |json| Query::new(&crate::arguments::parse(json).unwrap());
        assert!(matches!(query(r#"{"path": "/", "query": ""}"#), Err(ArgumentsError::EmptyQuery)));
        assert!(matches!(query(r#"{"path": "/", "query": "(", "regex": true}"#), Err(ArgumentsError::Regex(_))));
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let found = lines(r#"{"path": "/", "query": "é"}"#, "é".repeat(1000).as_bytes());
        assert_eq!(found[0].1.chars().count(), MOST_CHARACTERS + 1);
        assert!(found[0].1.ends_with('…'));
    }

    #[test]
    fn bytes_that_are_no_text_do_no_harm() {
        assert!(is_binary(b"\x7fELF\0"));
        assert!(!is_binary("text".as_bytes()));
        assert_eq!(lines(r#"{"path": "/", "query": "b"}"#, b"a\xff\nb\xff"), [(2, "b\u{fffd}".to_owned())]);
    }
}
