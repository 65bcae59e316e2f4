//! The queue of entries, and the thread that writes them.
//!
//! Whoever appends never waits for the disk, unless it asks to. What was taken is written or, while the disk fails, kept
//! and tried again; nothing that was taken is dropped while the process lives.

use std::{
    collections::VecDeque,
    mem,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use aws_lc_rs::rand;
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::{
    Entry, HOST, Kind, Redactor, Refused,
    journal::{Journal, JournalError},
    keys::{Keys, Namer, Owner},
    record::{NONCE, Record, SALT},
};

/// Entries that are written at once.
const BATCH: usize = 4_096;
/// How long a disk that failed is left alone.
const PAUSE: Duration = Duration::from_secs(1);
/// How often a disk that fails is tried when the ledger is closed.
const LAST_ATTEMPTS: usize = 3;

/// Tells whoever waits for an entry its number.
type Done = oneshot::Sender<Result<u64, Refused>>;

struct Pending {
    entry: Entry,
    done: Option<Done>,
}

#[derive(Default)]
struct Waiting {
    pending: VecDeque<Pending>,
    /// Entries that were taken and are being written.
    writing: usize,
    /// Whether somebody waits for one of them.
    hurry: bool,
    /// How many wait until all is written.
    flushing: usize,
    ended: bool,
    /// Why the last attempt to write failed.
    failing: Option<Arc<str>>,
}

/// Entries on their way to the disk.
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    /// Signalled when there is something to write.
    wake: Condvar,
    /// Signalled when everything is written, or cannot be.
    settled: Condvar,
    capacity: usize,
    pub(crate) written: AtomicU64,
    /// Denials for which there was no room, and that no entry tells of yet.
    untold: AtomicU64,
    pub(crate) lost: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) writes: AtomicU64,
    pub(crate) write_nanos: AtomicU64,
    pub(crate) failures: AtomicU64,
}

