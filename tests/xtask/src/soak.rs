//! `cargo xtask soak`: for minutes what ordinary tests do a bounded number of times.
//!
//! There is no test of its own here: the same tests go on for as long as `WITAN_SOAK_SECONDS` says (see
//! `tests/rounds`), those of the attacks are run again and again, and those that kill processes do it so often, however
//! long that takes.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};
use witan_rounds::{REPORT, ROUNDS, SECONDS};

use crate::with_guests;

/// How long to go on.
#[derive(clap::Args)]
pub struct Arguments {
    /// Minutes in all, without what it takes to build, and to kill.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    minutes: u64,
    /// How often each kind of process is killed at a random moment.
    #[arg(long, default_value_t = 200)]
    kills: u32,
    /// Run the part of this name alone, such as `kills`.
    #[arg(long)]
    only: Option<String>,
}

/// Tests that go on for a share of the time.
struct Part {
    name: &'static str,
    /// Percent of the time.
    share: u32,
    /// What the binary of the tests is called.
    tests: &'static str,
    /// Given to the tests.
    filter: &'static str,
    how: How,
}

/// How tests are made to go on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    /// They do it by themselves, for a time.
    Time,
    /// They do it by themselves, a number of times.
    Rounds,
    /// They are run again.
    Again,
}

/// Tests that kill processes.
const fn kills(tests: &'static str, filter: &'static str) -> Part {
    Part { name: "kills", share: 0, tests, filter, how: How::Rounds }
}

const PARTS: [Part; 8] = [
    kills("registries", "killed::"),
    kills("served", "killed::"),
    kills("store", "killed"),
    kills("systems", "killed::"),
    // Of the code cache, and of lock, quarantine and marks.
    kills("killed", ""),
    Part { name: "random inputs", share: 40, tests: "bounded", filter: "makes_the_host_panic", how: How::Time },
    Part { name: "hot swap under load", share: 30, tests: "systems", filter: "swap::under_load", how: How::Time },
    Part { name: "attacks and floods", share: 30, tests: "attacks", filter: "", how: How::Again },
];

/// Runs each part for its share of the time, and prints what was run how often.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let checkout = with_guests()?;
    let chosen = |part: &&Part| arguments.only.as_ref().is_none_or(|only| only == part.name);
    let parts: Vec<&Part> = PARTS.iter().filter(chosen).collect();
    anyhow::ensure!(!parts.is_empty(), "there is no such part; there are: {}", names().join(", "));
    for part in &parts {
        let built = part.command(checkout.root()).arg("--no-run").status().context("cannot run `cargo`")?;
        anyhow::ensure!(built.success(), "the tests of {} do not build: {built}", part.name);
    }
    let all = Duration::from_secs(arguments.minutes * 60);
    let bar = ProgressBar::new(all.as_secs());
    bar.set_style(ProgressStyle::with_template("{bar:30} {elapsed_precise} of {len}s  {msg}")?);
    let mut rows = Vec::new();
    for part in parts {
        bar.set_message(part.name);
        rows.extend(part.run(checkout.root(), all * part.share / 100, arguments.kills, &bar)?);
    }
    bar.finish_and_clear();
    println!("{:24} {:44} {:>10} {:>8}", "PART", "TEST", "ROUNDS", "SECONDS");
    for Row { part, test, rounds, time } in rows {
        println!("{part:24} {test:44} {rounds:>10} {:>8}", time.as_secs());
    }
    Ok(())
}

/// The names of the parts.
fn names() -> Vec<&'static str> {
    let mut names: Vec<_> = PARTS.iter().map(|part| part.name).collect();
    names.dedup();
    names
}

/// What was run how often.
struct Row {
    part: &'static str,
    test: String,
    rounds: u64,
    time: Duration,
}

impl Part {
    fn command(&self, root: &Path) -> Command {
        let mut command = Command::new("cargo");
        // As the ordinary tests are built, so that it is done once: a package alone has dependencies with other features.
        command.args(["test", "--quiet", "--workspace", "--test", self.tests]).current_dir(root);
        command
    }

    fn run(&self, root: &Path, time: Duration, kills: u32, bar: &ProgressBar) -> anyhow::Result<Vec<Row>> {
        let started = Instant::now();
        let row = |test: &str, rounds| Row { part: self.name, test: test.to_owned(), rounds, time: started.elapsed() };
        let goes_on = match self.how {
            How::Time => Some((SECONDS, time.as_secs())),
            How::Rounds => Some((ROUNDS, kills.into())),
            How::Again => None,
        };
        if let Some(goes_on) = goes_on {
            let lines = self.run_once(root, Some(goes_on), bar)?;
            let told = lines.iter().filter_map(|line| {
                let (name, rounds) = line.strip_prefix(REPORT)?.strip_prefix('\t')?.split_once('\t')?;
                Some(row(name, rounds.parse().ok()?))
            });
            return Ok(told.collect());
        }
        let mut runs = 0;
        while runs == 0 || started.elapsed() < time {
            self.run_once(root, None, bar)?;
            runs += 1;
        }
        Ok(vec![row("all of them", runs)])
    }

    /// Runs the tests, with the variable by which they go on where they do it by themselves, and gives what they wrote.
    fn run_once(&self, root: &Path, goes_on: Option<(&str, u64)>, bar: &ProgressBar) -> anyhow::Result<Vec<String>> {
        let mut command = self.command(root);
        command.args(["--", "--nocapture", self.filter]).stdout(Stdio::piped());
        command.envs(goes_on.map(|(name, value)| (name, value.to_string())));
        let begun = bar.position();
        let started = Instant::now();
        let mut child = command.spawn().context("cannot run `cargo`; install Rust with rustup")?;
        let output = child.stdout.take().context("the tests have no standard output")?;
        let reader = std::thread::spawn(move || BufReader::new(output).lines().map_while(Result::ok).collect());
        let status = loop {
            bar.set_position(begun + started.elapsed().as_secs());
            match child.try_wait().context("cannot wait for the tests")? {
                Some(status) => break status,
                None => std::thread::sleep(Duration::from_millis(200)),
            }
        };
        let lines: Vec<String> = reader.join().unwrap_or_default();
        if !status.success() {
            bail!("{}\n{} failed: {status}", lines.join("\n"), self.name);
        }
        Ok(lines)
    }
}
