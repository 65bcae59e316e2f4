//! Takes tasks, runs them within bounds, and keeps the last.

use std::{
    collections::BTreeMap,
    fmt,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::FutureExt as _;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Semaphore, watch};
use tracing::Instrument as _;
use uuid::Uuid;
use witan_capability::{Account, CallContext, Limit, Limits, Meter};

use crate::{
    Code, EngineChoice, Envelope, Event, Handler, Input, Outcome, Paths, Route, SCHEMA_VERSION, Status, Task,
    TaskError, TaskRequest, Usage, Work, WorkInput, kept::Kept, record::now_ms, span,
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
    /// Ended tasks that are kept.
    pub kept: usize,
    /// Bytes of the ended tasks that are kept.
    pub kept_bytes: usize,
    /// What the call tree of one task may use.
    pub limits: Limits,
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
        }
    }
}

/// For each intent, what serves it.
pub type Handlers = BTreeMap<String, Arc<dyn Handler>>;

/// Opens the account of a call tree; the engine's, which ends it at its deadline whatever its guests do.
pub type OpenAccount = Arc<dyn Fn(Limits) -> Arc<Account> + Send + Sync>;

/// Sees each task that has ended. Must not block.
pub type Observer = Arc<dyn Fn(&Envelope) + Send + Sync>;

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
pub struct Tasks(Arc<Shared>);

struct Shared {
    settings: Settings,
    open_account: OpenAccount,
    observer: Observer,
    serving: RwLock<Serving>,
    kept: Mutex<Kept>,
    places: Semaphore,
    draining: AtomicBool,
    changed: watch::Sender<()>,
}

/// What a reload replaces.
struct Serving {
    handlers: Handlers,
    limits: Limits,
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

impl Tasks {
    /// Tasks that `handlers` serve, each on an account that `open_account` opens; `observer` sees each end.
    #[must_use]
    pub fn new(settings: Settings, handlers: Handlers, open_account: OpenAccount, observer: Observer) -> Self {
        Self(Arc::new(Shared {
            places: Semaphore::new(settings.concurrency.min(Semaphore::MAX_PERMITS)),
            serving: RwLock::new(Serving { handlers, limits: settings.limits.clone() }),
            settings,
            open_account,
            observer,
            kept: Mutex::default(),
            draining: AtomicBool::new(false),
            changed: watch::Sender::new(()),
        }))
    }

    /// Serves intents by `handlers`, each task within `limits`, from now on. Tasks that were accepted keep what they
    /// have.
    pub fn replace(&self, handlers: Handlers, limits: Limits) {
        *self.0.serving.write() = Serving { handlers, limits };
    }

    /// The intents that are served.
    #[must_use]
    pub fn intents(&self) -> Vec<String> {
        self.0.serving.read().handlers.keys().cloned().collect()
    }

    /// Accepts a task, and runs it as soon as there is a place.
    ///
    /// # Errors
    /// When the request is at fault, its intent is not served, a path may not be named, or too many tasks wait.
    pub async fn submit(&self, request: TaskRequest, edge: &Edge) -> Result<Task, TaskError> {
        request.check()?;
        let (handler, allowed) = self.handler(&request.intent)?;
        let place = self.place(request.bytes())?;
        let (parameters, budget) = (request.parameters()?, request.budget_micros()?);
        let (input, files) = resolve(request.input, edge.paths.clone()).await?;
        let id = Uuid::now_v7();
        let limits = limits(&allowed, request.deadline_ms);
        let context = context(&edge.context.for_task(id, files), &limits, request.privacy, budget);
        let work = Work { intent: request.intent.clone(), input, parameters };
        let task = Task::new(id, request.intent, request.metadata, (self.0.open_account)(limits));
        self.0.kept.lock().insert(task.clone());
        let deadline_ms = request.deadline_ms.filter(|deadline| Duration::from_millis(*deadline) < allowed.deadline);
        let run = Run { tasks: self.clone(), task: task.clone(), handler, context, deadline_ms };
        let span = span::open(&run.context, &work.intent);
        tokio::spawn(run.carry_out(work, place).instrument(span));
        Ok(task)
    }

