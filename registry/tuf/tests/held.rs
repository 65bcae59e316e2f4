//! What a host believes of a registry, and what it does not: each attack beside the same without it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop at what it did not expect")]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use futures::executor::block_on;
use serde_json::{Value, json};
use witan_registry_sign::SigningKey;
use witan_registry_tuf::{
    Document, Held, HoldError, MakeError, Signers, Source, Trusted, Yank, Yanks, hold, sign_online, sign_root,
    sign_targets,
};
use witan_registry_types::Namespace;

const DAY: Duration = Duration::from_secs(24 * 3600);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

/// What somebody serves: the registry, or whoever stands before it.
#[derive(Clone, Default)]
struct Served(Arc<Mutex<BTreeMap<String, Vec<u8>>>>);

impl Served {
    fn put(&self, name: impl Into<String>, bytes: &[u8]) {
        self.0.lock().unwrap().insert(name.into(), bytes.to_vec());
    }

    fn get(&self, name: &str) -> Vec<u8> {
        self.0.lock().unwrap()[name].clone()
    }

    /// The same files, of which one can be changed without the other.
    fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.0.lock().unwrap().clone())))
    }
}

impl Source for Served {
    type Error = String;

    async fn file(&self, path: &str, most: u64) -> Result<Option<Vec<u8>>, String> {
        let file = self.0.lock().unwrap().get(path).cloned();
        match file {
            Some(bytes) if bytes.len() as u64 > most => Err(format!("`{path}` has more than {most} bytes")),
            file => Ok(file),
        }
    }
}

/// A registry, its operators, and what it serves.
struct Registry {
    operators: Vec<SigningKey>,
    own: SigningKey,
    roots: Vec<Document>,
    targets: Document,
    served: Served,
}

impl Registry {
    /// Of which `threshold` operators have to sign.
    fn new(operators: usize, threshold: usize) -> Self {
        let operators: Vec<SigningKey> = (0..operators).map(|_| SigningKey::generate().unwrap()).collect();
        let own = SigningKey::generate().unwrap();
        let signers = Signers {
            operators: operators.iter().map(|key| key.public().clone()).collect(),
            threshold,
            registry: own.public().clone(),
        };
        let all: Vec<&SigningKey> = operators.iter().collect();
        let root = sign_root(&signers, None, now() + YEAR, &all).unwrap();
        let (targets, _) = sign_targets(&root, 1, now() + YEAR, b"{}", &all).unwrap();
        let mut registry = Self { operators, own, roots: Vec::new(), targets, served: Served::default() };
        registry.serve_root(root);
        registry.serve_targets(1, b"{\"root\":1}");
        registry.sign(1, now() + 3 * DAY, "");
        registry
    }

    fn root(&self) -> &Document {
        self.roots.last().unwrap()
    }

    fn pinned(&self) -> &[u8] {
        &self.roots[0].bytes
    }

    fn serve_root(&mut self, root: Document) {
        self.served.put(format!("{}.root.json", root.version), &root.bytes);
        self.roots.push(root);
    }

    fn serve_targets(&mut self, version: u64, trusted_root: &[u8]) {
        let keys: Vec<&SigningKey> = self.operators.iter().collect();
        let (targets, path) = sign_targets(self.root(), version, now() + YEAR, trusted_root, &keys).unwrap();
        self.served.put(format!("targets/{path}"), trusted_root);
        self.served.put(format!("{version}.targets.json"), &targets.bytes);
        self.targets = targets;
    }

