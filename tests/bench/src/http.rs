//! A greeting over HTTP: served by a component, and by nothing but axum.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::ensure;
use axum::{Router, routing::get};
use futures::future::try_join_all;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::{
    Setting,
    process::{Server, memory},
    table::{Figure, Row},
};

/// Connections, each with one request under way.
const CONNECTIONS: usize = 32;

/// Seconds of one round.
const SECONDS: u64 = 4;

/// Rounds, of which the best counts.
const ROUNDS: usize = 4;

/// What is left after a load: the pools have had time to give back what they will.
const REST: Duration = Duration::from_secs(10);

const GREETING: &str = "Hello, world!\n";

pub(crate) fn measure(setting: &Setting) -> anyhow::Result<Vec<Row>> {
    let this = std::env::current_exe()?;
    let program = |name: &str| setting.root.join("tests/programs/build").join(name).display().to_string();
    let (p2, p3) = (program("hello-p2.wasm"), program("hello-p3.wasm"));
    let mut servers = vec![
        ("native", Server::start(&this, &["native"])?),
        ("p2 fresh", Server::start(&setting.witan, &["serve", &p2, "--listen", "127.0.0.1:0"])?),
        ("p3 serial", Server::start(&setting.witan, &["serve", &p3, "--reuse", "serial", "--listen", "127.0.0.1:0"])?),
        (
            "p3 concurrent",
            Server::start(&setting.witan, &["serve", &p3, "--reuse", "concurrent", "--listen", "127.0.0.1:0"])?,
        ),
        ("p3 fresh", Server::start(&setting.witan, &["serve", &p3, "--listen", "127.0.0.1:0"])?),
    ];
    const RESIDENT: [&str; 4] = [
        "-Scli",
        "-Opooling-allocator=y",
        "-Opooling-memory-keep-resident=2097152",
        "-Opooling-table-keep-resident=2097152",
    ];
    for (name, file, options) in
        [("wasmtime p2", &p2, &RESIDENT[..]), ("wasmtime p3", &p3, &["-Sp3=y", "-Wcomponent-model-async=y"])]
    {
        servers.extend(Server::wasmtime(file, options)?.map(|server| (name, server)));
    }
    let mut best: BTreeMap<&str, f64> = BTreeMap::new();
    for _ in 0..ROUNDS {
        for (name, server) in &servers {
            let rate = asked(&this, &server.address)?;
            let best = best.entry(name).or_default();
            *best = best.max(rate);
        }
    }
    std::thread::sleep(REST);
    let native = best["native"];
    let row = |measure: &str, name: &str, bar: Option<(f64, f64)>| Row {
        measure: measure.to_owned(),
        value: format!("{:.0} requests/s", best[name]),
        floor: format!("{native:.0} requests/s, axum alone"),
        figure: match bar {
            Some((bar, aim)) => Figure::AtLeast { value: best[name] / native, bar, aim: Some(aim) },
            None => Figure::Report,
        },
    };
    let fresh = best["p3 fresh"] / native;
    let mut rows = vec![
        row("`witan serve`, hello, WASI 0.2, fresh instance a request, 32 connections", "p2 fresh", Some((0.26, 0.35))),
        row("the same, WASI 0.3, `--reuse serial`", "p3 serial", Some((0.42, 0.6))),
        row("the same, WASI 0.3, `--reuse concurrent`", "p3 concurrent", Some((0.42, 0.6))),
        row(&format!("the same, WASI 0.3, fresh instance a request: {fresh:.2}"), "p3 fresh", None),
    ];
    for (name, ours, what) in [
        ("wasmtime p2", "p2 fresh", "fresh instances, 2 MiB kept resident"),
        ("wasmtime p3", "p3 serial", "WASI 0.3, its reuse of instances"),
    ] {
        let Some(theirs) = best.get(name) else { continue };
        rows.push(Row {
            measure: format!("`wasmtime serve` with the same component, {what}: {:.2} of axum", theirs / native),
            value: format!("{theirs:.0} requests/s"),
            floor: format!("ours is {:.2} of it", best[ours] / theirs),
            figure: Figure::Report,
        });
    }
    for (name, server) in &servers {
        if !["native", "wasmtime p2", "wasmtime p3"].contains(name) {
            let measure = format!("resident memory 10 s after that load: {name}");
            rows.push(memory(&measure, server.resident()?, Some(128.0)));
        }
    }
    Ok(rows)
}

/// Answers a second that a process of its own got.
fn asked(this: &Path, address: &str) -> anyhow::Result<f64> {
    let output = Command::new(this).args(["load", address, &SECONDS.to_string()]).output()?;
    ensure!(output.status.success(), "the load failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

/// Serves the greeting without any component.
pub(crate) async fn native() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", serde_json::json!({ "url": format!("http://{}", listener.local_addr()?) }));
    let router = Router::new().route("/", get(|| async { GREETING }));
    Ok(axum::serve(listener, router).await?)
}

/// Asks on every connection for `seconds`, on one thread, and prints the answers a second.
pub(crate) fn load(address: SocketAddr, seconds: u64) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let until = Instant::now() + Duration::from_secs(seconds);
    let answers = runtime.block_on(try_join_all((0..CONNECTIONS).map(|_| connection(address, until))))?;
    println!("{}", answers.iter().sum::<u64>() / seconds);
    Ok(())
}

/// Asks again and again on one connection. Returns the number of whole answers.
async fn connection(address: SocketAddr, until: Instant) -> anyhow::Result<u64> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let request = format!("GET / HTTP/1.1\r\nhost: {address}\r\n\r\n");
    let mut answers = 0;
    let mut buffer = [0; 1024];
    while Instant::now() < until {
        stream.write_all(request.as_bytes()).await?;
        let mut filled = 0;
        while !whole(&buffer[..filled])? {
            let read = stream.read(&mut buffer[filled..]).await?;
            ensure!(read > 0, "the server closed the connection");
            filled += read;
        }
        answers += 1;
    }
    Ok(answers)
}

/// Whether an answer is all there, by its length or by its last chunk.
fn whole(answer: &[u8]) -> anyhow::Result<bool> {
    let text = String::from_utf8_lossy(answer);
    ensure!(answer.is_empty() || text.starts_with("HTTP/1.1 200"), "the server answered {text}");
    ensure!(!text.ends_with("0\r\n\r\n") || text.contains(GREETING), "the answer is another: {text}");
    Ok(answer.ends_with(GREETING.as_bytes()) || answer.ends_with(b"0\r\n\r\n"))
}
