//! Those outside are shown checkpoints, and what they say is heard.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::Duration,
};

use parking_lot::Mutex;
use witan_ledger::{Answer, Hash, Ledger, Settings, Transport, WitnessSettings, verify};
use witan_merkle_log::{Checkpoint, PublicKey, SigningKey, Witness, verify_consistency};

use crate::support::{copy, entry, filled, settings};

/// A witness as C2SP describes it: it signs what follows from what it saw before, and nothing else.
struct Outside {
    key: SigningKey,
    log: PublicKey,
    origin: String,
    seen: Mutex<Option<Checkpoint>>,
}

const NAME: &str = "witness.example";

impl Outside {
    fn of(ledger: &Ledger) -> Arc<Self> {
        let keys = ledger.reader().host_keys().unwrap();
        let key = SigningKey::generate_ed25519().unwrap();
        let (log, origin) = (keys.current().clone(), keys.origin().to_owned());
        Arc::new(Self { key, log, origin, seen: Mutex::default() })
    }

    fn witness(&self) -> Witness {
        self.key.public().unwrap().witness(NAME).unwrap()
    }

    fn answer(&self, body: &str) -> Option<Answer> {
        let (head, note) = body.split_once("\n\n")?;
        let mut lines = head.lines();
        let old: u64 = lines.next()?.strip_prefix("old ")?.parse().ok()?;
        let proof: Option<Vec<Hash>> = lines
            .map(|line| {
                use base64::{Engine as _, prelude::BASE64_STANDARD};
                BASE64_STANDARD.decode(line).ok()?.try_into().ok().map(Hash)
            })
            .collect();
        let checkpoint = Checkpoint::parse(note, &self.origin, &self.log).ok()?;
        let mut seen = self.seen.lock();
        let (size, root) = seen.as_ref().map_or((0, None), |seen| (seen.size(), Some(seen.root())));
        if size != old {
            return Some(Answer { status: 409, body: format!("{size}\n") });
        }
        if let Some(root) = root
            && verify_consistency(old, checkpoint.size(), &proof?, &root, &checkpoint.root()).is_err()
        {
            return Some(Answer { status: 422, body: "it does not follow".to_owned() });
        }
        let signed = self.key.cosign(NAME, 1_700_000_000, &checkpoint).ok()?;
        let line = signed.note().lines().last()?.to_owned();
        *seen = Some(checkpoint);
        Some(Answer { status: 200, body: line + "\n" })
    }
}

struct Post(Arc<Outside>);

impl Transport for Post {
    fn post(&self, body: String) -> Result<Answer, String> {
        self.0.answer(&body).ok_or_else(|| "the witness does not understand".to_owned())
    }
}

fn witnessed(outside: &Arc<Outside>) -> Settings {
    let witness = WitnessSettings { witness: outside.witness(), transport: Arc::new(Post(outside.clone())) };
    Settings { witnesses: vec![witness], ..settings() }
}

#[test]
fn a_witness_cosigns_what_follows_and_its_note_detects_what_does_not() {
    let (folder, old) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    filled(folder.path(), 10);
    let outside = Outside::of(&Ledger::open(folder.path(), settings()).unwrap());
    for _ in 0..2 {
        let ledger = Ledger::open(folder.path(), witnessed(&outside)).unwrap();
        ledger.append_blocking(entry("alice", 1)).unwrap();
        ledger.checkpoint().unwrap();
        assert_eq!(ledger.health().warning, None);
        ledger.close();
        if !old.path().join("keys").exists() {
            copy(folder.path(), old.path());
        }
    }
    let seen = outside.seen.lock().clone().unwrap();
    assert_eq!(seen.size(), 12);
    assert!(verify(folder.path(), None, &[seen.note().to_owned()]).unwrap().holds);
    assert!(!verify(old.path(), None, &[seen.note().to_owned()]).unwrap().holds);

    // A host that was put back to an older state is told, and says so.
    let ledger = Ledger::open(old.path(), witnessed(&outside)).unwrap();
    ledger.checkpoint().unwrap();
    let warning = ledger.health().warning.unwrap();
    assert!(warning.contains("its end was removed"), "{warning}");
    for number in 0..5 {
        ledger.append_blocking(entry("mallory", number)).unwrap();
    }
    ledger.close();
    let warning = ledger.health().warning.unwrap();
    assert!(warning.contains("does not follow"), "{warning}");
}

