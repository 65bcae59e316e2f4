//! What a call between components costs, beside what wasmtime takes for it without us.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use wasmtime::{
    Store,
    component::{Component, InstancePre, Linker, TypedFunc},
};
use witan_build::{Checkout, Workspace};
use witan_capability::CallContext;
use witan_forward::{
    Caller,
    tools::{Content, Error, Tool as _, tool},
};
use witan_fuse::{Origin, Part, Wire};
use witan_system::{Grants, Limits};

use crate::{
    Setting,
    host::{Export, Host},
    rounds::{Best, ratio, time},
    runtime,
    table::{Figure, Row},
};

/// Calls of one round.
const CALLS: u32 = 500;

/// Fused calls of one round.
const FUSED_CALLS: u32 = 200_000;

/// Rounds, of which the best counts.
const ROUNDS: usize = 80;

const ARGUMENTS: &str = r#"{"text": "how much does this cost?"}"#;

pub(crate) fn measure(setting: &Setting) -> anyhow::Result<Vec<Row>> {
    let runtime = runtime()?;
    let host = Arc::new(runtime.block_on(Host::new(&setting.root))?);
    let programs = Programs::of(setting)?;
    let mut rows = runtime.block_on(runtime.spawn(isolated(host.clone(), programs.clone())))??;
    rows.push(runtime.block_on(runtime.spawn(fused(host, programs)))??);
    Ok(rows)
}

/// The components, as they were built.
#[derive(Clone)]
struct Programs(PathBuf);

impl Programs {
    fn of(setting: &Setting) -> anyhow::Result<Self> {
        let checkout = Checkout::at(&setting.root).ok_or_else(|| anyhow::anyhow!("this is no checkout"))?;
        Ok(Self(checkout.build_folder(Workspace::Programs)))
    }

    fn read(&self, name: &str) -> std::io::Result<Vec<u8>> {
        std::fs::read(self.0.join(name).with_extension("wasm"))
    }
}

type Invoke = TypedFunc<(String, String), (Result<Vec<Content>, Error>,)>;

/// Wasmtime alone, with the pools and the code that the host has.
struct Bare(InstancePre<()>);

impl Bare {
    fn new(engine: &wasmtime::Engine, bytes: &[u8]) -> wasmtime::Result<Self> {
        let code = Component::new(engine, bytes)?;
        Ok(Self(Linker::new(engine).instantiate_pre(&code)?))
    }

    fn store(&self) -> Store<()> {
        let mut store = Store::new(self.0.engine(), ());
        store.set_epoch_deadline(u64::MAX / 2);
        store
    }

    async fn instance(&self) -> wasmtime::Result<(Store<()>, Invoke)> {
        let mut store = self.store();
        let instance = self.0.instantiate_async(&mut store).await?;
        let interface = instance.get_export_index(&mut store, None, tool::NAME);
        let index = instance
            .get_export_index(&mut store, interface.as_ref(), "invoke")
            .ok_or_else(|| wasmtime::format_err!("the tool has no `invoke`"))?;
        let invoke = instance.get_typed_func(&mut store, index)?;
        Ok((store, invoke))
    }

    async fn fresh(&self) -> wasmtime::Result<Duration> {
        let started = Instant::now();
        for _ in 0..CALLS {
            let (mut store, invoke) = self.instance().await?;
            call(&mut store, invoke).await?;
        }
        Ok(started.elapsed() / CALLS)
    }

    async fn instantiated(&self) -> wasmtime::Result<Duration> {
        let started = Instant::now();
        for _ in 0..CALLS {
            drop(self.instance().await?);
        }
        Ok(started.elapsed() / CALLS)
    }

    async fn warm(&self) -> wasmtime::Result<Duration> {
        let (mut store, invoke) = self.instance().await?;
        let started = Instant::now();
        for _ in 0..CALLS {
            call(&mut store, invoke).await?;
        }
        Ok(started.elapsed() / CALLS)
    }
}

