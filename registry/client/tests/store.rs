//! What was fetched stays what it was, on a disk that changes it and in a process that is killed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop at what it did not expect")]

use std::fs;
use std::path::{Path, PathBuf};

use witan_registry_client::{Store, StoreError};
use witan_registry_types::{Artifact, ComponentConfig, ComponentInterfaces, ComponentManifest, Digest, Package};
use witan_rounds::{kill, random, rounds};

fn package() -> Package {
    "acme:sums@1.0.0".parse().unwrap()
}

fn artifact(layer: &[u8], bundles: &[&[u8]]) -> (Digest, Artifact) {
    let made = "2026-01-01T00:00:00Z".to_owned();
    let config = ComponentConfig::new(made, Digest::of(layer), ComponentInterfaces::default()).to_json();
    let manifest = ComponentManifest::new(&config, layer).to_json();
    let bundles = bundles.iter().map(|bundle| bundle.to_vec()).collect();
    (Digest::of(&manifest), Artifact { manifest, config, layer: layer.to_vec(), bundles })
}

/// Every file below `folder`.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

#[test]
fn what_is_stored_is_had_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store")).unwrap();
    let (digest, artifact) = artifact(b"layer", &[b"one", b"two"]);
    assert_eq!(store.get(&package(), &digest).unwrap(), None);
    store.put(&package(), &digest, &artifact).unwrap();
    assert_eq!(store.get(&package(), &digest).unwrap(), Some(artifact.clone()));
    store.put(&package(), &digest, &artifact).unwrap();
    let again = Store::open(&folder.path().join("store")).unwrap();
    assert_eq!(again.get(&package(), &digest).unwrap(), Some(artifact));
    // Another version or name with these bytes was never fetched.
    assert_eq!(store.get(&"acme:sums@1.0.1".parse().unwrap(), &digest).unwrap(), None);
    assert_eq!(store.get(&package(), &Digest::of(b"other")).unwrap(), None);
}

#[test]
fn a_signature_that_came_later_is_kept_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let (digest, first) = artifact(b"layer", &[b"one"]);
    let (_, second) = artifact(b"layer", &[b"one", b"two"]);
    store.put(&package(), &digest, &first).unwrap();
    store.put(&package(), &digest, &second).unwrap();
    assert_eq!(store.get(&package(), &digest).unwrap(), Some(second));
}

#[test]
fn parts_of_different_versions_are_not_stored() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let (digest, good) = artifact(b"layer", &[]);
    let refused = |artifact: &Artifact, digest: &Digest| {
        assert!(matches!(store.put(&package(), digest, artifact), Err(StoreError::Parts { .. })));
        assert_eq!(store.get(&package(), digest).unwrap(), None);
    };
    refused(&good, &Digest::of(b"other"));
    refused(&Artifact { layer: b"other".to_vec(), ..good.clone() }, &digest);
    refused(&Artifact { config: b"other".to_vec(), ..good }, &digest);
}

#[test]
fn a_file_that_was_changed_is_named_with_its_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let (digest, artifact) = artifact(b"the layer's bytes", &[b"a bundle"]);
    store.put(&package(), &digest, &artifact).unwrap();
    let files = files(folder.path());
    assert_eq!(files.len(), 5);
    for file in &files {
        let sound = fs::read(file).unwrap();
        let mut flipped = sound.clone();
        flipped[sound.len() / 2] ^= 1;
        let longer = [&sound[..], b"x"].concat();
        for bytes in [flipped, longer, sound[1..].to_vec(), Vec::new()] {
            fs::write(file, bytes).unwrap();
            let error = store.get(&package(), &digest).unwrap_err();
            assert!(matches!(error, StoreError::Damaged { .. }), "{}: {error:?}", file.display());
            let text = error.to_string();
            assert!(text.contains(file.to_str().unwrap()) && text.contains("witan pull acme:sums@1.0.0"), "{text}");
        }
        // Fetching it again mends it.
        store.put(&package(), &digest, &artifact).unwrap();
        assert_eq!(store.get(&package(), &digest).unwrap(), Some(artifact.clone()));
        let is_record = file.extension().is_some();
        fs::remove_file(file).unwrap();
        assert_eq!(store.get(&package(), &digest).is_err(), !is_record);
        fs::write(file, sound).unwrap();
    }
}

/// Stores one version after another.
fn store(folder: &Path) {
    let store = Store::open(folder).unwrap();
    let mut random = fastrand::Rng::new();
    for number in 0_u64.. {
        let layer: Vec<u8> = (0..random.usize(1..100_000)).map(|_| random.u8(..)).collect();
        let (digest, mut version) = artifact(&layer, &[]);
        version.bundles.push(digest.to_string().into_bytes());
        let package = format!("acme:sums@{number}.0.0").parse().unwrap();
        kill::begun(format_args!("{package} {digest}"));
        store.put(&package, &digest, &version).unwrap();
        kill::done(format_args!("{package} {digest}"));
    }
}

#[test]
fn a_process_that_is_killed_leaves_nothing_half() {
    if let Some(folder) = kill::work() {
        return store(&folder);
    }
    let (mut random, mut whole, mut broken_off) = (random(), 0, 0);
    for _ in rounds("kill a pull into the store", 40) {
        let folder = tempfile::tempdir().unwrap();
        let mut child = kill::child("a_process_that_is_killed_leaves_nothing_half", folder.path()).unwrap();
        let told = kill::interrupted(&mut child, &mut random).unwrap();
        let store = Store::open(folder.path()).unwrap();
        for (what, done) in told {
            let (package, digest) = what.split_once(' ').unwrap();
            let (package, digest) = (package.parse().unwrap(), digest.parse().unwrap());
            match store.get(&package, &digest).unwrap() {
                Some(artifact) => {
                    assert_eq!(Digest::of(&artifact.manifest), digest);
                    assert_eq!(artifact.bundles, [digest.to_string().into_bytes()]);
                    whole += 1;
                }
                None => {
                    assert!(!done, "{package} was stored and is gone");
                    broken_off += 1;
                }
            }
        }
    }
    assert!(whole > 10 && broken_off > 5, "{whole} whole and {broken_off} broken off prove nothing");
}