#[test]
fn a_witness_that_is_not_there_is_a_warning_and_no_failure() {
    struct Nobody;
    impl Transport for Nobody {
        fn post(&self, _: String) -> Result<Answer, String> {
            Err("there is no answer".to_owned())
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let key = SigningKey::generate_ed25519().unwrap().public().unwrap().witness(NAME).unwrap();
    let witness = WitnessSettings { witness: key, transport: Arc::new(Nobody) };
    let ledger = Ledger::open(folder.path(), Settings { witnesses: vec![witness], ..settings() }).unwrap();
    ledger.append_blocking(entry("alice", 1)).unwrap();
    ledger.checkpoint().unwrap();
    let health = ledger.health();
    assert!(health.failing.is_none() && health.warning.unwrap().contains("there is no answer"));
}

/// A witness that may be away, and what it took.
struct Away {
    outside: Arc<Outside>,
    is_away: AtomicBool,
    /// The sizes that it was offered, and whether it took them.
    offered: mpsc::Sender<(u64, bool)>,
}

impl Transport for Away {
    fn post(&self, body: String) -> Result<Answer, String> {
        let answer = if self.is_away.load(Ordering::Relaxed) { None } else { self.outside.answer(&body) };
        let note = body.split_once("\n\n").map(|(_, note)| note).unwrap();
        let size = note.lines().nth(1).unwrap().parse().unwrap();
        let took = answer.as_ref().is_some_and(|answer| answer.status == 200);
        self.offered.send((size, took)).unwrap();
        answer.ok_or_else(|| "there is no answer".to_owned())
    }
}

/// The settings of a ledger with such a witness, and what it is offered.
fn away(outside: &Arc<Outside>, interval: Duration) -> (Settings, Arc<Away>, mpsc::Receiver<(u64, bool)>) {
    let (offered, offers) = mpsc::channel();
    let away = Arc::new(Away { outside: outside.clone(), is_away: AtomicBool::new(false), offered });
    let witness = WitnessSettings { witness: outside.witness(), transport: away.clone() };
    let quick = Duration::from_millis(1);
    let settings = Settings { witnesses: vec![witness], witness_interval: interval, checkpoint: quick, ..settings() };
    (settings, away, offers)
}

const LONG: Duration = Duration::from_secs(60);

#[test]
fn those_outside_get_the_end_of_what_was_written_though_nobody_writes_any_more() {
    let (folder, sink) = (tempfile::tempdir().unwrap(), tempfile::NamedTempFile::new().unwrap());
    filled(folder.path(), 1);
    let outside = Outside::of(&Ledger::open(folder.path(), settings()).unwrap());
    let (settings, _witness, offers) = away(&outside, Duration::from_secs(1));
    let settings = Settings { sink: Some(sink.path().to_owned()), ..settings };
    let ledger = Ledger::open(folder.path(), settings).unwrap();
    assert_eq!(offers.recv_timeout(LONG).unwrap(), (1, true));
    // It is too early to offer it, and nothing that is written later will be the reason to.
    ledger.append_blocking(entry("alice", 1)).unwrap();
    assert_eq!(offers.recv_timeout(LONG).unwrap(), (2, true));
    ledger.close();
    let sizes: Vec<u64> = std::fs::read_to_string(sink.path())
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["size"].as_u64().unwrap())
        .collect();
    assert_eq!(sizes, [1, 2]);
    assert!(offers.try_recv().is_err(), "what was taken is not offered again");
}

#[test]
fn a_witness_that_was_away_is_asked_again_though_nobody_writes() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path(), 1);
    let outside = Outside::of(&Ledger::open(folder.path(), settings()).unwrap());
    let (settings, witness, offers) = away(&outside, Duration::from_secs(1));
    witness.is_away.store(true, Ordering::Relaxed);
    let ledger = Ledger::open(folder.path(), settings).unwrap();
    assert_eq!(offers.recv_timeout(LONG).unwrap(), (1, false));
    witness.is_away.store(false, Ordering::Relaxed);
    assert_eq!(offers.recv_timeout(LONG).unwrap(), (1, true));
    ledger.close();
    assert_eq!(ledger.health().warning, None);
}

#[test]
fn a_witness_that_was_away_is_asked_once_more_when_the_ledger_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path(), 1);
    let outside = Outside::of(&Ledger::open(folder.path(), settings()).unwrap());
    let (settings, witness, offers) = away(&outside, Duration::from_secs(3600));
    witness.is_away.store(true, Ordering::Relaxed);
    let ledger = Ledger::open(folder.path(), settings).unwrap();
    assert_eq!(offers.recv_timeout(LONG).unwrap(), (1, false));
    witness.is_away.store(false, Ordering::Relaxed);
    ledger.close();
    assert_eq!(offers.try_recv().unwrap(), (1, true));
}
