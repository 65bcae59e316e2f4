//! What was erased says nothing, and the ledger verifies as before.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read as _},
    process::Command,
    thread,
};

use witan_ledger::{
    Class, EraseError, Filter, HOST, Ledger, OpenError, Reader, Redaction, Settings, Treatment, verify,
};

use crate::support::{bytes, entry, filled, open, settings};

#[test]
fn erased_entries_say_nothing_and_the_ledger_verifies() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path(), 20);
    let ledger = open(folder.path());
    ledger.append_blocking(entry("admin", 0).about("alice")).unwrap();
    let before = ledger.reader().checkpoint().unwrap().unwrap();
    let erased = ledger.erase("acme", Some("alice"), "admin").unwrap();
    assert_eq!(erased.keys.len(), 1);
    ledger.checkpoint().unwrap();

    let report = verify(folder.path(), None, &[before.checkpoint.note().to_owned()]).unwrap();
    assert!(report.holds, "{:?}", report.faults);
    // Ten by her, and one about her.
    assert_eq!((report.size, report.entries, report.erased), (22, 11, 11));
    let page = ledger.reader().after(&Filter::default(), None, 100).unwrap();
    assert_eq!(page.entries[0].entry, None);
    assert_eq!(page.entries[20].entry, None);
    assert_eq!(page.entries[1].entry.as_ref().unwrap().principal, "bob");
    let told = page.entries[21].entry.as_ref().unwrap();
    assert_eq!((told.action.as_str(), told.details["by"].as_str()), ("erase", "admin"));
    let found = bytes(folder.path()).windows(5).any(|window| window == b"alice");
    assert!(!found, "her name is nowhere");

    assert!(matches!(ledger.erase("acme", Some("alice"), "admin"), Err(EraseError::Nobody(_))));
    assert!(matches!(ledger.erase("other", Some("bob"), "admin"), Err(EraseError::Nobody(_))));
    assert!(matches!(ledger.erase(HOST, None, "admin"), Err(EraseError::Host)));
    // What is written of her from now on is under another key.
    let index = ledger.append_blocking(entry("alice", 9)).unwrap();
    assert!(ledger.reader().entry(index).unwrap().unwrap().entry.is_some());
    ledger.checkpoint().unwrap();
    assert!(verify(folder.path(), None, &[]).unwrap().holds);
}

#[test]
fn a_tenant_is_erased_with_everyone_in_it_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path());
    for number in 0..50 {
        ledger.append(entry(&format!("user-{number}"), number)).unwrap();
        ledger.append(entry("alice", number).by("beta", "alice")).unwrap();
    }
    let erased = ledger.erase("acme", None, "local").unwrap();
    assert_eq!(erased.keys.len(), 50);
    ledger.checkpoint().unwrap();
    let report = verify(folder.path(), None, &[]).unwrap();
    assert!(report.holds, "{:?}", report.faults);
    assert_eq!(report.erased, 50);
    let beta = Filter { tenant: Some("beta".into()), ..Filter::default() };
    assert_eq!(ledger.reader().after(&beta, None, 100).unwrap().entries.len(), 50);
}

#[test]
fn a_process_beside_uses_no_key_that_was_destroyed() {
    let folder = tempfile::tempdir().unwrap();
    let (host, command) = (open(folder.path()), open(folder.path()));
    host.append_blocking(entry("alice", 0)).unwrap();
    command.erase("acme", Some("alice"), "local").unwrap();
    let index = host.append_blocking(entry("alice", 1)).unwrap();
    let reader = Reader::open(folder.path()).unwrap();
    assert_eq!(reader.entry(0).unwrap().unwrap().entry, None);
    assert!(reader.entry(index).unwrap().unwrap().entry.is_some());
}

