//! The commands, a module each.

mod audit;
mod auth;
mod backup;
mod build;
mod call;
mod check;
mod doctor;
mod grants;
mod graph;
mod inspect;
mod keys;
mod policy;
mod publish;
mod pull;
mod quarantine;
mod registry;
mod run;
mod running;
mod search;
mod secrets;
mod serve;
mod sign;
mod task;
mod tasks;
mod trust;
mod up;
mod upgrade;
mod verify;
mod yank;

use std::{io, process::ExitCode, time::Duration};

use clap::Subcommand;
use tokio::signal::unix::{Signal, SignalKind, signal};
use witan_telemetry::LogSettings;

use crate::Global;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Do a task, such as `summarize`, and print its result.
    Task(Box<task::Arguments>),
    /// List, show, cancel, hold and follow the tasks of a running host.
    Tasks(tasks::Arguments),
    /// Serve the system over HTTP.
    Up(up::Arguments),
    /// Say how a running host is.
    Status(running::Target),
    /// List the components of a running host with their counters.
    Ps(running::Target),
    /// Print what a running host logged.
    Logs(running::Logs),
    /// Stop the host that runs on this folder's system.
    Stop,
    /// Say who may ask this host: keys, tenants, users, sessions. Log in to a host.
    Auth(auth::Arguments),
    /// Copy a host's data into one file while it runs, and restore it.
    Backup(backup::Arguments),
    /// Look for what is wrong with a host, its data and its surroundings.
    Doctor(doctor::Arguments),
    /// Check a system without running it, and say what its components may do.
    Check(check::Arguments),
    /// Draw a system: components, links, grants, mounts and intents.
    Graph(graph::Arguments),
    /// Run somebody else's program: a component that exports `wasi:cli/run`.
    Run(Box<run::Arguments>),
    /// Serve HTTP with somebody else's component: one that exports a handler of `wasi:http`.
    Serve(Box<serve::Arguments>),
    /// Call one function of a component, with WAVE values in and out.
    Call(Box<call::Arguments>),
    /// Say what a component is, what it imports and what it would need granted, without running it.
    Inspect(inspect::Arguments),
    /// Say whether a component would be let in here, and on whose word.
    Verify(verify::Arguments),
    /// Move packages to newer versions, and see first what is new.
    Upgrade(upgrade::Arguments),
    /// Return to the version before the last upgrade.
    Rollback(upgrade::Rollback),
    /// Say whom this system trusts, and keep that current.
    Trust(trust::Arguments),
    /// Keep components from running, and see which are kept.
    Quarantine(quarantine::Arguments),
    /// Make components of Rust sources, and sign them for this machine.
    Build(build::Arguments),
    /// Keep secrets for components, which use them and never see them.
    Secrets(secrets::Arguments),
    /// Find out which grants components need.
    Grants(Box<grants::Arguments>),
    /// Make, list, replace and export the keys that you sign with.
    Keys(keys::Arguments),
    /// Sign a component: its manifest, and the statements about it that every version carries.
    Sign(Box<sign::Arguments>),
    /// Sign a component and publish it to a registry.
    Publish(Box<publish::Arguments>),
    /// Fetch a component from a registry, and keep it.
    Pull(Box<pull::Arguments>),
    /// Find packages in a registry.
    Search(search::Arguments),
    /// Say that a version should not be used any more, or take that back.
    Yank(Box<yank::Arguments>),
    /// Check, test and explain the policies that decide each request.
    Policy(policy::Arguments),
    /// Say what happened here, whether the log of it is what it was, and what components are made of.
    Audit(audit::Arguments),
    /// Run a registry, tend to its tokens, sign its metadata, log in to one, and trust it.
    Registry(Box<registry::Arguments>),
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
    // What serves sets up its own; of the rest, standard error belongs to the component or to what the command says.
    let serves = match &command {
        Command::Up(_) | Command::Serve(_) => true,
        Command::Registry(arguments) => arguments.serves(),
        _ => false,
    };
    if !serves {
        let quiet = LogSettings { filter: global.log.clone(), quiet: true, ..LogSettings::default() };
        crate::telemetry::logs(&quiet)?;
    }
    match command {
        Command::Task(arguments) => task::run(*arguments, global).await,
        Command::Tasks(arguments) => tasks::run(arguments, global).await,
        Command::Up(arguments) => up::run(arguments, global).await,
        Command::Status(target) => running::status(&target, global).await,
        Command::Ps(target) => running::ps(&target, global).await,
        Command::Logs(arguments) => running::logs(&arguments, global).await,
        Command::Stop => running::stop(global).await,
        Command::Auth(arguments) => auth::run(arguments, global).await,
        Command::Backup(arguments) => backup::run(&arguments, global).await,
        Command::Doctor(arguments) => doctor::run(&arguments, global).await,
        Command::Check(arguments) => check::run(&arguments, global),
        Command::Graph(arguments) => graph::run(&arguments, global),
        Command::Run(arguments) => run::run(*arguments, global).await,
        Command::Serve(arguments) => serve::run(*arguments, global).await,
        Command::Grants(arguments) => grants::run(*arguments, global).await,
        Command::Verify(arguments) => verify::run(&arguments, global).await,
        Command::Upgrade(arguments) => upgrade::upgrade(&arguments, global).await,
        Command::Rollback(arguments) => upgrade::rollback(&arguments, global),
        Command::Trust(arguments) => trust::run(&arguments, global).await,
        Command::Quarantine(arguments) => quarantine::run(&arguments, global),
        Command::Build(arguments) => build::run(&arguments, global),
        Command::Call(arguments) => call::run(*arguments, global).await,
        Command::Inspect(arguments) => inspect::run(&arguments, global),
        Command::Keys(arguments) => keys::run(&arguments, global),
        Command::Sign(arguments) => sign::run(&arguments, global).await,
        Command::Policy(arguments) => policy::run(&arguments, global).await,
        Command::Secrets(arguments) => secrets::run(&arguments, global),
        Command::Publish(arguments) => publish::run(&arguments, global).await,
        Command::Pull(arguments) => pull::run(&arguments, global).await,
        Command::Search(arguments) => search::run(&arguments, global).await,
        Command::Yank(arguments) => yank::run(&arguments, global).await,
        Command::Audit(arguments) => audit::run(arguments, global).await,
        Command::Registry(arguments) => registry::run(*arguments, global).await,
        Command::Completions { shell } => {
            let mut command = <crate::Arguments as clap::CommandFactory>::command();
            clap_complete::generate(shell, &mut command, "witan", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
        // Handled before there is a runtime.
        Command::CompileWorker => Ok(ExitCode::FAILURE),
    }
}

/// Parses a length of time, as in `system.toml`.
fn time(text: &str) -> Result<Duration, String> {
    witan_system::parse_duration(text)
        .ok_or_else(|| format!("`{text}` is no time; write it such as `500ms`, `30s` or `2m`"))
}

/// Resolves when the process is asked to end. It listens for that from now on, so that who says that it serves can be asked
/// to end from then on.
fn stopped() -> impl Future<Output = ()> {
    let asked = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
    let received = |signal: io::Result<Signal>| async {
        match signal {
            Ok(mut signal) => drop(signal.recv().await),
            Err(error) => {
                tracing::warn!(%error, "cannot listen for a signal that asks to end");
                std::future::pending::<()>().await;
            }
        }
    };
    let [terminate, interrupt] = asked.map(received);
    async {
        tokio::select! {
            () = terminate => {}
            () = interrupt => {}
        }
    }
}
