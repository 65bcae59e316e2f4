//! Entries are written, in order, and read back.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use witan_ledger::{Entry, Filter, Kind, Ledger, OpenError, Reader, Refused, Settings, Verdict, verify};

use crate::support::{entries_file, entry, filled, frames, open, settings};

#[tokio::test]
async fn entries_are_read_as_they_were_written() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path());
    let first = entry("alice", 1).because("granted").with("port", 443);
    let second = entry("bob", 2).denied("no grant");
    assert_eq!(ledger.append_durable(first.clone()).await.unwrap(), 0);
    assert_eq!(ledger.append_durable(second.clone()).await.unwrap(), 1);
    // Keys that were made since the reader was opened are known in both directions.
    let newest = ledger.reader().before(&Filter::default(), None, 1).unwrap();
    assert_eq!(newest.entries[0].entry.as_ref(), Some(&second));
    let page = ledger.reader().after(&Filter::default(), None, 10).unwrap();
    let entries: Vec<Entry> = page.entries.iter().filter_map(|placed| placed.entry.clone()).collect();
    assert_eq!(entries, [first.clone(), second.clone()]);
    assert!(!page.more);

    let of = |filter: Filter| {
        let page = ledger.reader().after(&filter, None, 10).unwrap();
        page.entries.iter().map(|placed| placed.index).collect::<Vec<_>>()
    };
    assert_eq!(of(Filter { principal: Some("bob".into()), ..Filter::default() }), [1]);
    assert_eq!(of(Filter { decision: Some(Verdict::Deny), ..Filter::default() }), [1]);
    assert_eq!(of(Filter { decision_id: Some(first.id), ..Filter::default() }), [0]);
    assert_eq!(of(Filter { tenant: Some("other".into()), ..Filter::default() }), [0; 0]);
    assert_eq!(of(Filter { kind: Some(Kind::Load), ..Filter::default() }), [0; 0]);
    assert_eq!(of(Filter { since_ms: Some(second.time_ms + 1000), ..Filter::default() }), [0; 0]);
}

#[test]
fn pages_go_forwards_and_backwards_without_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path(), 25);
    let reader = Reader::open(folder.path()).unwrap();
    let bob = Filter { principal: Some("bob".into()), ..Filter::default() };
    let mut forwards = Vec::new();
    let mut cursor = None;
    loop {
        let page = reader.after(&bob, cursor, 5).unwrap();
        forwards.extend(page.entries.iter().map(|placed| placed.index));
        cursor = page.cursor;
        if !page.more {
            break;
        }
    }
    assert_eq!(forwards, (0..25).filter(|number| number % 2 == 1).collect::<Vec<u64>>());
    let mut backwards = Vec::new();
    let mut cursor = None;
    loop {
        let page = reader.before(&bob, cursor, 5).unwrap();
        backwards.extend(page.entries.iter().map(|placed| placed.index));
        cursor = page.cursor;
        if !page.more {
            break;
        }
    }
    backwards.reverse();
    assert_eq!(backwards, forwards);
    assert_eq!(reader.entry(7).unwrap().unwrap().index, 7);
    assert_eq!(reader.entry(25).unwrap(), None);
}

#[test]
fn a_ledger_goes_on_where_it_was_and_verifies() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path(), 3);
    filled(folder.path(), 300);
    let report = verify(folder.path(), None, &[]).unwrap();
    assert!(report.holds, "{:?}", report.faults);
    assert_eq!((report.size, report.entries, report.pending), (303, 303, 0));
    assert!(report.time.is_some_and(|time| time > 1_700_000_000));
}

#[test]
fn what_is_under_no_checkpoint_yet_is_counted_and_taken_up_later() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path());
    ledger.append_blocking(entry("alice", 1)).unwrap();
    let report = verify(folder.path(), None, &[]).unwrap();
    assert!(report.holds, "{:?}", report.faults);
    assert_eq!((report.size, report.pending), (0, 1));
    ledger.checkpoint().unwrap();
    assert_eq!(verify(folder.path(), None, &[]).unwrap().size, 1);
}

#[test]
fn processes_that_share_a_folder_share_the_ledger() {
    let folder = tempfile::tempdir().unwrap();
    // Two handles have nothing in common but the files, as two processes.
    let (one, two) = (open(folder.path()), open(folder.path()));
    for number in 0..50 {
        one.append(entry("alice", number)).unwrap();
        two.append(entry("bob", number)).unwrap();
        if number % 7 == 0 {
            two.append_blocking(entry("carol", number)).unwrap();
        }
    }
    one.checkpoint().unwrap();
    two.close();
    one.close();
    let report = verify(folder.path(), None, &[]).unwrap();
    assert!(report.holds, "{:?}", report.faults);
    assert_eq!((report.size, report.entries), (108, 108));
}

