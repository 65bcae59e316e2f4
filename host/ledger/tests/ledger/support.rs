//! What the tests have in common.

use std::{fs, path::Path, time::Duration};

use witan_ledger::{Entry, Kind, Ledger, Settings};

/// Settings under which nothing happens by itself.
pub fn settings() -> Settings {
    Settings { gather: Duration::from_millis(1), checkpoint: Duration::from_secs(3600), ..Settings::default() }
}

pub fn open(folder: &Path) -> Ledger {
    Ledger::open(folder, settings()).unwrap()
}

/// A decision by `person` of `acme`.
pub fn entry(person: &str, number: u64) -> Entry {
    Entry::new(Kind::Decision, "http-send", format!("GET https://example.com:443/{number}")).by("acme", person)
}

/// A ledger of `count` entries in `folder`, closed.
pub fn filled(folder: &Path, count: u64) {
    let ledger = open(folder);
    for number in 0..count {
        ledger.append(entry(["alice", "bob"][(number % 2) as usize], number)).unwrap();
    }
    ledger.checkpoint().unwrap();
    ledger.close();
}

/// A copy of a folder with all in it.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        let target = to.join(file.file_name());
        if file.file_type().unwrap().is_dir() {
            copy(&file.path(), &target);
        } else {
            fs::copy(file.path(), target).unwrap();
        }
    }
}

/// Every byte of every file in a folder.
pub fn bytes(folder: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.is_dir() { all.extend(bytes(&path)) } else { all.extend(fs::read(path).unwrap()) }
    }
    all
}

/// The one file of entries, and what is in it.
pub fn entries_file(folder: &Path) -> (std::path::PathBuf, Vec<u8>) {
    let path = folder.join("entries").join(format!("{:020}.entries", 0));
    let bytes = fs::read(&path).unwrap();
    (path, bytes)
}

/// Where each record begins and ends in a file of entries.
pub fn frames(bytes: &[u8]) -> Vec<(usize, usize)> {
    let (mut at, mut frames) = (16, Vec::new());
    while at + 4 <= bytes.len() {
        let length = u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        if length == 0 {
            break;
        }
        frames.push((at, at + 12 + length));
        at += 12 + length;
    }
    frames
}
