//! A component of which tests make other versions, without building it again, by writing over its mark.
//!
//! It answers requests, when it has read them to their end, and tasks with its version, and its health check goes as
//! the mark says.

#[allow(missing_docs, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({
        path: ["../../../wit/deps/clocks.wit", "../../../wit/deps/random.wit", "../../../wit/deps/filesystem.wit",
            "../../../wit/deps/sockets.wit", "../../../wit/deps/cli.wit", "../../../wit/deps/http.wit",
            "../../../wit/component", "../../../wit/task"],
        inline: "
            package test:versioned;
            world versioned {
                import wasi:http/types@0.3.0;
                export wasi:http/handler@0.3.0;
                export witan:component/health@0.1.0-draft;
                export witan:task/handler@0.1.0-draft;
            }
        ",
        world: "test:versioned/versioned",
        generate_all,
    });
}

use std::hint::black_box;

use bindings::exports::wasi::http::handler;
use bindings::exports::witan::component::health;
use bindings::exports::witan::task::handler::{self as task, Error, Event, Outcome};
use bindings::wasi::http::types::{ErrorCode, Fields, Request, Response};
use bindings::witan::task::types::Progress;
use bindings::{wit_future, wit_stream};
use wit_bindgen::{FutureReader, StreamReader};

/// The last byte but one is the version. The last is how the health check goes: `f` for fit, `u` for unfit, `t` for a
/// trap.
static MARK: [u8; 22] = *b"the version's mark: 1f";

/// Times that an answer repeats its version: more than fits one piece of a stream, so that part of it would be seen.
const TIMES: usize = 100_000;

struct Versioned;

fn mark() -> (u8, u8) {
    // The bytes that are written over are the file's, so that the compiler must not know them.
    let mark = black_box(&MARK);
    (mark[20], mark[21])
}

impl handler::Guest for Versioned {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let (processed, processed_end) = wit_future::new(|| Ok(()));
        drop(processed);
        let (contents, _end) = Request::consume_body(request, processed_end);
        contents.collect().await;

        let (mut body, contents) = wit_stream::new();
        let (trailers, trailers_end) = wit_future::new(|| Ok(None));
        drop(trailers);
        let (response, _sent) = Response::new(Fields::new(), Some(contents), trailers_end);
        wit_bindgen::spawn_local(async move {
            body.write_all(vec![mark().0; TIMES]).await;
        });
        Ok(response)
    }
}

impl task::Guest for Versioned {
    async fn handle(_: task::Request) -> (StreamReader<Event>, FutureReader<Result<Outcome, Error>>) {
        let (mut events, reader) = wit_stream::new();
        let (verdict, answer) = wit_future::new(|| Err(Error::Failed("no verdict".to_owned())));
        wit_bindgen::spawn_local(async move {
            let progress = Progress { stage: "answer".to_owned(), done: 1, total: 1 };
            events.write_one(Event::Progress(progress)).await;
            drop(events);
            let text = char::from(mark().0).to_string().repeat(TIMES);
            let outcome = Outcome { text, passages: Vec::new(), language: None, method: "versioned".to_owned() };
            // A caller that is gone wants no verdict.
            let _gone = verdict.write(Ok(outcome)).await;
        });
        (reader, answer)
    }
}

impl health::Guest for Versioned {
    async fn check() -> Result<(), String> {
        match mark().1 {
            b'f' => Ok(()),
            b'u' => Err("the mark says so".to_owned()),
            _ => unreachable!("told to trap"),
        }
    }
}

bindings::export!(Versioned with_types_in bindings);
