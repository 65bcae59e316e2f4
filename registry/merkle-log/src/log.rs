//! The log: one thread that appends, any number of readers.
//!
//! Entries that arrive while a commit is under way are committed together, with one checkpoint. A commit writes the
//! tiles that changed under new names, makes them durable, and then replaces the checkpoint. Nobody is told of an entry
//! before that is durable too.

use std::{
    collections::BTreeSet,
    fs::{File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    thread,
};

use tokio::sync::{mpsc, oneshot};

use crate::{
    Checkpoint, CosignError, Hash, KeyError, NoteError, PublicKey, SigningKey, Tile, TileKind, Witness,
    disk::{Disk, Folder},
    tile::{self, LEVELS, WIDTH},
    tree::{self, Tiles},
};

/// The longest entry, in bytes.
const LONGEST: usize = u16::MAX as usize;

/// Entries that are committed together at most.
const BATCH: usize = 1024;

/// Entries that wait at most; who comes then waits until one of them is committed.
const QUEUE: usize = 4096;

const CHECKPOINT: &str = "checkpoint";

/// Where what is being written lies until it has its name.
const TEMPORARY: &str = "tmp";

/// Where notes with co-signatures lie, by the size of the tree.
const COSIGNED: &str = "cosigned";

/// What a log is.
pub struct Settings {
    /// What it calls itself in its checkpoints. Sigstore's clients want a host, ` - ` and a number.
    pub origin: String,
    /// Whom its signatures name. Sigstore's clients want the host.
    pub signer: String,
    /// The key of its checkpoints.
    pub key: SigningKey,
    /// Keys that were the log's before. Where its checkpoint is signed by one, it is signed anew.
    pub previous: Vec<PublicKey>,
    /// Whose co-signatures it takes.
    pub witnesses: Vec<Witness>,
}

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process appends to it.
    #[error("the log in `{0}` is used by another process; stop that one first")]
    InUse(PathBuf),
    /// There are entries and no checkpoint.
    #[error("the log in `{0}` has entries but no checkpoint; restore the file `checkpoint` from a copy")]
    NoCheckpoint(PathBuf),
    /// The checkpoint is not the log's.
    #[error("the checkpoint of the log in `{folder}` does not hold")]
    Checkpoint {
        /// The log's folder.
        folder: PathBuf,
        /// Why.
        source: NoteError,
    },
    /// The tiles do not have the root that the checkpoint names.
    #[error("the log in `{folder}` was changed or damaged: {what}; restore it from a copy")]
    Damaged {
        /// The log's folder.
        folder: PathBuf,
        /// What does not hold.
        what: String,
    },
    /// A name cannot stand in a checkpoint.
    #[error("`{0}` cannot stand in a checkpoint: it is empty, or has a line end or a space where none may be")]
    Name(String),
    /// The key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The disk failed.
    #[error("the log in `{folder}` cannot be read or written")]
    Disk {
        /// The log's folder.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Why a log did not do it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LogError {
    /// The entry is too long.
    #[error("the entry has {0} bytes, and {LONGEST} is the most")]
    TooLong(usize),
    /// There is no such entry or tree.
    #[error("the log has {0} entries, and no other")]
    Beyond(u64),
    /// The disk failed. The entry is not in the log.
    #[error("the log cannot be read or written")]
    Disk(#[source] Arc<io::Error>),
    /// What is on disk is not what was written.
    #[error("the log is damaged: {0}")]
    Damaged(String),
    /// A commit failed half-way, or the log is closed.
    #[error("the log takes no more entries: a commit failed, or it was closed; open it again")]
    Closed,
}

/// An entry that is in the log, durably.
#[derive(Clone, Debug)]
pub struct Appended {
    /// Its number, from 0.
    pub index: u64,
    /// A checkpoint of a tree that has it.
    pub checkpoint: Arc<Checkpoint>,
}

/// A log. It is cheap to clone; it is closed when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Log(Arc<Shared>);

struct Shared {
    folder: PathBuf,
    origin: String,
    signer: String,
    key: PublicKey,
    witnesses: Vec<Witness>,
    head: Arc<RwLock<Arc<Head>>>,
    /// Taken when the log is closed.
    entries: Option<mpsc::Sender<Waiting>>,
    appender: Option<thread::JoinHandle<()>>,
    /// Held while co-signatures are written.
    cosigning: Mutex<()>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.origin)
    }
}

