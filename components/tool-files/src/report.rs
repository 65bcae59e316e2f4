//! What the tools answer, as JSON.

use serde::Serialize;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
    /// Anything else, such as a device.
    Other,
}

/// The answer of `list`.
#[derive(Debug, Serialize)]
pub struct Listing {
    /// The entries, in the order of their paths.
    pub entries: Vec<Entry>,
    /// Whether there are more.
    pub truncated: bool,
}

/// An entry of a folder.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Its absolute path.
    pub path: String,
    /// What it is.
    pub kind: Kind,
}

/// The answer of `stat`.
#[derive(Debug, Serialize)]
pub struct Status {
    /// The absolute path.
    pub path: String,
    /// What it is.
    pub kind: Kind,
    /// Its size in bytes.
    pub size: u64,
    /// When its content last changed, in seconds since 1970-01-01 UTC, if the host knows.
    pub modified: Option<i64>,
    /// What its name suggests it holds, if it is a file.
    pub media_type: Option<&'static str>,
}

/// The answer of `search`.
#[derive(Debug, Serialize)]
pub struct Matches {
    /// The matching lines, in the order of path and line.
    pub matches: Vec<Match>,
    /// How many files were searched.
    pub files: u32,
    /// Whether there may be more: the limit was reached, or a file or folder was too large to search whole.
    pub truncated: bool,
    /// What could not be searched, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<String>,
}

/// A matching line.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Match {
    /// The absolute path of the file.
    pub path: String,
    /// The line's number, counted from 1.
    pub line: u32,
    /// The line, without its end; a long one is cut and ends with `…`.
    pub text: String,
}

/// The answer of `write`.
#[derive(Debug, Serialize)]
pub struct Written {
    /// The absolute path.
    pub path: String,
    /// How many bytes were written.
    pub bytes: u64,
}
