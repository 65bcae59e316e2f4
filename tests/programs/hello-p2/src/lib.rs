//! Answers every request with a greeting, by wasi:http 0.2.

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
        package test:hello;
        world hello {
            import wasi:http/types@0.2.12;
            export wasi:http/incoming-handler@0.2.12;
        }
    ",
    world: "test:hello/hello",
    generate_all,
});

use exports::wasi::http::incoming_handler::Guest;
use wasi::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

struct Hello;

impl Guest for Hello {
    fn handle(_: IncomingRequest, out: ResponseOutparam) {
        let response = OutgoingResponse::new(Fields::new());
        let body = response.body().expect("a new response has a body");
        ResponseOutparam::set(out, Ok(response));
        let stream = body.write().expect("a new body has a stream");
        stream.blocking_write_and_flush(b"Hello, world!\n").expect("the body is open");
        drop(stream);
        OutgoingBody::finish(body, None).expect("no length was announced");
    }
}

export!(Hello);
