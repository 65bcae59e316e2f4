//! One task: where it stands, what happened, what it came to.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use utoipa::ToSchema;
use uuid::Uuid;
use witan_callback::Callback;
use witan_capability::{Account, CallContext, CallError};
use witan_task_store::{Row, State};

use crate::{Envelope, Event, Priority};

/// Events that are kept of one task, and their bytes in all. Older ones make room; their numbers are not used again,
/// so that a reader sees the gap.
const EVENTS: usize = 1024;
const EVENT_BYTES: usize = 256 << 10;
/// Milliseconds between two steps of progress that are told to all who listen.
const TELL_MS: u64 = 250;
/// What a record takes beyond its texts, about.
const OVERHEAD: usize = 1024;

/// How long a client that cancels a task waits for its end at most. A handler is dropped at once; what takes time is a
/// database that does not answer.
pub const CANCELLED_WITHIN: Duration = Duration::from_secs(10);

/// A task as clients see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskView {
    /// The task.
    #[schema(value_type = String, format = "uuid")]
    pub id: Uuid,
    /// `task`.
    pub object: String,
    /// What was asked for.
    pub intent: String,
    /// Where it stands.
    pub state: State,
    /// When it was accepted, in milliseconds since the Unix epoch.
    pub created_at_ms: u64,
    /// When its handler started.
    pub started_at_ms: Option<u64>,
    /// When it ended.
    pub finished_at_ms: Option<u64>,
    /// The last progress that its handler told.
    pub progress: Option<Event>,
    /// How often its handler was started. More than once where the host ended meanwhile.
    pub attempt: u32,
    /// Its share of the turns of its tenant.
    pub priority: Priority,
    /// The metadata of the request.
    pub metadata: BTreeMap<String, String>,
    /// Where the task is kept: in the `database` of the host, or in its `memory`, and then it is gone when the host ends.
    pub kept_in: String,
    /// What it came to, once it has ended.
    pub envelope: Option<Envelope>,
}

/// Something that happened, with its number within the task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TaskEvent {
    /// Counts from 1. A gap means that events were dropped to bound memory.
    pub sequence: u64,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// What.
    #[serde(flatten)]
    pub happened: Happened,
}

/// What happened to a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Happened {
    /// Its handler told something.
    Told(Event),
    /// It came to another state.
    Moved(Moved),
}

/// A task came to another state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Moved {
    /// To this one.
    State {
        /// The state.
        state: State,
    },
}

impl Happened {
    /// The word for it, as the event's name in a stream.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Told(Event::Progress { .. }) => "progress",
            Self::Told(Event::Text { .. }) => "text",
            Self::Told(Event::Notice { .. }) => "notice",
            Self::Moved(_) => "state",
        }
    }

    fn bytes(&self) -> usize {
        64 + match self {
            Self::Told(Event::Progress { stage: text, .. } | Event::Text { text } | Event::Notice { text }) => {
                text.len()
            }
            Self::Moved(_) => 0,
        }
    }
}

/// A task that was submitted. Cloning is cheap; dropping it leaves the task running.
#[derive(Clone, Debug)]
pub struct Task(Arc<Record>);

#[derive(Debug)]
struct Record {
    about: About,
    /// That of its call tree, and until its turn has come one that nothing is charged to; none where it had ended before this host
    /// began.
    account: Option<Mutex<Arc<Account>>>,
    accepted: Instant,
    inner: Mutex<Inner>,
    changed: watch::Sender<()>,
}

/// What is known of a task from its beginning.
#[derive(Clone, Debug)]
pub(crate) struct About {
    pub(crate) id: Uuid,
    pub(crate) tenant: String,
    pub(crate) principal: String,
    pub(crate) intent: String,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) priority: Priority,
    /// Whom to tell what becomes of it.
    pub(crate) callback: Option<Callback>,
    pub(crate) created_at_ms: u64,
    /// Where it is kept.
    pub(crate) kept_in: Place,
}

/// Where tasks are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Memory,
    Database,
}

impl Place {
    fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Database => "database",
        }
    }
}

