//! Log lines in a file, which is turned over before it grows too large or too old.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError, channel, sync_channel},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use crate::LogRecord;

/// Lines that wait to be written; more are dropped and counted. Whoever logs never waits for the disk.
const QUEUE: usize = 8_192;
/// How long a process that ends waits for a disk that is slow.
const LAST: Duration = Duration::from_secs(5);
/// How often files are looked at for their age, where nothing is logged.
const IDLE: Duration = Duration::from_secs(600);
/// How often it looks meanwhile whether there is room.
const LOOK: Duration = Duration::from_millis(10);

/// Why log lines cannot be written to a file.
#[derive(Debug, thiserror::Error)]
#[error("cannot write log lines to `{}`; check `host.telemetry.log-file` in system.toml", .path.display())]
pub struct FileError {
    path: PathBuf,
    source: io::Error,
}

/// When a log file is turned over, and how long those before are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Bytes of one file.
    pub size: u64,
    /// Files that are kept beside the one that is written: `witan.jsonl.1` is the newest.
    pub files: u32,
    /// How old the first line of the file that is written may become, and how old a file that is kept.
    pub age: Duration,
}

/// A file that log lines are written to, an object a line, by a thread of its own. It ends with its last clone, after the
/// lines that were given to it are written. A line reaches the file as soon as no other waits.
#[derive(Clone, Debug)]
pub struct LogFile {
    queue: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Message {
    Line(Vec<u8>),
    /// Answered when all that came before is in the file.
    Flush(Sender<()>),
}

impl LogFile {
    /// Writes to `path`, after what stands there, readable by this user alone.
    ///
    /// # Errors
    /// When the file cannot be written, or no thread be started.
    pub fn open(path: &Path, retention: Retention) -> Result<Self, FileError> {
        let failed = |source| FileError { path: path.to_owned(), source };
        let written = Written::open(path, retention).map_err(failed)?;
        let (queue, lines) = sync_channel(QUEUE);
        let run = move || written.run(&lines);
        thread::Builder::new().name("witan-logs".to_owned()).spawn(run).map_err(failed)?;
        Ok(Self { queue, dropped: Arc::default() })
    }

    /// Lines that could not be written in time, since the start.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Waits until the lines that were given to it are in the file, for at most five seconds.
    pub fn flush(&self) {
        let (until, (written, done)) = (Instant::now() + LAST, channel());
        let mut message = Message::Flush(written);
        // A disk that hangs leaves no room, and must not keep the process.
        while let Err(TrySendError::Full(back)) = self.queue.try_send(message) {
            if Instant::now() >= until {
                return;
            }
            message = back;
            thread::sleep(LOOK);
        }
        let _in_time = done.recv_timeout(until.saturating_duration_since(Instant::now()));
    }