    /// Signs what the registry itself signs; `yanked` is a version of `acme:sums`.
    fn sign(&self, version: u64, expires: SystemTime, yanked: &str) {
        let mut yanks = BTreeMap::<String, Yanks>::new();
        if !yanked.is_empty() {
            let yank = Yank { at: "2026-01-01T00:00:00Z".to_owned(), reason: "adds wrongly".to_owned() };
            let of_package = BTreeMap::from([(yanked.to_owned(), yank)]);
            yanks.insert("acme".to_owned(), Yanks([("acme:sums".to_owned(), of_package)].into()));
        }
        let online = sign_online(self.root(), &self.targets, version, expires, &yanks, &self.own).unwrap();
        for (path, bytes) in &online.targets {
            self.served.put(format!("targets/{path}"), bytes);
        }
        self.served.put(format!("{version}.yanks.json"), &online.yanks.bytes);
        self.served.put(format!("{version}.snapshot.json"), &online.snapshot.bytes);
        self.served.put("timestamp.json", &online.timestamp.bytes);
    }

    /// Has the operators replace `keys` by others, all of them signing.
    fn rotate(&mut self, dropped: usize, added: usize) {
        let new: Vec<SigningKey> = (0..added).map(|_| SigningKey::generate().unwrap()).collect();
        let kept = self.operators.split_off(dropped);
        let old = std::mem::replace(&mut self.operators, kept);
        self.operators.extend(new);
        let signers = Signers {
            operators: self.operators.iter().map(|key| key.public().clone()).collect(),
            threshold: Signers::of(&self.root().bytes).unwrap().threshold,
            registry: self.own.public().clone(),
        };
        let all: Vec<&SigningKey> = old.iter().chain(&self.operators).collect();
        let root = sign_root(&signers, Some(self.root()), now() + YEAR, &all).unwrap();
        self.serve_root(root);
    }
}

fn acme() -> Vec<Namespace> {
    vec!["acme".parse().unwrap()]
}

/// What a host that kept `held` believes of what is `served`.
fn ask(
    registry: &Registry,
    held: Option<&Held>,
    served: &Served,
    at: SystemTime,
) -> Result<(Held, Trusted), HoldError> {
    block_on(hold(registry.pinned(), held, served.clone(), &acme(), at))
}

fn believed(registry: &Registry, held: Option<&Held>) -> (Held, Trusted) {
    ask(registry, held, &registry.served, now()).unwrap()
}

fn reason(trusted: &Trusted, version: &str) -> Option<String> {
    let package = "acme:sums".parse().unwrap();
    trusted.yanks[&acme()[0]].of(&package).remove(&version.parse().unwrap())
}

/// A file of metadata that says something else, signed with `keys`. There is nothing in it that canonical JSON escapes.
fn changed(bytes: &[u8], keys: &[&SigningKey], change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut file: Value = serde_json::from_slice(bytes).unwrap();
    change(&mut file["signed"]);
    file.sort_all_objects();
    let signed = serde_json::to_vec(&file["signed"]).unwrap();
    for (signature, key) in file["signatures"].as_array_mut().unwrap().iter_mut().zip(keys) {
        let hex: String = key.sign(&signed).unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
        signature["sig"] = hex.into();
    }
    file.to_string().into_bytes()
}

/// What names a file in other metadata.
fn names(version: u64, bytes: &[u8]) -> Value {
    let digest = witan_registry_types::Digest::of(bytes);
    json!({ "version": version, "length": bytes.len(), "hashes": { "sha256": digest.hex() } })
}

#[test]
fn what_operators_and_registry_signed_is_believed() {
    let mut registry = Registry::new(1, 1);
    let (held, trusted) = believed(&registry, None);
    assert_eq!((trusted.trusted_root.as_slice(), reason(&trusted, "1.0.0")), (b"{\"root\":1}".as_slice(), None));
    registry.sign(2, now() + 3 * DAY, "1.0.0");
    let (held, trusted) = believed(&registry, Some(&held));
    assert_eq!(reason(&trusted, "1.0.0").unwrap(), "adds wrongly");
    assert_eq!(reason(&trusted, "1.1.0"), None);
    // A yank can be taken back, and the log can have another key.
    registry.serve_targets(2, b"{\"root\":2}");
    registry.sign(3, now() + 3 * DAY, "");
    let (held, trusted) = believed(&registry, Some(&held));
    assert_eq!((trusted.trusted_root.as_slice(), reason(&trusted, "1.0.0")), (b"{\"root\":2}".as_slice(), None));
    // Asked again, nothing is new.
    assert_eq!(believed(&registry, Some(&held)), (held, trusted));
}

