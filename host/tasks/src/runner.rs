//! Takes tasks, runs them within bounds, and keeps the last.
//!
//! Where there is a store, nobody is told of a change before it is durable: a task is accepted, starts and has ended once the
//! database says so. So a host that is killed knows when it starts again what it has promised ([`Tasks::recover`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    panic::AssertUnwindSafe,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::FutureExt as _;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;
use uuid::Uuid;
use witan_callback::Deliverer;
use witan_capability::{Account, CallContext, CallError, Limit, Limits, Meter};
use witan_events::Bus;
use witan_queue::{Turn, Turns};
use witan_task_store::{Accepted, Delivery, Ended, New, Row, State, Store};

use crate::{
    Code, EngineChoice, Envelope, Event, Handler, Input, Outcome, Paths, Route, SCHEMA_VERSION, Status, Task,
    TaskError, TaskRequest, Usage, Work, WorkInput,
    kept::Kept,
    once::InFlight,
    record::{About, Place as KeptIn, now_ms},
    span,
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
            kept: 1_000,
            kept_bytes: 32 << 20,
            limits: Limits::default(),
            run_again: BTreeSet::new(),
        }
    }
}

/// How often the handler of a task is started at most where the host ends each time: it may be the task that ends it.
const ATTEMPTS: u32 = 3;

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
    /// For whom, with its tenant, principal, privacy and trace; of a task that is paused or resumed, who did that.
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
    settings: Settings,
    open_account: OpenAccount,
    observer: Observer,
    serving: RwLock<Serving>,
    pub(crate) kept: Mutex<Kept>,
    turns: Turns,
    pub(crate) store: Option<Store>,
    draining: AtomicBool,
    pub(crate) in_flight: InFlight,
    pub(crate) bus: Bus,
    pub(crate) deliverer: OnceLock<Deliverer>,
    /// Cancelled when what runs is left to the next host.
    abandoned: CancellationToken,
    /// Tasks whose turn has come and whose end is not stored yet.
    busy: AtomicUsize,
    changed: watch::Sender<()>,
}

/// What a reload replaces.
struct Serving {
    handlers: Handlers,
    limits: Limits,
    run_again: BTreeSet<String>,
}

/// A place among the unfinished, given back when it is dropped.
struct Place {
    tasks: Tasks,
    bytes: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.tasks.0.kept.lock().release(self.bytes);
        self.tasks.0.changed.send_replace(());
    }
}

/// A task that is at work, as long as this lives.
struct Busy(Tasks);

