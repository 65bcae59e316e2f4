//! What an extraction is, and why there may be none.
//!
//! Invariants, which the tests check for arbitrary input:
//!
//! - Blocks are in the order of the text, do not overlap, are not empty, and begin and end on character boundaries.
//!   Between two blocks there is at least one line feed.
//! - Runs are in the order of the text, do not overlap in it, and begin and end on its character boundaries.
//! - A run as long as its source stands for it byte by byte: in a UTF-8 document the bytes are the same, save that
//!   white space may have become other white space. A run of another length (a character reference, another encoding) stands for its
//!   source as a whole.
//! - Only the white space that separates blocks, or replaces markup within one, belongs to no run, in formats that
//!   have runs at all.

use std::fmt::Display;

/// What a block of text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A heading of this level, 1 the highest.
    Heading(u8),
    /// Running text.
    Paragraph,
    /// An item of a list.
    ListItem,
    /// A quotation.
    Quote,
    /// Program text or other preformatted text.
    Code,
    /// A cell of a table.
    Cell,
}

/// A block of the extracted text, in bytes of [`Extraction::text`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// What it is.
    pub kind: Kind,
    /// Its first byte.
    pub start: usize,
    /// One past its last byte.
    pub end: usize,
    /// The page it begins on, counted from 1, where the format has pages.
    pub page: Option<u32>,
}

/// A stretch of the extracted text and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// First byte in the text.
    pub start: usize,
    /// One past the last byte in the text.
    pub end: usize,
    /// First byte in the document.
    pub source_start: usize,
    /// One past the last byte in the document.
    pub source_end: usize,
}

/// The text and structure of a document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extraction {
    /// The media type that was recognised.
    pub media_type: &'static str,
    /// The title that the document states.
    pub title: Option<String>,
    /// All text.
    pub text: String,
    /// The blocks of the text.
    pub blocks: Vec<Block>,
    /// Where the text came from. Empty for PDF and DOCX, which store it packed.
    pub runs: Vec<Run>,
}

/// Why a document could not be read. Trying again does not help with any of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No extractor reads this format.
    #[error("unsupported document: {0}")]
    Unsupported(String),
    /// The bytes are not a valid document of their format.
    #[error("malformed document: {0}")]
    Malformed(String),
    /// The document is encrypted.
    #[error("the document is encrypted; remove its password and try again")]
    Encrypted,
    /// The document, or what it unpacks to, is larger than the extractor takes.
    #[error("document too large: {0}")]
    TooLarge(String),
}

impl Error {
    /// A refusal of `what`, which is more than `bound` in `unit`.
    pub(crate) fn too_large(what: impl Display, bound: impl Display, unit: &str) -> Self {
        Self::TooLarge(format!("{what} has more than {bound} {unit}, the most that is read"))
    }
}

/// White space as one space, none at the ends; nothing if that is all there is.
pub(crate) fn title(text: &str) -> Option<String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    (!words.is_empty()).then(|| words.join(" "))
}