#[derive(Debug)]
struct Inner {
    state: State,
    /// Whether its turn has come, so that it cannot be paused any more.
    started: bool,
    attempt: u32,
    started_at_ms: Option<u64>,
    finished_at_ms: Option<u64>,
    progress: Option<Event>,
    events: VecDeque<TaskEvent>,
    event_bytes: usize,
    last: u64,
    /// When progress was told to all who listen, last.
    told_ms: u64,
    envelope: Option<Arc<Envelope>>,
    cancelled_by: Option<CallContext>,
}

/// What is stored of a task that has ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Ending {
    pub(crate) envelope: Envelope,
    pub(crate) events: Vec<TaskEvent>,
}

impl About {
    /// What the database says of a task.
    pub(crate) fn stored(row: &Row) -> Self {
        Self {
            id: row.id,
            tenant: row.tenant.clone(),
            principal: row.principal.clone(),
            intent: row.intent.clone(),
            metadata: row.metadata.clone(),
            priority: Priority::of_weight(row.priority),
            callback: row.callback.as_ref().and_then(|callback| serde_json::from_str(callback).ok()),
            created_at_ms: row.created_ms,
            kept_in: Place::Database,
        }
    }
}

impl TaskView {
    pub(crate) fn of_row(row: Row) -> Self {
        Self {
            id: row.id,
            object: "task".to_owned(),
            state: row.state,
            created_at_ms: row.created_ms,
            started_at_ms: row.started_ms,
            finished_at_ms: row.finished_ms,
            progress: None,
            attempt: row.attempt,
            priority: Priority::of_weight(row.priority),
            intent: row.intent,
            metadata: row.metadata,
            kept_in: Place::Database.name().to_owned(),
            envelope: None,
        }
    }
}

impl Task {
    /// A task that waits for its turn.
    pub(crate) fn new(about: About, account: Arc<Account>) -> Self {
        let task = Self::with(about, Some(account), State::Queued, 0);
        task.change(|inner| inner.happened(Happened::Moved(Moved::State { state: State::Queued })));
        task
    }

    /// A task that was accepted before this host began, and goes on at `now_ms` as `row` says.
    pub(crate) fn recovered(row: &Row, account: Arc<Account>, now_ms: u64) -> Self {
        let state = if row.state == State::Paused { State::Paused } else { State::Queued };
        let task = Self::with(About::stored(row), Some(account), state, row.attempt);
        task.change(|inner| {
            // Numbers that clients have seen are not used again: no task tells a thousand things in a millisecond.
            inner.last = now_ms.saturating_sub(row.created_ms) << 10;
            inner.happened(Happened::Moved(Moved::State { state }));
        });
        task
    }

    /// A task that had ended before this host began, or is no longer in its memory.
    pub(crate) fn ended(row: &Row, ending: Ending) -> Self {
        let task = Self::with(About::stored(row), None, row.state, row.attempt);
        task.change(|inner| {
            (inner.started_at_ms, inner.finished_at_ms) = (row.started_ms, row.finished_ms);
            let progress = |event: &TaskEvent| match &event.happened {
                Happened::Told(told @ Event::Progress { .. }) => Some(told.clone()),
                _ => None,
            };
            inner.progress = ending.events.iter().rev().find_map(progress);
            inner.last = ending.events.last().map_or(0, |event| event.sequence);
            inner.events = ending.events.into();
            inner.envelope = Some(Arc::new(ending.envelope));
        });
        task
    }

    /// A task that has not ended as `row` says, and that this host does not have: the database could not say that it took it, or
    /// how it ended. The next host goes on with it.
    pub(crate) fn left(row: &Row) -> Self {
        let task = Self::with(About::stored(row), None, row.state, row.attempt);
        task.change(|inner| inner.started_at_ms = row.started_ms);
        task
    }

    fn with(about: About, account: Option<Arc<Account>>, state: State, attempt: u32) -> Self {
        Self(Arc::new(Record {
            about,
            account: account.map(Mutex::new),
            accepted: Instant::now(),
            inner: Mutex::new(Inner {
                state,
                started: false,
                attempt,
                started_at_ms: None,
                finished_at_ms: None,
                progress: None,
                events: VecDeque::new(),
                event_bytes: 0,
                last: 0,
                told_ms: 0,
                envelope: None,
                cancelled_by: None,
            }),
            changed: watch::Sender::new(()),
        }))
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.0.about.id
    }

    /// Whose it is.
    #[must_use]
    pub fn tenant(&self) -> &str {
        &self.0.about.tenant
    }