/// Whoever opens the log next finds it closed.
impl Drop for Shared {
    fn drop(&mut self) {
        drop(self.entries.take());
        if let Some(appender) = self.appender.take() {
            let _ended = appender.join();
        }
    }
}

/// What of the log is in memory: what the last tiles hold.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) checkpoint: Arc<Checkpoint>,
    /// For each level, the hashes of the tile that is not full yet.
    levels: Vec<Vec<Hash>>,
    /// The entries of the bundle that is not full yet.
    bundle: Vec<u8>,
}

/// Entries that are committed together, and whoever waits for them.
struct Waiting {
    entries: Vec<Vec<u8>>,
    /// Told of the first of them.
    done: oneshot::Sender<Result<Appended, LogError>>,
}

impl Log {
    /// Opens the log in `folder`, and makes it if there is none. What was never acknowledged is removed.
    ///
    /// # Errors
    /// When another process has it, when it was damaged, and when the disk fails.
    pub fn open(folder: &Path, settings: Settings) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Disk { folder: folder.to_owned(), source };
        std::fs::create_dir_all(folder).map_err(failed)?;
        let lock = File::options().create(true).append(true).open(folder.join("lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::InUse(folder.to_owned())),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let (key, witnesses) = (settings.key.public()?, settings.witnesses.clone());
        let (origin, signer) = (settings.origin.clone(), settings.signer.clone());
        let appender = Appender::open(Folder(folder.to_owned()), folder, settings)?;
        let head = Arc::new(RwLock::new(Arc::new(appender.head.clone())));
        let (entries, waiting) = mpsc::channel(QUEUE);
        let published = head.clone();
        let run = move || {
            appender.run(waiting, &published);
            drop(lock);
        };
        let appender = thread::Builder::new().name("merkle-log".to_owned()).spawn(run).map_err(failed)?;
        let cosigning = Mutex::default();
        let (entries, appender) = (Some(entries), Some(appender));
        let folder = folder.to_owned();
        Ok(Self(Arc::new(Shared { folder, origin, signer, key, witnesses, head, entries, appender, cosigning })))
    }

    /// What it calls itself.
    pub fn origin(&self) -> &str {
        &self.0.origin
    }

    /// Whom its signatures name.
    pub fn signer(&self) -> &str {
        &self.0.signer
    }

    /// The key that its checkpoints are verified with.
    pub fn key(&self) -> &PublicKey {
        &self.0.key
    }

    /// Appends `entry`. When this returns, the entry is durable and in the tree of the checkpoint that it gives; whoever
    /// stops waiting before cannot know.
    ///
    /// # Errors
    /// When the entry is too long, and when the disk fails.
    pub async fn append(&self, entry: Vec<u8>) -> Result<Appended, LogError> {
        if entry.len() > LONGEST {
            return Err(LogError::TooLong(entry.len()));
        }
        let (done, told) = oneshot::channel();
        let entries = self.0.entries.as_ref().ok_or(LogError::Closed)?;
        entries.send(Waiting { entries: vec![entry], done }).await.map_err(|_| LogError::Closed)?;
        told.await.map_err(|_| LogError::Closed)?
    }

    /// Appends `entries` in one commit, and waits for it; the number of the first. It blocks, so no async task may call it.
    ///
    /// # Errors
    /// As [`Self::append`]; where one of them is refused, so are all.
    pub fn append_all(&self, entries: Vec<Vec<u8>>) -> Result<Appended, LogError> {
        if let Some(long) = entries.iter().find(|entry| entry.len() > LONGEST) {
            return Err(LogError::TooLong(long.len()));
        }
        let (done, told) = oneshot::channel();
        let waiting = self.0.entries.as_ref().ok_or(LogError::Closed)?;
        waiting.blocking_send(Waiting { entries, done }).map_err(|_| LogError::Closed)?;
        told.blocking_recv().map_err(|_| LogError::Closed)?
    }

    /// The newest checkpoint.
    pub fn checkpoint(&self) -> Arc<Checkpoint> {
        self.head().checkpoint.clone()
    }

    fn head(&self) -> Arc<Head> {
        self.0.head.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn view(&self) -> View<Folder> {
        View { disk: Folder(self.0.folder.clone()), head: self.head() }
    }

    /// Entry number `index`.
    ///
    /// # Errors
    /// When there is none, and when the disk fails.
    pub fn entry(&self, index: u64) -> Result<Vec<u8>, LogError> {
        let mut entries = self.entries(index, 1)?;
        entries.pop().ok_or_else(|| LogError::Damaged(format!("entry {index} is not in its bundle")))
    }

    /// Up to `count` entries from number `first` on; fewer at the end of a bundle.
    ///
    /// # Errors
    /// When there is no such entry, and when the disk fails.
    pub fn entries(&self, first: u64, count: usize) -> Result<Vec<Vec<u8>>, LogError> {
        self.view().entries(first, count)
    }

    /// The root of the tree that the first `size` entries are.
    ///
    /// # Errors
    /// When there are not so many, and when the disk fails.
    pub fn root(&self, size: u64) -> Result<Hash, LogError> {
        self.view().root(size)
    }

    /// That entry `index` is in the tree of `size` entries.
    ///
    /// # Errors
    /// When there are not so many, and when the disk fails.
    pub fn inclusion(&self, index: u64, size: u64) -> Result<Vec<Hash>, LogError> {
        self.view().inclusion(index, size)
    }

    /// That the tree of `old` entries is how the one of `new` began.
    ///
    /// # Errors
    /// When there are not so many, and when the disk fails.
    pub fn consistency(&self, old: u64, new: u64) -> Result<Vec<Hash>, LogError> {
        self.view().consistency(old, new)
    }

    /// The bytes of a tile; none where the log has not grown to it.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn tile(&self, tile: Tile) -> Result<Option<Vec<u8>>, LogError> {
        let view = self.view();
        let level = match tile.kind {
            TileKind::Hashes(level) => level,
            TileKind::Entries => 0,
        };
        let end = tile.index.checked_mul(WIDTH).and_then(|first| first.checked_add(tile.count() as u64));
        let has = view.size() >> (8 * u32::from(level));
        if level >= LEVELS || end.is_none_or(|end| end > has) {
            return Ok(None);
        }
        match tile.kind {
            TileKind::Hashes(level) => {
                let hashes = view.tile(level, tile.index)?;
                Ok(Some(hashes.iter().take(tile.count()).flat_map(|hash| hash.0).collect()))
            }
            TileKind::Entries => {
                let bundle = view.bundle(tile.index)?;
                let entries = tile::entries(&bundle).unwrap_or_default();
                let length = entries.iter().take(tile.count()).map(|entry| entry.len() + 2).sum::<usize>();
                Ok(Some(bundle.get(..length).unwrap_or_default().to_vec()))
            }
        }
    }

    /// Takes the co-signatures of known witnesses that stand on `note`, a checkpoint of this log; how many.
    ///
    /// # Errors
    /// When the note is none of this log, no witness that is known signed it, or the disk fails.
    pub fn cosign(&self, note: &str) -> Result<usize, CosignError> {
        let offered = Checkpoint::unsigned(note)?;
        if offered.origin() != self.0.origin {
            let found = offered.origin().to_owned();
            return Err(NoteError::Origin { found, expected: self.0.origin.clone() }.into());
        }
        let size = offered.size();
        if self.root(size).ok() != Some(offered.root()) {
            return Err(CosignError::Foreign(size));
        }
        let cosignatures: Vec<_> = self.0.witnesses.iter().filter_map(|witness| witness.on(&offered)).collect();
        if cosignatures.is_empty() {
            return Err(CosignError::Nobody);
        }
        let _turn = lock(&self.0.cosigning);
        let newest = self.cosigned().map_err(CosignError::Log)?;
        let base = match &newest {
            Some(newest) if newest.size() > size => {
                let name = cosignatures.first().map(|first| first.name().to_owned()).unwrap_or_default();
                return Err(CosignError::Older { name, size: newest.size() });
            }
            Some(newest) if newest.size() == size => newest.clone(),
            // Who else signed what was offered is not known.
            _ => offered.bare(),
        };
        let kept = base.without(&cosignatures).with(&cosignatures);
        let disk = Folder(self.0.folder.clone());
        replace(&disk, &Path::new(COSIGNED).join("newest"), kept.note().as_bytes())
            .map_err(|error| CosignError::Log(LogError::Disk(Arc::new(error))))?;
        Ok(cosignatures.len())
    }

    /// The newest checkpoint that witnesses co-signed, with their signatures and not the log's own.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn cosigned(&self) -> Result<Option<Checkpoint>, LogError> {
        let path = Path::new(COSIGNED).join("newest");
        match Folder(self.0.folder.clone()).read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(LogError::Disk(Arc::new(error))),
            Ok(bytes) => Checkpoint::unsigned(&String::from_utf8_lossy(&bytes))
                .map(Some)
                .map_err(|error| LogError::Damaged(error.to_string())),
        }
    }
}

