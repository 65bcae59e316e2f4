//! A host of one guest, and the servers that it talks to.

use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use wasmtime::component::{Accessor, Component as Code, ComponentType, Instance, Lift, Linker, Lower};
use witan_build::{Checkout, Progress, Workspace};
use witan_capability::{
    Account, CallContext, CallError, CallState, Capability as _, Component, Decision, Kernel, Limits, Policy, Request,
    Resource,
};
use witan_egress::Resolver;
use witan_engine::{Engine, Invocation, Reply, Service, ServiceSettings, Settings, Version};
use witan_http::{Client, Types};
use witan_policy::{DecisionLog, GrantPolicy};
use witan_system::{Grants, HttpGrant, Instances, Pool, Reuse, Scheme, SecretGrant};
use witan_wasi::Baseline;

/// The guests that send, by the version they send with, and their export.
pub const FETCHERS: [(&str, &str); 2] = [("fetch-p2", "test:fetch/fetch-sync"), ("fetch-p3", "test:fetch/fetch")];

/// The guests that serve.
pub const SERVERS: [&str; 2] = ["serve-p2", "serve-p3"];

static ENGINE: LazyLock<Arc<Engine>> = LazyLock::new(|| {
    Engine::new(Settings { pool: Pool { instances: 100, ..Pool::default() }, ..Settings::default() }).unwrap()
});

/// Builds the guests once.
static GUESTS: LazyLock<Checkout> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let checkout = Checkout::at(root).unwrap();
    checkout.build_missing(Workspace::Programs, &Progress::hidden()).unwrap();
    checkout
});

/// Compiled once for all tests: that is what takes time.
fn code(guest: &str) -> Code {
    static CODE: Mutex<Vec<(String, Code)>> = Mutex::new(Vec::new());
    let mut compiled = CODE.lock().unwrap();
    if let Some((_, code)) = compiled.iter().find(|(name, _)| name == guest) {
        return code.clone();
    }
    let path = GUESTS.build_folder(Workspace::Programs).join(format!("{guest}.wasm"));
    let code = Code::from_file(ENGINE.wasmtime(), path).unwrap();
    compiled.push((guest.to_owned(), code.clone()));
    code
}

/// The kernel's own policy, which takes `public` for an address of the internet: nothing in a test may leave this
/// machine.
pub struct Judge {
    grants: GrantPolicy,
    public: Option<IpAddr>,
}

impl Policy for Judge {
    fn decide(&self, request: &Request<'_>) -> Decision {
        match request.resource {
            Resource::Address { address, .. } if self.public == Some(address.ip()) => Decision::Allow,
            _ => self.grants.decide(request),
        }
    }
}

/// A guest with its grants.
pub struct Host {
    pub service: Arc<Service>,
    pub policy: Arc<Judge>,
    pub kernel: Arc<Kernel>,
    export: &'static str,
}

/// How a host is set up.
#[derive(Default)]
pub struct Setup {
    pub grants: Vec<HttpGrant>,
    pub secrets: Vec<SecretGrant>,
    pub settings: witan_http::Settings,
    pub public: Option<IpAddr>,
    pub reuse: Reuse,
}

impl Setup {
    pub fn grants(grants: Vec<HttpGrant>) -> Self {
        Self { grants, ..Self::default() }
    }

    /// Starts `guest`; an import that is not linked stops it.
    pub fn start(self, guest: &str) -> wasmtime::Result<Host> {
        let grants = Grants { http: self.grants, secrets: self.secrets, ..Grants::default() };
        let mut linker = Linker::new(ENGINE.wasmtime());
        Baseline.add_to_linker(&mut linker)?;
        Types.add_to_linker(&mut linker)?;
        let client = Client::new(self.settings).unwrap();
        if client.granted(&grants) {
            client.add_to_linker(&mut linker)?;
        }
        let pre = linker.instantiate_pre(&code(guest))?;
        let component = Arc::new(Component { name: guest.into(), digest: [0; 32], grants: Arc::new(grants) });
        let instances = Instances { reuse: self.reuse, ..Instances::default() };
        let version = Version::new(ENGINE.clone(), component, pre, instances);
        let policy = Arc::new(Judge { grants: GrantPolicy::new(DecisionLog::in_memory()), public: self.public });
        let kernel = Kernel::new(policy.clone());
        let service = Service::new(guest, kernel.clone(), ServiceSettings::default(), version);
        let export = FETCHERS.iter().find(|(name, _)| *name == guest).map_or("", |(_, export)| export);
        Ok(Host { service, policy, kernel, export })
    }
}

