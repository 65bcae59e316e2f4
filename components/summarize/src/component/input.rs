//! From what the client sent to documents with text.

use futures::future::join;

use super::bindings::exports::witan::task::handler::Error;
use super::bindings::wit_stream;
use super::bindings::witan::documents::extract::extract;
use super::bindings::witan::documents::types::{self as documents, Extraction, Kind};
use super::bindings::witan::task::types::{File, Input};
use super::bindings::witan::tools::broker;
use super::bindings::witan::tools::types::{Blob, Content};
use super::events::Events;
use super::failure::{unextracted, unread};
use crate::document::{Block, Document, Run};

/// The tool that reads files.
const READ: &str = "tool-files.read";

/// The media type that says nothing.
const UNKNOWN: &str = "application/octet-stream";

/// Bytes that the extractor is to read.
struct Source {
    name: String,
    media_type: Option<String>,
    data: Vec<u8>,
}

/// The documents of `input`, read and extracted.
pub(super) async fn documents(input: Input, events: &mut Events) -> Result<Vec<Document>, Error> {
    let sources = sources(input, events).await?;
    let total = sources.len();
    let mut documents = Vec::with_capacity(total);
    events.progress("extract", 0, total).await;
    for (index, source) in sources.into_iter().enumerate() {
        let name = source.name.clone();
        let extraction = extract_source(source).await?;
        if extraction.blocks.is_empty() {
            events.notice(format!("`{name}` has no text; it may consist of images")).await;
        }
        documents.push(document(name, extraction)?);
        events.progress("extract", index + 1, total).await;
    }
    Ok(documents)
}

async fn sources(input: Input, events: &mut Events) -> Result<Vec<Source>, Error> {
    match input {
        Input::Text(text) => {
            let media_type = Some("text/plain".to_owned());
            Ok(vec![Source { name: "text".to_owned(), media_type, data: text.into_bytes() }])
        }
        Input::Documents(documents) => {
            let source = |document: super::types::Document| Source {
                name: document.name,
                media_type: document.media_type,
                data: document.data,
            };
            Ok(documents.into_iter().map(source).collect())
        }
        Input::Files(files) => read(files, events).await,
    }
}

async fn read(files: Vec<File>, events: &mut Events) -> Result<Vec<Source>, Error> {
    let total = files.len();
    let mut sources = Vec::with_capacity(total);
    events.progress("read", 0, total).await;
    for (index, file) in files.into_iter().enumerate() {
        sources.push(read_file(file).await?);
        events.progress("read", index + 1, total).await;
    }
    Ok(sources)
}

async fn read_file(file: File) -> Result<Source, Error> {
    let arguments = serde_json::json!({ "path": file.path }).to_string();
    let reply = broker::call(READ.to_owned(), arguments).await;
    let contents = reply.map_err(|error| unread(&file.name, READ, error))?;
    let blob = contents.into_iter().find_map(|content| match content {
        Content::Blob(blob) => Some(blob),
        Content::Text(_) | Content::Json(_) => None,
    });
    let Some(Blob { media_type, data }) = blob else {
        return Err(Error::Failed(format!("cannot read `{}`: `{READ}` gave no bytes", file.name)));
    };
    Ok(Source { name: file.name, media_type: Some(media_type).filter(|media_type| media_type != UNKNOWN), data })
}

async fn extract_source(source: Source) -> Result<Extraction, Error> {
    let Source { name, media_type, data } = source;
    let (mut writer, reader) = wit_stream::new();
    let write = async move {
        // An extractor that has seen enough stops reading; its result says why.
        let _ = writer.write_all(data).await;
    };
    let (extraction, ()) = join(extract(name.clone(), media_type, reader), write).await;
    extraction.map_err(|error| unextracted(&name, error))
}

fn document(name: String, extraction: Extraction) -> Result<Document, Error> {
    let blocks = extraction.blocks.into_iter().filter(|block| holds_sentences(&block.kind));
    let blocks = blocks.map(|block| Block { range: offset(block.start)..offset(block.end), page: block.page });
    let runs = extraction.runs.into_iter().map(run).collect();
    Document::new(name, extraction.text, blocks.collect(), runs).map_err(|error| Error::Failed(error.to_string()))
}

/// Whether a block is running text: headings, code and tables hold no sentences that stand by themselves.
fn holds_sentences(kind: &Kind) -> bool {
    match kind {
        Kind::Paragraph | Kind::ListItem | Kind::Quote => true,
        Kind::Heading(_) | Kind::Code | Kind::Cell => false,
    }
}

/// An offset in a text that is in memory; one that does not fit lies outside of it, and is then refused as such.
fn offset(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

fn run(run: documents::Run) -> Run {
    Run { text: run.start..run.end, source: run.source_start..run.source_end }
}
