//! `witan check`: whether a system would load, and what its components may do.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use witan_system::ComponentName;

use crate::{
    Global, host, output,
    policies::{self, InFiles},
    source,
};

#[derive(Args)]
#[command(after_help = "Examples:
  witan check                           every import satisfied, every grant known, all types match
  witan check --explain tool-files      what one component may do")]
pub(crate) struct Arguments {
    /// Say what this component may do, in plain words.
    #[arg(long, value_name = "COMPONENT")]
    explain: Option<ComponentName>,
}

pub(crate) fn run(arguments: &Arguments, global: &Global) -> anyhow::Result<ExitCode> {
    let system = source::load(global)?;
    if let Some(name) = &arguments.explain {
        let Some(explanation) = system.explain(name) else {
            let names: Vec<&str> = system.components.keys().map(ComponentName::as_str).collect();
            anyhow::bail!("there is no component `{name}`; the components are: {}", names.join(", "));
        };
        match global.json {
            true => output::json(&explanation),
            false => output::line(&explanation.to_string()),
        }
        return Ok(ExitCode::SUCCESS);
    }
    let file = system.origin.file().to_owned();
    let host = host::Host::new(&system, host::Mode::Enforce)?.held_to_lock(global.locked);
    for InFiles { key, folder, loaded, remedy } in policies::in_files(&system) {
        let why = || format!("`{key}` names policies in `{}` that do not hold; `{remedy}` says more", folder.display());
        loaded.with_context(why)?;
    }
    let running = host.prepare(system)?;
    let explanations: Vec<_> = running.components().keys().filter_map(|name| running.system.explain(name)).collect();
    if global.json {
        output::json(&serde_json::json!({ "valid": true, "system": file, "components": explanations }));
        return Ok(ExitCode::SUCCESS);
    }
    for explanation in &explanations {
        output::line(&format!("{explanation}\n"));
    }
    let count = output::counted(explanations.len(), "component");
    output::line(&format!("`{}` is valid: {count}, every import satisfied", file.display()));
    Ok(ExitCode::SUCCESS)
}
