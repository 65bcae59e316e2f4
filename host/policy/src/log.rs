//! The decision log: every denial and every effect, who asked, what for, and why it was answered so.
//!
//! Deciding must never wait for a disk. Entries go to a ring in memory, and over a bounded channel to a thread that
//! writes them as JSON lines. Where the thread falls behind, entries are dropped from the file, never from the
//! caller's time; the file says how many are missing, and so does [`DecisionLog::dropped`].

use std::collections::VecDeque;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use serde::Serialize;
use uuid::Uuid;
use witan_capability::{Action, DecisionId, HostFunction, Request};

/// Entries that the ring holds: some minutes of a busy host, in about a megabyte.
const RING: usize = 4_096;
/// Entries that may wait for the disk.
const QUEUE: usize = 8_192;
/// The file is set aside at this size, and the one that was set aside before it is removed.
const LARGEST_FILE: u64 = 64 << 20;
/// A longer resource is cut: a guest chooses its length, and the log keeps many.
const LONGEST_RESOURCE: usize = 512;

/// One decision.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    /// Identifies it; errors and spans carry the same.
    pub decision: DecisionId,
    /// When, in milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// The component that asked.
    #[serde(serialize_with = "as_text")]
    pub component: Arc<str>,
    /// For whom.
    pub principal: String,
    /// Whose data.
    pub tenant: String,
    /// The task that the call belongs to.
    pub task: Option<Uuid>,
    /// Joins it with the spans and log lines of the call tree.
    pub trace: Uuid,
    /// The host function.
    #[serde(serialize_with = "as_text")]
    pub function: HostFunction,
    /// What was asked.
    pub action: Action,
    /// To what; cut where it is long.
    pub resource: String,
    /// Whether it was allowed.
    pub allowed: bool,
    /// Why it was refused; empty where it was allowed.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub reason: String,
}

fn as_text<S: serde::Serializer>(value: &impl fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// Keeps the newest decisions in memory, and all of them in a file where one was given.
#[derive(Debug)]
pub struct DecisionLog {
    ids: Ids,
    ring: Mutex<VecDeque<Arc<Entry>>>,
    sink: Option<Sink>,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Sink {
    /// `None` once it is being dropped, which ends the thread.
    queue: Option<SyncSender<Arc<Entry>>>,
    thread: Option<JoinHandle<()>>,
}

impl DecisionLog {
    /// A log in memory only.
    pub fn in_memory() -> Self {
        Self { ids: Ids::new(), ring: Mutex::default(), sink: None, dropped: Arc::default() }
    }

    /// A log that also appends to the file at `path`, as lines of JSON.
    ///
    /// # Errors
    /// When the file cannot be opened for appending, or the thread that writes it cannot be started.
    pub fn to_file(path: &Path) -> io::Result<Self> {
        let file = Lines::open(path)?;
        let (queue, entries) = sync_channel(QUEUE);
        let dropped = Arc::<AtomicU64>::default();
        let counter = Arc::clone(&dropped);
        let thread = std::thread::Builder::new()
            .name("witan-decisions".to_owned())
            .spawn(move || write(file, &entries, &counter))?;
        let sink = Some(Sink { queue: Some(queue), thread: Some(thread) });
        Ok(Self { sink, dropped, ..Self::in_memory() })
    }

    /// Writes a decision down and names it.
    pub(crate) fn record(&self, request: &Request<'_>, refused: Option<String>) -> DecisionId {
        let (decision, time_ms) = self.ids.next();
        let context = request.context;
        let entry = Arc::new(Entry {
            decision,
            time_ms,
            component: Arc::clone(&request.component.name),
            principal: context.principal().to_owned(),
            tenant: context.tenant().to_owned(),
            task: context.task(),
            trace: context.trace(),
            function: request.function,
            action: request.action,
            resource: cut(request.resource.to_string()),
            allowed: refused.is_none(),
            reason: refused.map(cut).unwrap_or_default(),
        });
        let sink = self.sink.as_ref().and_then(|sink| sink.queue.as_ref());
        if sink.is_some_and(|sink| sink.try_send(Arc::clone(&entry)).is_err()) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        let mut ring = self.ring.lock();
        if ring.len() == RING {
            ring.pop_front();
        }
        ring.push_back(entry);
        decision
    }

    /// The newest decisions, newest first, `most` at most.
    pub fn newest(&self, most: usize) -> Vec<Arc<Entry>> {
        self.ring.lock().iter().rev().take(most).cloned().collect()
    }

    /// The decision `id`, while the ring holds it.
    pub fn find(&self, id: DecisionId) -> Option<Arc<Entry>> {
        self.ring.lock().iter().rev().find(|entry| entry.decision == id).cloned()
    }

    /// Decisions that are missing in the file because the disk was too slow or failed, since the start.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for Sink {
    /// Waits until what was queued is written.
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that writes the decision log panicked");
        }
    }
}

