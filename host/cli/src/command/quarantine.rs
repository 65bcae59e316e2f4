//! `witan quarantine`: what must not run, and why.

use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, Subcommand};
use witan_admission::{Cause, Held};
use witan_system::{ComponentName, System};

use crate::{Global, ledger, output, source, supply};

#[derive(Args)]
#[command(
    after_help = "What failed its checks is listed until it passes them, since each load checks anew. What an operator put
aside, or was yanked or revoked while it ran, stays until it is released. A running host notices at once.

Examples:
  witan quarantine list
  witan quarantine add summarize --reason 'answers oddly'    stop it now, and keep it from starting
  witan quarantine release summarize"
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List what is in quarantine.
    List,
    /// Say all that is known of one component in quarantine.
    Show {
        /// The component.
        component: String,
    },
    /// Put a component of the system into quarantine.
    Add {
        /// The component.
        component: ComponentName,
        /// Why.
        #[arg(long, value_name = "TEXT", default_value = "an operator put it there")]
        reason: String,
    },
    /// Let a component go.
    Release {
        /// The component.
        component: String,
    },
}

pub(crate) fn run(arguments: &Arguments, global: &Global) -> anyhow::Result<ExitCode> {
    let system = System::load(&source::find(global)?)?;
    let quarantine = supply::quarantine(&system.host.state);
    match &arguments.command {
        Command::List => list(&quarantine.list()?, global),
        Command::Show { component } => {
            let mut held = quarantine.list()?;
            held.retain(|held| held.component == *component);
            if held.is_empty() {
                bail!("`{component}` is not in quarantine; `witan quarantine list` shows what is");
            }
            show(&held, global);
        }
        Command::Add { component, reason } => {
            let Some(found) = system.components.get(component) else {
                let names: Vec<&str> = system.components.keys().map(ComponentName::as_str).collect();
                bail!("there is no component `{component}`; the components are: {}", names.join(", "));
            };
            let held = Held::new(component, &found.source, Cause::Operator, reason);
            ledger::administration(&system, "quarantine-add", &format!("{component} ({})", held.source))?;
            quarantine.add(held.clone())?;
            match global.json {
                true => output::json(&held),
                false => output::line(&format!("`{component}` ({}) is in quarantine", held.source)),
            }
        }
        Command::Release { component } => {
            ledger::administration(&system, "quarantine-release", component)?;
            let released = quarantine.release(component)?;
            if released.is_empty() {
                bail!("`{component}` is not in quarantine; `witan quarantine list` shows what is");
            }
            match global.json {
                true => output::json(&released),
                false => output::line(&format!(
                    "`{component}` is released; a running host loads its system again, and checks it anew"
                )),
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(held: &[Held], global: &Global) {
    if global.json {
        return output::json(&held);
    }
    if held.is_empty() {
        output::line("nothing is in quarantine");
    }
    for held in held {
        output::line(&format!("{:20} {:12} {}: {}", held.component, held.cause, held.source, held.reason));
    }
}

fn show(held: &[Held], global: &Global) {
    if global.json {
        return output::json(&held);
    }
    for held in held {
        let since = jiff::Timestamp::from_second(i64::try_from(held.since).unwrap_or(i64::MAX));
        let rows = [
            ("component", held.component.clone()),
            ("source", held.source.clone()),
            ("digest", held.digest.map_or("any".to_owned(), |digest| digest.to_string())),
            ("by", held.cause.to_string()),
            ("since", since.map(|since| since.to_string()).unwrap_or_default()),
            ("reason", held.reason.clone()),
            ("help", held.help.clone().unwrap_or_default()),
        ];
        for (name, value) in rows {
            output::line(format!("{name:10} {value}").trim_end());
        }
    }
}
