//! Takes tasks within bounds, and keeps the last.
//!
//! Where there is a store, nobody is told of a change before it is durable: a task is accepted, starts and has ended once the
//! database says so. So a host that is killed knows when it starts again what it has promised ([`Tasks::recover`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use witan_callback::Deliverer;
use witan_capability::{Account, CallContext, Limits};
use witan_events::Bus;
use witan_queue::Turns;
use witan_task_store::{New, Row, State, Store};

use crate::{
    Code, Envelope, Handler, Input, Paths, Task, TaskError, TaskRequest, Work, WorkInput,
    kept::Kept,
    once::InFlight,
    record::{About, Place as KeptIn, now_ms},
    run::Run,
};

/// Bounds on the tasks of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Tasks that run at once.
    pub concurrency: usize,
    /// Tasks that wait for a place; the next is refused.
    pub queue: usize,
    /// Bytes of the requests of all tasks that run or wait.
    pub unfinished_bytes: usize,
    /// Whether tenants share the host: then one has at most seven eighths of each of these, and the rest is for whoever comes
    /// next.
    pub shared: bool,
    /// Ended tasks that are kept in memory.
    pub kept: usize,
    /// Bytes of the ended tasks that are kept in memory.
    pub kept_bytes: usize,
    /// What the call tree of one task may use.
    pub limits: Limits,
    /// Intents whose tasks are run again where the host ended while they ran. Those of others have failed then.
    pub run_again: BTreeSet<String>,
}

impl Default for Settings {
    /// Enough for a busy small machine, within some hundred megabytes at worst.
    fn default() -> Self {
        Self {
            concurrency: 64,
            queue: 1_000,
            unfinished_bytes: 256 << 20,
            shared: false,
            kept: 1_000,
            kept_bytes: 32 << 20,
            limits: Limits::default(),
            run_again: BTreeSet::new(),
        }
    }
}

impl Settings {
    /// How many of `all` one tenant may have.
    pub(crate) fn of_one_tenant(&self, all: usize) -> usize {
        if self.shared { all - all / 8 } else { all }
    }
}

/// For each intent, what serves it.
pub type Handlers = BTreeMap<String, Arc<dyn Handler>>;

/// Opens the account of a call tree; the engine's, which ends it at its deadline whatever its guests do.
pub type OpenAccount = Arc<dyn Fn(Limits) -> Arc<Account> + Send + Sync>;

/// Sees each task come to each of its states, once it is durable. Must not block.
pub type Observer = Arc<dyn Fn(&Transition<'_>) + Send + Sync>;

/// A task has come to a state.
#[derive(Clone, Copy, Debug)]
pub struct Transition<'a> {
    /// The task.
    pub task: Uuid,
    /// What was asked for.
    pub intent: &'a str,
    /// For whom, with its tenant, principal, privacy and trace; of a task that is paused, resumed or cancelled, who did that
    /// where somebody did.
    pub context: &'a CallContext,
    /// The state.
    pub state: State,
    /// How often its handler was started.
    pub attempt: u32,
    /// What it came to, where it has ended.
    pub envelope: Option<&'a Envelope>,
}

/// Who asks, and what they may name.
#[derive(Clone, Debug)]
pub struct Edge {
    /// For whom.
    pub context: CallContext,
    /// Which files a request may name.
    pub paths: Paths,
}

/// The tasks of a host. Cloning is cheap.
#[derive(Clone)]
pub struct Tasks(pub(crate) Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) open_account: OpenAccount,
    observer: Observer,
    pub(crate) serving: RwLock<Serving>,
    pub(crate) kept: Mutex<Kept>,
    pub(crate) turns: Turns,
    pub(crate) store: Option<Store>,
    draining: AtomicBool,
    pub(crate) in_flight: InFlight,
    pub(crate) bus: Bus,
    pub(crate) deliverer: OnceLock<Deliverer>,
    /// Cancelled when what runs is left to the next host.
    pub(crate) abandoned: CancellationToken,
    /// Tasks whose turn has come and whose end is not stored yet.
    busy: AtomicUsize,
    changed: watch::Sender<()>,
}

