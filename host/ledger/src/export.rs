//! Entries as they are handed to others: lines of JSON, each with what shows that it is in the log.
//!
//! The first line names the log, its keys and a checkpoint; each further line is an entry with its salt, its leaf and the
//! proof that the leaf is in that checkpoint's tree. To verify them takes the file and a key that is known from elsewhere,
//! and neither the host nor anybody's secret.

use std::io::{self, BufRead, Write};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use witan_merkle_log::{Checkpoint, Hash, NoteError, PublicKey, verify_inclusion};

use crate::{
    Entry, Filter, HostKeyError, HostKeys, ReadError, Reader, TimedCheckpoint,
    host_key::Link,
    record::{Leaf, SALT, commitment},
    witness::hash,
};

/// The form of the file.
const FORMAT: &str = "witan-ledger-export/1";
/// The longest line that is read.
const LONGEST: u64 = 1 << 20;
/// Hashes of a proof at most.
const MOST_HASHES: usize = 64;

/// Why an export cannot be made, or does not hold.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The ledger cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// There is no checkpoint yet.
    #[error("the ledger has no checkpoint yet; make one with `witan audit checkpoint`")]
    NoCheckpoint,
    /// The file cannot be read or written.
    #[error("the export cannot be read or written")]
    Io(#[from] io::Error),
    /// It is no export.
    #[error("line {line} is not one of an export: {what}")]
    Form {
        /// The line, from 1.
        line: u64,
        /// What is wrong.
        what: String,
    },
    /// Its keys do not hold.
    #[error(transparent)]
    Keys(#[from] HostKeyError),
    /// Its checkpoint does not hold.
    #[error("the checkpoint of the export does not hold")]
    Checkpoint(#[from] NoteError),
    /// An entry is not the one that the log has.
    #[error("entry {index} does not hold: {what}")]
    Entry {
        /// Its number.
        index: u64,
        /// Why.
        what: &'static str,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    format: String,
    origin: String,
    keys: Vec<Link>,
    checkpoint: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    index: u64,
    leaf: String,
    proof: Vec<String>,
    /// Missing where the entry was erased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    salt: Option<String>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    entry: Option<&'a RawValue>,
}

/// What an export has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Exported {
    /// What the ledger calls itself.
    pub origin: String,
    /// Entries in it.
    pub entries: u64,
    /// Of these, entries that were erased.
    pub erased: u64,
    /// Entries that its log has.
    pub size: u64,
    /// Whether it has all entries of the log.
    pub complete: bool,
    /// When its checkpoint was made, in seconds since 1970.
    pub time: Option<u64>,
}

/// Writes the entries that `filter` takes to `to`, with what shows that they are in the log.
///
/// # Errors
/// When the ledger cannot be read, has no checkpoint, or `to` cannot be written.
pub fn export(reader: &Reader, filter: &Filter, to: &mut impl Write) -> Result<Exported, ExportError> {
    let timed = reader.checkpoint()?.ok_or(ExportError::NoCheckpoint)?;
    let tree = reader.tree()?;
    let size = timed.checkpoint.size();
    let head = Head {
        format: FORMAT.to_owned(),
        origin: tree.keys.origin().to_owned(),
        keys: tree.keys.links().to_vec(),
        checkpoint: timed.checkpoint.note().to_owned(),
    };
    write(to, &head)?;
    let (mut entries, mut erased) = (0, 0);
    let mut failed = None;
    reader.records(0, |record| {
        if record.index >= size {
            return false;
        }
        let opened = reader.unseal(record);
        let taken = match &opened {
            Some(opened) => serde_json::from_slice::<Entry>(&opened.json).is_ok_and(|entry| filter.takes(&entry)),
            None => filter.is_all(),
        };
        if !taken {
            return true;
        }
        let written = tree.inclusion(record.index, size).map_err(ExportError::from).and_then(|proof| {
            let raw = opened.as_ref().and_then(|opened| serde_json::from_slice::<&RawValue>(&opened.json).ok());
            let line = Line {
                index: record.index,
                leaf: BASE64_STANDARD.encode(record.leaf.bytes()),
                proof: proof.iter().map(Hash::to_string).collect(),
                salt: opened.as_ref().map(|opened| BASE64_STANDARD.encode(opened.salt)),
                entry: raw,
            };
            write(to, &line)
        });
        entries += 1;
        erased += u64::from(opened.is_none());
        failed = written.err();
        failed.is_none()
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    to.flush()?;
    let (origin, time) = (tree.keys.origin().to_owned(), timed.time);
    Ok(Exported { origin, entries, erased, size, complete: entries == size, time })
}

fn write(to: &mut impl Write, line: &impl Serialize) -> Result<(), ExportError> {
    serde_json::to_writer(&mut *to, line).map_err(io::Error::from)?;
    Ok(to.write_all(b"\n")?)
}

/// Verifies an export by itself: that each entry is the one that the log had in its place when a key that follows `pinned`
/// signed the checkpoint.
///
/// # Errors
/// The first thing that does not hold.
pub fn verify_export(from: &mut impl BufRead, pinned: &PublicKey) -> Result<Exported, ExportError> {
    let mut text = String::new();
    let mut number = 0;
    let form = |line: u64| move |what: String| ExportError::Form { line, what };
    if !line(from, &mut text, &mut number)? {
        return Err(form(1)("it is empty".to_owned()));
    }
    let head: Head = serde_json::from_str(&text).map_err(|error| form(1)(error.to_string()))?;
    if head.format != FORMAT {
        return Err(form(1)(format!("`{}` is not `{FORMAT}`", head.format)));
    }
    let keys = HostKeys::new(head.keys)?;
    if keys.origin() != head.origin {
        return Err(form(1)("it names another log than its keys do".to_owned()));
    }
    let timed = TimedCheckpoint::parse(&head.checkpoint, &keys, keys.from(Some(pinned))?)?;
    let (mut entries, mut erased, mut next) = (0, 0, 0);
    while line(from, &mut text, &mut number)? {
        let line: Line<'_> = serde_json::from_str(&text).map_err(|error| form(number)(error.to_string()))?;
        if line.index < next {
            return Err(ExportError::Entry { index: line.index, what: "it is out of order" });
        }
        next = line.index.saturating_add(1);
        entries += 1;
        erased += u64::from(check(&line, &timed.checkpoint)?);
    }
    let size = timed.checkpoint.size();
    Ok(Exported { origin: head.origin, entries, erased, size, complete: entries == size, time: timed.time })
}

/// Whether the entry of a line was erased; an error where it is not in the tree.
fn check(line: &Line<'_>, checkpoint: &Checkpoint) -> Result<bool, ExportError> {
    let wrong = |what| ExportError::Entry { index: line.index, what };
    if line.index >= checkpoint.size() || line.proof.len() > MOST_HASHES {
        return Err(wrong("the log has no such entry"));
    }
    let bytes = BASE64_STANDARD.decode(&line.leaf).map_err(|_| wrong("its leaf is not in Base64"))?;
    let leaf = Leaf::parse(&bytes).ok_or_else(|| wrong("its leaf is none"))?;
    let proof: Option<Vec<Hash>> = line.proof.iter().map(|text| hash(text)).collect();
    let proof = proof.ok_or_else(|| wrong("its proof has something that is no hash"))?;
    verify_inclusion(&Hash::leaf(&bytes), line.index, checkpoint.size(), &proof, &checkpoint.root())
        .map_err(|_| wrong("the proof does not show it in the log"))?;
    let (salt, entry) = match (&line.salt, line.entry) {
        (None, None) => return Ok(true),
        (Some(salt), Some(entry)) => (salt, entry),
        _ => return Err(wrong("it has a salt without an entry, or an entry without a salt")),
    };
    let salt: Option<[u8; SALT]> = BASE64_STANDARD.decode(salt).ok().and_then(|salt| salt.try_into().ok());
    let salt = salt.ok_or_else(|| wrong("its salt is none"))?;
    if commitment(&salt, entry.get().as_bytes()) != leaf.commitment {
        return Err(wrong("it does not say what was committed to"));
    }
    Ok(false)
}

/// Reads a line; false at the end.
fn line(from: &mut impl BufRead, text: &mut String, number: &mut u64) -> Result<bool, ExportError> {
    text.clear();
    *number += 1;
    let read = io::Read::take(&mut *from, LONGEST).read_line(text);
    let read = read.map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => ExportError::Form { line: *number, what: "it is not text".to_owned() },
        _ => error.into(),
    })?;
    if read as u64 == LONGEST {
        return Err(ExportError::Form { line: *number, what: format!("it has more than {LONGEST} bytes") });
    }
    Ok(read > 0)
}
