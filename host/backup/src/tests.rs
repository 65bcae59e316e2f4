//! What is written is read whole, and what is damaged or foreign is refused without a trace.

use proptest::prelude::*;

use super::*;

/// That nothing was left in `folder` that was only to be there meanwhile.
#[track_caller]
fn nothing_is_hidden(folder: &Path) {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    let hidden: Vec<String> = names.filter(|name| name.starts_with('.')).collect();
    assert_eq!(hidden, Vec::<String>::new());
}

fn target<'a>(file: &'a Path, key: Option<&'a Key>) -> Target<'a> {
    Target { file, scratch: file.parent().unwrap(), key }
}

/// A folder with some files, and a backup of it.
fn backup() -> (tempfile::TempDir, PathBuf, Contents) {
    let folder = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for (name, bytes) in [("state/a", &b"first"[..]), ("state/deep/b", &[7; 70_000]), ("system/lock", b"lock")] {
        let path = folder.path().join(name.replace('/', "-"));
        fs::write(&path, bytes).unwrap();
        files.push((name.to_owned(), path));
    }
    let file = folder.path().join("backup.tar");
    let contents = write(target(&file, None), &files, "0.1.0", 1_700_000_000).unwrap();
    (folder, file, contents)
}

fn open_file(file: &Path) -> BufReader<File> {
    BufReader::new(File::open(file).unwrap())
}

#[test]
fn what_was_written_is_restored_for_its_user_alone() {
    let (folder, file, contents) = backup();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&file), 0o600);
    assert_eq!(verify(open_file(&file)).unwrap(), contents);
    let into = folder.path().join("new/state");
    let (restored, others) = restore(open_file(&file), "state/", &into).unwrap();
    assert_eq!((restored, others), (contents, BTreeMap::from([("system/lock".to_owned(), b"lock".to_vec())])));
    assert_eq!(fs::read(into.join("a")).unwrap(), b"first");
    assert_eq!(fs::read(into.join("deep/b")).unwrap(), [7; 70_000]);
    assert_eq!([mode(&into), mode(&into.join("deep")), mode(&into.join("a"))], [0o700, 0o700, 0o600]);
    assert!(matches!(restore(open_file(&file), "state/", &into), Err(BackupError::NotEmpty(_))));
    assert!(matches!(write(target(&file, None), &[], "", 0), Err(BackupError::Exists(_))));
    // Nothing is left beside them.
    nothing_is_hidden(folder.path());
}

#[test]
fn a_damaged_backup_restores_nothing() {
    let (folder, file, _) = backup();
    let bytes = fs::read(&file).unwrap();
    let into = folder.path().join("state");
    let mut refused = 0;
    // Padding is no part of what is kept.
    for at in (0..bytes.len()).step_by(61) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x20;
        if verify(damaged.as_slice()).is_ok() {
            continue;
        }
        refused += 1;
        assert!(restore(damaged.as_slice(), "state/", &into).is_err(), "{at}");
        assert!(!into.exists(), "{at}");
    }
    assert!(refused > 1_000, "{refused}");
    for length in [0, 100, 512, 5_000, bytes.len() - 2_048] {
        assert!(restore(&bytes[..length], "state/", &into).is_err(), "{length}");
    }
    nothing_is_hidden(folder.path());
}

