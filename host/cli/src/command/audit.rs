//! `witan audit`: what happened here, whether the log of it is what it was, and what components are made of.

mod ledger;
mod sbom;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::Global;

#[derive(Args)]
#[command(after_help = "Examples:
  witan audit show --deny --last 20                    the last twenty refusals
  witan audit verify --against /mnt/other/sink.jsonl   whether the log is what it was
  witan audit export --task ID --out task.jsonl        what can be verified elsewhere
  witan audit verify --export task.jsonl --key key.pem")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Read the whole ledger, and say whether it is what it was.
    Verify(ledger::Verify),
    /// Show entries of the ledger.
    Show(Box<ledger::Show>),
    /// Write entries with proofs that can be verified without this host.
    Export(Box<ledger::Export>),
    /// Make a checkpoint of the ledger, and print it with the key that verifies it.
    Checkpoint(ledger::Checkpoint),
    /// Destroy the keys of a person or a tenant: what was written of them says nothing any more.
    Erase(ledger::Erase),
    /// Put a new key in the place of the one that signs checkpoints.
    RotateKey,
    /// Compare what components are made of with a folder of advisories.
    Sbom(sbom::Arguments),
}

pub(crate) async fn run(arguments: Arguments, global: &Global) -> anyhow::Result<ExitCode> {
    match arguments.command {
        Command::Verify(arguments) => ledger::verify(&arguments, global).await,
        Command::Show(arguments) => ledger::show(&arguments, global).await,
        Command::Export(arguments) => ledger::export(&arguments, global),
        Command::Checkpoint(arguments) => ledger::checkpoint(&arguments, global).await,
        Command::Erase(arguments) => ledger::erase(&arguments, global),
        Command::RotateKey => ledger::rotate_key(global).await,
        Command::Sbom(arguments) => sbom::run(&arguments, global),
    }
}