#[test]
fn what_was_kept_is_believed_for_as_long_as_it_holds() {
    let registry = Registry::new(1, 1);
    registry.sign(2, now() + 3 * DAY, "1.0.0");
    let (held, trusted) = believed(&registry, None);
    let held = Held::parse(&held.to_text()).unwrap();
    assert_eq!(held.trusted(registry.pinned(), &acme(), now() + 2 * DAY).unwrap(), trusted);
    let late = held.trusted(registry.pinned(), &acme(), now() + 4 * DAY).unwrap_err();
    assert!(matches!(&late, HoldError::Expired { role, .. } if role == "timestamp"), "{late}");
    assert!(late.help().contains("witan trust refresh"));
    // Of a namespace that was never asked for nothing is known, and that is not nothing.
    registry.sign(3, now() + 3 * DAY, "1.0.0");
    let (held, _) = block_on(hold(registry.pinned(), None, registry.served.clone(), &[], now())).unwrap();
    assert!(matches!(held.trusted(registry.pinned(), &acme(), now()), Err(HoldError::Fetch(_))));
    assert!(held.trusted(registry.pinned(), &[], now()).is_ok());
    // Another root that is pinned begins anew, and does not believe what was kept for the one before.
    let other = Registry::new(1, 1);
    assert!(matches!(held.trusted(other.pinned(), &[], now()), Err(HoldError::Never)));
    assert!(ask(&other, Some(&held), &other.served, now()).is_ok());
    assert!(ask(&other, None, &registry.served, now()).is_err());
}

#[test]
fn old_metadata_given_again_are_believed_until_they_end() {
    let registry = Registry::new(1, 1);
    let frozen = registry.served.copy();
    registry.sign(2, now() + 6 * DAY, "1.0.0");
    // Nothing tells a host that has not heard since: it is withheld from it that a version was yanked.
    let (held, trusted) = ask(&registry, None, &frozen, now() + 2 * DAY).unwrap();
    assert_eq!(reason(&trusted, "1.0.0"), None);
    for kept in [None, Some(&held)] {
        let error = ask(&registry, kept, &frozen, now() + 4 * DAY).unwrap_err();
        assert!(matches!(&error, HoldError::Expired { role, .. } if role == "timestamp"), "{error}");
    }
    let (_, trusted) = ask(&registry, Some(&held), &registry.served, now() + 4 * DAY).unwrap();
    assert_eq!(reason(&trusted, "1.0.0").unwrap(), "adds wrongly");
}

#[test]
fn each_role_ends_by_itself() {
    let registry = Registry::new(1, 1);
    let late = now() + YEAR + DAY;
    registry.sign(2, late + DAY, "");
    let error = ask(&registry, None, &registry.served, late).unwrap_err();
    assert!(matches!(&error, HoldError::Expired { role, .. } if role == "root"), "{error}");
}

#[test]
fn a_timestamp_that_is_older_than_the_one_seen_is_refused() {
    let registry = Registry::new(1, 1);
    registry.sign(2, now() + 6 * DAY, "");
    let old = registry.served.copy();
    registry.sign(3, now() + 3 * DAY, "1.0.0");
    let (held, _) = believed(&registry, None);
    // Also where what was seen has expired, and the older one has not.
    for at in [now(), now() + 4 * DAY] {
        assert!(ask(&registry, None, &old, at).is_ok());
        let error = ask(&registry, Some(&held), &old, at).unwrap_err();
        assert!(matches!(&error, HoldError::Rollback { seen: 3, found: 2, .. }), "{error}");
    }
}

