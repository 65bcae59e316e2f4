//! `witan search`: which packages a registry has.

use std::process::ExitCode;

use clap::Args;

use crate::{Global, output, registry::RegistryArgument};

#[derive(Args)]
#[command(after_help = "Examples:
  witan search pdf --registry registry.example.org
  witan search acme: --registry registry.example.org --json")]
pub(crate) struct Arguments {
    /// A part of the name or of the description; all packages without it.
    #[arg(default_value = "")]
    words: String,
    #[command(flatten)]
    registry: RegistryArgument,
}

pub(crate) async fn run(arguments: &Arguments, global: &Global) -> anyhow::Result<ExitCode> {
    let found = arguments.registry.client(global).await?.search(&arguments.words).await?;
    let name = |found: &witan_registry_client::Found| {
        found.package.as_ref().map_or_else(|| found.repository.to_string(), ToString::to_string)
    };
    if global.json {
        let found: Vec<_> = found
            .iter()
            .map(|found| {
                serde_json::json!({
                    "name": name(found),
                    "repository": found.repository.as_str(),
                    "versions": found.versions,
                    "downloads": found.downloads,
                })
            })
            .collect();
        output::json(&found);
        return Ok(ExitCode::SUCCESS);
    }
    if found.is_empty() {
        output::note("there is nothing by that name");
    }
    for found in &found {
        let (versions, downloads) = (found.versions, found.downloads);
        output::line(&format!("{:40} {versions:>4} versions, {downloads} downloads", name(found)));
    }
    Ok(ExitCode::SUCCESS)
}
