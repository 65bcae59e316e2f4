//! A process that is killed leaves a ledger that verifies and has all that was acknowledged.

use std::path::Path;

use witan_ledger::{Filter, Ledger, Settings, verify};
use witan_rounds::{kill, random, rounds};

use crate::support::{entry, settings};

/// Appends, some of it by two threads at once, and says what is durable.
fn write(folder: &Path) {
    let settings = Settings { checkpoint: std::time::Duration::from_millis(20), ..settings() };
    let ledger = Ledger::open(folder, settings).unwrap();
    for number in 0.. {
        kill::begun(number);
        for noise in 0..20 {
            let _full = ledger.append(entry(&format!("user-{}", (number + noise) % 50), noise));
        }
        ledger.append_blocking(entry("alice", number)).unwrap();
        kill::done(number);
    }
}

#[test]
fn what_was_acknowledged_is_there_after_a_kill() {
    if let Some(folder) = kill::work() {
        return write(&folder);
    }
    let (mut random, mut broken_off) = (random(), 0);
    for _ in rounds("kill a process that writes the ledger", 12) {
        let folder = tempfile::tempdir().unwrap();
        // One folder is killed in more than once.
        let mut done = Vec::new();
        for _ in 0..2 {
            let mut child = kill::child("killed::what_was_acknowledged_is_there_after_a_kill", folder.path()).unwrap();
            let told = kill::interrupted(&mut child, &mut random).unwrap();
            broken_off += told.values().filter(|done| !**done).count();
            done.push(told.values().filter(|done| **done).count());
        }
        let ledger = Ledger::open(folder.path(), settings()).unwrap();
        ledger.checkpoint().unwrap();
        let alice = Filter { principal: Some("alice".into()), ..Filter::default() };
        let page = ledger.reader().after(&alice, None, 100_000).unwrap();
        assert!(page.entries.len() >= done.iter().sum(), "{} of {done:?}", page.entries.len());
        drop(ledger);
        let report = verify(folder.path(), None, &[]).unwrap();
        assert!(report.holds, "{:?}", report.faults);
        assert_eq!((report.pending, report.erased), (0, 0));
    }
    assert!(broken_off > 5, "{broken_off} broken off prove nothing");
}