/// A log as one checkpoint has it, read from its folder by whoever does not append to it.
#[derive(Clone, Debug)]
pub struct Snapshot {
    folder: PathBuf,
    head: Arc<Head>,
}

/// How often a log is read that goes on between its checkpoint and its last tiles.
const ATTEMPTS: usize = 20;

impl Snapshot {
    /// Reads the log `origin` in `folder`, whose checkpoint one of `keys` signed.
    ///
    /// # Errors
    /// When there is none, when it was damaged, and when the disk fails.
    pub fn read(folder: &Path, origin: &str, keys: &[PublicKey]) -> Result<Self, OpenError> {
        let disk = Folder(folder.to_owned());
        let mut attempts = 0;
        loop {
            attempts += 1;
            let note = disk
                .read(Path::new(CHECKPOINT))
                .map_err(|source| OpenError::Disk { folder: folder.to_owned(), source })?;
            let note = String::from_utf8_lossy(&note);
            let mut parsed = Err(NoteError::Signature);
            for key in keys {
                parsed = Checkpoint::parse(&note, origin, key);
                if parsed.is_ok() {
                    break;
                }
            }
            let checkpoint = parsed.map_err(|source| OpenError::Checkpoint { folder: folder.to_owned(), source })?;
            match recover(&disk, checkpoint) {
                Ok(head) => return Ok(Self { folder: folder.to_owned(), head: Arc::new(head) }),
                // The tiles of a checkpoint that was replaced meanwhile are gone.
                Err(_) if attempts < ATTEMPTS => thread::sleep(std::time::Duration::from_millis(5)),
                Err(error) => {
                    return Err(OpenError::Damaged { folder: folder.to_owned(), what: error.to_string() });
                }
            }
        }
    }

