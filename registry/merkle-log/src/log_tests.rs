//! What a log keeps through a crash at any moment, and what it gives back.

use std::collections::BTreeMap;

use fastrand::Rng;
use parking_lot::Mutex as Lock;

use super::*;
use crate::{AuditError, audit, verify_consistency, verify_inclusion, witness};

const ORIGIN: &str = "log.example - 7";

/// A disk that stops after some steps, and then loses what was not made durable.
#[derive(Clone)]
struct Faulty(Arc<Lock<State>>);

#[derive(Clone, Default)]
struct State {
    contents: Vec<Content>,
    now: Names,
    durable: Names,
    steps: usize,
}

type Names = BTreeMap<PathBuf, Node>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Node {
    Folder,
    File(usize),
}

#[derive(Clone)]
struct Content {
    bytes: Vec<u8>,
    durable: bool,
}

impl Faulty {
    fn new(steps: usize) -> Self {
        Self(Arc::new(Lock::new(State { steps, ..State::default() })))
    }

    /// What the next start finds: of what was not durable, each part may be there, or not, or not all of it.
    fn crash(&self, random: &mut Rng) -> Self {
        let old = self.0.lock().clone();
        let names: BTreeSet<&PathBuf> = old.now.keys().chain(old.durable.keys()).collect();
        let mut state = State { contents: old.contents.clone(), steps: usize::MAX, ..State::default() };
        for path in names {
            let known = if random.bool() { &old.now } else { &old.durable };
            let parent = path.parent().unwrap_or(Path::new(""));
            let reachable = parent.as_os_str().is_empty() || state.now.contains_key(parent);
            if let Some(node) = known.get(path).filter(|_| reachable) {
                state.now.insert(path.clone(), *node);
            }
        }
        for content in state.contents.iter_mut().filter(|content| !content.durable) {
            content.bytes.truncate(random.usize(0..=content.bytes.len()));
            if random.bool() {
                content.bytes.fill(0);
            }
        }
        state.durable = state.now.clone();
        Self(Arc::new(Lock::new(state)))
    }

    fn step(&self) -> io::Result<parking_lot::MutexGuard<'_, State>> {
        let mut state = self.0.lock();
        state.steps = state.steps.checked_sub(1).ok_or_else(|| io::Error::other("the power is out"))?;
        Ok(state)
    }
}

impl Disk for Faulty {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let state = self.0.lock();
        match state.now.get(path) {
            Some(Node::File(content)) => Ok(state.contents[*content].bytes.clone()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let state = self.0.lock();
        let within = state.now.keys().filter(|path| path.parent() == Some(folder));
        Ok(within.map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect())
    }

    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        self.step()?.now.insert(folder.to_owned(), Node::Folder);
        Ok(())
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let number = {
            let mut state = self.step()?;
            assert!(state.now.get(path.parent().unwrap()) == Some(&Node::Folder), "{}", path.display());
            state.contents.push(Content { bytes: bytes.to_vec(), durable: false });
            let number = state.contents.len() - 1;
            state.now.insert(path.to_owned(), Node::File(number));
            number
        };
        self.step()?.contents[number].durable = true;
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.step()?;
        let node = state.now.remove(from).ok_or(io::ErrorKind::NotFound)?;
        let parent = to.parent().unwrap();
        assert!(parent.as_os_str().is_empty() || state.now.contains_key(parent), "{}", to.display());
        state.now.insert(to.to_owned(), node);
        Ok(())
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        let mut state = self.step()?;
        let State { now, durable, .. } = &mut *state;
        durable.retain(|path, _| path.parent() != Some(folder) || now.contains_key(path));
        durable.extend(
            now.iter().filter(|(path, _)| path.parent() == Some(folder)).map(|(path, node)| (path.clone(), *node)),
        );
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step()?.now.remove(path);
        Ok(())
    }
}