/// Cuts a text that a guest may have chosen.
fn cut(mut text: String) -> String {
    if text.len() > LONGEST_RESOURCE {
        text.truncate(text.floor_char_boundary(LONGEST_RESOURCE));
        text.push('…');
    }
    text
}

/// Makes ids in the form of a UUID of version 7: the time, a number of this process, and a counter. Asking the system
/// for randomness each time would take longer than deciding.
#[derive(Debug)]
struct Ids {
    process: u32,
    next: AtomicU64,
}

impl Ids {
    fn new() -> Self {
        let [.., a, b, c, d] = *Uuid::new_v7(uuid::Timestamp::now(uuid::NoContext)).as_bytes();
        Self { process: u32::from_be_bytes([a, b, c, d]), next: AtomicU64::new(0) }
    }

    /// A new id, and the time in it in milliseconds since the Unix epoch.
    fn next(&self) -> (DecisionId, u64) {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time_ms = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX);
        let counter = self.next.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let process = self.process.to_be_bytes();
        // The first byte and the third lose bits to the version and the variant: keep the counter out of them.
        let [_, _, _, c, d, e, f, g] = counter;
        let [p, q, r, s] = process;
        let random = [p, q, r, s, 0, c, d, e, f, g];
        (DecisionId(uuid::Builder::from_unix_timestamp_millis(time_ms, &random).into_uuid()), time_ms)
    }
}

/// Writes entries until the log is dropped.
fn write(mut file: Lines, entries: &Receiver<Arc<Entry>>, dropped: &AtomicU64) {
    let mut reported = 0;
    let mut failing = false;
    while let Ok(first) = entries.recv() {
        let mut next = Ok(first);
        while let Ok(entry) = next {
            let outcome = file.append(&*entry);
            if outcome.is_err() {
                dropped.fetch_add(1, Ordering::Relaxed);
            }
            note(outcome, &mut failing);
            next = entries.try_recv();
        }
        let missing = dropped.load(Ordering::Relaxed);
        if missing > reported {
            tracing::warn!(dropped = missing - reported, "decisions are missing in the decision log's file");
            note(file.append(&serde_json::json!({ "dropped": missing - reported })), &mut failing);
            reported = missing;
        }
        note(file.lines.flush(), &mut failing);
    }
}

/// Says that writing began to fail, once for each time that it does.
fn note(outcome: io::Result<()>, failing: &mut bool) {
    if let Err(error) = &outcome
        && !*failing
    {
        tracing::error!(%error, "cannot write the decision log");
    }
    *failing = outcome.is_err();
}

/// A file of JSON lines that is set aside when it is large.
struct Lines {
    path: PathBuf,
    lines: BufWriter<File>,
    bytes: u64,
}

impl Lines {
    fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), lines: BufWriter::new(file), bytes })
    }

    fn append(&mut self, value: &impl Serialize) -> io::Result<()> {
        if self.bytes >= LARGEST_FILE {
            self.lines.flush()?;
            std::fs::rename(&self.path, self.path.with_extension("old.jsonl"))?;
            *self = Self::open(&self.path)?;
        }
        let mut line = serde_json::to_vec(value)?;
        line.push(b'\n');
        self.lines.write_all(&line)?;
        self.bytes += line.len() as u64;
        Ok(())
    }
}
