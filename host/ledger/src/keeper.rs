//! The thread that keeps the Merkle log: it takes up what was written, signs checkpoints, gives them to those outside, and
//! drops what is old.
//!
//! Of the processes that share a folder one keeps the log at a time; what the others wrote it takes up too.

use std::{
    fs,
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use parking_lot::{Condvar, Mutex, MutexGuard};
use serde::{Deserialize, Serialize};
use witan_merkle_log::{Checkpoint, Log, OpenError as LogOpenError};

use crate::{
    Entry, Kind, Settings, TimedCheckpoint, Witness,
    entry::now_ms,
    file,
    host_key::HostKey,
    journal::{Next, Records, Segment, segments, settled},
    witness::{self, Said},
    writer::{Queue, in_words},
};

/// Leaves that are put into the log at once.
const BATCH: usize = 4_096;
/// How long a log that failed is left alone.
const PAUSE: Duration = Duration::from_secs(1);
/// How often it looks at most whether another process wrote, which tells nobody.
const LOOK: Duration = Duration::from_secs(1);
/// How often it looks for what is old, where nothing is written.
const IDLE: Duration = Duration::from_secs(3_600);
/// How much of a sink is read to find its last line.
const TAIL: u64 = 64 << 10;

/// What others tell the keeper, and it them.
#[derive(Default)]
pub(crate) struct Desk {
    state: Mutex<State>,
    wake: Condvar,
    /// Signalled when a round is over.
    round: Condvar,
}

#[derive(Default)]
struct State {
    /// Whether something was written that is under no checkpoint.
    wrote: bool,
    ended: bool,
    /// Rounds that were asked for, and that are over.
    asked: u64,
    done: u64,
    /// Why the log is not kept.
    failing: Option<Arc<str>>,
    /// What those outside said that an operator must know.
    warning: Option<Arc<str>>,
}

impl Desk {
    pub(crate) fn wrote(&self) {
        let mut state = self.state.lock();
        if !state.wrote {
            state.wrote = true;
            self.wake.notify_one();
        }
    }

    pub(crate) fn close(&self) {
        self.state.lock().ended = true;
        self.wake.notify_one();
    }

    /// Has a checkpoint made of all that is written, and waits for it; why not, where there is none within `most`.
    pub(crate) fn checkpoint(&self, most: Duration) -> Result<(), Arc<str>> {
        let mut state = self.state.lock();
        state.asked += 1;
        let asked = state.asked;
        self.wake.notify_one();
        self.round.wait_while_for(&mut state, |state| state.done < asked && !state.ended, most);
        match &state.failing {
            Some(why) => Err(why.clone()),
            None if state.done >= asked => Ok(()),
            None => Err("the log was not written in time".into()),
        }
    }

    pub(crate) fn failing(&self) -> Option<Arc<str>> {
        self.state.lock().failing.clone()
    }

    pub(crate) fn warning(&self) -> Option<Arc<str>> {
        self.state.lock().warning.clone()
    }
}

/// A line of a sink.
#[derive(Serialize, Deserialize)]
pub(crate) struct SinkLine {
    /// When it was made, in seconds since 1970.
    time: u64,
    size: u64,
    pub(crate) checkpoint: String,
}

/// What the thread has.
pub(crate) struct Keeper {
    pub(crate) folder: PathBuf,
    pub(crate) settings: Settings,
    pub(crate) key: HostKey,
    pub(crate) desk: Arc<Desk>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) log: Option<Log>,
    /// How far the journal was when it was last taken up.
    pub(crate) seen: Option<(Segment, u64)>,
    /// When those outside were last offered a checkpoint.
    pub(crate) offered: Option<Instant>,
    /// The size of the newest checkpoint that the sink took, and of that which each witness did, in their order.
    pub(crate) taken: (u64, Vec<u64>),
    /// Entries that are dropped once the log has the entry that says so: it, and the first that stays.
    pub(crate) dropping: Option<(u64, u64)>,
}

impl Keeper {
    /// Keeps the log until the ledger is closed, and makes a last checkpoint then.
    pub(crate) fn run(mut self) {
        loop {
            let (ended, asked) = self.wait();
            let failing = match self.round(ended || asked.is_some()) {
                Ok(()) => None,
                Err(why) => {
                    self.log = None;
                    Some(Arc::<str>::from(why))
                }
            };
            let mut state = self.desk.state.lock();
            if let Some(why) = &failing
                && state.failing.is_none()
            {
                tracing::error!(error = %why, "the ledger's log is not kept");
            }
            state.wrote |= failing.is_some();
            state.failing = failing;
            if let Some(asked) = asked {
                state.done = asked;
            }
            self.desk.round.notify_all();
            if ended {
                return;
            }
        }
    }

