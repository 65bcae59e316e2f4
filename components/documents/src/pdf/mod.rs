//! PDF (ISO 32000). The syntax and the fonts are read by hayro, which takes damaged files as viewers do; what the
//! pages draw is followed here, and put together as lines and paragraphs by where it stands.
//!
//! hayro unpacks what it is asked for without a bound. So every stream is measured before hayro unpacks it
//! (`unpack`): those that hold objects by their place in the file, since hayro reads them while it opens the file,
//! all others when a page needs them. Decrypted object streams cannot be measured before, and are bounded by what
//! their packed length can become.

mod draw;
mod fonts;
mod layout;
mod order;
mod unpack;

use crate::extraction::{self, Error, Extraction};
use crate::limits;
use encoding_rs::{Encoding, WINDOWS_1252};
use hayro_syntax::{DecryptionError, LoadPdfError, Pdf};
use unpack::Budget;

/// Reads a document.
pub fn extract(bytes: &[u8]) -> Result<Extraction, Error> {
    unpack::check_object_streams(bytes)?;
    let pdf = Pdf::new(bytes.to_vec()).map_err(|error| refused(&error))?;
    let pages = pdf.pages();
    if pages.is_empty() {
        return Err(Error::Malformed("the PDF has no pages".into()));
    }
    if pages.len() > limits::PAGES {
        return Err(Error::too_large("the PDF", limits::PAGES, "pages"));
    }
    let mut budget = Budget::default();
    let mut artist = draw::Artist::new(&mut budget);
    let mut document = layout::Document::default();
    for (page, number) in pages.iter().zip(1..) {
        document.add(number, artist.draw(page)?);
    }
    let title = pdf.metadata().title.as_deref().and_then(|title| extraction::title(&text_string(title)));
    Ok(document.finish(title))
}

fn refused(error: &LoadPdfError) -> Error {
    match error {
        LoadPdfError::Decryption(DecryptionError::PasswordProtected | DecryptionError::UnsupportedAlgorithm) => {
            Error::Encrypted
        }
        LoadPdfError::Decryption(_) => Error::Malformed("the PDF's encryption dictionary is damaged".into()),
        LoadPdfError::Invalid => Error::Malformed("the PDF's cross-reference table or page tree cannot be read".into()),
    }
}

/// A text string outside the pages: UTF-16 or UTF-8 by its mark, and otherwise what is nearly Windows-1252.
fn text_string(bytes: &[u8]) -> String {
    let (encoding, mark) = Encoding::for_bom(bytes).unwrap_or((WINDOWS_1252, 0));
    encoding.decode_without_bom_handling(&bytes[mark..]).0.into_owned()
}
