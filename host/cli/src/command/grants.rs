//! `witan grants suggest`: runs something once, and says which grants it asked for.

use std::{collections::BTreeMap, process::ExitCode};

use clap::{Args, Subcommand};
use witan_loader::{By, Running};
use witan_system::Grants;

use super::{call, run as program, task};
use crate::{
    Global,
    host::{Host, Mode, capabilities},
    output,
};

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run once in record mode, and print the least grants that would have sufficed.
    #[command(after_help = SUGGEST)]
    Suggest {
        /// Let components do what was not granted, as said below; only for components that you trust that far.
        #[arg(long)]
        trial: bool,
        #[command(subcommand)]
        what: What,
    },
}

#[derive(Subcommand)]
enum What {
    /// Record a run of a program; see `witan run`.
    Run(Box<program::Arguments>),
    /// Record a call of a function; see `witan call`.
    Call(Box<call::Arguments>),
    /// Record a task; see `witan task`. Not with `--server`.
    Task(Box<task::Arguments>),
}

const SUGGEST: &str = "Record mode differs from a plain run in two ways, and grants nothing:
  - Every interface of this host is linked, so that a missing grant does not stop the load.
  - Everything that a component asks for is written down, whether it gets it or not.
It refuses whatever is not granted, by flags or in system.toml: no file, host, variable or key
is reached that a plain run would not reach. A component that gives up at its first refusal has
asked for no more than that; grant it and record again, or use `--trial`.

With `--trial`, components may do what they were not granted: send to any public address, use
tools, settings, a key-value store and the wall clock. Still refused: addresses of this machine
and of private networks, listening, paths that say one thing and mean another, and whatever
leaves this machine in a local-only call.

In either mode a file can be asked for only below a folder that is granted, so grant a wide
folder (`--dir .`) and let the suggestion narrow it. Only what this one run asked for is known:
another input may need more.

The grants are TOML for system.toml on standard output; what was run writes to standard error.

Examples:
  witan grants suggest run tool.wasm --dir . -- docs/a.md
  witan grants suggest --trial call tool.wasm 'acme:tool/text#fetch' '\"https://example.com\"'
  witan grants suggest task summarize README.md --json";

pub(crate) async fn run(arguments: Arguments, global: &Global) -> anyhow::Result<ExitCode> {
    let Command::Suggest { trial, what } = arguments.command;
    let mode = if trial { Mode::Trial } else { Mode::Record };
    match what {
        What::Run(arguments) => {
            let (ready, code) = program::perform(*arguments, global, mode).await?;
            print(&ready.host, &ready.running, global)?;
            Ok(code)
        }
        What::Call(arguments) => {
            let (ready, answer) = call::perform(*arguments, global, mode).await?;
            output::note(&answer.in_words());
            print(&ready.host, &ready.running, global)?;
            Ok(ExitCode::SUCCESS)
        }
        What::Task(arguments) => {
            let (host, running, envelope) = task::record(*arguments, global, mode).await?;
            match &envelope.error {
                Some(error) => output::task_error(error),
                None => output::note("the task was done"),
            }
            print(&host, &running, global)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// What one component needs.
#[derive(serde::Serialize)]
struct Needs {
    grants: Grants,
    /// Imports that it made no use of, and which a load refuses without a grant: the import and a line that grants it.
    unused: BTreeMap<String, &'static str>,
}

fn print(host: &Host, running: &Running, global: &Global) -> anyhow::Result<()> {
    let needs = needs(host, running)?;
    if global.json {
        output::json(&needs);
        return Ok(());
    }
    let folder = std::env::current_dir()?.join(running.system.folder());
    let sections = needs.iter().map(|(name, needs)| section(name, needs, &folder));
    let text = sections.collect::<Vec<_>>().join("\n");
    output::line(if text.is_empty() { "# nothing was asked for beyond the baseline" } else { text.trim_end() });
    Ok(())
}

fn needs(host: &Host, running: &Running) -> anyhow::Result<BTreeMap<String, Needs>> {
    let mut asked = host.policy.suggestions();
    let capabilities = capabilities(host.state(), witan_tools::Tools::new(host.engine.clone()))?;
    let mut all = BTreeMap::new();
    for (name, loaded) in running.components() {
        let grants = asked.remove(name.as_str()).unwrap_or_default();
        let unused = loaded.imports.iter().filter_map(|import| {
            let By::Capability(name) = &import.by else { return None };
            let capability = capabilities.iter().find(|capability| capability.name() == *name)?;
            (!capability.granted(&grants)).then(|| (import.name.clone(), capability.remedy()))
        });
        let needs = Needs { unused: unused.collect(), grants };
        if !needs.grants.is_empty() || !needs.unused.is_empty() {
            all.insert(name.to_string(), needs);
        }
    }
    Ok(all)
}

fn section(name: &str, needs: &Needs, folder: &std::path::Path) -> String {
    let mut text = witan_system::grants_toml(name, &needs.grants, folder);
    for (import, line) in &needs.unused {
        text.push_str(&format!("# it imports `{import}` and made no use of it; to load it, grant such as: {line}\n"));
    }
    text
}