fn settings(pkcs8: &[u8], witnesses: Vec<Witness>) -> Settings {
    let key = SigningKey::from_pkcs8(pkcs8).unwrap();
    Settings { origin: ORIGIN.to_owned(), signer: "log.example".to_owned(), key, previous: Vec::new(), witnesses }
}

fn new_key() -> Vec<u8> {
    SigningKey::generate_ed25519().unwrap().to_pkcs8().unwrap()
}

fn entry(number: u64) -> Vec<u8> {
    format!("entry {number}").into_bytes()
}

/// All entries, by way of the tiles, which must have the root of the checkpoint.
fn read_all(appender: &Appender<Faulty>) -> Vec<Vec<u8>> {
    let view = View { disk: appender.disk.clone(), head: Arc::new(appender.head.clone()) };
    let size = view.size();
    assert_eq!(tree::subtree(&view, 0, size).unwrap(), view.head.checkpoint.root());
    let mut all = Vec::new();
    for bundle in 0..size.div_ceil(WIDTH) {
        let bytes = view.bundle(bundle).unwrap();
        let entries = tile::entries(&bytes).unwrap();
        let hashes = view.tile(0, bundle).unwrap();
        assert_eq!(entries.iter().map(|entry| Hash::leaf(entry)).collect::<Vec<_>>(), hashes);
        all.extend(entries.into_iter().map(<[u8]>::to_vec));
    }
    all
}

/// Appends batches until the disk stops; how many entries were acknowledged and tried.
fn append_until_crash(disk: &Faulty, key: &[u8], batches: &[u64]) -> (u64, u64) {
    let Ok(mut appender) = Appender::open(disk.clone(), Path::new("/log"), settings(key, Vec::new())) else {
        return (0, 0);
    };
    let (mut acknowledged, mut tried) = (0, 0);
    for batch in batches {
        let entries: Vec<Vec<u8>> = (acknowledged..acknowledged + batch).map(entry).collect();
        tried = acknowledged + batch;
        match appender.commit(&entries.iter().map(Vec::as_slice).collect::<Vec<_>>()) {
            Ok(()) => acknowledged = tried,
            Err(_) => break,
        }
    }
    (acknowledged, tried)
}

/// What is acknowledged is there after a crash at every single step, and what is there is whole.
#[test]
fn no_crash_loses_or_tears_anything() {
    let key = new_key();
    // Over the ends of tiles, one entry and many at a time.
    let batches = [1, 2, 250, 1, 1, 1, 1, 260, 3];
    let enough = Faulty::new(usize::MAX);
    assert_eq!(append_until_crash(&enough, &key, &batches).0, batches.iter().sum::<u64>());
    let steps = usize::MAX - enough.0.lock().steps;
    let mut random = Rng::with_seed(7);
    for step in 0..=steps {
        for _ in 0..4 {
            let disk = Faulty::new(step);
            let (acknowledged, tried) = append_until_crash(&disk, &key, &batches);
            let found = disk.crash(&mut random);
            let opened = Appender::open(found.clone(), Path::new("/log"), settings(&key, Vec::new()));
            let mut appender = opened.unwrap_or_else(|error| panic!("step {step}: {error}"));
            let entries = read_all(&appender);
            let size = entries.len() as u64;
            assert!(size == acknowledged || size == tried, "step {step}: {size}, not {acknowledged} or {tried}");
            assert_eq!(entries, (0..size).map(entry).collect::<Vec<_>>());
            appender.commit(&[b"after the crash"]).unwrap();
            let again = Appender::open(found, Path::new("/log"), settings(&key, Vec::new())).unwrap();
            assert_eq!(read_all(&again).last().unwrap(), b"after the crash");
        }
    }
}

