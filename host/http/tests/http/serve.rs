//! Requests that guests answer.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, uri};
use http_body_util::{BodyExt as _, Full};
use witan_capability::{Account, CallContext, CallError, Limits, Meter};
use witan_http::{BodyError, Protocol, ResponseBody, incoming, serve};
use witan_system::Reuse;

use crate::host::{Host, SERVERS, Setup};

async fn send_in(
    host: &Host,
    account: &Arc<Account>,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<Response<ResponseBody>, CallError> {
    let request = Request::builder().method(method).uri(path).header("host", "here.test:81").header("te", "trailers");
    let request = incoming(request.body(Full::new(body)).unwrap(), uri::Scheme::HTTP)?;
    serve(&host.service, &CallContext::local(), account, request).await
}

async fn send(host: &Host, path: &str, body: impl Into<Bytes>) -> Result<Response<ResponseBody>, CallError> {
    send_in(host, &Host::account(Limits::default()), Method::GET, path, body.into()).await
}

async fn text(host: &Host, path: &str) -> String {
    let response = send(host, path, "").await.unwrap();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn a_request_is_answered_and_everything_is_given_back() {
    for guest in SERVERS {
        let host = Setup::default().start(guest).unwrap();
        let account = Host::account(Limits::default());
        let sent = Bytes::from(vec![b'x'; 300_000]);
        let response = send_in(&host, &account, Method::POST, "/echo", sent.clone()).await.unwrap();
        assert_eq!(response.status(), 200, "{guest}");
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), sent, "{guest}");
        host.service.current().drained().await;
        assert_eq!(account.used(Meter::Memory), 0, "{guest}");
        assert_eq!(host.service.stats().completed, 1, "{guest}");
    }
}

#[tokio::test]
async fn a_component_built_as_other_people_build_them_needs_nothing_but_the_baseline() {
    for guest in ["hello-p2", "hello-p3"] {
        let host = Setup::default().start(guest).unwrap();
        assert_eq!(text(&host, "/").await, "Hello, world!\n", "{guest}");
    }
}

#[tokio::test]
async fn the_version_is_found_by_the_export() {
    for (guest, protocol) in [("serve-p2", Some(Protocol::P2)), ("serve-p3", Some(Protocol::P3))] {
        let host = Setup::default().start(guest).unwrap();
        assert_eq!(Protocol::of(host.service.current().pre()), protocol);
    }
    let fetch = Setup::grants(vec![crate::host::grant_name("a", 80, false)]).start("fetch-p3").unwrap();
    assert_eq!(Protocol::of(fetch.service.current().pre()), None);
    assert!(matches!(send(&fetch, "/", "").await, Err(CallError::Invalid(_))));
}

#[tokio::test]
async fn a_guest_sees_the_authority_and_no_header_of_the_connection() {
    for guest in SERVERS {
        let host = Setup::default().start(guest).unwrap();
        let about = text(&host, "/about").await;
        assert_eq!(about, r#"Method::Get Scheme::Http "here.test:81" []"#, "{guest}");
    }
}

#[tokio::test]
async fn a_large_response_streams() {
    for guest in SERVERS {
        let host = Setup::default().start(guest).unwrap();
        assert_eq!(text(&host, "/large").await.len(), 1 << 20, "{guest}");
    }
}

#[tokio::test]
async fn a_fresh_instance_forgets_and_a_reused_one_does_not() {
    for guest in SERVERS {
        let fresh = Setup::default().start(guest).unwrap();
        let reused = Setup { reuse: Reuse::Serial, ..Setup::default() }.start(guest).unwrap();
        for round in 1..=3 {
            assert_eq!(text(&fresh, "/count").await, "1", "{guest}");
            assert_eq!(text(&reused, "/count").await, round.to_string(), "{guest}");
            reused.service.current().drained().await;
        }
    }
}

#[tokio::test]
async fn a_component_that_fails_fails_alone() {
    for guest in SERVERS {
        let host = Setup::default().start(guest).unwrap();
        assert_eq!(send(&host, "/error", "").await.unwrap().status(), 500, "{guest}");
        let trapped = send(&host, "/trap", "").await.map(|_| ());
        assert!(matches!(trapped, Err(CallError::Trapped { .. })), "{guest}: {trapped:?}");
        let midway = send(&host, "/trap-midway", "").await;
        // The trap may be known before the response was handed out.
        if let Ok(response) = midway {
            let end = response.into_body().collect().await.map(|_| ());
            assert!(matches!(end, Err(BodyError::Call(CallError::Trapped { .. }))), "{guest}: {end:?}");
        } else {
            assert!(matches!(midway.map(|_| ()), Err(CallError::Trapped { .. })), "{guest}");
        }
        assert_eq!(text(&host, "/count").await, "1", "{guest}");
    }
}

#[tokio::test]
async fn a_component_that_gives_no_answer_is_an_error() {
    let host = Setup::default().start("serve-p2").unwrap();
    let silent = send(&host, "/silent", "").await.map(|_| ());
    assert!(matches!(silent, Err(CallError::Trapped { .. })), "{silent:?}");
}

#[tokio::test]
async fn a_client_that_goes_away_takes_the_call_with_it() {
    for guest in SERVERS {
        let host = Setup::default().start(guest).unwrap();
        let account = Host::account(Limits::default());
        let response = send_in(&host, &account, Method::GET, "/large", Bytes::new()).await.unwrap();
        assert_eq!(host.service.stats().active, 1, "{guest}");
        drop(response);
        assert_eq!(host.service.stats().active, 0, "{guest}");
        assert_eq!(account.used(Meter::Memory), 0, "{guest}");
    }
}

#[tokio::test]
async fn a_response_without_a_body_lets_the_component_finish() {
    for guest in SERVERS {
        let host = Setup::default().start(guest).unwrap();
        let account = Host::account(Limits::default());
        drop(send_in(&host, &account, Method::HEAD, "/about", Bytes::new()).await.unwrap());
        host.service.current().drained().await;
        assert_eq!(host.service.stats().completed, 1, "{guest}");
    }
}