    /// Its checkpoint.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.head.checkpoint
    }

    fn view(&self) -> View<Folder> {
        View { disk: Folder(self.folder.clone()), head: self.head.clone() }
    }

    /// As [`Log::entries`].
    ///
    /// # Errors
    /// As there.
    pub fn entries(&self, first: u64, count: usize) -> Result<Vec<Vec<u8>>, LogError> {
        self.view().entries(first, count)
    }

    /// As [`Log::root`].
    ///
    /// # Errors
    /// As there.
    pub fn root(&self, size: u64) -> Result<Hash, LogError> {
        self.view().root(size)
    }

    /// As [`Log::inclusion`].
    ///
    /// # Errors
    /// As there.
    pub fn inclusion(&self, index: u64, size: u64) -> Result<Vec<Hash>, LogError> {
        self.view().inclusion(index, size)
    }

    /// As [`Log::consistency`].
    ///
    /// # Errors
    /// As there.
    pub fn consistency(&self, old: u64, new: u64) -> Result<Vec<Hash>, LogError> {
        self.view().consistency(old, new)
    }
}

fn lock(mutex: &Mutex<()>) -> MutexGuard<'_, ()> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes a file that is there whole or not at all, durably.
fn replace(disk: &impl Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = Path::new(TEMPORARY).join(path.to_string_lossy().replace('/', "-"));
    disk.write(&temporary, bytes)?;
    disk.rename(&temporary, path)?;
    disk.sync_folder(path.parent().unwrap_or(Path::new("")))
}

