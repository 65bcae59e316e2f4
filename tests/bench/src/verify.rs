//! What it costs to know that a package is its author's.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use witan_admission::{Trust, verify};
use witan_authority::{Authority, Version};
use witan_build::{Checkout, Workspace};
use witan_registry_sign::{Attestation, Rule, SigningKey, TrustPolicy, TrustRoot, TrustedKey, evaluate};
use witan_registry_types::{Artifact, Digest, Package};
use witan_system::Ceiling;

use crate::{
    Setting,
    rounds::{Best, time},
    table::{Figure, Row},
};

const ROUNDS: usize = 40;

/// Entries of the log before ours, so that there is something to prove.
const OTHERS: u32 = 1_000;

pub(crate) fn measure(setting: &Setting) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for name in ["documents", "tool-files"] {
        rows.extend(of_component(setting, name)?);
    }
    Ok(rows)
}

fn of_component(setting: &Setting, name: &str) -> anyhow::Result<Vec<Row>> {
    let author = Author::new()?;
    let wasm = component(&setting.root, name)?;
    let size = wasm.len() / 1024;
    let package: Package = format!("witan:{name}@1.0.0").parse()?;
    let (digest, artifact) = author.publish(&package, wasm);
    let trust = author.trust()?;
    let mut best = Best::new();
    for _ in 0..ROUNDS {
        let now = SystemTime::now();
        let started = Instant::now();
        evaluate(&trust.policy, root(&trust)?, &package, &digest, &artifact.bundles, now)?;
        let evaluated = started.elapsed();
        let started = Instant::now();
        verify(&trust, &package, &digest, &artifact, now)?;
        best.note([evaluated, started.elapsed()]);
    }
    let [evaluated, verified] = best.all();
    let attestations = artifact.bundles.len();
    Ok(vec![
        Row {
            measure: format!(
                "a package verified, all {attestations} attestations, warm trust root: `{name}`, {size} KiB"
            ),
            value: time(verified),
            floor: String::new(),
            figure: at_most(verified, 5.0),
        },
        Row {
            measure: "— of it: signatures, log and policy".to_owned(),
            value: time(evaluated),
            floor: String::new(),
            figure: Figure::Report,
        },
    ])
}

fn at_most(value: Duration, bar: f64) -> Figure {
    Figure::AtMost { value: value.as_secs_f64() * 1e3, bar, aim: None, unit: " ms" }
}

fn root(trust: &Trust) -> anyhow::Result<&TrustRoot> {
    trust.root.as_ref().ok_or_else(|| anyhow::anyhow!("there is no trust root"))
}

/// The bytes of a component of ours.
pub(crate) fn component(root: &Path, name: &str) -> anyhow::Result<Vec<u8>> {
    let checkout = Checkout::at(root).ok_or_else(|| anyhow::anyhow!("this is no checkout"))?;
    Ok(fs::read(checkout.build_folder(Workspace::Components).join(name).with_extension("wasm"))?)
}

/// Somebody who signs, and a log that says so.
pub(crate) struct Author {
    authority: Authority,
    key: SigningKey,
}

impl Author {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let authority = Authority::new();
        for number in 0..OTHERS {
            drop(authority.log.append(&number.to_be_bytes()));
        }
        Ok(Self { authority, key: SigningKey::generate()? })
    }

    /// A policy that asks this author for everything.
    pub(crate) fn trust(&self) -> anyhow::Result<Trust> {
        let rule = Rule {
            packages: "witan:*".parse()?,
            keys: vec![TrustedKey { key: self.key.public().clone(), not_after: None }],
            identities: Vec::new(),
            threshold: 1,
            require: BTreeSet::from(Attestation::ALL),
            allow_unlogged: false,
        };
        let root = TrustRoot::parse(&self.authority.trusted_root(), SystemTime::now())?;
        Ok(Trust::new(TrustPolicy::new(vec![rule], TrustPolicy::MAX_AGE)?, Some(root)))
    }

    /// What `witan publish` would send.
    pub(crate) fn publish(&self, package: &Package, wasm: Vec<u8>) -> (Digest, Artifact) {
        self.authority.publish(&self.key, &Version::made_of(package, wasm, Ceiling::default()))
    }
}
