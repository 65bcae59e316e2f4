//! Reading entries back, by whoever may read the folder: the host that runs, or a command beside it.

use std::{
    collections::VecDeque,
    fs, io,
    path::{Path, PathBuf},
};

use parking_lot::Mutex;
use uuid::Uuid;
use witan_merkle_log::{Checkpoint, Hash, LogError, OpenError, PublicKey, Snapshot};

use crate::{
    Entry, HostKeyError, HostKeys, Kind, Verdict,
    journal::{Next, Records, Segment, segments},
    keys::Keys,
    record::{Opened, Record},
};

/// Records that are looked at for one page: a filter that finds nothing must not read the whole ledger.
const MOST_SCANNED: usize = 200_000;

/// Why a ledger cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is none.
    #[error("there is no ledger in `{0}`; a host writes one when it runs")]
    None(PathBuf),
    /// The disk failed.
    #[error("the ledger in `{folder}` cannot be read")]
    Disk {
        /// The ledger's folder.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Its keys do not hold.
    #[error(transparent)]
    Keys(#[from] HostKeyError),
    /// The Merkle log does not hold.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// The Merkle log was asked for what it does not have.
    #[error(transparent)]
    Proof(#[from] LogError),
}

/// Which entries are asked for. What is not set, all have.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Not before, in milliseconds since the Unix epoch.
    pub since_ms: Option<u64>,
    /// Not after, in milliseconds since the Unix epoch.
    pub until_ms: Option<u64>,
    /// Of this kind.
    pub kind: Option<Kind>,
    /// Of this tenant.
    pub tenant: Option<String>,
    /// By or about this person.
    pub principal: Option<String>,
    /// Of this component.
    pub component: Option<String>,
    /// Allowed or denied.
    pub decision: Option<Verdict>,
    /// Of or after this decision.
    pub decision_id: Option<Uuid>,
    /// Of this task.
    pub task: Option<Uuid>,
}

impl Filter {
    /// Whether entries that say nothing any more are asked for too: only where nothing is asked of them.
    #[must_use]
    pub fn is_all(&self) -> bool {
        let Self { since_ms, until_ms, kind, tenant, principal, component, decision, decision_id, task } = self;
        since_ms.is_none()
            && until_ms.is_none()
            && kind.is_none()
            && tenant.is_none()
            && principal.is_none()
            && component.is_none()
            && decision.is_none()
            && decision_id.is_none()
            && task.is_none()
    }

    /// Whether `entry` is asked for.
    #[must_use]
    pub fn takes(&self, entry: &Entry) -> bool {
        fn is<T: PartialEq>(asked: &Option<T>, found: &T) -> bool {
            asked.as_ref().is_none_or(|asked| asked == found)
        }
        let of = |asked: &Option<String>, found: &Option<String>| asked.is_none() || asked == found;
        let person = |name: &String| entry.principal == *name || entry.about.as_ref() == Some(name);
        let decided = |id: Uuid| entry.id == id || entry.decision_id == Some(id);
        self.since_ms.is_none_or(|since| entry.time_ms >= since)
            && self.until_ms.is_none_or(|until| entry.time_ms <= until)
            && is(&self.kind, &entry.kind)
            && is(&self.tenant, &entry.tenant)
            && self.principal.as_ref().is_none_or(person)
            && of(&self.component, &entry.component)
            && is(&self.decision, &entry.decision)
            && self.decision_id.is_none_or(decided)
            && (self.task.is_none() || self.task == entry.task)
    }
}

/// An entry in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Its number, from 0.
    pub index: u64,
    /// What it says; nothing where it was erased.
    pub entry: Option<Entry>,
}

/// Entries that were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The entries, in the order that was asked for.
    pub entries: Vec<Placed>,
    /// Whether there may be more.
    pub more: bool,
    /// The number of the last entry that was looked at: from there the next page goes on.
    pub cursor: Option<u64>,
}

/// Reads a ledger.
pub struct Reader {
    folder: PathBuf,
    keys: Mutex<Keys>,
}

