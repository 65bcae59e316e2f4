//! Whether a ledger is what it was: read from the first entry to the last, without the host that wrote it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::Serialize;
use witan_merkle_log::{AuditError, NoteError, PublicKey, audit};

use crate::{
    Entry, HostKeyError, Kind, ReadError, Reader, TimedCheckpoint,
    journal::{End, Next, Records, Segment, segments},
    keeper::SinkLine,
    keys::KeyId,
    read::Logged,
    record::Record,
    writer::in_words,
};

/// How long something is waited for that a host which runs is about to do, and how often it is looked for.
const PATIENCE: Duration = Duration::from_secs(2);
const AGAIN: Duration = Duration::from_millis(10);

/// Faults that are told; a ledger that has more has been told enough of.
const MOST: usize = 100;

/// Why a ledger cannot be verified at all.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Its keys do not hold.
    #[error(transparent)]
    Keys(#[from] HostKeyError),
    /// A file cannot be read.
    #[error("cannot read `{path}`")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of kept checkpoints has none.
    #[error("`{0}` has no checkpoint: neither a signed note nor lines of a sink")]
    NoCheckpoint(PathBuf),
    /// It is no public key.
    #[error("`{0}` is no public key in PEM; `witan audit checkpoint` prints the ledger's")]
    NoKey(PathBuf),
}

/// Something that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "kebab-case", tag = "fault")]
pub enum Fault {
    /// The Merkle log does not hold.
    #[error("{what}")]
    Log {
        /// What does not.
        what: String,
    },
    /// What an entry says is not what was committed to.
    #[error("entry {index} is not the one that was written: {what}")]
    Changed {
        /// Its number.
        index: u64,
        /// How it differs.
        what: String,
    },
    /// Entries are missing that nobody dropped.
    #[error("entries {from} to {to} are missing, and no entry says that they were dropped")]
    Missing {
        /// The first.
        from: u64,
        /// The last.
        to: u64,
    },
    /// A file is not as it was written.
    #[error("`{file}` is damaged behind entry {index}")]
    Damaged {
        /// The file.
        file: PathBuf,
        /// The last entry that is whole, or the one before the file's first.
        index: u64,
    },
    /// A file has entries that another file has too: somebody put it there.
    #[error("`{file}` begins with entry {index}, which another file has already: it is none that the ledger wrote")]
    Foreign {
        /// The file.
        file: PathBuf,
        /// The number of its first entry.
        index: u64,
    },
    /// A key is gone, and no entry says that it was erased.
    #[error(
        "the key {key} of {count} entries, the first of which is {first}, is gone, and no entry says that it was erased"
    )]
    KeyGone {
        /// The key.
        key: KeyId,
        /// How many entries it sealed.
        count: u64,
        /// The first of them.
        first: u64,
    },
    /// A key that was to be erased is there.
    #[error("the key {key} is there, though entry {index} says that it was erased: do the erasure again")]
    KeyKept {
        /// The key.
        key: KeyId,
        /// The entry that tells of the erasure.
        index: u64,
    },
    /// The timed checkpoint does not hold.
    #[error("the file `checkpoint` does not hold: {what}")]
    Checkpoint {
        /// Why.
        what: String,
    },
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether everything holds.
    pub holds: bool,
    /// What does not; the first hundred.
    pub faults: Vec<Fault>,
    /// What the ledger calls itself.
    pub origin: String,
    /// Whether it was held to a key from outside.
    pub pinned: bool,
    /// Checkpoints that were kept elsewhere, and that it follows.
    pub kept: usize,
    /// Entries under its checkpoint.
    pub size: u64,
    /// When the newest that is bound to a time was made, in seconds since 1970; none where that does not hold.
    pub time: Option<u64>,
    /// Entries that say what they said.
    pub entries: u64,
    /// Entries of people whose data was erased.
    pub erased: u64,
    /// Entries that the settings no longer keep.
    pub dropped: u64,
    /// Entries that are under no checkpoint yet: each is whole and in its place, and nothing is signed that would miss the last
    /// of them.
    pub pending: u64,
}

