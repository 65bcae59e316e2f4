//! What is wrong with a system, said so that the reader can mend it.
//!
//! Every problem names the file, the line, the key and the next step, and all problems of a file are reported at
//! once: mending one line for each run of the host is how people come to switch checks off.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// The place of a value in `system.toml`, such as `components.documents.grants.http[0].host`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Vec<String>);

impl Key {
    /// The whole file.
    pub fn root() -> Self {
        Self::default()
    }

    /// A key of a component: `components.NAME`.
    pub fn component(name: &crate::ComponentName) -> Self {
        Self::root().child("components").child(name.as_str())
    }

    /// The entry `name` of the table at this key.
    pub fn child(&self, name: &str) -> Self {
        let bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        self.with(if bare { name.to_owned() } else { format!("{name:?}") })
    }

    /// The element `index`, from 0, of the array at this key.
    pub fn index(&self, index: usize) -> Self {
        self.with(format!("[{index}]"))
    }

    fn with(&self, segment: String) -> Self {
        let mut segments = self.0.clone();
        segments.push(segment);
        Self(segments)
    }

    fn parent(&self) -> Option<Self> {
        let (_, rest) = self.0.split_last()?;
        Some(Self(rest.to_vec()))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, segment) in self.0.iter().enumerate() {
            if position > 0 && !segment.starts_with('[') {
                f.write_str(".")?;
            }
            f.write_str(segment)?;
        }
        Ok(())
    }
}

/// A place in a text file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Position {
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
}

impl Position {
    /// The position of byte `offset` of `text`.
    pub(crate) fn of(text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
        }
    }
}

/// Where a system came from, so that whoever finds a problem later can still name the line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    pub(crate) file: PathBuf,
    pub(crate) positions: BTreeMap<Key, Position>,
}

impl Origin {
    /// The `system.toml`. Empty for a system that was made in code.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Where `key` stands, or the nearest table around it.
    pub fn position(&self, key: &Key) -> Option<Position> {
        let mut key = Some(key.clone());
        while let Some(current) = key {
            if let Some(position) = self.positions.get(&current) {
                return Some(*position);
            }
            key = current.parent();
        }
        None
    }

    /// A problem at `key`: what is wrong, and what to do about it.
    pub fn problem(&self, key: &Key, message: impl Into<String>, help: impl Into<String>) -> Problem {
        Problem {
            file: self.file.clone(),
            position: self.position(key),
            key: key.to_string(),
            message: message.into(),
            help: help.into(),
        }
    }
}

/// One thing that is wrong with a system.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// Where in the file, if the problem has a place in it.
    pub position: Option<Position>,
    /// The key, such as `components.documents.source`; empty where the file as a whole is meant.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// The next step.
    pub help: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}\n  at:    {}", self.message, self.file.display())?;
        if let Some(Position { line, column }) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        if !self.key.is_empty() {
            write!(f, ", key `{}`", self.key)?;
        }
        write!(f, "\n  help:  {}", self.help)
    }
}

/// Why a file is not a system: every problem that was found, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct SystemError {
    /// At least one.
    pub problems: Vec<Problem>,
}

impl SystemError {
    /// Sorts the problems by their place in the file.
    pub fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.position);
        Self { problems }
    }
}

impl fmt::Display for SystemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, problem) in self.problems.iter().enumerate() {
            if position > 0 {
                f.write_str("\n\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}
