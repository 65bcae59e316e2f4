//! Answers requests in every way that a good or a bad component may, by wasi:http 0.3.

wit_bindgen::generate!({
    path: ["../../../wit/deps/clocks.wit", "../../../wit/deps/random.wit", "../../../wit/deps/filesystem.wit",
        "../../../wit/deps/sockets.wit", "../../../wit/deps/cli.wit", "../../../wit/deps/http.wit"],
    inline: "
        package test:serve;
        world serve {
            import wasi:http/types@0.3.0;
            export wasi:http/handler@0.3.0;
        }
    ",
    world: "test:serve/serve",
    generate_all,
});

use std::sync::atomic::{AtomicU32, Ordering};

use exports::wasi::http::handler::Guest;
use wasi::http::types::{ErrorCode, Fields, Request, Response};

struct Serve;

static COUNT: AtomicU32 = AtomicU32::new(0);

impl Guest for Serve {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let path = request.get_path_with_query().unwrap_or_default();
        match path.as_str() {
            "/echo" => Ok(answer(read(request).await, false)),
            "/about" => Ok(answer(about(&request).into_bytes(), false)),
            "/count" => Ok(answer((COUNT.fetch_add(1, Ordering::Relaxed) + 1).to_string().into_bytes(), false)),
            "/error" => Err(ErrorCode::InternalError(None)),
            "/trap" => panic!("asked to"),
            "/trap-midway" => Ok(answer(b"first".to_vec(), true)),
            "/large" => Ok(answer(vec![b'x'; 1 << 20], false)),
            _ => Ok(answer(b"?".to_vec(), false)),
        }
    }
}

fn about(request: &Request) -> String {
    let mut names: Vec<_> = request.get_headers().copy_all().into_iter().map(|(name, _)| name).collect();
    names.sort();
    format!(
        "{:?} {:?} {:?} {names:?}",
        request.get_method(),
        request.get_scheme().expect("a request has a scheme"),
        request.get_authority().expect("a request has an authority")
    )
}

fn answer(bytes: Vec<u8>, trap: bool) -> Response {
    let (mut body, contents) = wit_stream::new();
    let (trailers, trailers_end) = wit_future::new(|| Ok(None));
    drop(trailers);
    let (response, _sent) = Response::new(Fields::new(), Some(contents), trailers_end);
    wit_bindgen::spawn_local(async move {
        body.write_all(bytes).await;
        assert!(!trap, "asked to");
    });
    response
}

async fn read(request: Request) -> Vec<u8> {
    let (processed, processed_end) = wit_future::new(|| Ok(()));
    drop(processed);
    let (contents, _end) = Request::consume_body(request, processed_end);
    contents.collect().await
}

export!(Serve);
