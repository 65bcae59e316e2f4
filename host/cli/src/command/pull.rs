//! `witan pull`: fetches a component from a registry and keeps it.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::Args;
use witan_registry_types::{Artifact, Package};

use crate::{
    Global, output,
    registry::{Bar, RegistryArgument, StoreArgument, Wanted, yanked},
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
    let client = arguments.registry.client().await?;
    let package = arguments.package.resolve(&client).await?;
    let digest = client.resolve(&package).await?;
    let bar = Bar::new();
    let artifact = client.fetch(&package, &digest, &|at| bar.at(at.received, at.total)).await?;
    drop(bar);
    if let Some(reason) = yanked(&client, &package.name).await?.get(&package.version) {
        output::note(&format!("`{package}` was yanked: {reason}"));
    }
    arguments.store.open()?.put(&package, &digest, &artifact)?;
    if let Some(out) = &arguments.out {
        let component = admit(&artifact, &package)?;
        std::fs::write(out, component).with_context(|| format!("cannot write `{}`", out.display()))?;
    }
    let signatures = artifact.bundles.len();
    if global.json {
        output::json(&serde_json::json!({
            "package": package.to_string(),
            "digest": digest.to_string(),
            "bytes": artifact.layer.len(),
            "signatures": signatures,
            "verified": arguments.out.is_some(),
        }));
    } else {
        let size = witan_system::format_bytes(artifact.layer.len() as u64);
        output::line(&format!("fetched {package}, {digest}: {size}, {signatures} signatures"));
    }
    Ok(ExitCode::SUCCESS)
}

/// The component's bytes, if they may leave the store: nothing unverified does.
fn admit<'a>(_artifact: &'a Artifact, package: &Package) -> anyhow::Result<&'a [u8]> {
    anyhow::bail!(
        "`{package}` is fetched and kept, and not written out: this build of witan cannot verify its signatures"
    )
}
