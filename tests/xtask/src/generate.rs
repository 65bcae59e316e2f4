//! `cargo xtask generate`: writes what follows from our WIT.

use anyhow::Context;
use witan_build::Checkout;

/// Writes and lists what changed.
pub fn run() -> anyhow::Result<()> {
    let checkout = Checkout::find().context("this is no checkout of the project; run `cargo xtask` inside one")?;
    for path in witan_generate::write(checkout.root())? {
        println!("written  {}", path.display());
    }
    Ok(())
}
