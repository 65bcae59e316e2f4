//! `witan yank`: says that a version should not be used any more.

use std::process::ExitCode;

use clap::Args;
use witan_registry_types::Package;

use crate::{Global, output, registry::RegistryArgument};

#[derive(Args)]
#[command(after_help = "Examples:
  witan yank acme:sums@1.0.0 --reason 'adds wrongly' --registry registry.example.org
  witan yank acme:sums@1.0.0 --undo --registry registry.example.org

A yanked version is still there for those whose lock file names it; nobody is offered it any more.")]
pub(crate) struct Arguments {
    /// The version: `namespace:name@1.2.3`.
    package: Package,
    /// Why, for those who use it.
    #[arg(long, value_name = "TEXT", required_unless_present = "undo", conflicts_with = "undo")]
    reason: Option<String>,
    /// Take it back.
    #[arg(long)]
    undo: bool,
    #[command(flatten)]
    registry: RegistryArgument,
}

pub(crate) async fn run(arguments: &Arguments, global: &Global) -> anyhow::Result<ExitCode> {
    let (client, package) = (arguments.registry.client(global).await?, &arguments.package);
    match &arguments.reason {
        Some(reason) => client.yank(package, reason).await?,
        None => client.unyank(package).await?,
    }
    let yanked = arguments.reason.is_some();
    match global.json {
        true => output::json(&serde_json::json!({ "package": package.to_string(), "yanked": yanked })),
        false => output::line(&format!("{package} is {}", if yanked { "yanked" } else { "not yanked any more" })),
    }
    Ok(ExitCode::SUCCESS)
}
