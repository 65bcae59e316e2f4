//! The callee of `forward-async-callee`, by the synchronous twins; see there for what the intents mean.

#[allow(missing_docs, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({
        path: ["../../../wit/component", "../../../wit/documents", "../../../wit/task"],
        inline: "
            package witan:programs;
            world forward-sync-callee {
                export witan:component/health-sync@0.1.0-draft;
                export witan:documents/extract-sync@0.1.0-draft;
                export witan:task/handler-sync@0.1.0-draft;
            }
        ",
        world: "witan:programs/forward-sync-callee",
        generate_all,
    });
}

use std::cell::{Cell, RefCell};

use bindings::exports::witan::component::health_sync;
use bindings::exports::witan::documents::extract_sync;
use bindings::exports::witan::task::handler_sync::{Error, Event, Guest, GuestHandleRun, HandleRun, Outcome, Request};
use bindings::witan::documents::types::{Block, Kind, Run};
use bindings::witan::task::types::{Input, Value};

struct Component;

/// A call under way: what is left to give.
struct HandleCall {
    intent: String,
    text: Option<String>,
    notices: RefCell<std::vec::IntoIter<String>>,
    given: Cell<u64>,
}

impl Guest for Component {
    type HandleRun = HandleCall;

    fn handle(request: Request) -> HandleRun {
        let text = match request.input {
            Input::Text(text) => Some(text),
            Input::Documents(_) | Input::Files(_) => None,
        };
        let notices: Vec<_> =
            request.parameters.iter().map(|parameter| show(&parameter.name, &parameter.value)).collect();
        HandleRun::new(HandleCall {
            intent: request.intent,
            text,
            notices: RefCell::new(notices.into_iter()),
            given: Cell::new(0),
        })
    }
}

impl GuestHandleRun for HandleCall {
    fn next(&self) -> Option<Event> {
        let given = self.given.replace(self.given.get() + 1);
        match self.intent.as_str() {
            "echo" => self.notices.borrow_mut().next().map(Event::Notice),
            "trap" if given == 0 => Some(Event::Notice("before the trap".to_owned())),
            "trap" => unreachable!("told to trap"),
            "flood" => Some(Event::Notice("x".repeat(1024))),
            _ => None,
        }
    }

    fn verdict(run: HandleRun) -> Result<Outcome, Error> {
        let call: HandleCall = run.into_inner();
        let Some(text) = call.text else { return Err(Error::Unsupported("not a text".to_owned())) };
        match call.intent.as_str() {
            "echo" => Ok(outcome(text)),
            "refuse" => Err(Error::Invalid(text)),
            "flood" => Ok(outcome(call.given.get().to_string())),
            other => Err(Error::Unsupported(other.to_owned())),
        }
    }
}

fn show(name: &str, value: &Value) -> String {
    match value {
        Value::Flag(value) => format!("{name}={value}"),
        Value::Integer(value) => format!("{name}={value}"),
        Value::Number(value) => format!("{name}={value}"),
        Value::Text(value) => format!("{name}={value}"),
        Value::Texts(values) => format!("{name}={}", values.join(",")),
    }
}

fn outcome(text: String) -> Outcome {
    Outcome { text, passages: Vec::new(), language: None, method: "callee".to_owned() }
}

impl extract_sync::Guest for Component {
    fn extract(
        name: String,
        media_type: Option<String>,
        data: Vec<u8>,
    ) -> Result<extract_sync::Extraction, extract_sync::Error> {
        if name == "early" {
            return Err(extract_sync::Error::Encrypted);
        }
        assert!(name != "trap", "told to trap");
        let Ok(text) = String::from_utf8(data) else { return Err(extract_sync::Error::Malformed(name)) };
        let end = text.len() as u64;
        Ok(extract_sync::Extraction {
            media_type: media_type.unwrap_or_default(),
            title: Some(name),
            blocks: vec![Block { kind: Kind::Heading(3), start: 0, end, page: Some(1) }],
            runs: vec![Run { start: 0, end, source_start: 0, source_end: end }],
            text,
        })
    }
}

impl health_sync::Guest for Component {
    fn check() -> Result<(), String> {
        Err("told to be ill".to_owned())
    }
}

bindings::export!(Component with_types_in bindings);
