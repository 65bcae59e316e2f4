//! Sends the request that it is told to send, by wasi:http 0.3.

wit_bindgen::generate!({
    path: ["../../../wit/deps/clocks.wit", "../../../wit/deps/random.wit", "../../../wit/deps/filesystem.wit",
        "../../../wit/deps/sockets.wit", "../../../wit/deps/cli.wit", "../../../wit/deps/http.wit", "../wit"],
    inline: "
        package test:fetch-p3;
        world guest {
            import wasi:http/client@0.3.0;
            export test:fetch/fetch;
        }
    ",
    world: "test:fetch-p3/guest",
    generate_all,
});

use exports::test::fetch::fetch::Guest;
use test::fetch::types::{Request, Response};
use wasi::http::client;
use wasi::http::types::{self, ErrorCode, Fields, Method, RequestOptions, Scheme};

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
    async fn fetch(request: Request) -> Result<Response, String> {
        let headers = Fields::from_list(&request.headers).map_err(text)?;
        let options = RequestOptions::new();
        options.set_first_byte_timeout(request.first_byte_ms.map(|ms| ms * 1_000_000)).map_err(text)?;
        options.set_between_bytes_timeout(request.between_bytes_ms.map(|ms| ms * 1_000_000)).map_err(text)?;
        let (mut body, contents) = wit_stream::new();
        let (trailers, trailers_end) = wit_future::new(|| Ok(None));
        drop(trailers);
        let (outgoing, _sent) = types::Request::new(headers, Some(contents), trailers_end, Some(options));
        outgoing.set_method(&method(&request.method)).map_err(|()| "method")?;
        outgoing.set_scheme(request.scheme.map(scheme).as_ref()).map_err(|()| "scheme")?;
        outgoing.set_authority(request.authority.as_deref()).map_err(|()| "authority")?;
        outgoing.set_path_with_query(request.path_with_query.as_deref()).map_err(|()| "path")?;
        let bytes = request.body;
        wit_bindgen::spawn_local(async move {
            body.write_all(bytes).await;
        });
        let response = client::send(outgoing).await.map_err(code)?;
        let status = response.get_status_code();
        let headers = response.get_headers().copy_all();
        let (processed, processed_end) = wit_future::new(|| Ok(()));
        drop(processed);
        let (contents, end) = types::Response::consume_body(response, processed_end);
        let body = contents.collect().await;
        end.await.map_err(code)?;
        Ok(Response { status, headers, body })
    }
}

export!(Fetch);
