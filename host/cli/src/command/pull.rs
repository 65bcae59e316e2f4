//! `witan pull`: fetches a component from a registry and keeps it.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, bail};
use clap::Args;
use witan_system::System;

use crate::{
    Global, output,
    registry::{RegistryArgument, StoreArgument, Wanted, yanked},
    source, supply,
};

#[derive(Args)]
#[command(after_help = "Examples:
  witan pull acme:sums@1.0.0 --registry registry.example.org
  witan pull acme:sums --registry registry.example.org --out sums.wasm     the newest, written to a file")]
pub(crate) struct Arguments {
    /// What to fetch: `namespace:name`, with `@` and a version or the newest.
    package: Wanted,
    #[command(flatten)]
    registry: RegistryArgument,
    #[command(flatten)]
    store: StoreArgument,
    /// Write the component to this file, once it is verified.
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(crate) async fn run(arguments: &Arguments, global: &Global) -> anyhow::Result<ExitCode> {
    let client = arguments.registry.client(global).await?;
    let package = arguments.package.resolve(&client).await?;
    let digest = client.resolve(&package).await?;
    if let Some(reason) = yanked(&client, &package.name).await?.get(&package.version) {
        output::note(&format!("`{package}` was yanked: {reason}"));
    }
    let artifact = supply::fetch(&client, &arguments.store.open()?, &package, &digest).await?;
    // Without a system, the rules for all systems of this user.
    let system = source::find(global).ok().map(|file| System::load(&file)).transpose()?.unwrap_or_default();
    let verified = supply::verify(&system, &package, &digest, &artifact);
    let verdict = verified.as_ref().map(|verified| supply::signers(&verified.signed));
    if let Some(out) = &arguments.out {
        if let Err(error) = &verified {
            bail!("`{package}` was fetched and kept, and not written out: {error:#}");
        }
        witan_durable::replace(out, &artifact.layer, 0o666)
            .with_context(|| format!("cannot write `{}`", out.display()))?;
    }
    let size = artifact.layer.len() as u64;
    if global.json {
        output::json(&serde_json::json!({
            "package": package.to_string(),
            "digest": digest.to_string(),
            "bytes": size,
            "signatures": artifact.bundles.len(),
            "verified": verdict.is_ok(),
            "signers": verdict.as_ref().ok(),
            "refused": verdict.as_ref().err().map(|error| format!("{error:#}")),
        }));
        return Ok(ExitCode::SUCCESS);
    }
    let signatures = artifact.bundles.len();
    output::line(&format!(
        "fetched {package}, {digest}: {}, {signatures} signatures",
        witan_system::format_bytes(size)
    ));
    match verdict {
        Ok(signers) => output::line(&format!("verified: signed by {}", signers.join(" and "))),
        Err(error) => output::note(&format!("it would not be let in here: {error:#}")),
    }
    Ok(ExitCode::SUCCESS)
}
