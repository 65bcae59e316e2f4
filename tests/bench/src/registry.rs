//! A registry: what it serves, beside a server of files, and what it takes, beside another registry.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, ensure};
use axum::serve::ListenerExt as _;
use futures::future::try_join_all;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tower_http::services::ServeDir;
use witan_admission::verify;
use witan_authority::Version;
use witan_registry_client::{Client, Credentials, Settings};
use witan_registry_types::{Artifact, Digest, Host, Mapping, Package};
use witan_test_tools::{DockerRegistry, Tool};

use crate::{
    Setting,
    process::Server,
    rounds::{Best, ratio, time},
    runtime,
    table::{Figure, Row},
    verify::{Author, component},
};

/// What makes a component one megabyte larger.
const BLOB: usize = 1 << 20;
/// Times that it is asked for in one round.
const GETS: u32 = 100;
const ROUNDS: usize = 10;
/// Pulls at once.
const PULLS: usize = 1_000;
/// Versions that are pushed, each with a component of one megabyte.
const PUSHES: u32 = 40;

pub(crate) fn measure(setting: &Setting) -> anyhow::Result<Vec<Row>> {
    let registry = Ours::start(setting)?;
    let runtime = runtime()?;
    let author = Author::new()?;
    let mut rows = vec![runtime.block_on(blob(&registry))?];
    rows.extend(runtime.block_on(pulls(setting, &registry, &author))?);
    rows.push(runtime.block_on(pushes(&registry))?);
    Ok(rows)
}

/// `witan registry serve`, with room for a load from one address.
struct Ours {
    server: Server,
    token: String,
    _folder: TempDir,
}

impl Ours {
    fn start(setting: &Setting) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let data = folder.path().join("data").display().to_string();
        let settings = folder.path().join("registry.toml");
        let limits = "requests-per-second = 1000000\nrequest-burst = 1000000\n";
        let text = format!("data = \"{data}\"\nlisten = \"127.0.0.1:0\"\nanonymous-pull = true\n[limits]\n{limits}");
        fs::write(&settings, text)?;
        let made = Command::new(&setting.witan)
            .args(["registry", "token", "create", "bench", "--scope", "*:pull,push", "--json", "--settings"])
            .arg(&settings)
            .output()?;
        ensure!(made.status.success(), "no token was made: {}", String::from_utf8_lossy(&made.stderr));
        let made: serde_json::Value = serde_json::from_slice(&made.stdout)?;
        let token = made["secret"].as_str().context("it has no secret")?.to_owned();
        let server =
            Server::start(&setting.witan, &["registry", "serve", "--settings", &settings.display().to_string()])?;
        Ok(Self { server, token, _folder: folder })
    }

    fn client(&self) -> anyhow::Result<Client> {
        client(&self.server.address, Some(&self.token))
    }
}

fn client(address: &str, token: Option<&str>) -> anyhow::Result<Client> {
    let host: Host = address.parse()?;
    let mut settings = Settings::default();
    if let Some(token) = token {
        settings.credentials.insert(host.clone(), Credentials::new("bench", token));
    }
    Ok(Client::new(host, Mapping::default(), settings)?)
}

/// A blob from the registry, and the same from a server of files.
async fn blob(registry: &Ours) -> anyhow::Result<Row> {
    let (package, artifact) = unsigned(0)?;
    registry.client()?.publish(&package, &artifact).await?;
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("blob"), &artifact.layer)?;
    let this = std::env::current_exe()?;
    let files = Server::start(&this, &["files", &folder.path().display().to_string()])?;
    let repository = registry.client()?.repository(&package.name);
    let digest = Digest::of(&artifact.layer);
    let path = format!("/v2/{repository}/blobs/{digest}");
    let mut ours = Kept::open(&registry.server.address, &path).await?;
    let mut floor = Kept::open(&files.address, "/blob").await?;
    let mut best = Best::new();
    for _ in 0..ROUNDS {
        best.note([ours.gets().await?, floor.gets().await?]);
    }
    let [ours, floor] = best.all();
    Ok(Row {
        measure: "a blob of 1 MiB from the registry, over a kept connection".to_owned(),
        value: time(ours),
        floor: format!("{}, a server of files alone", time(floor)),
        figure: Figure::AtMost { value: ratio(ours, floor), bar: 1.5, aim: None, unit: "" },
    })
}

/// A connection on which one thing is asked for again and again.
struct Kept {
    stream: TcpStream,
    request: String,
    buffer: Vec<u8>,
}

impl Kept {
    async fn open(address: &str, path: &str) -> anyhow::Result<Self> {
        let address: SocketAddr = address.parse()?;
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n");
        Ok(Self { stream, request, buffer: vec![0; 256 << 10] })
    }

    async fn gets(&mut self) -> anyhow::Result<Duration> {
        let started = Instant::now();
        for _ in 0..GETS {
            self.get().await?;
        }
        Ok(started.elapsed() / GETS)
    }

