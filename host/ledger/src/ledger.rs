//! The handle of a ledger.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Weak, atomic::Ordering},
    thread::{self, JoinHandle},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::oneshot;
use witan_merkle_log::{Log, Snapshot};
use zeroize::Zeroizing;

use crate::{
    Entry, HOST, HostKeyError, HostKeys, Kind, ReadError, Reader, Redactor, Settings, file,
    host_key::HostKey,
    journal::{Journal, JournalError, segments},
    keeper::{self, Desk, Keeper},
    keys::{KeyId, Keys, Namer},
    trace::traced,
    writer::{Queue, Writer, in_words},
};

/// How long closing, flushing and erasing wait for a disk.
const PATIENCE: Duration = Duration::from_secs(30);
/// Names of keys in one entry that tells of an erasure.
const NAMES: usize = 20;

/// Why a ledger cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The disk failed.
    #[error("the ledger in `{folder}` cannot be made or opened")]
    Disk {
        /// The ledger's folder.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Its keys do not hold.
    #[error(transparent)]
    Keys(#[from] HostKeyError),
    /// It was changed or damaged.
    #[error(
        "the ledger in `{folder}` was changed or damaged: {what}; see `witan audit verify`, and restore it from a copy"
    )]
    Damaged {
        /// The ledger's folder.
        folder: PathBuf,
        /// What does not hold.
        what: String,
    },
    /// It is not what the sink has seen.
    #[error(
        "the ledger in `{folder}` is not the one whose checkpoints are in `{sink}`: {what}; if an older copy was restored \
         on purpose, keep the sink's file as evidence and name another"
    )]
    Sink {
        /// The ledger's folder.
        folder: PathBuf,
        /// The sink's file.
        sink: PathBuf,
        /// What does not hold.
        what: String,
    },
    /// A thread cannot be started.
    #[error("a thread of the ledger cannot be started")]
    Thread(#[source] io::Error),
}

/// Why an entry was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Too many wait.
    #[error("the ledger has no room: {0} entries wait for the disk; try again later")]
    Full(usize),
    /// The disk failed.
    #[error("the ledger cannot be written: {0}")]
    Disk(Arc<str>),
    /// It is closed.
    #[error("the ledger is closed")]
    Closed,
}

/// Why nothing was erased.
#[derive(Debug, thiserror::Error)]
pub enum EraseError {
    /// Nothing is kept under such a key.
    #[error("the ledger has no key of {0}: nothing was written of them, or it is erased already")]
    Nobody(String),
    /// The host's own entries stay.
    #[error("what the host itself did is not erased")]
    Host,
    /// The erasure cannot be written down, so it was not done.
    #[error("the erasure cannot be written down, and was not done")]
    Refused(#[from] Refused),
    /// The keys cannot be destroyed.
    #[error("the keys cannot be destroyed; the erasure is written down, so do it again")]
    Disk(#[source] io::Error),
}

/// What was erased.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Erased {
    /// The keys that were destroyed.
    pub keys: Vec<KeyId>,
}

/// How a ledger is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Why nothing can be written down, so that nothing is allowed that would have to be.
    pub failing: Option<String>,
    /// What an operator should know.
    pub warning: Option<String>,
    /// Entries that wait for the disk.
    pub waiting: usize,
    /// Entries that were written since the start.
    pub written: u64,
    /// Entries that were refused since the start.
    pub refused: u64,
    /// Denials of these: they are told of by their number alone.
    pub lost_denials: u64,
    /// Writes that were made durable since the start, each of all entries that were there.
    pub writes: u64,
    /// How long these took, all together.
    pub write_time: Duration,
    /// Writes that failed since the start, and were tried again.
    pub failures: u64,
}

/// A ledger that is written to. It is cheap to clone; it is closed when the last clone is dropped.
#[derive(Clone)]
pub struct Ledger(Arc<Shared>);

