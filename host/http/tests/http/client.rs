//! Requests that guests send.

use std::{sync::atomic::Ordering, time::Duration};

use witan_capability::{CallContext, CallError, Limit, Limits, Meter, Privacy, Trace, TraceState};

use crate::host::{Answer, FETCHERS, Fetch, Fetched, Hoard, Host, Script, Server, Setup, grant, grant_name, plain};

/// The error code in what the guest reports, without what it carries.
fn code(outcome: &Result<Fetched, String>) -> &str {
    let text = outcome.as_ref().expect_err("the request should have failed");
    text.strip_prefix("ErrorCode::").unwrap_or(text).split('(').next().unwrap_or_default()
}

fn limit(outcome: Result<Result<Fetched, String>, CallError>) -> Limit {
    match outcome {
        Err(CallError::Limit(exceeded)) => exceeded.limit,
        other => panic!("expected a limit, not {other:?}"),
    }
}

#[tokio::test]
async fn a_granted_request_arrives_as_it_was_sent_and_everything_is_given_back() {
    for (guest, _) in FETCHERS {
        let server = Server::ok("hello").await;
        let host = Setup::grants(vec![grant(server.address)]).start(guest).unwrap();
        let account = Host::account(Limits::default());
        let fetch = Fetch::get(server.authority(), "/%61?q=1").header("x-one", "1").post("body");
        let fetched = host.fetch_in(&CallContext::local(), &account, fetch).await.unwrap().unwrap();
        assert_eq!((fetched.status, fetched.body.as_slice()), (200, b"hello".as_slice()), "{guest}");
        assert!(fetched.headers.contains(&("x-from".to_owned(), b"server".to_vec())));
        let request = server.requests().remove(0);
        assert!(request.starts_with("POST /a?q=1 HTTP/1.1\r\n"), "{request}");
        assert!(request.contains(&format!("host: {}\r\n", server.authority())), "{request}");
        assert!(request.contains("x-one: 1\r\n") && request.contains("body"), "{request}");
        assert!(account.used(Meter::BytesOut) >= 4);
        host.service.current().drained().await;
        assert_eq!(account.used(Meter::Sockets), 0, "{guest}");
        assert_eq!(account.used(Meter::Memory), 0, "{guest}");
    }
}

#[tokio::test]
async fn without_a_grant_there_is_no_function_to_call() {
    for (guest, _) in FETCHERS {
        let error = Setup::default().start(guest).err().expect("it should not start");
        assert!(format!("{error:#}").contains("wasi:http/"), "{error:#}");
    }
}

#[tokio::test]
async fn what_the_grant_does_not_cover_is_denied_before_anything_is_connected() {
    for (guest, _) in FETCHERS {
        let server = Server::ok("").await;
        let mut granted = grant(server.address);
        granted.methods = vec!["GET".to_owned()];
        granted.path_prefix = "/v1".to_owned();
        let host = Setup::grants(vec![granted]).start(guest).unwrap();
        let mut https = Fetch::get(server.authority(), "/v1");
        https.scheme = Some("https".to_owned());
        for fetch in [
            Fetch::get("127.0.0.1:1", "/v1"),
            Fetch::get("localhost", "/v1"),
            Fetch::get(server.authority(), "/v1evil"),
            Fetch::get(server.authority(), "/"),
            Fetch::get(server.authority(), "/v1").post(""),
            https,
        ] {
            assert_eq!(code(&host.fetch(fetch.clone()).await), "HttpRequestDenied", "{guest} {fetch:?}");
        }
        assert_eq!(server.hits(), 0, "{guest}");
        assert_eq!(host.denied().len(), 6);
        assert!(host.fetch(Fetch::get(server.authority(), "/v1/x")).await.is_ok());
    }
}