async fn call(store: &mut Store<()>, invoke: Invoke) -> wasmtime::Result<()> {
    let arguments = ("echo".to_owned(), ARGUMENTS.to_owned());
    let (answer,) = store.run_concurrent(async |accessor| invoke.call_concurrent(accessor, arguments).await).await??;
    drop(answer);
    Ok(())
}

/// The agent in wasmtime alone, with a host that gives its arguments back after one turn of the executor: what a guest's own
/// asynchronous import costs before anybody is called.
struct BareAgent(InstancePre<()>);

impl BareAgent {
    fn new(engine: &wasmtime::Engine, bytes: &[u8]) -> wasmtime::Result<Self> {
        let code = Component::new(engine, bytes)?;
        let mut linker = Linker::new(engine);
        linker.define_unknown_imports_as_traps(&code)?;
        linker.allow_shadowing(true);
        linker.instance(tool::NAME)?.func_wrap_concurrent("invoke", |_, (_, arguments): (String, String)| {
            Box::pin(async move {
                tokio::task::yield_now().await;
                Ok((Ok::<_, Error>(vec![Content::Text(arguments)]),))
            })
        })?;
        Ok(Self(linker.instantiate_pre(&code)?))
    }

    async fn calls(&self) -> wasmtime::Result<Duration> {
        let mut store = Store::new(self.0.engine(), ());
        store.set_epoch_deadline(u64::MAX / 2);
        let instance = self.0.instantiate_async(&mut store).await?;
        let interface = instance.get_export_index(&mut store, None, AGENT);
        let index = instance
            .get_export_index(&mut store, interface.as_ref(), "call")
            .ok_or_else(|| wasmtime::format_err!("the agent has no `call`"))?;
        let calls = instance.get_typed_func::<(u32, String), (u64,)>(&mut store, index)?;
        let started = Instant::now();
        let arguments = (CALLS, ARGUMENTS.to_owned());
        store.run_concurrent(async |accessor| calls.call_concurrent(accessor, arguments).await).await??;
        Ok(started.elapsed() / CALLS)
    }
}

impl Host {
    /// A call of the tool by an agent, over a link.
    async fn by_agent(&self, agent: &str) -> anyhow::Result<Duration> {
        let export = Export { interface: AGENT, name: "call", params: (CALLS, ARGUMENTS.to_owned()) };
        let started = Instant::now();
        let bytes: u64 = self.call(agent, export).await?;
        anyhow::ensure!(bytes == u64::from(CALLS) * ARGUMENTS.len() as u64, "the tool gave {bytes} bytes back");
        Ok(started.elapsed() / CALLS)
    }

    /// A call of the tool by the host itself.
    async fn by_host(&self, tool: &str) -> anyhow::Result<Duration> {
        let service = self.service(tool)?;
        let hour = Duration::from_secs(3600);
        let account = self.engine.open_account(Limits { cpu: hour, deadline: hour, ..Limits::default() });
        let context = CallContext::local();
        let caller = Caller::host(&context, &account);
        let started = Instant::now();
        for _ in 0..CALLS {
            drop(service.invoke(&caller, "echo".to_owned(), ARGUMENTS.to_owned()).await?);
        }
        Ok(started.elapsed() / CALLS)
    }
}

const AGENT: &str = "test:bench/agent@1.0.0";