/// An archive of these entries, as a stranger would make it.
fn archive_of(entries: &[(&str, tar::EntryType, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, kind, bytes) in entries {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        header.set_cksum();
        archive.append(&header, *bytes).unwrap();
    }
    archive.into_inner().unwrap()
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("inner/state");
    for name in ["../out", "/out", "state/../../out", "state//out", "state/./out"] {
        for (stated, kind) in [(name, tar::EntryType::Regular), ("state/a", tar::EntryType::Symlink)] {
            let blake3 = blake3::hash(b"x").to_hex().to_string();
            let files = vec![Stated { name: stated.to_owned(), bytes: 1, blake3 }];
            let contents = Contents { schema: 1, program: String::new(), begun_at: 0, files };
            let text = serde_json::to_vec(&contents).unwrap();
            let checksum = format!("{}\n", blake3::hash(&text));
            let regular = tar::EntryType::Regular;
            let archive = archive_of(&[
                (CONTENTS, regular, &text),
                (CHECKSUM, regular, checksum.as_bytes()),
                (stated, kind, b"x"),
            ]);
            assert!(matches!(restore(archive.as_slice(), "state/", &into), Err(BackupError::Malformed(_))), "{name}");
        }
    }
    assert!(!folder.path().join("out").exists() && !folder.path().join("inner/out").exists());
}

#[test]
fn a_newer_form_says_which_program_reads_it() {
    let text = br#"{"schema": 2, "program": "9.9.9", "more": true}"#;
    let checksum = format!("{}\n", blake3::hash(text));
    let regular = tar::EntryType::Regular;
    let archive = archive_of(&[(CONTENTS, regular, text), (CHECKSUM, regular, checksum.as_bytes())]);
    let error = verify(archive.as_slice()).unwrap_err().to_string();
    assert!(error.contains("9.9.9"), "{error}");
}

proptest! {
    #[test]
    fn any_bytes_are_refused_in_words(bytes in proptest::collection::vec(any::<u8>(), 0..2_048)) {
        prop_assert!(!verify(bytes.as_slice()).unwrap_err().to_string().is_empty());
    }
}

fn key(byte: u8) -> Key {
    Key::new(zeroize::Zeroizing::new([byte; 32]))
}

/// A backup of `bytes` under the key of ones.
fn encrypted(folder: &Path, bytes: &[u8]) -> Vec<u8> {
    let path = folder.join("bytes");
    fs::write(&path, bytes).unwrap();
    let file = folder.join(format!("{}.sealed", bytes.len()));
    write(target(&file, Some(&key(1))), &[("state/bytes".to_owned(), path)], "0.1.0", 1).unwrap();
    fs::read(file).unwrap()
}

#[test]
fn an_encrypted_backup_opens_with_its_key_alone() {
    let folder = tempfile::tempdir().unwrap();
    // Of less than a chunk, of several, and as long as chunks are.
    for length in [0, 100, 65_536 - 2_560, 200_000] {
        let sealed = encrypted(folder.path(), &vec![b'x'; length]);
        assert!(!sealed.windows(16).any(|part| part == [b'x'; 16] || part == b"backup.json\0\0\0\0\0"));
        let into = folder.path().join(format!("state-{length}"));
        let opened = open(sealed.as_slice(), &[key(2), key(1)]).unwrap();
        restore(opened, "state/", &into).unwrap();
        assert_eq!(fs::read(into.join("bytes")).unwrap(), vec![b'x'; length]);
        let wrong = open(sealed.as_slice(), &[key(2)]).map(drop).unwrap_err();
        assert!(matches!(&wrong, BackupError::OtherKey(id) if *id == key(1).id()), "{wrong}");
        assert!(matches!(open(sealed.as_slice(), &[]), Err(BackupError::Encrypted(_))));
        let other = folder.path().join("other");
        assert!(matches!(restore(sealed.as_slice(), "state/", &other), Err(BackupError::Malformed(_))));
        assert!(!other.exists());
    }
    let (_folder, plain, _) = backup();
    assert!(matches!(open(open_file(&plain), &[key(1)]), Err(BackupError::InTheClear)));
    verify(open(open_file(&plain), &[]).unwrap()).unwrap();
}

#[test]
fn an_encrypted_backup_that_was_changed_anywhere_or_cut_off_restores_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let sealed = encrypted(folder.path(), &[7; 150_000]);
    let into = folder.path().join("state");
    let refused = |bytes: &[u8], what: &str| {
        let outcome = open(bytes, &[key(1)]).and_then(|opened| restore(opened, "state/", &into));
        assert!(outcome.is_err(), "{what}");
        assert!(!into.exists(), "{what}");
    };
    for at in (0..sealed.len()).step_by(997).chain(0..60).chain(sealed.len() - 20..sealed.len()) {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        refused(&changed, &format!("byte {at}"));
    }
    let (head, chunk) = (52, (64 << 10) + 16);
    for end in [0, 20, head, head + 10, head + chunk, head + 2 * chunk, sealed.len() - 1] {
        refused(&sealed[..end], &format!("cut at {end}"));
    }
    let mut swapped = sealed.clone();
    swapped[head..head + 2 * chunk].rotate_left(chunk);
    refused(&swapped, "swapped");
    refused(&[&sealed[..], b"more"].concat(), "more behind it");
    let again = encrypted(folder.path(), &[7; 150_001]);
    refused(&[&sealed[..head + chunk], &again[head + chunk..]].concat(), "the end of another");
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_when_they_are_opened(bytes: Vec<u8>) {
        let sealed = [&b"witan-backup-encrypted 1\n"[..], &bytes].concat();
        let _refused = open(sealed.as_slice(), &[key(1)]).and_then(verify);
        let _refused = open(bytes.as_slice(), &[]).and_then(verify);
    }
}
