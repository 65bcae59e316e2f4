//! `witan doctor`: what is wrong with a host, its data and its surroundings, each with what to do about it.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::Args;
use rustix::process::{Resource, getrlimit};
use serde::Serialize;
use witan_secrets::Secrets;
use witan_system::{SecretSource, System};

use crate::{
    Global, output, owner,
    policies::{self, InFiles},
    source, supply,
};

#[derive(Args)]
#[command(
    after_help = "Exit code: 0 where nothing is wrong, 1 where something is, 3 where something should be looked at.

Examples:
  witan doctor
  witan doctor --json | jq '.[] | select(.state != \"ok\")'
  witan doctor --offline                    without asking registries"
)]
pub(crate) struct Arguments {
    /// Ask nobody on the network.
    #[arg(long)]
    offline: bool,
}

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    /// As it should be.
    Ok,
    /// Not wrong yet.
    Warning,
    /// Wrong.
    Problem,
}

/// What was found.
#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    state: State,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

fn ok(check: &'static str, message: impl Into<String>) -> Finding {
    Finding { check, state: State::Ok, message: message.into(), remedy: None }
}

fn warning(check: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { check, state: State::Warning, message: message.into(), remedy: Some(remedy.into()) }
}

fn problem(check: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { check, state: State::Problem, message: message.into(), remedy: Some(remedy.into()) }
}

/// Free space below which a host soon stops to take tasks, and below which it is to be looked at.
const DISK_LEAST: u64 = 100 << 20;
const DISK_LITTLE: u64 = 1 << 30;

/// Files that a host opens at once in ordinary use: connections, guests' sockets, stores.
const FILES: u64 = 8_192;

/// How long before its end a certificate is to be renewed.
const RENEW: Duration = Duration::from_secs(14 * 24 * 3_600);

/// 2026-01-01. This program is younger.
const YOUNGEST_CLOCK: u64 = 1_767_225_600;

pub(crate) async fn run(arguments: &Arguments, global: &Global) -> anyhow::Result<ExitCode> {
    let findings = match source::find(global).and_then(|path| Ok(System::load(&path)?)) {
        Ok(system) => examine(&system, arguments.offline).await,
        Err(error) => {
            vec![problem("system", format!("{error:#}"), "correct system.toml; `witan check` says all of it")]
        }
    };
    if global.json {
        output::json(&findings);
    } else {
        print(&findings);
    }
    Ok(ExitCode::from(match findings.iter().map(|finding| finding.state).max() {
        Some(State::Problem) => 1,
        Some(State::Warning) => 3,
        _ => 0,
    }))
}

fn print(findings: &[Finding]) {
    for finding in findings {
        let state = match finding.state {
            State::Ok => "ok",
            State::Warning => "warning",
            State::Problem => "problem",
        };
        output::line(&format!("{state:8} {:10} {}", finding.check, finding.message));
        if let Some(remedy) = &finding.remedy {
            output::line(&format!("{:19} help: {remedy}", ""));
        }
    }
}

async fn examine(system: &System, offline: bool) -> Vec<Finding> {
    let state = &system.host.state;
    let mut findings = vec![ok("system", format!("`{}` is sound", system.origin.file().display()))];
    findings.extend(folder(state));
    findings.push(owned(state));
    findings.push(disk(state));
    findings.push(clock(state));
    findings.push(limits());
    findings.extend(tls(system));
    findings.push(database(system).await);
    findings.extend(secrets(system));
    findings.extend(ledger(state));
    findings.extend(trust(system));
    findings.extend(policies(system));
    findings.extend(egress(system));
    if !offline {
        findings.extend(registries(system).await);
        findings.extend(collector(system).await);
    }
    findings
}

