//! `witan registry metadata`: what the operators of a registry sign, and its root for those who pin it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use witan_registry_client::LogPin;
use witan_registry_server::{Signing, sign_metadata};
use witan_registry_sign::{KeyId, SigningKey};
use witan_registry_tuf::{Signers, hold};
use witan_registry_types::{Name, Registry as Place};

use super::{pin_to, settings::At};
use crate::{
    Global, output,
    registry::{KeysArgument, client},
};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Sign what the registry is trusted by: its root, which says whose keys count, and its log's trusted root. The first
    /// time makes the metadata; the registry that is served takes them up by itself, and signs the rest with its own key.
    #[command(after_help = "Examples:
  witan registry metadata sign --key ops --data registry                         the first time, and once a year
  witan registry metadata sign --key a --key b --key c --threshold 2 --data registry
  witan registry metadata sign --key new --key old --drop old --data registry    replaces a key

A key that the root does not name yet is added to it. To sign on another machine, copy the folder `tuf` of the registry
into a folder there, sign, and copy it back: it holds no secret. Compare the keys that are printed with the registry's.")]
    Sign(Sign),
}

#[derive(Args)]
pub(super) struct Sign {
    /// A key to sign with, by its name in `witan keys list`.
    #[arg(long = "key", required = true, value_name = "NAME")]
    names: Vec<Name>,
    /// A key that is not to count any more: its name, or its id.
    #[arg(long, value_name = "KEY")]
    drop: Vec<String>,
    /// The registry's own key or its log was replaced since they were signed.
    #[arg(long)]
    replaced: bool,
    /// How many of the keys have to sign; as before without it, and at first one.
    #[arg(long, value_name = "NUMBER")]
    threshold: Option<usize>,
    /// How long what is signed holds.
    #[arg(long, value_name = "TIME", default_value = "8760h", value_parser = super::super::time)]
    lifetime: Duration,
    /// The trusted root to sign, if not the one of the registry's own log.
    #[arg(long, value_name = "FILE")]
    trusted_root: Option<PathBuf>,
    #[command(flatten)]
    keys: KeysArgument,
    #[command(flatten)]
    at: At,
}

pub(super) fn run(command: Command, global: &Global) -> anyhow::Result<()> {
    let Command::Sign(arguments) = command;
    let keys: Vec<SigningKey> =
        arguments.names.iter().map(|name| arguments.keys.load(name)).collect::<anyhow::Result<_>>()?;
    let dropped = arguments.drop.iter().map(|key| dropped(&arguments, key));
    let trusted_root = arguments
        .trusted_root
        .as_ref()
        .map(|path| std::fs::read(path).with_context(|| format!("cannot read the trusted root `{}`", path.display())));
    let signing = Signing {
        drop: dropped.collect::<anyhow::Result<BTreeSet<_>>>()?,
        replaced: arguments.replaced,
        threshold: arguments.threshold,
        lifetime: arguments.lifetime,
        trusted_root: trusted_root.transpose()?,
        keys,
    };
    let signed = sign_metadata(&arguments.at.data()?, &signing, SystemTime::now())?;
    let logs: BTreeMap<String, String> = LogPin::of_trusted_root(&signed.trusted_root)?
        .iter()
        .map(|pin| (pin.origin(), pin.key.id().to_string()))
        .collect();
    let registry = signed.signers.registry.id().to_string();
    if global.json {
        output::json(&serde_json::json!({
            "root": signed.root,
            "root_version": signed.root_version,
            "root_is_new": signed.root_is_new,
            "targets_version": signed.targets_version,
            "keys": ids(&signed.signers),
            "threshold": signed.signers.threshold,
            "registry_key": registry,
            "logs": logs,
        }));
        return Ok(());
    }
    let new = if signed.root_is_new { "signed" } else { "stays" };
    output::line(&format!("root {} {new}, targets {} signed", signed.root_version, signed.targets_version));
    say(&signed.signers);
    output::line(&format!("the registry signs with {registry}"));
    for (log, key) in &logs {
        output::line(&format!("the log `{log}` has the key {key}"));
    }
    output::line(&format!("publish `{}` for those who pin it", signed.root.display()));
    Ok(())
}

fn dropped(arguments: &Sign, key: &str) -> anyhow::Result<KeyId> {
    if let Ok(id) = key.parse::<KeyId>() {
        return Ok(id);
    }
    let keys = arguments.keys.folder()?.list()?;
    let Some(info) = keys.into_iter().find(|info| info.name.as_str() == key) else {
        bail!("there is no key `{key}`: name it as `witan keys list` does, or by its id");
    };
    Ok(info.public.id())
}

fn ids(signers: &Signers) -> Vec<String> {
    signers.operators.iter().map(|key| key.id().to_string()).collect()
}

fn say(signers: &Signers) {
    output::line(&format!("{} of these keys have to sign:", signers.threshold));
    ids(signers).iter().for_each(|id| output::line(&format!("  {id}")));
}

/// Asks a registry for its root, which is believed once.
pub(super) async fn trust(registry: &Place, out: Option<&Path>, global: &Global) -> anyhow::Result<()> {
    let first = client(registry, global).await?.first_root().await?;
    let asked = client(registry, global).await?;
    let held = hold(&first, None, asked, &[], SystemTime::now()).await;
    let (held, _) = held.map_err(|error| {
        let help = error.help();
        anyhow::anyhow!("the TUF metadata of `{}` do not hold: {error}; {help}", registry.host)
    })?;
    let root = held.root().as_bytes();
    let signers = Signers::of(root)?;
    pin_to(out, root)?;
    if let (Some(path), true) = (out, global.json) {
        output::json(&serde_json::json!({
            "keys": ids(&signers), "threshold": signers.threshold, "file": path,
        }));
        return Ok(());
    }
    output::note(&format!(
        "{} of these keys sign the root of `{}`: compare them with what its operators published",
        signers.threshold, registry.host
    ));
    ids(&signers).iter().for_each(|id| output::note(&format!("  {id}")));
    Ok(())
}