#[test]
fn keys_that_are_overwritten_while_somebody_reads_them_are_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path());
    ledger.append_blocking(entry("alice", 0)).unwrap();
    let (keys, there) = (folder.path().join("keys"), folder.path().join("there"));
    fs::rename(&keys, &there).unwrap();
    assert!(Command::new("mkfifo").arg(&keys).status().unwrap().success());
    let length = fs::metadata(&there).unwrap().len();
    thread::scope(|scope| {
        let erasing = scope.spawn(|| ledger.erase("acme", Some("alice"), "admin"));
        // It is opened as soon as the keys are opened to be read, and who reads them waits for what is in them.
        let mut old = fs::OpenOptions::new().write(true).open(&keys).unwrap();
        fs::rename(&there, &keys).unwrap();
        io::copy(&mut io::repeat(0).take(length), &mut old).unwrap();
        drop(old);
        assert_eq!(erasing.join().unwrap().unwrap().keys.len(), 1);
    });
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn a_name_that_entries_do_not_have_is_in_no_file_and_is_erased_by_all_the_same() {
    for how in [Treatment::Hash, Treatment::Drop] {
        let folder = tempfile::tempdir().unwrap();
        let fields = BTreeMap::from([(Class::Identity, how)]);
        let redaction = Redaction { fields, ..Redaction::default() };
        let ledger = Ledger::open(folder.path(), Settings { redaction, ..settings() }).unwrap();
        ledger.append_blocking(entry("canary-person", 0)).unwrap();
        ledger.append_blocking(entry("admin", 1).about("canary-person")).unwrap();
        ledger.checkpoint().unwrap();
        assert!(!holds(&bytes(folder.path()), "canary-person"), "{how:?}");
        ledger.erase("acme", Some("canary-person"), "admin").unwrap();
        let entries = ledger.reader().after(&Filter::default(), None, 10).unwrap().entries;
        assert!(entries[0].entry.is_none() && entries[1].entry.is_none() && entries[2].entry.is_some());
    }
}

#[test]
fn names_in_the_file_of_keys_from_before_are_hashed() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path(), 4);
    let (path, old) = (folder.path().join("keys"), folder.path().join("keys.old"));
    let lines = fs::read_to_string(&path).unwrap();
    let named = |(line, person): (&str, &str)| {
        let key = serde_json::from_str::<serde_json::Value>(line).unwrap()["key"].clone();
        serde_json::json!({ "tenant": "acme", "person": person, "key": key }).to_string() + "\n"
    };
    let before: String = lines.lines().zip(["alice", "bob"]).map(named).collect();
    fs::write(&path, &before).unwrap();
    fs::hard_link(&path, &old).unwrap();
    // Whoever only reads does not need it.
    assert!(Reader::open(folder.path()).unwrap().entry(0).unwrap().unwrap().entry.is_some());

    let ledger = open(folder.path());
    let now = fs::read(&path).unwrap();
    assert!(!holds(&now, "alice") && !holds(&now, "acme"), "{}", String::from_utf8_lossy(&now));
    assert!(fs::read(&old).unwrap().iter().all(|byte| *byte == 0), "the old file is overwritten");
    ledger.append_blocking(entry("alice", 4)).unwrap();
    let erased = ledger.erase("acme", Some("alice"), "admin").unwrap();
    assert_eq!(erased.keys.len(), 1, "what is written of her now is under the key from before");
    let entries = ledger.reader().after(&Filter::default(), None, 10).unwrap().entries;
    let told: Vec<bool> = entries.iter().map(|placed| placed.entry.is_some()).collect();
    assert_eq!(told, [false, true, false, true, false, true]);
    assert_eq!(ledger.erase("acme", None, "admin").unwrap().keys.len(), 1);
}

#[test]
fn a_ledger_whose_pepper_was_removed_is_not_opened_since_nobody_could_be_erased() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path(), 2);
    fs::remove_file(folder.path().join("pepper")).unwrap();
    let error = Ledger::open(folder.path(), settings()).unwrap_err();
    assert!(matches!(&error, OpenError::Damaged { what, .. } if what.contains("pepper")), "{error}");
    assert!(!folder.path().join("pepper").exists());
}

#[test]
fn keys_that_a_killed_erasure_left_beside_the_file_are_gone_at_the_next_start_and_the_next_erasure() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path(), 4);
    let (path, left) = (folder.path().join("keys"), folder.path().join(".new-keys"));
    let witness = folder.path().join("left");
    let leave = || {
        fs::copy(&path, &left).unwrap();
        let _none = fs::remove_file(&witness);
        fs::hard_link(&left, &witness).unwrap();
    };
    let is_gone = || !left.exists() && fs::read(&witness).unwrap().iter().all(|byte| *byte == 0);
    leave();
    let ledger = open(folder.path());
    assert!(is_gone());
    leave();
    ledger.erase("acme", Some("alice"), "admin").unwrap();
    assert!(is_gone());
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 2, "bob's, and the host's own");
}