/// What a reload replaces.
pub(crate) struct Serving {
    handlers: Handlers,
    pub(crate) limits: Limits,
    pub(crate) run_again: BTreeSet<String>,
}

/// A place among the unfinished, given back when it is dropped.
pub(crate) struct Place {
    tasks: Tasks,
    tenant: String,
    bytes: usize,
}

impl Place {
    /// Takes a place for a request that was accepted before.
    pub(crate) fn again(tasks: &Tasks, tenant: &str) -> Self {
        tasks.0.kept.lock().force(tenant);
        Self { tasks: tasks.clone(), tenant: tenant.to_owned(), bytes: 0 }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.tasks.0.kept.lock().release(&self.tenant, self.bytes);
        self.tasks.0.changed.send_replace(());
    }
}

/// A task that is at work, as long as this lives.
pub(crate) struct Busy(Tasks);

impl Busy {
    pub(crate) fn new(tasks: &Tasks) -> Self {
        tasks.0.busy.fetch_add(1, Ordering::SeqCst);
        Self(tasks.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.0.busy.fetch_sub(1, Ordering::SeqCst);
        self.0.0.changed.send_replace(());
    }
}

impl Tasks {
    /// Tasks that `handlers` serve, each on an account that `open_account` opens; `observer` sees each change of state. They
    /// are kept in memory.
    #[must_use]
    pub fn new(settings: Settings, handlers: Handlers, open_account: OpenAccount, observer: Observer) -> Self {
        Self::with(settings, handlers, open_account, observer, None)
    }

    /// The same, kept in `store`. [`Self::recover`] goes on with those that are there.
    #[must_use]
    pub fn stored(
        settings: Settings,
        handlers: Handlers,
        open_account: OpenAccount,
        observer: Observer,
        store: Store,
    ) -> Self {
        Self::with(settings, handlers, open_account, observer, Some(store))
    }

    fn with(
        settings: Settings,
        handlers: Handlers,
        open_account: OpenAccount,
        observer: Observer,
        store: Option<Store>,
    ) -> Self {
        let limits = settings.limits.clone();
        let run_again = settings.run_again.clone();
        Self(Arc::new(Shared {
            // Who may wait has taken a place among the unfinished, which are bounded.
            turns: Turns::new(settings.concurrency, settings.of_one_tenant(settings.concurrency), usize::MAX),
            serving: RwLock::new(Serving { handlers, limits, run_again }),
            settings,
            open_account,
            observer,
            kept: Mutex::default(),
            store,
            draining: AtomicBool::new(false),
            in_flight: InFlight::default(),
            bus: Bus::new(),
            deliverer: OnceLock::new(),
            abandoned: CancellationToken::new(),
            busy: AtomicUsize::new(0),
            changed: watch::Sender::new(()),
        }))
    }

    /// Serves intents by `handlers`, each task within `limits`, from now on, and runs those of `run_again` again after a
    /// crash. Tasks that were accepted keep what they have.
    pub fn replace(&self, handlers: Handlers, limits: Limits, run_again: BTreeSet<String>) {
        *self.0.serving.write() = Serving { handlers, limits, run_again };
    }

    /// The intents that are served.
    #[must_use]
    pub fn intents(&self) -> Vec<String> {
        self.0.serving.read().handlers.keys().cloned().collect()
    }

    /// Accepts a task, and runs it as soon as its turn has come.
    ///
    /// # Errors
    /// When the request is at fault, its intent is not served, a path may not be named, too many tasks wait, or it cannot be
    /// stored.
    pub async fn submit(&self, request: TaskRequest, edge: &Edge) -> Result<Task, TaskError> {
        match self.submit_with(request, edge, None).await? {
            Submitted::New(task) => Ok(task),
            // Without a key there is none that is known.
            Submitted::Known(_) => Err(TaskError::new(Code::Internal, "a task without a key is known already")),
        }
    }

