//! A client of a registry that runs, and a version to publish.

use std::time::{Duration, SystemTime};

use witan_registry_client::{Client, Credentials, Settings};
use witan_registry_sign::{
    Attestation, Embedded, LocalBuild, Provenance, Release, Sbom, Signed, SigningKey, Statement,
};
use witan_registry_types::{
    Artifact, ComponentConfig, ComponentInterfaces, ComponentManifest, Digest, Host, Mapping, Package,
};
use witan_test_registry::Running;

pub fn package() -> Package {
    "acme:sums@1.0.0".parse().unwrap()
}

/// Short enough that a test of what never answers ends.
pub fn settings() -> Settings {
    Settings {
        connect: Duration::from_secs(5),
        idle: Duration::from_secs(20),
        total: Duration::from_secs(60),
        ..Settings::default()
    }
}

pub fn host(address: std::net::SocketAddr) -> Host {
    address.to_string().parse().unwrap()
}

/// A client with a token of these scopes.
pub async fn client(running: &Running, scopes: &[&str]) -> Client {
    let host = host(running.address);
    let mut settings = settings();
    settings.credentials.insert(host.clone(), Credentials::new("anyone", running.token(scopes).await));
    Client::new(host, Mapping::default(), settings).unwrap()
}

/// The parts of a version whose component has `size` bytes, without signatures. What is no component is nobody's business
/// here.
pub fn unsigned(size: usize) -> Artifact {
    let layer = vec![b'x'; size];
    let interfaces = ComponentInterfaces::default();
    let config = ComponentConfig::new("2026-01-01T00:00:00Z".to_owned(), Digest::of(&layer), interfaces).to_json();
    let manifest = ComponentManifest::new(&config, &layer).to_json();
    Artifact { manifest, config, layer, bundles: Vec::new() }
}

/// The statements about [`package`] that every version carries.
pub fn statements(digest: Digest) -> [Statement; 3] {
    let build = LocalBuild {
        command: "cargo build".to_owned(),
        tools: Vec::new(),
        source: None,
        started: SystemTime::UNIX_EPOCH,
        finished: SystemTime::UNIX_EPOCH,
    };
    let release = Release::new(serde_json::from_str("{}").unwrap(), Digest::of(b"wit"));
    let sbom = Sbom::of_embedded(&package(), &Embedded::default()).unwrap();
    let predicates = [release.to_predicate(), Provenance::local(&build).to_predicate(), sbom.to_predicate()];
    let mut predicates = predicates.into_iter();
    Attestation::ALL.map(|attestation| Statement {
        package: package(),
        digest,
        attestation,
        predicate: predicates.next().unwrap(),
    })
}

/// The parts of a version with its signatures, which the log of the client's registry has witnessed.
pub async fn artifact(size: usize, client: &Client) -> Artifact {
    let key = SigningKey::generate().unwrap();
    let mut artifact = unsigned(size);
    for statement in statements(Digest::of(&artifact.manifest)) {
        let signed = Signed::with_key(&statement, &key).unwrap();
        artifact.bundles.push(signed.witnessed(&client.log()).await.unwrap());
    }
    artifact
}
