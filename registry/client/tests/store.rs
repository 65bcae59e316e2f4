//! What was fetched stays what it was, on a disk that changes it and in a process that is killed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop at what it did not expect")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fs, thread};

use witan_registry_client::{Store, StoreError};
use witan_registry_types::{Artifact, ComponentConfig, ComponentInterfaces, ComponentManifest, Digest, Package};

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

/// The example `store`, which cargo builds beside the tests.
fn program() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    tests.ancestors().nth(2).unwrap().join("examples/store")
}

#[test]
fn a_process_that_is_killed_leaves_nothing_half() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::with_seed(7);
    let (mut whole, mut broken_off) = (0, 0);
    for kill in 0..40 {
        let data = folder.path().join(kill.to_string());
        let mut child = Command::new(program()).arg(&data).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        // After some versions, at any moment of the next: what it has written tells how far it is.
        let mut text = String::new();
        for _ in 0..random.usize(1..8) {
            assert!(lines.read_line(&mut text).unwrap() > 0);
        }
        for _ in 0..random.u32(0..3_000) {
            thread::yield_now();
        }
        child.kill().unwrap();
        lines.read_to_string(&mut text).unwrap();
        child.wait().unwrap();

        let mut told = BTreeMap::new();
        for line in text.lines() {
            let parts: Vec<&str> = line.split(' ').collect();
            let [state, package, digest] = parts[..] else { continue };
            told.insert((package.parse::<Package>().unwrap(), digest.parse::<Digest>().unwrap()), state == "done");
        }
        let store = Store::open(&data).unwrap();
        for ((package, digest), done) in told {
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
