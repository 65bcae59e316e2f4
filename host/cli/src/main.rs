//! The `witan` binary: assembles a host and runs one command. The one place that lists capabilities.

mod advisories;
mod client;
mod command;
mod core_dump;
mod database;
mod egress;
mod flags;
mod foreign;
mod host;
mod keyless;
mod ledger;
mod lock;
mod memory;
mod mount;
mod output;
mod owner;
mod pin;
mod policies;
mod registry;
mod requests;
mod session;
mod source;
mod supply;
mod tasks;
mod telemetry;
mod watchman;
mod wave;

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;

/// An operating system for AI agents: runs systems of WebAssembly components, held to grants and limits.
#[derive(Parser)]
#[command(name = "witan", version, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: command::Command,
}

const EXAMPLES: &str = "Examples:
  witan task summarize README.md             summarize a file
  witan up                                   serve the system on 127.0.0.1:8080
  witan check --explain summarize            what a component may do, in plain words
  witan run tool.wasm --dir docs             run somebody else's component, with one folder granted";

/// Flags that every command takes.
#[derive(clap::Args, Clone)]
pub(crate) struct Global {
    /// The system to load.
    #[arg(long, global = true, value_name = "FILE", env = "WITAN_SYSTEM")]
    system: Option<PathBuf>,
    /// Print JSON for programs instead of text for people.
    #[arg(long, global = true)]
    json: bool,
    /// Refuse to start a system that differs from its `witan.lock`.
    #[arg(long, global = true)]
    locked: bool,
    /// What to log to standard error: a level, or a filter such as `warn,witan_engine=debug`. Without it, what
    /// serves logs `info` and the rest warnings alone.
    #[arg(long, global = true, value_name = "FILTER", env = "WITAN_LOG")]
    log: Option<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let command::Command::CompileWorker = arguments.command {
        return ExitCode::from(u8::try_from(witan_engine::compile_worker()).unwrap_or(1));
    }
    core_dump::off();
    memory::bound();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return output::failure(&arguments.global, &anyhow::Error::new(error)),
    };
    let code = match runtime.block_on(command::run(arguments.command, &arguments.global)) {
        Ok(code) => code,
        Err(error) => output::failure(&arguments.global, &error),
    };
    // Blocking reads of standard input cannot be cancelled; they must not hold up the end.
    runtime.shutdown_background();
    code
}

#[cfg(test)]
mod tests {
    use clap::{Command, CommandFactory as _};

    /// clap takes an argument of a command for a global one of the same name, and then finds a value of another type.
    #[test]
    fn no_command_has_a_flag_of_a_name_that_all_have() {
        let arguments = super::Arguments::command();
        arguments.clone().debug_assert();
        let globals: Vec<_> = arguments.get_arguments().map(|argument| argument.get_id().clone()).collect();
        assert!(globals.iter().any(|id| id == "log"));
        let mut commands: Vec<&Command> = arguments.get_subcommands().collect();
        while let Some(command) = commands.pop() {
            for argument in command.get_arguments() {
                assert!(!globals.contains(argument.get_id()), "`{}` of `{command}`", argument.get_id());
            }
            commands.extend(command.get_subcommands());
        }
    }
}
