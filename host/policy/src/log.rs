//! The decision log: every denial and every effect, who asked, what for, and why it was answered so.
//!
//! Deciding must never wait for a disk, nor for the thread that writes to one. An entry is put into memory, and a
//! thread takes what has gathered there every so often and writes it as JSON lines. Where the disk falls behind,
//! entries are dropped from the file, never from the caller's time; the file says how many are missing, and so does
//! [`DecisionLog::dropped`].

use std::collections::VecDeque;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::{Condvar, Mutex};
use serde::Serialize;
use serde::ser::SerializeStruct;
use uuid::Uuid;
use witan_capability::{Action, CallContext, DecisionId, HostFunction, Request};

/// Entries that the ring holds: some minutes of a busy host, in about a megabyte.
const RING: usize = 4_096;
/// Entries that may wait for the disk.
const QUEUE: usize = 16_384;
/// How long entries gather before they are written: waking a thread for each would cost more than deciding.
const GATHER: Duration = Duration::from_millis(50);
/// The file is set aside at this size, and the one that was set aside before it is removed.
const LARGEST_FILE: u64 = 64 << 20;
/// A longer resource is cut: a guest chooses its length, and the log keeps many.
const LONGEST_RESOURCE: usize = 512;

/// One decision.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Identifies it; errors and spans carry the same.
    pub decision: DecisionId,
    /// When, in milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// The component that asked.
    pub component: Arc<str>,
    /// For whom, and in which task and trace.
    pub context: CallContext,
    /// The host function.
    pub function: HostFunction,
    /// What was asked.
    pub action: Action,
    /// To what; cut where it is long.
    pub resource: String,
    /// Whether it was allowed.
    pub allowed: bool,
    /// Why it was refused, or would have been but for a trial.
    pub reason: Option<String>,
}

impl Serialize for Entry {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut line = serializer.serialize_struct("Entry", 13)?;
        line.serialize_field("decision", &self.decision)?;
        line.serialize_field("time_ms", &self.time_ms)?;
        line.serialize_field("allowed", &self.allowed)?;
        line.serialize_field("component", &*self.component)?;
        line.serialize_field("principal", self.context.principal())?;
        line.serialize_field("tenant", self.context.tenant())?;
        line.serialize_field("privacy", &self.context.privacy())?;
        line.serialize_field("task", &self.context.task())?;
        line.serialize_field("trace", &self.context.trace().to_string())?;
        line.serialize_field("function", &self.function.to_string())?;
        line.serialize_field("action", &self.action)?;
        line.serialize_field("resource", &self.resource)?;
        line.serialize_field("reason", &self.reason)?;
        line.end()
    }
}

/// Keeps the newest decisions in memory, and all of them in a file where one was given.
#[derive(Debug)]
pub struct DecisionLog {
    ids: Ids,
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

/// What the log and the thread that writes its file share.
#[derive(Debug, Default)]
struct Shared {
    entries: Mutex<Entries>,
    /// Signalled when there is something to write, and when the log ends.
    wake: Condvar,
    /// Signalled when everything is written.
    written: Condvar,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Entries {
    newest: VecDeque<Arc<Entry>>,
    unwritten: Vec<Arc<Entry>>,
    /// Whether somebody waits until everything is written.
    hurry: bool,
    /// Whether entries that were taken are being written.
    writing: bool,
    ended: bool,
}

/// How an entry joined those that wait for the disk.
#[derive(Debug, PartialEq, Eq)]
enum Waiting {
    /// It is the first, and the writer may sleep.
    First,
    /// Others wait before it.
    More,
    /// It did not: too many wait.
    Full,
}

impl Entries {
    fn wait(&mut self, entry: &Arc<Entry>) -> Waiting {
        match self.unwritten.len() {
            QUEUE.. => Waiting::Full,
            waiting => {
                self.unwritten.push(Arc::clone(entry));
                if waiting == 0 { Waiting::First } else { Waiting::More }
            }
        }
    }
}

impl DecisionLog {
    /// A log in memory only.
    pub fn in_memory() -> Self {
        Self { ids: Ids::new(), shared: Arc::default(), writer: None }
    }