    pub(crate) fn write(&self, line: &LogRecord) {
        let Ok(mut json) = serde_json::to_vec(line) else { return };
        json.push(b'\n');
        if self.queue.try_send(Message::Line(json)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

struct Written {
    path: PathBuf,
    retention: Retention,
    file: BufWriter<File>,
    bytes: u64,
    began: SystemTime,
}

impl Written {
    fn open(path: &Path, retention: Retention) -> io::Result<Self> {
        let file = File::options().append(true).create(true).mode(0o600).open(path)?;
        let metadata = file.metadata()?;
        let began = if metadata.len() == 0 { SystemTime::now() } else { metadata.created().or(metadata.modified())? };
        Ok(Self { path: path.to_owned(), retention, bytes: metadata.len(), file: BufWriter::new(file), began })
    }

    fn run(mut self, messages: &Receiver<Message>) {
        let mut well = true;
        loop {
            let done = match messages.recv_timeout(IDLE) {
                Ok(first) => self.take(first, messages),
                Err(RecvTimeoutError::Timeout) => self.age(),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            // Standard error has the line itself; a line about it for each would make it worse.
            if let Err(error) = &done
                && well
            {
                eprintln!("witan: cannot write `{}`: {error}", self.path.display());
            }
            well = done.is_ok();
        }
    }

    /// Writes `first` and all that waits behind it.
    fn take(&mut self, first: Message, messages: &Receiver<Message>) -> io::Result<()> {
        let mut next = Ok(first);
        while let Ok(message) = next {
            match message {
                Message::Line(line) => self.write(&line)?,
                Message::Flush(written) => {
                    self.file.flush()?;
                    // Whoever asked may have stopped waiting.
                    let _heard = written.send(());
                }
            }
            next = messages.try_recv();
        }
        self.file.flush()
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let full = self.bytes > 0 && self.bytes + line.len() as u64 > self.retention.size;
        let turned = if full || self.is_old() { self.turn() } else { Ok(()) };
        self.file.write_all(line)?;
        self.bytes += line.len() as u64;
        turned
    }

    fn is_old(&self) -> bool {
        self.began.elapsed().is_ok_and(|age| age > self.retention.age)
    }

    /// Does what age asks for where nothing is written.
    fn age(&mut self) -> io::Result<()> {
        if self.bytes > 0 && self.is_old() { self.turn() } else { self.forget_old() }
    }

    /// Moves each file one on, and begins a new one.
    fn turn(&mut self) -> io::Result<()> {
        self.file.flush()?;
        // First, so that one that cannot be made costs nothing of what is kept: lines go on into the full one.
        let (next, file) = self.next()?;
        remove(&self.numbered(self.retention.files.max(1)))?;
        for number in (1..self.retention.files).rev() {
            move_to(&self.numbered(number), &self.numbered(number + 1))?;
        }
        if self.retention.files == 0 {
            remove(&self.path)?;
        } else {
            move_to(&self.path, &self.numbered(1))?;
        }
        self.forget_old()?;
        fs::rename(next, &self.path)?;
        (self.file, self.bytes, self.began) = (BufWriter::new(file), 0, SystemTime::now());
        Ok(())
    }

    /// An empty file beside it, and its path.
    fn next(&self) -> io::Result<(PathBuf, File)> {
        let mut path = self.path.clone().into_os_string();
        path.push(".new");
        let path = PathBuf::from(path);
        // Of one that was left so by a crash, nobody has read or written a line.
        let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        Ok((path, file))
    }

    fn forget_old(&self) -> io::Result<()> {
        for path in (1..=self.retention.files).map(|number| self.numbered(number)) {
            let age =
                fs::metadata(&path).and_then(|metadata| metadata.modified()).ok().and_then(|at| at.elapsed().ok());
            if age.is_some_and(|age| age > self.retention.age) {
                remove(&path)?;
            }
        }
        Ok(())
    }

    fn numbered(&self, number: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }
}

fn remove(path: &Path) -> io::Result<()> {
    absent_is_fine(fs::remove_file(path))
}

fn move_to(from: &Path, to: &Path) -> io::Result<()> {
    absent_is_fine(fs::rename(from, to))
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn written(folder: &Path, retention: Retention, lines: u32) -> Vec<(String, String)> {
        let mut written = Written::open(&folder.join("log"), retention).unwrap();
        for line in 0..lines {
            written.write(format!("{line:04}\n").as_bytes()).unwrap();
        }
        written.file.flush().unwrap();
        let mut files: Vec<(String, String)> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.file_name().unwrap().to_string_lossy().into(), fs::read_to_string(path).unwrap()))
            .collect();
        files.sort();
        files
    }

    fn retention(size: u64, files: u32) -> Retention {
        Retention { size, files, age: Duration::from_secs(3_600) }
    }

    fn named(files: &[(String, String)]) -> Vec<(&str, &str)> {
        files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect()
    }

    #[test]
    fn a_file_that_is_full_is_turned_over_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let files = written(folder.path(), retention(10, 2), 7);
        assert_eq!(
            named(&files),
            [("log", "0006\n"), ("log.1", "0004\n0005\n"), ("log.2", "0002\n0003\n")],
            "two lines a file, two files kept"
        );
        let mode = fs::metadata(folder.path().join("log")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let alone = tempfile::tempdir().unwrap();
        assert_eq!(named(&written(alone.path(), retention(10, 0), 5)), [("log", "0004\n")]);
    }

    #[test]
    fn a_file_that_is_too_old_is_turned_over_and_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let none = Retention { age: Duration::ZERO, ..retention(1_000, 3) };
        assert_eq!(named(&written(folder.path(), none, 5)).len(), 1);
    }

    #[test]
    fn what_is_old_goes_though_nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        written(folder.path(), retention(10, 2), 7);
        let none = Retention { age: Duration::ZERO, ..retention(10, 2) };
        Written::open(&folder.path().join("log"), none).unwrap().age().unwrap();
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["log"]);
    }

    #[test]
    fn where_no_new_file_can_be_made_the_full_one_goes_on_and_nothing_that_is_kept_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("log.new")).unwrap();
        fs::write(folder.path().join("log.1"), "before\n").unwrap();
        let mut written = Written::open(&folder.path().join("log"), retention(10, 2)).unwrap();
        let done: Vec<bool> = (0..6).map(|line| written.write(format!("{line:04}\n").as_bytes()).is_ok()).collect();
        written.file.flush().unwrap();
        assert_eq!(done, [true, true, false, false, false, false]);
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!((read("log").lines().count(), read("log.1").as_str()), (6, "before\n"));
        fs::remove_dir(folder.path().join("log.new")).unwrap();
        written.write(b"more\n").unwrap();
        written.file.flush().unwrap();
        assert_eq!((read("log").as_str(), read("log.2").as_str()), ("more\n", "before\n"));
    }

    #[test]
    fn what_is_logged_is_in_the_file_when_it_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let written = Written::open(&path, retention(1 << 20, 1)).unwrap();
        let (queue, lines) = sync_channel(QUEUE);
        let file = LogFile { queue, dropped: Arc::default() };
        file.write(&LogRecord {
            sequence: 1,
            at_ms: 2,
            level: "INFO".into(),
            target: "t".into(),
            message: "m".into(),
            fields: serde_json::Map::new(),
            spans: Vec::new(),
            trace_id: Some("abc".into()),
            span_id: None,
            task_id: None,
            tenant: None,
        });
        drop(file);
        written.run(&lines);
        let line: LogRecord = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!((line.message.as_str(), line.trace_id.as_deref()), ("m", Some("abc")));
    }
}
