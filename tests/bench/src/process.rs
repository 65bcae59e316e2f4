//! The program from its start to its first answer, and the memory it then holds.

use std::{
    fs,
    io::{BufRead as _, BufReader, ErrorKind},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::{
    Setting,
    rounds::{Best, time},
    table::{Figure, Row},
};

const ROUNDS: usize = 10;

pub(crate) fn measure(setting: &Setting) -> anyhow::Result<Vec<Row>> {
    ensure!(setting.witan.is_file(), "`{}` is missing; build it with `cargo build --release`", setting.witan.display());
    let state = tempfile::tempdir()?;
    let system = system_in(state.path(), setting, "", "")?;
    let started = Instant::now();
    summarize(setting, &system)?;
    let cold = started.elapsed();
    let mut best = Best::new();
    for _ in 0..ROUNDS {
        best.note([summarize(setting, &system)?]);
    }
    let [warm] = best.all();
    let up = Server::start(&setting.witan, &["--system", &system, "up", "--listen", "127.0.0.1:0"])?;
    let resident = up.resident()?;
    drop(up);
    fs::remove_dir_all(state.path().join("code"))?;
    let up = Server::start(&setting.witan, &["--system", &system, "up", "--listen", "127.0.0.1:0"])?;
    let after_compile = up.resident()?;
    Ok(vec![
        Row {
            measure: "default system from a warm cache, process start to answer (`witan task summarize README.md`)"
                .to_owned(),
            value: time(warm),
            floor: format!("{} from a cold one", time(cold)),
            figure: Figure::AtMost { value: warm.as_secs_f64() * 1e3, bar: 300.0, aim: None, unit: " ms" },
        },
        memory("resident memory of `witan up`, default system, warm start", resident, Some(64.0)),
        memory("the same after a cold compile", after_compile, None),
    ])
}

/// A row on `bytes` of memory.
pub(crate) fn memory(measure: &str, bytes: u64, bar: Option<f64>) -> Row {
    let mebibytes = bytes as f64 / f64::from(1 << 20);
    Row {
        measure: measure.to_owned(),
        value: format!("{mebibytes:.1} MiB"),
        floor: String::new(),
        figure: match bar {
            Some(bar) => Figure::AtMost { value: mebibytes, bar, aim: None, unit: " MiB" },
            None => Figure::Report,
        },
    }
}

/// The default system with its data in `folder`, so that what is measured is not what runs were made before. `more` is added
/// to it, and `intents` to its intents.
pub(crate) fn system_in(folder: &Path, setting: &Setting, intents: &str, more: &str) -> anyhow::Result<String> {
    let text = fs::read_to_string(setting.root.join("system.toml"))?;
    ensure!(!text.contains("[host"), "system.toml has a `[host]` of its own");
    let here = format!("source = \"{}/", setting.root.display());
    let text = text.replace("source = \"", &here).replace("[intents]\n", &format!("[intents]\n{intents}\n"));
    let path = folder.join("system.toml");
    fs::write(&path, format!("{text}\n[host]\nstate = \"{}\"\n{more}", folder.display()))?;
    Ok(path.display().to_string())
}

fn summarize(setting: &Setting, system: &str) -> anyhow::Result<Duration> {
    let mut command = Command::new(&setting.witan);
    command.args(["--system", system, "task", "summarize", "README.md"]).current_dir(&setting.root);
    let started = Instant::now();
    let output = command.output()?;
    let taken = started.elapsed();
    ensure!(output.status.success(), "the task failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(taken)
}

/// A process that serves, ended when it is dropped.
pub(crate) struct Server {
    child: Child,
    /// Where it listens.
    pub(crate) address: String,
}

impl Server {
    /// Starts `program` and waits until it says where it serves.
    pub(crate) fn start(program: &Path, arguments: &[&str]) -> anyhow::Result<Self> {
        let mut child = Command::new(program)
            .args(arguments)
            .arg("--json")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start `{}`", program.display()))?;
        let output = child.stdout.take().context("it has no output")?;
        let mut server = Self { child, address: String::new() };
        server.address = announced(BufReader::new(output))?;
        Ok(server)
    }

    /// Starts `wasmtime serve` with the component in `file`. None where that program is not installed.
    pub(crate) fn wasmtime(file: &str, options: &[&str]) -> anyhow::Result<Option<Self>> {
        // It takes a port of its own choice, and does not say which.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let mut command = Command::new("wasmtime");
        command.args(["serve", "--addr", &address]).args(options).arg(file);
        let mut child = match command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn() {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            child => child.context("cannot start `wasmtime`")?,
        };
        let output = child.stderr.take().context("it has no output")?;
        let server = Self { child, address };
        let mut said = String::new();
        ensure!(
            BufReader::new(output).read_line(&mut said)? > 0 && said.starts_with("Serving"),
            "`wasmtime serve` says: {said}"
        );
        Ok(Some(server))
    }

    /// The share of its processor time that its threads have taken whose names begin with `prefix`, and that live still.
    pub(crate) fn share(&self, prefix: &str) -> anyhow::Result<f64> {
        let process = format!("/proc/{}", self.child.id());
        let (_, all) = ticks(&fs::read_to_string(format!("{process}/stat"))?);
        let mut some = 0;
        for thread in fs::read_dir(format!("{process}/task"))? {
            // One that has ended meanwhile is none of these.
            let stat = fs::read_to_string(thread?.path().join("stat")).unwrap_or_default();
            let (name, ticks) = ticks(&stat);
            some += if name.starts_with(prefix) { ticks } else { 0 };
        }
        Ok(some as f64 / all as f64)
    }

    /// Bytes of memory that it has resident.
    pub(crate) fn resident(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("this system does not say")?;
        Ok(line.trim().trim_end_matches("kB").trim().parse::<u64>()? * 1024)
    }
}

/// The name and the processor time in a `stat` of Linux (`proc_pid_stat(5)`): names have brackets around them, and may have
/// more; the time is in the 14th and 15th field.
fn ticks(stat: &str) -> (&str, u64) {
    let parted = stat.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')'));
    let (name, fields) = parted.unwrap_or_default();
    (name, fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum())
}

fn announced(output: impl std::io::BufRead) -> anyhow::Result<String> {
    let announced = serde_json::Deserializer::from_reader(output).into_iter::<Value>().next();
    let announced = announced.context("it ended before it served")??;
    let url = announced["url"].as_str().with_context(|| format!("it does not say where it serves: {announced}"))?;
    Ok(url.trim_start_matches("http://").trim_end_matches('/').to_owned())
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}
