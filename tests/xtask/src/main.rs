//! Tasks of the project, run as `cargo xtask <task>`. Each task is a module.

mod build;
mod generate;
mod policy;
mod soak;
mod test;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Tasks of the project")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Builds the components and the programs that tests run.
    Build(build::Arguments),
    /// Runs all tests, after building what they need.
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
        Task::Build(arguments) => build::run(&arguments),
        Task::Test(arguments) => test::run(&arguments),
        Task::Generate => generate::run(),
        Task::Policy => policy::run(),
        Task::Soak(arguments) => soak::run(&arguments),
    }
}
