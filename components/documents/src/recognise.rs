//! Which format a document has: by its first bytes, then by what the sender says, then by its name, and for text
//! that none of them tells apart, by how it looks.

use crate::extraction::Error;

/// A format that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Text without markup.
    Plain,
    /// Markdown in the CommonMark dialect, with the extensions of GitHub.
    Markdown,
    /// HTML.
    Html,
    /// Portable Document Format.
    Pdf,
    /// The text document of Office Open XML.
    Docx,
}

impl Format {
    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Plain => "text/plain",
            Self::Markdown => "text/markdown",
            Self::Html => "text/html",
            Self::Pdf => "application/pdf",
            Self::Docx => "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        }
    }

    fn of_media_type(media_type: &str) -> Option<Self> {
        let essence = media_type.split(';').next().unwrap_or_default().trim();
        match essence.to_ascii_lowercase().as_str() {
            "text/markdown" | "text/x-markdown" => Some(Self::Markdown),
            "text/html" | "application/xhtml+xml" => Some(Self::Html),
            "application/pdf" | "application/x-pdf" => Some(Self::Pdf),
            other if other == Self::Docx.media_type() => Some(Self::Docx),
            _ => None,
        }
    }

    fn of_name(name: &str) -> Option<Self> {
        let (_, extension) = name.rsplit_once('.')?;
        match extension.to_ascii_lowercase().as_str() {
            "md" | "markdown" | "mdown" | "mkd" => Some(Self::Markdown),
            "html" | "htm" | "xhtml" => Some(Self::Html),
            "txt" | "text" | "log" => Some(Self::Plain),
            "pdf" => Some(Self::Pdf),
            "docx" | "docm" | "dotx" => Some(Self::Docx),
            _ => None,
        }
    }

    fn is_text(self) -> bool {
        matches!(self, Self::Plain | Self::Markdown | Self::Html)
    }
}

/// How the formats that are packed begin, and some that are not read but often sent.
const ZIP: &[u8] = b"PK\x03\x04";
const EMPTY_ZIP: &[u8] = b"PK\x05\x06";
const COMPOUND_FILE: &[u8] = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1";
const PDF: &[u8] = b"%PDF-";

/// How far into a file the header of a PDF may stand, by the note in ISO 32000-1 on what readers accept.
const PDF_HEADER_WITHIN: usize = 1024;

/// How much of a text is looked at.
const SAMPLE: usize = 8192;

/// Names the format, or says that no extractor reads it.
pub fn recognise(name: &str, media_type: Option<&str>, bytes: &[u8]) -> Result<Format, Error> {
    let said = media_type.and_then(Format::of_media_type);
    let named = said.or_else(|| Format::of_name(name));
    if bytes.starts_with(ZIP) || bytes.starts_with(EMPTY_ZIP) {
        return Ok(Format::Docx);
    }
    if bytes.starts_with(COMPOUND_FILE) {
        return Err(compound_file(bytes));
    }
    if is_pdf(named, bytes) {
        return Ok(Format::Pdf);
    }
    if !is_text(bytes) {
        return Err(not_text(named, media_type));
    }
    match named {
        Some(format) if format.is_text() => Ok(format),
        // Declared as plain text, but the name may say more, as for `text/plain` that a server guessed.
        _ => Ok(Format::of_name(name).filter(|format| format.is_text()).unwrap_or_else(|| look(bytes))),
    }
}

fn is_pdf(named: Option<Format>, bytes: &[u8]) -> bool {
    let head = &bytes[..bytes.len().min(PDF_HEADER_WITHIN)];
    let said_or_binary = named == Some(Format::Pdf) || !is_text(bytes);
    bytes.trim_ascii_start().starts_with(PDF) || (said_or_binary && head.windows(PDF.len()).any(|window| window == PDF))
}

/// Encrypted DOCX and the DOC of earlier years share a container.
fn compound_file(bytes: &[u8]) -> Error {
    let stream: Vec<u8> = "EncryptedPackage".encode_utf16().flat_map(u16::to_le_bytes).collect();
    if bytes.windows(stream.len()).any(|window| window == stream) {
        return Error::Encrypted;
    }
    Error::Unsupported("a compound file, such as a `.doc`; save it as `.docx` and try again".into())
}