/// Who may read and write the data folder and what is secret in it.
fn folder(state: &Path) -> Vec<Finding> {
    let Ok(metadata) = fs::metadata(state) else {
        return vec![ok("folder", format!("there is no data folder `{}` yet; the host makes it", state.display()))];
    };
    let mut findings = Vec::new();
    let (me, mode) = (rustix::process::geteuid().as_raw(), metadata.permissions().mode() & 0o777);
    let path = state.display();
    if metadata.uid() != me {
        let remedy = format!("run as the user who owns it, or `chown -R $(id -u) {path}`");
        findings.push(problem("folder", format!("`{path}` belongs to the user {}", metadata.uid()), remedy));
    }
    if mode & 0o022 != 0 {
        findings.push(problem(
            "folder",
            format!("others may write into `{path}`, whose mode is {mode:o}"),
            format!("chmod 700 {path}"),
        ));
    }
    for name in ["secrets.key", "secrets.json", "code.key", "host.json", "witan.db", "ledger/keys"] {
        let file = state.join(name);
        let Ok(metadata) = fs::metadata(&file) else { continue };
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            let message = format!("others may use `{}`, whose mode is {mode:o}", file.display());
            findings.push(problem("folder", message, format!("chmod 600 {}", file.display())));
        }
    }
    if findings.is_empty() {
        findings.push(ok("folder", format!("`{path}` is this user's alone to write")));
    }
    findings
}

fn owned(state: &Path) -> Finding {
    match owner::current(state) {
        Ok(Some(who)) => ok("owner", format!("`witan {}` has the data folder, process {}", who.command, who.pid)),
        Ok(None) if state.join("host.json").exists() => {
            ok("owner", "nobody has the data folder; the host that ran last ended without saying so")
        }
        Ok(None) => ok("owner", "nobody has the data folder"),
        Err(error) => problem("owner", format!("{error:#}"), "see who may read the data folder"),
    }
}

/// The nearest folder that there is.
fn existing(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    absolute.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/")).to_owned()
}