#[test]
fn what_another_process_wrote_is_put_under_a_checkpoint_though_nothing_else_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let keeper = Ledger::open(folder.path(), Settings { checkpoint: Duration::from_secs(1), ..settings() }).unwrap();
    keeper.append_blocking(entry("alice", 1)).unwrap();
    keeper.checkpoint().unwrap();
    let other = open(folder.path());
    other.append_blocking(entry("bob", 2)).unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let report = verify(folder.path(), None, &[]).unwrap();
        assert!(report.holds, "{:?}", report.faults);
        if (report.size, report.pending) == (2, 0) {
            break;
        }
        assert!(Instant::now() < until, "{} entries are under no checkpoint", report.pending);
        thread::yield_now();
    }
}

#[test]
fn a_full_queue_refuses_what_would_be_allowed_and_counts_denials() {
    let folder = tempfile::tempdir().unwrap();
    // Nothing is written before the queue is full.
    let ledger =
        Ledger::open(folder.path(), Settings { queue: 8, gather: Duration::from_secs(3600), ..settings() }).unwrap();
    let allowed = (0..100).filter(|number| ledger.append(entry("alice", *number)).is_ok()).count();
    assert_eq!(allowed, 6);
    assert!(matches!(ledger.append(entry("alice", 0)), Err(Refused::Full(8))));
    let health = ledger.health();
    assert!(health.failing.is_some());
    let denied = (0..100).filter(|number| ledger.append(entry("alice", *number).denied("no")).is_ok()).count();
    assert_eq!(denied, 2);
    assert_eq!(ledger.health().lost_denials, 98);
    assert!(ledger.flush(Duration::from_secs(20)));
    assert_eq!(ledger.health().failing, None);
    ledger.close();
    let reader = Reader::open(folder.path()).unwrap();
    let page = reader.after(&Filter { kind: Some(Kind::Ledger), ..Filter::default() }, None, 10).unwrap();
    let told: Vec<_> = page.entries.iter().filter_map(|placed| placed.entry.as_ref()).collect();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].details["count"], "98");
}

/// A folder in the place of the file stands for a disk that fails: root is refused nothing else.
#[test]
fn while_the_disk_fails_nothing_is_allowed_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path());
    ledger.append_blocking(entry("alice", 0)).unwrap();
    let keys = folder.path().join("keys");
    std::fs::rename(&keys, folder.path().join("keys.away")).unwrap();
    std::fs::create_dir(&keys).unwrap();
    ledger.append(entry("bob", 1).denied("no")).unwrap();
    assert!(!ledger.flush(Duration::from_secs(20)));
    assert!(ledger.health().failing.is_some());
    assert!(matches!(ledger.append(entry("alice", 2)), Err(Refused::Disk(_))));
    assert!(matches!(ledger.append_blocking(entry("alice", 3)), Err(Refused::Disk(_))));
    ledger.append(entry("bob", 4).denied("no")).unwrap();

    std::fs::remove_dir(&keys).unwrap();
    std::fs::rename(folder.path().join("keys.away"), &keys).unwrap();
    let durable = loop {
        // Written again within a second or so.
        match ledger.append_blocking(entry("alice", 5)) {
            Ok(index) => break index,
            Err(_) => std::thread::yield_now(),
        }
    };
    assert_eq!(ledger.health().failing, None);
    ledger.close();
    let page = Reader::open(folder.path()).unwrap().after(&Filter::default(), None, 10).unwrap();
    let resources: Vec<String> = page.entries.into_iter().filter_map(|placed| Some(placed.entry?.resource)).collect();
    assert_eq!(resources.len(), 5, "{resources:?}");
    assert_eq!(resources[2], "entries", "an entry tells of the time without entries");
    assert!(resources[1].ends_with("/1") && resources[3].ends_with("/4") && resources[4].ends_with("/5"));
    assert_eq!(durable, 4);
}

#[test]
fn a_disk_that_failed_is_tried_again_though_nobody_waits() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path());
    ledger.append_blocking(entry("alice", 0)).unwrap();
    let (keys, away) = (folder.path().join("keys"), folder.path().join("keys.away"));
    std::fs::rename(&keys, &away).unwrap();
    std::fs::create_dir(&keys).unwrap();
    // Whoever waited was told, and does not wait any more.
    assert!(matches!(ledger.append_blocking(entry("bob", 1)), Err(Refused::Disk(_))));
    let health = ledger.health();
    assert!(health.failing.is_some() && health.failures > 0, "{health:?}");
    assert_eq!((health.writes, health.written), (1, 1));
    assert!(!health.write_time.is_zero());
    std::fs::remove_dir(&keys).unwrap();
    std::fs::rename(away, &keys).unwrap();
    while ledger.failing().is_some() {
        std::thread::yield_now();
    }
    ledger.append_blocking(entry("alice", 2)).unwrap();
}

