//! A package of a registry: from what somebody served to bytes that their author signed.

use std::collections::BTreeMap;
use std::time::SystemTime;

use witan_registry_component::Component;
use witan_registry_sign::{Embedded, Sbom, TrustPolicy, TrustRoot, Verified, evaluate};
use witan_registry_tuf::HoldError;
use witan_registry_types::{Artifact, ComponentConfig, ComponentManifest, Digest, Host, Package, PackageName, media};
use witan_system::Registries;

use crate::Refused;

/// Whom to trust to sign packages.
#[derive(Debug)]
pub struct Trust {
    /// The rules.
    pub policy: TrustPolicy,
    /// Authorities and logs, for packages of registries that are not held to TUF metadata.
    pub root: Option<TrustRoot>,
    /// Which registry a package is from.
    pub registries: Registries,
    /// Authorities and logs of the registries that are held to TUF metadata, or why those do not hold.
    pub held: BTreeMap<Host, Result<TrustRoot, HoldError>>,
}

impl Trust {
    /// Trusts by `policy` and `root` what comes from any registry.
    pub fn new(policy: TrustPolicy, root: Option<TrustRoot>) -> Self {
        Self { policy, root, registries: Registries::default(), held: BTreeMap::new() }
    }

    /// The authorities and logs that count for `package`. Where its registry is held to metadata, no others do.
    fn root_of(&self, package: &PackageName) -> Result<&TrustRoot, Refused> {
        let registry = self.registries.of(package).map(|registry| &registry.host);
        match registry.and_then(|host| self.held.get_key_value(host)) {
            None => self.root.as_ref().ok_or(Refused::NoRoot),
            Some((_, Ok(root))) => Ok(root),
            Some((host, Err(error))) => Err(Refused::Metadata { registry: host.clone(), source: error.clone() }),
        }
    }
}

/// A package whose signatures count, and whose parts are the ones that were signed.
#[derive(Debug)]
pub struct VerifiedPackage {
    /// What the signatures say.
    pub signed: Verified,
    /// The digest of the component's bytes.
    pub layer: Digest,
    /// What those bytes say of themselves.
    pub component: Component,
}

/// Verifies that `artifact` is the version `package` with the manifest `digest`, as its author signed it. The order is
/// from what costs least to what costs most: nothing of the component is read before its digest was signed.
pub fn verify(
    trust: &Trust,
    package: &Package,
    digest: &Digest,
    artifact: &Artifact,
    now: SystemTime,
) -> Result<VerifiedPackage, Refused> {
    let found = Digest::of(&artifact.manifest);
    same(package, "manifest", digest, &found)?;
    let form = |part, message: String| Refused::Form { package: package.clone(), part, message };
    let manifest = ComponentManifest::parse(&artifact.manifest, media::MANIFEST)
        .map_err(|error| form("manifest", error.to_string()))?;
    let root = trust.root_of(&package.name)?;
    let signed = evaluate(&trust.policy, root, package, digest, &artifact.bundles, now).map_err(Box::new)?;
    same(package, "config", &manifest.config.digest, &Digest::of(&artifact.config))?;
    let layer = Digest::of(&artifact.layer);
    same(package, "layer", &manifest.layer.digest, &layer)?;
    for (part, descriptor, bytes) in
        [("config", &manifest.config, &artifact.config), ("layer", &manifest.layer, &artifact.layer)]
    {
        if descriptor.size != bytes.len() as u64 {
            let message = format!("it has {} bytes, and the manifest says {}", bytes.len(), descriptor.size);
            return Err(form(part, message));
        }
    }
    let config = ComponentConfig::parse(&artifact.config).map_err(|error| form("config", error.to_string()))?;
    same(package, "layer that the config names", &layer, &config.layer_digests[0])?;
    let component = Component::read(&artifact.layer)?;
    agrees(&config, &component)?;
    let found = component.wit_digest();
    if found != signed.release.wit {
        return Err(Refused::Wit { signed: signed.release.wit, found });
    }
    if let Some(sbom) = &signed.sbom {
        lists_all(sbom, &artifact.layer)?;
    }
    Ok(VerifiedPackage { signed, layer, component })
}

fn same(package: &Package, part: &'static str, expected: &Digest, found: &Digest) -> Result<(), Refused> {
    if expected == found {
        return Ok(());
    }
    let (expected, found) = (expected.to_string(), found.to_string());
    Err(Refused::Digest { package: package.clone(), part, expected, found })
}

/// Whether the config says the same of imports and exports as the bytes.
fn agrees(config: &ComponentConfig, component: &Component) -> Result<(), Refused> {
    let found = component.interfaces();
    for (what, config, bytes) in
        [("imports", &config.component.imports, &found.imports), ("exports", &config.component.exports, &found.exports)]
    {
        let mut sorted = config.clone();
        sorted.sort();
        if sorted != *bytes {
            return Err(Refused::Config { what, config: list(&sorted), bytes: list(bytes) });
        }
    }
    Ok(())
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

fn lists_all(sbom: &Sbom, wasm: &[u8]) -> Result<(), Refused> {
    let missing = sbom.missing(&Embedded::read(wasm)?);
    if missing.is_empty() {
        return Ok(());
    }
    const SHOWN: usize = 5;
    let shown: Vec<String> = missing.iter().take(SHOWN).map(|dependency| format!("`{dependency}`")).collect();
    let more = missing.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Err(Refused::SbomOmits(format!("{}{more}", shown.join(", "))))
}