/// Verifies the ledger in `folder`: against `pinned`, a key of it that is known from elsewhere, and against checkpoints that
/// were kept elsewhere, as [`kept_in`] reads them.
///
/// # Errors
/// When it cannot be read at all. What does not hold is in the report.
pub fn verify(folder: &Path, pinned: Option<&PublicKey>, kept: &[String]) -> Result<Report, VerifyError> {
    let reader = Reader::open(folder)?;
    let host = reader.host_keys()?;
    let keys = host.from(pinned)?;
    let mut check = Check { reader: &reader, faults: Vec::new(), told: 0 };

    let notes: Vec<&str> = kept.iter().map(String::as_str).collect();
    let size = match audit(&folder.join("log"), host.origin(), keys, &notes) {
        Ok(audited) => audited.checkpoint.size(),
        // It is signed before the first entry is written, and then replaced, never removed.
        Err(AuditError::Disk(error)) if error.kind() == io::ErrorKind::NotFound => {
            check.fault(Fault::Log { what: "its checkpoint was removed".to_owned() });
            0
        }
        Err(error) => {
            check.fault(Fault::Log { what: in_words(&error) });
            reader.tree().map_or(0, |tree| tree.size())
        }
    };
    let time = check.checkpoint(folder, &host, keys);
    let counts = check.entries(size)?;
    Ok(Report {
        holds: check.told == 0,
        faults: check.faults,
        origin: host.origin().to_owned(),
        pinned: pinned.is_some(),
        kept: kept.len(),
        size,
        time,
        entries: counts.entries,
        erased: counts.erased,
        dropped: counts.dropped,
        pending: counts.pending,
    })
}

struct Check<'a> {
    reader: &'a Reader,
    faults: Vec<Fault>,
    told: u64,
}

#[derive(Default)]
struct Counts {
    entries: u64,
    erased: u64,
    dropped: u64,
    pending: u64,
}

/// Entries whose key is gone.
struct Gone {
    count: u64,
    first: u64,
    /// In which pass that was found.
    pass: u32,
}

/// Entries that are not there, from the first to the last.
struct Gap {
    from: u64,
    to: u64,
    /// In which pass that was found.
    pass: u32,
}

