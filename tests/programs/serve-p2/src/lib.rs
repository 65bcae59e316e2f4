//! Answers requests in every way that a good or a bad component may, by wasi:http 0.2.

wit_bindgen::generate!({
    path: [
        "../../../wit/deps/0.2/io.wit",
        "../../../wit/deps/0.2/clocks.wit",
        "../../../wit/deps/0.2/random.wit",
        "../../../wit/deps/0.2/filesystem.wit",
        "../../../wit/deps/0.2/sockets.wit",
        "../../../wit/deps/0.2/cli.wit",
        "../../../wit/deps/0.2/http.wit",
    ],
    inline: "
        package test:serve;
        world serve {
            import wasi:http/types@0.2.12;
            export wasi:http/incoming-handler@0.2.12;
        }
    ",
    world: "test:serve/serve",
    generate_all,
});

use std::sync::atomic::{AtomicU32, Ordering};

use exports::wasi::http::incoming_handler::Guest;
use wasi::http::types::{ErrorCode, Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

struct Serve;

static COUNT: AtomicU32 = AtomicU32::new(0);

impl Guest for Serve {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        match path.as_str() {
            "/echo" => answer(out, &read(&request)),
            "/about" => answer(out, about(&request).as_bytes()),
            "/count" => answer(out, (COUNT.fetch_add(1, Ordering::Relaxed) + 1).to_string().as_bytes()),
            "/silent" => drop(out),
            "/error" => ResponseOutparam::set(out, Err(ErrorCode::InternalError(None))),
            "/trap" => panic!("asked to"),
            "/trap-midway" => {
                let body = begin(out);
                let stream = body.write().expect("a new body has a stream");
                stream.blocking_write_and_flush(b"first").expect("the body is open");
                panic!("asked to");
            }
            "/large" => {
                let body = begin(out);
                let stream = body.write().expect("a new body has a stream");
                for _ in 0..256 {
                    stream.blocking_write_and_flush(&[b'x'; 4096]).expect("the body is open");
                }
                drop(stream);
                OutgoingBody::finish(body, None).expect("no length was announced");
            }
            _ => answer(out, b"?"),
        }
    }
}

fn about(request: &IncomingRequest) -> String {
    let mut names: Vec<_> = request.headers().entries().into_iter().map(|(name, _)| name).collect();
    names.sort();
    format!(
        "{:?} {:?} {:?} {names:?}",
        request.method(),
        request.scheme().expect("a request has a scheme"),
        request.authority().expect("a request has an authority")
    )
}

fn begin(out: ResponseOutparam) -> OutgoingBody {
    let response = OutgoingResponse::new(Fields::new());
    let body = response.body().expect("a new response has a body");
    ResponseOutparam::set(out, Ok(response));
    body
}

fn answer(out: ResponseOutparam, bytes: &[u8]) {
    let body = begin(out);
    let stream = body.write().expect("a new body has a stream");
    for part in bytes.chunks(4096) {
        stream.blocking_write_and_flush(part).expect("the body is open");
    }
    drop(stream);
    OutgoingBody::finish(body, None).expect("no length was announced");
}

fn read(request: &IncomingRequest) -> Vec<u8> {
    let body = request.consume().expect("it is taken once");
    let stream = body.stream().expect("it is taken once");
    let mut all = Vec::new();
    while let Ok(part) = stream.blocking_read(1 << 16) {
        all.extend(part);
    }
    all
}

export!(Serve);
