//! One task: where it stands, what happened, what it came to.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use utoipa::ToSchema;
use uuid::Uuid;
use witan_capability::{Account, CallError};

use crate::{Envelope, Event, State};

/// Events that are kept of one task, and their bytes in all. Older ones make room; their numbers are not used again,
/// so that a reader sees the gap.
const EVENTS: usize = 1024;
const EVENT_BYTES: usize = 256 << 10;
/// What a record takes beyond its texts, about.
const OVERHEAD: usize = 1024;

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
    /// The metadata of the request.
    pub metadata: BTreeMap<String, String>,
    /// Where the task is kept: `memory`. It is gone when the host ends, and earlier when many later tasks have ended.
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
    id: Uuid,
    tenant: String,
    intent: String,
    metadata: BTreeMap<String, String>,
    created_at_ms: u64,
    account: Arc<Account>,
    inner: Mutex<Inner>,
    changed: watch::Sender<()>,
}

#[derive(Debug)]
struct Inner {
    state: State,
    started_at_ms: Option<u64>,
    finished_at_ms: Option<u64>,
    progress: Option<Event>,
    events: VecDeque<TaskEvent>,
    event_bytes: usize,
    last: u64,
    envelope: Option<Arc<Envelope>>,
}

impl Task {
    pub(crate) fn new(
        id: Uuid,
        tenant: String,
        intent: String,
        metadata: BTreeMap<String, String>,
        account: Arc<Account>,
    ) -> Self {
        let task = Self(Arc::new(Record {
            id,
            tenant,
            intent,
            metadata,
            created_at_ms: now_ms(),
            account,
            inner: Mutex::new(Inner {
                state: State::Queued,
                started_at_ms: None,
                finished_at_ms: None,
                progress: None,
                events: VecDeque::new(),
                event_bytes: 0,
                last: 0,
                envelope: None,
            }),
            changed: watch::Sender::new(()),
        }));
        task.change(|inner| inner.happened(Happened::Moved(Moved::State { state: State::Queued })));
        task
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.0.id
    }

    /// Whose it is.
    #[must_use]
    pub fn tenant(&self) -> &str {
        &self.0.tenant
    }

    /// Its state.
    #[must_use]
    pub fn state(&self) -> State {
        self.0.inner.lock().state
    }

    /// Where it stands.
    #[must_use]
    pub fn view(&self) -> TaskView {
        let inner = self.0.inner.lock();
        TaskView {
            id: self.0.id,
            object: "task".to_owned(),
            intent: self.0.intent.clone(),
            state: inner.state,
            created_at_ms: self.0.created_at_ms,
            started_at_ms: inner.started_at_ms,
            finished_at_ms: inner.finished_at_ms,
            progress: inner.progress.clone(),
            metadata: self.0.metadata.clone(),
            kept_in: "memory".to_owned(),
            envelope: inner.envelope.as_deref().cloned(),
        }
    }

    /// Ends it, if it has not ended: whatever it called ends with it.
    pub fn cancel(&self) {
        self.0.account.end(CallError::Cancelled);
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

    pub(crate) fn account(&self) -> &Arc<Account> {
        &self.0.account
    }

    pub(crate) fn begin(&self) {
        self.change(|inner| {
            inner.started_at_ms = Some(now_ms());
            inner.moved(State::Working);
        });
    }

    pub(crate) fn tell(&self, event: Event) {
        self.change(|inner| {
            if matches!(event, Event::Progress { .. }) {
                inner.progress = Some(event.clone());
            }
            inner.happened(Happened::Told(event));
        });
    }

    pub(crate) fn finish(&self, envelope: Arc<Envelope>) {
        self.change(|inner| {
            inner.finished_at_ms = Some(now_ms());
            let state = envelope.status.into();
            inner.envelope = Some(envelope);
            inner.moved(state);
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
        let metadata: usize = self.0.metadata.iter().map(|(key, value)| key.len() + value.len() + 64).sum();
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
        self.last += 1;
        self.event_bytes += happened.bytes();
        self.events.push_back(TaskEvent { sequence: self.last, at_ms: now_ms(), happened });
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
