//! What the API serves, and what it asks of the host.

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use utoipa::ToSchema;
use witan_authorize::Policies;
use witan_capability::{CallContext, Limit};
use witan_identity::{Identities, TenantName};
use witan_ledger::Ledger;
use witan_tasks::{Edge, Observer, Paths, Tasks, Transition};
use witan_telemetry::{Logs, Metrics};

use crate::{ComponentStatus, Mounts, Requests, Settings, Token, denials::Denials, streams::Streams};

/// What the API asks of the host it serves.
pub trait Host: Send + Sync + 'static {
    /// The file that describes the system, or what stands in for it.
    fn system(&self) -> String;

    /// The components, in the order of their names.
    fn components(&self) -> Vec<ComponentStatus>;

    /// What keeps the host from taking tasks; nothing when it is ready.
    fn not_ready(&self) -> Vec<NotReady>;

    /// What does not, and an operator should know.
    fn warnings(&self) -> Vec<NotReady> {
        Vec::new()
    }
}

/// Something that keeps a host from taking tasks, or that an operator should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NotReady {
    /// What, such as a component.
    pub what: String,
    /// Why.
    pub why: String,
}

/// What an API is made of.
pub struct Parts {
    /// Bounds on requests.
    pub settings: Settings,
    /// The tasks.
    pub tasks: Tasks,
    /// Folders under which tasks may name paths: the system's `host.roots`.
    pub roots: Vec<PathBuf>,
    /// What decides each request.
    pub policies: Policies,
    /// The host.
    pub host: Arc<dyn Host>,
    /// How much clients may ask.
    pub requests: Requests,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The last log lines, what is logged, and whether traces are kept.
    pub logs: Logs,
    /// Who asks.
    pub identities: Arc<Identities>,
    /// What lets its bearer stop the host.
    pub token: Token,
    /// Where everything is written down that somebody must account for.
    pub ledger: Option<Ledger>,
}

/// Requests that read the ledger at once; the next wait.
const AUDITS: usize = 2;

/// The API of one host. Cloning is cheap.
#[derive(Clone)]
pub struct Api(pub(crate) Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) parts: Parts,
    roots: RwLock<Vec<PathBuf>>,
    mounts: RwLock<Mounts>,
    pub(crate) listen: OnceLock<std::net::SocketAddr>,
    pub(crate) started: Instant,
    pub(crate) started_at_ms: u64,
    /// Cancelled when somebody who may asks the host to stop.
    pub(crate) stop: CancellationToken,
    /// Turns for reading the ledger.
    pub(crate) audits: Arc<Semaphore>,
    /// What was refused, and is not in the ledger yet.
    pub(crate) denials: Arc<Denials>,
    /// What clients follow.
    pub(crate) streams: Streams,
    /// The WebSockets that are open.
    pub(crate) sockets: TaskTracker,
    /// Cancelled when the host stops: streams that would go on end.
    pub(crate) draining: CancellationToken,
}

impl Api {
    /// The API over `parts`, with nothing mounted.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(Arc::new(Shared {
            roots: RwLock::new(parts.roots.clone()),
            mounts: RwLock::default(),
            listen: OnceLock::new(),
            started: Instant::now(),
            started_at_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            stop: CancellationToken::new(),
            audits: Arc::new(Semaphore::new(AUDITS)),
            denials: Arc::default(),
            streams: Streams::new(parts.settings.streams),
            sockets: TaskTracker::new(),
            draining: CancellationToken::new(),
            parts,
        }))
    }

    /// Serves `mounts` from now on. Requests under way finish where they are.
    pub fn replace_mounts(&self, mounts: Mounts) {
        *self.0.mounts.write() = mounts;
    }

    /// Lets tasks name paths under `roots` from now on.
    pub fn replace_roots(&self, roots: Vec<PathBuf>) {
        *self.0.roots.write() = roots;
    }

    /// Resolves when somebody who may asked the host to stop.
    pub async fn stop_requested(&self) {
        self.0.stop.cancelled().await;
    }

    /// What decides each request.
    #[must_use]
    pub fn policies(&self) -> &Policies {
        &self.0.parts.policies
    }

    /// What serves `path`, with the path where it is mounted, if it is not the host itself.
    pub(crate) fn mount(&self, path: &str) -> Option<(String, Arc<dyn crate::Mount>)> {
        self.0.mounts.read().find(path).map(|(path, mount)| (path.to_owned(), mount.clone()))
    }

    pub(crate) fn mounted(&self) -> Vec<String> {
        self.0.mounts.read().paths().map(str::to_owned).collect()
    }

    /// For whom tasks of a request with this context run. The host's folders are its operator's: another tenant names no
    /// files in them.
    pub(crate) fn edge(&self, context: CallContext) -> Edge {
        let operators = context.tenant() == TenantName::local().as_str();
        let roots = if operators { self.0.roots.read().clone() } else { Vec::new() };
        Edge { context, paths: Paths::Under(roots) }
    }
}

/// Counts each task that has ended in `metrics`.
#[must_use]
pub fn observer(metrics: Arc<Metrics>) -> Observer {
    Arc::new(move |transition: &Transition<'_>| {
        let Some(envelope) = transition.envelope else { return };
        let duration = std::time::Duration::from_millis(envelope.usage.latency_ms);
        metrics.task_ended(&envelope.intent, envelope.status.name(), duration);
        metrics.task_used(&envelope.intent, envelope.usage.tokens, envelope.usage.cost_usd);
        let limit = envelope.error.as_ref().and_then(|error| error.limit.as_deref());
        if let Some(limit) = Limit::ALL.into_iter().find(|known| Some(known.name()) == limit) {
            metrics.limit_exceeded(limit);
        }
    })
}
