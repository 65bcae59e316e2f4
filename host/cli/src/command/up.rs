//! `witan up`: serves the system.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::Args;
use http::uri::Scheme;
use notify::{RecursiveMode, Watcher as _};
use parking_lot::RwLock;
use tokio::{
    runtime::Handle,
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};
use witan_api::{Api, ComponentStatus, Exposure, NotReady, Parts, Requests, Tls, TlsFiles, Token};
use witan_authorize::Policies;
use witan_events::{SystemReloaded, What};
use witan_identity::{Directory, Identities};
use witan_ledger::Ledger;
use witan_loader::Running;
use witan_system::System;
use witan_tasks::{Observer, Store, Tasks};
use witan_telemetry::{Format, LogSettings, Logs, Metrics, Sample, Spans};

use crate::{
    Global, egress,
    host::{self, Host, Mode},
    ledger, memory, mount, output, owner, policies, source, tasks,
    watchman::Watchman,
};

#[derive(Args)]
#[command(after_help = "Examples:
  witan up                                  serve ./system.toml on 127.0.0.1:8080
  witan up --watch                          load again when system.toml or a component changes
  curl -s localhost:8080/v1/tasks?wait=30 -H 'content-type: application/json' \\
    -d '{\"intent\": \"summarize\", \"input\": {\"text\": \"...\"}}'")]
