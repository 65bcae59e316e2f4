//! Stores one version after another in the folder that is named first, and prints each that is stored: for a test that
//! kills it.

use std::error::Error;
use std::io::Write as _;

use witan_registry_client::Store;
use witan_registry_types::{Artifact, ComponentConfig, ComponentInterfaces, ComponentManifest, Digest};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1).ok_or("name a folder")?;
    let store = Store::open(folder.as_ref())?;
    let mut random = fastrand::Rng::new();
    for number in 0_u64.. {
        let layer: Vec<u8> = (0..random.usize(1..100_000)).map(|_| random.u8(..)).collect();
        let made = "2026-01-01T00:00:00Z".to_owned();
        let config = ComponentConfig::new(made, Digest::of(&layer), ComponentInterfaces::default()).to_json();
        let manifest = ComponentManifest::new(&config, &layer).to_json();
        let digest = Digest::of(&manifest);
        let bundles = vec![digest.to_string().into_bytes()];
        let package = format!("acme:sums@{number}.0.0").parse()?;
        let mut stdout = std::io::stdout().lock();
        writeln!(stdout, "begun {package} {digest}")?;
        store.put(&package, &digest, &Artifact { manifest, config, layer, bundles })?;
        writeln!(stdout, "done {package} {digest}")?;
    }
    Ok(())
}