    /// What it asks for.
    #[must_use]
    pub fn intent(&self) -> &str {
        &self.0.about.intent
    }

    /// Who submitted it.
    #[must_use]
    pub fn principal(&self) -> &str {
        &self.0.about.principal
    }

    /// Its state.
    #[must_use]
    pub fn state(&self) -> State {
        self.0.inner.lock().state
    }

    /// Where it stands.
    #[must_use]
    pub fn view(&self) -> TaskView {
        let (inner, about) = (self.0.inner.lock(), &self.0.about);
        TaskView {
            id: about.id,
            object: "task".to_owned(),
            intent: about.intent.clone(),
            state: inner.state,
            created_at_ms: about.created_at_ms,
            started_at_ms: inner.started_at_ms,
            finished_at_ms: inner.finished_at_ms,
            progress: inner.progress.clone(),
            attempt: inner.attempt,
            priority: about.priority,
            metadata: about.metadata.clone(),
            kept_in: about.kept_in.name().to_owned(),
            envelope: inner.envelope.as_deref().cloned(),
        }
    }

    /// Ends it, if it has not ended: whatever it called ends with it.
    pub fn cancel(&self) {
        if let Some(account) = &self.0.account {
            account.lock().end(CallError::Cancelled);
        }
    }

    /// The same, as `by` asked.
    pub fn cancel_by(&self, by: &CallContext) {
        let Some(account) = &self.0.account else { return };
        let account = account.lock();
        if account.ended().is_none() {
            self.0.inner.lock().cancelled_by.get_or_insert_with(|| by.clone());
            account.end(CallError::Cancelled);
        }
    }

    /// The same, and waits for its end for so long; says whether it came. Where its end cannot be stored, or the host stops, it may
    /// not.
    pub async fn cancel_within(&self, by: &CallContext, patience: Duration) -> bool {
        self.cancel_by(by);
        tokio::time::timeout(patience, self.finished()).await.is_ok()
    }

    /// Who asked that it be cancelled, if that is known.
    pub(crate) fn cancelled_by(&self) -> Option<CallContext> {
        self.0.inner.lock().cancelled_by.clone()
    }

    /// A guard that cancels the task when it is dropped.
    #[must_use]
    pub fn cancel_on_drop(&self) -> CancelOnDrop {
        CancelOnDrop(Some(self.clone()))
    }

    /// Waits for its end.
    pub async fn finished(&self) -> Arc<Envelope> {
        let mut changed = self.0.changed.subscribe();
        loop {
            if let Some(envelope) = &self.0.inner.lock().envelope {
                return envelope.clone();
            }
            // The sender lives in the record that `self` holds.
            let _open = changed.changed().await;
        }
    }

    /// Waits for the next event after number `after`; none when the task has ended and told all.
    pub async fn event_after(&self, after: u64) -> Option<TaskEvent> {
        let mut changed = self.0.changed.subscribe();
        loop {
            {
                let inner = self.0.inner.lock();
                let next = inner.events.partition_point(|event| event.sequence <= after);
                if let Some(event) = inner.events.get(next) {
                    return Some(event.clone());
                }
                if inner.state.is_final() {
                    return None;
                }
            }
            let _open = changed.changed().await;
        }
    }

    /// Its account; none where it had ended before this host began.
    pub(crate) fn account(&self) -> Option<Arc<Account>> {
        self.0.account.as_ref().map(|account| account.lock().clone())
    }

    /// Gives it the account that `open` opens for its call tree, unless it was cancelled before.
    pub(crate) fn open_account(&self, open: impl FnOnce() -> Arc<Account>) {
        if let Some(account) = &self.0.account {
            let mut account = account.lock();
            if account.ended().is_none() {
                *account = open();
            }
        }
    }

    /// How long ago this host took it.
    pub(crate) fn age(&self) -> Duration {
        self.0.accepted.elapsed()
    }

    pub(crate) fn about(&self) -> &About {
        &self.0.about
    }

    /// How often its turn has come.
    pub(crate) fn attempt(&self) -> u32 {
        self.0.inner.lock().attempt
    }

    /// Says that its turn has come, and how often that was; none where it is paused.
    pub(crate) fn start(&self) -> Option<u32> {
        let mut inner = self.0.inner.lock();
        if inner.state != State::Queued {
            return None;
        }
        inner.started = true;
        inner.attempt = inner.attempt.saturating_add(1);
        Some(inner.attempt)
    }