impl Reader {
    /// A reader of the ledger in `folder`, which is not written to.
    ///
    /// # Errors
    /// When there is none, and when it cannot be read.
    pub fn open(folder: &Path) -> Result<Self, ReadError> {
        if !folder.join("entries").is_dir() {
            return Err(ReadError::None(folder.to_owned()));
        }
        let keys = Keys::open(folder).map_err(|source| ReadError::Disk { folder: folder.to_owned(), source })?;
        Ok(Self { folder: folder.to_owned(), keys: Mutex::new(keys) })
    }

    fn failed(&self, source: io::Error) -> ReadError {
        ReadError::Disk { folder: self.folder.clone(), source }
    }

    /// The folder of the ledger.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The keys that its checkpoints are verified with.
    ///
    /// # Errors
    /// When they cannot be read, or do not hold.
    pub fn host_keys(&self) -> Result<HostKeys, ReadError> {
        Ok(HostKeys::read(&self.folder)?)
    }

    /// The Merkle log as its newest checkpoint has it.
    ///
    /// # Errors
    /// When it cannot be read, or does not hold.
    pub fn tree(&self) -> Result<Tree, ReadError> {
        let keys = self.host_keys()?;
        Ok(Tree { snapshot: Snapshot::read(&self.folder.join("log"), keys.origin(), keys.all())?, keys })
    }

    /// The newest checkpoint that is bound to a time; none before the first.
    ///
    /// # Errors
    /// When it cannot be read, or does not hold.
    pub fn checkpoint(&self) -> Result<Option<TimedCheckpoint>, ReadError> {
        let note = match fs::read_to_string(self.folder.join("checkpoint")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            note => note.map_err(|source| self.failed(source))?,
        };
        let keys = self.host_keys()?;
        TimedCheckpoint::parse(&note, &keys, keys.all())
            .map(Some)
            .map_err(|source| ReadError::Log(OpenError::Checkpoint { folder: self.folder.clone(), source }))
    }