    /// Waits until a checkpoint is due; whether the ledger was closed, and which round was asked for.
    fn wait(&self) -> (bool, Option<u64>) {
        let mut state = self.desk.state.lock();
        let began = Instant::now();
        // Nobody writes, and still those outside are to have the end of what was written.
        let until = self.offer_at(self.size()).map_or(began + IDLE, |at| at.min(began + IDLE));
        let waits = |state: &mut State| !state.ended && state.asked == state.done;
        while waits(&mut state) {
            if state.wrote {
                let due = if state.failing.is_some() { PAUSE } else { self.settings.checkpoint };
                self.desk.wake.wait_while_until(&mut state, waits, (Instant::now() + due).min(until));
                break;
            }
            let look = Instant::now() + self.settings.checkpoint.max(LOOK);
            self.desk.wake.wait_until(&mut state, look.min(until));
            let is_idle = waits(&mut state) && !state.wrote;
            if is_idle && MutexGuard::unlocked(&mut state, || Instant::now() >= until || self.others_wrote()) {
                break;
            }
        }
        state.wrote = false;
        let asked = (state.asked > state.done).then_some(state.asked);
        (state.ended, asked)
    }

    /// Whether the journal is not as it was taken up.
    fn others_wrote(&self) -> bool {
        let newest = || {
            let newest = segments(&self.folder.join("entries"))?.pop();
            newest.map(|newest| fs::metadata(&newest.path).map(|data| (newest, data.len()))).transpose()
        };
        // What cannot be looked at, the round that follows says.
        newest().map_or(true, |newest: Option<_>| newest != self.seen)
    }

    fn round(&mut self, last: bool) -> Result<(), String> {
        if !self.open_log()? {
            // Who keeps it takes up what was written here.
            return Ok(());
        }
        self.take_up()?;
        self.drop_old();
        self.show(last);
        Ok(())
    }

    /// Whether this process keeps the log.
    fn open_log(&mut self) -> Result<bool, String> {
        if self.log.is_some() {
            return Ok(true);
        }
        match Log::open(&self.folder.join("log"), log_settings(&self.key)?) {
            Ok(log) => self.log = Some(log),
            Err(LogOpenError::InUse(_)) => return Ok(false),
            Err(error) => return Err(in_words(&error)),
        }
        Ok(true)
    }

    /// Puts into the log what was written since, and signs a checkpoint.
    fn take_up(&mut self) -> Result<(), String> {
        let Some(log) = &self.log else { return Ok(()) };
        let before = log.checkpoint().size();
        self.seen = take_up(log, &self.folder)?;
        let checkpoint = log.checkpoint();
        let there = self.folder.join("checkpoint").exists();
        if checkpoint.size() == before && there {
            return Ok(());
        }
        timed(&self.folder, &self.key, &checkpoint)
    }

    /// How many entries the log has, as far as this process keeps it.
    fn size(&self) -> u64 {
        self.log.as_ref().map_or(0, |log| log.checkpoint().size())
    }

    /// When those outside are to be offered a checkpoint of `size` entries; never where all of them have it.
    fn offer_at(&self, size: u64) -> Option<Instant> {
        let (sink, witnesses) = &self.taken;
        let lacks = (self.settings.sink.is_some() && *sink < size) || witnesses.iter().any(|taken| *taken < size);
        let next = |last: Instant| last + self.settings.witness_interval;
        lacks.then(|| self.offered.map_or_else(Instant::now, next))
    }