#[test]
fn a_snapshot_or_targets_that_are_older_than_those_seen_are_refused() {
    let mut registry = Registry::new(1, 1);
    let first = registry.served.copy();
    registry.serve_targets(2, b"{\"root\":2}");
    registry.sign(2, now() + 3 * DAY, "1.0.0");
    let (held, _) = believed(&registry, None);
    let own = [&registry.own];

    // A new timestamp, by somebody who has the registry's key, names the snapshot from before.
    let old = registry.served.copy();
    let snapshot = names(1, &first.get("1.snapshot.json"));
    let timestamp = changed(&registry.served.get("timestamp.json"), &own, |signed| {
        signed["version"] = 3.into();
        signed["meta"]["snapshot.json"] = snapshot;
    });
    old.put("timestamp.json", &timestamp);
    assert!(ask(&registry, None, &old, now()).is_ok());
    let error = ask(&registry, Some(&held), &old, now()).unwrap_err();
    assert!(matches!(&error, HoldError::Rollback { role, seen: 2, found: 1 } if role.contains("snapshot")), "{error}");

    // A new snapshot names the targets or the yanks from before.
    for role in ["targets", "yanks"] {
        let old = registry.served.copy();
        let file = format!("1.{role}.json");
        let snapshot = changed(&registry.served.get("2.snapshot.json"), &own, |signed| {
            signed["version"] = 3.into();
            signed["meta"][format!("{role}.json")] = names(1, &first.get(&file));
        });
        old.put("3.snapshot.json", &snapshot);
        let timestamp = changed(&registry.served.get("timestamp.json"), &own, |signed| {
            signed["version"] = 3.into();
            signed["meta"]["snapshot.json"] = names(3, &snapshot);
        });
        old.put("timestamp.json", &timestamp);
        assert!(ask(&registry, None, &old, now()).is_ok());
        let error = ask(&registry, Some(&held), &old, now()).unwrap_err();
        assert!(
            matches!(&error, HoldError::Rollback { role: found, seen: 2, found: 1 } if found.contains(role)),
            "{error}"
        );
    }
}

#[test]
fn files_of_different_times_are_not_believed_together() {
    let mut registry = Registry::new(1, 1);
    registry.sign(2, now() + 3 * DAY, "1.0.0");
    let first = registry.served.copy();
    registry.serve_targets(2, b"{\"root\":2}");
    registry.sign(3, now() + 3 * DAY, "1.1.0");
    assert!(ask(&registry, None, &registry.served, now()).is_ok());
    let mixes = [
        ("3.snapshot.json", first.get("2.snapshot.json")),
        ("3.yanks.json", first.get("2.yanks.json")),
        ("2.targets.json", first.get("1.targets.json")),
    ];
    for (name, bytes) in mixes {
        let mixed = registry.served.copy();
        mixed.put(name, &bytes);
        let error = ask(&registry, None, &mixed, now()).unwrap_err();
        assert!(matches!(error, HoldError::Form(_)), "{name}: {error}");
    }
    // What they name is what they name.
    for target in ["trusted_root.json", "acme.json"] {
        let mixed = registry.served.copy();
        let names: Vec<String> =
            mixed.0.lock().unwrap().keys().filter(|name| name.ends_with(target)).cloned().collect();
        names.iter().for_each(|name| mixed.put(name.as_str(), b"{\"root\":9}"));
        let error = ask(&registry, None, &mixed, now()).unwrap_err();
        assert!(matches!(error, HoldError::Form(_)), "{target}: {error}");
        names.iter().for_each(|name| drop(mixed.0.lock().unwrap().remove(name)));
        assert!(matches!(ask(&registry, None, &mixed, now()), Err(HoldError::Fetch(_))));
    }
}

#[test]
fn a_snapshot_that_leaves_the_yanks_out_is_not_one_without_yanks() {
    let registry = Registry::new(1, 1);
    registry.sign(2, now() + 3 * DAY, "1.0.0");
    let own = [&registry.own];
    let snapshot = changed(&registry.served.get("2.snapshot.json"), &own, |signed| {
        signed["meta"].as_object_mut().unwrap().remove("yanks.json");
    });
    let timestamp = changed(&registry.served.get("timestamp.json"), &own, |signed| {
        signed["meta"]["snapshot.json"] = names(2, &snapshot);
    });
    let without = registry.served.copy();
    without.put("2.snapshot.json", &snapshot);
    without.put("timestamp.json", &timestamp);
    assert!(ask(&registry, None, &registry.served, now()).is_ok());
    assert!(matches!(ask(&registry, None, &without, now()), Err(HoldError::Form(_))));
}

