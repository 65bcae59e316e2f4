//! What the extractor takes. A document beyond a bound is refused with an error that names the bound.

/// Bytes of a document as it arrives: a long book with pictures fits, and a few of them fit in memory.
pub const INPUT: usize = 32 << 20;

/// Bytes that the packed parts of one document unpack to, together: the text of any real document is far smaller,
/// and a bomb of a few kilobytes is not.
pub const UNPACKED: usize = 96 << 20;

/// Bytes of text that a PDF gives, which can draw the same text many times over.
pub const TEXT: usize = 16 << 20;

/// Files in an archive.
pub const ENTRIES: u64 = 10_000;

/// Elements within elements, in XML.
pub const DEPTH: usize = 256;

/// Pages of a document.
pub const PAGES: usize = 20_000;

/// Drawing instructions of a document, those that are drawn repeatedly counted each time.
pub const INSTRUCTIONS: usize = 20_000_000;

/// Drawings within drawings.
pub const NESTED_FORMS: usize = 16;

/// Characters on one page: a page of a newspaper has about thirty thousand.
pub const CHARACTERS: usize = 500_000;