/// The log as one head has it.
struct View<D> {
    disk: D,
    head: Arc<Head>,
}

impl<D: Disk> View<D> {
    fn size(&self) -> u64 {
        self.head.checkpoint.size()
    }

    fn within(&self, size: u64) -> Result<(), LogError> {
        if size <= self.size() { Ok(()) } else { Err(LogError::Beyond(self.size())) }
    }

    fn entries(&self, first: u64, count: usize) -> Result<Vec<Vec<u8>>, LogError> {
        self.within(first.saturating_add(1))?;
        let bundle = self.bundle(first / WIDTH)?;
        let entries = tile::entries(&bundle).ok_or_else(|| LogError::Damaged("a bundle breaks off".to_owned()))?;
        let from = usize::try_from(first % WIDTH).unwrap_or(0);
        Ok(entries.into_iter().skip(from).take(count).map(<[u8]>::to_vec).collect())
    }

    fn root(&self, size: u64) -> Result<Hash, LogError> {
        self.within(size)?;
        tree::subtree(self, 0, size)
    }

    fn inclusion(&self, index: u64, size: u64) -> Result<Vec<Hash>, LogError> {
        self.within(size)?;
        if index >= size {
            return Err(LogError::Beyond(size));
        }
        tree::inclusion(self, index, size)
    }

    fn consistency(&self, old: u64, new: u64) -> Result<Vec<Hash>, LogError> {
        self.within(new)?;
        if old > new {
            return Err(LogError::Beyond(new));
        }
        tree::consistency(self, old, new)
    }

    /// The entries of a bundle, whether it is full or not.
    fn bundle(&self, index: u64) -> Result<Vec<u8>, LogError> {
        if index == self.size() / WIDTH {
            return Ok(self.head.bundle.clone());
        }
        read(&self.disk, Tile { kind: TileKind::Entries, index, width: None })
    }
}

impl<D: Disk> Tiles for View<D> {
    type Error = LogError;

    fn tile(&self, level: u8, index: u64) -> Result<Vec<Hash>, LogError> {
        let has = self.size().checked_shr(8 * u32::from(level)).unwrap_or(0);
        if index == has / WIDTH {
            return Ok(self.head.levels.get(usize::from(level)).cloned().unwrap_or_default());
        }
        let tile = Tile { kind: TileKind::Hashes(level), index, width: None };
        hashes(tile, &read(&self.disk, tile)?)
    }
}

fn read(disk: &impl Disk, tile: Tile) -> Result<Vec<u8>, LogError> {
    disk.read(&tile.path()).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => LogError::Damaged(format!("`{tile}` is missing")),
        _ => LogError::Disk(Arc::new(error)),
    })
}

fn hashes(tile: Tile, bytes: &[u8]) -> Result<Vec<Hash>, LogError> {
    Hash::all(bytes)
        .filter(|hashes| hashes.len() == tile.count())
        .ok_or_else(|| LogError::Damaged(format!("`{tile}` has {} bytes", bytes.len())))
}

