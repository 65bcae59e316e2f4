//! Whatever is changed in the files is found.

use std::{fs, path::Path};

use witan_ledger::{Fault, Filter, Ledger, Placed, Reader, Report, Settings, kept_in, verify};

use crate::support::{copy, entries_file, filled, frames, settings};

/// What verification says of a ledger of 300 entries that `change` was made to.
fn after(change: impl FnOnce(&Path)) -> Report {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path(), 300);
    assert!(verify(folder.path(), None, &[]).unwrap().holds);
    change(folder.path());
    verify(folder.path(), None, &[]).unwrap()
}

fn has(report: &Report, fault: impl Fn(&Fault) -> bool) {
    assert!(!report.holds);
    assert!(report.faults.iter().any(fault), "{:?}", report.faults);
}

/// Writes the records of a file again in another order or number, with their frames.
fn records(folder: &Path, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
    let (path, bytes) = entries_file(folder);
    let mut records: Vec<Vec<u8>> = frames(&bytes).iter().map(|(start, end)| bytes[*start..*end].to_vec()).collect();
    change(&mut records);
    fs::write(path, [&bytes[..16], &records.concat()].concat()).unwrap();
}

/// Changes a record's body, and makes its frame fit.
fn body(record: &mut [u8], change: impl FnOnce(&mut [u8])) {
    change(&mut record[12..]);
    let check = blake3::hash(&record[12..]);
    record[4..12].copy_from_slice(&check.as_bytes()[..8]);
}

#[test]
fn a_changed_entry_of_the_log_is_found() {
    let report = after(|folder| {
        let path = folder.join("log/tile/entries/000");
        let mut bundle = fs::read(&path).unwrap();
        bundle[100] ^= 1;
        fs::write(path, bundle).unwrap();
    });
    has(&report, |fault| matches!(fault, Fault::Log { what } if what.contains("entry 1 is not")));
}

#[test]
fn a_changed_payload_is_found() {
    let report = after(|folder| records(folder, |all| body(&mut all[7], |body| body[80] ^= 1)));
    has(&report, |fault| matches!(fault, Fault::Changed { index: 7, .. }));
    // Also where the frame does not fit.
    let report = after(|folder| {
        let (path, mut bytes) = entries_file(folder);
        let (_, end) = frames(&bytes)[7];
        bytes[end - 1] ^= 1;
        fs::write(path, bytes).unwrap();
    });
    has(&report, |fault| matches!(fault, Fault::Damaged { index: 6, .. }));
}

#[test]
fn an_entry_under_another_s_key_is_found() {
    let report = after(|folder| {
        records(folder, |all| {
            let key = all[8][20..36].to_vec();
            body(&mut all[7], |body| body[8..24].copy_from_slice(&key));
        });
    });
    has(&report, |fault| matches!(fault, Fault::Changed { index: 7, .. }));
}

#[test]
fn a_removed_end_is_found() {
    let report = after(|folder| records(folder, |all| all.truncate(290)));
    has(&report, |fault| matches!(fault, Fault::Missing { from: 290, to: 299 }));
}

#[test]
fn a_removed_end_is_found_when_all_that_was_signed_goes_with_it() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path(), 300);
    for part in [290, 0] {
        records(folder.path(), |all| all.truncate(part));
        let _gone_already = fs::remove_dir_all(folder.path().join("log"));
        let _gone_already = fs::remove_file(folder.path().join("checkpoint"));
        let report = verify(folder.path(), None, &[]).unwrap();
        has(&report, |fault| matches!(fault, Fault::Log { what } if what.contains("its checkpoint was removed")));
        // Nor is the shorter one signed.
        let error = Ledger::open(folder.path(), settings()).unwrap_err();
        assert!(error.to_string().contains("the checkpoint of its log was removed"), "{error}");
        assert!(!folder.path().join("log/checkpoint").exists());
    }
}

#[test]
fn a_removed_time_is_found_and_told_of_by_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path(), 3);
    let path = folder.path().join("checkpoint");
    fs::remove_file(&path).unwrap();
    let report = verify(folder.path(), None, &[]).unwrap();
    has(&report, |fault| matches!(fault, Fault::Checkpoint { what } if what.contains("it was removed")));
    drop(Ledger::open(folder.path(), settings()).unwrap());
    let report = verify(folder.path(), None, &[]).unwrap();
    assert!(report.holds && report.time.is_some(), "{:?}", report.faults);
    let told = Reader::open(folder.path()).unwrap().entry(3).unwrap().unwrap().entry.unwrap();
    assert_eq!(told.action, "checkpoint-removed");
}

