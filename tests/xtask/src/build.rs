//! `cargo xtask build`: makes the guests, as `witan` does for itself in a checkout.

use std::fs;

use anyhow::Context;
use witan_build::{Checkout, Progress, Workspace};

/// What to build.
#[derive(clap::Args)]
pub struct Arguments {
    /// Only the components, not the programs that tests run.
    #[arg(long)]
    components: bool,
}

/// Builds and lists what was built.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let checkout = Checkout::find().context("this is no checkout of the project; run `cargo xtask` inside one")?;
    build(&checkout, Workspace::Components)?;
    if !arguments.components && checkout.root().join("tests/programs/Cargo.toml").exists() {
        build(&checkout, Workspace::Programs)?;
    }
    Ok(())
}

fn build(checkout: &Checkout, workspace: Workspace) -> anyhow::Result<()> {
    for component in checkout.build(workspace, &Progress::stderr())? {
        let size = fs::metadata(&component.path)?.len();
        let state = if component.changed { "made" } else { "unchanged" };
        let path = component.path.strip_prefix(checkout.root()).unwrap_or(&component.path);
        println!("{state:9} {:>8} bytes  {}", size, path.display());
    }
    Ok(())
}
