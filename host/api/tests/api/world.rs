//! A host with handlers and mounts that do what a test asks of them, served on a port of this machine.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use axum::body::Body;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, oneshot},
    task::JoinHandle,
};
use witan_api::{
    Api, ComponentStatus, Host, Mount, MountFuture, Mounts, NotReady, Parts, RequestBody, Requests, Settings, Tls,
    Token, error_response, observer, serve_tls,
};
use witan_authorize::{BuiltIn, Policies, Settings as PolicySettings};
use witan_capability::{Account, CallContext};
use witan_database::{Database, Location};
use witan_identity::{Directory, Identities, Logged, NewKey, TrustLevel};
use witan_ledger::Ledger;
use witan_system::{Auth, System};
use witan_tasks::{
    Deliverer, Event, Filter, Handler, HandlerError, Handlers, Outcome, Store, Task, TaskError, Tasks, Work, WorkInput,
};
use witan_telemetry::{Logs, Metrics, Sample};

/// Answers with the text it is given, unless that says otherwise.
pub struct Echo {
    permits: Arc<Semaphore>,
}

#[async_trait]
impl Handler for Echo {
    fn component(&self) -> &str {
        "echo"
    }

    async fn handle(
        &self,
        context: &CallContext,
        _account: &Arc<Account>,
        work: Work,
        events: &(dyn Fn(Event) + Send + Sync),
    ) -> Result<Outcome, HandlerError> {
        let text = match work.input {
            WorkInput::Text(text) => text,
            WorkInput::Documents(documents) => String::from_utf8(documents[0].data.clone()).unwrap(),
            WorkInput::Files(files) => std::fs::read_to_string(&files[0].host).unwrap(),
        };
        let text = match text.as_str() {
            "trace" => context.trace().traceparent(),
            "state" => context.trace_state().map_or_else(String::new, |state| state.as_str().to_owned()),
            _ => text,
        };
        events(Event::Progress { stage: "echo".to_owned(), done: 1, total: 1 });
        match text.as_str() {
            "context" => {
                let text = format!("local-only {}, budget {:?}", context.local_only(), context.budget_micros());
                return Ok(Outcome { text, passages: Vec::new(), language: None, method: "echo".to_owned() });
            }
            "wait" => self.permits.acquire().await.unwrap().forget(),
            "invalid" => return Err(HandlerError::Invalid("as asked".to_owned())),
            "failed" => return Err(HandlerError::Failed("as asked".to_owned())),
            "trapped" => return Err(HandlerError::Trapped("as asked".to_owned())),
            "unavailable" => return Err(HandlerError::Unavailable("as asked".to_owned())),
            _ => {}
        }
        Ok(Outcome { text, passages: Vec::new(), language: None, method: "echo".to_owned() })
    }
}

/// Answers with the method, path and body of the request.
pub struct Mirror;

impl Mount for Mirror {
    fn handle(&self, request: Request<RequestBody>) -> MountFuture<'_> {
        Box::pin(async {
            let (head, body) = request.into_parts();
            let context = head.extensions.get::<CallContext>().unwrap();
            let privacy = if context.local_only() { " local-only" } else { "" };
            match body.collect().await {
                Ok(body) => {
                    let body = String::from_utf8(body.to_bytes().to_vec()).unwrap();
                    Response::new(Body::from(format!("{} {} {body}{privacy}", head.method, head.uri.path())))
                }
                Err(error) => error_response(TaskError::from(&error)),
            }
        })
    }
}

#[derive(Default)]
pub struct FakeHost {
    pub missing: Mutex<Vec<NotReady>>,
}

impl Host for FakeHost {
    fn system(&self) -> String {
        "system.toml".to_owned()
    }

    fn components(&self) -> Vec<ComponentStatus> {
        vec![ComponentStatus::new("echo", &[0xab; 32], &Default::default())]
    }

    fn not_ready(&self) -> Vec<NotReady> {
        self.missing.lock().unwrap().clone()
    }
}

pub struct World {
    /// Has the folder `policies`.
    pub folder: tempfile::TempDir,
    pub address: SocketAddr,
    pub api: Api,
    pub tasks: Tasks,
    pub store: Store,
    pub database: Database,
    pub permits: Arc<Semaphore>,
    pub host: Arc<FakeHost>,
    pub token: Token,
    pub identities: Arc<Identities>,
    pub client: reqwest::Client,
    pub ledger: Ledger,
    stop: Option<oneshot::Sender<()>>,
    pub served: JoinHandle<()>,
    _state: tempfile::TempDir,
}

