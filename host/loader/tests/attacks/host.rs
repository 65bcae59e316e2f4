//! A host as the product assembles it, with components from text.

use std::{
    path::Path,
    sync::{Arc, LazyLock},
    time::Duration,
};

use tempfile::TempDir;
use wasmtime::component::{Accessor, Instance, Val};
use witan_admission::Gate;
use witan_capability::{Account, CallContext, CallError, CallState, Capability, Kernel, Limit, Limits, Meter, Privacy};
use witan_engine::{Cache, Compiler, Engine, Invocation, Reply, Service, Settings};
use witan_loader::{LoadError, LoadProblem, Loader, Running};
use witan_policy::{DecisionLog, GrantPolicy};
use witan_system::{CompileIn, ComponentName, Pool, System};

use crate::guest;

/// Shared by all tests, as the components of one machine share it.
pub static ENGINE: LazyLock<Arc<Engine>> = LazyLock::new(|| engine(Settings::default()));

/// An engine with pools that a test machine has room for.
pub fn engine(settings: Settings) -> Arc<Engine> {
    Engine::new(Settings { pool: Pool { instances: 100, ..Pool::default() }, ..settings }).unwrap()
}

/// Every capability of the product; the list of the command line with a store in `folder`.
pub fn capabilities(folder: &Path) -> Vec<Arc<dyn Capability>> {
    let mut all = witan_wasi::capabilities();
    all.push(Arc::new(witan_http::Types));
    all.push(Arc::new(witan_http::Client::new(witan_http::Settings::default()).unwrap()));
    all.push(Arc::new(witan_config::Config));
    all.push(Arc::new(witan_logging::Logging::default()));
    all.push(Arc::new(witan_keyvalue::Keyvalue::new(folder.join("keyvalue.sqlite"))));
    all.push(Arc::new(witan_tools::Tools::new(ENGINE.clone())));
    all
}

/// A host, and the folder that its systems lie in.
pub struct Host {
    pub folder: TempDir,
    pub loader: Loader,
    pub policy: Arc<GrantPolicy>,
}

impl Host {
    pub fn new() -> Self {
        Self::with(ENGINE.clone())
    }

    pub fn with(engine: Arc<Engine>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let policy = Arc::new(GrantPolicy::new(DecisionLog::in_memory()));
        let loader = Loader {
            engine,
            gate: Arc::new(Gate::local(folder.path(), None)),
            kernel: Kernel::new(policy.clone()),
            policy: policy.clone(),
            capabilities: capabilities(folder.path()),
            cache: None,
            compiler: None,
            link_all: false,
        };
        Self { folder, loader, policy }
    }

    /// The same host with a cache of compiled code.
    pub fn caching(mut self) -> Self {
        let folder = self.folder.path();
        self.loader.cache = Some(Cache::open(folder.join("code"), &folder.join("key")).unwrap());
        self
    }

    /// The same host, which compiles in a child process, as the product does.
    pub fn compiling_apart(mut self) -> Self {
        let program = env!("CARGO_BIN_EXE_witan-compile-worker").into();
        self.loader.compiler = Some(Compiler { program, arguments: Vec::new() });
        self
    }

    /// Puts a component where a system finds it.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.folder.path().join(name).with_extension("wasm"), bytes).unwrap();
    }

    /// The system that `text` describes.
    pub fn system(&self, text: &str) -> System {
        let file = self.folder.path().join("system.toml");
        let mut system = System::parse(&format!("schema = 1\n{text}"), &file).unwrap_or_else(|error| panic!("{error}"));
        // What is attacked here is what an operator lets run; that unsigned bytes are refused is tested beside the gate.
        system.components.values_mut().for_each(|component| component.allow_unsigned = true);
        if self.loader.compiler.is_none() {
            system.components.values_mut().for_each(|component| component.compile = CompileIn::Host);
        }
        system
    }

    /// Loads the system that `text` describes.
    pub async fn load(&self, text: &str) -> Result<Running, LoadError> {
        self.loader.load(self.system(text), &|_| {}).await
    }

    /// The one problem with the system that `text` describes.
    pub async fn problem(&self, text: &str) -> LoadProblem {
        let error = self.load(text).await.err().expect("the load is refused");
        assert_eq!(error.problems.len(), 1, "{error}");
        error.problems.into_iter().next().unwrap()
    }

    /// An attacker called `guest` with `settings`, and beside it a neighbour.
    pub async fn guest(&self, bytes: &[u8], settings: &str) -> Guest<'_> {
        self.put("guest", bytes);
        self.put("neighbour", &guest::gives(7));
        let components = "[components.neighbour]\nsource = \"neighbour.wasm\"\n\
             [components.guest]\nsource = \"guest.wasm\"\n";
        let running = self.load(&format!("{components}{settings}")).await.unwrap_or_else(|error| panic!("{error}"));
        Guest { host: self, running }
    }
}

