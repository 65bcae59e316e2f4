//! `witan audit verify`, `show`, `export`, `checkpoint`, `erase` and `rotate-key`: the ledger of a host, running or not.

use std::{
    fs::File,
    io::{BufReader, BufWriter, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};
use url::Url;
use uuid::Uuid;
use witan_api::{AuditCheckpoint, AuditConsistency, AuditEntry, List};
use witan_ledger::{Filter, Kind, Ledger, Placed, Reader, TimedCheckpoint, Verdict, kept_in, public_key};
use witan_system::System;

use crate::{Global, client::Client, egress::CaArgument, ledger, output, owner, source};

/// Entries of one page that a running host is asked for.
const PAGE: usize = 500;

#[derive(Args)]
#[command(after_help = "Examples:
  witan audit verify                                        by itself: nothing was changed in place
  witan audit verify --key key.pem --against sink.jsonl     nothing was written anew, either
  witan audit verify --server https://host.example --key key.pem --against kept.txt
  witan audit verify --export task.jsonl --key key.pem      an export, without the host

Exit code: 0 where all holds, 1 where something does not. It holds also where the newest entries are under no checkpoint
yet: those of up to `[host.ledger] checkpoint` (1s), which a host that was killed leaves, and the next one signs within
that time after its start. A ledger by itself cannot show that all of it was written anew, since whoever can write the
folder can read its key: keep a checkpoint elsewhere.")]
pub(crate) struct Verify {
    /// The folder of a ledger. Without it, the one of this folder's system.
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["export", "server"])]
    folder: Option<PathBuf>,
    /// A key of the ledger in PEM, known from elsewhere: the one that signs now, or one before it.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Checkpoints that were kept elsewhere: a signed note, or the file of a sink.
    #[arg(long, value_name = "FILE")]
    against: Vec<PathBuf>,
    /// Verify an export instead of a ledger.
    #[arg(long, value_name = "FILE", requires = "key", conflicts_with = "against")]
    export: Option<PathBuf>,
    /// Ask a running host for its checkpoint, and hold it to those that were kept.
    #[arg(long, value_name = "URL", requires = "key", conflicts_with = "export")]
    server: Option<Url>,
    #[command(flatten)]
    ca: CaArgument,
}

/// Which entries are asked for.
#[derive(Args)]
struct Which {
    /// Of a kind: decision, load, grant, task, administration, egress or ledger.
    #[arg(long)]
    kind: Option<Kind>,
    /// Of a tenant.
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// By or about a person.
    #[arg(long, value_name = "NAME")]
    principal: Option<String>,
    /// Of a component.
    #[arg(long, value_name = "NAME")]
    component: Option<String>,
    /// Refusals alone.
    #[arg(long)]
    deny: bool,
    /// The decision with this id, and what follows from it.
    #[arg(long, value_name = "ID")]
    decision: Option<Uuid>,
    /// Of a task.
    #[arg(long, value_name = "ID")]
    task: Option<Uuid>,
    /// Not before: a time such as `2026-11-21T10:00:00Z`, or how long ago, such as `2h`.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<u64>,
    /// Not after.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<u64>,
}

impl Which {
    fn filter(&self) -> Filter {
        Filter {
            since_ms: self.since,
            until_ms: self.until,
            kind: self.kind,
            tenant: self.tenant.clone(),
            principal: self.principal.clone(),
            component: self.component.clone(),
            decision: self.deny.then_some(Verdict::Deny),
            decision_id: self.decision,
            task: self.task,
        }
    }

    /// As a query of the HTTP API.
    fn query(&self) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                query.append_pair(name, &value);
            }
        };
        add("since_ms", self.since.map(|time| time.to_string()));
        add("until_ms", self.until.map(|time| time.to_string()));
        add("kind", self.kind.map(|kind| kind.name().to_owned()));
        add("tenant", self.tenant.clone());
        add("principal", self.principal.clone());
        add("component", self.component.clone());
        add("decision", self.deny.then(|| "deny".to_owned()));
        add("decision_id", self.decision.map(|id| id.to_string()));
        add("task", self.task.map(|id| id.to_string()));
        query.finish()
    }
}

