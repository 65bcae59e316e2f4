//! `witan tasks`: the tasks of a running host.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use uuid::Uuid;
use witan_api::List;
use witan_tasks::{Event, Happened, TaskEvent, TaskView};

use super::running::Target;
use crate::{Global, client::Client, output};

#[derive(Args)]
#[command(after_help = "Examples:
  witan tasks list --state failed
  witan tasks list --metadata ticket=7 --json
  witan tasks show 0190163d-8694-739b-aea5-966c26f8ad91
  witan tasks cancel 0190163d-8694-739b-aea5-966c26f8ad91
  witan tasks events 0190163d-8694-739b-aea5-966c26f8ad91")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List tasks, the newest first.
    List {
        #[command(flatten)]
        target: Target,
        /// Those that stand here, such as `queued` or `failed`.
        #[arg(long)]
        state: Option<String>,
        /// Those with this intent.
        #[arg(long)]
        intent: Option<String>,
        /// Those with this key in their metadata, or with this value there.
        #[arg(long, value_name = "KEY[=VALUE]")]
        metadata: Option<String>,
        /// How many.
        #[arg(short = 'n', long, default_value_t = 20, value_parser = clap::value_parser!(u8).range(1..=100))]
        limit: u8,
        /// Those before this one: the last of the list before.
        #[arg(long, value_name = "TASK")]
        after: Option<Uuid>,
    },
    /// Show a task, with its result once it has ended.
    Show(One),
    /// Cancel a task, and wait for its end.
    Cancel(One),
    /// Hold back a task that waits for its turn.
    Pause(One),
    /// Let a task that is paused wait for its turn again.
    Resume(One),
    /// Submit a task that has failed or was cancelled again, as a new one.
    Retry(One),
    /// Print what happens to a task, until its end.
    Events(One),
}

#[derive(Args)]
struct One {
    /// The task.
    task: Uuid,
    #[command(flatten)]
    target: Target,
}

pub(crate) async fn run(arguments: Arguments, global: &Global) -> anyhow::Result<ExitCode> {
    match arguments.command {
        Command::List { target, state, intent, metadata, limit, after } => {
            let after = after.map(|after| after.to_string());
            let asked = [("state", state), ("intent", intent), ("metadata", metadata), ("after", after)];
            let asked = asked.into_iter().filter_map(|(name, value)| Some((name, value?)));
            let mut query = url::form_urlencoded::Serializer::new(format!("limit={limit}"));
            query.extend_pairs(asked);
            list(&target.client(global)?.get(&format!("v1/tasks?{}", query.finish())).await?, global);
        }
        Command::Show(one) => {
            let path = format!("v1/tasks/{}", one.task);
            show(&one.target.client(global)?.get(&path).await?, global);
        }
        Command::Cancel(one) => act(&one, "cancel", global).await?,
        Command::Pause(one) => act(&one, "pause", global).await?,
        Command::Resume(one) => act(&one, "resume", global).await?,
        Command::Retry(one) => act(&one, "retry", global).await?,
        Command::Events(one) => events(&one, global).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn act(one: &One, action: &str, global: &Global) -> anyhow::Result<()> {
    let (client, path) = (one.target.client(global)?, format!("v1/tasks/{}/{action}", one.task));
    show(&client.post(&path, &serde_json::json!({})).await?, global);
    Ok(())
}

fn list(list: &List<TaskView>, global: &Global) {
    if global.json {
        return output::json(list);
    }
    output::line(&format!("{:36} {:12} {:20} {}", "TASK", "STATE", "INTENT", "ACCEPTED"));
    for task in &list.data {
        let accepted = time(task.created_at_ms);
        output::line(&format!("{} {:12} {:20} {accepted}", task.id, task.state.name(), task.intent));
    }
    if let (true, Some(last)) = (list.has_more, &list.last_id) {
        output::note(&format!("there are more: `--after {last}`"));
    }
}

fn time(ms: u64) -> String {
    let at = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    at.map_or_else(String::new, |at| at.to_string())
}

fn show(task: &TaskView, global: &Global) {
    if global.json {
        return output::json(task);
    }
    let rows = [
        ("task", task.id.to_string()),
        ("state", task.state.name().to_owned()),
        ("intent", task.intent.clone()),
        ("accepted", time(task.created_at_ms)),
        ("started", task.started_at_ms.map(time).unwrap_or_default()),
        ("ended", task.finished_at_ms.map(time).unwrap_or_default()),
        ("attempt", task.attempt.to_string()),
    ];
    for (name, value) in rows.into_iter().filter(|(_, value)| !value.is_empty()) {
        output::line(&format!("{name:9} {value}"));
    }
    let Some(envelope) = &task.envelope else { return };
    match (&envelope.result, &envelope.error) {
        (Some(outcome), _) => output::line(&format!("\n{}", outcome.text)),
        (None, Some(error)) => output::task_error(error),
        (None, None) => {}
    }
}

/// Prints events as they come. They are lines of server-sent events, of which each has its data in one.
async fn events(one: &One, global: &Global) -> anyhow::Result<()> {
    let client: Client = one.target.client(global)?;
    let mut answer = client.stream(&format!("v1/tasks/{}/events", one.task)).await?;
    let mut rest = Vec::new();
    while let Some(bytes) = answer.chunk().await.context("the host ended its answer early")? {
        rest.extend_from_slice(&bytes);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            if let Some(data) = line.trim_end().strip_prefix("data: ") {
                tell(data, global);
            }
        }
    }
    Ok(())
}

fn tell(data: &str, global: &Global) {
    if global.json {
        return output::line(data);
    }
    // The last is the envelope, which `show` shows.
    let Ok(event) = serde_json::from_str::<TaskEvent>(data) else { return };
    let text = match event.happened {
        Happened::Moved(witan_tasks::Moved::State { state }) => state.name().to_owned(),
        Happened::Told(Event::Progress { stage, done, total }) => format!("{stage} {done}/{total}"),
        Happened::Told(Event::Text { text } | Event::Notice { text }) => text,
    };
    let text: String = text
        .chars()
        .flat_map(|char| match char.is_control() {
            true => char.escape_default().collect(),
            false => vec![char],
        })
        .collect();
    output::line(&format!("{} {text}", time(event.at_ms)));
}