pub(crate) struct Arguments {
    /// Where to listen. Addresses that other machines reach need [host.auth], and TLS here or in front.
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// A proxy in front speaks TLS with clients, is all that reaches the address, and adds `X-Forwarded-For`.
    #[arg(long)]
    behind_tls: bool,
    /// Load the system again when its file or a component changes.
    #[arg(long)]
    watch: bool,
    /// How logs are written.
    #[arg(long, value_enum, default_value_t = LogFormat::Pretty)]
    log_format: LogFormat,
    /// Which calls write a log line when they end.
    #[arg(long, value_enum, default_value_t = LogSpans::None)]
    log_calls: LogSpans,
    /// How long calls under way may take to end when the host stops.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = super::time)]
    drain: Duration,
    /// The largest request body, in bytes.
    #[arg(long, value_name = "BYTES")]
    max_body: Option<u64>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum LogFormat {
    /// For people.
    Pretty,
    /// An object a line.
    Json,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum LogSpans {
    /// None.
    None,
    /// Calls of components.
    Components,
    /// Calls of components, and of the host by components.
    All,
}

pub(crate) async fn run(arguments: Arguments, global: &Global) -> anyhow::Result<ExitCode> {
    let logs = logs(&arguments, global)?;
    let system = source::load(global)?;
    let asks = system.host.auth.as_ref().is_some_and(|auth| auth.required);
    if arguments.behind_tls && !asks {
        // To this host, whoever the proxy lets in comes from this machine.
        bail!("`--behind-tls` lets others in, and nothing asks who they are; add [host.auth] to system.toml");
    }
    let tls = tls(&system)?;
    let exposure = Exposure { asks, private: arguments.behind_tls || tls.is_some() };
    let listener = witan_api::bind(arguments.listen, exposure).await?;
    let _owner = owner::host(&system.host.state).await?;
    let mut telemetry = crate::telemetry::start(&system, &logs)?;
    let host = Arc::new(Host::new(&system, Mode::Enforce)?.held_to_lock(global.locked));
    crate::telemetry::mask(&logs, host.ledger.redactor());
    let database = crate::database::open(&system).await?;
    let claim = crate::database::claim(&system, &database).await?;
    let directory =
        Directory::open(database.clone(), host.state(), Arc::new(ledger::Identities(host.ledger.clone()))).await?;
    let identities = Arc::new(Identities::new(witan_identity::Settings {
        directory,
        auth: system.host.auth.clone(),
        egress: egress::way(&system)?,
    })?);
    let policies = policies::open(&system, database.clone()).await?;
    host.policy.ask(policies.authorizer().clone());
    let store = tasks::open(&system, database).await?;
    let (changed, changes) = mpsc::channel(1);
    let mut watch = Watch { changed: arguments.watch.then(|| changed.clone()), watcher: None };
    // Before the files are read: a change of what was read must not be missed.
    watch.files_of(&system);
    let running = Arc::new(host.load(system).await?);
    let scheme = if tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
    let up = Up::new(host, running, &arguments, logs, store.clone(), Gates { identities, policies }, scheme.clone())?;
    let running = up.current.read().clone();
    let deliverer = tokio::spawn(tasks::callbacks(&up.tasks, store, &running.system)?.run());
    tasks::tell_loaded(&up.tasks, &running);
    tasks::recover(&up.tasks, &running).await?;
    up.requests.count_left(&up.tasks);

    let address = listener.local_addr().context("cannot tell where the host listens")?;
    let announced =
        witan_api::Running { url: format!("{scheme}://{address}"), pid: std::process::id(), token: up.token.clone() };
    announced.write(up.host.state()).context("cannot write `host.json` into the state folder")?;
    let stopped = super::stopped();
    let origin = up.current.read().system.origin.file().display().to_string();
    ledger::host(&up.host.ledger, "host-start", origin.clone()).await?;
    memory::give_back();
    announce(&announced.url, &up, global);
    let reloads = tokio::spawn(up.clone().reload_on_change(watch, changes));
    let watchman = Watchman {
        current: up.current.clone(),
        policy: up.host.policy.clone(),
        state: up.host.state().to_owned(),
        reload: changed,
    };
    let watchman = tokio::spawn(watchman.run());
    let sweeper = tokio::spawn(tasks::sweep(up.tasks.clone(), up.current.clone()));
    let keeper = crate::database::Keeper::start(claim, up.tasks.clone());
    let ended = async {
        tokio::select! {
            () = stopped => {}
            () = keeper.lost() => {}
        }
    };
    let served = witan_api::serve_tls(listener, up.api.clone(), tls, ended).await;
    reloads.abort();
    watchman.abort();
    sweeper.abort();
    deliverer.abort();
    witan_api::Running::remove(up.host.state()).context("cannot remove `host.json` from the state folder")?;
    let running = up.current.read().clone();
    running.drained().await;
    // What it sends is in the ledger too.
    telemetry.finish().await;
    let told = ledger::host(&up.host.ledger, "host-stop", origin).await;
    // Others may hold the host still, and take its ledger with them when this process ends.
    up.host.ledger.close();
    served?;
    told?;
    keeper.finish().await?;
    Ok(ExitCode::SUCCESS)
}

/// TLS, where the system asks for it.
fn tls(system: &System) -> anyhow::Result<Option<Arc<Tls>>> {
    let Some(tls) = &system.host.tls else { return Ok(None) };
    let (certificate, key) = (tls.certificate.clone(), tls.key.clone());
    let files = TlsFiles { certificate, key, client_ca: tls.client_ca.clone() };
    Ok(Some(Arc::new(Tls::load(files).context("cannot speak TLS as [host.tls] says")?)))
}

fn logs(arguments: &Arguments, global: &Global) -> anyhow::Result<Logs> {
    crate::telemetry::logs(&LogSettings {
        filter: global.log.clone(),
        format: match arguments.log_format {
            LogFormat::Pretty => Format::Pretty,
            LogFormat::Json => Format::Json,
        },
        spans: match arguments.log_calls {
            LogSpans::None => Spans::None,
            LogSpans::Components => Spans::Components,
            LogSpans::All => Spans::All,
        },
        ..LogSettings::default()
    })
}

fn announce(url: &str, up: &Up, global: &Global) {
    if global.json {
        return output::json(&serde_json::json!({ "url": url, "pid": std::process::id() }));
    }
    let running = up.current.read();
    let names: Vec<&str> = running.components().keys().map(|name| name.as_str()).collect();
    let names = if names.is_empty() { "no component".to_owned() } else { names.join(", ") };
    output::line(&format!("serving {names} on {url}; stop with `witan stop` or Ctrl-C"));
}

/// A host that serves.
#[derive(Clone)]
struct Up {
    host: Arc<Host>,
    current: Arc<RwLock<Arc<Running>>>,
    tasks: Tasks,
    api: Api,
    requests: Requests,
    metrics: Arc<Metrics>,
    identities: Arc<Identities>,
    token: Token,
    /// How clients speak to it.
    scheme: Scheme,
}

/// What decides who may ask, and for what.
struct Gates {
    identities: Arc<Identities>,
    policies: Policies,
}

/// What the API asks of the host.
struct Status {
    current: Arc<RwLock<Arc<Running>>>,
    ledger: Ledger,
}

impl witan_api::Host for Status {
    fn system(&self) -> String {
        self.current.read().system.origin.file().display().to_string()
    }

    fn components(&self) -> Vec<ComponentStatus> {
        let running = self.current.read();
        let status = running
            .components()
            .iter()
            .map(|(name, loaded)| ComponentStatus::new(name.as_str(), &loaded.digest, &loaded.service.stats()));
        status.collect()
    }

    fn not_ready(&self) -> Vec<NotReady> {
        let running = self.current.read().clone();
        let open = running.components().iter().filter(|(_, loaded)| loaded.service.stats().breaker_open);
        let why = "it trapped too often, and its breaker is open for a while";
        let open = open.map(|(name, _)| NotReady { what: name.to_string(), why: why.to_owned() });
        let ledger = self.ledger.health().failing.map(|why| NotReady { what: "ledger".to_owned(), why });
        open.chain(ledger).collect()
    }

    fn warnings(&self) -> Vec<NotReady> {
        let running = self.current.read().clone();
        let warning = |what: &str, why: String| NotReady { what: what.to_owned(), why };
        let unsigned =
            running.unsigned().map(|name| warning(name.as_str(), "UNSIGNED: nobody vouches for it".to_owned()));
        let held =
            running.held().iter().map(|held| warning(&held.component, format!("in quarantine: {}", held.reason)));
        let stopped = running.components().iter().filter(|(_, loaded)| loaded.service.is_stopped());
        let stopped =
            stopped.map(|(name, _)| warning(name.as_str(), "in quarantine: it takes no more calls".to_owned()));
        let ledger = self.ledger.health().warning.map(|why| warning("ledger", why));
        unsigned.chain(held).chain(stopped).chain(ledger).collect()
    }
}

impl Up {
    fn new(
        host: Arc<Host>,
        running: Arc<Running>,
        arguments: &Arguments,
        logs: Logs,
        store: Store,
        gates: Gates,
        scheme: Scheme,
    ) -> anyhow::Result<Self> {
        let Gates { identities, policies } = gates;
        let current = Arc::new(RwLock::new(running.clone()));
        let engine = host.engine.clone();
        let unfinished = Arc::new(std::sync::OnceLock::<Tasks>::new());
        let requests = crate::requests::start(&running.system.host.requests);
        let metrics = Arc::new(Metrics::new({
            let (current, host, unfinished) = (current.clone(), host.clone(), unfinished.clone());
            let (logs, gate) = (logs.clone(), requests.gate.clone());
            move || {
                let (inside, waiting) = gate.load();
                Sample {
                    requests_inside: inside as u64,
                    requests_waiting: waiting as u64,
                    spans: logs.traces.counts(),
                    ..sample(&current.read(), &host, unfinished.get())
                }
            }
        }));
        let tasks = Tasks::stored(
            tasks::settings(&running.system),
            host::handlers(&running),
            Arc::new(move |limits| engine.open_account(limits)),
            observer(&metrics, &host.ledger),
            store,
        );
        let _first = unfinished.set(tasks.clone());
        policies::observe(&policies, &metrics, &tasks, &host.ledger);
        let token = Token::generate().context("the system has no randomness to give")?;
        let mut settings = witan_api::Settings { drain: arguments.drain, ..witan_api::Settings::default() };
        settings.behind_proxy = arguments.behind_tls;
        settings.body_bytes = arguments.max_body.unwrap_or(settings.body_bytes);
        let api = Api::new(Parts {
            settings,
            tasks: tasks.clone(),
            roots: running.system.host.roots.clone(),
            policies,
            host: Arc::new(Status { current: current.clone(), ledger: host.ledger.clone() }),
            requests: requests.clone(),
            metrics: metrics.clone(),
            logs,
            identities: identities.clone(),
            token: token.clone(),
            ledger: Some(host.ledger.clone()),
        });
        api.replace_mounts(mount::mounts(&host.engine, &running, &metrics, &scheme)?);
        Ok(Self { host, current, tasks, api, requests, metrics, identities, token, scheme })
    }

    /// Loads the system again whenever it is asked to: by SIGHUP, by a change of the files that `watch` watches, and when a
    /// component is let go from quarantine.
    async fn reload_on_change(self, mut watch: Watch, mut changes: mpsc::Receiver<()>) {
        let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
        loop {
            tokio::select! {
                _ = hangup.recv() => {}
                Some(()) = changes.recv() => settle(&mut changes).await,
            }
            if let Err(error) = self.reload(&mut watch).await {
                tracing::error!(
                    error = format!("{error:#}"),
                    "the system was not loaded again; the former one goes on"
                );
            }
        }
    }

    /// Loads the system beside the one that runs, and puts it in its place once it stands.
    async fn reload(&self, watch: &mut Watch) -> anyhow::Result<()> {
        let file = self.current.read().system.origin.file().to_owned();
        let system = System::load(&file)?;
        // Before they are read, and whether they load or not: it is by a change of these that it will.
        watch.files_of(&system);
        let host = self.host.clone();
        // To compile keeps a thread busy, which must not be one that serves calls.
        let load = tokio::task::spawn_blocking(move || Handle::current().block_on(host.load(system)));
        let running = Arc::new(load.await.context("the load of the system was broken off")??);
        let mounts = mount::mounts(&self.host.engine, &running, &self.metrics, &self.scheme)?;
        let before = self.current.read().clone();
        ledger::grants_changed(&self.host.ledger, &before.system, &running.system).await?;
        ledger::host(&self.host.ledger, "system-reload", file.display().to_string()).await?;
        if !self.identities.replace(running.system.host.auth.clone()) {
            bail!("whether credentials are asked for is decided when the host starts: stop it, and start it again");
        }
        self.api.replace_mounts(mounts);
        crate::requests::replace(&self.requests, &running.system.host.requests);
        self.api.replace_roots(running.system.host.roots.clone());
        let settings = tasks::settings(&running.system);
        self.tasks.replace(host::handlers(&running), settings.limits, settings.run_again);
        let former = std::mem::replace(&mut *self.current.write(), running);
        tasks::tell_loaded(&self.tasks, &self.current.read().clone());
        let reloaded = SystemReloaded { system: file.display().to_string() };
        self.tasks.bus().publish(None, What::SystemReloaded(reloaded));
        tracing::info!(system = %file.display(), "the system was loaded again");
        tokio::spawn(async move {
            former.drained().await;
            drop(former);
            memory::give_back();
            tracing::info!("the former system has ended its last call");
        });
        Ok(())
    }
}

/// Counts each task that has ended, and writes down what becomes of each.
fn observer(metrics: &Arc<Metrics>, ledger: &Ledger) -> Observer {
    let (counts, ledger) = (witan_api::observer(metrics.clone()), ledger.clone());
    Arc::new(move |transition| {
        counts(transition);
        ledger::task(&ledger, transition);
    })
}

fn sample(running: &Running, host: &Host, tasks: Option<&Tasks>) -> Sample {
    use std::sync::atomic::Ordering::Relaxed;
    let components = running.components().iter();
    Sample {
        host_calls: host.kernel.host_calls.load(Relaxed),
        denials: host.kernel.denials_by_action(),
        egress_bytes: witan_capability::egress_bytes(),
        decisions_dropped: host.policy.log().dropped(),
        ledger: ledger::sample(&host.ledger),
        tasks_unfinished: tasks.map_or(0, |tasks| tasks.unfinished() as u64),
        tasks_running: tasks.map_or(0, |tasks| tasks.busy() as u64),
        components: components.map(|(name, loaded)| (name.to_string(), loaded.service.stats())).collect(),
        ..Sample::default()
    }
}

/// How long files must be left alone before they are read: whoever writes one writes it in pieces.
const QUIET: Duration = Duration::from_millis(200);

/// Waits until there are no more changes for a while.
async fn settle(changes: &mut mpsc::Receiver<()>) {
    while let Ok(Some(())) = tokio::time::timeout(QUIET, changes.recv()).await {}
}

/// Watches the files of a system, if it is asked to.
struct Watch {
    /// Told of changes; none where nothing is watched.
    changed: Option<mpsc::Sender<()>>,
    /// Watches as long as it lives.
    watcher: Option<notify::RecommendedWatcher>,
}

impl Watch {
    /// Watches the files of `system` from now on, in place of those before.
    fn files_of(&mut self, system: &System) {
        let Some(changed) = &self.changed else { return };
        match watch_files(system, changed.clone()) {
            Ok(watcher) => self.watcher = Some(watcher),
            Err(error) => tracing::warn!(%error, "cannot watch the system's files"),
        }
    }
}

/// Tells `changed` when the system's file or a component's changes. Folders are watched, since editors replace files.
fn watch_files(system: &System, changed: mpsc::Sender<()>) -> notify::Result<notify::RecommendedWatcher> {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut files: Vec<PathBuf> = vec![absolute(system.origin.file())];
    let components = system.components.values().filter_map(|component| component.source.file()).map(absolute);
    // A component that was built anew is signed after it is written.
    files.extend(components.flat_map(|wasm| [witan_admission::bundle_path(&wasm), wasm]));
    let watched = files.clone();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let Ok(event) = event else { return };
        if !event.kind.is_access() && event.paths.iter().any(|path| watched.contains(path)) {
            // One pending change is as good as many.
            let _pending = changed.try_send(());
        }
    })?;
    let mut folders: Vec<&Path> = files.iter().filter_map(|file| file.parent()).collect();
    folders.sort_unstable();
    folders.dedup();
    for folder in folders {
        watcher.watch(folder, RecursiveMode::NonRecursive)?;
    }
    Ok(watcher)
}