#[tokio::test]
async fn ways_around_a_path_prefix_or_a_host_are_refused() {
    for (guest, _) in FETCHERS {
        let server = Server::ok("").await;
        let mut granted = grant(server.address);
        granted.path_prefix = "/v1".to_owned();
        let host = Setup::grants(vec![granted]).start(guest).unwrap();
        let to = |path| Fetch::get(server.authority(), path);
        for fetch in [
            to("/v1/../admin"),
            to("/v1/%2e%2e/admin"),
            to("/v1/..%2fadmin"),
            to("/v1/%252e%252e/admin"),
            to("/v1/..;/admin"),
            to("/v1/..\\admin"),
            Fetch::get(format!("other@{}", server.authority()), "/v1"),
        ] {
            assert_eq!(code(&host.fetch(fetch.clone()).await), "HttpRequestUriInvalid", "{guest} {fetch:?}");
        }
        // These are refused where they are set.
        for path in ["http://other/v1", "/v1 HTTP/1.1\r\nx: y", "v1"] {
            assert_eq!(host.fetch(to(path)).await.unwrap_err(), "path", "{guest} {path:?}");
        }
        let mut tunnel = to("/v1");
        tunnel.method = "CONNECT".to_owned();
        assert_eq!(code(&host.fetch(tunnel).await), "HttpRequestMethodInvalid", "{guest}");
        assert_eq!(server.hits(), 0, "{guest}");
    }
}

#[tokio::test]
async fn a_private_address_is_refused_unless_the_grant_says_private() {
    for (guest, _) in FETCHERS {
        let server = Server::ok("").await;
        let port = server.address.port();
        // That a literal private address needs `private = true` too is checked where grants are read.
        for (private, name) in [(false, "inside.test"), (true, "127.0.0.1"), (true, "inside.test")] {
            let mut setup = Setup::grants(vec![grant_name(name, port, private)]);
            setup.settings.resolver = Script::new(&[&["127.0.0.1"]]);
            let host = setup.start(guest).unwrap();
            let outcome = host.fetch(Fetch::get(format!("{name}:{port}"), "/")).await;
            if private {
                assert_eq!(outcome.unwrap().status, 200, "{guest} {name}");
            } else {
                assert_eq!(code(&outcome), "DestinationIpProhibited", "{guest} {name}");
            }
        }
        assert_eq!(server.hits(), 2, "{guest}");
    }
}

#[tokio::test]
async fn a_name_that_is_bound_anew_leads_only_where_it_was_checked() {
    for (guest, _) in FETCHERS {
        let outside = Server::at("127.0.0.2:0", Answer::Bytes(plain("outside"))).await;
        let port = outside.address.port();
        let inside = Server::at(&format!("127.0.0.1:{port}"), Answer::Bytes(plain("inside"))).await;
        let resolver = Script::new(&[&["127.0.0.2"], &["127.0.0.1"]]);
        let mut setup = Setup::grants(vec![grant_name("rebind.test", port, false)]);
        setup.public = Some(outside.address.ip());
        setup.settings.resolver = resolver.clone();
        let host = setup.start(guest).unwrap();
        let fetch = Fetch::get(format!("rebind.test:{port}"), "/");
        assert_eq!(host.fetch(fetch.clone()).await.unwrap().body, b"outside", "{guest}");
        assert_eq!(resolver.lookups.load(Ordering::SeqCst), 1, "one look-up for one request");
        assert_eq!(code(&host.fetch(fetch).await), "DestinationIpProhibited", "{guest}");
        assert_eq!((outside.hits(), inside.hits()), (1, 0), "{guest}");
        assert_eq!(host.denied(), [format!("rebind.test (127.0.0.1:{port})")]);
    }
}

