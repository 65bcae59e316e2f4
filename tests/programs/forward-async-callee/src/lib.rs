//! A callee that does what the intent of a request tells it, so that tests can see what reaches a caller.
//!
//! - `echo`: a notice for each parameter, then an outcome with the text of the request;
//! - `refuse`: the error `invalid` with the text of the request;
//! - `trap`: a notice, then a trap;
//! - `flood`: notices without end, of 1 KiB each.

#[allow(missing_docs, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({
        path: ["../../../wit/component", "../../../wit/documents", "../../../wit/task"],
        inline: "
            package witan:programs;
            world forward-async-callee {
                export witan:component/health@0.1.0-draft;
                export witan:documents/extract@0.1.0-draft;
                export witan:task/handler@0.1.0-draft;
            }
        ",
        world: "witan:programs/forward-async-callee",
        generate_all,
    });
}

use bindings::exports::witan::component::health;
use bindings::exports::witan::documents::extract;
use bindings::exports::witan::task::handler::{Error, Event, Guest, Outcome, Request};
use bindings::witan::documents::types::{Block, Kind, Run};
use bindings::witan::task::types::{Input, Value};
use bindings::{wit_future, wit_stream};
use wit_bindgen::{FutureReader, StreamReader, StreamResult, StreamWriter};

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

async fn run(request: Request, events: &mut StreamWriter<Event>) -> Result<Outcome, Error> {
    let text = match request.input {
        Input::Text(text) => text,
        Input::Documents(_) | Input::Files(_) => return Err(Error::Unsupported("not a text".to_owned())),
    };
    match request.intent.as_str() {
        "echo" => {
            for parameter in &request.parameters {
                events.write_one(Event::Notice(show(&parameter.name, &parameter.value))).await;
            }
            Ok(outcome(text))
        }
        "refuse" => Err(Error::Invalid(text)),
        "trap" => {
            events.write_one(Event::Notice("before the trap".to_owned())).await;
            unreachable!("told to trap")
        }
        "flood" => {
            let mut sent: u64 = 0;
            while events.write_one(Event::Notice("x".repeat(1024))).await.is_none() {
                sent += 1;
            }
            Ok(outcome(sent.to_string()))
        }
        other => Err(Error::Unsupported(other.to_owned())),
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

impl extract::Guest for Component {
    /// Gives the bytes back as text. The name says what to do: `trap` traps after the first bytes, `early` answers
    /// without reading.
    async fn extract(
        name: String,
        media_type: Option<String>,
        mut data: StreamReader<u8>,
    ) -> Result<extract::Extraction, extract::Error> {
        if name == "early" {
            return Err(extract::Error::Encrypted);
        }
        let mut bytes = Vec::new();
        loop {
            bytes.reserve(64 << 10);
            let (result, read) = data.read(bytes).await;
            bytes = read;
            assert!(name != "trap", "told to trap");
            if !matches!(result, StreamResult::Complete(_)) {
                break;
            }
        }
        let Ok(text) = String::from_utf8(bytes) else { return Err(extract::Error::Malformed(name)) };
        let end = text.len() as u64;
        Ok(extract::Extraction {
            media_type: media_type.unwrap_or_default(),
            title: Some(name),
            blocks: vec![Block { kind: Kind::Heading(3), start: 0, end, page: Some(1) }],
            runs: vec![Run { start: 0, end, source_start: 0, source_end: end }],
            text,
        })
    }
}

impl health::Guest for Component {
    async fn check() -> Result<(), String> {
        Ok(())
    }
}

bindings::export!(Component with_types_in bindings);
