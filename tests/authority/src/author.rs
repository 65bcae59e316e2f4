//! An author who signs versions of a component, with everything that a version carries.

use std::time::Duration;

use serde_json::{Value, json};
use witan_registry_component::Component;
use witan_registry_sign::{
    Attestation, Embedded, LocalBuild, Provenance, Release, Sbom, Signed, SigningKey, Statement,
};
use witan_registry_types::{Artifact, ComponentConfig, ComponentManifest, Digest, Package};
use witan_system::Ceiling;

use crate::{Authority, Certified, noon};

/// A component that reads settings, and may read the one called `unit`.
const SUMS: &str = r#"(component
    (import "wasi:config/store@0.2.0-rc.1" (instance))
    (core module $m (func (export "f")))
    (core instance $i (instantiate $m))
    (func $f (canon lift (core func $i "f")))
    (instance $e (export "add" (func $f)))
    (export "acme:sums/add@1.0.0" (instance $e)))"#;

/// What an author publishes; a test changes one thing.
#[derive(Clone)]
pub struct Version {
    /// Its name and number.
    pub package: Package,
    /// The component.
    pub wasm: Vec<u8>,
    /// What the config says of it.
    pub config: ComponentConfig,
    /// What the author says of it.
    pub release: Release,
    /// What it is made of, as a predicate.
    pub sbom: Value,
}

impl Version {
    /// A version of `acme:sums`.
    pub fn new(version: &str) -> Self {
        Self::of(&format!("acme:sums@{version}").parse().unwrap())
    }

    /// The same component under another name.
    pub fn of(package: &Package) -> Self {
        let ceiling = serde_json::from_value(json!({ "config": ["unit"] })).unwrap();
        Self::made_of(package, wat::parse_str(SUMS).unwrap(), ceiling)
    }

    /// A version of another component, made of what is embedded in it.
    pub fn made_of(package: &Package, wasm: Vec<u8>, ceiling: Ceiling) -> Self {
        let types = Component::read(&wasm).unwrap();
        let embedded = Embedded::read(&wasm).unwrap();
        // Each version has a manifest of its own.
        let created = format!("2025-01-01T00:00:00Z {}", package.version);
        Self {
            config: ComponentConfig::new(created, Digest::of(&wasm), types.interfaces()),
            release: Release::new(ceiling, types.wit_digest()),
            sbom: Sbom::of_embedded(package, &embedded).unwrap().to_predicate(),
            package: package.clone(),
            wasm,
        }
    }

    /// Gives the component a custom section, as builds do.
    #[must_use]
    pub fn with_section(mut self, name: &str, data: &[u8]) -> Self {
        let mut section = wasm_encoder::Component::new();
        section.section(&wasm_encoder::CustomSection { name: name.into(), data: data.into() });
        self.wasm.extend_from_slice(&section.finish()[8..]);
        self.config.layer_digests = [Digest::of(&self.wasm)];
        self
    }

    /// Its manifest.
    pub fn manifest(&self) -> Vec<u8> {
        ComponentManifest::new(&self.config.to_json(), &self.wasm).to_json()
    }

    /// What is said of the manifest with `digest`.
    pub fn statement(&self, attestation: Attestation, digest: &Digest) -> Statement {
        let predicate = match attestation {
            Attestation::Release => self.release.to_predicate(),
            Attestation::Sbom => self.sbom.clone(),
            Attestation::Provenance => Provenance::local(&LocalBuild {
                command: "witan build".to_owned(),
                tools: vec!["rustc 1.95.0".to_owned()],
                source: None,
                started: noon() - Duration::from_secs(60),
                finished: noon() - Duration::from_secs(30),
            })
            .to_predicate(),
        };
        Statement { package: self.package.clone(), digest: *digest, attestation, predicate }
    }

    /// Its parts under `manifest`, with all statements about that, each signed by `sign`.
    pub fn artifact(&self, manifest: Vec<u8>, sign: impl Fn(&Statement) -> Vec<u8>) -> (Digest, Artifact) {
        let digest = Digest::of(&manifest);
        let bundles = Attestation::ALL.map(|attestation| sign(&self.statement(attestation, &digest))).to_vec();
        (digest, Artifact { manifest, config: self.config.to_json(), layer: self.wasm.clone(), bundles })
    }
}

impl Authority {
    /// The bundle of a statement that `key` signs and the log witnesses.
    pub fn sign(&self, key: &SigningKey, statement: &Statement) -> Vec<u8> {
        self.witness(Signed::with_key(statement, key).unwrap())
    }

    /// The same with a certificate.
    pub fn sign_certified(&self, certified: &Certified, statement: &Statement) -> Vec<u8> {
        self.witness(Signed::with_certificate(statement, &certified.key, &certified.certificate).unwrap())
    }

    fn witness(&self, signed: Signed) -> Vec<u8> {
        let entry = self.log.append(&signed.entry_body().unwrap());
        signed.logged(&entry).unwrap()
    }

    /// `version` as `key` signs it.
    pub fn publish(&self, key: &SigningKey, version: &Version) -> (Digest, Artifact) {
        version.artifact(version.manifest(), |statement| self.sign(key, statement))
    }
}