    /// Gives a checkpoint to those outside who do not have it, where it is time to. Who does not take it is offered it again.
    fn show(&mut self, last: bool) {
        let Some(log) = &self.log else { return };
        let size = log.checkpoint().size();
        if self.offer_at(size).is_none_or(|at| !last && at > Instant::now()) {
            return;
        }
        self.offered = Some(Instant::now());
        let (mut sunk, mut cosigned) = self.taken.clone();
        let mut warnings = Vec::new();
        if let Some(sink) = self.settings.sink.as_ref().filter(|_| sunk < size) {
            match self.sink(sink) {
                Ok(()) => sunk = size,
                Err(error) => warnings.push(format!("the sink `{}` was not written: {error}", sink.display())),
            }
        }
        for (witness, taken) in self.settings.witnesses.iter().zip(&mut cosigned).filter(|(_, taken)| **taken < size) {
            match self.offer(log, witness) {
                Ok(()) => *taken = size,
                Err(error) => {
                    warnings.push(format!("the witness `{}` did not co-sign: {error}", witness.witness.name()));
                }
            }
        }
        self.taken = (sunk, cosigned);
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        self.desk.state.lock().warning = (!warnings.is_empty()).then(|| warnings.join("; ").into());
    }

    fn newest(&self) -> Result<TimedCheckpoint, String> {
        let note = fs::read_to_string(self.folder.join("checkpoint")).map_err(|error| error.to_string())?;
        TimedCheckpoint::parse(&note, &self.key.public, self.key.public.all()).map_err(|error| error.to_string())
    }

    fn sink(&self, sink: &Path) -> Result<(), String> {
        let newest = self.newest()?;
        let (time, size) = (newest.time.unwrap_or_default(), newest.checkpoint.size());
        let line = SinkLine { time, size, checkpoint: newest.checkpoint.note().to_owned() };
        let mut line = serde_json::to_vec(&line).map_err(|error| error.to_string())?;
        line.push(b'\n');
        let written = file::appended(sink).and_then(|mut file| file.write_all(&line).and_then(|()| file.sync_data()));
        written.map_err(|error| error.to_string())
    }

    fn offer(&self, log: &Log, settings: &crate::WitnessSettings) -> Result<(), String> {
        let newest = self.newest()?.checkpoint;
        let path = cosigned_path(&self.folder, &settings.witness);
        let kept = file::read(&path).map_err(|error| error.to_string())?;
        let mut old = kept
            .and_then(|note| cosigned(&String::from_utf8_lossy(&note), &self.key, &settings.witness))
            .map_or(0, |checkpoint| checkpoint.size());
        for _ in 0..2 {
            if old > newest.size() {
                return Err(format!(
                    "it has seen {old} entries and this ledger has {}: its end was removed, or an old copy put back",
                    newest.size()
                ));
            }
            let proof = log.consistency(old, newest.size()).map_err(|error| error.to_string())?;
            let answer = settings.transport.post(witness::request(old, &proof, &newest))?;
            match witness::said(&answer, &settings.witness, &newest)? {
                Said::Signed(signed) => {
                    return witan_durable::replace(&path, signed.note().as_bytes(), witan_durable::OWN)
                        .map_err(|error| error.to_string());
                }
                Said::HasSeen(size) => old = size,
            }
        }
        Err("it would not say how much it has seen".to_owned())
    }

    /// Drops files that are too old or too much, once the log has an entry that says so.
    fn drop_old(&mut self) {
        if self.settings.keep.is_none() && self.settings.max_bytes.is_none() {
            return;
        }
        let size = self.size();
        if let Some((told, before)) = self.dropping {
            if told < size {
                self.dropping = None;
                if let Err(error) = drop_before(&self.folder, before) {
                    tracing::error!(%error, "old entries of the ledger cannot be dropped");
                }
            }
            return;
        }
        let before = match droppable(&self.folder, &self.settings, size) {
            Ok(before) => before,
            Err(error) => return tracing::error!(%error, "old entries of the ledger cannot be found"),
        };
        let Some(before) = before else { return };
        let entry = Entry::new(Kind::Ledger, "drop", format!("entries 0 to {}", before - 1))
            .because("they are older, or more, than the settings keep")
            .with("before", before);
        let (done, told) = tokio::sync::oneshot::channel();
        if self.queue.push(entry, Some(done)).is_err() {
            return;
        }
        // The writer answers soon, and does not wait for this thread.
        if let Ok(Ok(index)) = told.blocking_recv() {
            self.dropping = Some((index, before));
        }
    }
}

pub(crate) fn log_settings(key: &HostKey) -> Result<witan_merkle_log::Settings, String> {
    let all = key.public.all();
    Ok(witan_merkle_log::Settings {
        origin: key.public.origin().to_owned(),
        signer: key.public.origin().to_owned(),
        key: key.signing().map_err(|error| in_words(&error))?,
        previous: all[..all.len() - 1].to_vec(),
        witnesses: Vec::new(),
    })
}

