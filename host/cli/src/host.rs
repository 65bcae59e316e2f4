//! Assembles a host: engine, policy, capabilities, loader.

use std::{
    collections::BTreeSet,
    fmt::Display,
    io::IsTerminal as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use witan_admission::{Gate, LockError};
use witan_authorize::{Authorizer, Set};
use witan_capability::{Capability, Kernel};
use witan_engine::{Cache, Compiler, Engine, Settings};
use witan_ledger::Ledger;
use witan_loader::{Loader, Running};
use witan_policy::{DecisionLog, GrantPolicy};
use witan_registry_types::{Digest, Package};
use witan_secrets::RunKey;
use witan_system::{ComponentName, RequestPolicy, Source, System};
use witan_tasks::ComponentHandler;
use witan_tools::Tools;

use crate::{
    core_dump, egress,
    ledger::Outgoing,
    registry::StoreArgument,
    supply::{self, NotFetched},
};

/// A host that can load systems.
pub(crate) struct Host {
    pub(crate) engine: Arc<Engine>,
    pub(crate) kernel: Arc<Kernel>,
    pub(crate) policy: Arc<GrantPolicy>,
    pub(crate) ledger: Ledger,
    state: PathBuf,
    /// What the placeholders of secrets are made of, in all systems that it loads.
    run: RunKey,
    record: bool,
    locked: bool,
    propagate: bool,
}

/// What a host is made for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// To hold components to their grants.
    Enforce,
    /// To find out which grants they need, while they have none but their own.
    Record,
    /// To find out which grants they need by letting them do what is not granted, within the bounds of a trial.
    Trial,
}

impl Host {
    /// A host sized as `system` says, which keeps its data in the system's folder.
    pub(crate) fn new(system: &System, mode: Mode) -> anyhow::Result<Self> {
        let state = system.host.state.clone();
        if system.host.core_dumps {
            core_dump::on();
        }
        std::fs::create_dir_all(&state).with_context(|| format!("cannot make the folder `{}`", state.display()))?;
        let ledger = crate::ledger::open(system)?;
        egress::observe_by(Arc::new(Outgoing::new(ledger.clone())));
        let policy = GrantPolicy::new(DecisionLog::to_ledger(ledger.clone()));
        let policy = Arc::new(match mode {
            Mode::Enforce => policy,
            Mode::Record => policy.recording(),
            Mode::Trial => policy.trial(),
        });
        let kernel = Kernel::new(policy.clone());
        let engine = Engine::new(Settings {
            pool: system.host.pool.clone(),
            compile: system.host.compile.clone(),
            memory: widest_memory(system),
        })?;
        let run = RunKey::generate()?;
        Ok(Self {
            engine,
            kernel,
            policy,
            ledger,
            state,
            run,
            record: mode != Mode::Enforce,
            locked: false,
            propagate: system.host.telemetry.propagate,
        })
    }

    /// The same host, which starts no system that differs from its lock.
    #[must_use]
    pub(crate) fn held_to_lock(mut self, locked: bool) -> Self {
        self.locked = locked;
        self
    }

    /// Loads `system` with a progress bar, holds it to its lock, and runs the health checks.
    pub(crate) async fn load(&self, mut system: System) -> anyhow::Result<Running> {
        self.hold_to_policies(&system)?;
        let tools = Tools::new(self.engine.clone());
        let (store, lock) = (StoreArgument::usual().open()?, supply::lock(&system)?);
        supply::have_metadata(&system, &self.state).await?;
        let fetched = supply::fetch_all(&system, &store, lock.as_ref(), self.locked).await;
        let (packages, asked) = fetched.map_err(|NotFetched { component, package, digest, error }| {
            self.refused(&component, &Source::Registry(package), digest.as_ref(), format!("{error:#}"));
            error
        })?;
        let loader = self.loader(supply::gate(&system, &self.state, packages)?, tools.clone(), &mut system)?;
        let running = self.stand(&loader, system)?;
        if self.locked {
            self.hold_to_lock(&running)?;
        }
        self.follow_logs(&running, &asked).await?;
        loader.start(&running).await?;
        if !self.locked && !self.record {
            supply::keep_lock(&running);
        }
        tools.set(running.tools().map(|(name, service)| (name.clone(), service.clone())));
        Ok(running)
    }

