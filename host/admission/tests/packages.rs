//! A package that was published and fetched, and what becomes of it when one thing is not as it was signed. Each test first
//! lets the same package in without the attack, and asks for the one cause of the refusal.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop at what it did not expect")]

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;
use witan_admission::{Admitted, By, Cause, Fetched, Gate, Held, Lock, Locked, MarkError, Passed, Refused, Trust};
use witan_authority::{Authority, Version};
use witan_registry_sign::{
    Attestation, Embedded, Reason, Refusal, Release, Rule, Sbom, SigningKey, TrustPolicy, TrustRoot, TrustedKey,
};
use witan_registry_types::{Artifact, ComponentInterfaces, Digest, Package};
use witan_system::{Ceiling, Component, ComponentName, Limits, Source, System};

fn package(version: &str) -> Package {
    format!("acme:sums@{version}").parse().unwrap()
}

/// An author, a registry, and a host whose operator trusts the author.
struct World {
    authority: Authority,
    key: SigningKey,
    gate: Gate,
    state: TempDir,
    component: Component,
}

impl World {
    fn new() -> Self {
        let state = tempfile::tempdir().unwrap();
        let (authority, key) = (Authority::new(), SigningKey::generate().unwrap());
        let mut gate = Gate::local(state.path(), None);
        let now = SystemTime::now();
        let root = TrustRoot::parse(&authority.trusted_root(), now).unwrap();
        gate.trust = Trust::new(policy(&[&key], 1), Some(root));
        let mut component = Component::new("unused.wasm", &Limits::default());
        component.source = Source::Registry(package("1.0.0"));
        Self { authority, key, gate, state, component }
    }

    /// Signs `version`, which is then what was fetched.
    fn publish(&mut self, version: &Version) -> Digest {
        let (digest, artifact) = self.authority.publish(&self.key, version);
        self.gate.packages.insert(version.package.clone(), Fetched { digest, artifact });
        digest
    }

    fn admit(&self) -> Result<Admitted, Refused> {
        self.pass().map(|passed| passed.admitted)
    }

    fn pass(&self) -> Result<Passed, Refused> {
        let needs = |import: &str| import.starts_with("wasi:config/").then_some("config");
        self.gate.admit(&self.component, 1 << 20, &needs)
    }

    /// Changes what was fetched, and gives the refusal; without the change it is let in.
    fn attacked(&mut self, change: impl FnOnce(&mut Artifact)) -> Refused {
        self.admit().unwrap();
        change(&mut self.gate.packages.get_mut(&package("1.0.0")).unwrap().artifact);
        self.admit().unwrap_err()
    }
}

fn policy(keys: &[&SigningKey], threshold: usize) -> TrustPolicy {
    let keys = keys.iter().map(|key| TrustedKey { key: key.public().clone(), not_after: None });
    let rule = Rule {
        packages: "acme:*".parse().unwrap(),
        keys: keys.collect(),
        identities: Vec::new(),
        threshold,
        require: Attestation::ALL.into(),
        allow_unlogged: false,
    };
    TrustPolicy::new(vec![rule], TrustPolicy::MAX_AGE).unwrap()
}

#[test]
fn what_its_author_signed_is_let_in() {
    let mut world = World::new();
    let version = Version::new("1.0.0");
    let digest = world.publish(&version);
    let Passed { bytes, admitted } = world.pass().unwrap();
    assert_eq!((&*bytes, admitted.manifest), (&*version.wasm, Some(digest)));
    assert_eq!(admitted.by, By::Signers([format!("the key {}", world.key.id())].into()));
    assert_eq!(admitted.wit, Some(version.release.wit));
    assert_eq!(admitted.checkpoints.len(), 3);
}