/// What the guests are told to send, as `test:fetch/types` has it.
#[derive(Clone, Debug, Default, ComponentType, Lower)]
#[component(record)]
pub struct Fetch {
    pub method: String,
    pub scheme: Option<String>,
    pub authority: Option<String>,
    #[component(name = "path-with-query")]
    pub path: Option<String>,
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
    #[component(name = "first-byte-ms")]
    pub first_byte_ms: Option<u64>,
    #[component(name = "between-bytes-ms")]
    pub between_bytes_ms: Option<u64>,
}

/// What they got.
#[derive(Clone, Debug, ComponentType, Lift)]
#[component(record)]
pub struct Fetched {
    pub status: u16,
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
}

impl Fetch {
    /// `GET http://…`.
    pub fn get(authority: impl Into<String>, path: &str) -> Self {
        Self {
            method: "GET".to_owned(),
            scheme: Some("http".to_owned()),
            authority: Some(authority.into()),
            path: Some(path.to_owned()),
            ..Self::default()
        }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.as_bytes().to_vec()));
        self
    }

    pub fn post(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.method = "POST".to_owned();
        self.body = body.into();
        self
    }
}

struct Run {
    export: &'static str,
    fetch: Fetch,
}

type Outcome = Result<Fetched, String>;

impl Invocation for Run {
    type Output = Outcome;

    async fn run(self, store: &Accessor<CallState>, instance: Instance, reply: Reply<Outcome>) -> wasmtime::Result<()> {
        let function = store.with(|mut store| {
            let interface = instance.get_export_index(&mut store, None, self.export).unwrap();
            let function = instance.get_export_index(&mut store, Some(&interface), "fetch").unwrap();
            instance.get_typed_func::<(Fetch,), (Outcome,)>(&mut store, function)
        })?;
        let (outcome,) = function.call_concurrent(store, (self.fetch,)).await?;
        reply.send(outcome);
        Ok(())
    }
}

