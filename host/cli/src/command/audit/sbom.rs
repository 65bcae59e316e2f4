//! `witan audit sbom`: whether what a component is made of has known vulnerabilities, without asking anybody.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use clap::Args;
use serde::Serialize;
use witan_registry_sign::{Dependency, Embedded, Sbom};
use witan_registry_types::json;

use crate::{
    Global,
    advisories::{Advisories, Finding},
    command::inspect,
    output,
};

/// Advisories that are older than this are said to be.
const OLD_DAYS: i64 = 30;
/// The largest SBOM.
const LARGEST: u64 = 16 << 20;

#[derive(Args)]
#[command(after_help = "Example:
  git clone --depth 1 https://github.com/rustsec/advisory-db
  witan audit sbom sums.wasm sbom.json --advisories advisory-db

A component is looked at by what `cargo auditable` left in its bytes, and a document by what it names. The
advisories are of crates; what else is named is counted, and not known to be sound. It fails where something
is vulnerable.")]
pub(crate) struct Arguments {
    /// Components (`.wasm`) and CycloneDX documents in JSON.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// A folder of advisories in the format of RustSec. It is never fetched; keeping it new is up to you.
    #[arg(long, value_name = "FOLDER", env = "WITAN_ADVISORIES")]
    advisories: PathBuf,
}

/// What was found, as programs read it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    /// The date of the newest advisory.
    advisories_of: String,
    /// Days since then.
    advisories_age: i64,
    advisories: usize,
    files: Vec<FileReport>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FileReport {
    file: PathBuf,
    dependencies: usize,
    /// Dependencies of which no such advisories are kept.
    not_covered: usize,
    findings: Vec<Finding>,
}

pub(crate) fn run(arguments: &Arguments, global: &Global) -> anyhow::Result<ExitCode> {
    let folder = &arguments.advisories;
    let database = Advisories::open(folder)?;
    let newest = database.newest().unwrap_or_default();
    let report = Report {
        advisories_age: age(&newest)?,
        advisories: database.count(),
        advisories_of: newest,
        files: arguments.files.iter().map(|file| examine(&database, file)).collect::<anyhow::Result<_>>()?,
    };
    match global.json {
        true => output::json(&report),
        false => print(&report),
    }
    let vulnerable = report.files.iter().flat_map(|file| &file.findings).any(|finding| finding.informational.is_none());
    Ok(if vulnerable { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn age(date: &str) -> anyhow::Result<i64> {
    let date: jiff::civil::Date = date.parse().context("an advisory has a date that is none")?;
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    Ok(i64::from(date.until(today)?.get_days()))
}

fn examine(database: &Advisories, file: &Path) -> anyhow::Result<FileReport> {
    let dependencies = dependencies(file)?;
    let (mut findings, mut not_covered) = (Vec::new(), 0);
    for dependency in &dependencies {
        match database.of(dependency) {
            Some(found) => findings.extend(found),
            None => not_covered += 1,
        }
    }
    Ok(FileReport { file: file.to_owned(), dependencies: dependencies.len(), not_covered, findings })
}

/// What is in a component's bytes, or what a document names.
fn dependencies(file: &Path) -> anyhow::Result<BTreeSet<Dependency>> {
    let bytes = inspect::read(file)?;
    let what = || format!("cannot audit `{}`", file.display());
    if bytes.starts_with(b"\0asm") {
        let embedded = Embedded::read(&bytes).with_context(what)?;
        if embedded.is_empty() {
            bail!(
                "`{}` does not say what it is made of: build it with `cargo auditable build`, or audit its SBOM",
                file.display()
            );
        }
        return Ok(embedded.dependencies());
    }
    let largest = usize::try_from(LARGEST).unwrap_or(usize::MAX);
    let document = json::parse_value(&bytes, largest).with_context(what)?;
    Ok(Sbom::parse(&document).with_context(what)?.dependencies().clone())
}

fn print(report: &Report) {
    let (count, of, age) = (report.advisories, &report.advisories_of, report.advisories_age);
    output::line(&format!("{count} advisories, the newest of {of}, {age} days ago"));
    if age > OLD_DAYS {
        output::note("the advisories are old: what was found since then is not among them");
    }
    for file in &report.files {
        output::line(&format!("{}: {} dependencies", file.file.display(), file.dependencies));
        for finding in &file.findings {
            let kind = finding.informational.as_deref().unwrap_or("vulnerable");
            let patched = match finding.patched.as_slice() {
                [] => "there is no version without it".to_owned(),
                versions => format!("use {}", versions.join(" or ")),
            };
            let (dependency, advisory, title) = (&finding.dependency, &finding.advisory, &finding.title);
            output::line(&format!("  {kind}: {dependency}: {advisory}, {title}; {patched}"));
        }
        if file.not_covered > 0 {
            output::line(&format!("  {} are of kinds that these advisories do not cover", file.not_covered));
        }
        if file.findings.is_empty() {
            output::line("  none that is known to be vulnerable");
        }
    }
}