#[derive(Args)]
#[command(after_help = "Examples:
  witan audit show --last 20
  witan audit show --deny --component summarize --since 2h
  witan audit show --decision 0199aa3e-… --json
  witan audit show --server http://127.0.0.1:8080 --kind administration")]
pub(crate) struct Show {
    #[command(flatten)]
    which: Which,
    /// The newest ones, this many at most.
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    last: usize,
    /// Ask a running host.
    #[arg(long, value_name = "URL")]
    server: Option<Url>,
    #[command(flatten)]
    ca: CaArgument,
}

#[derive(Args)]
#[command(after_help = "Examples:
  witan audit export --out ledger.jsonl
  witan audit export --task 0199aa3e-… --out task.jsonl

Whoever has the file and the key that `witan audit checkpoint` prints can verify it with `witan audit verify --export`.")]
pub(crate) struct Export {
    #[command(flatten)]
    which: Which,
    /// The file; without it, standard output.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Args)]
#[command(after_help = "Examples:
  witan audit checkpoint > kept.txt              to be kept elsewhere, for `witan audit verify --against kept.txt`
  witan audit checkpoint --key-only > key.pem    to be kept elsewhere, for `witan audit verify --key key.pem`")]
pub(crate) struct Checkpoint {
    /// Print the key alone, in PEM.
    #[arg(long)]
    key_only: bool,
    /// Ask a running host.
    #[arg(long, value_name = "URL")]
    server: Option<Url>,
    #[command(flatten)]
    ca: CaArgument,
}

#[derive(Args)]
#[command(after_help = "Examples:
  witan audit erase --tenant acme --principal key/3fa9…
  witan audit erase --tenant acme --all

It cannot be taken back. Copies of the state folder hold the keys as long as they are kept.")]
pub(crate) struct Erase {
    /// The tenant.
    #[arg(long, value_name = "NAME", default_value = "local")]
    tenant: String,
    /// The person.
    #[arg(long, value_name = "NAME", required_unless_present = "all")]
    principal: Option<String>,
    /// Everyone in the tenant.
    #[arg(long, conflicts_with = "principal")]
    all: bool,
}

/// An entry, as programs read it.
#[derive(Serialize, Deserialize)]
struct Shown {
    index: u64,
    erased: bool,
    entry: Option<witan_ledger::Entry>,
}

/// A time, or how long ago, in milliseconds since the Unix epoch.
fn moment(text: &str) -> Result<u64, String> {
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return u64::try_from(time.as_millisecond()).map_err(|_| "a time before 1970 finds nothing".to_owned());
    }
    let ago = witan_system::parse_duration(text)
        .ok_or_else(|| format!("`{text}` is no time; write it such as `2026-11-21T10:00:00Z`, `30m` or `2h`"))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(u64::try_from(now.saturating_sub(ago).as_millis()).unwrap_or(u64::MAX))
}

fn system(global: &Global) -> anyhow::Result<System> {
    Ok(System::load(&source::find(global)?)?)
}

fn folder(global: &Global) -> anyhow::Result<PathBuf> {
    Ok(ledger::folder(&system(global)?.host.state))
}

