//! Serves a greeting, natively or by a component, and measures requests a second at 32 connections.
//!
//! `hello native PORT`, `hello WASM PORT [fresh|serial]` and, from another process, `hello load PORT SECONDS`. Everything
//! that holds in the product holds here: context, account, limits, guard and spans; only the listener is axum's own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a measurement may stop where it stands")]

use std::{
    env,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Router, body::Body, extract::Request, routing::get};
use http::uri::Scheme;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use wasmtime::component::{Component as Code, Linker};
use witan_capability::{CallContext, Capability as _, Component, Kernel, Limits};
use witan_engine::{Engine, Service, ServiceSettings, Settings, Version};
use witan_policy::{DecisionLog, GrantPolicy};
use witan_system::{Instances, Reuse};

const CONNECTIONS: usize = 32;

#[tokio::main(worker_threads = 2)]
async fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let port: u16 = arguments[1].parse().expect("the second argument is a port");
    let third = arguments.get(2).map_or("fresh", String::as_str);
    match arguments[0].as_str() {
        "load" => load(port, Duration::from_secs(third.parse().expect("the third argument is a number"))).await,
        "native" => listen(port, Router::new().route("/", get(|| async { "Hello, world!\n" }))).await,
        wasm => listen(port, component(wasm, if third == "serial" { Reuse::Serial } else { Reuse::Fresh })).await,
    }
}

async fn listen(port: u16, router: Router) {
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    axum::serve(listener, router).await.unwrap();
}

fn component(wasm: &str, reuse: Reuse) -> Router {
    let engine = Engine::new(Settings::default()).unwrap();
    let mut linker = Linker::new(engine.wasmtime());
    witan_wasi::Baseline.add_to_linker(&mut linker).unwrap();
    witan_http::Types.add_to_linker(&mut linker).unwrap();
    let pre = linker.instantiate_pre(&Code::from_file(engine.wasmtime(), wasm).unwrap()).unwrap();
    let component = Arc::new(Component { name: "hello".into(), digest: [0; 32], grants: Arc::default() });
    let instances = Instances { reuse, keep: 64, ..Instances::default() };
    let version = Version::new(engine.clone(), component, pre, instances);
    let kernel = Kernel::new(Arc::new(GrantPolicy::new(DecisionLog::in_memory())));
    let service = Service::new("hello", kernel, ServiceSettings::default(), version);
    let context = CallContext::local();
    Router::new().fallback(move |request: Request| {
        let (service, context, account) = (service.clone(), context.clone(), engine.open_account(Limits::default()));
        async move {
            let request = witan_http::incoming(request, Scheme::HTTP).unwrap();
            witan_http::serve(&service, &context, &account, request).await.unwrap().map(Body::new)
        }
    })
}

async fn load(port: u16, time: Duration) {
    let until = Instant::now() + time;
    let connections: Vec<_> = (0..CONNECTIONS).map(|_| tokio::spawn(ask(port, until))).collect();
    let mut requests = 0;
    for connection in connections {
        requests += connection.await.unwrap();
    }
    println!("{:.0} requests/s", f64::from(requests) / time.as_secs_f64());
}

/// Asks again and again on one connection. Counts the answers.
async fn ask(port: u16, until: Instant) -> u32 {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut answers = 0;
    let mut buffer = [0; 1024];
    while Instant::now() < until {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        let mut filled = 0;
        while !whole(&buffer[..filled]) {
            let read = stream.read(&mut buffer[filled..]).await.unwrap();
            assert!(read > 0, "the server closed the connection");
            filled += read;
        }
        answers += 1;
    }
    answers
}

/// Whether an answer is all there, by its length or by its last chunk.
fn whole(answer: &[u8]) -> bool {
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(answer));
    answer.ends_with(b"Hello, world!\n") || answer.ends_with(b"0\r\n\r\n")
}
