//! Does tasks that leave a file behind for each time that they ran.
//!
//! The text of a task is a name and the milliseconds that it takes after that, such as `a-7 20`. The files are in `/ran`.

#[allow(missing_docs, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({
        path: ["../../../wit/component", "../../../wit/task"],
        inline: "
            package test:recorder;
            world recorder {
                export witan:task/handler@0.1.0-draft;
            }
        ",
        world: "test:recorder/recorder",
        generate_all,
    });
}

use std::{fs::File, io::ErrorKind, thread, time::Duration};

use bindings::exports::witan::task::handler::{Error, Event, Guest, Outcome, Request};
use bindings::witan::task::types::Input;
use bindings::{wit_future, wit_stream};
use wit_bindgen::{FutureReader, StreamReader};

struct Recorder;

/// Leaves a file behind, and says how many of the name there are then.
fn record(name: &str) -> Result<u32, String> {
    for number in 1.. {
        match File::create_new(format!("/ran/{name}.{number}")) {
            Ok(_) => return Ok(number),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Err("it ran too often".to_owned())
}

fn work(request: &Request) -> Result<Outcome, Error> {
    let Input::Text(text) = &request.input else { return Err(Error::Unsupported("a text is wanted".to_owned())) };
    let (name, ms) = text.split_once(' ').ok_or_else(|| Error::Invalid("a name and a number are wanted".to_owned()))?;
    let ms = ms.parse().map_err(|_| Error::Invalid(format!("`{ms}` is no number")))?;
    let times = record(name).map_err(Error::Failed)?;
    thread::sleep(Duration::from_millis(ms));
    Ok(Outcome { text: format!("{name} {times}"), passages: Vec::new(), language: None, method: "recorded".to_owned() })
}

impl Guest for Recorder {
    async fn handle(request: Request) -> (StreamReader<Event>, FutureReader<Result<Outcome, Error>>) {
        let (events, reader) = wit_stream::new();
        let (verdict, answer) = wit_future::new(|| Err(Error::Failed("no verdict".to_owned())));
        wit_bindgen::spawn_local(async move {
            drop(events);
            // A caller that is gone wants no verdict.
            let _gone = verdict.write(work(&request)).await;
        });
        (reader, answer)
    }
}

bindings::export!(Recorder with_types_in bindings);
