//! What the front refuses, and what it lets through.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    net::TcpStream,
    task::JoinHandle,
};
use witan_api::{ListenError, Requests, Settings, serve};
use witan_tasks::State;
use witan_throttle::GateSettings;

use crate::world::{Answer, World, task};

#[tokio::test]
async fn requests_for_other_hosts_are_refused_on_routes_and_mounts() {
    let world = World::new().await;
    for path in ["/healthz", "/v1/tasks", "/mirror", "/none"] {
        let request = world.client.get(world.url(path)).header("host", "evil.example");
        let answer = Answer::of(request.send().await.unwrap()).await;
        assert_eq!((answer.status, answer.code().as_str()), (421, "host_not_allowed"), "{path}");
    }
    let request = world.client.get(world.url("/healthz")).header("host", format!("localhost:{}", world.address.port()));
    assert_eq!(request.send().await.unwrap().status(), 200);
    let without = world.raw(b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n").await;
    assert!(without.starts_with("HTTP/1.1 400"), "{without}");
}

#[tokio::test]
async fn pages_of_other_origins_are_refused_on_routes_and_mounts() {
    let world = World::new().await;
    for path in ["/v1/tasks", "/mirror"] {
        for origin in ["http://evil.example", "null"] {
            let request = world.client.post(world.url(path)).header("origin", origin).json(&task("a"));
            let answer = Answer::of(request.send().await.unwrap()).await;
            assert_eq!((answer.status, answer.code().as_str()), (403, "origin_not_allowed"));
        }
    }
    assert_eq!(world.newest().await, None);
    let own = world.client.post(world.url("/v1/tasks?wait=60")).header("origin", world.url("")).json(&task("a"));
    assert_eq!(own.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn routes_take_json_only_and_mounts_take_anything() {
    let world = World::new().await;
    let json = task("a").to_string();
    for path in ["/v1/tasks", "/v1/tasks/x/cancel", "/v1/host/stop"] {
        for kind in [None, Some("text/plain"), Some("application/x-www-form-urlencoded"), Some("application/jsonp")] {
            let mut request = world.client.post(world.url(path)).body(json.clone());
            if let Some(kind) = kind {
                request = request.header("content-type", kind);
            }
            let answer = Answer::of(request.send().await.unwrap()).await;
            assert_eq!((answer.status, answer.code().as_str()), (415, "unsupported_media_type"), "{path} {kind:?}");
        }
    }
    let named =
        world.client.post(world.url("/v1/tasks?wait=60")).header("content-type", "Application/JSON; charset=utf-8");
    assert_eq!(named.body(json).send().await.unwrap().status(), 200);
    let mirrored = world.client.post(world.url("/mirror/a")).body("text").send().await.unwrap();
    assert_eq!(Answer::of(mirrored).await.text, "POST /mirror/a text");
}

#[tokio::test]
async fn bodies_are_bounded_on_routes_and_mounts() {
    let world = World::bounded(Settings { body_bytes: 1_000, ..Settings::default() }).await;
    let large = task(&"a".repeat(1_000)).to_string();
    for path in ["/v1/tasks", "/mirror"] {
        let announced =
            world.client.post(world.url(path)).header("content-type", "application/json").body(large.clone());
        let answer = Answer::of(announced.send().await.unwrap()).await;
        assert_eq!((answer.status, answer.code().as_str()), (413, "body_too_large"));
        assert_eq!(answer.json()["error"]["setting"], "--max-body");
        assert!(answer.json()["error"]["message"].as_str().unwrap().contains("1000 bytes"));

        let chunked = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\
             Connection: close\r\n\r\n{:x}\r\n{large}\r\n0\r\n\r\n",
            world.address,
            large.len()
        );
        let answer = world.raw(chunked.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("body_too_large"), "{answer}");
    }
    assert_eq!(world.echo("?wait=60", &"a".repeat(500)).await.status, 200);
}

#[tokio::test]
async fn headers_are_bounded_in_number_and_size() {
    let world = World::new().await;
    let request = |headers: &str| {
        format!("GET /healthz HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{headers}\r\n", world.address)
    };
    let few: String = (0..90).map(|number| format!("x-{number}: a\r\n")).collect();
    assert!(world.raw(request(&few).as_bytes()).await.starts_with("HTTP/1.1 200"));
    let many: String = (0..200).map(|number| format!("x-{number}: a\r\n")).collect();
    let answer = world.raw(request(&many).as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let long = format!("x-long: {}\r\n", "a".repeat(100_000));
    let answer = world.raw(request(&long).as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
}

#[tokio::test]
async fn a_client_that_does_not_send_its_headers_is_let_go() {
    let world = World::bounded(Settings { header_time: Duration::from_millis(100), ..Settings::default() }).await;
    for sent in ["", "P", "PRI * HTTP/2.0\r\n", "GET /healthz HTTP/1.1\r\nHost: a", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
    {
        let answer = world.raw(sent.as_bytes()).await;
        assert!(!answer.contains(" 200"), "{sent}: {answer}");
    }
    assert_eq!(world.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn a_client_that_does_not_send_its_body_is_told_so() {
    let world = World::bounded(Settings { body_time: Duration::from_millis(100), ..Settings::default() }).await;
    for path in ["/v1/tasks", "/mirror"] {
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{{",
            world.address
        );
        let answer = world.raw(request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("request_timeout"), "{answer}");
    }
}

#[tokio::test]
async fn requests_beyond_the_bound_are_told_to_come_back() {
    let gate = GateSettings { at_once: 1, queue: 0 };
    let world = World::limited(Requests::new(Default::default(), gate)).await;
    let (url, client) = (world.url("/v1/tasks?wait=60"), world.client.clone());
    let first = tokio::spawn(async move { client.post(url).json(&task("wait")).send().await.unwrap().status() });
    while world.tasks.unfinished() == 0 {
        tokio::task::yield_now().await;
    }
    for path in ["/v1/host", "/mirror"] {
        let refused = world.get(path).await;
        assert_eq!((refused.status, refused.code().as_str()), (503, "overloaded"));
        assert_eq!((refused.header("retry-after"), refused.header("retry-after-ms")), (Some("1"), Some("1000")));
    }
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(world.get(path).await.status, 200, "{path} is for who looks after a host that is full");
    }
    world.permits.add_permits(1);
    assert_eq!(first.await.unwrap(), 200);
    assert_eq!(world.get("/v1/host").await.status, 200);
}

#[tokio::test]
async fn http_2_is_spoken_without_tls_and_held_to_the_same_rules() {
    let world = World::new().await;
    let stream = TcpStream::connect(world.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = |host: &str, path: &str, body: &str| {
        let request = http::Request::post(format!("http://{host}{path}")).header("content-type", "application/json");
        request.body(Full::new(Bytes::from(body.to_owned()))).unwrap()
    };
    let ours = world.address.to_string();
    let answer = sender.send_request(request(&ours, "/v1/tasks?wait=60", &task("a").to_string())).await.unwrap();
    assert_eq!((answer.version(), answer.status().as_u16()), (http::Version::HTTP_2, 200));
    let answer = sender.send_request(request(&ours, "/mirror", "body")).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "POST /mirror body");
    let answer = sender.send_request(request("evil.example", "/v1/tasks", "{}")).await.unwrap();
    assert_eq!(answer.status().as_u16(), 421);
}

#[tokio::test]
async fn the_id_of_a_request_comes_back() {
    let world = World::new().await;
    let given = world.client.get(world.url("/mirror")).header("x-request-id", "mine-7").send().await.unwrap();
    assert_eq!(given.headers()["x-request-id"], "mine-7");
    let (one, other) = (world.get("/mirror").await, world.get("/healthz").await);
    assert!(one.header("x-request-id").is_some() && one.header("x-request-id") != other.header("x-request-id"));
    let long = world.client.get(world.url("/mirror")).header("x-request-id", "a".repeat(1_000)).send().await.unwrap();
    assert!(long.headers()["x-request-id"].len() < 128);
}

#[tokio::test]
async fn a_host_that_stops_finishes_what_is_under_way() {
    let mut world = World::new().await;
    let (url, client) = (world.url("/v1/tasks?wait=60"), world.client.clone());
    let waiting =
        tokio::spawn(async move { Answer::of(client.post(url).json(&task("wait")).send().await.unwrap()).await });
    let id = loop {
        if let Some(id) = world.newest().await {
            break id;
        }
        tokio::task::yield_now().await;
    };
    // One that waits still would be left to the next host.
    world.task(id).await.event_after(1).await;
    world.stop();
    while !world.tasks.draining() {
        tokio::task::yield_now().await;
    }
    assert!(TcpStream::connect(world.address).await.is_err());
    world.permits.add_permits(1);
    assert_eq!(waiting.await.unwrap().status, 200);
    world.served.await.unwrap();
}

#[tokio::test]
async fn a_host_that_stops_ends_what_takes_too_long() {
    let mut world = World::bounded(Settings { drain: Duration::from_millis(50), ..Settings::default() }).await;
    let submitted = world.echo("", "wait").await;
    let id = submitted.json()["id"].as_str().unwrap().parse().unwrap();
    let task = world.task(id).await;
    while task.state() != State::Working {
        task.event_after(1).await;
    }
    // A connection that never ends by itself.
    let mut idle = TcpStream::connect(world.address).await.unwrap();
    let half = format!("POST /mirror HTTP/1.1\r\nHost: {}\r\nContent-Length: 9\r\n\r\n", world.address);
    tokio::io::AsyncWriteExt::write_all(&mut idle, half.as_bytes()).await.unwrap();
    world.stop();
    world.served.await.unwrap();
    // It is left to the next host, which says what became of it.
    assert_eq!(task.state(), State::Working);
    let _reset = idle.read_to_end(&mut Vec::new()).await;
}

#[tokio::test]
async fn an_address_that_other_machines_reach_is_not_served() {
    let world = World::new().await;
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let refused = serve(listener, world.api.clone(), std::future::pending()).await;
    assert!(matches!(refused, Err(ListenError::NobodyAsks(_))));
}

type Sender = hyper::client::conn::http2::SendRequest<Full<Bytes>>;

/// A client of HTTP/2 that answers whatever the host asks of it, with such a window for each answer, and its connection.
async fn http_2(world: &World, window: u32) -> (Sender, JoinHandle<hyper::Result<()>>) {
    let stream = TcpStream::connect(world.address).await.unwrap();
    let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let (sender, connection) =
        builder.initial_stream_window_size(window).handshake(TokioIo::new(stream)).await.unwrap();
    (sender, tokio::spawn(connection))
}

fn get(world: &World, path: &str) -> http::Request<Full<Bytes>> {
    http::Request::get(format!("http://{}{path}", world.address)).body(Full::default()).unwrap()
}

#[tokio::test]
async fn a_connection_without_requests_is_let_go_and_one_with_a_request_is_not() {
    let world = World::bounded(Settings { header_time: Duration::from_millis(100), ..Settings::default() }).await;
    let (client, url) = (world.client.clone(), world.url("/v1/tasks?wait=60"));
    let first = tokio::spawn(async move { client.post(url).json(&task("wait")).send().await.unwrap().status() });
    let (mut sender, _connection) = http_2(&world, 65_535).await;
    let request = http::Request::post(world.url("/v1/tasks?wait=60")).header("content-type", "application/json");
    let request = request.body(Full::new(Bytes::from(task("wait").to_string()))).unwrap();
    let second = tokio::spawn(async move { sender.send_request(request).await.unwrap().status() });
    while world.tasks.unfinished() < 2 {
        tokio::task::yield_now().await;
    }
    // Each takes as long as a connection may be idle. A request that was refused is no reason to stay either.
    for path in ["/healthz", "/none", "/v1/host/stop"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", world.address);
        assert!(world.raw(request.as_bytes()).await.starts_with("HTTP/1.1 "));
        let (mut sender, connection) = http_2(&world, 65_535).await;
        let answer = sender.send_request(get(&world, path)).await.unwrap();
        answer.into_body().collect().await.unwrap();
        connection.await.unwrap().unwrap();
        let refused = http::Request::get(format!("http://evil.example{path}")).body(Full::default()).unwrap();
        let (mut sender, connection) = http_2(&world, 65_535).await;
        assert_eq!(sender.send_request(refused).await.unwrap().status(), 421);
        connection.await.unwrap().unwrap();
    }
    world.permits.add_permits(2);
    for waiting in [first, second] {
        assert_eq!(waiting.await.unwrap(), 200);
    }
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_its_answers_is_let_go() {
    let world = World::bounded(Settings { body_time: Duration::from_millis(100), ..Settings::default() }).await;
    let (mut sender, connection) = http_2(&world, 0).await;
    let answer = sender.send_request(get(&world, "/openapi.json")).await.unwrap();
    // The connection is alive, and answers what the host asks; there is no room for the body.
    let _ended = connection.await.unwrap();
    assert!(answer.into_body().collect().await.is_err());
    // A large answer that is taken arrives whole.
    let (mut sender, _connection) = http_2(&world, 1_000).await;
    let answer = sender.send_request(get(&world, "/openapi.json")).await.unwrap();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(world.get("/openapi.json").await.text.as_bytes(), body);
}

#[tokio::test]
async fn one_address_does_not_hold_every_connection() {
    let world = World::bounded(Settings { connections: 8, ..Settings::default() }).await;
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {}\r\n\r\n", world.address);
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        held.push(stream);
    }
    assert_eq!(world.raw(b"").await, "", "this machine has a half, and one more is closed at once");
    held.pop();
    while world.raw(request.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n").as_bytes()).await.is_empty() {
        tokio::task::yield_now().await;
    }
}