/// The one that writes.
pub(crate) struct Appender<D> {
    disk: D,
    settings: Settings,
    pub(crate) head: Head,
    /// Folders that are there.
    folders: BTreeSet<PathBuf>,
}

impl<D: Disk> Appender<D> {
    pub(crate) fn open(disk: D, folder: &Path, settings: Settings) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Disk { folder: folder.to_owned(), source };
        for name in [&settings.origin, &settings.signer] {
            if name.trim() != name || name.is_empty() || name.contains(['\n', '\r']) {
                return Err(OpenError::Name(name.clone()));
            }
        }
        if settings.signer.contains(char::is_whitespace) || settings.signer.contains('+') {
            return Err(OpenError::Name(settings.signer));
        }
        let root = Path::new("");
        for name in [TEMPORARY, COSIGNED, "tile"] {
            disk.create_folder(Path::new(name)).map_err(failed)?;
        }
        disk.sync_folder(root).map_err(failed)?;
        for name in disk.list(Path::new(TEMPORARY)).map_err(failed)? {
            disk.remove(&Path::new(TEMPORARY).join(name)).map_err(failed)?;
        }
        let note = match disk.read(Path::new(CHECKPOINT)) {
            Ok(note) => note,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if !disk.list(Path::new("tile")).map_err(failed)?.is_empty() {
                    return Err(OpenError::NoCheckpoint(folder.to_owned()));
                }
                let first = settings.key.checkpoint(&settings.origin, &settings.signer, 0, Hash::empty())?;
                replace(&disk, Path::new(CHECKPOINT), first.note().as_bytes()).map_err(failed)?;
                first.note().as_bytes().to_vec()
            }
            Err(error) => return Err(failed(error)),
        };
        let note = String::from_utf8_lossy(&note);
        let checkpoint = match Checkpoint::parse(&note, &settings.origin, &settings.key.public()?) {
            Ok(checkpoint) => checkpoint,
            Err(source) => {
                let mut before = settings.previous.iter();
                let signed = before.find_map(|key| Checkpoint::parse(&note, &settings.origin, key).ok());
                let signed = signed.ok_or_else(|| OpenError::Checkpoint { folder: folder.to_owned(), source })?;
                let (size, root) = (signed.size(), signed.root());
                let again = settings.key.checkpoint(&settings.origin, &settings.signer, size, root)?;
                replace(&disk, Path::new(CHECKPOINT), again.note().as_bytes()).map_err(failed)?;
                again
            }
        };
        let head = recover(&disk, checkpoint).map_err(|error| match error {
            LogError::Disk(source) => failed(io::Error::other(source)),
            other => OpenError::Damaged { folder: folder.to_owned(), what: other.to_string() },
        })?;
        clean(&disk, head.checkpoint.size()).map_err(failed)?;
        let folders = BTreeSet::from([PathBuf::new(), PathBuf::from("tile")]);
        Ok(Self { disk, settings, head, folders })
    }

    fn run(mut self, mut waiting: mpsc::Receiver<Waiting>, published: &RwLock<Arc<Head>>) {
        let mut batch = Vec::with_capacity(BATCH);
        while waiting.blocking_recv_many(&mut batch, BATCH) > 0 {
            let entries: Vec<&[u8]> = batch.iter().flat_map(|waiting| &waiting.entries).map(Vec::as_slice).collect();
            let first = self.head.checkpoint.size();
            let committed = self.commit(&entries);
            if committed.is_ok() {
                *published.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(self.head.clone());
            }
            let closed = committed.as_ref().is_err_and(|error| matches!(error, LogError::Closed));
            let mut index = first;
            for waiting in batch.drain(..) {
                let checkpoint = self.head.checkpoint.clone();
                let told = committed.clone().map(|()| Appended { index, checkpoint });
                index += waiting.entries.len() as u64;
                // Whoever does not wait any more has its entry in the log all the same.
                let _gone = waiting.done.send(told);
            }
            if closed {
                return;
            }
        }
    }

    /// Appends `entries`, all or none.
    pub(crate) fn commit(&mut self, entries: &[&[u8]]) -> Result<(), LogError> {
        let mut next = Growing { head: self.head.clone(), files: Vec::new() };
        let mut size = self.head.checkpoint.size();
        for entry in entries {
            next.add(size, entry)?;
            size += 1;
        }
        next.partial(size);
        let Settings { key, origin, signer, .. } = &self.settings;
        let signed = key.checkpoint(origin, signer, size, tree::root(&next.head.levels));
        let checkpoint = signed.map_err(|error| LogError::Disk(Arc::new(io::Error::other(error))))?;
        let failed = |error| LogError::Disk(Arc::new(error));
        self.write(&next.files).map_err(failed)?;
        let replaced = replace(&self.disk, Path::new(CHECKPOINT), checkpoint.note().as_bytes());
        if let Err(error) = replaced {
            // Whether the new checkpoint is there, and stays, is unknown: to sign another of its size would be to fork.
            tracing::error!(%error, "the checkpoint of a log cannot be written; it takes no more entries");
            return Err(LogError::Closed);
        }
        let outdated = std::mem::replace(&mut self.head, next.head).checkpoint.size();
        self.head.checkpoint = Arc::new(checkpoint);
        self.forget(outdated, size);
        Ok(())
    }

    /// Writes `files` durably, under names that no checkpoint on disk needs.
    fn write(&mut self, files: &[(Tile, Vec<u8>)]) -> io::Result<()> {
        let mut changed = BTreeSet::new();
        for (number, (tile, bytes)) in files.iter().enumerate() {
            let path = tile.path();
            let folder = path.parent().unwrap_or(Path::new("")).to_owned();
            let mut missing: Vec<&Path> = folder.ancestors().filter(|path| !self.folders.contains(*path)).collect();
            missing.reverse();
            for missing in missing {
                self.disk.create_folder(missing)?;
                changed.insert(missing.parent().unwrap_or(Path::new("")).to_owned());
            }
            let temporary = Path::new(TEMPORARY).join(number.to_string());
            self.disk.write(&temporary, bytes)?;
            self.disk.rename(&temporary, &path)?;
            changed.insert(folder);
        }
        // The outer ones first: what is durable in a folder is nothing while the folder is not.
        for folder in &changed {
            self.disk.sync_folder(folder)?;
        }
        self.folders.extend(
            files.iter().flat_map(|(tile, _)| tile.path().ancestors().skip(1).map(Path::to_owned).collect::<Vec<_>>()),
        );
        Ok(())
    }

    /// Removes tiles that were not full and are in fuller ones now. What remains is removed another time.
    fn forget(&mut self, before: u64, after: u64) {
        for tile in partial_tiles(before) {
            let full = partial_tiles(after).all(|other| other.full() != tile.full());
            let unchanged = partial_tiles(after).any(|other| other == tile);
            if unchanged {
                continue;
            }
            let _remains = self.disk.remove(&tile.path());
            if full && let Some(folder) = tile.path().parent() {
                self.folders.remove(folder);
            }
        }
    }
}