#[test]
fn fewer_signatures_than_the_threshold_are_too_few() {
    let mut registry = Registry::new(3, 2);
    registry.rotate(1, 1);
    registry.serve_targets(2, b"{\"root\":2}");
    registry.sign(2, now() + 3 * DAY, "");
    assert!(ask(&registry, None, &registry.served, now()).is_ok());
    for file in ["2.root.json", "2.targets.json"] {
        let whole: Value = serde_json::from_slice(&registry.served.get(file)).unwrap();
        let role = file.split('.').nth(1).unwrap();
        let named: Vec<String> = kept_keys(&registry, role);
        let one: Vec<Value> = signatures(&whole).into_iter().filter(|one| named.contains(&id(one))).take(1).collect();
        let twice = [one.clone(), one.clone()].concat();
        // The same key under an id of its own is still not named.
        let mut renamed = one[0].clone();
        renamed["keyid"] = "0".repeat(64).into();
        for signatures in [one.clone(), twice, vec![one[0].clone(), renamed]] {
            let few = registry.served.copy();
            let mut file_of_few = whole.clone();
            file_of_few["signatures"] = signatures.into();
            let bytes = file_of_few.to_string().into_bytes();
            few.put(file, &bytes);
            follow_with(&registry, &few, file, &bytes);
            let error = ask(&registry, None, &few, now()).unwrap_err();
            assert!(
                matches!(&error, HoldError::Signatures { found: 1, needed: 2, .. } | HoldError::Form(_)),
                "{file}: {error}"
            );
            assert!(!matches!(&error, HoldError::Form(text) if !text.contains("duplicate")), "{file}: {error}");
        }
    }
    // Nor is it made in the first place.
    let one = [&registry.operators[0]];
    let few = sign_targets(registry.root(), 3, now() + YEAR, b"{}", &one);
    assert!(matches!(few, Err(MakeError::Signatures { found: 1, needed: 2, .. })));
    let signers = Signers { threshold: 3, ..Signers::of(&registry.root().bytes).unwrap() };
    let few = sign_root(&signers, Some(registry.root()), now() + YEAR, &one);
    assert!(matches!(few, Err(MakeError::Signatures { .. })));
    for (threshold, operators) in [(0, 1), (2, 1)] {
        let operators: BTreeSet<_> =
            registry.operators.iter().take(operators).map(|key| key.public().clone()).collect();
        let never = Signers { operators, threshold, registry: registry.own.public().clone() };
        assert!(matches!(sign_root(&never, None, now() + YEAR, &one), Err(MakeError::Threshold { .. })));
    }
}

fn signatures(file: &Value) -> Vec<Value> {
    file["signatures"].as_array().unwrap().clone()
}

fn id(signature: &Value) -> String {
    signature["keyid"].as_str().unwrap().to_owned()
}

/// The ids of the keys that both the first and the newest root name for a role: a root is signed by keys of the one before.
fn kept_keys(registry: &Registry, role: &str) -> Vec<String> {
    let named = |root: &[u8]| -> Vec<String> {
        let root: Value = serde_json::from_slice(root).unwrap();
        let keys = root["signed"]["roles"][role]["keyids"].as_array().unwrap().clone();
        keys.iter().map(|id| id.as_str().unwrap().to_owned()).collect()
    };
    let first = named(&registry.served.get("1.root.json"));
    named(&registry.root().bytes).into_iter().filter(|id| first.contains(id)).collect()
}

