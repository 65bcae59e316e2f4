//! `witan verify`: whether a component would be let in here, and on whose word.

use std::{path::Path, process::ExitCode};

use anyhow::{Context as _, bail};
use clap::Args;
use witan_admission::By;
use witan_registry_types::Package;
use witan_system::{Ceiling, Component, Limits, Source, System};

use crate::{Global, foreign, host, output, registry::StoreArgument, source, supply};

#[derive(Args)]
#[command(
    after_help = "A package is verified by [trust] in system.toml and by `trust.toml` of this user; it is fetched from the
registry that [registries] names for its namespace unless it was fetched before. A file is verified by the
signature that `witan build` put beside it.

Examples:
  witan verify acme:sums@1.0.0
  witan verify build/my-tool.wasm --json"
)]
pub(crate) struct Arguments {
    /// A package in a version, `namespace:name@1.2.3`, or a `.wasm` file.
    what: String,
}

pub(crate) async fn run(arguments: &Arguments, global: &Global) -> anyhow::Result<ExitCode> {
    let system = source::find(global).ok().map(|file| System::load(&file)).transpose()?.unwrap_or_default();
    let source = match arguments.what.parse::<Package>() {
        Ok(package) => Source::Registry(package),
        Err(_) if foreign::is_file(&arguments.what) => Source::File(std::path::absolute(Path::new(&arguments.what))?),
        Err(error) => bail!("{error}; or name a `.wasm` file"),
    };
    let mut component = Component::new("", &Limits::default());
    component.source = source.clone();
    let (store, lock) = (StoreArgument::usual().open()?, supply::lock(&system)?);
    let mut only = system.clone();
    only.components = [("verified".parse()?, component.clone())].into();
    supply::have_metadata(&only, &only.host.state).await?;
    let fetched = supply::fetch_all(&only, &store, lock.as_ref(), false).await;
    let (packages, asked) = fetched.map_err(|not| not.error)?;
    let gate = supply::gate(&system, &system.host.state, packages)?;
    let needs = host::needs(&system.host.state)?;
    let admitted = match gate.admit(&component, system.host.compile.size, &needs) {
        Ok(passed) => passed.admitted,
        Err(refused) => bail!("`{source}` would not be let in: {refused}; {}", refused.help(&source)),
    };
    if let Source::Registry(package) = &source
        && asked.contains(package)
    {
        let log = supply::continues(&only, &only.host.state, package, &admitted.checkpoints).await;
        let _now = log.with_context(|| format!("`{source}` would not be let in"))?;
    }
    if global.json {
        output::json(&serde_json::json!({
            "source": source.to_string(),
            "manifest": admitted.manifest,
            "layer": admitted.layer,
            "blake3": admitted.blake3,
            "signers": match &admitted.by { By::Signers(signers) => signers.iter().cloned().collect(), _ => Vec::new() },
            "by": admitted.by.to_string(),
            "wit": admitted.wit,
            "ceiling": admitted.ceiling,
        }));
        return Ok(ExitCode::SUCCESS);
    }
    output::line(&format!("{source}: {}", admitted.by));
    if let Some(manifest) = admitted.manifest {
        output::line(&format!("manifest  {manifest}"));
    }
    output::line(&format!("bytes     {}", admitted.layer));
    let nothing = Ceiling::default();
    let most = nothing.excess(admitted.ceiling.as_ref().unwrap_or(&nothing));
    match most.is_empty() {
        true => output::line("ceiling   nothing beyond the baseline"),
        false => most.iter().for_each(|most| output::line(&format!("ceiling   {}: {}", most.capability, most.wanted))),
    }
    Ok(ExitCode::SUCCESS)
}
