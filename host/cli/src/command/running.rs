//! `witan status`, `ps`, `logs` and `stop`: what a running host says of itself, and its end.

use std::{process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::Value;
use url::Url;
use witan_api::{ComponentStatus, HostStatus, List, LogLevel};
use witan_system::System;
use witan_telemetry::LogRecord;

use crate::{Global, client::Client, egress::CaArgument, output, owner, source};

#[derive(Args)]
pub(crate) struct Target {
    /// The host. Without it, the one that runs on this folder's system.
    #[arg(long, value_name = "URL")]
    server: Option<Url>,
    #[command(flatten)]
    ca: CaArgument,
}

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Logs {
    #[command(flatten)]
    target: Target,
    /// Go on with what comes.
    #[arg(short, long)]
    follow: bool,
    /// Lines to begin with.
    #[arg(short = 'n', long, default_value_t = 100, value_name = "LINES")]
    lines: usize,
    #[command(subcommand)]
    action: Option<LogsAction>,
}

#[derive(Subcommand)]
enum LogsAction {
    /// Say what the host logs, or change that until it ends.
    #[command(after_help = "Examples:
  witan logs level                           say what is logged
  witan logs level debug                     log more
  witan logs level info,witan_http=trace     log all of one part")]
    Level {
        /// A level, or a filter. Only whoever may read the host's state folder changes it.
        filter: Option<String>,
    },
}

/// The host that runs on this folder's system, and a client of it.
pub(super) fn announced(global: &Global) -> anyhow::Result<(witan_api::Running, Client)> {
    announced_on(&System::load(&source::find(global)?)?)
}

/// The same of `system`.
fn announced_on(system: &System) -> anyhow::Result<(witan_api::Running, Client)> {
    let state = &system.host.state;
    let running = witan_api::Running::read(state)
        .with_context(|| format!("cannot read `host.json` in `{}`", state.display()))?
        .with_context(|| format!("no host runs on `{}`; start one with `witan up`", state.display()))?;
    let url: Url = running.url.parse().context("`host.json` names no address")?;
    let client = match &system.host.tls {
        Some(tls) if url.scheme() == "https" => Client::pinned(url, &tls.certificate)?,
        _ => Client::new(url, &CaArgument::usual())?,
    };
    let client = client.with_token(running.token.clone());
    Ok((running, client))
}

impl Target {
    pub(crate) fn client(&self, global: &Global) -> anyhow::Result<Client> {
        match &self.server {
            Some(url) => Client::new(url.clone(), &self.ca),
            None => Ok(announced(global)?.1),
        }
    }
}

pub(crate) async fn status(target: &Target, global: &Global) -> anyhow::Result<ExitCode> {
    let status: HostStatus = target.client(global)?.get("v1/host").await?;
    if global.json {
        output::json(&status);
        return Ok(ExitCode::SUCCESS);
    }
    let state = serde_json::to_value(status.state).ok();
    let rows = [
        ("state", state.as_ref().and_then(Value::as_str).unwrap_or("?").to_owned()),
        ("system", status.system),
        ("listens", status.listen.unwrap_or_default()),
        ("process", status.pid.to_string()),
        ("up", witan_system::format_duration(Duration::from_secs(status.uptime_ms / 1000))),
        ("memory", status.resident_bytes.map_or_else(String::new, |bytes| format!("{} MiB", bytes >> 20))),
        ("tasks", status.tasks_unfinished.to_string()),
        ("intents", status.intents.join(", ")),
        ("mounts", status.mounts.join(", ")),
        ("components", status.components.to_string()),
    ];
    for (name, value) in rows {
        output::line(format!("{name:11} {value}").trim_end());
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn ps(target: &Target, global: &Global) -> anyhow::Result<ExitCode> {
    let list: List<ComponentStatus> = target.client(global)?.get("v1/components").await?;
    if global.json {
        output::json(&list.data);
        return Ok(ExitCode::SUCCESS);
    }
    output::line(&format!(
        "{:20} {:>7} {:>8} {:>10} {:>8} {:>8} {:>10}  {}",
        "COMPONENT", "ACTIVE", "WAITING", "COMPLETED", "TRAPPED", "REFUSED", "CPU", "DIGEST"
    ));
    for one in list.data {
        let digest = one.digest.get(..12).unwrap_or(&one.digest);
        let breaker = if one.breaker_open { " (breaker open)" } else { "" };
        output::line(&format!(
            "{:20} {:>7} {:>8} {:>10} {:>8} {:>8} {:>8}ms  {digest}{breaker}",
            one.name, one.active, one.waiting, one.completed, one.trapped, one.refused, one.cpu_ms
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// How often a follower asks for more.
const POLL: Duration = Duration::from_millis(500);

pub(crate) async fn logs(arguments: &Logs, global: &Global) -> anyhow::Result<ExitCode> {
    if let Some(LogsAction::Level { filter }) = &arguments.action {
        return level(filter.as_deref(), global).await;
    }
    tokio::select! {
        shown = show(arguments, global) => shown,
        _ = tokio::signal::ctrl_c() => Ok(ExitCode::SUCCESS),
    }
}

async fn level(filter: Option<&str>, global: &Global) -> anyhow::Result<ExitCode> {
    let (_, client) = announced(global)?;
    let level: LogLevel = match filter {
        Some(filter) => client.set_log_level(filter).await?,
        None => client.get("v1/logs/level").await?,
    };
    match global.json {
        true => output::json(&level),
        false => output::line(&level.filter),
    }
    Ok(ExitCode::SUCCESS)
}

async fn show(arguments: &Logs, global: &Global) -> anyhow::Result<ExitCode> {
    let client = arguments.target.client(global)?;
    // One line tells where to go on, where none is to be shown.
    let begin = arguments.lines.max(1);
    let mut list: List<LogRecord> = client.get(&format!("v1/host/logs?limit={begin}")).await?;
    let mut last = 0;
    let mut shown = arguments.lines > 0;
    loop {
        for record in &list.data {
            last = record.sequence;
            if shown {
                print(record, global);
            }
        }
        shown = true;
        if !arguments.follow {
            return Ok(ExitCode::SUCCESS);
        }
        if !list.has_more {
            tokio::time::sleep(POLL).await;
        }
        list = client.get(&format!("v1/host/logs?after={last}")).await.context("the host can no longer be followed")?;
    }
}

fn print(record: &LogRecord, global: &Global) {
    if global.json {
        if let Ok(line) = serde_json::to_string(record) {
            output::line(&line);
        }
        return;
    }
    output::line(&record.to_string());
}

/// How long a host may take to end before `stop` says that it has not.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn stop(global: &Global) -> anyhow::Result<ExitCode> {
    let system = System::load(&source::find(global)?)?;
    let (running, client) = announced_on(&system)?;
    client.stop().await?;
    // It has the folder until it has written all that it had to.
    let has_folder =
        || owner::current(&system.host.state).is_ok_and(|who| who.is_some_and(|who| who.pid == running.pid));
    let ended = async {
        while client.get::<Value>("v1/host").await.is_ok() || has_folder() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ended)
        .await
        .context("the host still finishes what is under way; look with `witan status`")?;
    match global.json {
        true => output::json(&serde_json::json!({ "stopped": running.pid })),
        false => output::line(&format!("stopped the host with process {}", running.pid)),
    }
    Ok(ExitCode::SUCCESS)
}
