//! An export is verified by itself.

use std::io::Cursor;

use witan_ledger::{ExportError, Filter, Ledger, PublicKey, Reader, export, verify_export};

use crate::support::{filled, open};

fn exported(reader: &Reader, filter: &Filter) -> (String, PublicKey) {
    let mut bytes = Vec::new();
    export(reader, filter, &mut bytes).unwrap();
    (String::from_utf8(bytes).unwrap(), reader.host_keys().unwrap().all()[0].clone())
}

fn check(text: &str, key: &PublicKey) -> Result<witan_ledger::Exported, ExportError> {
    verify_export(&mut Cursor::new(text), key)
}

#[test]
fn an_export_holds_by_itself_and_after_erasure_and_rotation() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path(), 300);
    let (text, key) = exported(&Reader::open(folder.path()).unwrap(), &Filter::default());
    let found = check(&text, &key).unwrap();
    assert_eq!((found.entries, found.erased, found.size, found.complete), (300, 0, 300, true));
    assert!(found.time.is_some());

    let bob = Filter { principal: Some("bob".into()), ..Filter::default() };
    let (text, _) = exported(&Reader::open(folder.path()).unwrap(), &bob);
    let found = check(&text, &key).unwrap();
    assert_eq!((found.entries, found.complete), (150, false));
    assert!(!text.contains("alice"));

    let ledger = open(folder.path());
    ledger.erase("acme", Some("alice"), "local").unwrap();
    ledger.close();
    drop(ledger);
    Ledger::rotate_key(folder.path(), "local").unwrap();
    let (text, first) = exported(&Reader::open(folder.path()).unwrap(), &Filter::default());
    let found = check(&text, &first).unwrap();
    assert_eq!((found.entries, found.erased, found.complete), (302, 150, true));
}

#[test]
fn whatever_is_changed_in_an_export_is_found() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    filled(folder.path(), 20);
    filled(other.path(), 20);
    let (text, key) = exported(&Reader::open(folder.path()).unwrap(), &Filter::default());
    let (_, foreign) = exported(&Reader::open(other.path()).unwrap(), &Filter::default());
    assert!(check(&text, &foreign).is_err());
    let lines: Vec<&str> = text.lines().collect();
    let with = |change: &dyn Fn(&mut Vec<String>)| {
        let mut lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
        change(&mut lines);
        check(&(lines.join("\n") + "\n"), &key)
    };
    assert!(with(&|_| {}).is_ok());
    assert!(with(&|lines| lines[3] = lines[3].replace("http-send", "file-read")).is_err());
    assert!(with(&|lines| lines[3] = lines[3].replace("\"allow\"", "\"deny\"")).is_err());
    assert!(with(&|lines| lines[3] = lines[3].replacen("\"index\":2", "\"index\":3", 1)).is_err());
    assert!(with(&|lines| lines.swap(3, 4)).is_err());
    assert!(with(&|lines| lines[3] = lines[4].clone()).is_err());
    assert!(with(&|lines| lines[0] = lines[0].replace("\\n20\\n", "\\n19\\n")).is_err());
    assert!(with(&|lines| drop(lines.remove(0))).is_err());
    assert!(with(&|lines| lines[5].push('x')).is_err());
    // Fewer lines hold too, and are not said to be all.
    assert!(!with(&|lines| drop(lines.remove(4))).unwrap().complete);
    assert!(check("", &key).is_err());
}