#[test]
fn a_digest_comes_from_the_lock_and_never_from_a_tag() {
    let mut world = World::new();
    let digest = world.publish(&Version::new("1.0.0"));
    assert_eq!(world.admit().unwrap().manifest, Some(digest));
    // The registry shows other bytes under the same version, signed by the same author.
    let mut other = Version::new("1.0.0");
    other.config.created = "2025-06-01T00:00:00Z".to_owned();
    let moved = world.publish(&other);
    assert_ne!(moved, digest);
    world.gate.packages.get_mut(&package("1.0.0")).unwrap().digest = digest;
    let refused = world.admit().unwrap_err();
    assert!(matches!(refused, Refused::Digest { part: "manifest", .. }), "{refused}");
    world.publish(&Version::new("1.0.0"));
    let refused = world.attacked(|served| served.manifest.push(b' '));
    assert!(matches!(refused, Refused::Digest { part: "manifest", .. }), "{refused}");
    world.gate.packages.clear();
    assert!(matches!(world.admit().unwrap_err(), Refused::Unfetched(_)));
}

#[test]
fn bytes_that_were_changed_on_the_way_are_refused() {
    let mut world = World::new();
    let version = Version::new("1.0.0");
    world.publish(&version);
    let refused = world.attacked(|served| served.layer.push(0));
    assert!(matches!(refused, Refused::Digest { part: "layer", .. }), "{refused}");
    world.publish(&version);
    let refused = world.attacked(|served| served.config.push(b'\n'));
    assert!(matches!(refused, Refused::Digest { part: "config", .. }), "{refused}");
}

#[test]
fn a_manifest_that_lies_about_sizes_or_has_another_form_is_refused() {
    let mut world = World::new();
    let version = Version::new("1.0.0");
    world.publish(&version);
    world.admit().unwrap();
    let text = String::from_utf8(version.manifest()).unwrap();
    let size = format!("\"size\":{}", version.wasm.len());
    for (from, to, form) in [
        (size.as_str(), "\"size\":1", "bytes, and the manifest says 1"),
        ("\"layers\":[", "\"manifests\":[],\"layers\":[", "manifest"),
        ("application/wasm", "application/vnd.oci.image.layer.v1.tar+gzip", "media type"),
    ] {
        assert!(text.contains(from), "{from} in {text}");
        let manifest = text.replacen(from, to, 1).into_bytes();
        let (digest, artifact) = version.artifact(manifest, |statement| world.authority.sign(&world.key, statement));
        world.gate.packages.insert(version.package.clone(), Fetched { digest, artifact });
        let refused = world.admit().unwrap_err();
        assert!(matches!(&refused, Refused::Form { message, .. } if message.contains(form)), "{to}: {refused}");
    }
}

#[test]
fn without_its_signatures_or_a_root_it_is_refused() {
    let mut world = World::new();
    world.publish(&Version::new("1.0.0"));
    let refused = world.attacked(|served| served.bundles.clear());
    assert!(matches!(&refused, Refused::Signature(refusal) if matches!(**refusal, Refusal::Unsigned(_))), "{refused}");
    world.publish(&Version::new("1.0.0"));
    let refused = world.attacked(|served| drop(served.bundles.pop()));
    assert!(matches!(
        &refused,
        Refused::Signature(refusal) if matches!(**refusal, Refusal::Missing { attestation: Attestation::Sbom, .. })
    ));
    world.publish(&Version::new("1.0.0"));
    world.admit().unwrap();
    world.gate.trust.root = None;
    assert!(matches!(world.admit().unwrap_err(), Refused::NoRoot));
}

#[test]
fn metadata_that_was_held_back_is_refused_when_it_is_too_old() {
    let mut world = World::new();
    world.publish(&Version::new("1.0.0"));
    world.admit().unwrap();
    let then = SystemTime::now() - TrustPolicy::MAX_AGE - Duration::from_secs(60);
    world.gate.trust.root = Some(TrustRoot::parse(&world.authority.trusted_root(), then).unwrap());
    let refused = world.admit().unwrap_err();
    assert!(matches!(&refused, Refused::Signature(refusal) if matches!(**refusal, Refusal::TrustTooOld { .. })));
}