/// Has snapshot and timestamp name `bytes` as the targets, as somebody with the registry's key could.
fn follow_with(registry: &Registry, served: &Served, file: &str, bytes: &[u8]) {
    if !file.ends_with("targets.json") {
        return;
    }
    let own = [&registry.own];
    let snapshot = changed(&served.get("2.snapshot.json"), &own, |signed| {
        signed["meta"]["targets.json"] = names(2, bytes);
    });
    let timestamp = changed(&served.get("timestamp.json"), &own, |signed| {
        signed["meta"]["snapshot.json"] = names(2, &snapshot);
    });
    served.put("2.snapshot.json", &snapshot);
    served.put("timestamp.json", &timestamp);
}

#[test]
fn a_key_that_operators_replaced_signs_nothing_more() {
    let mut registry = Registry::new(1, 1);
    let (early, _) = believed(&registry, None);
    let stolen = SigningKey::from_pem(&registry.operators[0].to_pem(None).unwrap(), None).unwrap();
    let before = registry.served.copy();
    let first = registry.root().clone();
    registry.rotate(1, 1);
    registry.serve_targets(2, b"{\"root\":2}");
    registry.sign(2, now() + 3 * DAY, "");
    // Those who pinned the first root follow to the new key, whether they kept something or not.
    let (held, _) = believed(&registry, Some(&early));
    assert_eq!(believed(&registry, None).0, held);

    // The thief signs a root in the place of the second, and one after it.
    let thief = |previous: &Document| {
        let signers =
            Signers { operators: [stolen.public().clone()].into(), threshold: 1, registry: stolen.public().clone() };
        sign_root(&signers, Some(previous), now() + YEAR, &[&stolen])
    };
    assert!(matches!(thief(registry.root()), Err(MakeError::Signatures { .. })));
    let second = thief(&first).unwrap();
    let (targets, path) = sign_targets(&second, 9, now() + YEAR, b"{\"root\":9}", &[&stolen]).unwrap();
    let online = sign_online(&second, &targets, 9, now() + YEAR, &BTreeMap::new(), &stolen).unwrap();
    before.put("2.root.json", &second.bytes);
    before.put("9.targets.json", &targets.bytes);
    before.put(format!("targets/{path}"), b"{\"root\":9}");
    before.put("9.snapshot.json", &online.snapshot.bytes);
    before.put("9.yanks.json", &online.yanks.bytes);
    before.put("timestamp.json", &online.timestamp.bytes);
    // It fools whoever has seen neither, which is why the newest root is pinned; and nobody who has seen the second.
    assert!(ask(&registry, None, &before, now()).is_ok());
    let error = ask(&registry, Some(&held), &before, now()).unwrap_err();
    assert!(matches!(error, HoldError::Signatures { .. }), "{error}");
    let mut third: Value = serde_json::from_slice(&second.bytes).unwrap();
    third["signed"]["version"] = 3.into();
    before.put("3.root.json", third.to_string().as_bytes());
    assert!(ask(&registry, Some(&held), &before, now()).is_err());
}

#[test]
fn a_registry_whose_own_key_was_stolen_recovers_with_a_new_root() {
    let mut registry = Registry::new(1, 1);
    // Whoever stole it has raised the version as far as it goes.
    registry.sign(u64::MAX - 1, now() + 2 * DAY, "");
    let (held, _) = believed(&registry, None);
    registry.own = SigningKey::generate().unwrap();
    registry.rotate(0, 0);
    registry.serve_targets(2, b"{\"root\":2}");
    registry.sign(2, now() + 3 * DAY, "1.0.0");
    let (_, trusted) = believed(&registry, Some(&held));
    assert_eq!(reason(&trusted, "1.0.0").unwrap(), "adds wrongly");
    // The registry itself signs for no root that names another key.
    let other = SigningKey::generate().unwrap();
    let signed = sign_online(registry.root(), &registry.targets, 3, now() + DAY, &BTreeMap::new(), &other);
    assert!(matches!(signed, Err(MakeError::OtherKey)));
}

