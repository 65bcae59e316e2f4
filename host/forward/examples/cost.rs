//! What an isolated call costs beside what wasmtime takes for the same call.
//!
//! `cargo run --release -p witan-forward --example cost`, in a checkout. The same component and the same function in
//! all columns: `witan:tools/tool#invoke` of `tools-offer`, strings in and out.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use wasmtime::{
    Store,
    component::{Component as Code, InstancePre, Linker},
};
use witan_build::{Checkout, Progress, Workspace};
use witan_capability::{Call, CallContext, CallState, Component, Decision, Kernel, Limits, Policy, Request};
use witan_engine::{Engine, Service, ServiceSettings, Settings, Version};
use witan_forward::{
    Caller,
    tools::{Content, Error, Tool as _, tool},
};
use witan_system::{Instances, Reuse};

/// Calls of one round.
const CALLS: u32 = 500;

/// Rounds, of which the best counts: what else this machine does makes a round slower, never faster.
const ROUNDS: usize = 60;

struct AllowAll;

impl Policy for AllowAll {
    fn decide(&self, _: &Request<'_>) -> Decision {
        Decision::Allow
    }
}

type Invoke = wasmtime::component::TypedFunc<(String, String), (Result<Vec<Content>, Error>,)>;

fn arguments() -> (String, String) {
    ("echo".to_owned(), r#"{"text": "how much does this cost?"}"#.to_owned())
}

struct Bench {
    engine: Arc<Engine>,
    pre: InstancePre<CallState>,
    component: Arc<Component>,
    kernel: Arc<Kernel>,
}

impl Bench {
    fn new() -> Result<Self, Box<dyn std::error::Error>> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let checkout = Checkout::at(&root).ok_or("this is no checkout")?;
        checkout.build_missing(Workspace::Programs, &Progress::stderr())?;
        let engine = Engine::new(Settings::default())?;
        let path = checkout.build_folder(Workspace::Programs).join("tools-offer.wasm");
        let code = Code::from_file(engine.wasmtime(), path)?;
        let pre = Linker::new(engine.wasmtime()).instantiate_pre(&code)?;
        let component = Arc::new(Component { name: "tools".into(), digest: [0; 32], grants: Arc::default() });
        Ok(Self { engine, pre, component, kernel: Kernel::new(Arc::new(AllowAll)) })
    }

    fn service(&self, reuse: Reuse) -> Arc<Service> {
        let instances = Instances { reuse, ..Instances::default() };
        let version = Version::new(self.engine.clone(), self.component.clone(), self.pre.clone(), instances);
        Service::new("tools", self.kernel.clone(), ServiceSettings::default(), version)
    }

    fn store(&self) -> Store<CallState> {
        let call = Call {
            context: CallContext::local(),
            account: self.engine.open_account(Limits::default()),
            component: self.component.clone(),
            kernel: self.kernel.clone(),
        };
        let mut store = Store::new(self.engine.wasmtime(), CallState::new(call));
        store.set_epoch_deadline(u64::MAX / 2);
        store
    }

    async fn bare_instance(&self) -> wasmtime::Result<(Store<CallState>, Invoke)> {
        let mut store = self.store();
        let instance = self.pre.instantiate_async(&mut store).await?;
        let interface = instance.get_export_index(&mut store, None, tool::NAME);
        let index = instance
            .get_export_index(&mut store, interface.as_ref(), "invoke")
            .ok_or_else(|| wasmtime::format_err!("no such export"))?;
        let invoke = instance.get_typed_func(&mut store, index)?;
        Ok((store, invoke))
    }

    async fn bare_fresh(&self) -> wasmtime::Result<Duration> {
        let started = Instant::now();
        for _ in 0..CALLS {
            let (mut store, invoke) = self.bare_instance().await?;
            bare_call(&mut store, invoke).await?;
        }
        Ok(started.elapsed() / CALLS)
    }

    async fn bare_warm(&self) -> wasmtime::Result<Duration> {
        let (mut store, invoke) = self.bare_instance().await?;
        let started = Instant::now();
        for _ in 0..CALLS {
            bare_call(&mut store, invoke).await?;
        }
        Ok(started.elapsed() / CALLS)
    }

    async fn isolated(&self, reuse: Reuse) -> Result<Duration, witan_capability::CallError> {
        let service = self.service(reuse);
        let (context, account) = (CallContext::local(), self.engine.open_account(unlimited()));
        let caller = Caller::host(&context, &account);
        let started = Instant::now();
        for _ in 0..CALLS {
            let (name, arguments) = arguments();
            let _answer = service.invoke(&caller, name, arguments).await?;
        }
        Ok(started.elapsed() / CALLS)
    }
}

/// One account for all calls: what one tree may use would end it.
fn unlimited() -> Limits {
    let hour = Duration::from_secs(3600);
    Limits { cpu: hour, deadline: hour, ..Limits::default() }
}

async fn bare_call(store: &mut Store<CallState>, invoke: Invoke) -> wasmtime::Result<()> {
    let (answer,) =
        store.run_concurrent(async |accessor| invoke.call_concurrent(accessor, arguments()).await).await??;
    drop(answer);
    Ok(())
}

async fn measure(bench: &Bench) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut best = [Duration::MAX; 4];
    for _ in 0..ROUNDS {
        let round = [
            bench.bare_fresh().await?,
            bench.isolated(Reuse::Fresh).await?,
            bench.bare_warm().await?,
            bench.isolated(Reuse::Serial).await?,
        ];
        for (best, now) in best.iter_mut().zip(round) {
            *best = now.min(*best);
        }
    }
    let [bare_fresh, fresh, bare_warm, reused] = best;
    let ratio = |a: Duration, b: Duration| a.as_secs_f64() / b.as_secs_f64();
    println!("fresh:  {fresh:?}, {:.2} of the bare {bare_fresh:?}", ratio(fresh, bare_fresh));
    println!("reused: {reused:?}, {:.2} of the bare {bare_warm:?}", ratio(reused, bare_warm));
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let bench = Bench::new().map_err(|error| error.to_string())?;
    // A task of the runtime, as calls are: the thread that waits for it is not one of its workers.
    tokio::spawn(async move { measure(&bench).await }).await?
}
