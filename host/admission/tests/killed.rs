//! A process that is killed while it writes the lock, the quarantine or the marks leaves the old file or the new one.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop at what it did not expect")]

use std::{collections::BTreeMap, path::Path};

use witan_admission::{Cause, Held, Lock, Locked, Marks, Quarantine};
use witan_registry_sign::Checkpoint;
use witan_registry_types::{Digest, Package};
use witan_rounds::{kill, random, rounds};
use witan_system::Source;

/// Components of a lock, so that it is written in pieces.
const COMPONENTS: usize = 200;

fn package(number: u64) -> Package {
    format!("acme:sums@{number}.0.0").parse().unwrap()
}

fn lock(number: u64) -> Lock {
    let locked = Locked {
        package: Some(package(number)),
        manifest: Some(Digest::of(&number.to_le_bytes())),
        layer: None,
        blake3: None,
        signers: Vec::new(),
        wit: None,
        ceiling: None,
        grants: Digest::of(b"grants"),
        checkpoints: Vec::new(),
    };
    Lock::of((0..COMPONENTS).map(|component| (format!("sums-{component}"), locked.clone())).collect())
}

fn held(number: u64) -> Held {
    Held::new(&"sums".parse().unwrap(), &Source::Registry(package(number)), Cause::Operator, number.to_string())
}

fn checkpoint(number: u64) -> Checkpoint {
    Checkpoint {
        origin: "log.example - 1".to_owned(),
        size: number,
        root: *Digest::of(&number.to_le_bytes()).as_bytes(),
    }
}

/// Puts one state of all files after another.
fn write(folder: &Path) {
    let (quarantine, marks) = (Quarantine::at(folder.join("quarantine.json")), Marks::at(folder.join("marks.json")));
    for number in 1.. {
        kill::begun(number);
        lock(number).save(&folder.join("witan.lock")).unwrap();
        quarantine.add(held(number)).unwrap();
        marks.raise([(&package(number), Vec::new())]).unwrap();
        marks.raise_log(&checkpoint(number)).unwrap();
        kill::done(number);
    }
}

#[test]
fn the_files_of_an_operator_are_the_old_ones_or_the_new_ones() {
    if let Some(folder) = kill::work() {
        return write(&folder);
    }
    let (mut random, mut broken_off) = (random(), 0);
    for _ in rounds("kill a write of lock, quarantine and marks", 30) {
        let folder = tempfile::tempdir().unwrap();
        let mut child =
            kill::child("the_files_of_an_operator_are_the_old_ones_or_the_new_ones", folder.path()).unwrap();
        let told = kill::interrupted(&mut child, &mut random).unwrap();
        let told: BTreeMap<u64, bool> = told.into_iter().map(|(what, done)| (what.parse().unwrap(), done)).collect();
        let done = told.iter().filter(|(_, done)| **done).map(|(number, _)| *number).max().unwrap_or(0);
        let begun = told.keys().copied().max().unwrap_or(0);
        broken_off += usize::from(begun > done);

        let path = folder.path().join("witan.lock");
        let fits = |number: u64| (done..=begun).contains(&number);
        match Lock::load(&path).unwrap() {
            None => assert_eq!(done, 0),
            found => assert!((done..=begun).any(|number| found == Some(lock(number))), "{done} to {begun}: {found:?}"),
        }
        let quarantine = Quarantine::at(folder.path().join("quarantine.json"));
        let listed = quarantine.list().unwrap();
        assert!(fits(listed.len() as u64), "{done} to {begun}: {listed:?}");
        for (number, found) in (1..).zip(&listed) {
            assert_eq!(Held { since: found.since, ..held(number) }, *found);
        }
        let marks = Marks::at(folder.path().join("marks.json"));
        let mark = marks.version(&package(1).name).unwrap().map_or(0, |version| version.semver().major);
        assert!(fits(mark), "{done} to {begun}: {mark}");
        let log = marks.log("log.example - 1").unwrap();
        assert!(log.as_ref().map_or(done == 0, |log| fits(log.size) && *log == checkpoint(log.size)), "{log:?}");
        // Nobody is kept waiting by one who is gone, and the next writes as if nothing had been.
        lock(begun + 1).save(&path).unwrap();
        quarantine.add(held(begun + 1)).unwrap();
        marks.raise([(&package(begun + 1), Vec::new())]).unwrap();
        assert_eq!(Lock::load(&path).unwrap(), Some(lock(begun + 1)));
    }
    assert!(broken_off > 5, "{broken_off} broken off prove nothing");
}
