//! The files that entries lie in, one after the other.
//!
//! Processes that share a state folder share the journal: each takes its turn for a batch of entries, reads what the
//! others wrote meanwhile, and leaves the file whole and durable. What breaks off at the end of the newest file was never
//! acknowledged; it is set aside, not thrown away.

use std::{
    fs::{self, File},
    io::{self, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use crate::{file, record::Record};

/// The longest record that is read.
const LONGEST: u32 = 64 << 10;
/// How a file begins.
const MAGIC: &[u8; 8] = b"WITANLG1";
/// Bytes before the first record: the magic, and the number of the first entry.
const BEGIN: u64 = 16;
/// Bytes before each record: its length, and a part of its hash, by which one that breaks off is known.
const FRAME: usize = 4 + 8;

/// Why a file of the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalError {
    #[error("the journal in `{}` cannot be read or written", .folder.display())]
    Disk { folder: PathBuf, source: io::Error },
    #[error("`{}` is damaged at byte {at}: {what}", .path.display())]
    Damaged { path: PathBuf, at: u64, what: &'static str },
}

/// A file with the number of its first entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    pub(crate) first: u64,
}

/// The files in `folder`, in order. What has another name than a journal gives is none of its files.
pub(crate) fn segments(folder: &Path) -> io::Result<Vec<Segment>> {
    let mut segments = Vec::new();
    let files = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(segments),
        files => files?,
    };
    for file in files {
        let path = file?.path();
        let name = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".entries"));
        let own = name.and_then(|name| name.parse().ok()).map(|first| segment(folder, first));
        segments.extend(own.filter(|own| own.path == path));
    }
    segments.sort_by_key(|segment| segment.first);
    Ok(segments)
}

fn segment(folder: &Path, first: u64) -> Segment {
    Segment { path: folder.join(format!("{first:020}.entries")), first }
}

/// How a file ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Behind a record: more may be written.
    Open,
    /// With a mark: it goes on in the next file.
    Sealed,
    /// Within a record.
    Torn,
}

/// Reads records of a file, one after the other.
pub(crate) struct Records {
    path: PathBuf,
    file: BufReader<File>,
    at: u64,
    length: u64,
    next: u64,
}

/// What comes next in a file.
pub(crate) enum Next {
    Record(Record),
    End(End),
}

impl Records {
    pub(crate) fn open(segment: &Segment) -> io::Result<Self> {
        Self::within(segment, u64::MAX)
    }

    /// Reads no further than byte `end`.
    pub(crate) fn within(segment: &Segment, end: u64) -> io::Result<Self> {
        let file = File::open(&segment.path)?;
        let length = file.metadata()?.len().min(end);
        let mut records =
            Self { path: segment.path.clone(), file: BufReader::new(file), at: 0, length, next: segment.first };
        let mut begin = [0; BEGIN as usize];
        if length >= BEGIN {
            records.file.read_exact(&mut begin)?;
            if begin[..8] != *MAGIC || begin[8..] != segment.first.to_be_bytes() {
                return Err(io::Error::other(format!("`{}` is no file of the ledger", segment.path.display())));
            }
        }
        records.at = BEGIN;
        Ok(records)
    }

    /// Goes on at byte `at`, where entry number `next` begins.
    fn resume(segment: &Segment, at: u64, next: u64) -> io::Result<Self> {
        let mut records = Self::open(segment)?;
        records.file.seek(SeekFrom::Start(at))?;
        (records.at, records.next) = (at, next);
        Ok(records)
    }

    /// The length of the next record, and a part of its hash; an end where there is none that is whole.
    fn frame(&mut self) -> io::Result<Result<(u32, [u8; 8]), End>> {
        if self.at >= self.length {
            return Ok(Err(if self.at == self.length { End::Open } else { End::Torn }));
        }
        if self.at + 4 > self.length {
            return Ok(Err(End::Torn));
        }
        let mut length = [0; 4];
        if !self.fill(&mut length)? {
            return Ok(Err(End::Torn));
        }
        let length = u32::from_be_bytes(length);
        if length == 0 {
            // Zeros are also what a crash may leave of bytes that were not written.
            let sealed = self.at + 4 == self.length;
            return Ok(Err(if sealed { End::Sealed } else { End::Torn }));
        }
        if length > LONGEST || self.at + FRAME as u64 + u64::from(length) > self.length {
            return Ok(Err(End::Torn));
        }
        let mut check = [0; 8];
        if !self.fill(&mut check)? {
            return Ok(Err(End::Torn));
        }
        Ok(Ok((length, check)))
    }

