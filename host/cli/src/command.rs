//! The commands, a module each.

mod check;
mod graph;
mod task;

use std::process::ExitCode;

use clap::Subcommand;

use crate::Global;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Do a task, such as `summarize`, and print its result.
    Task(task::Arguments),
    /// Check a system without running it, and say what its components may do.
    Check(check::Arguments),
    /// Draw a system: components, links, grants, mounts and intents.
    Graph(graph::Arguments),
    /// Print completions for a shell.
    #[command(after_help = "Example:\n  witan completions bash > /etc/bash_completion.d/witan")]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Compile one component: what the host runs in a limited child process.
    #[command(hide = true)]
    CompileWorker,
}

/// Runs `command`.
pub(crate) async fn run(command: Command, global: &Global) -> anyhow::Result<ExitCode> {
    match command {
        Command::Task(arguments) => task::run(arguments, global).await,
        Command::Check(arguments) => check::run(&arguments, global),
        Command::Graph(arguments) => graph::run(&arguments, global),
        Command::Completions { shell } => {
            let mut command = <crate::Arguments as clap::CommandFactory>::command();
            clap_complete::generate(shell, &mut command, "witan", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
        // Handled before there is a runtime.
        Command::CompileWorker => Ok(ExitCode::FAILURE),
    }
}
