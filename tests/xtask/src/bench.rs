//! `cargo xtask bench`: what the kernel costs.

use std::process::Command;

use crate::{succeed, with_guests};

/// What to measure.
#[derive(clap::Args)]
pub struct Arguments {
    /// Given to the benchmarks, such as `--only calls` or `--json`.
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// Builds the guests and the product, then measures.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let checkout = with_guests()?;
    let root = checkout.root();
    // Together, so that both have the same dependencies, with the same features.
    let build = ["build", "--release", "--package", "witan", "--package", "witan-bench"];
    succeed(Command::new("cargo").args(build).current_dir(root))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), Into::into);
    let built = std::path::absolute(target)?.join("release");
    // A guest that traps would otherwise be looked up in the debug information of the host.
    succeed(
        Command::new(built.join("witan-bench"))
            .arg("--witan")
            .arg(built.join("witan"))
            .args(&arguments.arguments)
            .env("RUST_BACKTRACE", "0")
            .current_dir(root),
    )
}
