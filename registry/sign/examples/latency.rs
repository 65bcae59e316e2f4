//! How long the verdict about one version takes: `cargo run --release -p witan-registry-sign --example latency`.
//!
//! All attestations, an SBOM of 300 dependencies, and a trusted root that has been read; by keys, and by certificates.

#![allow(clippy::unwrap_used, reason = "a measurement may stop at what it did not expect")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use witan_authority::{Authority, noon};
use witan_registry_sign::{
    Attestation, Embedded, Identity, LocalBuild, Provenance, Release, Rule, Sbom, Signed, SigningKey, Statement,
    Subject, TrustPolicy, TrustRoot, TrustedKey, evaluate,
};
use witan_registry_types::{Digest, Package};

const ROUNDS: usize = 500;

fn predicate(attestation: Attestation, package: &Package) -> Value {
    match attestation {
        Attestation::Release => Release::new(Default::default(), Digest::of(b"wit")).to_predicate(),
        Attestation::Provenance => Provenance::local(&LocalBuild {
            command: "witan build".to_owned(),
            tools: vec!["rustc 1.95.0".to_owned()],
            source: None,
            started: noon(),
            finished: noon(),
        })
        .to_predicate(),
        Attestation::Sbom => {
            let mut document = Sbom::of_embedded(package, &Embedded::default()).unwrap().to_predicate();
            let component = |number: usize| {
                let url = format!("pkg:cargo/crate-{number}@1.{number}.0");
                let (name, version) = (format!("crate-{number}"), format!("1.{number}.0"));
                json!({ "type": "library", "bom-ref": url, "name": name, "version": version, "purl": url })
            };
            document["components"] = (0..300).map(component).collect();
            document
        }
    }
}

fn main() {
    let package: Package = "acme:tool@1.2.3".parse().unwrap();
    let digest = Digest::of(b"the manifest");
    let now = noon() + Duration::from_secs(60);
    let authority = Authority::new();
    let key = SigningKey::generate().unwrap();
    let identity = Identity {
        issuer: "https://accounts.example".to_owned(),
        subject: Subject::Email("a@acme.example".to_owned()),
    };
    let certified = authority.certify(&identity, noon());
    // A log of some size, so that proofs are not empty.
    (0..1000_u32).for_each(|number| drop(authority.log.append(&number.to_be_bytes())));
    let rule = Rule {
        packages: "acme:*".parse().unwrap(),
        keys: vec![TrustedKey { key: key.public().clone(), not_after: None }],
        identities: vec![identity],
        threshold: 1,
        require: BTreeSet::from(Attestation::ALL),
        allow_unlogged: false,
    };
    let policy = TrustPolicy::new(vec![rule], TrustPolicy::MAX_AGE).unwrap();
    let started = Instant::now();
    let root = TrustRoot::parse(&authority.trusted_root(), now).unwrap();
    println!("trusted root, once: {:?}", started.elapsed());
    for by in ["keys", "certificates"] {
        let bundles: Vec<Vec<u8>> = Attestation::ALL
            .iter()
            .map(|attestation| {
                let predicate = predicate(*attestation, &package);
                let statement = Statement { package: package.clone(), digest, attestation: *attestation, predicate };
                let signed = match by {
                    "keys" => Signed::with_key(&statement, &key),
                    _ => Signed::with_certificate(&statement, &certified.key, &certified.certificate),
                };
                let signed = signed.unwrap();
                signed.logged(&authority.log.append(&signed.entry_body().unwrap())).unwrap()
            })
            .collect();
        let mut times: Vec<Duration> = (0..ROUNDS)
            .map(|_| {
                let started = Instant::now();
                evaluate(&policy, &root, &package, &digest, &bundles, now).unwrap();
                started.elapsed()
            })
            .collect();
        times.sort();
        let size: usize = bundles.iter().map(Vec::len).sum();
        let (half, most) = (times[ROUNDS / 2], times[ROUNDS * 99 / 100]);
        println!("by {by}, {size} bytes of bundles: {half:?} in the median, {most:?} at p99");
    }
}