/// A full disk is no crash: the log goes on where it was.
#[test]
fn a_commit_that_fails_leaves_the_log_as_it_was() {
    let disk = Faulty::new(usize::MAX);
    let key = new_key();
    let mut appender = Appender::open(disk.clone(), Path::new("/log"), settings(&key, Vec::new())).unwrap();
    appender.commit(&[b"one"]).unwrap();
    for steps in 0..4 {
        disk.0.lock().steps = steps;
        assert!(matches!(appender.commit(&[b"two"]), Err(LogError::Disk(_))));
    }
    disk.0.lock().steps = usize::MAX;
    appender.commit(&[b"three"]).unwrap();
    assert_eq!(read_all(&appender), [b"one".to_vec(), b"three".to_vec()]);
}

async fn filled(folder: &Path, key: &[u8], count: u64) -> Log {
    let log = Log::open(folder, settings(key, Vec::new())).unwrap();
    let appended: Vec<_> = (0..count).map(|number| log.append(entry(number))).collect();
    for (appended, number) in appended.into_iter().zip(0..) {
        assert_eq!(appended.await.unwrap().index, number);
    }
    log
}

#[tokio::test]
async fn what_is_appended_is_proven() {
    let folder = tempfile::tempdir().unwrap();
    let log = filled(folder.path(), &new_key(), 3).await;
    let early = log.checkpoint();
    let more: Vec<_> = (3..600)
        .map(|number| {
            let log = log.clone();
            tokio::spawn(async move { log.append(entry(number)).await.unwrap() })
        })
        .collect();
    for appended in more {
        let appended = appended.await.unwrap();
        let (size, root) = (appended.checkpoint.size(), appended.checkpoint.root());
        let leaf = Hash::leaf(&log.entry(appended.index).unwrap());
        let proof = log.inclusion(appended.index, size).unwrap();
        verify_inclusion(&leaf, appended.index, size, &proof, &root).unwrap();
        let proof = log.consistency(early.size(), size).unwrap();
        verify_consistency(early.size(), size, &proof, &early.root(), &root).unwrap();
        assert_eq!(log.root(size).unwrap(), root);
    }
    let last = log.checkpoint();
    assert_eq!((last.size(), log.entries(255, 9).unwrap().len()), (600, 1));
    assert!(matches!(log.entry(600), Err(LogError::Beyond(600))));
    assert!(matches!(log.inclusion(5, 601), Err(LogError::Beyond(600))));
    assert!(matches!(log.inclusion(5, 5), Err(LogError::Beyond(5))));
    assert!(matches!(log.append(vec![0; 1 << 16]).await, Err(LogError::TooLong(_))));
}

#[tokio::test]
async fn tiles_are_served_as_far_as_the_log_has_grown() {
    let folder = tempfile::tempdir().unwrap();
    let log = filled(folder.path(), &new_key(), 259).await;
    let tile = |path: &str| log.tile(Tile::parse(path).unwrap()).unwrap();
    let full = tile("tile/0/000").unwrap();
    assert_eq!(full.len(), 256 * Hash::SIZE);
    assert_eq!(tile("tile/0/000.p/3").unwrap(), full[..3 * Hash::SIZE]);
    assert_eq!(tile("tile/0/001.p/3").unwrap().len(), 3 * Hash::SIZE);
    assert_eq!(tile("tile/1/000.p/1").unwrap().len(), Hash::SIZE);
    let bundle = tile("tile/entries/001.p/2").unwrap();
    assert_eq!(tile::entries(&bundle).unwrap(), [entry(256), entry(257)]);
    for beyond in ["tile/0/001", "tile/0/001.p/4", "tile/1/000", "tile/1/000.p/2", "tile/2/000.p/1", "tile/entries/002"]
    {
        assert_eq!(tile(beyond), None, "{beyond}");
    }
    // What is on disk is what is served.
    assert_eq!(std::fs::read(folder.path().join("tile/0/000")).unwrap(), full);
    assert_eq!(std::fs::read_to_string(folder.path().join("checkpoint")).unwrap(), log.checkpoint().note());
}