/// Puts into `log` what was written to the journal since; how far that is.
pub(crate) fn take_up(log: &Log, folder: &Path) -> Result<Option<(Segment, u64)>, String> {
    let entries = folder.join("entries");
    let disk = |error: io::Error| error.to_string();
    let Some((newest, end)) = settled(&entries).map_err(disk)? else { return Ok(None) };
    let mut size = log.checkpoint().size();
    for segment in segments(&entries).map_err(disk)? {
        let end = if segment == newest { end } else { u64::MAX };
        let mut records = Records::within(&segment, end).map_err(disk)?;
        if !records.skip_to(size).map_err(disk)? {
            continue;
        }
        if records.number() != size {
            return Err(format!("entry {size} is missing: `{}` begins later", records.path().display()));
        }
        let mut leaves = Vec::new();
        loop {
            let next = records.next().map_err(disk)?;
            let ended = match next {
                Next::Record(record) => {
                    leaves.push(record.leaf.bytes());
                    false
                }
                Next::End(_) => true,
            };
            if leaves.len() == BATCH || (ended && !leaves.is_empty()) {
                size += leaves.len() as u64;
                log.append_all(std::mem::take(&mut leaves)).map_err(|error| in_words(&error))?;
            }
            if ended {
                break;
            }
        }
        if segment == newest {
            break;
        }
    }
    Ok(Some((newest, end)))
}

/// Binds `checkpoint` to the time, and keeps it.
pub(crate) fn timed(folder: &Path, key: &HostKey, checkpoint: &Checkpoint) -> Result<(), String> {
    let signing = key.signing().map_err(|error| in_words(&error))?;
    let timed = signing.cosign(key.public.origin(), now_ms() / 1000, checkpoint).map_err(|error| in_words(&error))?;
    witan_durable::replace(&folder.join("checkpoint"), timed.note().as_bytes(), witan_durable::OWN)
        .map_err(|error| error.to_string())
}

/// Where the newest note lies that `witness` signed.
pub(crate) fn cosigned_path(folder: &Path, witness: &Witness) -> PathBuf {
    let name: String = blake3::hash(witness.to_string().as_bytes()).to_hex().chars().take(16).collect();
    folder.join(format!("cosigned-{name}"))
}

fn cosigned(note: &str, key: &HostKey, witness: &Witness) -> Option<Checkpoint> {
    let parsed = TimedCheckpoint::parse(note, &key.public, key.public.all()).ok()?.checkpoint;
    witness.on(&parsed).is_some().then_some(parsed)
}

/// The newest checkpoint in a sink that is of this ledger.
pub(crate) fn last_of_sink(sink: &Path, key: &HostKey) -> io::Result<Option<Checkpoint>> {
    let mut file = match fs::File::open(sink) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let lines = text.lines().rev().filter_map(|line| serde_json::from_str::<SinkLine>(line).ok());
    let mut own = lines
        .filter_map(|line| TimedCheckpoint::parse(&line.checkpoint, &key.public, key.public.all()).ok())
        .map(|timed| timed.checkpoint);
    Ok(own.next())
}

/// The first entry that stays, where files are too old or too much.
fn droppable(folder: &Path, settings: &Settings, size: u64) -> io::Result<Option<u64>> {
    let files = segments(&folder.join("entries"))?;
    let lengths: Vec<(u64, SystemTime)> = files
        .iter()
        .map(|file| fs::metadata(&file.path).and_then(|data| Ok((data.len(), data.modified()?))))
        .collect::<io::Result<_>>()?;
    let mut total: u64 = lengths.iter().map(|(length, _)| length).sum();
    let mut before = None;
    // The newest file is being written, and stays.
    for ((length, modified), next) in lengths.iter().zip(files.iter().skip(1)) {
        let old = settings.keep.is_some_and(|keep| modified.elapsed().is_ok_and(|age| age > keep));
        let much = settings.max_bytes.is_some_and(|most| total > most);
        if !(old || much) || next.first > size {
            break;
        }
        total -= length;
        before = Some(next.first);
    }
    Ok(before)
}

fn drop_before(folder: &Path, before: u64) -> io::Result<()> {
    let entries = folder.join("entries");
    let files = segments(&entries)?;
    for (file, next) in files.iter().zip(files.iter().skip(1)) {
        if next.first > before {
            break;
        }
        fs::remove_file(&file.path)?;
    }
    witan_durable::synchronize(&entries)
}