#[test]
fn signatures_of_another_package_or_version_do_not_count() {
    let mut world = World::new();
    let digest = world.publish(&Version::new("1.0.0"));
    let elsewhere: Package = "acme:tax@1.0.0".parse().unwrap();
    let statement = Version::of(&elsewhere).statement(Attestation::Release, &digest);
    let bundle = world.authority.sign(&world.key, &statement);
    let refused = world.attacked(|served| served.bundles[0] = bundle);
    let Refused::Signature(refusal) = &refused else { panic!("{refused}") };
    let reason = &refusal.rejected().first().unwrap().reason;
    assert!(matches!(reason, Reason::Package(found) if *found == elsewhere), "{reason}");
}

#[test]
fn a_removed_key_and_a_threshold_that_is_not_met_are_refusals() {
    let mut world = World::new();
    world.publish(&Version::new("1.0.0"));
    world.admit().unwrap();
    let other = SigningKey::generate().unwrap();
    world.gate.trust.policy = policy(&[&world.key, &other], 2);
    let refused = world.admit().unwrap_err();
    assert!(matches!(
        &refused,
        Refused::Signature(refusal) if matches!(**refusal, Refusal::Threshold { found: 1, needed: 2, .. })
    ));
    world.gate.trust.policy = policy(&[&other], 1);
    let refused = world.admit().unwrap_err();
    let Refused::Signature(refusal) = &refused else { panic!("{refused}") };
    assert!(matches!(refusal.rejected()[0].reason, Reason::UnknownKey(_)), "{refused}");
}

#[test]
fn a_config_that_says_something_else_than_the_bytes_is_refused() {
    let mut world = World::new();
    let mut version = Version::new("1.0.0");
    world.publish(&version);
    world.admit().unwrap();
    version.config.component = ComponentInterfaces { imports: Vec::new(), ..version.config.component };
    world.publish(&version);
    assert!(matches!(world.admit().unwrap_err(), Refused::Config { what: "imports", .. }));
}

#[test]
fn a_wit_that_is_not_the_signed_one_is_refused() {
    let mut world = World::new();
    let mut version = Version::new("1.0.0");
    world.publish(&version);
    world.admit().unwrap();
    version.release.wit = Digest::of(b"another interface");
    world.publish(&version);
    assert!(matches!(world.admit().unwrap_err(), Refused::Wit { .. }));
}

#[test]
fn imports_and_grants_stay_within_the_ceiling() {
    let mut world = World::new();
    let mut version = Version::new("1.0.0");
    world.publish(&version);
    world.component.grants.config.insert("unit".to_owned(), "mm".to_owned());
    world.admit().unwrap();
    world.component.grants.config.insert("secret".to_owned(), "x".to_owned());
    let refused = world.admit().unwrap_err();
    assert!(matches!(&refused, Refused::GrantsBeyondCeiling(excess) if excess.len() == 1), "{refused}");
    world.component.grants.config.clear();
    version.release.ceiling = Ceiling::default();
    world.publish(&version);
    let refused = world.admit().unwrap_err();
    assert!(matches!(refused, Refused::ImportBeyondCeiling { capability: "config", .. }), "{refused}");
}

#[test]
fn an_sbom_that_leaves_out_a_dependency_is_refused() {
    let mut world = World::new();
    let mut version = Version::new("1.0.0");
    let list = br#"{"packages":[{"name":"sums","version":"1.0.0","source":"local","root":true,"dependencies":[1]},
        {"name":"leftpad","version":"0.1.0","source":"crates.io"}]}"#;
    let list = miniz_oxide::deflate::compress_to_vec_zlib(list, 6);
    version = version.with_section(".dep-v0", &list);
    let embedded = Embedded::read(&version.wasm).unwrap();
    version.sbom = Sbom::of_embedded(&version.package, &embedded).unwrap().to_predicate();
    world.publish(&version);
    world.admit().unwrap();
    version.sbom = Sbom::of_embedded(&version.package, &Embedded::default()).unwrap().to_predicate();
    world.publish(&version);
    let refused = world.admit().unwrap_err();
    assert!(matches!(&refused, Refused::SbomOmits(what) if what.contains("leftpad@0.1.0")), "{refused}");
}