#[test]
fn the_end_that_a_crash_tore_is_set_aside_and_the_rest_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path(), 3);
    let ledger = open(folder.path());
    ledger.append_blocking(entry("alice", 3)).unwrap();
    std::mem::forget(ledger);
    let (path, bytes) = entries_file(folder.path());
    let (start, end) = frames(&bytes)[3];
    std::fs::write(&path, &bytes[..(start + end) / 2]).unwrap();
    let ledger = open(folder.path());
    assert_eq!(ledger.append_blocking(entry("bob", 4)).unwrap(), 3);
    drop(ledger);
    let report = verify(folder.path(), None, &[]).unwrap();
    assert!(report.holds, "{:?}", report.faults);
    let torn = std::fs::read_dir(folder.path().join("entries")).unwrap();
    assert_eq!(torn.filter(|file| file.as_ref().unwrap().file_name().to_string_lossy().ends_with(".torn")).count(), 1);
}

#[test]
fn a_ledger_that_lost_what_a_checkpoint_has_is_not_opened() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path(), 5);
    let (path, bytes) = entries_file(folder.path());
    let (start, end) = frames(&bytes)[2];
    for changed in [bytes[..start].to_vec(), bytes[..(start + end) / 2].to_vec()] {
        std::fs::write(&path, &changed).unwrap();
        let error = Ledger::open(folder.path(), settings()).unwrap_err();
        assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
        // Opening changed nothing: what is left is evidence.
        assert_eq!(std::fs::read(&path).unwrap(), changed);
    }
}

#[test]
fn only_the_user_reads_what_is_written() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let ledger = folder.path().join("ledger");
    filled(&ledger, 2);
    let mode = |path: &str| std::fs::metadata(ledger.join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(""), 0o700);
    for path in ["keys", "host.key", "pepper", &format!("entries/{:020}.entries", 0)] {
        assert_eq!(mode(path), 0o600, "{path}");
    }
    std::fs::set_permissions(ledger.join("host.key"), std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(Ledger::open(&ledger, settings()), Err(OpenError::Keys(_))));
}

#[test]
fn what_is_too_much_is_dropped_and_the_rest_verifies() {
    let folder = tempfile::tempdir().unwrap();
    let small = || Settings { file_bytes: 100_000, ..settings() };
    let keep = Settings { max_bytes: Some(1), ..small() };
    let long = || entry("alice", 0).because("x".repeat(900));
    let ledger = Ledger::open(folder.path(), small()).unwrap();
    for _ in 0..5 {
        for _ in 0..100 {
            ledger.append(long()).unwrap();
        }
        assert!(ledger.flush(Duration::from_secs(20)));
    }
    ledger.checkpoint().unwrap();
    ledger.close();
    let first = folder.path().join("entries").join(format!("{:020}.entries", 0));
    assert!(first.exists());
    let ledger = Ledger::open(folder.path(), keep).unwrap();
    ledger.append(long()).unwrap();
    // One round tells of it, the next has it under a checkpoint, and the one after drops.
    for _ in 0..3 {
        ledger.checkpoint().unwrap();
    }
    ledger.close();
    assert!(!first.exists());
    let report = verify(folder.path(), None, &[]).unwrap();
    assert!(report.holds, "{:?}", report.faults);
    assert!(report.dropped >= 400 && report.dropped + report.entries == report.size, "{report:?}");
}

/// Everything that a host does to its ledger, at once and without a pause: entries of people who were not there before, files
/// that are full, checkpoints, files that are dropped, and people who are erased.
#[test]
fn a_ledger_verifies_at_any_moment_while_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let busy = Settings {
        gather: Duration::from_millis(1),
        checkpoint: Duration::from_millis(1),
        file_bytes: 6_000,
        max_bytes: Some(30_000),
        ..settings()
    };
    let ledger = Ledger::open(folder.path(), busy).unwrap();
    let ended = AtomicBool::new(false);
    let (mut times, mut faults) = (0, Vec::new());
    thread::scope(|scope| {
        let writing = scope.spawn(|| {
            let mut number = 0;
            while !ended.load(Ordering::Relaxed) {
                number += 1;
                let person = format!("person {number}");
                ledger.append_blocking(entry(&person, number).because("x".repeat(200))).unwrap();
                if number % 11 == 0 {
                    ledger.erase("acme", Some(&format!("person {}", number - 3)), "a test").unwrap();
                }
            }
        });
        let mut seen_all = false;
        while (times < 200 || !seen_all) && faults.is_empty() && !writing.is_finished() {
            let report = verify(folder.path(), None, &[]).unwrap();
            times += 1;
            seen_all = report.dropped > 0 && report.erased > 0;
            faults = report.faults;
        }
        ended.store(true, Ordering::Relaxed);
    });
    assert!(faults.is_empty(), "the {times}th time: {faults:?}");
    ledger.close();
    let report = verify(folder.path(), None, &[]).unwrap();
    assert!(report.holds && report.erased > 0 && report.dropped > 0, "{report:?}");
}