#[tokio::test]
async fn one_process_appends() {
    let folder = tempfile::tempdir().unwrap();
    let key = new_key();
    let log = filled(folder.path(), &key, 1).await;
    assert!(matches!(Log::open(folder.path(), settings(&key, Vec::new())), Err(OpenError::InUse(_))));
    drop(log);
}

/// Copies a log, as whoever changes it has to.
fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test]
async fn changes_are_detected() {
    let folder = tempfile::tempdir().unwrap();
    let key = new_key();
    let log = filled(folder.path(), &key, 300).await;
    let (public, kept) = (log.key().clone(), log.checkpoint());
    let check = |folder: &Path, kept: &[&str]| audit(folder, ORIGIN, std::slice::from_ref(&public), kept);
    assert_eq!(check(folder.path(), &[kept.note()]).unwrap().kept, 1);

    type Change = fn(&Path);
    type Expected = fn(&AuditError) -> bool;
    let changes: [(Change, Expected); 6] = [
        // An entry is changed.
        (
            |log| {
                let path = log.join("tile/entries/000");
                let mut bytes = std::fs::read(&path).unwrap();
                bytes[5] ^= 1;
                std::fs::write(path, bytes).unwrap();
            },
            |error| matches!(error, AuditError::Changed(0)),
        ),
        // Entries change places: two of one length.
        (
            |log| {
                let path = log.join("tile/entries/000");
                let bytes = std::fs::read(&path).unwrap();
                let mut entries = tile::entries(&bytes).unwrap();
                entries.swap(10, 11);
                let mut swapped = Vec::new();
                entries.iter().for_each(|entry| tile::add_entry(&mut swapped, entry).unwrap());
                std::fs::write(path, swapped).unwrap();
            },
            |error| matches!(error, AuditError::Changed(10)),
        ),
        // The end is removed, and the tiles are cut to fit.
        (
            |log| std::fs::remove_dir_all(log.join("tile/entries/001.p")).unwrap(),
            |error| matches!(error, AuditError::Missing(_)),
        ),
        // A changed entry with a changed hash.
        (
            |log| {
                let (entries, hashes) = (log.join("tile/entries/000"), log.join("tile/0/000"));
                let mut bytes = std::fs::read(&entries).unwrap();
                bytes[5] ^= 1;
                let leaf = Hash::leaf(tile::entries(&bytes).unwrap()[0]);
                std::fs::write(entries, &bytes).unwrap();
                let mut bytes = std::fs::read(&hashes).unwrap();
                bytes[..Hash::SIZE].copy_from_slice(&leaf.0);
                std::fs::write(hashes, bytes).unwrap();
            },
            |error| matches!(error, AuditError::Root),
        ),
        // A checkpoint that says what it did not.
        (
            |log| {
                let path = log.join("checkpoint");
                let note = std::fs::read_to_string(&path).unwrap().replacen("\n300\n", "\n299\n", 1);
                std::fs::write(path, note).unwrap();
            },
            |error| matches!(error, AuditError::Checkpoint(NoteError::Signature)),
        ),
        // A tile is cut.
        (
            |log| {
                let path = log.join("tile/0/000");
                let bytes = std::fs::read(&path).unwrap();
                std::fs::write(path, &bytes[..bytes.len() - 1]).unwrap();
            },
            |error| matches!(error, AuditError::Missing(_)),
        ),
    ];
    for (number, (change, expected)) in changes.into_iter().enumerate() {
        let changed = tempfile::tempdir().unwrap();
        copy(folder.path(), changed.path());
        assert!(check(changed.path(), &[kept.note()]).is_ok());
        change(changed.path());
        let error = check(changed.path(), &[]).unwrap_err();
        assert!(expected(&error), "change {number}: {error:?}");
    }
}

