//! `witan publish`: signs a component, has a log witness it, and pushes it to a registry.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::sign::{LogArgument, Summary, What};
use crate::{Global, output, registry::RegistryArgument};

#[derive(Args)]
#[command(after_help = "Examples:
  witan publish sums.wasm --package acme:sums@1.0.0 --registry registry.example.org --key release
  witan publish sums.wasm --package acme:sums@1.0.0 --registry registry.example.org --key release --dry-run
  witan publish sums.wasm --package acme:sums@1.0.0 --registry registry.example.org --keyless

Before the first time: `witan keys generate release` and `witan registry login registry.example.org`.
A version is published once. Publishing the same bytes again completes what broke off.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    registry: RegistryArgument,
    #[command(flatten)]
    log: LogArgument,
    /// Say what would be published, and ask neither registry nor log. In GitHub Actions `--keyless` still asks for a token,
    /// which says who would sign.
    #[arg(long)]
    dry_run: bool,
}

/// What was published, as programs read it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    #[serde(flatten)]
    summary: &'a Summary,
    published: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    repository: Option<String>,
}

pub(crate) async fn run(arguments: &Arguments, global: &Global) -> anyhow::Result<ExitCode> {
    let mut prepared = arguments.what.prepare(global).await?;
    if arguments.dry_run {
        let summary = prepared.summary();
        // Signed all the same: a key that cannot sign is found out now.
        prepared.try_key()?;
        match global.json {
            true => output::json(&Answer { summary, published: false, repository: None }),
            false => output::line(&format!("{}\nnothing was published", summary.in_words())),
        }
        return Ok(ExitCode::SUCCESS);
    }
    let registry = arguments.registry.client(global).await?;
    // A version that is taken is found out before a log keeps for good that it was signed.
    if registry.is_published(&prepared.package, &prepared.digest).await? {
        // What broke off is completed. What is whole is left: verifiers look at so many signatures, and at no more.
        let there = registry.fetch(&prepared.package, &prepared.digest, &|_| {}).await?;
        prepared.unless_signed(&there.bundles, !arguments.log.unlogged);
    }
    let summary = prepared.summary();
    let artifact = match &arguments.log {
        LogArgument { unlogged: true, .. } => prepared.unlogged()?,
        LogArgument { transparency_log: Some(place), .. } => {
            prepared.witnessed(&arguments.registry.client_of(place, global).await?.log()).await?
        }
        LogArgument { transparency_log: None, .. } => prepared.witnessed(&registry.log()).await?,
    };
    let published = registry.publish(&prepared.package, &artifact).await?;
    let place = format!("{}/{}", registry.host(), published.repository);
    match global.json {
        true => output::json(&Answer { summary, published: true, repository: Some(place) }),
        false => {
            let what = match (published.was_there, artifact.bundles.is_empty()) {
                (true, true) => "was there already, signed by this key,",
                (true, false) => "was there already, and is signed again",
                (false, _) => "published",
            };
            output::line(&format!("{}\n{what} in {place}", summary.in_words()));
        }
    }
    Ok(ExitCode::SUCCESS)
}
