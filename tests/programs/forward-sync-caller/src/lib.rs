//! The caller of `forward-async-caller`, by the synchronous twins; see there for what the intents mean.

#[allow(missing_docs, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({
        path: ["../../../wit/component", "../../../wit/documents", "../../../wit/task"],
        inline: "
            package witan:programs;
            world forward-sync-caller {
                import witan:documents/extract-sync@0.1.0-draft;
                import witan:task/handler-sync@0.1.0-draft;
                export witan:task/handler-sync@0.1.0-draft;
            }
        ",
        world: "witan:programs/forward-sync-caller",
        generate_all,
    });
}

use bindings::exports::witan::task::handler_sync::{Error, Event, Guest, GuestHandleRun, HandleRun, Outcome, Request};
use bindings::witan::documents::extract_sync;
use bindings::witan::documents::types::Error as ExtractError;
use bindings::witan::task::{handler_sync, types::Input};

struct Component;

/// A call under way: one of the callee's, or an outcome.
enum HandleCall {
    Passed(handler_sync::HandleRun),
    Done(Result<Outcome, Error>),
}

impl Guest for Component {
    type HandleRun = HandleCall;

    fn handle(request: Request) -> HandleRun {
        HandleRun::new(begin(request))
    }
}

impl GuestHandleRun for HandleCall {
    fn next(&self) -> Option<Event> {
        match self {
            Self::Passed(run) => run.next(),
            Self::Done(_) => None,
        }
    }

    fn verdict(run: HandleRun) -> Result<Outcome, Error> {
        match run.into_inner() {
            Self::Passed(run) => handler_sync::HandleRun::verdict(run),
            Self::Done(outcome) => outcome,
        }
    }
}

fn begin(mut request: Request) -> HandleCall {
    if let Some(intent) = request.intent.strip_prefix("pass/") {
        request.intent = intent.to_owned();
        return HandleCall::Passed(handler_sync::handle(&request));
    }
    HandleCall::Done(match (request.intent.as_str(), request.input) {
        ("drop", input) => {
            drop(first(input));
            Ok(outcome("dropped".to_owned()))
        }
        ("verdict", input) => handler_sync::HandleRun::verdict(first(input)),
        ("extract", Input::Documents(documents)) => documents
            .into_iter()
            .map(|document| extract_one(&document.name, document.media_type.as_deref(), &document.data))
            .collect::<Result<String, Error>>()
            .map(outcome),
        (other, _) => Err(Error::Unsupported(other.to_owned())),
    })
}

/// A flood of which the first event was read.
fn first(input: Input) -> handler_sync::HandleRun {
    let request = Request { intent: "flood".to_owned(), input, parameters: Vec::new() };
    let run = handler_sync::handle(&request);
    assert!(run.next().is_some(), "a flood has a first event");
    run
}

fn extract_one(name: &str, media_type: Option<&str>, data: &[u8]) -> Result<String, Error> {
    let extraction = extract_sync::extract(name, media_type, data).map_err(|error| match error {
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