fn disk(state: &Path) -> Finding {
    let about = match rustix::fs::statvfs(existing(state)) {
        Ok(about) => about,
        Err(error) => return warning("disk", format!("cannot tell what is free: {error}"), "look with `df`"),
    };
    let free = about.f_bavail.saturating_mul(about.f_frsize);
    let message = format!("{} MiB are free for `{}`", free >> 20, state.display());
    let remedy = "make room, or move `host.state` to a larger disk";
    let no_files = about.f_files > 0 && about.f_favail < 1_000;
    match free {
        ..DISK_LEAST => problem("disk", message, remedy),
        DISK_LEAST..DISK_LITTLE => warning("disk", message, remedy),
        _ if no_files => problem("disk", format!("{} more files fit on the disk", about.f_favail), remedy),
        _ => ok("disk", message),
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// Signatures, certificates and tokens are judged by the clock.
fn clock(state: &Path) -> Finding {
    let now = seconds(SystemTime::now());
    let remedy = "set the clock, and keep it with NTP (`timedatectl set-ntp true`)";
    if now < YOUNGEST_CLOCK {
        return problem("clock", "the clock is years behind", remedy);
    }
    let entries = fs::read_dir(state).into_iter().flatten().flatten();
    let newest = entries.filter_map(|entry| entry.metadata().ok()?.modified().ok()).map(seconds).max().unwrap_or(0);
    if newest > now + 60 {
        let message = format!("the data folder was written {} s after now: the clock went back", newest - now);
        return problem("clock", message, remedy);
    }
    ok("clock", "the clock is later than all that was written")
}

fn limits() -> Finding {
    let files = getrlimit(Resource::Nofile).current;
    match files {
        Some(files) if files < FILES => {
            let remedy = format!("`ulimit -n {FILES}`, or `LimitNOFILE={FILES}` in the service");
            warning("limits", format!("a process may open {files} files, and a busy host needs more"), remedy)
        }
        files => ok(
            "limits",
            files.map_or("a process may open any number of files".to_owned(), |files| {
                format!("a process may open {files} files")
            }),
        ),
    }
}

fn tls(system: &System) -> Vec<Finding> {
    let Some(tls) = &system.host.tls else { return Vec::new() };
    let files = witan_api::TlsFiles {
        certificate: tls.certificate.clone(),
        key: tls.key.clone(),
        client_ca: tls.client_ca.clone(),
    };
    if let Err(error) = witan_api::Tls::load(files) {
        return vec![problem("tls", error.to_string(), "correct [host.tls], or the files that it names")];
    }
    let certificates = [Some(&tls.certificate), tls.client_ca.as_ref()];
    certificates.into_iter().flatten().map(|path| expiry(path)).collect()
}

/// The first end among the certificates in a PEM file.
fn expiry(path: &Path) -> Finding {
    let ends = || -> Option<i64> {
        let text = fs::read(path).ok()?;
        let pems = x509_parser::pem::Pem::iter_from_buffer(&text).flatten();
        pems.filter_map(|pem| Some(pem.parse_x509().ok()?.validity().not_after.timestamp())).min()
    };
    let path = path.display();
    let Some(ends) = ends() else {
        return problem("tls", format!("`{path}` has no certificate that can be read"), "renew it");
    };
    let now = i64::try_from(seconds(SystemTime::now())).unwrap_or(i64::MAX);
    let renew = i64::try_from(RENEW.as_secs()).unwrap_or(i64::MAX);
    let days = (ends - now) / 86_400;
    let remedy = "put a new certificate in its place; a running host reads it by itself";
    match ends - now {
        ..=0 => problem("tls", format!("the certificate `{path}` ended {} days ago", -days), remedy),
        left if left < renew => warning("tls", format!("the certificate `{path}` ends in {days} days"), remedy),
        _ => ok("tls", format!("the certificate `{path}` is good for {days} days")),
    }
}

async fn database(system: &System) -> Finding {
    if system.host.database.is_none() && !system.host.state.join("witan.db").exists() {
        return ok("database", "there is no database yet; the host makes it");
    }
    let rows = system.host.state.join("witan.db");
    let empty = fs::metadata(&rows).is_ok_and(|metadata| metadata.len() == 0);
    if system.host.database.is_none() && !empty && !super::backup::is_sqlite(&rows) {
        let message = format!("`{}` is damaged: it does not begin as a database does", rows.display());
        return problem("database", message, "restore a backup with `witan backup restore`");
    }
    let database = match crate::database::open(system).await {
        Ok(database) => database,
        Err(error) => return problem("database", format!("{error:#}"), "see that it runs, or restore a backup"),
    };
    let sound = match system.host.database {
        Some(_) => Ok("ok".to_owned()),
        None => sqlx::query_scalar::<_, String>("PRAGMA quick_check(1)").fetch_one(database.pool()).await,
    };
    let versions = sqlx::query_as::<_, (String, i64)>("SELECT name, version FROM part ORDER BY name");
    let versions = versions.fetch_all(database.pool()).await.unwrap_or_default();
    let versions: Vec<String> = versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    match sound {
        Ok(sound) if sound == "ok" => {
            let parts = if versions.is_empty() { "no tables yet".to_owned() } else { versions.join(", ") };
            ok("database", format!("it is sound, with {parts}"))
        }
        Ok(damage) => {
            problem("database", format!("it is damaged: {damage}"), "restore a backup with `witan backup restore`")
        }
        Err(error) => {
            problem("database", format!("it cannot be read: {error}"), "restore a backup with `witan backup restore`")
        }
    }
}

/// That what is stored opens under the operator key, and what components may use is there.
fn secrets(system: &System) -> Vec<Finding> {
    let store = Secrets::store(system);
    let listed = match store.list() {
        Ok(listed) => listed,
        Err(error) => return vec![problem("secrets", error.to_string(), "restore `secrets.json` from a backup")],
    };
    let mut findings = Vec::new();
    for info in &listed {
        if let Err(error) = store.get(&info.tenant, &info.name) {
            let remedy = "bring the operator key back, or set the secret anew";
            findings.push(problem("secrets", error.to_string(), remedy));
        }
    }
    for (name, secret) in &system.secrets {
        if secret.source == SecretSource::Stored && !listed.iter().any(|info| info.name == *name) {
            let remedy = format!("witan secrets set {name}");
            findings.push(warning("secrets", format!("the secret `{name}` is not set for any tenant"), remedy));
        }
    }
    if findings.is_empty() && !(listed.is_empty() && system.secrets.is_empty()) {
        findings
            .push(ok("secrets", format!("the operator key opens {}", output::counted(listed.len(), "stored secret"))));
    }
    findings
}

/// That the ledger is what its own checkpoint says. Only a checkpoint that was kept elsewhere shows that all of it was rewritten.
fn ledger(state: &Path) -> Option<Finding> {
    let folder = state.join(witan_ledger::FOLDER);
    if !folder.exists() {
        return None;
    }
    let remedy = "keep a copy of the data folder as it is, and find out who could write it";
    Some(match witan_ledger::verify(&folder, None, &[]) {
        Ok(report) if report.holds => ok("ledger", format!("{} entries verify", report.size)),
        Ok(report) => problem("ledger", format!("it does not verify: {} faults", report.faults.len()), remedy),
        Err(error) => problem("ledger", format!("it cannot be verified: {error}"), remedy),
    })
}

fn trust(system: &System) -> Vec<Finding> {
    if system.components.values().all(|component| component.source.package().is_none()) {
        return Vec::new();
    }
    let trust = match supply::trust(system, &system.host.state) {
        Ok(trust) => trust,
        Err(error) => {
            return vec![problem("trust", format!("{error:#}"), "correct [trust]; `witan trust show` shows it")];
        }
    };
    let mut findings: Vec<Finding> = trust
        .held
        .iter()
        .map(|(registry, root)| match root {
            Ok(_) => ok("trust", format!("the metadata of `{registry}` hold")),
            Err(error) => problem("trust", format!("the metadata of `{registry}` do not hold: {error}"), error.help()),
        })
        .collect();
    let age = fs::metadata(supply::heard(&system.host.state)).and_then(|file| file.modified());
    let age = age.ok().and_then(|time| time.elapsed().ok());
    let most = trust.policy.max_age();
    findings.push(match age {
        Some(age) if age < most => ok("trust", format!("registries were heard from {} h ago", age.as_secs() / 3_600)),
        Some(age) => {
            let message = format!("registries were last heard from {} h ago", age.as_secs() / 3_600);
            problem("trust", message, "witan trust refresh")
        }
        None => warning("trust", "no registry was heard from yet", "witan trust refresh"),
    });
    findings
}

/// That the policies in files could be loaded: a host that runs keeps those before, and one that starts does not start.
fn policies(system: &System) -> Vec<Finding> {
    let sets = policies::in_files(system);
    if sets.is_empty() {
        return vec![ok("policies", "the host's own policies decide, since `host.policy.folder` names none")];
    }
    let set = |InFiles { key, folder, loaded, remedy }: InFiles| match loaded {
        Ok(_) => ok("policies", format!("those in `{}` can be loaded", folder.display())),
        Err(error) => problem("policies", format!("`{key}` cannot be loaded: {error:#}"), remedy),
    };
    sets.into_iter().map(set).collect()
}

async fn collector(system: &System) -> Option<Finding> {
    let (name, tried) = crate::telemetry::collector(system).await?;
    Some(match tried {
        Ok(()) => ok("telemetry", format!("the collector `{name}` takes traces")),
        Err(error) => warning(
            "telemetry",
            format!("traces do not arrive at the collector `{name}`: {error:#}"),
            "see that it runs and takes OTLP over HTTP (port 4318), or correct [host.telemetry]; requests wait for it never, \
             and traces are lost",
        ),
    })
}

fn egress(system: &System) -> Option<Finding> {
    let egress = &system.host.egress;
    if egress.proxy.is_some() && egress.resolve == witan_system::Resolve::Proxy {
        let message = "the proxy looks names up, so that the host cannot check which addresses they lead to";
        return Some(warning("egress", message, "have the proxy refuse private networks, or set `resolve = \"here\"`"));
    }
    None
}

/// A registry of this machine is spoken to in the clear, as whoever fetches from it does.
fn on_this_machine(name: &str) -> bool {
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    name == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// A client on the way that the host's own requests take.
fn client(system: &System) -> Option<reqwest::Client> {
    crate::egress::way(system).ok()?.client().timeout(Duration::from_secs(10)).build().ok()
}

async fn registries(system: &System) -> Vec<Finding> {
    let mut all: Vec<_> = system.registries.namespaces.values().chain(&system.registries.others).collect();
    all.sort_by_key(|registry| registry.to_string());
    all.dedup_by_key(|registry| registry.to_string());
    let mut findings = Vec::new();
    // What keeps it from being made was found where the way out is looked at.
    let Some(client) = client(system) else { return findings };
    for registry in all {
        let host = registry.host.to_string();
        let scheme = if on_this_machine(registry.host.name()) { "http" } else { "https" };
        findings.push(match client.get(format!("{scheme}://{host}/v2/")).send().await {
            // 401 is how a registry that wants a token answers.
            Ok(answer) if answer.status().is_success() || answer.status() == 401 => {
                ok("registry", format!("`{host}` answers"))
            }
            Ok(answer) => {
                let message = format!("`{host}` answers {}, as no registry does", answer.status());
                problem("registry", message, "correct [registries]")
            }
            Err(error) => {
                let message = format!("`{host}` cannot be reached: {}", error.without_url());
                warning("registry", message, "see the network; what was fetched runs on, and nothing new is fetched")
            }
        });
    }
    findings
}
