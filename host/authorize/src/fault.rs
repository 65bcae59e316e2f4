//! What is wrong with policies, where, and what to do.

use std::fmt;

use cedar_policy::ParseErrors;
use miette::Diagnostic;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Faults that are told; a file that has more has told enough.
const MOST: usize = 100;

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Fault {
    /// The file, as it is called within its folder.
    pub file: String,
    /// The line, from 1; none where the file as a whole is meant.
    pub line: Option<u32>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}\n  help: {}", self.message, self.help)
    }
}

/// Why a set of policies was not loaded: every fault that was found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", in_lines(.0))]
pub struct Faults(pub Vec<Fault>);

fn in_lines(faults: &[Fault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Collects faults.
#[derive(Debug, Default)]
pub(crate) struct Collector(Vec<Fault>);

impl Collector {
    pub(crate) fn add(&mut self, file: &str, line: Option<u32>, message: impl Into<String>, help: impl Into<String>) {
        if self.0.len() < MOST {
            self.0.push(Fault { file: file.to_owned(), line, message: message.into(), help: help.into() });
        }
    }

    /// Adds what Cedar says against `text`.
    pub(crate) fn add_parse(&mut self, file: &str, text: &str, errors: &ParseErrors) {
        for error in errors.iter() {
            let help = "write it as https://docs.cedarpolicy.com/policies/syntax-policy.html says";
            self.add_diagnostic(file, text, 0, error, help);
        }
    }

    /// Adds what a diagnostic of Cedar says against the part of `text` that begins at `start`; `otherwise` is the help
    /// where Cedar has none.
    pub(crate) fn add_diagnostic(
        &mut self,
        file: &str,
        text: &str,
        start: usize,
        error: &dyn Diagnostic,
        otherwise: &str,
    ) {
        let label = error.labels().and_then(|mut labels| labels.next());
        let place = label.as_ref().map_or(start, miette::LabeledSpan::offset);
        let detail = label.as_ref().and_then(|label| label.label()).filter(|text| !text.is_empty());
        let message = match detail {
            Some(detail) => format!("{error} ({detail})"),
            None => error.to_string(),
        };
        let help = error.help().map_or_else(|| otherwise.to_owned(), |help| help.to_string());
        self.add(file, Some(line_at(text, place)), message, help);
    }

    /// `value`, if there was no fault.
    pub(crate) fn finish<T>(self, value: T) -> Result<T, Faults> {
        if self.0.is_empty() { Ok(value) } else { Err(Faults(self.0)) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The line, from 1, of the byte at `offset`.
pub(crate) fn line_at(text: &str, offset: usize) -> u32 {
    let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
    u32::try_from(before.iter().filter(|byte| **byte == b'\n').count()).unwrap_or(u32::MAX).saturating_add(1)
}