    /// Reads as much as `bytes` takes; false where that is not there any more, since what broke off was set aside meanwhile.
    fn fill(&mut self, bytes: &mut [u8]) -> io::Result<bool> {
        match self.file.read_exact(bytes) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            read => read.map(|()| true),
        }
    }

    /// The next record.
    pub(crate) fn next(&mut self) -> io::Result<Next> {
        let (length, check) = match self.frame()? {
            Ok(frame) => frame,
            Err(end) => return Ok(Next::End(end)),
        };
        let mut body = vec![0; length as usize];
        if !self.fill(&mut body)? {
            return Ok(Next::End(End::Torn));
        }
        if blake3::hash(&body).as_bytes()[..8] != check {
            return Ok(Next::End(End::Torn));
        }
        let Some(record) = Record::parse(&body).filter(|record| record.index == self.next) else {
            return Ok(Next::End(End::Torn));
        };
        self.at += FRAME as u64 + u64::from(length);
        self.next += 1;
        Ok(Next::Record(record))
    }

    /// Passes records by until number `index`; false where the file ends before it.
    pub(crate) fn skip_to(&mut self, index: u64) -> io::Result<bool> {
        while self.next < index {
            let Ok((length, _)) = self.frame()? else { return Ok(false) };
            self.file.seek_relative(i64::from(length))?;
            self.at += FRAME as u64 + u64::from(length);
            self.next += 1;
        }
        Ok(true)
    }

    /// The number of the record that comes next.
    pub(crate) fn number(&self) -> u64 {
        self.next
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// The journal, as the process that writes sees it.
pub(crate) struct Journal {
    folder: PathBuf,
    turn: File,
    current: Option<Current>,
    largest: u64,
    /// Entries before this number are under a checkpoint, and must be whole.
    least: u64,
}

struct Current {
    segment: Segment,
    file: File,
    /// The number of the next entry.
    next: u64,
    /// Where it will begin.
    end: u64,
}

impl Journal {
    /// The journal whose files lie in `folder`, and are ended at `largest` bytes. Entries before number `least` are known to be there.
    pub(crate) fn open(folder: &Path, least: u64, largest: u64) -> Result<Self, JournalError> {
        let failed = |source| JournalError::Disk { folder: folder.to_owned(), source };
        fs::create_dir_all(folder).map_err(failed)?;
        let turn = file::appended(&folder.join("turn")).map_err(failed)?;
        let mut journal = Self { folder: folder.to_owned(), turn, current: None, largest, least };
        journal.in_turn(|_| Ok::<_, JournalError>(()))?;
        Ok(journal)
    }

    fn failed(&self) -> impl Fn(io::Error) -> JournalError + use<> {
        let folder = self.folder.clone();
        move |source| JournalError::Disk { folder: folder.clone(), source }
    }

    /// Does `work` while no other process writes, with what the others wrote known.
    pub(crate) fn in_turn<T, E: From<JournalError>>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E> {
        self.turn.lock().map_err(self.failed())?;
        let done = self.catch_up().map_err(E::from).and_then(|()| work(self));
        let unlocked = self.turn.unlock().map_err(self.failed());
        let done = done?;
        unlocked?;
        Ok(done)
    }

    /// The number of the next entry.
    pub(crate) fn next(&self) -> u64 {
        self.current.as_ref().map_or(0, |current| current.next)
    }

    /// Reads what others wrote, and sets aside what one left that was broken off.
    fn catch_up(&mut self) -> Result<(), JournalError> {
        let failed = self.failed();
        if self.current.is_none() {
            let newest = segments(&self.folder).map_err(&failed)?.pop();
            let Some(newest) = newest else { return self.begin(0) };
            let length = fs::metadata(&newest.path).map_err(&failed)?.len();
            if length < BEGIN {
                // The crash of whoever began it.
                fs::remove_file(&newest.path).map_err(&failed)?;
                return self.begin(newest.first);
            }
            let file = file::appended(&newest.path).map_err(&failed)?;
            self.current = Some(Current { next: newest.first, end: BEGIN, segment: newest, file });
        }
        loop {
            let Some(current) = &mut self.current else { return Ok(()) };
            let length = current.file.metadata().map_err(&failed)?.len();
            if length == current.end {
                return Ok(());
            }
            let mut records = Records::resume(&current.segment, current.end, current.next).map_err(&failed)?;
            let end = loop {
                match records.next().map_err(&failed)? {
                    Next::Record(_) => {}
                    Next::End(end) => break end,
                }
            };
            (current.end, current.next) = (records.at, records.next);
            match end {
                End::Open => return Ok(()),
                End::Torn if current.next < self.least => {
                    let (path, at) = (current.segment.path.clone(), current.end);
                    let what = "a record is not as it was written, and it was under a checkpoint";
                    return Err(JournalError::Damaged { path, at, what });
                }
                End::Torn => {
                    let mut torn = Vec::new();
                    let mut file = File::open(&current.segment.path).map_err(&failed)?;
                    file.seek(SeekFrom::Start(current.end)).map_err(&failed)?;
                    file.read_to_end(&mut torn).map_err(&failed)?;
                    let aside = self.folder.join(format!("{:020}-{}.torn", current.next, current.end));
                    witan_durable::replace(&aside, &torn, witan_durable::OWN).map_err(&failed)?;
                    current.file.set_len(current.end).and_then(|()| current.file.sync_all()).map_err(&failed)?;
                    tracing::warn!(
                        bytes = torn.len(),
                        kept = %aside.display(),
                        "what a process that ended early left at the end of the ledger is set aside"
                    );
                    return Ok(());
                }
                End::Sealed => {
                    let next = segment(&self.folder, current.next);
                    let there = fs::metadata(&next.path).is_ok_and(|metadata| metadata.len() >= BEGIN);
                    if !there {
                        return self.begin(next.first);
                    }
                    let file = file::appended(&next.path).map_err(&failed)?;
                    self.current = Some(Current { next: next.first, end: BEGIN, segment: next, file });
                }
            }
        }
    }

    /// Begins the file of entry number `first`.
    fn begin(&mut self, first: u64) -> Result<(), JournalError> {
        let failed = self.failed();
        let segment = segment(&self.folder, first);
        witan_durable::replace(&segment.path, &[MAGIC.as_slice(), &first.to_be_bytes()].concat(), witan_durable::OWN)
            .map_err(&failed)?;
        let file = file::appended(&segment.path).map_err(&failed)?;
        self.current = Some(Current { segment, file, next: first, end: BEGIN });
        Ok(())
    }

    /// Appends `records`, the first of which has the number [`Self::next`], durably. Whoever calls this has its turn.
    pub(crate) fn append(&mut self, records: &[Record]) -> Result<(), JournalError> {
        let failed = self.failed();
        let Some(current) = &mut self.current else { return Ok(()) };
        let mut bytes = Vec::with_capacity(records.iter().map(|record| record.len() + FRAME).sum());
        for record in records {
            let start = bytes.len();
            bytes.extend_from_slice(&[0; FRAME]);
            record.write(&mut bytes);
            let body = &bytes[start + FRAME..];
            let (length, check) = (u32::try_from(body.len()).unwrap_or(u32::MAX), blake3::hash(body));
            bytes[start..start + 4].copy_from_slice(&length.to_be_bytes());
            bytes[start + 4..start + FRAME].copy_from_slice(&check.as_bytes()[..8]);
        }
        if let Err(error) = current.file.write_all(&bytes).and_then(|()| current.file.sync_data()) {
            // Nobody is told of these, so they must not be there either.
            let _remains = current.file.set_len(current.end);
            return Err(failed(error));
        }
        current.end += bytes.len() as u64;
        current.next += records.len() as u64;
        if current.end >= self.largest {
            let next = current.next;
            current.file.write_all(&[0; 4]).and_then(|()| current.file.sync_data()).map_err(&failed)?;
            self.begin(next)?;
        }
        Ok(())
    }
}

/// How far a journal is written and durable: its newest file, and how much of that. No process may be writing meanwhile, so
/// this waits for its turn.
pub(crate) fn settled(folder: &Path) -> io::Result<Option<(Segment, u64)>> {
    let turn = file::appended(&folder.join("turn"))?;
    turn.lock()?;
    let Some(newest) = segments(folder)?.pop() else { return Ok(None) };
    // Whoever wrote it may have ended before it was durable.
    let file = File::open(&newest.path)?;
    file.sync_data()?;
    Ok(Some((newest, file.metadata()?.len())))
}
