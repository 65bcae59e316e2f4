//! `cargo xtask generate`: writes what follows from our WIT, and the schema of `system.toml`.

use anyhow::Context;
use witan_build::Checkout;

/// Writes and lists what changed.
pub fn run() -> anyhow::Result<()> {
    let checkout = Checkout::find().context("this is no checkout of the project; run `cargo xtask` inside one")?;
    for path in witan_generate::write(checkout.root())? {
        println!("written  {}", path.display());
    }
    let schema = checkout.root().join("docs/system.schema.json");
    let text = witan_system::json_schema_text();
    if std::fs::read_to_string(&schema).ok().as_ref() != Some(&text) {
        std::fs::write(&schema, text).with_context(|| format!("cannot write `{}`", schema.display()))?;
        println!("written  {}", schema.display());
    }
    Ok(())
}