    /// Has the system's request policies asked, unless a host that keeps their versions does so already.
    fn hold_to_policies(&self, system: &System) -> anyhow::Result<()> {
        let settings = policy_settings(system);
        if self.policy.asks() || settings.folder.is_none() {
            return Ok(());
        }
        let (sources, origin) = settings.sources()?;
        let set = Set::new(&sources).with_context(|| format!("the policies of the {origin} do not hold"))?;
        self.policy.ask(Authorizer::new(set, 0));
        Ok(())
    }

    /// As [`Self::load`], without running code of the components, and without fetching any.
    pub(crate) fn prepare(&self, mut system: System) -> anyhow::Result<Running> {
        let (store, lock) = (StoreArgument::usual().open()?, supply::lock(&system)?);
        let packages = supply::fetched(&system, &store, lock.as_ref())?;
        let gate = supply::gate(&system, &self.state, packages)?;
        let loader = self.loader(gate, Tools::new(self.engine.clone()), &mut system)?;
        let running = self.stand(&loader, system)?;
        if self.locked {
            self.hold_to_lock(&running)?;
        }
        Ok(running)
    }

    /// Verifies, compiles and links all components of `system`, and says which nobody signed.
    fn stand(&self, loader: &Loader, system: System) -> anyhow::Result<Running> {
        let bar = bar(system.components.len());
        let running = loader.prepare(system, &|name| step(&bar, name.as_str()));
        bar.finish_and_clear();
        // Who was let in is on the disk before any of it runs.
        let written = self.policy.log().settle();
        let running = running?;
        if let Err(why) = written {
            anyhow::bail!("what was loaded cannot be written to the ledger, and nothing of it runs: {why}");
        }
        for name in running.unsigned() {
            tracing::warn!(component = %name, "UNSIGNED: nobody vouches for its bytes; `allow-unsigned` lets it run");
        }
        Ok(running)
    }

    /// Writes down that a component is not loaded, for a reason that the gate does not know of.
    fn refused(&self, name: &ComponentName, source: &Source, digest: Option<&Digest>, reason: String) {
        let digest = digest.map(|digest| digest as &dyn Display);
        self.policy.log().record_load(name.as_str(), &source.to_string(), digest, false, reason);
    }

    fn hold_to_lock(&self, running: &Running) -> anyhow::Result<()> {
        let held = supply::hold_to_lock(running);
        if let Err(LockError::Differs { differences, .. }) = &held {
            for difference in differences {
                let Ok(name) = difference.component.parse() else { continue };
                let Some(component) = running.system.components.get(&name) else { continue };
                let digest = running.component(&name).map(|loaded| loaded.admitted.digest());
                self.refused(&name, &component.source, digest, difference.to_string());
            }
        }
        Ok(held?)
    }

    /// Sees that the logs of registries that were asked go on from where they were, before anything of `running` runs.
    async fn follow_logs(&self, running: &Running, asked: &BTreeSet<Package>) -> anyhow::Result<()> {
        for (name, loaded) in running.components() {
            let source = running.system.components.get(name).map(|component| &component.source);
            let Some(Source::Registry(package)) = source else { continue };
            if !asked.contains(package) {
                continue;
            }
            let shown = &loaded.admitted.checkpoints;
            match supply::continues(&running.system, &self.state, package, shown).await {
                Ok(now) => supply::keep_logs(&self.state, &now)?,
                Err(error) => {
                    let source = Source::Registry(package.clone());
                    self.refused(name, &source, Some(loaded.admitted.digest()), format!("{error:#}"));
                    return Err(error).with_context(|| format!("`{name}` is not loaded"));
                }
            }
        }
        Ok(())
    }