    pub(crate) async fn submit_with(
        &self,
        request: TaskRequest,
        edge: &Edge,
        key: Option<witan_task_store::Key>,
    ) -> Result<Submitted, TaskError> {
        request.check()?;
        self.check_callback(edge.context.tenant(), request.callback.as_ref()).await?;
        if edge.context.local_only() && request.callback.is_some() {
            let message = "a policy keeps the task on this machine, and a callback leaves it; ask for the task instead";
            return Err(TaskError::invalid("callback", message));
        }
        let (handler, allowed) = self.handler(&request.intent)?;
        let place = self.place(edge.context.tenant(), request.bytes())?;
        let (parameters, budget) = (request.parameters()?, request.budget_micros()?);
        let id = Uuid::now_v7();
        let request = TaskRequest { callback: self.sealed(request.callback, id).await?, ..request };
        let stored = self.0.store.as_ref().map(|_| serde_json::to_vec(&request)).transpose().map_err(unwritable)?;
        let (input, files) = resolve(request.input, edge.paths.clone()).await?;
        let about = About {
            id,
            tenant: edge.context.tenant().to_owned(),
            principal: edge.context.principal().to_owned(),
            intent: request.intent.clone(),
            metadata: request.metadata,
            priority: request.priority,
            callback: request.callback,
            created_at_ms: now_ms(),
            kept_in: if stored.is_some() { KeptIn::Database } else { KeptIn::Memory },
        };
        let context = narrowed(&edge.context.for_task(about.id, files), request.privacy, budget);
        // The request's own deadline holds from its acceptance on, whether it waits or runs and whatever happens to the host.
        let own = request.deadline_ms.map(|deadline| about.created_at_ms.saturating_add(deadline));
        let context = own.map_or_else(|| context.clone(), |own| context.narrow_deadline(own));
        let new =
            stored.map(|input| Ok::<_, TaskError>(New { row: new_row(&about, &context)?, input, key })).transpose()?;
        let work = Work { intent: request.intent, input, parameters };
        let task = Task::new(about, Account::open(allowed.clone()));
        let run = Run { tasks: self.clone(), task, handler: Some(handler), context, limits: allowed };
        // A client that goes away while the task is stored must not leave one that is accepted and never runs.
        let accepted = tokio::spawn(run.accept(new, work, place)).await;
        accepted.map_err(|_| TaskError::new(Code::Internal, "the host failed while it accepted the task"))?
    }

    pub(crate) fn observe(&self, task: &Task, context: &CallContext, state: State, envelope: Option<&Envelope>) {
        let about = task.about();
        (self.0.observer)(&Transition {
            task: about.id,
            intent: &about.intent,
            context,
            state,
            attempt: task.attempt(),
            envelope,
        });
    }

    /// How many tasks run or wait.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.0.kept.lock().unfinished
    }

    /// The tasks that run or wait: once [`Self::recover`] has returned and before others are taken, those that were left.
    #[must_use]
    pub fn left(&self) -> Vec<Task> {
        self.0.kept.lock().newest(None).filter(|task| !task.state().is_final()).cloned().collect()
    }

    /// The queue for turns, and how many have theirs.
    #[must_use]
    pub fn turns(&self) -> &Turns {
        &self.0.turns
    }

    /// Refuses new tasks from now on, waits `patience` for those that run, and ends the rest. Those that are stored are not
    /// cancelled but left to the next host: who waits runs there, and what ran is run again or has failed as its intent says.
    pub async fn drain(&self, patience: Duration) {
        self.0.draining.store(true, Ordering::Relaxed);
        if self.0.store.is_some() {
            self.0.turns.close();
            if tokio::time::timeout(patience, self.until(|tasks| tasks.busy() == 0)).await.is_err() {
                tracing::warn!(tasks = self.busy(), "some tasks did not end in time, and are left to the next start");
                self.0.abandoned.cancel();
                self.until(|tasks| tasks.busy() == 0).await;
            }
            return;
        }
        if tokio::time::timeout(patience, self.until(|tasks| tasks.unfinished() == 0)).await.is_err() {
            let tasks: Vec<Task> = self.0.kept.lock().newest(None).cloned().collect();
            tasks.iter().filter(|task| !task.state().is_final()).for_each(Task::cancel);
            self.until(|tasks| tasks.unfinished() == 0).await;
        }
    }

    /// Resolves when the tasks that run still are left to the next host.
    pub async fn abandoned(&self) {
        self.0.abandoned.cancelled().await;
    }