#[test]
fn a_ledger_is_signed_before_its_first_entry_and_one_that_broke_off_before_that_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    std::mem::forget(crate::support::open(folder.path()));
    let report = verify(folder.path(), None, &[]).unwrap();
    assert!(report.holds && report.time.is_some(), "{:?}", report.faults);
    assert_eq!((report.size, report.pending), (0, 0));
    // Between the log and its time, and before both.
    for left in [&["host.key", "pepper", "log"][..], &["host.key"]] {
        let broken = tempfile::tempdir().unwrap();
        for part in left {
            let (from, to) = (folder.path().join(part), broken.path().join(part));
            if from.is_dir() {
                copy(&from, &to);
            } else {
                fs::copy(from, to).unwrap();
            }
        }
        filled(broken.path(), 2);
        let report = verify(broken.path(), None, &[]).unwrap();
        assert!(report.holds && report.size == 2, "{:?}", report.faults);
    }
}

#[test]
fn a_removed_middle_is_found() {
    let report = after(|folder| records(folder, |all| drop(all.drain(100..110))));
    has(&report, |fault| matches!(fault, Fault::Damaged { index: 99, .. }));
    // Numbered anew, so that there seems to be no gap.
    let report = after(|folder| {
        records(folder, |all| {
            all.drain(100..110);
            for (number, record) in (0_u64..).zip(all) {
                body(record, |body| body[..8].copy_from_slice(&number.to_be_bytes()));
            }
        });
    });
    has(&report, |fault| matches!(fault, Fault::Changed { index: 100, .. }));
}

#[test]
fn another_order_is_found() {
    let report = after(|folder| {
        records(folder, |all| {
            all.swap(10, 11);
            for (number, record) in (0_u64..).zip(all) {
                body(record, |body| body[..8].copy_from_slice(&number.to_be_bytes()));
            }
        });
    });
    has(&report, |fault| matches!(fault, Fault::Changed { index: 10, .. }));
    has(&report, |fault| matches!(fault, Fault::Changed { index: 11, .. }));
}

#[test]
fn a_key_that_somebody_removed_is_no_erasure() {
    let report = after(|folder| {
        let path = folder.join("keys");
        let lines = fs::read_to_string(&path).unwrap();
        // Her entry is the first, and so is her key.
        let (_, kept) = lines.split_once('\n').unwrap();
        fs::write(path, kept).unwrap();
    });
    has(&report, |fault| matches!(fault, Fault::KeyGone { count: 150, first: 0, .. }));
}

#[test]
fn a_whole_that_was_rewritten_is_found_by_a_checkpoint_that_was_kept() {
    let (folder, kept) = (tempfile::tempdir().unwrap(), tempfile::NamedTempFile::new().unwrap());
    filled(folder.path(), 300);
    fs::copy(folder.path().join("checkpoint"), kept.path()).unwrap();
    let kept = kept_in(kept.path()).unwrap();
    assert_eq!(verify(folder.path(), None, &kept).unwrap().kept, 1);

    // Whoever has the keys writes all of it anew.
    for count in [299, 300, 301] {
        let forged = tempfile::tempdir().unwrap();
        for key in ["host.key", "host-keys.jsonl", "keys", "pepper"] {
            fs::copy(folder.path().join(key), forged.path().join(key)).unwrap();
        }
        filled(forged.path(), count);
        let alone = verify(forged.path(), None, &[]).unwrap();
        assert!(alone.holds && !alone.pinned, "a ledger by itself cannot show it: {:?}", alone.faults);
        let report = verify(forged.path(), None, &kept).unwrap();
        has(&report, |fault| matches!(fault, Fault::Log { what } if what.contains("kept")));
    }
}

#[test]
fn an_end_that_was_removed_with_its_checkpoint_is_found_by_one_that_was_kept() {
    let (folder, before) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    filled(folder.path(), 100);
    copy(folder.path(), before.path());
    filled(folder.path(), 100);
    let kept = kept_in(&folder.path().join("checkpoint")).unwrap();
    assert!(verify(before.path(), None, &[]).unwrap().holds);
    let report = verify(before.path(), None, &kept).unwrap();
    has(&report, |fault| matches!(fault, Fault::Log { what } if what.contains("its end was removed")));
}

#[test]
fn a_foreign_key_is_found_and_one_that_followed_is_not_foreign() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    filled(folder.path(), 10);
    filled(other.path(), 10);
    let first = Reader::open(folder.path()).unwrap().host_keys().unwrap().current().clone();
    assert!(verify(folder.path(), Some(&first), &[]).unwrap().holds);
    assert!(verify(other.path(), Some(&first), &[]).is_err());

    let kept = kept_in(&folder.path().join("checkpoint")).unwrap();
    let keys = Ledger::rotate_key(folder.path(), "local").unwrap();
    assert_eq!(keys.all().len(), 2);
    filled(folder.path(), 10);
    for pinned in keys.all() {
        let report = verify(folder.path(), Some(pinned), &[]).unwrap();
        assert!(report.holds, "{:?}", report.faults);
        assert_eq!(report.size, 21);
    }
    let report = verify(folder.path(), Some(&first), &kept).unwrap();
    assert!(report.holds, "{:?}", report.faults);

    // A key that none before it signed for.
    let list = folder.path().join("host-keys.jsonl");
    let foreign = fs::read_to_string(other.path().join("host-keys.jsonl")).unwrap();
    fs::write(&list, fs::read_to_string(&list).unwrap() + &foreign).unwrap();
    assert!(verify(folder.path(), None, &[]).is_err());
}