fn not_text(named: Option<Format>, media_type: Option<&str>) -> Error {
    match named {
        Some(format @ Format::Pdf) => {
            Error::Malformed(format!("`{}` was expected, but there is no `%PDF-` header", format.media_type()))
        }
        Some(format @ Format::Docx) => {
            Error::Malformed(format!("`{}` was expected, but there is no zip header", format.media_type()))
        }
        _ => Error::Unsupported(format!(
            "the bytes are neither text nor PDF nor DOCX{}",
            media_type.map(|said| format!(", and the sender says `{said}`")).unwrap_or_default()
        )),
    }
}

/// No control characters but white space, in the bytes that are looked at; UTF-16 is told by its byte order mark.
fn is_text(bytes: &[u8]) -> bool {
    let sample = &bytes[..bytes.len().min(SAMPLE)];
    let has_wide_mark = bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff");
    has_wide_mark || !sample.iter().any(|byte| matches!(byte, 0..=8 | 14..=26 | 28..=31))
}

/// What unnamed text looks like.
fn look(bytes: &[u8]) -> Format {
    let sample = String::from_utf8_lossy(&bytes[..bytes.len().min(SAMPLE)]);
    let lower = sample.trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\n']).to_ascii_lowercase();
    let is_html = ["<!doctype html", "<html", "<head", "<body"].iter().any(|tag| lower.starts_with(tag))
        || (lower.starts_with("<?xml") && lower.contains("<html"));
    if is_html {
        Format::Html
    } else if sample.lines().filter(|line| is_markdown(line)).count() >= 2 {
        Format::Markdown
    } else {
        Format::Plain
    }
}

/// A line that is hardly ever written outside Markdown.
fn is_markdown(line: &str) -> bool {
    let after_marks = line.trim_start_matches('#');
    let marks = line.len() - after_marks.len();
    let is_heading = (1..=6).contains(&marks) && after_marks.starts_with(' ');
    is_heading || line.starts_with("```") || line.contains("](") || line.contains("**")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(name: &str, media_type: Option<&str>, bytes: &[u8]) -> Format {
        recognise(name, media_type, bytes).unwrap()
    }

    #[test]
    fn bytes_come_before_what_the_sender_says() {
        assert_eq!(format("a.txt", Some("text/html"), b"%PDF-1.7\n\x00"), Format::Pdf);
        assert_eq!(format("a.md", None, b"PK\x03\x04rest"), Format::Docx);
    }

    #[test]
    fn what_the_sender_says_comes_before_the_name() {
        assert_eq!(format("a.txt", Some("text/html; charset=utf-8"), b"hello"), Format::Html);
        assert_eq!(format("a.md", Some("application/octet-stream"), b"hello"), Format::Markdown);
        assert_eq!(format("a.md", Some("text/plain"), b"hello"), Format::Markdown);
    }

    #[test]
    fn unnamed_text_is_looked_at() {
        assert_eq!(format("", None, b"  <!DOCTYPE html><p>x"), Format::Html);
        assert_eq!(format("", None, b"# Title\n\nSee [here](x).\n"), Format::Markdown);
        assert_eq!(format("README", None, b"# one comment\nx = 1\n"), Format::Plain);
        assert_eq!(format("", None, b""), Format::Plain);
    }

    #[test]
    fn text_about_pdf_is_text() {
        assert_eq!(format("a.md", None, b"A file starts with `%PDF-1.7`."), Format::Markdown);
    }

    #[test]
    fn other_formats_are_refused_by_name() {
        let png = recognise("a.png", Some("image/png"), b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR").unwrap_err();
        assert!(png.to_string().contains("`image/png`"), "{png}");
        assert!(matches!(recognise("a.doc", None, COMPOUND_FILE), Err(Error::Unsupported(_))));
        assert!(matches!(recognise("a.pdf", None, b"\0\0\0\0"), Err(Error::Malformed(_))));
    }

    #[test]
    fn an_encrypted_docx_is_encrypted() {
        let mut bytes = COMPOUND_FILE.to_vec();
        bytes.extend("EncryptedPackage".encode_utf16().flat_map(u16::to_le_bytes));
        assert_eq!(recognise("a.docx", None, &bytes), Err(Error::Encrypted));
    }
}