pub(crate) async fn verify(arguments: &Verify, global: &Global) -> anyhow::Result<ExitCode> {
    let key = arguments.key.as_deref().map(public_key).transpose()?;
    let mut kept = Vec::new();
    for file in &arguments.against {
        kept.extend(kept_in(file)?);
    }
    if let (Some(file), Some(key)) = (&arguments.export, &key) {
        return verify_export(file, key, global);
    }
    if let (Some(server), Some(key)) = (&arguments.server, &key) {
        return verify_server(Client::new(server.clone(), &arguments.ca)?, key, &kept, global).await;
    }
    let folder = match &arguments.folder {
        Some(folder) => folder.clone(),
        None => folder(global)?,
    };
    let report = witan_ledger::verify(&folder, key.as_ref(), &kept)?;
    let code = if report.holds { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if global.json {
        output::json(&report);
        return Ok(code);
    }
    for fault in &report.faults {
        output::line(&plain(&format!("FAULT: {fault}")));
    }
    let holds = if report.holds { "holds" } else { "does not hold" };
    let under = match (report.size, report.time) {
        (size, None) => format!("{size} entries under a checkpoint that is bound to no time"),
        (size, time) => format!("{size} entries under the checkpoint {}", at(time)),
    };
    output::line(&format!("`{}` {holds}: {under}", report.origin));
    let rows = [
        (report.erased, "were erased"),
        (report.dropped, "were dropped"),
        (report.pending, "are whole and under no checkpoint yet: that the last of them were removed would not be seen"),
    ];
    for (count, what) in rows.into_iter().filter(|(count, _)| *count > 0) {
        output::line(&format!("  {count} {what}"));
    }
    match report.kept {
        0 => {
            output::note("no checkpoint from elsewhere was compared: that all of it was written anew would not be seen")
        }
        count => output::line(&format!("  {count} checkpoints that were kept elsewhere are part of it")),
    }
    if !report.pinned {
        output::note("the key is the one that lies there; `--key` holds it to one that is known from elsewhere");
    }
    Ok(code)
}

fn verify_export(file: &Path, key: &witan_ledger::PublicKey, global: &Global) -> anyhow::Result<ExitCode> {
    let opened = File::open(file).with_context(|| format!("cannot read `{}`", file.display()))?;
    let exported = witan_ledger::verify_export(&mut BufReader::new(opened), key)
        .with_context(|| format!("`{}` does not hold", file.display()))?;
    if global.json {
        output::json(&exported);
        return Ok(ExitCode::SUCCESS);
    }
    let all = if exported.complete { "all" } else { "part" };
    output::line(&format!(
        "`{}` holds: {} entries, {all} of the {} that `{}` had {}",
        file.display(),
        exported.entries,
        exported.size,
        exported.origin,
        at(exported.time)
    ));
    if exported.erased > 0 {
        output::line(&format!("  {} were erased", exported.erased));
    }
    Ok(ExitCode::SUCCESS)
}

/// Holds what a running host shows to a key, and to what it showed before.
async fn verify_server(
    client: Client,
    key: &witan_ledger::PublicKey,
    kept: &[String],
    global: &Global,
) -> anyhow::Result<ExitCode> {
    let shown: AuditCheckpoint = client.get("v1/audit/checkpoint").await?;
    let keys = witan_ledger::HostKeys::from_lines(&shown.keys)?;
    let now = TimedCheckpoint::verified(&shown.checkpoint, &keys, Some(key))?;
    for note in kept {
        let before = TimedCheckpoint::verified(note, &keys, None)?.checkpoint;
        let (old, size) = (before.size(), now.checkpoint.size());
        ensure!(old <= size, "the ledger has {size} entries, and had {old}: its end was removed");
        let path = format!("v1/audit/proof?from={old}&size={size}");
        let proof: AuditConsistency = client.get(&path).await?;
        let hashes = proof.hashes().context("the host's proof has something that is no hash")?;
        witan_merkle_log::verify_consistency(old, size, &hashes, &before.root(), &now.checkpoint.root())
            .with_context(|| format!("the first {old} entries are not those of the checkpoint that was kept"))?;
    }
    let (origin, size) = (keys.origin(), now.checkpoint.size());
    if global.json {
        output::json(&serde_json::json!({
            "holds": true, "origin": origin, "size": size, "time": now.time, "kept": kept.len(),
        }));
    } else {
        output::line(&format!("`{origin}` shows {size} entries {}", at(now.time)));
        output::line(&format!("  {} checkpoints that were kept elsewhere are part of it", kept.len()));
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn show(arguments: &Show, global: &Global) -> anyhow::Result<ExitCode> {
    let shown = match &arguments.server {
        Some(server) => of_server(server, arguments).await?,
        None => of_folder(&folder(global)?, arguments)?,
    };
    if global.json {
        output::json(&shown);
        return Ok(ExitCode::SUCCESS);
    }
    for shown in &shown {
        output::line(&plain(&in_a_line(shown)));
    }
    Ok(ExitCode::SUCCESS)
}

fn of_folder(folder: &Path, arguments: &Show) -> anyhow::Result<Vec<Shown>> {
    let (reader, filter) = (Reader::open(folder)?, arguments.which.filter());
    let (mut found, mut cursor): (Vec<Placed>, _) = (Vec::new(), None);
    while found.len() < arguments.last {
        let page = reader.before(&filter, cursor, arguments.last - found.len())?;
        found.extend(page.entries);
        cursor = page.cursor;
        if !page.more {
            break;
        }
    }
    let shown = |placed: Placed| Shown { index: placed.index, erased: placed.entry.is_none(), entry: placed.entry };
    Ok(found.into_iter().rev().map(shown).collect())
}

async fn of_server(server: &Url, arguments: &Show) -> anyhow::Result<Vec<Shown>> {
    let (client, query) = (Client::new(server.clone(), &arguments.ca)?, arguments.which.query());
    let (mut found, mut after): (Vec<AuditEntry>, Option<String>) = (Vec::new(), None);
    while found.len() < arguments.last {
        let limit = (arguments.last - found.len()).min(PAGE);
        let after_part = after.map(|after| format!("&after={after}")).unwrap_or_default();
        let path = format!("v1/audit/entries?order=desc&limit={limit}{after_part}&{query}");
        let page: List<AuditEntry> = client.get(path.trim_end_matches('&')).await?;
        found.extend(page.data);
        after = page.last_id;
        if !page.has_more || after.is_none() {
            break;
        }
    }
    let shown = |entry: AuditEntry| -> anyhow::Result<Shown> {
        let read = entry.entry.map(serde_json::from_value).transpose().context("the host sent an unknown entry")?;
        Ok(Shown { index: entry.index, erased: entry.erased, entry: read })
    };
    found.into_iter().rev().map(shown).collect()
}

fn in_a_line(shown: &Shown) -> String {
    let Some(entry) = &shown.entry else { return format!("{:>8}  erased", shown.index) };
    let time = i64::try_from(entry.time_ms).ok().and_then(|time| jiff::Timestamp::from_millisecond(time).ok());
    let time = time.map(|time| time.to_string()).unwrap_or_default();
    let verdict = match entry.decision {
        Verdict::Allow => "allow",
        Verdict::Deny => "DENY",
    };
    let who = format!("{}/{}", entry.tenant, entry.principal);
    let component = entry.component.as_deref().map(|name| format!(" {name}")).unwrap_or_default();
    let reason = entry.reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    let (kind, action, resource) = (entry.kind.name(), &entry.action, &entry.resource);
    format!("{:>8}  {time}  {verdict:5}  {kind:9} {who}{component}: {action} {resource}{reason}", shown.index)
}

pub(crate) fn export(arguments: &Export, global: &Global) -> anyhow::Result<ExitCode> {
    let folder = folder(global)?;
    let (reader, filter) = (Reader::open(&folder)?, arguments.which.filter());
    let Some(path) = &arguments.out else {
        witan_ledger::export(&reader, &filter, &mut BufWriter::new(std::io::stdout().lock()))?;
        return Ok(ExitCode::SUCCESS);
    };
    let mut file = BufWriter::new(File::create(path).with_context(|| format!("cannot write `{}`", path.display()))?);
    let exported = witan_ledger::export(&reader, &filter, &mut file)?;
    file.flush()?;
    match global.json {
        true => output::json(&exported),
        false => output::line(&format!("{} entries are in `{}`", exported.entries, path.display())),
    }
    Ok(ExitCode::SUCCESS)
}

/// What `witan audit checkpoint` says, as programs read it.
#[derive(Serialize)]
struct Checkpointed {
    origin: String,
    size: u64,
    time: Option<u64>,
    checkpoint: String,
    /// In PEM.
    key: String,
    /// As C2SP's tools read it.
    verifier: Option<String>,
}

pub(crate) async fn checkpoint(arguments: &Checkpoint, global: &Global) -> anyhow::Result<ExitCode> {
    let (keys, newest) = match &arguments.server {
        Some(server) => {
            let shown: AuditCheckpoint = Client::new(server.clone(), &arguments.ca)?.get("v1/audit/checkpoint").await?;
            let keys = witan_ledger::HostKeys::from_lines(&shown.keys)?;
            let newest = TimedCheckpoint::verified(&shown.checkpoint, &keys, None)?;
            (keys, newest)
        }
        None => here(global)?,
    };
    let key = keys.current();
    let checkpointed = Checkpointed {
        origin: keys.origin().to_owned(),
        size: newest.checkpoint.size(),
        time: newest.time,
        checkpoint: newest.checkpoint.note().to_owned(),
        key: key.pem(),
        verifier: key.verifier_key(keys.origin()),
    };
    match (global.json, arguments.key_only) {
        (true, _) => output::json(&checkpointed),
        (false, true) => output::line(checkpointed.key.trim_end()),
        (false, false) => {
            output::line(checkpointed.checkpoint.trim_end());
            output::note(&format!("made {}; its key: witan audit checkpoint --key-only", at(newest.time)));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A checkpoint of all that is written here. Where a host runs, that one makes it.
fn here(global: &Global) -> anyhow::Result<(witan_ledger::HostKeys, TimedCheckpoint)> {
    let system = system(global)?;
    let folder = ledger::folder(&system.host.state);
    // Whether there is one is asked before one would be made.
    let reader = Reader::open(&folder)?;
    let ledger = ledger::open(&system)?;
    tokio::task::block_in_place(|| ledger.checkpoint()).map_err(anyhow::Error::msg)?;
    ledger.close();
    let newest = reader.checkpoint()?.context("the ledger has no entries yet")?;
    Ok((reader.host_keys()?, newest))
}

pub(crate) fn erase(arguments: &Erase, global: &Global) -> anyhow::Result<ExitCode> {
    let system = system(global)?;
    Reader::open(&ledger::folder(&system.host.state))?;
    let ledger = ledger::open(&system)?;
    let person = arguments.principal.as_deref();
    let erased = tokio::task::block_in_place(|| ledger.erase(&arguments.tenant, person, "local/local"))?;
    tokio::task::block_in_place(|| ledger.close());
    match global.json {
        true => output::json(&erased),
        false => output::line(&format!(
            "{} keys are destroyed: what was written of them says nothing any more, and the ledger verifies as before",
            erased.keys.len()
        )),
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn rotate_key(global: &Global) -> anyhow::Result<ExitCode> {
    let system = system(global)?;
    let folder = ledger::folder(&system.host.state);
    Reader::open(&folder)?;
    let _owner = owner::alone(&system.host.state, "audit rotate-key", "stop it first with `witan stop`").await?;
    let keys = tokio::task::block_in_place(|| Ledger::rotate_key(&folder, "local/local"))?;
    let key = keys.current();
    match global.json {
        true => output::json(&serde_json::json!({ "key": key.pem(), "keys": keys.all().len() })),
        false => {
            output::line(key.pem().trim_end());
            output::note("checkpoints are signed with this key now; those that know a key before it can verify them");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// When a checkpoint was made, in words.
fn at(time: Option<u64>) -> String {
    let time = time.and_then(|time| jiff::Timestamp::from_second(i64::try_from(time).ok()?).ok());
    time.map_or_else(|| "at no time that is signed".to_owned(), |time| format!("at {time}"))
}

/// A text with its control characters escaped: parts of it were chosen by guests.
fn plain(text: &str) -> String {
    let hidden = |char: char| {
        char.is_control() || ('\u{202a}'..='\u{202e}').contains(&char) || ('\u{2066}'..='\u{2069}').contains(&char)
    };
    text.chars()
        .flat_map(|char| if hidden(char) { char.escape_default().collect::<Vec<_>>() } else { vec![char] })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_time_or_how_long_ago() {
        assert_eq!(moment("1970-01-01T00:00:01Z").unwrap(), 1_000);
        let hour = moment("1h").unwrap();
        let now = moment("0s").unwrap();
        assert!((3_590_000..=3_610_000).contains(&(now - hour)));
        assert!(moment("yesterday").is_err());
        assert_eq!(plain("a\u{1b}[31m\u{202e}b"), "a\\u{1b}[31m\\u{202e}b");
    }
}