    /// The task `id`, if it is kept.
    #[must_use]
    pub fn get(&self, id: Uuid) -> Option<Task> {
        self.0.kept.lock().get(id)
    }

    /// At most `limit` tasks that are kept, the newest first, and whether there are more; with `before`, of those
    /// accepted before it.
    #[must_use]
    pub fn newest(&self, limit: usize, before: Option<Uuid>) -> (Vec<Task>, bool) {
        let kept = self.0.kept.lock();
        let mut tasks: Vec<Task> = kept.newest(before).take(limit.saturating_add(1)).cloned().collect();
        let more = tasks.len() > limit;
        tasks.truncate(limit);
        (tasks, more)
    }

    /// How many tasks run or wait.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.0.kept.lock().unfinished
    }

    /// How many tasks run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.0.settings.concurrency.saturating_sub(self.0.places.available_permits())
    }

    /// Refuses new tasks from now on, waits `patience` for those that run or wait, and cancels the rest.
    pub async fn drain(&self, patience: Duration) {
        self.0.draining.store(true, Ordering::Relaxed);
        if tokio::time::timeout(patience, self.idle()).await.is_err() {
            let tasks: Vec<Task> = self.0.kept.lock().newest(None).cloned().collect();
            tasks.iter().filter(|task| !task.state().is_final()).for_each(Task::cancel);
            self.idle().await;
        }
    }

    /// Whether new tasks are refused because the host stops.
    #[must_use]
    pub fn draining(&self) -> bool {
        self.0.draining.load(Ordering::Relaxed)
    }

    async fn idle(&self) {
        let mut changed = self.0.changed.subscribe();
        while self.unfinished() > 0 {
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

fn context(
    context: &CallContext,
    limits: &Limits,
    privacy: witan_capability::Privacy,
    budget: Option<u64>,
) -> CallContext {
    let deadline = u64::try_from(limits.deadline.as_millis()).unwrap_or(u64::MAX);
    let context = context.narrow_privacy(privacy).narrow_deadline(now_ms().saturating_add(deadline));
    budget.map_or_else(|| context.clone(), |micros| context.narrow_budget(micros))
}

/// A task on its way.
struct Run {
    tasks: Tasks,
    task: Task,
    handler: Arc<dyn Handler>,
    context: CallContext,
    /// The request's own deadline, where it is the tighter one.
    deadline_ms: Option<u64>,
}

impl Run {
    async fn carry_out(self, work: Work, place: Place) {
        let intent = work.intent.clone();
        let result = self.result(work).await;
        let envelope = Arc::new(self.envelope(intent, result));
        span::record(&envelope, self.handler.component());
        self.task.finish(envelope.clone());
        self.tasks.0.kept.lock().ended(&self.tasks.0.settings, &self.task);
        (self.tasks.0.observer)(&envelope);
        drop(place);
    }

    async fn result(&self, work: Work) -> Result<Outcome, TaskError> {
        let account = self.task.account();
        let work = AssertUnwindSafe(self.in_turn(work)).catch_unwind();
        tokio::select! {
            biased;
            result = work => result.unwrap_or_else(|_panic| {
                Err(TaskError::new(Code::Internal, "the host failed while it ran the task; its log says more"))
            }),
            // Dropping the work takes its stores with it.
            () = account.when_ended() => {
                Err(account.ended().cloned().unwrap_or(witan_capability::CallError::Cancelled).into())
            }
        }
    }

    async fn in_turn(&self, work: Work) -> Result<Outcome, TaskError> {
        let _turn = self.tasks.0.places.acquire().await;
        self.task.begin();
        let tell = |event| self.task.tell(shortened(event));
        Ok(self.handler.handle(&self.context, self.task.account(), work, &tell).await?)
    }

    fn envelope(&self, intent: String, result: Result<Outcome, TaskError>) -> Envelope {
        let component = self.handler.component();
        let reason = format!("`[intents]` has the component `{component}` serve `{intent}`");
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
            intent,
            status,
            engine: EngineChoice { route: Route::Local, chosen_by: "system.toml".to_owned(), reason },
            result,
            usage: usage(self.task.account()),
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
