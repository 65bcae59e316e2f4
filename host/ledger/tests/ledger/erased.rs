//! What was erased says nothing, and the ledger verifies as before.

use witan_ledger::{EraseError, Filter, HOST, Reader, verify};

use crate::support::{bytes, entry, filled, open};

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