    /// A log that also appends to the file at `path`, as lines of JSON. A new file is its owner's alone to read: it
    /// says who asked for what.
    ///
    /// # Errors
    /// When the file cannot be opened for appending, or the thread that writes it cannot be started.
    pub fn to_file(path: &Path) -> io::Result<Self> {
        let lines = Lines::open(path)?;
        let mut log = Self::in_memory();
        let shared = Arc::clone(&log.shared);
        let thread = std::thread::Builder::new().name("witan-decisions".to_owned());
        log.writer = Some(thread.spawn(move || write(lines, &shared))?);
        Ok(log)
    }

    /// Writes a decision down and names it.
    pub(crate) fn record(&self, request: &Request<'_>, allowed: bool, reason: Option<String>) -> DecisionId {
        self.write(|decision, time_ms| Entry {
            decision,
            time_ms,
            component: Arc::clone(&request.component.name),
            context: request.context.clone(),
            function: request.function,
            action: request.action,
            resource: cut(request.resource.to_string()),
            allowed,
            reason: reason.map(cut),
        })
    }

    /// Writes down whether the component called `name` was let in from `source`, and on whose word or why not. `digest` is
    /// of the bytes, as far as there are any.
    pub fn record_load(
        &self,
        name: &str,
        source: &str,
        digest: Option<&dyn fmt::Display>,
        allowed: bool,
        reason: String,
    ) -> DecisionId {
        let source = cut(source.to_owned());
        self.write(|decision, time_ms| Entry {
            decision,
            time_ms,
            component: name.into(),
            context: CallContext::local(),
            function: HostFunction::new("witan:host/loader", "load"),
            action: Action::ComponentLoad,
            resource: digest.map_or_else(|| source.clone(), |digest| format!("{source}@{digest}")),
            allowed,
            reason: Some(cut(reason)),
        })
    }

    fn write(&self, entry: impl FnOnce(DecisionId, u64) -> Entry) -> DecisionId {
        let (decision, time_ms) = self.ids.next();
        let entry = Arc::new(entry(decision, time_ms));
        let mut entries = self.shared.entries.lock();
        if self.writer.is_some() {
            match entries.wait(&entry) {
                Waiting::First => drop(self.shared.wake.notify_one()),
                Waiting::More => {}
                Waiting::Full => drop(self.shared.dropped.fetch_add(1, Ordering::Relaxed)),
            }
        }
        let oldest = if entries.newest.len() == RING { entries.newest.pop_front() } else { None };
        entries.newest.push_back(entry);
        drop(entries);
        // Freed outside the lock.
        drop(oldest);
        decision
    }

    /// Waits until everything is written, for as long as a healthy disk may take.
    pub fn flush(&self) {
        const MOST: Duration = Duration::from_secs(2);
        if self.writer.is_none() {
            return;
        }
        let mut entries = self.shared.entries.lock();
        entries.hurry = true;
        self.shared.wake.notify_one();
        let unwritten = |entries: &mut Entries| entries.writing || !entries.unwritten.is_empty();
        self.shared.written.wait_while_for(&mut entries, unwritten, MOST);
    }

    /// The newest decisions, newest first, `most` at most.
    pub fn newest(&self, most: usize) -> Vec<Arc<Entry>> {
        self.shared.entries.lock().newest.iter().rev().take(most).cloned().collect()
    }

    /// The decision `id`, while memory holds it.
    pub fn find(&self, id: DecisionId) -> Option<Arc<Entry>> {
        self.shared.entries.lock().newest.iter().rev().find(|entry| entry.decision == id).cloned()
    }