/// How a world differs from the usual one.
#[derive(Default)]
struct Start {
    settings: Settings,
    roots: Vec<std::path::PathBuf>,
    auth: Option<Auth>,
    tls: Option<Arc<Tls>>,
    requests: Requests,
    queue: witan_tasks::Settings,
}

impl World {
    pub async fn new() -> Self {
        Self::with(Settings::default(), Vec::new()).await
    }

    /// One that may tell callbacks at `host`.
    pub async fn calling(host: &str) -> Self {
        let world = Self::new().await;
        let settings =
            witan_callback::Settings { is_public: |_| false, hosts: vec![host.to_owned()], egress: Default::default() };
        let sender = witan_callback::Sender::new(settings).unwrap();
        let state = world._state.path();
        let secrets = witan_secrets::Store::new(state, witan_secrets::KeySource::Own(state.join("secrets.key")));
        let sealer = witan_secrets::Sealer::new(secrets);
        let deliverer = Deliverer::new(world.store.clone(), sender, world.tasks.bus().clone(), sealer);
        world.tasks.deliver_by(deliverer.clone());
        tokio::spawn(deliverer.run());
        world
    }

    pub async fn bounded(settings: Settings) -> Self {
        Self::with(settings, Vec::new()).await
    }

    pub async fn with(settings: Settings, roots: Vec<std::path::PathBuf>) -> Self {
        Self::start(Start { settings, roots, ..Start::default() }).await
    }

    pub async fn over_tls(settings: Settings, tls: Arc<Tls>) -> Self {
        Self::start(Start { settings, tls: Some(tls), ..Start::default() }).await
    }

    /// Holds clients to `requests`.
    pub async fn limited(requests: Requests) -> Self {
        Self::start(Start { requests, ..Start::default() }).await
    }

    /// Runs tasks as `queue` says.
    pub async fn queueing(queue: witan_tasks::Settings) -> Self {
        Self::start(Start { queue, ..Start::default() }).await
    }

    /// One that asks for credentials, as `auth` under `[host.auth]` says.
    pub async fn asking(auth: &str) -> Self {
        Self::asking_limited(auth, Requests::default()).await
    }

    /// The same, which holds clients to `requests`.
    pub async fn asking_limited(auth: &str, requests: Requests) -> Self {
        let system = System::parse(&format!("schema = 1\n[host.auth]\n{auth}"), Path::new("system.toml")).unwrap();
        Self::start(Start { auth: system.host.auth, requests, ..Start::default() }).await
    }

