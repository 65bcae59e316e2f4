//! Processes that are killed at random moments.
//!
//! What is killed is the test itself in a process of its own, or a program. A test that begins with [`work`] finds out
//! there what it is to do; everywhere else there is none.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;

/// The environment variable that has a test do its work in a folder until it is killed.
const WORK: &str = "WITAN_TEST_WORK";

/// The folder that this process, made by [`child`], is to work in.
#[must_use]
pub fn work() -> Option<PathBuf> {
    std::env::var_os(WORK).map(PathBuf::from)
}

/// The test called `test` of this program, with the modules that it is in, as a process that works in `folder`.
///
/// # Errors
/// When this program's own file cannot be found.
pub fn child(test: &str, folder: &Path) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--exact", test, "--nocapture", "--quiet"]).env(WORK, folder);
    Ok(command)
}

/// Says that a process begins something, for [`interrupted`].
pub fn begun(what: impl std::fmt::Display) {
    println!("begun {what}");
}

/// Says that something is done: whoever reads this may rely on it.
pub fn done(what: impl std::fmt::Display) {
    println!("done {what}");
}

/// Runs `command`, which says what it has [`begun`] and what is [`done`], kills it at a random moment after some of it, and
/// gives what it told: each thing, and whether it was done.
///
/// # Errors
/// When it cannot be run or read.
pub fn interrupted(command: &mut Command, random: &mut Rng) -> io::Result<BTreeMap<String, bool>> {
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?);
    let mut text = String::new();
    let mut last = Instant::now();
    let mut took = Duration::ZERO;
    // One more than is waited for is under way when it is killed.
    for _ in 0..random.usize(2..9) {
        if lines.read_line(&mut text)? == 0 {
            break;
        }
        took = last.elapsed();
        last = Instant::now();
    }
    spin(took.mul_f64(random.f64() * 2.0));
    kill(&mut child)?;
    lines.read_to_string(&mut text)?;
    let mut told = BTreeMap::new();
    for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
        match line.split_once(' ') {
            Some(("begun", what)) => drop(told.entry(what.to_owned()).or_insert(false)),
            Some(("done", what)) => drop(told.insert(what.to_owned(), true)),
            _ => {}
        }
    }
    Ok(told)
}

/// Random moments of what a command does, at which it is killed.
#[derive(Debug)]
pub struct Moments {
    random: Rng,
    /// About what it takes. It is learnt, since a machine is not always as busy.
    whole: Duration,
    under_way: usize,
}

impl Moments {
    /// Moments of a command that took `whole`.
    #[must_use]
    pub fn new(whole: Duration, random: Rng) -> Self {
        Self { random, whole, under_way: 0 }
    }

    /// Runs `command`, and kills it at a random moment.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn kill(&mut self, command: &mut Command) -> io::Result<()> {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        thread::sleep(self.whole.mul_f64(self.random.f64()));
        let under_way = child.try_wait()?.is_none();
        kill(&mut child)?;
        self.under_way += usize::from(under_way);
        // Settles where some two of three kills come before the end, so that the end is among the moments.
        self.whole = self.whole.mul_f64(if under_way { 1.1 } else { 0.8 });
        Ok(())
    }

    /// How many commands were under way when they were killed.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.under_way
    }
}

/// Ends a process at once (`SIGKILL`), and waits until it is gone.
///
/// # Errors
/// When it cannot be ended.
pub fn kill(child: &mut Child) -> io::Result<()> {
    child.kill()?;
    child.wait().map(drop)
}

/// Waits more exactly than a sleep does.
fn spin(time: Duration) {
    let began = Instant::now();
    while began.elapsed() < time {
        thread::yield_now();
    }
}
