//! Plain text: paragraphs are what blank lines separate. The text is the document's, line ends and all.

use crate::builder::Builder;
use crate::decode::Decoded;
use crate::extraction::{Extraction, Kind};

/// Reads plain text.
pub fn extract(document: &Decoded<'_>) -> Extraction {
    let mut builder = Builder::default();
    let mut at = 0;
    let mut paragraph: Option<usize> = None;
    for line in document.text.split_inclusive('\n') {
        let is_blank = line.trim().is_empty();
        match paragraph {
            Some(start) if is_blank => {
                add(&mut builder, &document.text[start..at], start);
                paragraph = None;
            }
            None if !is_blank => paragraph = Some(at),
            _ => {}
        }
        at += line.len();
    }
    if let Some(start) = paragraph {
        add(&mut builder, &document.text[start..], start);
    }
    let mut extraction = builder.finish(None);
    extraction.runs = document.locate(extraction.runs);
    extraction
}

fn add(builder: &mut Builder, paragraph: &str, start: usize) {
    builder.begin(Kind::Paragraph);
    builder.verbatim(paragraph, start);
}
