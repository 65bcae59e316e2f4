//! Sends the placeholder of a secret where it is told to, and answers with what it sees: of `/show` the setting `key`, of
//! `/send/HEADER/AUTHORITY` what came back, and of `/send-tls/HEADER/AUTHORITY` what came back over TLS.

wit_bindgen::generate!({
    path: ["../../../wit/deps/clocks.wit", "../../../wit/deps/random.wit", "../../../wit/deps/filesystem.wit",
        "../../../wit/deps/sockets.wit", "../../../wit/deps/cli.wit", "../../../wit/deps/http.wit",
        "../../../wit/deps/config"],
    inline: "
        package test:secret;
        world secret {
            import wasi:config/store@0.2.0-rc.1;
            import wasi:http/client@0.3.0;
            export wasi:http/handler@0.3.0;
        }
    ",
    world: "test:secret/secret",
    generate_all,
});

use exports::wasi::http::handler::Guest;
use wasi::http::client;
use wasi::http::types::{ErrorCode, Fields, Request, Response, Scheme};

struct Secret;

impl Guest for Secret {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let path = request.get_path_with_query().unwrap_or_default();
        let placeholder = wasi::config::store::get("key").ok().flatten().unwrap_or_default();
        let told = match path.split('/').collect::<Vec<_>>().as_slice() {
            [.., "show"] => placeholder,
            [.., "send", header, authority] => send(Scheme::Http, header, authority, &placeholder).await,
            [.., "send-tls", header, authority] => send(Scheme::Https, header, authority, &placeholder).await,
            _ => "?".to_owned(),
        };
        Ok(answer(told))
    }
}

/// What comes back, its headers and its body, or the error.
async fn send(scheme: Scheme, header: &str, authority: &str, placeholder: &str) -> String {
    let value = format!("Bearer {placeholder}").into_bytes();
    let Ok(headers) = Fields::from_list(&[(header.to_owned(), value)]) else { return "headers".to_owned() };
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

export!(Secret);
