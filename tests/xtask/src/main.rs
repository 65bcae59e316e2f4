//! Tasks of the project, run as `cargo xtask <task>`. Each task is a module.

mod bench;
mod build;
mod generate;
mod policy;
mod soak;
mod test;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use witan_build::{Checkout, Progress, Workspace};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Tasks of the project")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Measures what the kernel costs, and saves the table to `tests/bench/RESULTS.md`.
    Bench(bench::Arguments),
    /// Builds the components and the programs that tests run.
    Build(build::Arguments),
    /// Runs all tests, after building what they need, and getting the tools of others that they try.
    Test(test::Arguments),
    /// Writes the synchronous twins and the typed forwarders that follow from `wit/`, and the schema of `system.toml`.
    Generate,
    /// Checks licences, versions and sources of all dependencies.
    Policy,
    /// Runs for minutes what ordinary tests bound: random inputs, hot swap under load, attacks.
    Soak(soak::Arguments),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().task {
        Task::Bench(arguments) => bench::run(&arguments),
        Task::Build(arguments) => build::run(&arguments),
        Task::Test(arguments) => test::run(&arguments),
        Task::Generate => generate::run(),
        Task::Policy => policy::run(),
        Task::Soak(arguments) => soak::run(&arguments),
    }
}

/// The checkout that this program was built in, with all its guests built.
fn with_guests() -> anyhow::Result<Checkout> {
    let checkout = Checkout::find().context("this is no checkout of the project; run `cargo xtask` inside one")?;
    for workspace in [Workspace::Components, Workspace::Programs] {
        checkout.build(workspace, &Progress::stderr())?;
    }
    Ok(checkout)
}

/// Runs `command`, which is to succeed.
fn succeed(command: &mut std::process::Command) -> anyhow::Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("cannot run `{program}`"))?;
    anyhow::ensure!(status.success(), "`{command:?}` failed: {status}");
    Ok(())
}