    /// Up to `limit` entries behind number `after`, the oldest first.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn after(&self, filter: &Filter, after: Option<u64>, limit: usize) -> Result<Page, ReadError> {
        let mut page = Page::default();
        let mut scanned = 0;
        self.each(after.map_or(0, |after| after.saturating_add(1)), |record, entry| {
            if page.entries.len() == limit || scanned == MOST_SCANNED {
                page.more = true;
                return false;
            }
            scanned += 1;
            page.cursor = Some(record.index);
            if entry.as_ref().map_or(filter.is_all(), |entry| filter.takes(entry)) {
                page.entries.push(Placed { index: record.index, entry });
            }
            true
        })?;
        Ok(page)
    }

    /// Up to `limit` entries before number `before`, the newest first.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn before(&self, filter: &Filter, before: Option<u64>, limit: usize) -> Result<Page, ReadError> {
        let mut before = before.unwrap_or(u64::MAX);
        self.keys.lock().refresh().map_err(|source| self.failed(source))?;
        let mut logged = self.logged();
        let files = segments(&self.folder.join("entries")).map_err(|source| self.failed(source))?;
        let (mut page, mut scanned) = (Page::default(), 0);
        for segment in files.iter().rev() {
            if segment.first >= before {
                continue;
            }
            let Some(mut records) = self.open_segment(segment, &mut logged)? else { continue };
            let mut found = VecDeque::new();
            let mut dropped = false;
            let room = limit - page.entries.len();
            while let Next::Record(record) = records.next().map_err(|source| self.failed(source))? {
                if record.index >= before {
                    break;
                }
                if !logged.has(&record) {
                    continue;
                }
                scanned += 1;
                let entry = self.entry_of(&record);
                if entry.as_ref().map_or(filter.is_all(), |entry| filter.takes(entry)) {
                    found.push_back(Placed { index: record.index, entry });
                    if found.len() > room {
                        found.pop_front();
                        dropped = true;
                    }
                }
            }
            page.entries.extend(found.into_iter().rev());
            page.cursor = Some(if dropped {
                page.entries.last().map_or(segment.first, |last| last.index)
            } else {
                segment.first
            });
            page.more = segment.first > 0 || dropped;
            // What a file before this one has of these numbers is not what was written.
            before = segment.first;
            if page.entries.len() == limit || scanned >= MOST_SCANNED {
                return Ok(page);
            }
        }
        page.more = false;
        Ok(page)
    }

    /// Entry number `index`; none where there is none, or it was dropped.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn entry(&self, index: u64) -> Result<Option<Placed>, ReadError> {
        let mut found = None;
        self.each(index, |record, entry| {
            found = (record.index == index).then_some(Placed { index, entry });
            false
        })?;
        Ok(found)
    }

    fn entry_of(&self, record: &Record) -> Option<Entry> {
        self.unseal(record).and_then(|opened| serde_json::from_slice(&opened.json).ok())
    }

    /// What a record says; nothing where its key is gone.
    pub(crate) fn unseal(&self, record: &Record) -> Option<Opened> {
        let key = self.keys.lock().get(record.leaf.key).cloned()?;
        record.open(&key).ok()
    }

    /// Reads the keys anew, where they changed.
    pub(crate) fn refresh_keys(&self) -> Result<(), ReadError> {
        self.keys.lock().refresh().map_err(|source| self.failed(source))
    }

    /// All keys that there are.
    pub(crate) fn key_ids(&self) -> std::collections::BTreeSet<crate::KeyId> {
        self.keys.lock().ids()
    }

    /// Whether there is a key of a record.
    pub(crate) fn has_key(&self, record: &Record) -> bool {
        self.keys.lock().get(record.leaf.key).is_some()
    }

    /// Gives `look` each entry from number `first` on, until it has seen enough.
    fn each(&self, first: u64, mut look: impl FnMut(&Record, Option<Entry>) -> bool) -> Result<(), ReadError> {
        self.records(first, |record| {
            let entry = self.entry_of(record);
            look(record, entry)
        })
    }

    /// Gives `look` each record from number `first` on, until it has seen enough.
    pub(crate) fn records(&self, first: u64, mut look: impl FnMut(&Record) -> bool) -> Result<(), ReadError> {
        let failed = |source| self.failed(source);
        self.keys.lock().refresh().map_err(failed)?;
        let mut logged = self.logged();
        let files = segments(&self.folder.join("entries")).map_err(failed)?;
        // The file that has it is the last one that begins before it and is the ledger's own.
        let mut begin = files.partition_point(|segment| segment.first <= first).saturating_sub(1);
        while begin > 0 && self.open_segment(&files[begin], &mut logged)?.is_none() {
            begin -= 1;
        }
        let mut next = first;
        for (place, segment) in files.iter().enumerate().skip(begin) {
            if place > begin && segment.first < next {
                continue;
            }
            let Some(mut records) = self.open_segment(segment, &mut logged)? else { continue };
            if !records.skip_to(next).map_err(failed)? {
                continue;
            }
            while let Next::Record(record) = records.next().map_err(failed)? {
                next = record.index + 1;
                if logged.has(&record) && !look(&record) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// What the log has, to hold records to it.
    fn logged(&self) -> Logged {
        Logged::of(self.tree().ok())
    }

    /// The records of a file; none where it was dropped meanwhile, or the log has not the one that it begins with: whoever can
    /// write to the folder can put files beside those of the ledger.
    fn open_segment(&self, segment: &Segment, logged: &mut Logged) -> Result<Option<Records>, ReadError> {
        let open = || match Records::open(segment) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            records => records.map(Some).map_err(|source| self.failed(source)),
        };
        let Some(mut records) = open()? else { return Ok(None) };
        match records.next().map_err(|source| self.failed(source))? {
            Next::Record(record) if !logged.has(&record) => Ok(None),
            _ => open(),
        }
    }
}

/// The Merkle log of a ledger, as one checkpoint has it.
pub struct Tree {
    pub(crate) snapshot: Snapshot,
    pub(crate) keys: HostKeys,
}

impl Tree {
    /// How many entries it has.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.snapshot.checkpoint().size()
    }

    /// The root of its first `size` entries.
    ///
    /// # Errors
    /// When it has not so many, and when the disk fails.
    pub fn root(&self, size: u64) -> Result<Hash, ReadError> {
        Ok(self.snapshot.root(size)?)
    }

    /// The leaf of entry number `index`, which RFC 6962 hashes.
    ///
    /// # Errors
    /// When there is none, and when the disk fails.
    pub fn leaf(&self, index: u64) -> Result<Vec<u8>, ReadError> {
        let mut leaves = self.snapshot.entries(index, 1)?;
        leaves.pop().ok_or_else(|| LogError::Damaged(format!("entry {index} is not in its bundle")).into())
    }

    /// That entry `index` is in the tree of the first `size`.
    ///
    /// # Errors
    /// When it has not so many, and when the disk fails.
    pub fn inclusion(&self, index: u64, size: u64) -> Result<Vec<Hash>, ReadError> {
        Ok(self.snapshot.inclusion(index, size)?)
    }

    /// That the tree of `old` entries is how the one of `new` began.
    ///
    /// # Errors
    /// When it has not so many, and when the disk fails.
    pub fn consistency(&self, old: u64, new: u64) -> Result<Vec<Hash>, ReadError> {
        Ok(self.snapshot.consistency(old, new)?)
    }
}