/// A loaded system of an attacker and its neighbour.
pub struct Guest<'a> {
    pub host: &'a Host,
    pub running: Running,
}

pub fn service<'a>(running: &'a Running, name: &str) -> &'a Arc<Service> {
    &running.component(&name.parse::<ComponentName>().unwrap()).expect("it is loaded").service
}

impl Guest<'_> {
    /// Calls `function` of the attacker, within the usual limits.
    pub async fn call(&self, function: &'static str) -> Result<u32, CallError> {
        self.call_within(function, Limits::default()).await
    }

    /// Calls `function` of the attacker, within `limits`.
    pub async fn call_within(&self, function: &'static str, limits: Limits) -> Result<u32, CallError> {
        self.call_as(&CallContext::local(), function, limits).await
    }

    /// Calls `function` of the attacker for a call that is local-only.
    pub async fn call_local_only(&self, function: &'static str) -> Result<u32, CallError> {
        let context = CallContext::local().narrow_privacy(Privacy::LocalOnly);
        self.call_as(&context, function, Limits::default()).await
    }

    async fn call_as(&self, context: &CallContext, function: &'static str, limits: Limits) -> Result<u32, CallError> {
        let account = self.host.loader.engine.open_account(limits);
        let result = call(service(&self.running, "guest"), context, &account, function).await;
        // The store goes when its task does.
        self.running.drained().await;
        assert_eq!(account.used(Meter::Memory), 0, "what the call held is given back");
        result
    }

    /// Calls `run` of the attacker within `limits`, which end it, while its neighbour serves others.
    pub async fn attack(&self, limits: Limits) -> CallError {
        let (attacked, neighbour) = tokio::join!(self.call_within("run", limits), self.neighbour());
        assert_eq!(neighbour, Ok(7));
        assert_eq!(self.neighbour().await, Ok(7));
        attacked.expect_err("the attack is ended")
    }

    /// As [`Self::attack`], for one that a limit ends.
    pub async fn attack_limited(&self, limits: Limits) -> Limit {
        limit(self.attack(limits).await)
    }

    async fn neighbour(&self) -> Result<u32, CallError> {
        let account = self.host.loader.engine.open_account(Limits::default());
        call(service(&self.running, "neighbour"), &CallContext::local(), &account, "run").await
    }
}

/// The limit that ended a call.
pub fn limit(error: CallError) -> Limit {
    match error {
        CallError::Limit(exceeded) => {
            assert!(exceeded.to_string().contains(&exceeded.setting()), "{exceeded}");
            exceeded.limit
        }
        other => panic!("expected a limit, not: {other}"),
    }
}

/// Calls the exported `function` of `service`, which gives a number.
pub async fn call(
    service: &Arc<Service>,
    context: &CallContext,
    account: &Arc<Account>,
    function: &'static str,
) -> Result<u32, CallError> {
    match service.call_plain(context, account, Values(function)).await? {
        Val::U32(number) => Ok(number),
        other => panic!("not a number: {other:?}"),
    }
}

/// Enough for the guests here to do what they are allowed to, and soon over for those that never end.
pub fn short() -> Limits {
    Limits { cpu: Duration::from_millis(200), deadline: Duration::from_secs(5), ..Limits::default() }
}

/// Calls the exported `function` of `service`, and gives whatever it gives.
pub async fn values(service: &Arc<Service>, account: &Arc<Account>, function: &'static str) -> Result<Val, CallError> {
    service.call_plain(&CallContext::local(), account, Values(function)).await
}

/// Calls an exported function that takes nothing.
struct Values(&'static str);

impl Invocation for Values {
    type Output = Val;

    async fn run(self, accessor: &Accessor<CallState>, instance: Instance, reply: Reply<Val>) -> wasmtime::Result<()> {
        let function = accessor.with(|mut store| instance.get_func(&mut store, self.0)).expect("it is exported");
        let mut results = [Val::Bool(false)];
        function.call_concurrent(accessor, &[], &mut results).await?;
        let [value] = results;
        reply.send(value);
        Ok(())
    }
}

impl Guest<'_> {
    /// Whether the neighbour still answers and nothing of the attacker runs on.
    pub async fn attack_is_over(&self) -> bool {
        self.running.drained().await;
        self.neighbour().await == Ok(7)
    }
}