impl Check<'_> {
    fn fault(&mut self, fault: Fault) {
        // The end of a journal may be read more than once.
        if self.faults.contains(&fault) {
            return;
        }
        self.told += 1;
        if self.faults.len() < MOST {
            self.faults.push(fault);
        }
    }

    /// The time of the timed checkpoint, which must be of the log.
    fn checkpoint(&mut self, folder: &Path, host: &crate::HostKeys, keys: &[PublicKey]) -> Option<u64> {
        let note = match fs::read_to_string(folder.join("checkpoint")) {
            Ok(note) => note,
            Err(error) => {
                // The first one is there before the first entry is.
                let removed = error.kind() == io::ErrorKind::NotFound;
                let what = if removed { "it was removed".to_owned() } else { error.to_string() };
                self.fault(Fault::Checkpoint { what });
                return None;
            }
        };
        let checked = TimedCheckpoint::parse(&note, host, keys).map_err(|error: NoteError| error.to_string());
        let checked = checked.and_then(|timed| {
            let tree = self.reader.tree().map_err(|error| in_words(&error))?;
            let root = tree.root(timed.checkpoint.size()).map_err(|error| in_words(&error))?;
            match timed.time {
                _ if root != timed.checkpoint.root() => Err("it is of another log".to_owned()),
                None => Err("no key of the ledger binds it to a time".to_owned()),
                Some(time) => Ok(time),
            }
        });
        match checked {
            Ok(time) => Some(time),
            Err(what) => {
                self.fault(Fault::Checkpoint { what });
                None
            }
        }
    }

    /// Compares what lies in the journal with the log of `size` entries.
    ///
    /// A host may write meanwhile. Before it drops a file or destroys a key it writes that down, so what is gone is explained
    /// by an entry that is there when that is found. It may be one that came since, and these are read in another pass: what
    /// that does not explain is a fault.
    fn entries(&mut self, size: u64) -> Result<Counts, VerifyError> {
        let folder = self.reader.folder().join("entries");
        let failed = |source| VerifyError::File { path: self.reader.folder().to_owned(), source };
        let tree = match self.reader.tree() {
            Ok(tree) => Some(tree).filter(|tree| tree.size() >= size),
            Err(_) if size == 0 => None,
            Err(error) => {
                self.fault(Fault::Log { what: in_words(&error) });
                None
            }
        };
        let mut seen = Seen { size, logged: Logged::of(tree), ..Seen::default() };
        loop {
            seen.pass += 1;
            self.reader.refresh_keys()?;
            let files = segments(&folder).map_err(failed)?;
            // Those before the one that was read last are read.
            let begin = files.iter().rposition(|file| Some(file.first) <= seen.last).unwrap_or(0);
            for file in files.get(begin..).unwrap_or_default() {
                self.file(file, files.last() == Some(file), &mut seen)?;
            }
            if seen.unexplained().min() != Some(seen.pass) {
                break;
            }
        }
        if seen.next < size {
            seen.missing.push(Gap { from: seen.next, to: size - 1, pass: 1 });
        }
        for Gap { from, to, pass } in std::mem::take(&mut seen.missing) {
            if to < seen.dropped_before {
                seen.counts.dropped += to - from + 1;
            } else if pass < seen.pass {
                self.fault(Fault::Missing { from: from.max(seen.dropped_before), to });
            }
        }
        for (key, Gone { count, first, pass }) in std::mem::take(&mut seen.gone) {
            seen.counts.erased += count;
            if !seen.erased.contains_key(&key) && pass < seen.pass {
                self.fault(Fault::KeyGone { key, count, first });
            }
        }
        self.erased_keys_are_gone(&seen.erased)?;
        Ok(seen.counts)
    }

    /// Reads `file` from the entry on that comes next. Only the file that was read last may have some before that.
    fn file(&mut self, file: &Segment, newest: bool, seen: &mut Seen) -> Result<(), VerifyError> {
        let failed = |source| VerifyError::File { path: self.reader.folder().to_owned(), source };
        let mut records = match Records::open(file) {
            Ok(records) => records,
            // It was dropped meanwhile; what follows shows that it is missing.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(_) => {
                self.fault(Fault::Damaged { file: file.path.clone(), index: seen.next.saturating_sub(1) });
                return Ok(());
            }
        };
        if file.first < seen.next && seen.last != Some(file.first) {
            self.fault(Fault::Foreign { file: file.path.clone(), index: file.first });
            return Ok(());
        }
        seen.last = Some(file.first);
        if file.first > seen.next {
            seen.missing.push(Gap { from: seen.next, to: file.first - 1, pass: seen.pass });
            seen.next = file.first;
        }
        if !records.skip_to(seen.next).map_err(failed)? {
            return Ok(());
        }
        let end = loop {
            match records.next().map_err(failed)? {
                Next::Record(record) => self.record(&record, seen)?,
                Next::End(end) => break end,
            }
        };
        // What is under no checkpoint yet may be in the middle of being written.
        if end == End::Torn && (seen.next < seen.size || !newest) {
            self.fault(Fault::Damaged { file: file.path.clone(), index: seen.next.saturating_sub(1) });
        }
        Ok(())
    }

    fn record(&mut self, record: &Record, seen: &mut Seen) -> Result<(), VerifyError> {
        seen.next = record.index + 1;
        if record.index >= seen.size {
            seen.counts.pending += 1;
        } else if !seen.logged.has(record) {
            let what = "the log has another in its place".to_owned();
            self.fault(Fault::Changed { index: record.index, what });
            return Ok(());
        }
        if !self.has_key(record, seen)? {
            let of =
                seen.gone.entry(record.leaf.key).or_insert(Gone { count: 0, first: record.index, pass: seen.pass });
            of.count += 1;
            return Ok(());
        }
        let Some(opened) = self.reader.unseal(record) else {
            let what = "what it says is not what was committed to".to_owned();
            self.fault(Fault::Changed { index: record.index, what });
            return Ok(());
        };
        if record.index < seen.size {
            seen.counts.entries += 1;
        }
        if let Ok(entry) = serde_json::from_slice::<Entry>(&opened.json) {
            seen.hear(&entry, record.index);
        }
        Ok(())
    }

    /// Whether there is the key of `record`, which may have been made since keys were read.
    fn has_key(&self, record: &Record, seen: &Seen) -> Result<bool, ReadError> {
        if self.reader.has_key(record) || seen.gone.contains_key(&record.leaf.key) {
            return Ok(self.reader.has_key(record));
        }
        self.reader.refresh_keys()?;
        Ok(self.reader.has_key(record))
    }

    /// Keys that were to be destroyed must not be there. Whoever destroys them may have written so a moment ago.
    fn erased_keys_are_gone(&mut self, erased: &BTreeMap<KeyId, u64>) -> Result<(), VerifyError> {
        let began = Instant::now();
        let kept = loop {
            self.reader.refresh_keys()?;
            let kept: BTreeSet<KeyId> = self.reader.key_ids();
            if began.elapsed() > PATIENCE || !erased.keys().any(|key| kept.contains(key)) {
                break kept;
            }
            thread::sleep(AGAIN);
        };
        for (key, index) in erased.iter().filter(|(key, _)| kept.contains(*key)) {
            self.fault(Fault::KeyKept { key: *key, index: *index });
        }
        Ok(())
    }
}