    /// The folder of the host's data.
    pub(crate) fn state(&self) -> &Path {
        &self.state
    }

    /// What loads `system`, whose components get the placeholders of their secrets.
    fn loader(&self, gate: Gate, tools: Tools, system: &mut System) -> anyhow::Result<Loader> {
        if let Err(error) = crate::ledger::hide(&self.ledger, system) {
            // Whoever needs one is refused it as well.
            tracing::warn!(
                error = format!("{error:#}"),
                "stored secrets cannot be read, and are not masked in the ledger"
            );
        }
        Ok(Loader {
            engine: self.engine.clone(),
            gate: Arc::new(gate),
            policy: self.policy.clone(),
            kernel: self.kernel.clone(),
            capabilities: capabilities_with(
                &self.state,
                tools,
                witan_http::Settings {
                    propagate: self.propagate,
                    ..egress::settings(system, &self.run, self.ledger.redactor())?
                },
            )?,
            cache: Some(cache(&self.state)?),
            compiler: Some(compiler()?),
            link_all: self.record,
        })
    }
}

impl Drop for Host {
    /// Others may hold the ledger still, and a process that ends takes with it what is not written yet.
    fn drop(&mut self) {
        self.ledger.close();
    }
}

/// Where the request policies of `system` come from.
pub(crate) fn policy_settings(system: &System) -> witan_authorize::Settings {
    let RequestPolicy { folder, entities, shadow } = system.host.policy.clone();
    witan_authorize::Settings { folder, entities, shadow, authenticated: system.host.auth.is_some() }
}

/// Every capability of this host, for what asks about them and sends nothing.
pub(crate) fn capabilities(state: &Path, tools: Tools) -> anyhow::Result<Vec<Arc<dyn Capability>>> {
    capabilities_with(state, tools, witan_http::Settings::default())
}

/// Every capability of this host, of which HTTP is set as `http` says.
fn capabilities_with(
    state: &Path,
    tools: Tools,
    http: witan_http::Settings,
) -> anyhow::Result<Vec<Arc<dyn Capability>>> {
    let mut all = witan_wasi::capabilities();
    all.push(Arc::new(witan_http::Types));
    all.push(Arc::new(witan_http::Client::new(http)?));
    all.push(Arc::new(witan_config::Config));
    all.push(Arc::new(witan_logging::Logging::default()));
    all.push(Arc::new(witan_keyvalue::Keyvalue::new(state.join("keyvalue.sqlite"))));
    all.push(Arc::new(tools));
    Ok(all)
}

/// Which capability of this host an import needs granted.
pub(crate) fn needs(state: &Path) -> anyhow::Result<impl Fn(&str) -> Option<&'static str> + Sync> {
    let settings = Settings::default();
    let all = capabilities(state, Tools::new(Engine::new(settings)?))?;
    Ok(move |import: &str| witan_loader::needs(&all, import))
}

/// The widest memory that any call tree may use: no single memory can be larger.
fn widest_memory(system: &System) -> u64 {
    let own = system.components.values().map(|component| component.limits.call.memory);
    own.chain([system.limits.memory]).max().unwrap_or(0).next_multiple_of(64 << 10)
}

fn cache(state: &Path) -> anyhow::Result<Cache> {
    Ok(Cache::open(state.join("code"), &state.join("code.key"))?)
}

/// This very program, as the child process that compiles.
fn compiler() -> anyhow::Result<Compiler> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    Ok(Compiler { program, arguments: vec!["compile-worker".to_owned()] })
}

fn bar(components: usize) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(components as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:20} {pos}/{len} compiled {msg}") {
        bar.set_style(style);
    }
    bar
}

fn step(bar: &ProgressBar, name: &str) {
    bar.set_message(name.to_owned());
    bar.inc(1);
}

/// What serves each intent of `running`.
pub(crate) fn handlers(running: &Running) -> witan_tasks::Handlers {
    running
        .intents()
        .map(|(intent, service)| (intent.to_owned(), Arc::new(ComponentHandler::new(service.clone())) as _))
        .collect()
}