    /// Whether tasks outlive the host.
    #[must_use]
    pub fn keeps(&self) -> bool {
        self.0.store.is_some()
    }

    /// Whether new tasks are refused because the host stops.
    #[must_use]
    pub fn draining(&self) -> bool {
        self.0.draining.load(Ordering::Relaxed)
    }

    /// How many tasks run.
    #[must_use]
    pub fn busy(&self) -> usize {
        self.0.busy.load(Ordering::SeqCst)
    }

    async fn until(&self, holds: impl Fn(&Self) -> bool) {
        let mut changed = self.0.changed.subscribe();
        while !holds(self) {
            // The sender lives as long as `self`.
            let _open = changed.changed().await;
        }
    }

    /// What serves `intent`, and within which limits.
    pub(crate) fn handler(&self, intent: &str) -> Result<(Arc<dyn Handler>, Limits), TaskError> {
        let serving = self.0.serving.read();
        let handlers = &serving.handlers;
        handlers.get(intent).map(|handler| (handler.clone(), serving.limits.clone())).ok_or_else(|| {
            let known: Vec<&str> = handlers.keys().map(String::as_str).collect();
            let served =
                if known.is_empty() { "none is".to_owned() } else { format!("these are: {}", known.join(", ")) };
            let message =
                format!("the intent `{intent}` is not served; {served}. `[intents]` in system.toml lists them");
            TaskError::new(Code::UnknownIntent, message).at("intent")
        })
    }

    fn place(&self, tenant: &str, bytes: usize) -> Result<Place, TaskError> {
        if self.draining() {
            return Err(TaskError::new(Code::Overloaded, "the host is stopping and takes no new tasks"));
        }
        self.0.kept.lock().reserve(&self.0.settings, tenant, bytes)?;
        Ok(Place { tasks: self.clone(), tenant: tenant.to_owned(), bytes })
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks").field("unfinished", &self.unfinished()).finish_non_exhaustive()
    }
}

/// What became of a request.
pub(crate) enum Submitted {
    /// Its task.
    New(Task),
    /// The key was known.
    Known(witan_task_store::KnownKey),
}

fn new_row(about: &About, context: &CallContext) -> Result<Row, TaskError> {
    Ok(Row {
        id: about.id,
        tenant: about.tenant.clone(),
        principal: about.principal.clone(),
        intent: about.intent.clone(),
        state: State::Queued,
        priority: about.priority.weight(),
        attempt: 0,
        created_ms: about.created_at_ms,
        started_ms: None,
        finished_ms: None,
        context: context.to_json().map_err(unwritable)?,
        callback: about.callback.as_ref().map(serde_json::to_string).transpose().map_err(unwritable)?,
        metadata: about.metadata.clone(),
    })
}

fn unwritable(error: serde_json::Error) -> TaskError {
    TaskError::new(Code::Internal, format!("the task cannot be written down: {error}"))
}

/// What a client is told where the store fails; the log says more.
pub(crate) fn unstored(error: &witan_task_store::StoreError) -> TaskError {
    tracing::error!(error = error as &dyn std::error::Error, "tasks cannot be stored or read");
    TaskError::new(Code::Unavailable, "the host cannot store or read tasks now; its log says why")
}

pub(crate) async fn resolve(
    input: Input,
    paths: Paths,
) -> Result<(WorkInput, Vec<witan_capability::TaskFile>), TaskError> {
    match input {
        Input::Text(text) => Ok((WorkInput::Text(text), Vec::new())),
        Input::Documents(documents) => Ok((WorkInput::Documents(documents), Vec::new())),
        Input::Paths(named) => {
            // The file system may be slow, and must not hold up other tasks.
            let files = tokio::task::spawn_blocking(move || paths.resolve(&named))
                .await
                .map_err(|error| TaskError::new(Code::Internal, format!("cannot resolve paths: {error}")))??;
            Ok((WorkInput::Files(files.clone()), files))
        }
    }
}

fn narrowed(context: &CallContext, privacy: witan_capability::Privacy, budget: Option<u64>) -> CallContext {
    let context = context.narrow_privacy(privacy);
    budget.map_or_else(|| context.clone(), |micros| context.narrow_budget(micros))
}
