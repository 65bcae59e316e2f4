//! An agent that finds and calls tools as its request says.
//!
//! The intent is `find` or `call`, the text of the request is the query or the arguments, and the first parameter is
//! the tool. With a second parameter it uses the synchronous twin of the broker.

#[allow(missing_docs, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({
        path: ["../../../wit/component", "../../../wit/task", "../../../wit/tools"],
        inline: "
            package witan:programs;
            world tools-agent {
                import witan:tools/broker@0.1.0-draft;
                import witan:tools/broker-sync@0.1.0-draft;
                export witan:task/handler@0.1.0-draft;
            }
        ",
        world: "witan:programs/tools-agent",
        generate_all,
    });
}

use bindings::exports::witan::task::handler::{Error, Event, Guest, Outcome, Request};
use bindings::witan::task::types::{Input, Value};
use bindings::witan::tools::{broker, broker_sync, types};
use bindings::{wit_future, wit_stream};
use wit_bindgen::{FutureReader, StreamReader};

struct Component;

impl Guest for Component {
    async fn handle(request: Request) -> (StreamReader<Event>, FutureReader<Result<Outcome, Error>>) {
        let (_, events) = wit_stream::new();
        let (verdict, answer) = wit_future::new(|| Err(Error::Failed("no verdict".to_owned())));
        wit_bindgen::spawn_local(async move {
            let outcome = run(request).await;
            // A caller that is gone wants no verdict.
            let _gone = verdict.write(outcome).await;
        });
        (events, answer)
    }
}

async fn run(request: Request) -> Result<Outcome, Error> {
    let Input::Text(text) = request.input else { return Err(Error::Invalid("no text".to_owned())) };
    let sync = request.parameters.len() > 1;
    let tool = match request.parameters.into_iter().next().map(|parameter| parameter.value) {
        Some(Value::Text(tool)) => tool,
        _ => String::new(),
    };
    let result = match (request.intent.as_str(), sync) {
        ("find", false) => broker::find(text, 10).await.map(names),
        ("find", true) => broker_sync::find(&text, 10).map(names),
        ("call", false) => broker::call(tool, text).await.map(contents),
        ("call", true) => broker_sync::call(&tool, &text).map(contents),
        (other, _) => return Err(Error::Unsupported(other.to_owned())),
    };
    match result {
        Ok(text) => Ok(Outcome { text, passages: Vec::new(), language: None, method: String::new() }),
        Err(types::Error::CallFailed(failure)) => Err(Error::CallFailed(failure)),
        Err(error) => Err(Error::Invalid(format!("{error:?}"))),
    }
}

fn names(offers: Vec<types::Offer>) -> String {
    offers.iter().map(|offer| offer.tool.as_str()).collect::<Vec<_>>().join(" ")
}

fn contents(contents: Vec<types::Content>) -> String {
    contents.iter().map(|content| format!("{content:?}")).collect::<Vec<_>>().join(" ")
}

bindings::export!(Component with_types_in bindings);
