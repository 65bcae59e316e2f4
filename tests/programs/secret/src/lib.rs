//! Sends the placeholder of a secret where it is told to, and tells everywhere what it sees: in its answers, its log, its
//! standard error, and the events and results of tasks.
//!
//! It is told by a path, or by the text of a task: `/show` tells the setting `key`; `/send/HEADER/AUTHORITY` sends it as a
//! bearer's, `/basic/HEADER/AUTHORITY` as the password of the user `user`, and `/send-tls/HEADER/AUTHORITY` over TLS, and tell
//! what came back; `/trap/HEADER/AUTHORITY` traps with it.

#[allow(missing_docs, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({
        path: ["../../../wit/deps/clocks.wit", "../../../wit/deps/random.wit", "../../../wit/deps/filesystem.wit",
            "../../../wit/deps/sockets.wit", "../../../wit/deps/cli.wit", "../../../wit/deps/http.wit",
            "../../../wit/deps/config", "../../../wit/deps/logging", "../../../wit/component", "../../../wit/task"],
        inline: "
            package test:secret;
            world secret {
                import wasi:config/store@0.2.0-rc.1;
                import wasi:http/client@0.3.0;
                import wasi:logging/logging@0.1.0-draft;
                export wasi:http/handler@0.3.0;
                export witan:task/handler@0.1.0-draft;
            }
        ",
        world: "test:secret/secret",
        generate_all,
    });
}

use bindings::exports::wasi::http::handler;
use bindings::exports::witan::task::handler::{self as task, Error, Event, Outcome};
use bindings::wasi::http::client;
use bindings::wasi::http::types::{ErrorCode, Fields, Request, Response, Scheme};
use bindings::wasi::logging::logging::{self, Level};
use bindings::witan::task::types::{Input, Progress};
use bindings::{wit_future, wit_stream};
use wit_bindgen::{FutureReader, StreamReader};

struct Secret;

impl handler::Guest for Secret {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        Ok(answer(told(&request.get_path_with_query().unwrap_or_default()).await))
    }
}

impl task::Guest for Secret {
    async fn handle(request: task::Request) -> (StreamReader<Event>, FutureReader<Result<Outcome, Error>>) {
        let (mut events, reader) = wit_stream::new();
        let (verdict, end) = wit_future::new(|| Err(Error::Failed("no verdict".to_owned())));
        wit_bindgen::spawn_local(async move {
            let text = if let Input::Text(path) = &request.input { told(path).await } else { String::new() };
            let progress = Progress { stage: text.clone(), done: 1, total: 1 };
            for event in [Event::Progress(progress), Event::Text(text.clone()), Event::Notice(text.clone())] {
                events.write_one(event).await;
            }
            drop(events);
            let outcome = Outcome { text, passages: Vec::new(), language: None, method: "secret".to_owned() };
            // A caller that is gone wants no verdict.
            let _gone = verdict.write(Ok(outcome)).await;
        });
        (reader, end)
    }
}

/// What there is to tell of what `path` asks for.
async fn told(path: &str) -> String {
    let placeholder = bindings::wasi::config::store::get("key").ok().flatten().unwrap_or_default();
    let bearer = format!("Bearer {placeholder}");
    let told = match path.split('/').collect::<Vec<_>>().as_slice() {
        [.., "show"] => placeholder,
        [.., "send", header, authority] => send(Scheme::Http, header, authority, bearer).await,
        [.., "send-tls", header, authority] => send(Scheme::Https, header, authority, bearer).await,
        [.., "basic", header, authority] => {
            let credential = base64(format!("user:{placeholder}").as_bytes());
            send(Scheme::Http, header, authority, format!("Basic {credential}")).await
        }
        [.., "trap", header, authority] => {
            let came = send(Scheme::Http, header, authority, bearer).await;
            eprintln!("{came}");
            unreachable!("told to trap with {placeholder}")
        }
        _ => "?".to_owned(),
    };
    eprintln!("{told}");
    logging::log(Level::Warn, "secret", &told);
    told
}

/// What comes back, its headers and its body, or the error.
async fn send(scheme: Scheme, header: &str, authority: &str, value: String) -> String {
    let Ok(headers) = Fields::from_list(&[(header.to_owned(), value.into_bytes())]) else {
        return "headers".to_owned();
    };
    let (trailers, trailers_end) = wit_future::new(|| Ok(None));
    drop(trailers);
    let (request, _sent) = Request::new(headers, None, trailers_end, None);
    let target = request
        .set_scheme(Some(&scheme))
        .and_then(|()| request.set_authority(Some(authority)))
        .and_then(|()| request.set_path_with_query(Some("/")));
    if target.is_err() {
        return "target".to_owned();
    }
    let response = match client::send(request).await {
        Ok(response) => response,
        Err(error) => return format!("{error:?}"),
    };
    let headers = response.get_headers().copy_all();
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name, String::from_utf8_lossy(value))).collect();
    let told = format!("{headers:?}");
    let (processed, processed_end) = wit_future::new(|| Ok(()));
    drop(processed);
    let (contents, _end) = Response::consume_body(response, processed_end);
    let body = contents.collect().await;
    format!("{told} {}", String::from_utf8_lossy(&body))
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = (0..3).fold(0_usize, |bits, at| bits << 8 | usize::from(three.get(at).copied().unwrap_or(0)));
        let digit = |at: usize| if at <= three.len() { char::from(DIGITS[bits >> (18 - 6 * at) & 63]) } else { '=' };
        text.extend((0..4).map(digit));
    }
    text
}

fn answer(text: String) -> Response {
    let (mut body, contents) = wit_stream::new();
    let (trailers, trailers_end) = wit_future::new(|| Ok(None));
    drop(trailers);
    let (response, _sent) = Response::new(Fields::new(), Some(contents), trailers_end);
    wit_bindgen::spawn_local(async move {
        body.write_all(text.into_bytes()).await;
    });
    response
}

bindings::export!(Secret with_types_in bindings);