    /// Decisions that are missing in the file because the disk was too slow or failed, since the start.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for DecisionLog {
    /// Waits until what has gathered is written.
    fn drop(&mut self) {
        self.shared.entries.lock().ended = true;
        self.shared.wake.notify_one();
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
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

/// Writes what gathers until the log ends.
fn write(mut file: Lines, shared: &Shared) {
    let mut batch = Vec::new();
    let mut reported = 0;
    let mut failing = false;
    while gather(shared, &mut batch) {
        for entry in batch.drain(..) {
            let outcome = file.append(&*entry);
            if outcome.is_err() {
                shared.dropped.fetch_add(1, Ordering::Relaxed);
            }
            note(outcome, &mut failing);
        }
        let dropped = shared.dropped.load(Ordering::Relaxed);
        if dropped > reported {
            tracing::warn!(dropped = dropped - reported, "decisions are missing in the decision log's file");
            note(file.append(&serde_json::json!({ "dropped": dropped - reported })), &mut failing);
            reported = dropped;
        }
        note(file.lines.flush(), &mut failing);
    }
}

/// Waits for entries and takes them; false when the log has ended and all were taken.
fn gather(shared: &Shared, batch: &mut Vec<Arc<Entry>>) -> bool {
    let mut entries = shared.entries.lock();
    entries.writing = false;
    while entries.unwritten.is_empty() {
        entries.hurry = false;
        shared.written.notify_all();
        if entries.ended {
            return false;
        }
        shared.wake.wait(&mut entries);
    }
    // Only haste and the end of the log cut this short: more entries signal nothing while some wait.
    while !entries.ended && !entries.hurry && !shared.wake.wait_for(&mut entries, GATHER).timed_out() {}
    std::mem::swap(batch, &mut entries.unwritten);
    entries.writing = true;
    true
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
    largest: u64,
}

impl Lines {
    fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), lines: BufWriter::new(file), bytes, largest: LARGEST_FILE })
    }

    fn append(&mut self, value: &impl Serialize) -> io::Result<()> {
        if self.bytes >= self.largest {
            self.lines.flush()?;
            std::fs::rename(&self.path, self.path.with_extension("old.jsonl"))?;
            *self = Self { largest: self.largest, ..Self::open(&self.path)? };
        }
        let mut line = serde_json::to_vec(value)?;
        line.push(b'\n');
        self.lines.write_all(&line)?;
        self.bytes += line.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Arc<Entry> {
        Arc::new(Entry {
            decision: Ids::new().next().0,
            time_ms: 0,
            component: "a".into(),
            context: CallContext::local(),
            function: HostFunction::new("a:b/c", "d"),
            action: Action::Log,
            resource: String::new(),
            allowed: true,
            reason: None,
        })
    }

    #[test]
    fn what_the_disk_cannot_follow_is_counted_and_not_kept() {
        let mut entries = Entries::default();
        let entry = entry();
        assert_eq!(entries.wait(&entry), Waiting::First);
        assert!((1..QUEUE).all(|_| entries.wait(&entry) == Waiting::More));
        assert_eq!(entries.wait(&entry), Waiting::Full);
        assert_eq!(entries.unwritten.len(), QUEUE);
    }

    #[test]
    fn a_large_file_is_set_aside_and_only_one_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("decisions.jsonl");
        let mut lines = Lines { largest: 100, ..Lines::open(&path).unwrap() };
        for number in 0..100 {
            lines.append(&number).unwrap();
        }
        lines.lines.flush().unwrap();
        let size = |name: &str| std::fs::metadata(folder.path().join(name)).unwrap().len();
        assert!(size("decisions.jsonl") <= 110 && size("decisions.old.jsonl") <= 110);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[cfg(unix)]
    #[test]
    fn the_file_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("decisions.jsonl");
        drop(DecisionLog::to_file(&path).unwrap());
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn ids_are_different_and_of_version_7() {
        let ids = Ids::new();
        let (first, second) = (ids.next().0, ids.next().0);
        assert_ne!(first, second);
        assert_eq!(first.0.get_version_num(), 7);
    }
}