struct Shared {
    folder: PathBuf,
    queue: Arc<Queue>,
    desk: Arc<Desk>,
    redactor: Arc<Redactor>,
    namer: Namer,
    reader: Reader,
    threads: Mutex<Option<(JoinHandle<()>, JoinHandle<()>)>>,
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Ledger").field(&self.0.folder).finish()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn close(&self) {
        let Some((writer, keeper)) = self.threads.lock().take() else { return };
        self.queue.close();
        let _panicked = writer.join();
        self.desk.close();
        let _panicked = keeper.join();
    }
}

impl Ledger {
    /// Opens the ledger in `folder`, and makes it with its keys if there is none.
    ///
    /// # Errors
    /// When it was damaged, is not what the sink has seen, or the disk fails.
    pub fn open(folder: &Path, settings: Settings) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Disk { folder: folder.to_owned(), source };
        let damaged = |what: String| OpenError::Damaged { folder: folder.to_owned(), what };
        make_folder(folder).map_err(failed)?;
        // Two processes that start at once make one key.
        let turn = file::appended(&folder.join("lock")).map_err(failed)?;
        turn.lock().map_err(failed)?;
        let key = HostKey::open(folder)?;
        let mut keys = Keys::open(folder).map_err(failed)?;
        let pepper = match read_pepper(folder).map_err(failed)? {
            Some(pepper) => pepper,
            // With another, nobody's key would be found, and nobody could be erased.
            None if keys.is_hashed() => return Err(damaged("its file `pepper` was removed".to_owned())),
            None => make_pepper(folder).map_err(failed)?,
        };
        let begun = begin(folder, &key).map_err(damaged)?;
        let size = size(folder, &key.public).map_err(damaged)?;
        let mut journal = Journal::open(&folder.join("entries"), size, settings.file_bytes)
            .map_err(|error| damaged(in_words(&error)))?;
        if journal.next() < size {
            return Err(damaged(format!("its log has {size} entries, and {} are there", journal.next())));
        }
        let namer = Namer::new(pepper.clone());
        let mended = journal.in_turn(|_| Ok::<_, JournalError>(keys.mend(&namer)));
        mended.map_err(|error| damaged(in_words(&error)))?.map_err(failed)?;
        drop(turn);
        if let Some(sink) = &settings.sink {
            hold_to_sink(folder, sink, &key).map_err(|what| OpenError::Sink {
                folder: folder.to_owned(),
                sink: sink.clone(),
                what,
            })?;
        }