/// Calls `hoard` or `hoard-headers`.
pub struct Hoard(pub &'static str, pub u32, pub u32);

impl Invocation for Hoard {
    type Output = ();

    async fn run(self, store: &Accessor<CallState>, instance: Instance, reply: Reply<()>) -> wasmtime::Result<()> {
        let function = store.with(|mut store| {
            let interface = instance.get_export_index(&mut store, None, FETCHERS[0].1).unwrap();
            let function = instance.get_export_index(&mut store, Some(&interface), self.0).unwrap();
            instance.get_typed_func::<(u32, u32), ()>(&mut store, function)
        })?;
        function.call_concurrent(store, (self.1, self.2)).await?;
        reply.send(());
        Ok(())
    }
}

impl Host {
    pub fn account(limits: Limits) -> Arc<Account> {
        ENGINE.open_account(limits)
    }

    pub async fn fetch(&self, fetch: Fetch) -> Outcome {
        self.fetch_in(&CallContext::local(), &Self::account(Limits::default()), fetch).await.unwrap()
    }

    pub async fn fetch_in(
        &self,
        context: &CallContext,
        account: &Arc<Account>,
        fetch: Fetch,
    ) -> Result<Outcome, CallError> {
        self.service.call_plain(context, account, Run { export: self.export, fetch }).await
    }

    /// What is in the log of decisions.
    pub fn logged(&self) -> Vec<String> {
        let entries = self.policy.grants.log().newest(100);
        entries.iter().map(|entry| format!("{entry:?}")).collect()
    }

    /// What policy refused, oldest first.
    pub fn denied(&self) -> Vec<String> {
        let entries = self.policy.grants.log().newest(100);
        entries.iter().rev().filter(|entry| !entry.allowed).map(|entry| entry.resource.clone()).collect()
    }
}

/// A grant of everything at `address`, over plain HTTP.
pub fn grant(address: SocketAddr) -> HttpGrant {
    grant_name(&address.ip().to_string(), address.port(), true)
}

/// A grant of everything at `host`, over plain HTTP.
pub fn grant_name(host: &str, port: u16, private: bool) -> HttpGrant {
    HttpGrant {
        scheme: Scheme::Http,
        host: host.parse().unwrap(),
        port,
        methods: ["GET", "POST"].map(str::to_owned).to_vec(),
        path_prefix: "/".to_owned(),
        private,
    }
}

/// A server that answers the same to every request, in parts, and keeps what it was sent.
pub struct Server {
    pub address: SocketAddr,
    hits: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<String>>>,
}

/// What a server does once it has read a request.
#[derive(Clone)]
pub enum Answer {
    /// Writes this and closes.
    Bytes(Vec<u8>),
    /// Writes this and then nothing, and keeps the connection.
    Stall(Vec<u8>),
}

impl Server {
    pub async fn start(answer: Answer) -> Self {
        Self::at("127.0.0.1:0", answer).await
    }

    pub async fn at(address: &str, answer: Answer) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let server = Self { address: listener.local_addr().unwrap(), hits: Arc::default(), requests: Arc::default() };
        let (hits, requests) = (server.hits.clone(), server.requests.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                hits.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, answer.clone(), requests.clone()));
            }
        });
        server
    }

    /// Answers 200 with this body.
    pub async fn ok(body: &str) -> Self {
        Self::start(Answer::Bytes(plain(body))).await
    }

    pub fn hits(&self) -> usize {
        self.hits.load(Ordering::SeqCst)
    }

    /// The requests so far, in full.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    pub fn authority(&self) -> String {
        self.address.to_string()
    }
}

/// An answer in full: 200 with this body.
pub fn plain(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nx-from: server\r\n\r\n{body}", body.len()).into_bytes()
}

async fn serve(mut stream: TcpStream, answer: Answer, requests: Arc<Mutex<Vec<String>>>) {
    let request = read_request(&mut stream).await;
    requests.lock().unwrap().push(request);
    match answer {
        Answer::Bytes(bytes) => {
            let _gone = stream.write_all(&bytes).await;
        }
        Answer::Stall(bytes) => {
            let _gone = stream.write_all(&bytes).await;
            // Ends when the client goes away.
            let _gone = stream.read(&mut [0; 64]).await;
        }
    }
}

/// Reads the head, and the body as far as it is announced.
async fn read_request(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
        if let Some(head) = text.find("\r\n\r\n") {
            let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
            let whole = match length {
                Some(length) => bytes.len() >= head + 4 + length,
                None => !text.contains("chunked") || text.ends_with("0\r\n\r\n"),
            };
            if whole {
                break;
            }
        }
        match stream.read(&mut part).await {
            Ok(0) | Err(_) => break,
            Ok(read) => bytes.extend_from_slice(&part[..read]),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A resolver that answers from a list, one entry for each look-up, and then repeats the last.
pub struct Script {
    answers: Mutex<VecDeque<Vec<IpAddr>>>,
    pub lookups: AtomicUsize,
}

impl Script {
    pub fn new(answers: &[&[&str]]) -> Arc<Self> {
        let parse = |answer: &&[&str]| answer.iter().map(|address| address.parse().unwrap()).collect();
        Arc::new(Self { answers: Mutex::new(answers.iter().map(parse).collect()), lookups: AtomicUsize::new(0) })
    }
}

#[async_trait::async_trait]
impl Resolver for Script {
    async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        self.lookups.fetch_add(1, Ordering::SeqCst);
        let mut answers = self.answers.lock().unwrap();
        let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        answer.ok_or_else(|| io::Error::other("no such name"))
    }
}