#[test]
fn a_namespace_that_has_too_much_to_say_spoils_no_other() {
    let registry = Registry::new(1, 1);
    let yanks = |versions: usize, reason: &str| {
        let yank = || Yank { at: "2026-01-01T00:00:00Z".to_owned(), reason: reason.to_owned() };
        let versions = (0..versions).map(|patch| (format!("1.0.{patch}"), yank())).collect();
        Yanks([("acme:sums".to_owned(), versions)].into())
    };
    let sign = |version, of_acme| {
        let yanks = BTreeMap::from([("acme".to_owned(), of_acme), ("other".to_owned(), yanks(1, "no"))]);
        let online =
            sign_online(registry.root(), &registry.targets, version, now() + DAY, &yanks, &registry.own).unwrap();
        online.targets.iter().for_each(|(path, bytes)| registry.served.put(format!("targets/{path}"), bytes));
        registry.served.put(format!("{version}.yanks.json"), &online.yanks.bytes);
        registry.served.put(format!("{version}.snapshot.json"), &online.snapshot.bytes);
        registry.served.put("timestamp.json", &online.timestamp.bytes);
    };
    // What moves a terminal's cursor is not shown.
    sign(2, yanks(1, "no\x1b[2Jgood"));
    let (_, trusted) = believed(&registry, None);
    assert_eq!(reason(&trusted, "1.0.0").unwrap(), "no [2Jgood");
    // Reasons go before versions do.
    sign(3, yanks(5_000, &"x".repeat(1_000)));
    let (_, trusted) = believed(&registry, None);
    assert_eq!(reason(&trusted, "1.0.4999").unwrap(), "");
    // What is more than that is refused in its own namespace alone.
    sign(4, yanks(100_000, ""));
    assert!(matches!(ask(&registry, None, &registry.served, now()), Err(HoldError::Form(_))));
    let other = ["other".parse().unwrap()];
    let (_, trusted) = block_on(hold(registry.pinned(), None, registry.served.clone(), &other, now())).unwrap();
    assert_eq!(trusted.yanks[&other[0]], yanks(1, "no"));
}

#[test]
fn what_is_damaged_is_refused_or_says_the_same() {
    let registry = Registry::new(2, 2);
    registry.sign(2, now() + 3 * DAY, "1.0.0");
    let (_, whole) = believed(&registry, None);
    let names: Vec<String> = registry.served.0.lock().unwrap().keys().cloned().collect();
    for name in names {
        let bytes = registry.served.get(&name);
        // A few dozen places in each file, every bit in turn.
        for (turn, at) in (0..bytes.len()).step_by(bytes.len() / 40 + 1).enumerate() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (turn % 8);
            let served = registry.served.copy();
            served.put(name.as_str(), &damaged);
            if let Ok((_, trusted)) = ask(&registry, None, &served, now()) {
                assert_eq!(trusted, whole, "`{name}` at {at}");
            }
        }
    }
}

#[test]
fn what_has_no_end_is_not_read() {
    let registry = Registry::new(1, 1);
    registry.sign(2, now() + 3 * DAY, "1.0.0");
    assert!(ask(&registry, None, &registry.served, now()).is_ok());
    let names: Vec<String> = registry.served.0.lock().unwrap().keys().cloned().collect();
    let asked = ["timestamp.json", "2.snapshot.json", "1.targets.json", "2.yanks.json", "2.root.json"];
    let targets = names.iter().map(String::as_str).filter(|name| name.starts_with("targets/"));
    for name in asked.into_iter().chain(targets).filter(|name| !name.contains("other")) {
        let huge = registry.served.copy();
        huge.put(name, &vec![b' '; 5 << 20]);
        let result = ask(&registry, None, &huge, now());
        match result {
            // The targets from before it are not asked for.
            Ok(_) => assert!(name.starts_with("targets/"), "{name}"),
            Err(error) => {
                assert!(matches!(&error, HoldError::Fetch(text) if text.contains("more than")), "{name}: {error}")
            }
        }
    }
}