/// The tiles of a tree that are not full.
fn partial_tiles(size: u64) -> impl Iterator<Item = Tile> {
    let kinds = std::iter::once(TileKind::Entries).chain((0..LEVELS).map(TileKind::Hashes));
    kinds.filter_map(move |kind| {
        let level = if let TileKind::Hashes(level) = kind { level } else { 0 };
        let count = size >> (8 * u32::from(level));
        let width = u8::try_from(count % WIDTH).ok().filter(|width| *width > 0);
        width.map(|width| Tile { kind, index: count / WIDTH, width: Some(width) })
    })
}

/// A head that entries are added to, and the files that have to be written for it.
struct Growing {
    head: Head,
    files: Vec<(Tile, Vec<u8>)>,
}

impl Growing {
    /// Adds the entry that there are `size` before.
    fn add(&mut self, size: u64, entry: &[u8]) -> Result<(), LogError> {
        tile::add_entry(&mut self.head.bundle, entry).ok_or(LogError::TooLong(entry.len()))?;
        if (size + 1).is_multiple_of(WIDTH) {
            let bundle = std::mem::take(&mut self.head.bundle);
            self.files.push((Tile { kind: TileKind::Entries, index: size / WIDTH, width: None }, bundle));
        }
        let (mut hash, mut index) = (Hash::leaf(entry), size);
        for (number, level) in (0_u8..).zip(&mut self.head.levels) {
            level.push(hash);
            if level.len() as u64 != WIDTH {
                break;
            }
            let full = std::mem::take(level);
            let bytes = full.iter().flat_map(|hash| hash.0).collect();
            self.files.push((Tile { kind: TileKind::Hashes(number), index: index / WIDTH, width: None }, bytes));
            hash = tree::root(&[full]);
            index /= WIDTH;
        }
        Ok(())
    }

