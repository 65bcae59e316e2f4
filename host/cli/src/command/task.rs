//! `witan task`: does one task, here or on a running host.

use std::{
    collections::BTreeMap,
    io::{IsTerminal as _, Read as _},
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use url::Url;
use witan_capability::{Beginning, CallContext, Privacy};
use witan_loader::Running;
use witan_system::System;
use witan_tasks::{
    Document, Edge, Envelope, Event, Happened, Input, Observer, Paths, Settings, Task, TaskRequest, Tasks,
};

use crate::{
    Global,
    client::Client,
    egress::CaArgument,
    host, output,
    owner::{self, Taken},
    source,
};

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// What to do, as `[intents]` in system.toml names it.
    intent: String,
    /// Files to work on; `-` is standard input. Each is granted to this task alone, read-only.
    #[arg(value_name = "PATH", required_unless_present = "text", conflicts_with = "text")]
    paths: Vec<String>,
    /// Text to work on, instead of files.
    #[arg(long)]
    text: Option<String>,
    /// A parameter of the intent; the value is JSON, or text if it is no JSON.
    #[arg(short, long = "param", value_name = "NAME=VALUE", value_parser = pair)]
    params: Vec<(String, String)>,
    /// Where the data of the task may go.
    #[arg(long, value_enum, default_value_t = PrivacyArgument::Standard)]
    privacy: PrivacyArgument,
    /// What the task may spend, in US dollars.
    #[arg(long, value_name = "DOLLARS")]
    budget_usd: Option<f64>,
    /// When the task must have ended, from now, such as `30s`.
    #[arg(long, value_name = "TIME", value_parser = super::time)]
    deadline: Option<Duration>,
    /// A note that comes back with the task.
    #[arg(long = "metadata", value_name = "NAME=VALUE", value_parser = pair)]
    metadata: Vec<(String, String)>,
    /// Have a running host do it; the bytes of the files are sent there.
    #[arg(long, value_name = "URL")]
    server: Option<Url>,
    #[command(flatten)]
    ca: CaArgument,
}

const EXAMPLES: &str = "Examples:
  witan task summarize README.md
  witan task summarize report.pdf notes.docx --param sentences=3
  curl -s https://example.com | witan task summarize - --json
  witan task summarize secret.md --privacy local-only";

