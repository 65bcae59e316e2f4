//! A publisher whose version is trusted, to change one thing at a time.

#![allow(unused_imports, reason = "each scenario uses its part")]

use std::time::{Duration, SystemTime};

pub use serde_json::{Value, json};
pub use witan_authority::{Authority, Certified, LocalLog, noon};
pub use witan_registry_sign::*;
pub use witan_registry_types::{Digest, Package};
use witan_system::Ceiling;

pub fn package() -> Package {
    "acme:tool@1.2.3".parse().unwrap()
}

pub fn digest() -> Digest {
    Digest::of(b"the manifest")
}

pub fn release() -> Release {
    let ceiling = json!({ "http": [{ "host": "api.example.com" }] });
    Release::new(serde_json::from_value::<Ceiling>(ceiling).unwrap(), Digest::of(b"wit"))
}

pub fn provenance() -> Provenance {
    Provenance::local(&LocalBuild {
        command: "witan build".to_owned(),
        tools: vec!["rustc 1.95.0".to_owned()],
        source: None,
        started: noon() - Duration::from_secs(60),
        finished: noon() - Duration::from_secs(30),
    })
}

pub fn sbom() -> Sbom {
    Sbom::of_embedded(&package(), &Embedded::default()).unwrap()
}

/// The statement of this kind about [`package`].
pub fn statement(attestation: Attestation) -> Statement {
    let predicate = match attestation {
        Attestation::Release => release().to_predicate(),
        Attestation::Provenance => provenance().to_predicate(),
        Attestation::Sbom => sbom().to_predicate(),
    };
    Statement { package: package(), digest: digest(), attestation, predicate }
}

/// A rule for the packages of `acme` that this key may sign.
pub fn rule(keys: &[&SigningKey]) -> Rule {
    let trusted = |key: &&SigningKey| TrustedKey { key: key.public().clone(), not_after: None };
    Rule {
        packages: "acme:*".parse().unwrap(),
        keys: keys.iter().map(trusted).collect(),
        identities: Vec::new(),
        threshold: 1,
        require: Attestation::ALL.into(),
        allow_unlogged: false,
    }
}

pub fn policy(rules: Vec<Rule>) -> TrustPolicy {
    TrustPolicy::new(rules, TrustPolicy::MAX_AGE).unwrap()
}

/// Somebody who publishes, and an operator who trusts that.
pub struct Publisher {
    pub authority: Authority,
    pub key: SigningKey,
    pub policy: TrustPolicy,
    pub now: SystemTime,
}

impl Publisher {
    pub fn new() -> Self {
        let key = SigningKey::generate().unwrap();
        let policy = policy(vec![rule(&[&key])]);
        Self { authority: Authority::new(), policy, key, now: noon() + Duration::from_secs(3600) }
    }

    pub fn root(&self) -> TrustRoot {
        TrustRoot::parse(&self.authority.trusted_root(), self.now).unwrap()
    }

    pub fn sign(&self, statement: &Statement) -> Vec<u8> {
        self.sign_with(statement, &self.key)
    }

    pub fn sign_with(&self, statement: &Statement, key: &SigningKey) -> Vec<u8> {
        let signed = Signed::with_key(statement, key).unwrap();
        futures::executor::block_on(signed.witnessed(&self.authority.log)).unwrap()
    }

    /// All statements, signed.
    pub fn bundles(&self) -> Vec<Vec<u8>> {
        Attestation::ALL.iter().map(|attestation| self.sign(&statement(*attestation))).collect()
    }

    pub fn evaluate(&self, bundles: &[Vec<u8>]) -> Result<Verified, Refusal> {
        evaluate(&self.policy, &self.root(), &package(), &digest(), bundles, self.now)
    }

    /// The reason for which the first of `bundles`, the release, does not count; the same flow without it succeeds.
    pub fn reason(&self, bundles: &[Vec<u8>]) -> Reason {
        match self.evaluate(bundles) {
            Err(Refusal::Missing { attestation: Attestation::Release, mut rejected, .. }) => {
                assert_eq!((rejected.len(), rejected[0].bundle), (1, 0));
                rejected.remove(0).reason
            }
            other => panic!("{other:?}"),
        }
    }
}

/// The bundle with a change in its JSON.
pub fn changed(bundle: &[u8], change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut value: Value = serde_json::from_slice(bundle).unwrap();
    change(&mut value);
    value.to_string().into_bytes()
}
