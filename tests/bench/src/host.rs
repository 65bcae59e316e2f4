//! A host as the product assembles it, with the components that are measured.

use std::{path::Path, sync::Arc};

use anyhow::Context as _;
use tempfile::TempDir;
use wasmtime::component::{Accessor, ComponentNamedList, Instance, Lift, Lower};
use witan_admission::{Development, Gate};
use witan_capability::{CallContext, CallError, CallState, Capability, Kernel};
use witan_engine::{Engine, Invocation, Reply, Service, Settings};
use witan_ledger::{Ledger, Settings as LedgerSettings};
use witan_loader::{Loader, Running};
use witan_policy::{DecisionLog, GrantPolicy};
use witan_system::{CompileIn, ComponentName, System};
use witan_telemetry::LogSettings;
use witan_tools::Tools;

/// A host with the system of the benchmarks.
pub(crate) struct Host {
    pub(crate) engine: Arc<Engine>,
    running: Running,
    _state: TempDir,
}

impl Host {
    /// Loads `tests/bench/system.toml`.
    pub(crate) async fn new(root: &Path) -> anyhow::Result<Self> {
        let state = tempfile::tempdir()?;
        // Spans are made where somebody listens, as in the product; nothing is written that is no warning.
        let _already = witan_telemetry::init(&LogSettings::default());
        let policy = Arc::new(GrantPolicy::new(DecisionLog::to_ledger(Ledger::open(
            &state.path().join("ledger"),
            LedgerSettings::default(),
        )?)));
        let engine = Engine::new(Settings::default())?;
        let mut capabilities: Vec<Arc<dyn Capability>> = witan_wasi::capabilities();
        capabilities.push(Arc::new(Tools::new(engine.clone())));
        let loader = Loader {
            engine: engine.clone(),
            gate: Arc::new(Gate::local(state.path(), Development::at(&Development::folder()?)?.public()?)),
            kernel: Kernel::new(policy.clone()),
            policy,
            capabilities,
            cache: None,
            compiler: None,
            link_all: false,
        };
        let running = loader.load(system(root)?, &|_| {}).await?;
        Ok(Self { engine, running, _state: state })
    }

    /// The component called `name`.
    pub(crate) fn service(&self, name: &str) -> anyhow::Result<Arc<Service>> {
        let name: ComponentName = name.parse()?;
        let loaded = self.running.component(&name).with_context(|| format!("there is no component `{name}`"))?;
        Ok(loaded.service.clone())
    }

    /// Calls an export of the component called `name`, in a call tree of its own.
    pub(crate) async fn call<P, R>(&self, name: &str, export: Export<P>) -> anyhow::Result<R>
    where
        P: ComponentNamedList + Lower + Send + Sync + 'static,
        (R,): ComponentNamedList + Lift,
        R: Send + Sync + 'static,
    {
        let account = self.engine.open_account(self.running.system.limits.clone());
        let call = Typed::<P, R> { export, output: std::marker::PhantomData };
        Ok(self.service(name)?.call_plain(&CallContext::local(), &account, call).await?)
    }
}

fn system(root: &Path) -> anyhow::Result<System> {
    let path = root.join("tests/bench/system.toml");
    let mut system = System::parse(&std::fs::read_to_string(&path)?, &path)?;
    system.components.values_mut().for_each(|component| component.compile = CompileIn::Host);
    Ok(system)
}

/// A function and what it is given.
pub(crate) struct Export<P> {
    pub(crate) interface: &'static str,
    pub(crate) name: &'static str,
    pub(crate) params: P,
}

struct Typed<P, R> {
    export: Export<P>,
    output: std::marker::PhantomData<fn() -> R>,
}

impl<P, R> Invocation for Typed<P, R>
where
    P: ComponentNamedList + Lower + Send + Sync + 'static,
    (R,): ComponentNamedList + Lift,
    R: Send + Sync + 'static,
{
    type Output = R;

    async fn run(self, accessor: &Accessor<CallState>, instance: Instance, reply: Reply<R>) -> wasmtime::Result<()> {
        let Export { interface, name, params } = self.export;
        let function = accessor.with(|mut store| {
            let interface = instance.get_export_index(&mut store, None, interface);
            let index = instance
                .get_export_index(&mut store, interface.as_ref(), name)
                .ok_or_else(|| CallError::Invalid(format!("there is no export `{name}`")))?;
            instance.get_typed_func::<P, (R,)>(&mut store, index)
        })?;
        reply.send(function.call_concurrent(accessor, params).await?.0);
        Ok(())
    }
}
