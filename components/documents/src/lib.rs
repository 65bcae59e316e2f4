//! Reads documents: bytes in, text and structure with offsets out, for Markdown, HTML, plain text, PDF and DOCX.
//!
//! The logic knows nothing of WIT, so that it is tested where it is built; `component` maps it to
//! `witan:documents/extract`. It imports nothing: no clock, no randomness, no files.
//!
//! Every document is taken for hostile. What could grow without the input growing has a bound in [`limits`], and
//! nothing recurses on the input's nesting.

mod builder;
mod decode;
mod docx;
mod extraction;
mod html;
pub mod limits;
mod markdown;
mod pdf;
mod plain;
mod recognise;

#[cfg(target_arch = "wasm32")]
mod component;

pub use extraction::{Block, Error, Extraction, Kind, Run};
pub use recognise::Format;

/// Reads a whole document. `name` and `media_type` help to recognise the format where the bytes leave it open.
///
/// # Errors
///
/// Says of the document what [`Error`] lists; the message names the part that is at fault.
pub fn extract(name: &str, media_type: Option<&str>, bytes: &[u8]) -> Result<Extraction, Error> {
    if bytes.len() > limits::INPUT {
        return Err(Error::too_large("the document", limits::INPUT, "bytes"));
    }
    let format = recognise::recognise(name, media_type, bytes)?;
    let mut extraction = match format {
        Format::Plain => plain::extract(&decode::decode(bytes)),
        Format::Markdown => markdown::extract(&decode::decode(bytes)),
        Format::Html => html::extract(&decode::decode(bytes)),
        Format::Docx => docx::extract(bytes)?,
        Format::Pdf => pdf::extract(bytes)?,
    };
    extraction.media_type = format.media_type();
    Ok(extraction)
}
