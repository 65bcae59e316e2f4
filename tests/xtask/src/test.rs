//! `cargo xtask test`: all tests, after setting up what they need.

use std::process::Command;

use crate::{succeed, with_guests};

/// Which tests to run.
#[derive(clap::Args)]
pub struct Arguments {
    /// Given to the host's `cargo test`, such as the name of a test.
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// Builds the guests, then runs the tests of the host and those of the guests.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let checkout = with_guests()?;
    let root = checkout.root();
    succeed(Command::new("cargo").arg("test").arg("--workspace").args(&arguments.arguments).current_dir(root))?;
    if arguments.arguments.is_empty() {
        let guests = checkout.target_folder()?;
        succeed(
            Command::new("cargo").arg("test").current_dir(root.join("components")).env("CARGO_TARGET_DIR", guests),
        )?;
    }
    Ok(())
}