#[derive(Clone, Copy, clap::ValueEnum)]
enum PrivacyArgument {
    /// Wherever the grants allow.
    Standard,
    /// Nowhere beyond this machine.
    LocalOnly,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("`{text}` is not of the form NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

pub(crate) async fn run(arguments: Arguments, global: &Global) -> anyhow::Result<ExitCode> {
    if let Some(url) = arguments.server.clone() {
        let envelope = Client::new(url, &arguments.ca)?.task(&request(arguments, true)?).await?;
        print(&envelope, global);
        return Ok(ExitCode::from(envelope.exit_code()));
    }
    let system = source::load(global)?;
    let envelope = match owner::take(&system.host.state, "task").await? {
        Taken::Ours(_owner) => {
            let request = request(arguments, false)?;
            here(request, system, global, host::Mode::Enforce).await?.2
        }
        // It has the folder alone; what it is sent is what this command would do.
        Taken::Host => {
            let (running, client) = super::running::announced(global)?;
            output::note(&format!("the host at {} has the state folder, and does the task", running.url));
            Arc::new(client.task(&request(arguments, true)?).await?)
        }
    };
    print(&envelope, global);
    Ok(ExitCode::from(envelope.exit_code()))
}

/// Does the task in `mode`, one that records.
pub(crate) async fn record(
    arguments: Arguments,
    global: &Global,
    mode: host::Mode,
) -> anyhow::Result<(host::Host, Running, Arc<Envelope>)> {
    anyhow::ensure!(arguments.server.is_none(), "a task is recorded on the host that does it; leave out `--server`");
    let system = source::load(global)?;
    let remedy = "a task is recorded on a folder of its own: stop it with `witan stop`, or set another `host.state`";
    let _owner = owner::alone(&system.host.state, "grants", remedy).await?;
    here(request(arguments, false)?, system, global, mode).await
}

fn request(arguments: Arguments, upload: bool) -> anyhow::Result<TaskRequest> {
    let mut request = TaskRequest::new(arguments.intent, input(arguments.text, arguments.paths, upload)?);
    for (name, value) in arguments.params {
        let value = serde_json::from_str(&value).unwrap_or(serde_json::Value::String(value));
        request.params.insert(name, value);
    }
    request.privacy = match arguments.privacy {
        PrivacyArgument::Standard => Privacy::Standard,
        PrivacyArgument::LocalOnly => Privacy::LocalOnly,
    };
    request.budget_usd = arguments.budget_usd;
    request.deadline_ms = arguments.deadline.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    request.metadata = arguments.metadata.into_iter().collect::<BTreeMap<_, _>>();
    Ok(request)
}

fn input(text: Option<String>, paths: Vec<String>, upload: bool) -> anyhow::Result<Input> {
    if let Some(text) = text {
        return Ok(Input::Text(text));
    }
    if !upload && !paths.iter().any(|path| path == "-") {
        return Ok(Input::Paths(paths));
    }
    Ok(Input::Documents(paths.iter().map(|path| document(path)).collect::<Result<_, _>>()?))
}

fn document(path: &str) -> anyhow::Result<Document> {
    if path == "-" {
        let mut data = Vec::new();
        std::io::stdin().lock().read_to_end(&mut data).context("cannot read standard input")?;
        return Ok(Document { name: "stdin".to_owned(), media_type: None, data });
    }
    let data = std::fs::read(Path::new(path)).with_context(|| format!("cannot read `{path}`"))?;
    Ok(Document { name: path.to_owned(), media_type: None, data })
}

async fn here(
    request: TaskRequest,
    system: System,
    global: &Global,
    mode: host::Mode,
) -> anyhow::Result<(host::Host, Running, Arc<Envelope>)> {
    let limits = system.limits.clone();
    let host = host::Host::new(&system, mode)?.held_to_lock(global.locked);
    let running = host.load(system).await?;
    let (engine, ledger) = (host.engine.clone(), host.ledger.clone());
    let observer: Observer = Arc::new(move |transition| crate::ledger::task(&ledger, transition));
    let tasks = Tasks::new(
        Settings { limits, ..Settings::default() },
        host::handlers(&running),
        Arc::new(move |limits| engine.open_account(limits)),
        observer,
    );
    let beginning = Beginning { intent: Some(request.intent.as_str().into()), ..Beginning::default() };
    let edge = Edge { context: CallContext::local().begun(beginning), paths: Paths::Any };
    let task = tasks.submit(request, &edge).await?;
    let envelope = tokio::select! {
        envelope = follow(&task) => envelope,
        _ = tokio::signal::ctrl_c() => {
            task.cancel();
            task.finished().await
        }
    };
    Ok((host, running, envelope))
}

/// Shows how the task comes along until it has ended.
async fn follow(task: &Task) -> Arc<Envelope> {
    let bar = if std::io::stderr().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
        bar.set_style(style);
    }
    let mut after = 0;
    while let Some(event) = task.event_after(after).await {
        after = event.sequence;
        match event.happened {
            Happened::Told(Event::Progress { stage, done, total }) => {
                bar.set_message(format!("{stage} {done}/{total}"))
            }
            Happened::Told(Event::Notice { text }) => bar.suspend(|| output::note(&text)),
            _ => {}
        }
        bar.tick();
    }
    bar.finish_and_clear();
    task.finished().await
}

fn print(envelope: &Envelope, global: &Global) {
    if global.json {
        return output::json(envelope);
    }
    match (&envelope.result, &envelope.error) {
        (Some(outcome), _) => output::line(&outcome.text),
        (None, Some(error)) => output::task_error(error),
        (None, None) => {}
    }
}