/// Whoever has the key can write a log that holds in itself; whoever kept a checkpoint sees it.
#[tokio::test]
async fn a_log_written_anew_is_detected_by_what_was_kept() {
    let (folder, key) = (tempfile::tempdir().unwrap(), new_key());
    let log = filled(folder.path(), &key, 300).await;
    let (public, kept) = (log.key().clone(), log.checkpoint());
    drop(log);
    for (count, shorter) in [(299, true), (300, false), (301, false)] {
        let anew = tempfile::tempdir().unwrap();
        let log = Log::open(anew.path(), settings(&key, Vec::new())).unwrap();
        for number in 0..count {
            // Entry 200 is another.
            log.append(entry(if number == 200 { 999 } else { number })).await.unwrap();
        }
        assert!(audit(anew.path(), ORIGIN, std::slice::from_ref(&public), &[]).is_ok());
        let error = audit(anew.path(), ORIGIN, std::slice::from_ref(&public), &[kept.note()]).unwrap_err();
        let expected = if shorter {
            matches!(error, AuditError::Shorter { found: 299, kept: 300 })
        } else {
            matches!(error, AuditError::Rewritten(300))
        };
        assert!(expected, "{count}: {error:?}");
        if count > 300 {
            let head = log.checkpoint();
            let proof = log.consistency(kept.size(), head.size()).unwrap();
            assert!(verify_consistency(kept.size(), head.size(), &proof, &kept.root(), &head.root()).is_err());
        }
    }
}

#[tokio::test]
async fn a_damaged_log_is_not_opened() {
    let (folder, key) = (tempfile::tempdir().unwrap(), new_key());
    drop(filled(folder.path(), &key, 5).await);
    let open = |folder: &Path| Log::open(folder, settings(&key, Vec::new()));
    let damage = |change: &dyn Fn(&Path)| {
        let damaged = tempfile::tempdir().unwrap();
        copy(folder.path(), damaged.path());
        drop(open(damaged.path()).unwrap());
        change(damaged.path());
        open(damaged.path()).unwrap_err()
    };
    let error = damage(&|log| std::fs::write(log.join("tile/0/000.p/5"), [0; 160]).unwrap());
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    let error = damage(&|log| std::fs::remove_file(log.join("tile/entries/000.p/5")).unwrap());
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    let error = damage(&|log| std::fs::remove_file(log.join("checkpoint")).unwrap());
    assert!(matches!(error, OpenError::NoCheckpoint(_)), "{error}");
    let error = damage(&|log| std::fs::write(log.join("checkpoint"), "x").unwrap());
    assert!(matches!(error, OpenError::Checkpoint { .. }), "{error}");
}

#[tokio::test]
async fn known_witnesses_cosign() {
    let folder = tempfile::tempdir().unwrap();
    let (known, second, unknown) = (
        witness::tests::Signer::new("a.example"),
        witness::tests::Signer::new("b.example"),
        witness::tests::Signer::new("c.example"),
    );
    let witnesses = vec![known.0.clone(), second.0.clone()];
    let log = Log::open(folder.path(), settings(&new_key(), witnesses)).unwrap();
    log.append(b"one".to_vec()).await.unwrap();
    let first = log.checkpoint();
    assert_eq!(log.cosigned().unwrap(), None);
    assert!(matches!(log.cosign(first.note()), Err(CosignError::Nobody)));
    let by = |signers: &[&witness::tests::Signer], checkpoint: &Checkpoint| {
        let signatures: Vec<_> = signers.iter().map(|signer| signer.sign(checkpoint, 1_700_000_000)).collect();
        checkpoint.with(&signatures)
    };
    assert!(matches!(log.cosign(by(&[&unknown], &first).note()), Err(CosignError::Nobody)));
    assert_eq!(log.cosign(by(&[&known, &unknown], &first).note()).unwrap(), 1);
    assert_eq!(log.cosign(by(&[&second], &first).note()).unwrap(), 1);
    let cosigned = log.cosigned().unwrap().unwrap();
    assert!(known.0.on(&cosigned).is_some() && second.0.on(&cosigned).is_some());
    assert!(unknown.0.on(&cosigned).is_none());

    log.append(b"two".to_vec()).await.unwrap();
    let next = log.checkpoint();
    assert_eq!(log.cosign(by(&[&known], &next).note()).unwrap(), 1);
    assert_eq!(log.cosigned().unwrap().unwrap().size(), 2);
    assert!(matches!(log.cosign(by(&[&known], &first).note()), Err(CosignError::Older { size: 2, .. })));
    let key = SigningKey::generate_ed25519().unwrap();
    let forged = key.checkpoint(ORIGIN, "log.example", 2, Hash::leaf(b"other")).unwrap();
    assert!(matches!(log.cosign(by(&[&known], &forged).note()), Err(CosignError::Foreign(2))));
    let beyond = key.checkpoint(ORIGIN, "log.example", 3, Hash::leaf(b"other")).unwrap();
    assert!(matches!(log.cosign(by(&[&known], &beyond).note()), Err(CosignError::Foreign(3))));
}

