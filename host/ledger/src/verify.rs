//! Whether a ledger is what it was: read from the first entry to the last, without the host that wrote it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::Serialize;
use witan_merkle_log::{AuditError, NoteError, PublicKey, audit};

use crate::{
    Entry, HostKeyError, Kind, ReadError, Reader, TimedCheckpoint,
    journal::{End, Next, Records, segments},
    keeper::SinkLine,
    keys::KeyId,
    writer::in_words,
};

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
    /// When that was made, in seconds since 1970.
    pub time: Option<u64>,
    /// Entries that say what they said.
    pub entries: u64,
    /// Entries of people whose data was erased.
    pub erased: u64,
    /// Entries that the settings no longer keep.
    pub dropped: u64,
    /// Entries that are under no checkpoint yet.
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

    // A commit may come while the log is read: it is read again then.
    let notes: Vec<&str> = kept.iter().map(String::as_str).collect();
    let log = folder.join("log");
    let mut audited = audit(&log, host.origin(), keys, &notes);
    for _ in 0..3 {
        if !matches!(audited, Err(AuditError::Missing(_))) {
            break;
        }
        audited = audit(&log, host.origin(), keys, &notes);
    }
    let empty = !log.join("checkpoint").exists() && kept.is_empty();
    let size = match audited {
        Ok(audited) => audited.checkpoint.size(),
        Err(AuditError::Disk(_)) if empty => 0,
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
}

impl Check<'_> {
    fn fault(&mut self, fault: Fault) {
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
                if self.reader.tree().is_ok_and(|tree| tree.size() > 0) {
                    self.fault(Fault::Checkpoint { what: error.to_string() });
                }
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
    fn entries(&mut self, size: u64) -> Result<Counts, VerifyError> {
        let failed = |source| VerifyError::File { path: self.reader.folder().to_owned(), source };
        let tree = self.reader.tree().ok().filter(|tree| tree.size() >= size);
        let files = segments(&self.reader.folder().join("entries")).map_err(failed)?;
        // Reads the keys anew.
        self.reader.records(u64::MAX, |_| false)?;
        let (mut counts, mut next, mut missing) = (Counts::default(), 0, Vec::new());
        let mut gone: BTreeMap<KeyId, Gone> = BTreeMap::new();
        let mut erased: BTreeMap<KeyId, u64> = BTreeMap::new();
        let mut dropped_before = 0;
        let mut leaves: (u64, Vec<Vec<u8>>) = (0, Vec::new());
        let newest = files.last().cloned();
        for file in &files {
            if file.first > next {
                missing.push((next, file.first - 1));
                next = file.first;
            }
            let mut records = match Records::open(file) {
                Ok(records) => records,
                Err(_) => {
                    self.fault(Fault::Damaged { file: file.path.clone(), index: next.saturating_sub(1) });
                    continue;
                }
            };
            let end = loop {
                let record = match records.next().map_err(failed)? {
                    Next::Record(record) => record,
                    Next::End(end) => break end,
                };
                next = record.index + 1;
                if record.index >= size {
                    counts.pending += 1;
                } else if let Some(tree) = &tree {
                    let place = record.index.checked_sub(leaves.0).and_then(|place| usize::try_from(place).ok());
                    if place.is_none_or(|place| place >= leaves.1.len()) {
                        let bundle = tree.snapshot.entries(record.index, 256).unwrap_or_default();
                        leaves = (record.index, bundle);
                    }
                    let leaf = usize::try_from(record.index - leaves.0).ok().and_then(|place| leaves.1.get(place));
                    if leaf.is_none_or(|leaf| *leaf != record.leaf.bytes()) {
                        let what = "the log has another in its place".to_owned();
                        self.fault(Fault::Changed { index: record.index, what });
                        continue;
                    }
                }
                if !self.reader.has_key(&record) {
                    let of = gone.entry(record.leaf.key).or_insert(Gone { count: 0, first: record.index });
                    of.count += 1;
                    continue;
                }
                let Some(opened) = self.reader.unseal(&record) else {
                    let what = "what it says is not what was committed to".to_owned();
                    self.fault(Fault::Changed { index: record.index, what });
                    continue;
                };
                if record.index < size {
                    counts.entries += 1;
                }
                let Ok(entry) = serde_json::from_slice::<Entry>(&opened.json) else { continue };
                if entry.kind == Kind::Ledger {
                    let keys = entry.details.get("keys").map(String::as_str).unwrap_or_default();
                    let keys = keys.split(' ').filter_map(|key| key.parse().ok());
                    if entry.action == "erase" {
                        erased.extend(keys.map(|key| (key, record.index)));
                    }
                    if entry.action == "drop" {
                        let before = entry.details.get("before").and_then(|before| before.parse().ok()).unwrap_or(0);
                        dropped_before = before.max(dropped_before);
                    }
                }
            };
            // What is under no checkpoint yet may be in the middle of being written.
            if end == End::Torn && (next < size || newest.as_ref() != Some(file)) {
                self.fault(Fault::Damaged { file: file.path.clone(), index: next.saturating_sub(1) });
            }
        }
        if next < size {
            missing.push((next, size - 1));
        }
        for (from, to) in missing {
            if to < dropped_before {
                counts.dropped += to - from + 1;
            } else {
                self.fault(Fault::Missing { from: from.max(dropped_before), to });
            }
        }
        for (key, Gone { count, first }) in gone {
            counts.erased += count;
            if !erased.contains_key(&key) {
                self.fault(Fault::KeyGone { key, count, first });
            }
        }
        let kept: BTreeSet<KeyId> = self.reader.key_ids();
        for (key, index) in erased {
            if kept.contains(&key) {
                self.fault(Fault::KeyKept { key, index });
            }
        }
        Ok(counts)
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