async fn isolated(host: Arc<Host>, programs: Programs) -> anyhow::Result<Vec<Row>> {
    let bytes = programs.read("bench-tool")?;
    let bare = Bare::new(host.engine.wasmtime(), &bytes)?;
    let agent = BareAgent::new(host.engine.wasmtime(), &programs.read("bench-agent")?)?;
    let mut best = Best::new();
    for _ in 0..ROUNDS {
        best.note([
            bare.fresh().await?,
            host.by_agent("agent").await?,
            bare.warm().await?,
            host.by_agent("kept-agent").await?,
            bare.instantiated().await?,
            host.by_host("tool").await?,
            host.by_host("kept-tool").await?,
            agent.calls().await?,
        ]);
    }
    let [bare_fresh, fresh, bare_warm, reused, instantiated, from_host, reused_from_host, own_import] = best.all();
    let size = bytes.len() / 1024;
    let row = |measure: String, value: Duration, floor: Duration, what: &str, bar: f64, aim: f64| Row {
        measure,
        value: time(value),
        floor: format!("{}, {what}", time(floor)),
        figure: Figure::AtMost { value: ratio(value, floor), bar, aim: Some(aim), unit: "" },
    };
    let part = |measure: &str, value: Duration| Row {
        measure: format!("— {measure}"),
        value: time(value),
        floor: String::new(),
        figure: Figure::Report,
    };
    Ok(vec![
        row(
            format!("isolated typed async call, fresh instance, a tool of {size} KiB, string in and out"),
            fresh,
            bare_fresh,
            "bare instantiate and `call_concurrent`",
            2.5,
            1.5,
        ),
        part("of the floor: to instantiate and drop", instantiated),
        part("of the floor: to call", bare_fresh.saturating_sub(instantiated)),
        part(
            "beyond the floor, also when the host calls: account, limits, meters, task, span",
            from_host.saturating_sub(bare_fresh),
        ),
        part(
            "beyond that, when a component calls: its own import call, policy, copies of the values",
            fresh.saturating_sub(from_host),
        ),
        row(
            "the same into a reused instance".to_owned(),
            reused,
            bare_warm,
            "`call_concurrent` on a warm instance",
            3.0,
            2.0,
        ),
        part("when the host calls", reused_from_host),
        part(
            "what wasmtime alone takes for the calling guest's own import, with a host that answers at once",
            own_import,
        ),
    ])
}

async fn fused(host: Arc<Host>, programs: Programs) -> anyhow::Result<Row> {
    let bytes = wac_composed(&programs)?;
    let engine = wasmtime::Engine::default();
    let code = Component::new(&engine, bytes)?;
    let mut store = Store::new(&engine, ());
    let instance = Linker::new(&engine).instantiate(&mut store, &code)?;
    let interface = instance.get_export_index(&mut store, None, GREETS);
    let index = instance
        .get_export_index(&mut store, interface.as_ref(), "call")
        .ok_or_else(|| anyhow::anyhow!("the caller has no `call`"))?;
    let greet = instance.get_typed_func::<(u32,), (u64,)>(&mut store, index)?;
    let mut best = Best::new();
    for _ in 0..ROUNDS {
        let started = Instant::now();
        greet.call(&mut store, (FUSED_CALLS,))?;
        let bare = started.elapsed() / FUSED_CALLS;
        let started = Instant::now();
        let export = Export { interface: GREETS, name: "call", params: (FUSED_CALLS,) };
        let _bytes: u64 = host.call("caller", export).await?;
        best.note([bare, started.elapsed() / FUSED_CALLS]);
    }
    let [bare, fused] = best.all();
    Ok(Row {
        measure: format!("fused call returning a string (bar on its time: ≤ 100 ns, {})", verdict(fused)),
        value: time(fused),
        floor: format!("{}, bare wac-composed", time(bare)),
        figure: Figure::AtMost { value: ratio(fused, bare), bar: 1.5, aim: None, unit: "" },
    })
}

fn verdict(fused: Duration) -> &'static str {
    if fused <= Duration::from_nanos(100) { "met" } else { "**missed**" }
}

const GREETS: &str = "test:bench/greets@1.0.0";

/// The caller and the greeter as one component, without a host around them.
fn wac_composed(programs: &Programs) -> anyhow::Result<Vec<u8>> {
    let (caller, greeter) = (programs.read("bench-caller")?, programs.read("bench-greeter")?);
    let grants = Grants::default();
    let origin = |_: &str| None::<Origin>;
    let part = |name, bytes| Part { name, bytes, grants: &grants, origin: &origin };
    let wire = Wire { caller: 0, callee: 1, interface: "test:bench/greet@1.0.0" };
    Ok(witan_fuse::fuse(&[part("caller", &caller), part("greeter", &greeter)], &[wire])?)
}
