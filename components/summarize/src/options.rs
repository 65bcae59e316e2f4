//! What a client may ask of a summary.

/// Sentences in a summary whose length is not asked for.
const DEFAULT_SENTENCES: usize = 5;

/// The longest summaries that can be asked for.
const MOST: i64 = 100_000;

/// How a summary is to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// How long it may be.
    pub length: Length,
    /// The language of the input as an ISO 639-3 code; recognised where none.
    pub language: Option<String>,
}

/// The bounds of a summary; it keeps to all that are set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Length {
    /// The most sentences.
    pub sentences: usize,
    /// The most words, as UAX #29 counts them.
    pub words: usize,
    /// The largest share of the input's words, above 0 and up to 1. A summary of one sentence may exceed it.
    pub ratio: f64,
}

/// The value of a parameter.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A whole number.
    Integer(i64),
    /// A number with a fraction.
    Number(f64),
    /// Text.
    Text(String),
    /// A kind that no parameter here takes.
    Other,
}

/// Why parameters do not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// There is no such parameter.
    #[error("`summarize` has no parameter `{0}`; it has `sentences`, `words`, `ratio` and `language`")]
    Unknown(String),
    /// A parameter is given twice.
    #[error("the parameter `{0}` is given twice")]
    Twice(String),
    /// A value does not fit.
    #[error("the parameter `{name}` must be {expected}")]
    Value {
        /// The parameter.
        name: &'static str,
        /// What it takes.
        expected: &'static str,
    },
}

impl Default for Options {
    fn default() -> Self {
        let length = Length { sentences: DEFAULT_SENTENCES, words: usize::MAX, ratio: 1.0 };
        Self { length, language: None }
    }
}

impl Options {
    /// Reads the parameters of a request.
    ///
    /// # Errors
    /// Where one is unknown, given twice, or its value does not fit.
    pub fn parse(parameters: &[(String, Value)]) -> Result<Self, OptionsError> {
        let mut options = Self::default();
        if parameters.iter().any(|(name, _)| matches!(name.as_str(), "words" | "ratio")) {
            options.length.sentences = usize::MAX;
        }
        for (index, (name, value)) in parameters.iter().enumerate() {
            if parameters[..index].iter().any(|(other, _)| other == name) {
                return Err(OptionsError::Twice(name.clone()));
            }
            options.set(name, value)?;
        }
        Ok(options)
    }

    fn set(&mut self, name: &str, value: &Value) -> Result<(), OptionsError> {
        match name {
            "sentences" => self.length.sentences = count("sentences", value)?,
            "words" => self.length.words = count("words", value)?,
            "ratio" => self.length.ratio = share(value)?,
            "language" => self.language = language(value)?,
            _ => return Err(OptionsError::Unknown(name.to_owned())),
        }
        Ok(())
    }
}

fn count(name: &'static str, value: &Value) -> Result<usize, OptionsError> {
    let error = OptionsError::Value { name, expected: "a whole number from 1 to 100000" };
    match value {
        Value::Integer(number @ 1..=MOST) => usize::try_from(*number).map_err(|_| error),
        _ => Err(error),
    }
}

fn share(value: &Value) -> Result<f64, OptionsError> {
    match value {
        Value::Number(number) if *number > 0.0 && *number <= 1.0 => Ok(*number),
        Value::Integer(1) => Ok(1.0),
        _ => Err(OptionsError::Value { name: "ratio", expected: "a number above 0, and 1 at most" }),
    }
}

fn language(value: &Value) -> Result<Option<String>, OptionsError> {
    match value {
        Value::Text(text) if text == "auto" => Ok(None),
        Value::Text(text) if text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_lowercase()) => {
            Ok(Some(text.clone()))
        }
        _ => Err(OptionsError::Value { name: "language", expected: "`auto` or an ISO 639-3 code such as `eng`" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(parameters: &[(&str, Value)]) -> Result<Options, OptionsError> {
        let owned: Vec<_> = parameters.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        Options::parse(&owned)
    }

    #[test]
    fn what_is_not_asked_for_has_its_default() {
        assert_eq!(parse(&[]), Ok(Options::default()));
        assert_eq!(parse(&[]).unwrap().length.sentences, 5);
    }

    #[test]
    fn another_bound_replaces_the_default_one_and_joins_one_that_is_given() {
        let words = ("words", Value::Integer(50));
        assert_eq!(parse(std::slice::from_ref(&words)).unwrap().length.sentences, usize::MAX);
        let both = parse(&[("sentences", Value::Integer(2)), words]).unwrap().length;
        assert_eq!((both.sentences, both.words), (2, 50));
    }

    #[test]
    fn unknown_doubled_and_unfit_parameters_are_refused() {
        assert_eq!(parse(&[("lenght", Value::Integer(1))]), Err(OptionsError::Unknown("lenght".to_owned())));
        let twice = [("words", Value::Integer(1)), ("words", Value::Integer(2))];
        assert_eq!(parse(&twice), Err(OptionsError::Twice("words".to_owned())));
        for (name, value) in [
            ("sentences", Value::Integer(0)),
            ("sentences", Value::Number(2.0)),
            ("words", Value::Integer(-1)),
            ("words", Value::Other),
            ("ratio", Value::Number(0.0)),
            ("ratio", Value::Number(f64::NAN)),
            ("ratio", Value::Number(1.5)),
            ("language", Value::Text("English".to_owned())),
            ("language", Value::Integer(1)),
        ] {
            assert!(matches!(parse(&[(name, value.clone())]), Err(OptionsError::Value { .. })), "{name} {value:?}");
        }
    }

    #[test]
    fn a_language_is_recognised_or_given() {
        let language = |text: &str| parse(&[("language", Value::Text(text.to_owned()))]).unwrap().language;
        assert_eq!(language("auto"), None);
        assert_eq!(language("isl"), Some("isl".to_owned()));
    }
}
