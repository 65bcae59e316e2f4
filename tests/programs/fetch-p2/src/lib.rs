//! Sends the request that it is told to send, by wasi:http 0.2.

wit_bindgen::generate!({
    path: [
        "../../../wit/deps/0.2/io.wit",
        "../../../wit/deps/0.2/clocks.wit",
        "../../../wit/deps/0.2/random.wit",
        "../../../wit/deps/0.2/filesystem.wit",
        "../../../wit/deps/0.2/sockets.wit",
        "../../../wit/deps/0.2/cli.wit",
        "../../../wit/deps/0.2/http.wit",
        "../wit",
    ],
    inline: "
        package test:fetch-p2;
        world guest {
            import wasi:http/outgoing-handler@0.2.12;
            export test:fetch/fetch-sync;
        }
    ",
    world: "test:fetch-p2/guest",
    generate_all,
});

use exports::test::fetch::fetch_sync::Guest;
use test::fetch::types::{Request, Response};
use wasi::http::outgoing_handler;
use wasi::http::types::{
    ErrorCode, Fields, IncomingBody, Method, OutgoingBody, OutgoingRequest, RequestOptions, Scheme,
};
use wasi::io::streams::StreamError;

/// What one write to a body may hold at most.
const PART: usize = 4096;

struct Fetch;

fn text<E: std::fmt::Debug>(error: E) -> String {
    format!("{error:?}")
}

fn code(error: ErrorCode) -> String {
    format!("{error:?}")
}

fn method(name: &str) -> Method {
    match name {
        "GET" => Method::Get,
        "POST" => Method::Post,
        "CONNECT" => Method::Connect,
        other => Method::Other(other.to_owned()),
    }
}

fn scheme(name: String) -> Scheme {
    match name.as_str() {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => Scheme::Other(name),
    }
}

impl Guest for Fetch {
    fn fetch(request: Request) -> Result<Response, String> {
        let headers = Fields::from_list(&request.headers).map_err(text)?;
        let outgoing = OutgoingRequest::new(headers);
        outgoing.set_method(&method(&request.method)).map_err(|()| "method")?;
        outgoing.set_scheme(request.scheme.map(scheme).as_ref()).map_err(|()| "scheme")?;
        outgoing.set_authority(request.authority.as_deref()).map_err(|()| "authority")?;
        outgoing.set_path_with_query(request.path_with_query.as_deref()).map_err(|()| "path")?;
        let options = RequestOptions::new();
        options.set_first_byte_timeout(request.first_byte_ms.map(|ms| ms * 1_000_000)).map_err(|()| "options")?;
        options.set_between_bytes_timeout(request.between_bytes_ms.map(|ms| ms * 1_000_000)).map_err(|()| "options")?;
        let body = outgoing.body().map_err(|()| "body")?;
        let response = outgoing_handler::handle(outgoing, Some(options)).map_err(code)?;
        let written = send(&body, &request.body);
        if written {
            // Where this fails, the response says why.
            let _failed = OutgoingBody::finish(body, None);
        }
        response.subscribe().block();
        let response = response.get().expect("it is ready").expect("it is taken once").map_err(code)?;
        let headers = response.headers().entries();
        let incoming = response.consume().map_err(|()| "consume")?;
        let body = receive(&incoming)?;
        Ok(Response { status: response.status(), headers, body })
    }

    fn hoard(bodies: u32, bytes: u32) {
        let mut kept = Vec::new();
        for _ in 0..bodies {
            let request = OutgoingRequest::new(Fields::new());
            let body = request.body().expect("a new request has a body");
            let stream = body.write().expect("a new body has a stream");
            let room = stream.check_write().expect("a new stream is open");
            let part = vec![0; usize::min(bytes as usize, room as usize)];
            stream.write(&part).expect("there was room");
            kept.push((stream, body, request));
        }
    }

    fn hoard_headers(sets: u32, bytes: u32) {
        let first = Fields::new();
        first.append("x", &vec![b'x'; bytes as usize]).expect("the value is sound");
        let mut kept = Vec::new();
        for _ in 0..sets {
            let copy = first.clone();
            copy.append("y", b"y").expect("a clone is mutable");
            kept.push(copy);
        }
    }
}

/// Whether all was written.
fn send(body: &OutgoingBody, bytes: &[u8]) -> bool {
    let Ok(stream) = body.write() else { return false };
    bytes.chunks(PART).all(|part| stream.blocking_write_and_flush(part).is_ok())
}

fn receive(body: &IncomingBody) -> Result<Vec<u8>, String> {
    let stream = body.stream().map_err(|()| "stream")?;
    let mut all = Vec::new();
    loop {
        match stream.blocking_read(1 << 16) {
            Ok(part) => all.extend(part),
            Err(StreamError::Closed) => return Ok(all),
            Err(StreamError::LastOperationFailed(error)) => {
                return Err(wasi::http::types::http_error_code(&error).map_or_else(|| error.to_debug_string(), code));
            }
        }
    }
}

export!(Fetch);
