//! The extractor as a component.

#[allow(missing_docs, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({
        path: ["../../wit/component", "../../wit/documents"],
        inline: "
            package witan:components;
            world documents {
                export witan:documents/extract@0.1.0-draft;
            }
        ",
        world: "witan:components/documents",
        generate_all,
    });
}

use crate::limits;
use bindings::exports::witan::documents::extract::{Error, Extraction, Guest};
use bindings::witan::documents::types::{Block, Kind, Run};
use wit_bindgen::{StreamReader, StreamResult};

/// Bytes that are read at once.
const CHUNK: usize = 64 << 10;

struct Component;

impl Guest for Component {
    async fn extract(name: String, media_type: Option<String>, data: StreamReader<u8>) -> Result<Extraction, Error> {
        let bytes = read(data).await?;
        Ok(crate::extract(&name, media_type.as_deref(), &bytes)?.into())
    }
}

/// Reads all of the document, and stops where it grows past the bound.
async fn read(mut data: StreamReader<u8>) -> Result<Vec<u8>, crate::Error> {
    let mut bytes = Vec::new();
    loop {
        bytes.reserve(CHUNK);
        let (result, read) = data.read(bytes).await;
        bytes = read;
        if bytes.len() > limits::INPUT {
            return Err(crate::Error::too_large("the document", limits::INPUT, "bytes"));
        }
        if !matches!(result, StreamResult::Complete(_)) {
            return Ok(bytes);
        }
    }
}

impl From<crate::Error> for Error {
    fn from(error: crate::Error) -> Self {
        match error {
            crate::Error::Unsupported(what) => Self::Unsupported(what),
            crate::Error::Malformed(what) => Self::Malformed(what),
            crate::Error::Encrypted => Self::Encrypted,
            crate::Error::TooLarge(what) => Self::TooLarge(what),
        }
    }
}

impl From<crate::Extraction> for Extraction {
    fn from(extraction: crate::Extraction) -> Self {
        Self {
            media_type: extraction.media_type.into(),
            title: extraction.title,
            text: extraction.text,
            blocks: extraction.blocks.into_iter().map(Into::into).collect(),
            runs: extraction.runs.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<crate::Block> for Block {
    fn from(block: crate::Block) -> Self {
        Self { kind: block.kind.into(), start: block.start as u64, end: block.end as u64, page: block.page }
    }
}

impl From<crate::Run> for Run {
    fn from(run: crate::Run) -> Self {
        Self {
            start: run.start as u64,
            end: run.end as u64,
            source_start: run.source_start as u64,
            source_end: run.source_end as u64,
        }
    }
}

impl From<crate::Kind> for Kind {
    fn from(kind: crate::Kind) -> Self {
        match kind {
            crate::Kind::Heading(level) => Self::Heading(level),
            crate::Kind::Paragraph => Self::Paragraph,
            crate::Kind::ListItem => Self::ListItem,
            crate::Kind::Quote => Self::Quote,
            crate::Kind::Code => Self::Code,
            crate::Kind::Cell => Self::Cell,
        }
    }
}

bindings::export!(Component with_types_in bindings);