    /// Adds the files of the tiles that are not full, in a tree of `size` entries.
    fn partial(&mut self, size: u64) {
        let before = self.head.checkpoint.size();
        let unchanged = |tile: &Tile| partial_tiles(before).any(|other| other == *tile);
        for tile in partial_tiles(size).filter(|tile| !unchanged(tile)) {
            let bytes = match tile.kind {
                TileKind::Entries => self.head.bundle.clone(),
                TileKind::Hashes(level) => {
                    let hashes = self.head.levels.get(usize::from(level)).into_iter().flatten();
                    hashes.flat_map(|hash| hash.0).collect()
                }
            };
            self.files.push((tile, bytes));
        }
    }
}

/// Reads what the last tiles of the checkpoint's tree hold, and checks that they have its root.
fn recover(disk: &impl Disk, checkpoint: Checkpoint) -> Result<Head, LogError> {
    let mut levels = vec![Vec::new(); usize::from(LEVELS)];
    let mut bundle = Vec::new();
    for tile in partial_tiles(checkpoint.size()) {
        let bytes = read(disk, tile)?;
        match tile.kind {
            TileKind::Entries => bundle = bytes,
            TileKind::Hashes(level) => {
                if let Some(slot) = levels.get_mut(usize::from(level)) {
                    *slot = hashes(tile, &bytes)?;
                }
            }
        }
    }
    if tree::root(&levels) != checkpoint.root() {
        return Err(LogError::Damaged("its tiles do not have the root that its checkpoint names".to_owned()));
    }
    let entries = tile::entries(&bundle).unwrap_or_default();
    let leaves: Vec<Hash> = entries.into_iter().map(Hash::leaf).collect();
    if levels.first() != Some(&leaves) {
        return Err(LogError::Damaged("its last entries are not those that its tiles name".to_owned()));
    }
    Ok(Head { checkpoint: Arc::new(checkpoint), levels, bundle })
}

/// Removes tiles beyond a tree of `size` entries, which a commit that ended early left.
fn clean(disk: &impl Disk, size: u64) -> io::Result<()> {
    let kinds = std::iter::once(TileKind::Entries).chain((0..LEVELS).map(TileKind::Hashes));
    for kind in kinds {
        let level = if let TileKind::Hashes(level) = kind { level } else { 0 };
        let count = size >> (8 * u32::from(level));
        let mut index = count / WIDTH;
        let mut width = count % WIDTH;
        loop {
            let full = Tile { kind, index, width: None };
            let folder = PathBuf::from(format!("{full}.p"));
            let names = disk.list(&folder)?;
            let there = !names.is_empty() || disk.read(&full.path()).is_ok();
            for name in names.iter().filter(|name| **name != width.to_string()) {
                disk.remove(&folder.join(name))?;
            }
            disk.remove(&full.path())?;
            // A commit fills few tiles, one after the other.
            if !there && width == 0 {
                break;
            }
            (index, width) = (index + 1, 0);
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