#[test]
fn an_older_version_does_not_take_the_place_of_a_newer() {
    let mut world = World::new();
    world.publish(&Version::new("1.0.0"));
    world.publish(&Version::new("1.1.0"));
    world.admit().unwrap();
    world.component.source = Source::Registry(package("1.1.0"));
    let newer = world.admit().unwrap();
    world.gate.loaded([(&world.component.source, &newer)]).unwrap();
    world.component.source = Source::Registry(package("1.0.0"));
    assert!(matches!(world.admit().unwrap_err(), Refused::Mark(MarkError::Rollback { .. })));
    world.gate.marks.lower(&package("1.0.0").name, &package("1.0.0").version).unwrap();
    world.admit().unwrap();
}

#[test]
fn a_log_that_shows_another_history_is_refused() {
    let mut world = World::new();
    let digest = world.publish(&Version::new("1.0.0"));
    let admitted = world.admit().unwrap();
    world.gate.loaded([(&world.component.source, &admitted)]).unwrap();
    // The same log key, another tree of the same size: what a registry shows to one host and not to others.
    world.authority.log.forget();
    assert_eq!(world.publish(&Version::new("1.0.0")), digest);
    assert!(matches!(world.admit().unwrap_err(), Refused::Mark(MarkError::Fork { size: 3, .. })));
}

#[test]
fn what_is_in_quarantine_stays_there_until_it_is_let_go() {
    let mut world = World::new();
    let digest = world.publish(&Version::new("1.0.0"));
    world.admit().unwrap();
    let (name, source): (ComponentName, _) = ("sums".parse().unwrap(), world.component.source.clone());
    world.gate.quarantine.add(Held::new(&name, &source, Cause::Yanked, "a hole").of(digest)).unwrap();
    let refused = world.admit().unwrap_err();
    assert!(matches!(&refused, Refused::Quarantined(reason) if reason == "a hole"), "{refused}");
    world.gate.quarantine.release("sums").unwrap();
    world.admit().unwrap();
    std::fs::write(world.state.path().join("quarantine.json"), "[").unwrap();
    assert!(matches!(world.admit().unwrap_err(), Refused::File(_)), "a damaged quarantine lets nothing in");
}

#[test]
fn a_lock_says_in_what_a_system_differs() {
    let mut world = World::new();
    world.publish(&Version::new("1.0.0"));
    let name: ComponentName = "sums".parse().unwrap();
    let folder = world.state.path();
    let found = |world: &World| {
        let locked = Locked::of(&name, &world.component, &world.admit().unwrap(), folder);
        BTreeMap::from([("sums".to_owned(), locked)])
    };
    let lock = Lock::of(found(&world));
    let path = folder.join("witan.lock");
    lock.save(&path).unwrap();
    let lock = Lock::load(&path).unwrap().unwrap();
    assert_eq!(lock.differences(&found(&world)), []);
    let system = System { components: [(name.clone(), world.component.clone())].into(), ..System::default() };
    let digest = world.gate.packages[&package("1.0.0")].digest;
    assert_eq!(lock.pins(&system), BTreeMap::from([(package("1.0.0"), digest)]));

    let mut changed = World { state: tempfile::tempdir().unwrap(), ..World::new() };
    changed.key = SigningKey::generate().unwrap();
    changed.gate.trust.policy = policy(&[&changed.key], 1);
    changed.publish(&Version {
        release: Release::new(
            Ceiling { config: witan_system::Names::Any, ..Ceiling::default() },
            Version::new("1.0.0").release.wit,
        ),
        ..Version::new("1.0.0")
    });
    changed.component.grants.config.insert("unit".to_owned(), "mm".to_owned());
    let differing: Vec<_> = lock.differences(&found(&changed)).into_iter().map(|difference| difference.what).collect();
    assert_eq!(differing, ["signers", "ceiling", "grants"]);
    assert_eq!(lock.differences(&BTreeMap::new())[0].what, "source");
}