#[tokio::test]
async fn of_several_addresses_only_those_that_are_allowed_are_tried() {
    for (guest, _) in FETCHERS {
        let outside = Server::at("127.0.0.2:0", Answer::Bytes(plain("outside"))).await;
        let port = outside.address.port();
        let inside = Server::at(&format!("127.0.0.1:{port}"), Answer::Bytes(plain("inside"))).await;
        let mut setup = Setup::grants(vec![grant_name("mixed.test", port, false)]);
        setup.public = Some(outside.address.ip());
        setup.settings.resolver = Script::new(&[&["127.0.0.1", "::ffff:127.0.0.1", "127.0.0.2"]]);
        let host = setup.start(guest).unwrap();
        let fetched = host.fetch(Fetch::get(format!("mixed.test:{port}"), "/")).await.unwrap();
        assert_eq!((fetched.body.as_slice(), inside.hits()), (b"outside".as_slice(), 0), "{guest}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_its_target_is_decided_anew() {
    for (guest, _) in FETCHERS {
        let secret = Server::ok("secret").await;
        let location =
            format!("HTTP/1.1 302 Found\r\nlocation: http://{}/\r\ncontent-length: 0\r\n\r\n", secret.address);
        let server = Server::start(Answer::Bytes(location.into_bytes())).await;
        let host = Setup::grants(vec![grant(server.address)]).start(guest).unwrap();
        let fetched = host.fetch(Fetch::get(server.authority(), "/")).await.unwrap();
        assert_eq!(fetched.status, 302, "{guest}");
        assert_eq!(code(&host.fetch(Fetch::get(secret.authority(), "/")).await), "HttpRequestDenied", "{guest}");
        assert_eq!(secret.hits(), 0, "{guest}");
    }
}

#[tokio::test]
async fn headers_that_would_cut_or_route_a_message_otherwise_are_refused() {
    for (guest, _) in FETCHERS {
        let server = Server::ok("").await;
        let host = Setup::grants(vec![grant(server.address)]).start(guest).unwrap();
        let to = || Fetch::get(server.authority(), "/");
        for name in ["host", "Host", "transfer-encoding", "connection", "upgrade", "te", "expect", "keep-alive"] {
            let outcome = host.fetch(to().header(name, "x")).await;
            assert_eq!(outcome.unwrap_err(), "HeaderError::Forbidden", "{guest} {name}");
        }
        for (name, value) in
            [("x", "a\r\ny: b"), ("x", "a\ny: b"), ("x\r\ny", "b"), ("x y", "b"), ("content-length", "+1")]
        {
            let outcome = host.fetch(to().header(name, value)).await;
            assert_eq!(outcome.unwrap_err(), "HeaderError::InvalidSyntax", "{guest} {name:?}");
        }
        let twice = to().header("content-length", "4").header("content-length", "40").post("body");
        assert_eq!(host.fetch(twice).await.unwrap_err(), "HeaderError::InvalidSyntax", "{guest}");
        assert_eq!(server.hits(), 0, "{guest}");
        let mut many = to();
        for at in 0..200 {
            many = many.header(&format!("x-{at}"), "");
        }
        assert_eq!(code(&host.fetch(many).await), "HttpRequestHeaderSectionSize", "{guest}");
        assert_eq!(server.hits(), 0, "{guest}");
    }
}

#[tokio::test]
async fn a_body_longer_than_announced_does_not_become_a_second_request() {
    for (guest, _) in FETCHERS {
        let server = Server::ok("").await;
        let host = Setup::grants(vec![grant(server.address)]).start(guest).unwrap();
        let fetch =
            Fetch::get(server.authority(), "/").header("content-length", "4").post("bodyGET /admin HTTP/1.1\r\n\r\n");
        let _error_or_not = host.fetch(fetch).await;
        for request in server.requests() {
            assert!(!request.contains("/admin"), "{guest} {request}");
        }
    }
}

#[tokio::test]
async fn bytes_out_are_metered_and_end_the_call_tree() {
    for (guest, _) in FETCHERS {
        let server = Server::ok("").await;
        let host = Setup::grants(vec![grant(server.address)]).start(guest).unwrap();
        let account = Host::account(Limits { bytes_out: 10_000, ..Limits::default() });
        let fetch = Fetch::get(server.authority(), "/").post(vec![b'x'; 1 << 20]);
        assert_eq!(limit(host.fetch_in(&CallContext::local(), &account, fetch).await), Limit::BytesOut, "{guest}");
        assert!(host.fetch(Fetch::get(server.authority(), "/")).await.is_ok(), "another call goes on");
    }
}

#[tokio::test]
async fn connections_are_limited() {
    for (guest, _) in FETCHERS {
        let server = Server::ok("").await;
        let host = Setup::grants(vec![grant(server.address)]).start(guest).unwrap();
        let account = Host::account(Limits { sockets: 0, ..Limits::default() });
        let outcome = host.fetch_in(&CallContext::local(), &account, Fetch::get(server.authority(), "/")).await;
        assert_eq!(limit(outcome), Limit::Sockets, "{guest}");
        assert_eq!(server.hits(), 0, "{guest}");
    }
}

#[tokio::test]
async fn a_server_that_keeps_silent_is_given_up() {
    for (guest, _) in FETCHERS {
        let silent = Server::start(Answer::Stall(Vec::new())).await;
        let halting = Server::start(Answer::Stall(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf".to_vec())).await;
        let host = Setup::grants(vec![grant(silent.address), grant(halting.address)]).start(guest).unwrap();
        let mut fetch = Fetch::get(silent.authority(), "/");
        fetch.first_byte_ms = Some(20);
        assert_eq!(code(&host.fetch(fetch).await), "ConnectionReadTimeout", "{guest}");
        let mut fetch = Fetch::get(halting.authority(), "/");
        fetch.between_bytes_ms = Some(20);
        assert_eq!(code(&host.fetch(fetch).await), "ConnectionReadTimeout", "{guest}");
    }
}

#[tokio::test]
async fn no_server_outlasts_the_deadline_of_the_call() {
    for (guest, _) in FETCHERS {
        let silent = Server::start(Answer::Stall(Vec::new())).await;
        let host = Setup::grants(vec![grant(silent.address)]).start(guest).unwrap();
        let account = Host::account(Limits { deadline: Duration::from_millis(50), ..Limits::default() });
        let mut fetch = Fetch::get(silent.authority(), "/");
        fetch.first_byte_ms = Some(3_600_000);
        match host.fetch_in(&CallContext::local(), &account, fetch).await {
            // The connection's own timer and the deadline are the same instant; either may be seen first.
            Ok(outcome) => assert_eq!(code(&outcome), "ConnectionReadTimeout", "{guest}"),
            ended => assert_eq!(limit(ended), Limit::Deadline, "{guest}"),
        }
    }
}

#[tokio::test]
async fn a_local_only_call_sends_nothing_and_looks_nothing_up() {
    for (guest, _) in FETCHERS {
        let server = Server::ok("").await;
        let resolver = Script::new(&[&["127.0.0.1"]]);
        let port = server.address.port();
        let mut setup = Setup::grants(vec![grant(server.address), grant_name("inside.test", port, true)]);
        setup.settings.resolver = resolver.clone();
        let host = setup.start(guest).unwrap();
        let context = CallContext::local().narrow_privacy(Privacy::LocalOnly);
        for authority in [server.authority(), format!("inside.test:{port}")] {
            let account = Host::account(Limits::default());
            let outcome = host.fetch_in(&context, &account, Fetch::get(authority, "/")).await.unwrap();
            assert_eq!(code(&outcome), "HttpRequestDenied", "{guest}");
        }
        assert_eq!((server.hits(), resolver.lookups.load(Ordering::SeqCst)), (0, 0), "{guest}");
    }
}

#[tokio::test]
async fn a_flood_of_response_headers_is_cut_off() {
    for (guest, _) in FETCHERS {
        let mut many = b"HTTP/1.1 200 OK\r\n".to_vec();
        let mut large = many.clone();
        for at in 0..1000 {
            many.extend(format!("x-{at}: y\r\n").bytes());
        }
        many.extend(b"content-length: 0\r\n\r\n");
        large.extend(b"x: ");
        large.extend(vec![b'y'; 1 << 20]);
        large.extend(b"\r\ncontent-length: 0\r\n\r\n");
        for flood in [many, large] {
            let server = Server::start(Answer::Bytes(flood)).await;
            let host = Setup::grants(vec![grant(server.address)]).start(guest).unwrap();
            let outcome = host.fetch(Fetch::get(server.authority(), "/")).await;
            assert_eq!(code(&outcome), "HttpResponseHeaderSectionSize", "{guest}");
        }
    }
}

#[tokio::test]
async fn what_a_server_does_wrong_has_the_codes_of_the_standard() {
    for (guest, _) in FETCHERS {
        for (answer, expected) in [
            ("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", "HttpUpgradeFailed"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", "HttpResponseIncomplete"),
            ("nonsense\r\n\r\n", "HttpProtocolError"),
            ("", "HttpResponseIncomplete"),
        ] {
            let server = Server::start(Answer::Bytes(answer.as_bytes().to_vec())).await;
            let host = Setup::grants(vec![grant(server.address)]).start(guest).unwrap();
            assert_eq!(code(&host.fetch(Fetch::get(server.authority(), "/")).await), expected, "{guest} {answer:?}");
        }
    }
}

#[tokio::test]
async fn what_cannot_be_reached_has_the_codes_of_the_standard() {
    for (guest, _) in FETCHERS {
        let closed = {
            let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            server.local_addr().unwrap()
        };
        let mut setup = Setup::grants(vec![grant(closed), grant_name("nowhere.test", 80, true)]);
        setup.settings.resolver = Script::new(&[]);
        let host = setup.start(guest).unwrap();
        assert_eq!(code(&host.fetch(Fetch::get(closed.to_string(), "/")).await), "ConnectionRefused", "{guest}");
        assert_eq!(code(&host.fetch(Fetch::get("nowhere.test", "/")).await), "DnsError", "{guest}");
    }
}

#[tokio::test]
async fn bodies_and_headers_that_are_hoarded_count_as_memory() {
    let host = Setup::grants(vec![grant_name("a.test", 80, false)]).start("fetch-p2").unwrap();
    for hoard in [Hoard("hoard", 500, 1 << 16), Hoard("hoard-headers", 2_000, 10_000)] {
        let name = hoard.0;
        let account = Host::account(Limits { memory: 8 << 20, ..Limits::default() });
        match host.service.call_plain(&CallContext::local(), &account, hoard).await {
            Err(CallError::Limit(exceeded)) => assert_eq!(exceeded.limit, Limit::Memory, "{name}"),
            other => panic!("{name}: expected a limit, not {other:?}"),
        }
        assert_eq!(account.used(Meter::Memory), 0, "{name}");
    }
    let account = Host::account(Limits { memory: 8 << 20, ..Limits::default() });
    host.service.call_plain(&CallContext::local(), &account, Hoard("hoard", 10, 1 << 16)).await.unwrap();
}

#[tokio::test]
async fn whoever_is_asked_is_told_the_trace_by_the_host_and_by_nobody_else() {
    for (guest, _) in FETCHERS {
        let server = Server::ok("").await;
        let host = Setup::grants(vec![grant(server.address)]).start(guest).unwrap();
        let trace = Trace::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
        let state = TraceState::parse(["rojo=1,congo=2"]).unwrap();
        let context = CallContext::local().traced(trace).with_trace_state(state);
        let forged = "00-11111111111111111111111111111111-2222222222222222-01";
        let fetch = Fetch::get(server.authority(), "/").header("traceparent", forged).header("tracestate", "forged=1");
        host.fetch_in(&context, &Host::account(Limits::default()), fetch).await.unwrap().unwrap();
        let request = server.requests().remove(0);
        let told: Vec<&str> = request.lines().filter_map(|line| line.strip_prefix("traceparent: ")).collect();
        let [told] = told[..] else { panic!("{guest}: {request}") };
        let told = Trace::parse(told).unwrap();
        assert_eq!((told.id(), told.sampled()), (trace.id(), true), "{guest}");
        assert_ne!(told.span(), trace.span(), "the request is a span of its own");
        let states: Vec<&str> = request.lines().filter_map(|line| line.strip_prefix("tracestate: ")).collect();
        assert_eq!(states, ["rojo=1,congo=2"], "{guest}");
        let stateless = CallContext::local().traced(trace);
        let fetch = Fetch::get(server.authority(), "/").header("tracestate", "forged=1");
        host.fetch_in(&stateless, &Host::account(Limits::default()), fetch).await.unwrap().unwrap();
        assert!(!server.requests().remove(1).contains("tracestate"), "{guest}");

        let mut silent = Setup::grants(vec![grant(server.address)]);
        silent.settings.propagate = false;
        let host = silent.start(guest).unwrap();
        let fetch = Fetch::get(server.authority(), "/");
        host.fetch_in(&context, &Host::account(Limits::default()), fetch).await.unwrap().unwrap();
        assert!(!server.requests()[2].contains("traceparent"), "{guest}");
    }
}
