//! The handler of the intent `summarize`.
//!
//! Files are read by the tool `tool-files.read` and every input is read by the extractor, so that this component needs
//! no grant of its own and sees no format.

mod events;
mod failure;
mod input;

use wit_bindgen::{FutureReader, StreamReader, spawn_local};

use crate::METHOD;
use crate::options::{Options, Value as Parameter};
use crate::summary::{self, Summary};

use bindings::exports::witan::task::handler::{Error, Event, Guest, Outcome, Request};
use bindings::witan::task::types::{self, Value};
use bindings::{wit_future, wit_stream};
use events::Events;

#[allow(missing_docs, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({
        path: ["../../wit/component", "../../wit/documents", "../../wit/tools", "../../wit/task"],
        inline: "
            package witan:components;
            world summarize {
                import witan:documents/extract@0.1.0-draft;
                import witan:tools/broker@0.1.0-draft;
                export witan:task/handler@0.1.0-draft;
            }
        ",
        world: "witan:components/summarize",
        generate_all,
    });
}

/// The intent that this component serves.
const INTENT: &str = "summarize";

struct Component;

impl Guest for Component {
    async fn handle(request: Request) -> (StreamReader<Event>, FutureReader<Result<Outcome, Error>>) {
        let (writer, events) = wit_stream::new();
        let (verdict, outcome) = wit_future::new(|| Err(Error::Failed("the summary was not finished".to_owned())));
        spawn_local(async move {
            let result = summarize(request, &mut Events::new(writer)).await;
            // The client may be gone; there is nobody else to tell.
            let _ = verdict.write(result).await;
        });
        (events, outcome)
    }
}

async fn summarize(request: Request, events: &mut Events) -> Result<Outcome, Error> {
    if request.intent != INTENT {
        return Err(Error::Unsupported(format!("this component serves `{INTENT}`, not `{}`", request.intent)));
    }
    let options = options(request.parameters)?;
    let documents = input::documents(request.input, events).await?;
    events.progress("rank", 0, 1).await;
    let summary = summary::summarize(&documents, &options).map_err(|error| Error::Invalid(error.to_string()))?;
    events.progress("rank", 1, 1).await;
    for notice in &summary.notices {
        events.notice(notice.clone()).await;
    }
    for passage in &summary.passages {
        events.text(format!("{}{}", passage.separator, passage.text)).await;
    }
    Ok(summary.into())
}

fn options(parameters: Vec<types::Parameter>) -> Result<Options, Error> {
    let parameters: Vec<_> = parameters.into_iter().map(|given| (given.name, given.value.into())).collect();
    Options::parse(&parameters).map_err(|error| Error::Invalid(error.to_string()))
}

impl From<Value> for Parameter {
    fn from(value: Value) -> Self {
        match value {
            Value::Integer(number) => Self::Integer(number),
            Value::Number(number) => Self::Number(number),
            Value::Text(text) => Self::Text(text),
            Value::Flag(_) | Value::Texts(_) => Self::Other,
        }
    }
}

impl From<Summary> for Outcome {
    fn from(summary: Summary) -> Self {
        Self {
            text: summary.text(),
            passages: summary.passages.into_iter().map(Into::into).collect(),
            language: summary.language,
            method: METHOD.to_owned(),
        }
    }
}

impl From<summary::Passage> for types::Passage {
    fn from(passage: summary::Passage) -> Self {
        Self {
            text: passage.text,
            source: passage.source,
            start: passage.range.start,
            end: passage.range.end,
            page: passage.page,
            weight: passage.weight,
        }
    }
}

bindings::export!(Component with_types_in bindings);