#[test]
fn a_checkpoint_of_another_time_or_log_is_found() {
    let report = after(|folder| {
        let log = fs::read_to_string(folder.join("log/checkpoint")).unwrap();
        fs::write(folder.join("checkpoint"), log).unwrap();
    });
    has(&report, |fault| matches!(fault, Fault::Checkpoint { what } if what.contains("time")));
    let other = tempfile::tempdir().unwrap();
    filled(other.path(), 10);
    let report = after(|folder| {
        fs::copy(other.path().join("checkpoint"), folder.join("checkpoint")).unwrap();
    });
    has(&report, |fault| matches!(fault, Fault::Checkpoint { .. }));
}

#[test]
fn a_host_does_not_start_on_a_ledger_that_its_sink_knows_better() {
    let (folder, before) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let sink = tempfile::tempdir().unwrap().keep().join("sink.jsonl");
    filled(folder.path(), 20);
    copy(folder.path(), before.path());
    let with_sink = || Settings { sink: Some(sink.clone()), ..settings() };
    let ledger = Ledger::open(folder.path(), with_sink()).unwrap();
    ledger.append_blocking(crate::support::entry("alice", 1)).unwrap();
    ledger.close();
    let kept = kept_in(&sink).unwrap();
    assert!(verify(folder.path(), None, &kept).unwrap().holds);
    drop(Ledger::open(folder.path(), with_sink()).unwrap());
    let error = Ledger::open(before.path(), with_sink()).unwrap_err();
    assert!(error.to_string().contains("its end was removed"), "{error}");
    fs::remove_dir_all(sink.parent().unwrap()).unwrap();
}

/// A ledger that has the keys of the one in `folder`, and says something else.
fn forged(folder: &Path, count: u64) -> tempfile::TempDir {
    let forged = tempfile::tempdir().unwrap();
    for key in ["host.key", "host-keys.jsonl", "keys", "pepper"] {
        fs::copy(folder.join(key), forged.path().join(key)).unwrap();
    }
    let ledger = crate::support::open(forged.path());
    for number in 0..count {
        ledger.append(crate::support::entry("mallory", number)).unwrap();
    }
    ledger.close();
    fs::copy(forged.path().join("keys"), folder.join("keys")).unwrap();
    forged
}

/// What is shown of a ledger: forwards from each number, and backwards in pages.
fn shown(folder: &Path) -> Vec<Vec<Placed>> {
    let reader = Reader::open(folder).unwrap();
    let all = Filter::default();
    let mut shown: Vec<Vec<Placed>> =
        (0..12).map(|after| reader.after(&all, Some(after), 100).unwrap().entries).collect();
    shown.push(reader.after(&all, None, 100).unwrap().entries);
    shown.push(reader.before(&all, None, 100).unwrap().entries);
    let (mut pages, mut cursor) = (Vec::new(), None);
    loop {
        let page = reader.before(&all, cursor, 4).unwrap();
        pages.extend(page.entries);
        cursor = page.cursor;
        if !page.more {
            break;
        }
    }
    shown.push(pages);
    shown.extend((0..12).map(|number| reader.entry(number).unwrap().into_iter().collect()));
    shown
}

#[test]
fn entries_that_were_put_beside_the_journal_are_found_and_not_shown() {
    for (name, is_ours) in [("3.entries", false), ("00000000000000000003.entries", true)] {
        let folder = tempfile::tempdir().unwrap();
        filled(folder.path(), 10);
        let before = shown(folder.path());
        let forged = forged(folder.path(), 10);
        let (_, bytes) = entries_file(forged.path());
        let (start, _) = frames(&bytes)[3];
        let head = [&bytes[..8], &3_u64.to_be_bytes()].concat();
        fs::write(folder.path().join("entries").join(name), [&head, &bytes[start..]].concat()).unwrap();
        let report = verify(folder.path(), None, &[]).unwrap();
        if is_ours {
            has(&report, |fault| matches!(fault, Fault::Foreign { index: 3, .. }));
        } else {
            assert!(report.holds, "a file of another name is none of the ledger's: {:?}", report.faults);
        }
        assert!(shown(folder.path()) == before, "{name}");
    }
}

#[test]
fn a_key_is_not_rotated_where_another_process_keeps_the_log() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path(), 2);
    let keeper = crate::support::open(folder.path());
    keeper.checkpoint().unwrap();
    let error = Ledger::rotate_key(folder.path(), "local").unwrap_err();
    assert!(error.to_string().contains("another process"), "{error}");
    keeper.close();
    let entries = Reader::open(folder.path()).unwrap().after(&Filter::default(), None, 10).unwrap().entries;
    assert_eq!(entries.len(), 2, "what was not done is not told of");
}