impl Queue {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            waiting: Mutex::default(),
            wake: Condvar::new(),
            settled: Condvar::new(),
            capacity: capacity.max(4),
            written: AtomicU64::new(0),
            untold: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            write_nanos: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        }
    }

    /// Takes an entry, if there is room for it.
    pub(crate) fn push(&self, entry: Entry, done: Option<Done>) -> Result<(), Refused> {
        let denial = entry.decision == crate::Verdict::Deny;
        let mut waiting = self.waiting.lock();
        let room = if denial { self.capacity } else { self.capacity / 4 * 3 };
        let refused = match &waiting.failing {
            _ if waiting.ended => Some(Refused::Closed),
            Some(why) if !denial => Some(Refused::Disk(why.clone())),
            _ if waiting.pending.len() + waiting.writing >= room => Some(Refused::Full(self.capacity)),
            _ => None,
        };
        if let Some(refused) = refused {
            drop(waiting);
            self.refused.fetch_add(1, Ordering::Relaxed);
            if denial {
                self.untold.fetch_add(1, Ordering::Relaxed);
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
            return Err(refused);
        }
        let first = waiting.pending.is_empty();
        let hurry = done.is_some();
        waiting.hurry |= hurry;
        waiting.pending.push_back(Pending { entry, done });
        drop(waiting);
        if first || hurry {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Waits until everything that was taken is written; false where it was not within `most`.
    pub(crate) fn flush(&self, most: Duration) -> bool {
        let mut waiting = self.waiting.lock();
        waiting.flushing += 1;
        self.wake.notify_one();
        let unwritten =
            |waiting: &mut Waiting| waiting.failing.is_none() && (waiting.writing > 0 || !waiting.pending.is_empty());
        self.settled.wait_while_for(&mut waiting, unwritten, most);
        waiting.flushing -= 1;
        waiting.writing == 0 && waiting.pending.is_empty()
    }

    pub(crate) fn close(&self) {
        self.waiting.lock().ended = true;
        self.wake.notify_one();
    }

    pub(crate) fn len(&self) -> usize {
        let waiting = self.waiting.lock();
        waiting.pending.len() + waiting.writing
    }

    pub(crate) fn failing(&self) -> Option<Arc<str>> {
        self.waiting.lock().failing.clone()
    }

    /// Whether the queue is so full that nothing more is allowed.
    pub(crate) fn is_full(&self) -> bool {
        self.len() >= self.capacity / 4 * 3
    }

    /// Waits for entries and takes some; nothing when the queue has ended and all were taken.
    fn take(&self, gather: Duration) -> Option<Vec<Pending>> {
        let mut waiting = self.waiting.lock();
        waiting.writing = 0;
        while waiting.pending.is_empty() {
            waiting.hurry = false;
            self.settled.notify_all();
            if waiting.ended {
                return None;
            }
            self.wake.wait(&mut waiting);
        }
        let until = Instant::now() + gather;
        while !waiting.ended && !waiting.hurry && waiting.flushing == 0 && waiting.pending.len() < BATCH {
            if self.wake.wait_until(&mut waiting, until).timed_out() {
                break;
            }
        }
        let count = waiting.pending.len().min(BATCH);
        let batch: Vec<Pending> = waiting.pending.drain(..count).collect();
        waiting.hurry = waiting.pending.iter().any(|pending| pending.done.is_some());
        waiting.writing = batch.len();
        Some(batch)
    }

    /// Puts back what could not be written, and tells those who wait for it; whether to go on.
    fn put_back(&self, batch: Vec<Pending>, why: &Arc<str>, attempts: usize) -> bool {
        let mut waiting = self.waiting.lock();
        let began = waiting.failing.is_none();
        if began {
            tracing::error!(error = %why, "the ledger cannot be written: what it would tell of is refused");
        }
        waiting.failing = Some(why.clone());
        waiting.writing = 0;
        // Those that wait further back are told too: they must not wait for as long as the disk fails.
        let all: VecDeque<Pending> = batch.into_iter().chain(mem::take(&mut waiting.pending)).collect();
        for pending in all {
            match pending.done {
                Some(done) => drop(done.send(Err(Refused::Disk(why.clone())))),
                None => waiting.pending.push_back(pending),
            }
        }
        if began && !waiting.ended {
            // It is what the disk is tried with, where nothing else is left, and tells of the time without entries.
            let entry = Entry::new(Kind::Ledger, "unwritable", "entries").denied(why.to_string());
            waiting.pending.push_back(Pending { entry, done: None });
        }
        self.settled.notify_all();
        if waiting.ended && attempts >= LAST_ATTEMPTS {
            tracing::error!(entries = waiting.pending.len(), "the ledger ends without entries that it could not write");
            return false;
        }
        if !waiting.ended {
            self.wake.wait_for(&mut waiting, PAUSE);
        }
        true
    }
}

/// What the thread that writes has.
pub(crate) struct Writer {
    pub(crate) queue: Arc<Queue>,
    pub(crate) redactor: Arc<Redactor>,
    pub(crate) journal: Journal,
    pub(crate) keys: Keys,
    pub(crate) namer: Namer,
    pub(crate) gather: Duration,
    /// Tells the thread that makes checkpoints.
    pub(crate) wrote: Arc<dyn Fn() + Send + Sync>,
}

/// An entry as it is to be sealed.
struct Ready {
    owner: Owner,
    json: Vec<u8>,
}

impl Writer {
    /// Writes until the queue ends.
    pub(crate) fn run(mut self) {
        let mut attempts = 0;
        while let Some(batch) = self.queue.take(self.gather) {
            let began = Instant::now();
            match self.write(&batch) {
                Ok(first) => {
                    attempts = 0;
                    let nanos = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
                    self.queue.write_nanos.fetch_add(nanos, Ordering::Relaxed);
                    self.queue.writes.fetch_add(1, Ordering::Relaxed);
                    self.settle(batch, first);
                    (self.wrote)();
                }
                Err(error) => {
                    attempts += 1;
                    self.queue.failures.fetch_add(1, Ordering::Relaxed);
                    let why: Arc<str> = in_words(&error).into();
                    if !self.queue.put_back(batch, &why, attempts) {
                        return;
                    }
                }
            }
        }
    }

    fn settle(&self, batch: Vec<Pending>, first: u64) {
        self.queue.written.fetch_add(batch.len() as u64, Ordering::Relaxed);
        let lost = self.queue.untold.swap(0, Ordering::Relaxed);
        let recovered = {
            let mut waiting = self.queue.waiting.lock();
            waiting.writing = 0;
            if lost > 0 {
                let entry = Entry::new(Kind::Ledger, "overflow", "denials")
                    .denied("denials came faster than the disk took them, and are counted here alone")
                    .with("count", lost);
                // There is always room for this one.
                waiting.pending.push_back(Pending { entry, done: None });
            }
            waiting.failing.take().is_some()
        };
        if recovered {
            tracing::info!("the ledger is written again");
        }
        for (index, pending) in (first..).zip(batch) {
            if let Some(done) = pending.done {
                // Whoever does not wait any more has its entry all the same.
                let _gone = done.send(Ok(index));
            }
        }
    }

    /// Writes `batch` durably; the number of the first entry.
    fn write(&mut self, batch: &[Pending]) -> Result<u64, JournalError> {
        let entries: Vec<Ready> = batch.iter().map(|pending| self.ready(&pending.entry)).collect();
        let mut random = vec![0; entries.len() * (SALT + NONCE)];
        rand::fill(&mut random).map_err(|_| unsealed("the system has no randomness to give"))?;
        let keys = &mut self.keys;
        self.journal.in_turn(|journal| {
            let first = journal.next();
            let disk = |error: std::io::Error| unsealed(&error.to_string());
            keys.refresh().map_err(disk)?;
            keys.make(entries.iter().map(|entry| &entry.owner)).map_err(disk)?;
            let mut records = Vec::with_capacity(entries.len());
            for ((index, entry), random) in (first..).zip(&entries).zip(random.chunks_exact(SALT + NONCE)) {
                let key = keys.of(&entry.owner).ok_or_else(|| unsealed("a key is not there"))?;
                let (mut salt, mut nonce) = ([0; SALT], [0; NONCE]);
                salt.copy_from_slice(&random[..SALT]);
                nonce.copy_from_slice(&random[SALT..]);
                let sealed = Record::seal(index, &key, &entry.json, &salt, nonce);
                records.push(sealed.map_err(|_| unsealed("an entry cannot be sealed"))?);
            }
            journal.append(&records)?;
            Ok(first)
        })
    }

    fn ready(&self, entry: &Entry) -> Ready {
        // What tends the ledger is never erased: it says what was.
        let owner = match entry.kind {
            Kind::Ledger => self.namer.owner(HOST, HOST),
            _ => self.namer.owner(&entry.tenant, entry.person()),
        };
        let redacted = self.redactor.entry(entry.clone());
        let json = serde_json::to_vec(&redacted).unwrap_or_default();
        Ready { owner, json }
    }
}

fn unsealed(what: &str) -> JournalError {
    JournalError::Disk { folder: Path::new("keys").to_owned(), source: std::io::Error::other(what.to_owned()) }
}

/// An error with its causes, on one line.
pub(crate) fn in_words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