/// The leaves of a log, as records are held to them one after the other.
#[derive(Default)]
pub(crate) struct Logged {
    tree: Option<Tree>,
    /// Some leaves, from this number on.
    leaves: (u64, Vec<Vec<u8>>),
}

impl Logged {
    /// Of `tree`, if it can be read.
    pub(crate) fn of(tree: Option<Tree>) -> Self {
        Self { tree, leaves: <_>::default() }
    }

    /// Whether the log has `record` in its place; said of all where there is no log, and of what is under no checkpoint yet.
    pub(crate) fn has(&mut self, record: &Record) -> bool {
        let Some(tree) = self.tree.as_ref().filter(|tree| record.index < tree.size()) else { return true };
        let place = |first: u64| usize::try_from(record.index.checked_sub(first)?).ok();
        if place(self.leaves.0).is_none_or(|place| place >= self.leaves.1.len()) {
            let bundle = tree.snapshot.entries(record.index, 256).unwrap_or_default();
            self.leaves = (record.index, bundle);
        }
        let leaf = place(self.leaves.0).and_then(|place| self.leaves.1.get(place));
        leaf.is_some_and(|leaf| *leaf == record.leaf.bytes())
    }
}

/// A checkpoint that says when it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimedCheckpoint {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// When, in seconds since 1970; none where no key of the ledger says so.
    pub time: Option<u64>,
}

impl TimedCheckpoint {
    /// Reads `note`, which `pinned` must have signed or a key that followed it; any key of `host` where nothing is pinned.
    ///
    /// # Errors
    /// When none did.
    pub fn verified(note: &str, host: &HostKeys, pinned: Option<&PublicKey>) -> Result<Self, ReadError> {
        let keys = host.from(pinned)?;
        Self::parse(note, host, keys)
            .map_err(|source| ReadError::Log(OpenError::Checkpoint { folder: PathBuf::new(), source }))
    }

    pub(crate) fn parse(note: &str, host: &HostKeys, keys: &[PublicKey]) -> Result<Self, witan_merkle_log::NoteError> {
        let mut parsed = Err(witan_merkle_log::NoteError::Signature);
        for key in keys.iter().rev() {
            parsed = Checkpoint::parse(note, host.origin(), key);
            if parsed.is_ok() {
                break;
            }
        }
        let checkpoint = parsed?;
        Ok(Self { time: host.time_of(keys, &checkpoint), checkpoint })
    }
}