/// What was read of a journal so far.
#[derive(Default)]
struct Seen {
    /// How often what is new was read.
    pass: u32,
    /// Entries under the checkpoint.
    size: u64,
    logged: Logged,
    counts: Counts,
    /// The number of the entry that comes next.
    next: u64,
    /// The first entry of the file that was read last.
    last: Option<u64>,
    missing: Vec<Gap>,
    gone: BTreeMap<KeyId, Gone>,
    /// Keys that were to be destroyed, with the entries that tell of it.
    erased: BTreeMap<KeyId, u64>,
    dropped_before: u64,
}

impl Seen {
    /// Takes up what an entry tells of the ledger itself.
    fn hear(&mut self, entry: &Entry, index: u64) {
        if entry.kind != Kind::Ledger {
            return;
        }
        let keys = entry.details.get("keys").map(String::as_str).unwrap_or_default();
        if entry.action == "erase" {
            self.erased.extend(keys.split(' ').filter_map(|key| Some((key.parse().ok()?, index))));
        }
        if entry.action == "drop" {
            let before = entry.details.get("before").and_then(|before| before.parse().ok()).unwrap_or(0);
            self.dropped_before = self.dropped_before.max(before);
        }
    }

    /// For each thing that is gone and of which no entry tells, in which pass that was found.
    fn unexplained(&self) -> impl Iterator<Item = u32> {
        let gaps = self.missing.iter().filter(|gap| gap.to >= self.dropped_before).map(|gap| gap.pass);
        let keys = self.gone.iter().filter(|(key, _)| !self.erased.contains_key(key)).map(|(_, gone)| gone.pass);
        // What is under the checkpoint was there before the first pass.
        gaps.chain(keys).chain((self.next < self.size).then_some(1))
    }
}

/// The checkpoints in a file that was kept elsewhere: one signed note, or the lines of a sink.
///
/// # Errors
/// When it cannot be read, or has none.
pub fn kept_in(path: &Path) -> Result<Vec<String>, VerifyError> {
    let text = fs::read_to_string(path).map_err(|source| VerifyError::File { path: path.to_owned(), source })?;
    let lines = text.lines().map(serde_json::from_str::<SinkLine>);
    let sink: Vec<String> = lines.filter_map(|line| line.ok().map(|line| line.checkpoint)).collect();
    match sink.is_empty() {
        false => Ok(sink),
        true if text.contains("\n— ") => Ok(vec![text]),
        true => Err(VerifyError::NoCheckpoint(path.to_owned())),
    }
}

/// The public key in a file, in PEM.
///
/// # Errors
/// When it cannot be read, or is none.
pub fn public_key(path: &Path) -> Result<PublicKey, VerifyError> {
    let text = fs::read_to_string(path).map_err(|source| VerifyError::File { path: path.to_owned(), source })?;
    let body = text
        .split_once("-----BEGIN PUBLIC KEY-----")
        .and_then(|(_, rest)| rest.split_once("-----END PUBLIC KEY-----"))
        .map(|(body, _)| body.split_whitespace().collect::<String>());
    let der = body.and_then(|body| BASE64_STANDARD.decode(body).ok());
    der.and_then(|der| PublicKey::from_der(&der).ok()).ok_or_else(|| VerifyError::NoKey(path.to_owned()))
}