        let queue = Arc::new(Queue::new(settings.queue));
        if begun == Begun::TimeRemoved {
            let entry = Entry::new(Kind::Ledger, "checkpoint-removed", "checkpoint")
                .because("the file was gone, and is made anew: whoever removed it hid until when the ledger was whole");
            // A queue that is new has room.
            let _taken = queue.push(entry, None);
        }
        let desk = Arc::new(Desk::default());
        if journal.next() > size {
            // A process that ended left them, and they want a checkpoint.
            desk.wrote();
        }
        let redactor = Arc::new(Redactor::new(settings.redaction.clone(), pepper));
        let wrote: Arc<dyn Fn() + Send + Sync> = {
            let desk = desk.clone();
            Arc::new(move || desk.wrote())
        };
        let gather = settings.gather;
        let writer = Writer {
            queue: queue.clone(),
            redactor: redactor.clone(),
            journal,
            keys,
            namer: namer.clone(),
            gather,
            wrote,
        };
        let keeper = Keeper {
            folder: folder.to_owned(),
            taken: (0, vec![0; settings.witnesses.len()]),
            settings,
            key,
            desk: desk.clone(),
            queue: queue.clone(),
            log: None,
            seen: None,
            offered: None,
            dropping: None,
        };
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            thread::Builder::new().name(name.to_owned()).spawn(work).map_err(OpenError::Thread)
        };
        let writer = spawn("ledger-writer", Box::new(move || writer.run()))?;
        let keeper = match spawn("ledger-keeper", Box::new(move || keeper.run())) {
            Ok(keeper) => keeper,
            Err(error) => {
                queue.close();
                let _panicked = writer.join();
                return Err(error);
            }
        };
        let reader = Reader::open(folder).map_err(|error| damaged(in_words(&error)))?;
        let threads = Mutex::new(Some((writer, keeper)));
        Ok(Self(Arc::new(Shared { folder: folder.to_owned(), queue, desk, redactor, namer, reader, threads })))
    }

    /// Takes `entry`, and returns at once. It is durable soon after; whoever must know uses [`Self::append_durable`].
    ///
    /// # Errors
    /// When it is not taken. What it would have told of must then not be done, unless it is a refusal itself.
    pub fn append(&self, entry: Entry) -> Result<(), Refused> {
        self.0.queue.push(traced(entry), None)
    }

    /// Takes `entry`, and resolves to its number when it is durable.
    ///
    /// # Errors
    /// When it is not taken, or the disk failed. It may be in the ledger all the same.
    pub fn append_durable(&self, entry: Entry) -> impl Future<Output = Result<u64, Refused>> + Send + use<> {
        let (done, told) = oneshot::channel();
        let taken = self.0.queue.push(traced(entry), Some(done));
        async move {
            taken?;
            told.await.map_err(|_| Refused::Closed)?
        }
    }

    /// As [`Self::append_durable`], and blocks meanwhile: no async task may call it.
    ///
    /// # Errors
    /// As there.
    pub fn append_blocking(&self, entry: Entry) -> Result<u64, Refused> {
        let (done, told) = oneshot::channel();
        self.0.queue.push(traced(entry), Some(done))?;
        told.blocking_recv().map_err(|_| Refused::Closed)?
    }

    /// Waits until everything that was taken is durable; false where it was not within `most`.
    pub fn flush(&self, most: Duration) -> bool {
        self.0.queue.flush(most)
    }

    /// Waits until everything that was taken is durable, as long as a disk may take that others keep busy.
    ///
    /// # Errors
    /// Why it is not, in words.
    pub fn settle(&self) -> Result<(), String> {
        if self.flush(PATIENCE) {
            return Ok(());
        }
        Err(self.failing().unwrap_or_else(|| format!("the disk has not confirmed it within {PATIENCE:?}")))
    }

    /// Has everything that was taken put under a checkpoint.
    ///
    /// # Errors
    /// Why there is none, in words. Where another process keeps the log, that one makes it, a little later.
    pub fn checkpoint(&self) -> Result<(), String> {
        self.flush(PATIENCE);
        self.0.desk.checkpoint(PATIENCE).map_err(|why| why.to_string())
    }

    /// Writes everything, makes a last checkpoint, and takes nothing more.
    pub fn close(&self) {
        self.0.close();
    }

    /// Masks these values wherever they would be written, in place of those before.
    pub fn hide(&self, values: impl IntoIterator<Item = Zeroizing<String>>) {
        self.0.redactor.hide(values);
    }

    /// What takes out of entries what must not be written, for others who write.
    #[must_use]
    pub fn redactor(&self) -> Arc<Redactor> {
        self.0.redactor.clone()
    }

    /// Why nothing can be written down now, so that nothing may be done that would have to be.
    #[must_use]
    pub fn failing(&self) -> Option<String> {
        let Shared { queue, desk, .. } = &*self.0;
        let full = || queue.is_full().then(|| "entries come faster than the disk takes them".to_owned());
        let log = || desk.failing().map(|why| why.to_string());
        queue.failing().map(|why| why.to_string()).or_else(log).or_else(full)
    }

    /// How it is.
    #[must_use]
    pub fn health(&self) -> Health {
        let Shared { queue, desk, .. } = &*self.0;
        Health {
            failing: self.failing(),
            warning: desk.warning().map(|warning| warning.to_string()),
            waiting: queue.len(),
            written: queue.written.load(Ordering::Relaxed),
            refused: queue.refused.load(Ordering::Relaxed),
            lost_denials: queue.lost.load(Ordering::Relaxed),
            writes: queue.writes.load(Ordering::Relaxed),
            write_time: Duration::from_nanos(queue.write_nanos.load(Ordering::Relaxed)),
            failures: queue.failures.load(Ordering::Relaxed),
        }
    }

    /// Reads it.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.0.reader
    }

    /// A handle that does not keep the ledger open.
    #[must_use]
    pub fn downgrade(&self) -> WeakLedger {
        WeakLedger(Arc::downgrade(&self.0))
    }

    /// Destroys the keys of `person`, or of everyone in `tenant`: what was written of them says nothing any more, and the
    /// ledger verifies as before. That it was done, and by whom, is written down first.
    ///
    /// It blocks, so no async task may call it.
    ///
    /// # Errors
    /// When there is no such key, and when it cannot be written down or done.
    pub fn erase(&self, tenant: &str, person: Option<&str>, by: &str) -> Result<Erased, EraseError> {
        if tenant == HOST {
            return Err(EraseError::Host);
        }
        self.flush(PATIENCE);
        let folder = &self.0.folder;
        let mut keys = Keys::open(folder).map_err(EraseError::Disk)?;
        let ids = keys.held(&self.0.namer, tenant, person);
        if ids.is_empty() {
            let whom =
                person.map_or_else(|| format!("tenant `{tenant}`"), |person| format!("`{person}` of `{tenant}`"));
            return Err(EraseError::Nobody(whom));
        }
        for ids in ids.chunks(NAMES) {
            let names: Vec<String> = ids.iter().map(KeyId::to_string).collect();
            let entry = Entry::new(Kind::Ledger, "erase", format!("{} keys", ids.len()))
                .because("the data of a person or a tenant was erased")
                .with("by", by)
                .with("keys", names.join(" "));
            self.append_blocking(entry)?;
        }
        // Nobody may seal anything with a key that is being destroyed.
        let turn = file::appended(&folder.join("entries").join("turn")).map_err(EraseError::Disk)?;
        turn.lock().map_err(EraseError::Disk)?;
        keys.refresh().and_then(|()| keys.destroy(&ids)).map_err(EraseError::Disk)?;
        Ok(Erased { keys: ids })
    }

    /// Puts a new key in the place of the host's, in the ledger in `folder`. No process may have it open.
    ///
    /// # Errors
    /// When another process keeps the log, it was damaged, or the disk fails.
    pub fn rotate_key(folder: &Path, by: &str) -> Result<HostKeys, OpenError> {
        let damaged = |what: String| OpenError::Damaged { folder: folder.to_owned(), what };
        let failed = |source| OpenError::Disk { folder: folder.to_owned(), source };
        // It is whole when it has been open.
        drop(Self::open(folder, Settings::default())?);
        let open_log = |key: &HostKey| {
            Log::open(&folder.join("log"), keeper::log_settings(key).map_err(damaged)?)
                .map_err(|error| damaged(in_words(&error)))
        };
        let key = HostKey::open(folder)?;
        // As long as it is open here, nobody signs with the key before; where another process has it, nothing is done.
        let log = open_log(&key)?;
        let ledger = Self::open(folder, Settings::default())?;
        let entry = Entry::new(Kind::Ledger, "rotate-key", "host key").with("by", by);
        ledger.append_blocking(entry).map_err(|error| damaged(error.to_string()))?;
        drop(ledger);
        let turn = file::appended(&folder.join("lock")).map_err(failed)?;
        turn.lock().map_err(failed)?;
        keeper::take_up(&log, folder).map_err(damaged)?;
        let size = log.checkpoint().size();
        let key = key.rotate(folder, size)?;
        drop(log);
        let log = open_log(&key)?;
        keeper::timed(folder, &key, &log.checkpoint()).map_err(damaged)?;
        Ok(key.public)
    }
}