impl Busy {
    fn new(tasks: &Tasks) -> Self {
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
            turns: Turns::new(settings.concurrency, usize::MAX),
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
        self.check_callback(request.callback.as_ref())?;
        if edge.context.local_only() && request.callback.is_some() {
            let message = "a policy keeps the task on this machine, and a callback leaves it; ask for the task instead";
            return Err(TaskError::invalid("callback", message));
        }
        let (handler, allowed) = self.handler(&request.intent)?;
        let place = self.place(request.bytes())?;
        let (parameters, budget) = (request.parameters()?, request.budget_micros()?);
        let stored = self.0.store.as_ref().map(|_| serde_json::to_vec(&request)).transpose().map_err(unwritable)?;
        let (input, files) = resolve(request.input, edge.paths.clone()).await?;
        let about = About {
            id: Uuid::now_v7(),
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
        // The request's own deadline holds from its acceptance on, whatever happens to the host.
        let own = request.deadline_ms.map(|deadline| about.created_at_ms.saturating_add(deadline));
        let context = own.map_or_else(|| context.clone(), |own| context.narrow_deadline(own));
        let new =
            stored.map(|input| Ok::<_, TaskError>(New { row: new_row(&about, &context)?, input, key })).transpose()?;
        let limits = limits(&allowed, request.deadline_ms);
        let account = (self.0.open_account)(limits.clone());
        let deadline_ms = request.deadline_ms.filter(|deadline| Duration::from_millis(*deadline) < allowed.deadline);
        let work = Work { intent: request.intent, input, parameters };
        let run = Run {
            tasks: self.clone(),
            task: Task::new(about, account),
            handler: Some(handler),
            context: within(&context, &limits),
            deadline_ms,
        };
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
    fn handler(&self, intent: &str) -> Result<(Arc<dyn Handler>, Limits), TaskError> {
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

    fn place(&self, bytes: usize) -> Result<Place, TaskError> {
        if self.draining() {
            return Err(TaskError::new(Code::Overloaded, "the host is stopping and takes no new tasks"));
        }
        self.0.kept.lock().reserve(&self.0.settings, bytes)?;
        Ok(Place { tasks: self.clone(), bytes })
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

async fn resolve(input: Input, paths: Paths) -> Result<(WorkInput, Vec<witan_capability::TaskFile>), TaskError> {
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

fn limits(limits: &Limits, deadline_ms: Option<u64>) -> Limits {
    let mut limits = limits.clone();
    if let Some(deadline) = deadline_ms {
        limits.deadline = limits.deadline.min(Duration::from_millis(deadline));
    }
    limits
}

fn narrowed(context: &CallContext, privacy: witan_capability::Privacy, budget: Option<u64>) -> CallContext {
    let context = context.narrow_privacy(privacy);
    budget.map_or_else(|| context.clone(), |micros| context.narrow_budget(micros))
}

/// The context of a call tree that may last as long as `limits` say, from now on.
fn within(context: &CallContext, limits: &Limits) -> CallContext {
    let deadline = u64::try_from(limits.deadline.as_millis()).unwrap_or(u64::MAX);
    context.narrow_deadline(now_ms().saturating_add(deadline))
}

/// A task on its way.
struct Run {
    tasks: Tasks,
    task: Task,
    /// None where its intent is served no longer.
    handler: Option<Arc<dyn Handler>>,
    context: CallContext,
    /// The request's own deadline, where it is the tighter one.
    deadline_ms: Option<u64>,
}

/// Where the work of a task is.
enum Source {
    Here(Box<Work>),
    /// In the store, from before the host began.
    Stored,
}

/// Where a task has come to.
enum Came {
    To(Result<Outcome, TaskError>),
    /// The host ends, and the next goes on with it.
    Nowhere,
}

impl Run {
    /// Stores the task and lets it run.
    async fn accept(self, new: Option<New>, work: Work, place: Place) -> Result<Submitted, TaskError> {
        let (tasks, task) = (self.tasks.clone(), self.task.clone());
        // Whoever learns its id from the store finds it here.
        tasks.0.kept.lock().insert(task.clone());
        let accepted = match (&tasks.0.store, new) {
            (Some(store), Some(new)) => store.accept(new).await.map_err(|error| unstored(&error)),
            _ => Ok(Accepted::New),
        };
        match accepted {
            Ok(Accepted::New) => {}
            other => {
                tasks.0.kept.lock().remove(task.id());
                return match other? {
                    Accepted::Known(known) => Ok(Submitted::Known(known)),
                    Accepted::New => Ok(Submitted::New(task)),
                };
            }
        }
        self.observe(State::Queued, None);
        let span = span::open(&self.context, &work.intent);
        tokio::spawn(self.carry_out(Source::Here(Box::new(work)), place).instrument(span));
        Ok(Submitted::New(task))
    }

    async fn carry_out(self, source: Source, place: Place) {
        let mut busy = None;
        if let Came::To(result) = self.result(source, &mut busy).await {
            let envelope = self.envelope(result);
            self.end(envelope).await;
        }
        drop(busy);
        drop(place);
    }

    /// Stores how it has ended, and then says so.
    async fn end(&self, envelope: Envelope) {
        let (tasks, at_ms) = (&self.tasks, now_ms());
        if let Some(store) = &tasks.0.store {
            let deliveries = self.tasks.deliveries(&self.task, envelope.status.into(), at_ms, Some(&envelope));
            store_end(store, &self.task, &envelope, at_ms, deliveries).await;
            self.tasks.deliver();
        }
        let envelope = Arc::new(envelope);
        self.task.finish(envelope.clone(), at_ms);
        tasks.0.kept.lock().ended(&tasks.0.settings, &self.task);
        span::record(&envelope, self.handler.as_deref().map(Handler::component));
        self.observe(envelope.status.into(), Some(&envelope));
    }

    fn observe(&self, state: State, envelope: Option<&Envelope>) {
        self.tasks.observe(&self.task, &self.context, state, envelope);
        self.tasks.publish(self.task.about(), state, self.task.attempt(), envelope);
    }

    fn tell(&self, event: Event) {
        self.tasks.publish_progress(&self.task, &event);
        self.task.tell(event);
    }

    async fn result(&self, source: Source, busy: &mut Option<Busy>) -> Came {
        let Some(account) = self.task.account() else { return Came::Nowhere };
        let work = AssertUnwindSafe(self.in_turn(source, busy)).catch_unwind();
        let result = tokio::select! {
            biased;
            result = work => result.unwrap_or_else(|_panic| {
                Err(TaskError::new(Code::Internal, "the host failed while it ran the task; its log says more"))
            }),
            // Dropping the work takes its stores with it.
            () = account.when_ended() => {
                Err(account.ended().cloned().unwrap_or(CallError::Cancelled).into())
            }
            () = self.tasks.0.abandoned.cancelled() => return Came::Nowhere,
        };
        Came::To(result)
    }

    async fn in_turn(&self, source: Source, busy: &mut Option<Busy>) -> Result<Outcome, TaskError> {
        let (_turn, attempt) = self.turn().await;
        *busy = Some(Busy::new(&self.tasks));
        let Some(handler) = &self.handler else {
            let message = format!("the intent `{}` is served no longer", self.task.about().intent);
            return Err(TaskError::new(Code::UnknownIntent, message).at("intent"));
        };
        let at_ms = now_ms();
        if let Some(store) = &self.tasks.0.store {
            // What it does must not be done again by a host that does not know that it was begun.
            let deliveries = self.tasks.deliveries(&self.task, State::Working, at_ms, None);
            let begun = store.begin(self.task.id(), attempt, at_ms, deliveries).await;
            begun.map_err(|error| unstored(&error))?;
            self.tasks.deliver();
        }
        self.task.begin(at_ms);
        self.observe(State::Working, None);
        let (work, context) = self.work(source).await?;
        let tell = |event| self.tell(shortened(event));
        let Some(account) = self.task.account() else {
            return Err(TaskError::new(Code::Internal, "a task that has ended was run"));
        };
        Ok(handler.handle(&context, account, work, &tell).await?)
    }

    /// Waits for its turn, which does not come while it is paused, and says how often it came.
    async fn turn(&self) -> (Turn, u32) {
        let about = self.task.about();
        loop {
            self.task.until_paused(false).await;
            tokio::select! {
                turn = self.tasks.0.turns.take(&about.tenant, about.priority.weight()) => {
                    if let Some(attempt) = turn.as_ref().and(self.task.start())
                        && let Some(turn) = turn
                    {
                        return (turn, attempt);
                    }
                }
                () = self.task.until_paused(true) => {}
            }
        }
    }

    /// What is to be done, and for whom.
    async fn work(&self, source: Source) -> Result<(Work, CallContext), TaskError> {
        let store = match source {
            Source::Here(work) => return Ok((*work, self.context.clone())),
            Source::Stored => self.tasks.0.store.as_ref(),
        };
        let gone = || TaskError::new(Code::Internal, "what the task works on was not stored");
        let input = store.ok_or_else(gone)?.input(self.task.id()).await.map_err(|error| unstored(&error))?;
        let request: TaskRequest = serde_json::from_slice(&input.ok_or_else(gone)?).map_err(|error| {
            TaskError::new(Code::Internal, format!("what the task works on cannot be read: {error}"))
        })?;
        let parameters = request.parameters()?;
        let input = match request.input {
            Input::Text(text) => WorkInput::Text(text),
            Input::Documents(documents) => WorkInput::Documents(documents),
            Input::Paths(_) => WorkInput::Files(self.context.files().to_vec()),
        };
        Ok((Work { intent: request.intent, input, parameters }, self.context.clone()))
    }

    fn envelope(&self, result: Result<Outcome, TaskError>) -> Envelope {
        let intent = &self.task.about().intent;
        let reason = match &self.handler {
            Some(handler) => format!("`[intents]` has the component `{}` serve `{intent}`", handler.component()),
            None => format!("`[intents]` has nothing serve `{intent}`"),
        };
        let (status, result, error) = match result {
            Ok(outcome) => (Status::Ok, Some(outcome), None),
            Err(error) => {
                let error = self.blame_deadline(error);
                (Status::of(&error), None, Some(error))
            }
        };
        Envelope {
            schema_version: SCHEMA_VERSION,
            task_id: self.task.id(),
            intent: intent.clone(),
            status,
            engine: EngineChoice { route: Route::Local, chosen_by: "system.toml".to_owned(), reason },
            result,
            usage: self.task.account().map(|account| usage(account)).unwrap_or_default(),
            error,
        }
    }

    /// Where the request's own deadline was the tighter one, no setting would help.
    fn blame_deadline(&self, error: TaskError) -> TaskError {
        let own = self.deadline_ms.filter(|_| error.limit.as_deref() == Some(Limit::Deadline.name()));
        match own {
            Some(deadline) => TaskError {
                message: format!("the task did not end within its `deadline_ms` of {deadline}"),
                setting: None,
                ..error
            }
            .at("deadline_ms"),
            None => error,
        }
    }
}

/// How often it is tried to store an end, and how long to wait after the first time; each time is twice as long.
const TRIES: u32 = 6;
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// Stores how `task` has ended. Where that fails again and again, the client is told all the same; the next host will call
/// the task interrupted.
async fn store_end(store: &Store, task: &Task, envelope: &Envelope, at_ms: u64, deliveries: Vec<Delivery>) {
    let result = match serde_json::to_vec(&task.ending(envelope, at_ms)) {
        Ok(result) => result,
        Err(error) => return tracing::error!(task = %task.id(), %error, "the end of a task cannot be written down"),
    };
    let ended = Ended { id: task.id(), state: envelope.status.into(), at_ms, result, deliveries };
    let mut wait = FIRST_WAIT;
    for _ in 1..TRIES {
        match store.end(ended.clone()).await {
            Ok(()) => return,
            Err(error) => {
                tracing::warn!(task = %task.id(), error = &error as &dyn std::error::Error, "the end of a task is not stored yet");
                tokio::time::sleep(wait).await;
                wait *= 2;
            }
        }
    }
    if let Err(error) = store.end(ended).await {
        tracing::error!(task = %task.id(), error = &error as &dyn std::error::Error, "the end of a task was not stored");
    }
}

impl Tasks {
    /// Goes on with the tasks that are stored: those that wait run in their turn, those that ran when the host ended are run
    /// again or have failed, as their intents say. `paths` are judged anew: what may be named may have changed. Says how many
    /// there were.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn recover(&self, paths: &Paths) -> Result<usize, witan_task_store::StoreError> {
        let Some(store) = &self.0.store else { return Ok(0) };
        let rows = store.unfinished().await?;
        let number = rows.len();
        let mut interrupted = Vec::new();
        for row in rows {
            let again = self.0.serving.read().run_again.contains(&row.intent) && row.attempt < ATTEMPTS;
            let run = self.recovered(&row, paths.clone()).await;
            match run {
                Ok(run) if row.state != State::Working || again => {
                    let place = Place { tasks: self.clone(), bytes: 0 };
                    run.tasks.0.kept.lock().insert(run.task.clone());
                    self.observe(&run.task, &run.context, run.task.state(), None);
                    let span = span::open(&run.context, &row.intent);
                    tokio::spawn(run.carry_out(Source::Stored, place).instrument(span));
                }
                Ok(run) => interrupted.push((run, interruption(&row))),
                Err((run, error)) => interrupted.push((run, error)),
            }
        }
        // All at once: the writer commits together what comes together.
        let ends = interrupted.into_iter().map(|(run, error)| async move {
            let place = Place { tasks: run.tasks.clone(), bytes: 0 };
            run.tasks.0.kept.lock().insert(run.task.clone());
            let envelope = run.envelope(Err(error));
            run.end(envelope).await;
            drop(place);
        });
        futures::future::join_all(ends).await;
        Ok(number)
    }

    /// The task of `row`, on its way again, or why it cannot be.
    async fn recovered(&self, row: &Row, paths: Paths) -> Result<Run, (Run, TaskError)> {
        self.0.kept.lock().force();
        let (handler, allowed) = match self.handler(&row.intent) {
            Ok((handler, allowed)) => (Some(handler), allowed),
            Err(_) => (None, self.0.serving.read().limits.clone()),
        };
        let stored = CallContext::from_json(&row.context);
        let context = stored.as_ref().map_or_else(
            |_| CallContext::new(row.principal.as_str(), row.tenant.as_str()).for_task(row.id, Vec::new()),
            CallContext::clone,
        );
        // What the request asked for itself counts from its acceptance; the time in which there was no host does not.
        let left = context.deadline_ms().map(|own| own.saturating_sub(now_ms()));
        let limits = limits(&allowed, left);
        let account = (self.0.open_account)(limits.clone());
        let deadline_ms = context.deadline_ms().map(|own| own.saturating_sub(row.created_ms));
        let run = |context: CallContext| Run {
            tasks: self.clone(),
            task: Task::recovered(row, account, now_ms()),
            handler,
            context: within(&context, &limits),
            deadline_ms,
        };
        if let Err(error) = stored {
            let message = format!("the call context of the task cannot be read: {error}");
            return Err((run(context), TaskError::new(Code::Internal, message)));
        }
        if context.files().is_empty() {
            return Ok(run(context));
        }
        let names = context.files().iter().map(|file| file.name.clone()).collect();
        match resolve(Input::Paths(names), paths).await {
            Ok((_, files)) => Ok(run(context.for_task(row.id, files))),
            Err(error) => Err((run(context), error)),
        }
    }
}

fn interruption(row: &Row) -> TaskError {
    let message = if row.attempt < ATTEMPTS {
        format!(
            "the host ended while the task ran, and tasks of the intent `{}` are not run again; submit it again if what \
             it does may be done twice",
            row.intent
        )
    } else {
        format!("the host ended each of the {} times that the task ran", row.attempt)
    };
    TaskError::new(Code::Interrupted, message).setting("host.tasks.run-again")
}

fn usage(account: &Account) -> Usage {
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    Usage {
        latency_ms: ms(account.started().elapsed()),
        cpu_ms: ms(Duration::from_nanos(account.used(Meter::Cpu))),
        memory_peak: account.memory_peak(),
        ..Usage::default()
    }
}

/// The longest name of a stage and the longest notice that are kept, in bytes.
const STAGE_BYTES: usize = 256;
const NOTICE_BYTES: usize = 4 << 10;

fn shortened(mut event: Event) -> Event {
    match &mut event {
        Event::Progress { stage, .. } => stage.truncate(stage.floor_char_boundary(STAGE_BYTES)),
        Event::Notice { text } => text.truncate(text.floor_char_boundary(NOTICE_BYTES)),
        Event::Text { .. } => {}
    }
    event
}