    async fn start(start: Start) -> Self {
        let Start { settings, roots, auth, tls, requests, queue } = start;
        let permits = Arc::new(Semaphore::new(0));
        let handlers: Handlers =
            BTreeMap::from([("echo".to_owned(), Arc::new(Echo { permits: permits.clone() }) as Arc<dyn Handler>)]);
        let metrics = Arc::new(Metrics::new(|| Sample { host_calls: 7, ..Sample::default() }));
        let observer = observer(metrics.clone());
        let state = tempfile::tempdir().unwrap();
        let database = Database::open(Location::Sqlite(state.path().join("witan.db"))).await.unwrap();
        let store = Store::open(database.clone(), state.path().join("tasks")).await.unwrap();
        let tasks = Tasks::stored(queue, handlers, Arc::new(Account::open), observer, store.clone());
        let (host, token) = (Arc::new(FakeHost::default()), Token::generate().unwrap());
        let folder = tempfile::tempdir().unwrap();
        let rules = folder.path().join("policies");
        std::fs::create_dir(&rules).unwrap();
        let own = if auth.is_some() { BuiltIn::Roles } else { BuiltIn::Local };
        std::fs::write(rules.join("rules.cedar"), own.text().replace("witan.", "")).unwrap();
        let policies = PolicySettings { folder: Some(rules), ..PolicySettings::default() };
        let policies = Policies::open(policies, database.clone()).await.unwrap();
        let directory = Directory::open(database.clone(), state.path(), Arc::new(Logged)).await.unwrap();
        let identities = Arc::new(
            Identities::new(witan_identity::Settings { directory, auth, egress: Default::default() }).unwrap(),
        );
        let ledger = Ledger::open(&state.path().join("ledger"), witan_ledger::Settings::default()).unwrap();
        let api = Api::new(Parts {
            settings,
            tasks: tasks.clone(),
            roots,
            policies,
            host: host.clone(),
            requests,
            metrics,
            logs: Logs::default(),
            identities: identities.clone(),
            token: token.clone(),
            ledger: Some(ledger.clone()),
        });
        let mounts = [("/mirror".to_owned(), Arc::new(Mirror) as Arc<dyn Mount>)];
        api.replace_mounts(Mounts::new(mounts).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = api.clone();
        let served = tokio::spawn(async move {
            let shutdown = async {
                let _dropped = stopped.await;
            };
            serve_tls(listener, serving, tls, shutdown).await.unwrap();
        });
        let client = reqwest::Client::new();
        Self {
            folder,
            address,
            api,
            tasks,
            store,
            database,
            permits,
            host,
            token,
            identities,
            client,
            ledger,
            stop: Some(stop),
            served,
            _state: state,
        }
    }

    /// The secret of a key of `tenant`, which is made where there is none.
    pub async fn key(&self, tenant: &str, scopes: &[&str]) -> String {
        self.trusted_key(tenant, scopes, TrustLevel::Standard).await
    }

    /// The secret of a key that is trusted so far.
    pub async fn trusted_key(&self, tenant: &str, scopes: &[&str], trust: TrustLevel) -> String {
        self.key_with(tenant, &[], scopes, trust).await
    }

    /// The secret of a key that has these roles, too.
    pub async fn key_with(&self, tenant: &str, roles: &[&str], scopes: &[&str], trust: TrustLevel) -> String {
        let directory = self.identities.directory();
        let tenant = tenant.parse().unwrap();
        let _there = directory.create_tenant(&tenant, "test").await;
        let new = NewKey {
            tenant,
            name: "test".to_owned(),
            scopes: scopes.iter().map(|scope| scope.parse().unwrap()).collect(),
            roles: roles.iter().map(|role| role.parse().unwrap()).collect(),
            trust,
            time: None,
        };
        directory.create_key(&new, "test").await.unwrap().1.expose().to_owned()
    }

    /// Which key has this secret.
    pub async fn key_of(&self, secret: &str) -> uuid::Uuid {
        let headers = http::HeaderMap::from_iter([(http::header::AUTHORIZATION, bearer(secret))]);
        let peer = witan_identity::Peer { address: self.address.ip(), certificate: None };
        self.identities.authenticate(&headers, &peer).await.unwrap().credential().unwrap()
    }

    /// The bytes of every file that the host keeps.
    pub fn kept(&self) -> Vec<u8> {
        let (mut folders, mut bytes) = (vec![self._state.path().to_owned()], Vec::new());
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                match std::fs::read(&path) {
                    // The host replaces some meanwhile.
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    read => bytes.extend(read.unwrap()),
                }
            }
        }
        bytes
    }

    /// A task that is kept.
    pub async fn task(&self, id: uuid::Uuid) -> Task {
        self.tasks.get("local", id).await.unwrap().unwrap()
    }

    /// The newest task.
    pub async fn newest(&self) -> Option<uuid::Uuid> {
        let (tasks, _) = self.tasks.list("local", &Filter::default(), 1, None).await.unwrap();
        tasks.first().map(|task| task.id)
    }

    /// Asks the host to stop.
    pub fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub async fn get(&self, path: &str) -> Answer {
        Answer::of(self.client.get(self.url(path)).send().await.unwrap()).await
    }

    pub async fn post(&self, path: &str, json: serde_json::Value) -> Answer {
        Answer::of(self.client.post(self.url(path)).json(&json).send().await.unwrap()).await
    }

    /// Has the policies be these, and loads them.
    pub async fn policies(&self, text: &str) -> Answer {
        std::fs::write(self.folder.path().join("policies/rules.cedar"), text).unwrap();
        self.post("/v1/policies/reload", serde_json::json!({})).await
    }

    /// Submits `text` to the echo.
    pub async fn echo(&self, query: &str, text: &str) -> Answer {
        self.post(&format!("/v1/tasks{query}"), task(text)).await
    }

    /// Sends `bytes` as they are, and reads until the host closes the connection.
    pub async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        // A host that closes with bytes unread resets the connection; what it said before that counts.
        let _reset = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }
}

/// The header that shows `secret`.
pub fn bearer(secret: &str) -> http::HeaderValue {
    format!("Bearer {secret}").parse().unwrap()
}

pub fn task(text: &str) -> serde_json::Value {
    serde_json::json!({"intent": "echo", "input": {"text": text}})
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub text: String,
}

impl Answer {
    pub async fn of(response: reqwest::Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self { status, headers, text: response.text().await.unwrap() }
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The code of the error it is.
    pub fn code(&self) -> String {
        let error = &self.json()["error"];
        for field in ["message", "type", "source", "request_id"] {
            assert!(error[field].is_string(), "no `{field}` in {error}");
        }
        assert!(error["retryable"].is_boolean() && error.get("param").is_some(), "{error}");
        assert_eq!(error["request_id"].as_str(), self.header("x-request-id"));
        error["code"].as_str().unwrap().to_owned()
    }
}