    async fn get(&mut self) -> anyhow::Result<()> {
        self.stream.write_all(self.request.as_bytes()).await?;
        let (mut filled, head) = (0, b"\r\n\r\n");
        let mut left = loop {
            let read = self.stream.read(&mut self.buffer[filled..]).await?;
            ensure!(read > 0, "the server closed the connection");
            filled += read;
            let Some(end) = self.buffer[..filled].windows(head.len()).position(|found| found == head) else { continue };
            let text = std::str::from_utf8(&self.buffer[..end])?.to_ascii_lowercase();
            ensure!(text.starts_with("http/1.1 200"), "the server answered {text}");
            let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.context("the answer has no length")?.parse()?;
            ensure!(length > BLOB, "the answer has {length} bytes");
            break length - (filled - end - head.len());
        };
        while left > 0 {
            let read = self.stream.read(&mut self.buffer).await?;
            ensure!(read > 0, "the answer broke off");
            left = left.saturating_sub(read);
        }
        Ok(())
    }
}

/// Serves `folder` until it is ended.
pub(crate) async fn files(folder: &Path) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", serde_json::json!({ "url": format!("http://{}", listener.local_addr()?) }));
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    Ok(axum::serve(listener, axum::Router::new().fallback_service(ServeDir::new(folder))).await?)
}

/// A package from the registry, verified; and very many at once.
async fn pulls(setting: &Setting, registry: &Ours, author: &Author) -> anyhow::Result<[Row; 2]> {
    let wasm = component(&setting.root, "summarize")?;
    let size = wasm.len() / 1024;
    let package: Package = "witan:summarize@1.0.0".parse()?;
    let (digest, artifact) = author.publish(&package, wasm);
    registry.client()?.publish(&package, &artifact).await?;
    let (client, trust) = (Arc::new(client(&registry.server.address, None)?), author.trust()?);
    let mut best = Best::new();
    for _ in 0..ROUNDS {
        let started = Instant::now();
        let artifact = client.fetch(&package, &digest, &|_| {}).await?;
        verify(&trust, &package, &digest, &artifact, SystemTime::now())?;
        best.note([started.elapsed()]);
    }
    let [pulled] = best.all();
    let started = Instant::now();
    try_join_all((0..PULLS).map(|_| pull(client.clone(), package.clone(), digest))).await?;
    let all = started.elapsed();
    Ok([
        Row {
            measure: format!("— a whole pull, verified: `summarize`, {size} KiB, 3 attestations"),
            value: time(pulled),
            floor: String::new(),
            figure: Figure::Report,
        },
        Row {
            measure: format!("{PULLS} pulls of it at once (bar: no error)"),
            value: time(all),
            floor: format!("{:.0} pulls/s", PULLS as f64 / all.as_secs_f64()),
            figure: Figure::AtMost { value: 0.0, bar: 0.0, aim: None, unit: " errors" },
        },
    ])
}

async fn pull(client: Arc<Client>, package: Package, digest: Digest) -> anyhow::Result<()> {
    let fetched = tokio::spawn(async move { client.fetch(&package, &digest, &|_| {}).await.map(drop) });
    Ok(fetched.await??)
}

/// Versions pushed one after another, to ours and to `docker-registry` where that is installed.
async fn pushes(registry: &Ours) -> anyhow::Result<Row> {
    let folder = tempfile::tempdir()?;
    let started = |found| DockerRegistry::start(&found, folder.path());
    let other = Tool::DockerRegistry.find().map(started).transpose().context("docker-registry does not serve")?;
    let ours = registry.client()?;
    let theirs = other.as_ref().map(|other| client(other.host(), None)).transpose()?;
    let (mut at_ours, mut at_theirs) = (Duration::ZERO, Duration::ZERO);
    for number in 1..=PUSHES {
        let (package, artifact) = unsigned(number)?;
        at_ours += push(&ours, &package, &artifact).await?;
        if let Some(theirs) = &theirs {
            at_theirs += push(theirs, &package, &artifact).await?;
        }
    }
    let rate = |taken: Duration| f64::from(PUSHES) / taken.as_secs_f64();
    Ok(Row {
        measure: format!("{PUSHES} versions of 1 MiB pushed one after another"),
        value: format!("{:.0} versions/s", rate(at_ours)),
        floor: match theirs {
            Some(_) => format!("{:.0} versions/s, docker-registry", rate(at_theirs)),
            None => "docker-registry is not here; `cargo xtask test` gets it".to_owned(),
        },
        figure: Figure::Report,
    })
}

async fn push(client: &Client, package: &Package, artifact: &Artifact) -> anyhow::Result<Duration> {
    let started = Instant::now();
    let published = client.publish(package, artifact).await?;
    ensure!(!published.was_there, "`{package}` was there");
    Ok(started.elapsed())
}

/// A version that nobody has signed, whose component has a megabyte that no other has.
fn unsigned(number: u32) -> anyhow::Result<(Package, Artifact)> {
    let package: Package = format!("witan:blob@1.0.{number}").parse()?;
    let mut blob = vec![0; BLOB];
    blob[..4].copy_from_slice(&number.to_be_bytes());
    let version = Version::of(&package).with_section("blob", &blob);
    let manifest = version.manifest();
    Ok((package, Artifact { manifest, config: version.config.to_json(), layer: version.wasm, bundles: Vec::new() }))
}