/// A handle that does not keep a ledger open.
#[derive(Clone)]
pub struct WeakLedger(Weak<Shared>);

impl WeakLedger {
    /// The ledger, as long as it is open.
    #[must_use]
    pub fn upgrade(&self) -> Option<Ledger> {
        self.0.upgrade().map(Ledger)
    }
}

/// Makes the folder, for this user alone.
fn make_folder(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// What keeps hashes in the place of names and of fields from being guessed by who does not have it.
fn read_pepper(folder: &Path) -> io::Result<Option<Zeroizing<[u8; 32]>>> {
    let Some(bytes) = file::read(&folder.join("pepper"))?.map(Zeroizing::new) else { return Ok(None) };
    let bytes: [u8; 32] = bytes.as_slice().try_into().map_err(|_| io::Error::other("`pepper` is not what it was"))?;
    Ok(Some(Zeroizing::new(bytes)))
}

fn make_pepper(folder: &Path) -> io::Result<Zeroizing<[u8; 32]>> {
    let mut pepper = Zeroizing::new([0; 32]);
    aws_lc_rs::rand::fill(&mut *pepper).map_err(|_| io::Error::other("the system has no randomness to give"))?;
    witan_durable::replace(&folder.join("pepper"), &*pepper, witan_durable::OWN)?;
    Ok(pepper)
}

/// What was found of the log when a ledger was opened.
#[derive(PartialEq, Eq)]
enum Begun {
    /// All that belongs there, now or before.
    Whole,
    /// The timed checkpoint was gone, although there are entries; it is made anew.
    TimeRemoved,
}

/// Makes the empty log, signed and bound to a time, before there can be an entry. So entries without a log, or without a timed
/// checkpoint, are what somebody left who removed it, and not what a host left that was killed early.
fn begin(folder: &Path, key: &HostKey) -> Result<Begun, String> {
    let disk = |error: io::Error| error.to_string();
    let log = folder.join("log");
    let is_logged = log.join("checkpoint").try_exists().map_err(disk)?;
    if is_logged && folder.join("checkpoint").try_exists().map_err(disk)? {
        return Ok(Begun::Whole);
    }
    if segments(&folder.join("entries")).map_err(disk)?.is_empty() {
        let log = Log::open(&log, keeper::log_settings(key)?).map_err(|error| in_words(&error))?;
        witan_durable::synchronize(folder).map_err(disk)?;
        return keeper::timed(folder, key, &log.checkpoint()).map(|()| Begun::Whole);
    }
    if !is_logged {
        return Err("it has entries, and the checkpoint of its log was removed".to_owned());
    }
    keeper::timed(folder, key, snapshot(folder, &key.public)?.checkpoint()).map(|()| Begun::TimeRemoved)
}

fn snapshot(folder: &Path, keys: &HostKeys) -> Result<Snapshot, String> {
    Snapshot::read(&folder.join("log"), keys.origin(), keys.all()).map_err(|error| in_words(&error))
}

/// How many entries the log has.
fn size(folder: &Path, keys: &HostKeys) -> Result<u64, String> {
    Ok(snapshot(folder, keys)?.checkpoint().size())
}

/// Compares the log with the newest checkpoint that went to `sink`.
fn hold_to_sink(folder: &Path, sink: &Path, key: &HostKey) -> Result<(), String> {
    let kept = keeper::last_of_sink(sink, key).map_err(|error| error.to_string())?;
    let Some(kept) = kept.filter(|kept| kept.size() > 0) else { return Ok(()) };
    let tree = Reader::open(folder).and_then(|reader| reader.tree()).map_err(|error: ReadError| in_words(&error))?;
    if tree.size() < kept.size() {
        return Err(format!("it has {} entries, and had {}: its end was removed", tree.size(), kept.size()));
    }
    let root = tree.root(kept.size()).map_err(|error| in_words(&error))?;
    if root == kept.root() { Ok(()) } else { Err(format!("its first {} entries are others", kept.size())) }
}
