//! A caller: a handler that passes a request on to the handler and the extractor it imports.
//!
//! - `pass/x`: calls the handler with the intent `x`, and passes its events and its verdict on;
//! - `drop`: calls the handler with the intent `flood`, reads one event, and drops the rest;
//! - `verdict`: calls the handler with the intent `flood`, reads one event, drops the stream and passes the verdict on;
//! - `extract`: has the extractor read each document, and gives the texts one after the other.

#[allow(missing_docs, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({
        path: ["../../../wit/component", "../../../wit/documents", "../../../wit/task"],
        inline: "
            package witan:programs;
            world forward-async-caller {
                import witan:documents/extract@0.1.0-draft;
                import witan:task/handler@0.1.0-draft;
                export witan:task/handler@0.1.0-draft;
            }
        ",
        world: "witan:programs/forward-async-caller",
        generate_all,
    });
}

use bindings::exports::witan::task::handler::{Error, Event, Guest, Outcome, Request};
use bindings::witan::documents::extract;
use bindings::witan::documents::types::Error as ExtractError;
use bindings::witan::task::{handler, types::Input};
use bindings::{wit_future, wit_stream};
use wit_bindgen::{FutureReader, StreamReader, StreamWriter};

struct Component;

impl Guest for Component {
    async fn handle(request: Request) -> (StreamReader<Event>, FutureReader<Result<Outcome, Error>>) {
        let (mut events, reader) = wit_stream::new();
        let (verdict, answer) = wit_future::new(|| Err(Error::Failed("no verdict".to_owned())));
        wit_bindgen::spawn_local(async move {
            let outcome = run(request, &mut events).await;
            drop(events);
            // A caller that is gone wants no verdict.
            let _gone = verdict.write(outcome).await;
        });
        (reader, answer)
    }
}

async fn run(mut request: Request, events: &mut StreamWriter<Event>) -> Result<Outcome, Error> {
    if let Some(intent) = request.intent.strip_prefix("pass/") {
        request.intent = intent.to_owned();
        let (mut reader, answer) = handler::handle(request).await;
        while let Some(event) = reader.next().await {
            if events.write_one(event).await.is_some() {
                break;
            }
        }
        drop(reader);
        return answer.await;
    }
    match (request.intent.as_str(), request.input) {
        ("drop", input) => {
            first(input).await;
            Ok(outcome("dropped".to_owned()))
        }
        ("verdict", input) => first(input).await.await,
        ("extract", Input::Documents(documents)) => {
            let mut text = String::new();
            for document in documents {
                text += &extract_one(document.name, document.media_type, document.data).await?;
            }
            Ok(outcome(text))
        }
        (other, _) => Err(Error::Unsupported(other.to_owned())),
    }
}

/// Reads the first event of a flood and gives the verdict's future.
async fn first(input: Input) -> FutureReader<Result<Outcome, Error>> {
    let request = Request { intent: "flood".to_owned(), input, parameters: Vec::new() };
    let (mut reader, answer) = handler::handle(request).await;
    assert!(reader.next().await.is_some(), "a flood has a first event");
    answer
}

async fn extract_one(name: String, media_type: Option<String>, data: Vec<u8>) -> Result<String, Error> {
    let (mut writer, reader) = wit_stream::new();
    wit_bindgen::spawn_local(async move {
        // An extractor may answer before it has read everything.
        let _rest = writer.write_all(data).await;
    });
    let extraction = extract::extract(name, media_type, reader).await.map_err(|error| match error {
        ExtractError::CallFailed(failure) => Error::CallFailed(failure),
        other => Error::Invalid(format!("{other:?}")),
    })?;
    Ok(format!(
        "{} {} {} {} {}",
        extraction.title.unwrap_or_default(),
        extraction.media_type,
        extraction.text,
        extraction.blocks.len(),
        extraction.runs.len()
    ))
}

fn outcome(text: String) -> Outcome {
    Outcome { text, passages: Vec::new(), language: None, method: "caller".to_owned() }
}

bindings::export!(Component with_types_in bindings);