#[test]
fn whoever_does_not_append_reads_what_a_checkpoint_has() {
    let (folder, key) = (tempfile::tempdir().unwrap(), new_key());
    let log = Log::open(folder.path(), settings(&key, Vec::new())).unwrap();
    let entries: Vec<Vec<u8>> = (0..300_u32).map(|number| number.to_be_bytes().to_vec()).collect();
    assert_eq!(log.append_all(entries[..3].to_vec()).unwrap().index, 0);
    let told = log.append_all(entries[3..].to_vec()).unwrap();
    assert_eq!((told.index, told.checkpoint.size()), (3, 300));
    assert!(matches!(log.append_all(vec![vec![0; 1 << 16]]), Err(LogError::TooLong(65536))));

    let public = vec![SigningKey::generate_ed25519().unwrap().public().unwrap(), log.key().clone()];
    let read = Snapshot::read(folder.path(), ORIGIN, &public).unwrap();
    log.append_all(vec![b"later".to_vec()]).unwrap();
    assert_eq!((read.checkpoint().size(), read.checkpoint().root()), (300, log.root(300).unwrap()));
    assert_eq!(read.inclusion(7, 300).unwrap(), log.inclusion(7, 300).unwrap());
    assert_eq!(read.consistency(3, 300).unwrap(), log.consistency(3, 300).unwrap());
    assert_eq!(read.root(299).unwrap(), log.root(299).unwrap());
    assert_eq!(read.entries(299, 9).unwrap(), entries[299..]);
    assert!(matches!(read.inclusion(300, 301), Err(LogError::Beyond(300))));
    assert!(matches!(Snapshot::read(folder.path(), ORIGIN, &public[..1]), Err(OpenError::Checkpoint { .. })));
}

#[test]
fn a_log_goes_on_under_a_new_key() {
    let (folder, old, new) = (tempfile::tempdir().unwrap(), new_key(), new_key());
    Log::open(folder.path(), settings(&old, Vec::new())).unwrap().append_all(vec![b"one".to_vec()]).unwrap();
    let unknown = Log::open(folder.path(), settings(&new, Vec::new())).unwrap_err();
    assert!(matches!(unknown, OpenError::Checkpoint { .. }), "{unknown}");
    let previous = vec![SigningKey::from_pkcs8(&old).unwrap().public().unwrap()];
    let log = Log::open(folder.path(), Settings { previous, ..settings(&new, Vec::new()) }).unwrap();
    assert_eq!(log.checkpoint().size(), 1);
    assert!(Checkpoint::parse(log.checkpoint().note(), ORIGIN, log.key()).is_ok());
    drop(log);
    assert!(Log::open(folder.path(), settings(&new, Vec::new())).is_ok());
    assert!(Log::open(folder.path(), settings(&old, Vec::new())).is_err());
}