    /// Pauses it or queues it again, and says whether it could be: what has started cannot.
    pub(crate) fn hold(&self, state: State) -> bool {
        let mut held = false;
        self.change(|inner| {
            held = !inner.started && matches!(inner.state, State::Queued | State::Paused);
            if held && inner.state != state {
                inner.moved(state);
            }
        });
        held
    }

    /// Whether its turn has not come yet.
    #[must_use]
    pub fn waits(&self) -> bool {
        let inner = self.0.inner.lock();
        !inner.started && !inner.state.is_final()
    }

    /// Waits until it is paused, or is not.
    pub(crate) async fn until_paused(&self, paused: bool) {
        let mut changed = self.0.changed.subscribe();
        while (self.state() == State::Paused) != paused {
            let _open = changed.changed().await;
        }
    }

    pub(crate) fn begin(&self, at_ms: u64) {
        self.change(|inner| {
            inner.started_at_ms = Some(at_ms);
            inner.moved(State::Working);
        });
    }

    /// Whether progress is to be told to all who listen now: some in a second are enough.
    pub(crate) fn tells_all(&self, now_ms: u64) -> bool {
        let mut inner = self.0.inner.lock();
        let due = now_ms >= inner.told_ms.saturating_add(TELL_MS);
        if due {
            inner.told_ms = now_ms;
        }
        due
    }

    pub(crate) fn tell(&self, event: Event) {
        self.change(|inner| {
            if matches!(event, Event::Progress { .. }) {
                inner.progress = Some(event.clone());
            }
            inner.happened(Happened::Told(event));
        });
    }

    /// What is to be stored of its end, which nobody sees yet.
    pub(crate) fn ending(&self, envelope: &Envelope, at_ms: u64) -> Ending {
        let inner = self.0.inner.lock();
        let last = TaskEvent {
            sequence: inner.last + 1,
            at_ms,
            happened: Happened::Moved(Moved::State { state: envelope.status.into() }),
        };
        Ending { envelope: envelope.clone(), events: inner.events.iter().cloned().chain([last]).collect() }
    }

    pub(crate) fn finish(&self, envelope: Arc<Envelope>, at_ms: u64) {
        self.change(|inner| {
            inner.finished_at_ms = Some(at_ms);
            let state = envelope.status.into();
            inner.envelope = Some(envelope);
            inner.state = state;
            inner.happened_at(at_ms, Happened::Moved(Moved::State { state }));
        });
    }

    /// Bytes that it holds in memory, about.
    pub(crate) fn bytes(&self) -> usize {
        let inner = self.0.inner.lock();
        let result = inner.envelope.as_ref().and_then(|envelope| envelope.result.as_ref()).map_or(0, |result| {
            let passages: usize =
                result.passages.iter().map(|passage| passage.text.len() + passage.source.len() + 64).sum();
            result.text.len() + result.method.len() + passages
        });
        let metadata: usize = self.0.about.metadata.iter().map(|(key, value)| key.len() + value.len() + 64).sum();
        OVERHEAD + result + metadata + inner.event_bytes
    }

    fn change(&self, change: impl FnOnce(&mut Inner)) {
        change(&mut self.0.inner.lock());
        self.0.changed.send_replace(());
    }
}

impl Inner {
    fn moved(&mut self, state: State) {
        self.state = state;
        self.happened(Happened::Moved(Moved::State { state }));
    }

    fn happened(&mut self, happened: Happened) {
        self.happened_at(now_ms(), happened);
    }

    fn happened_at(&mut self, at_ms: u64, happened: Happened) {
        self.last += 1;
        self.event_bytes += happened.bytes();
        self.events.push_back(TaskEvent { sequence: self.last, at_ms, happened });
        while self.events.len() > EVENTS || self.event_bytes > EVENT_BYTES {
            let Some(oldest) = self.events.pop_front() else { break };
            self.event_bytes -= oldest.happened.bytes();
        }
    }
}

/// Cancels a task when it is dropped.
#[derive(Debug)]
pub struct CancelOnDrop(Option<Task>);

impl CancelOnDrop {
    /// Lets the task go on.
    pub fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.cancel();
        }
    }
}

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
