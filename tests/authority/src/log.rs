//! A transparency log: a Merkle tree (RFC 6962) and signed checkpoints.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use witan_registry_sign::{InclusionProof, Log, LogEntry, LogError, Proposal, SigningKey, TrustedLog, promise_payload};

/// A log that keeps its entries in memory.
pub struct LocalLog {
    key: SigningKey,
    host: String,
    state: Mutex<State>,
}

struct State {
    bodies: Vec<Vec<u8>>,
    /// Entries of trees that were closed.
    before: u64,
    time: SystemTime,
}

impl LocalLog {
    /// An empty log, at [`noon`](crate::noon).
    pub fn new(host: &str) -> Self {
        let state = State { bodies: Vec::new(), before: 0, time: crate::noon() };
        Self { key: SigningKey::generate().unwrap(), host: host.to_owned(), state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the log's clock.
    pub fn set_time(&self, time: SystemTime) {
        self.state().time = time;
    }

    /// Counts entries from `before` on, as a log does that begins a new tree.
    pub fn continue_from(&self, before: u64) {
        self.state().before = before;
    }

    /// Begins another history, under the same key.
    pub fn forget(&self) {
        self.state().bodies.clear();
    }

    /// The key with which it signs.
    pub fn key(&self) -> &SigningKey {
        &self.key
    }

    /// The log as a trusted root has it.
    pub fn trusted(&self) -> TrustedLog {
        let since = SystemTime::UNIX_EPOCH;
        TrustedLog { host: self.host.clone(), key: self.key.public().clone(), since }
    }

    /// Puts `body` into the log.
    pub fn append(&self, body: &[u8]) -> LogEntry {
        let mut state = self.state();
        let index = state.bodies.len() as u64;
        state.bodies.push(body.to_vec());
        let leaves: Vec<[u8; 32]> = state.bodies.iter().map(|body| leaf(body)).collect();
        let root = root(&leaves);
        let counted = state.before + index;
        let payload = promise_payload(&self.key.id(), counted, state.time, body);
        let proof = InclusionProof {
            index,
            size: index + 1,
            root,
            hashes: path(&leaves, leaves.len() - 1),
            checkpoint: self.checkpoint(index + 1, &root),
        };
        let promise = self.key.sign(&payload).unwrap();
        LogEntry { log: self.key.id(), index: counted, time: state.time, promise, proof, body: body.to_vec() }
    }

    /// A checkpoint of this log, whether it is true or not.
    pub fn checkpoint(&self, size: u64, root: &[u8; 32]) -> String {
        self.checkpoint_of(&format!("{} - 1", self.host), size, root)
    }

    /// A checkpoint with another origin, signed by this log.
    pub fn checkpoint_of(&self, origin: &str, size: u64, root: &[u8; 32]) -> String {
        let text = format!("{origin}\n{size}\n{}\n", STANDARD.encode(root));
        let signature = self.key.sign(text.as_bytes()).unwrap();
        let hinted = [&self.key.public().checkpoint_hint()[..], &signature].concat();
        format!("{text}\n\u{2014} {} {}\n", self.host, STANDARD.encode(hinted))
    }
}

impl Log for LocalLog {
    async fn witness(&self, proposal: &Proposal) -> Result<LogEntry, LogError> {
        Ok(self.append(proposal.body()))
    }
}

fn leaf(body: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update([0]).chain_update(body).finalize().into()
}

fn node(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// Where a tree of `count` leaves is divided: the largest power of two below.
fn split(count: usize) -> usize {
    count.next_power_of_two() / 2
}

/// The root of the tree over `leaves`.
fn root(leaves: &[[u8; 32]]) -> [u8; 32] {
    match leaves {
        [] => Sha256::digest([]).into(),
        [only] => *only,
        more => {
            let (left, right) = more.split_at(split(more.len()));
            node(&root(left), &root(right))
        }
    }
}

/// The hashes from the leaf at `index` up to the root.
fn path(leaves: &[[u8; 32]], index: usize) -> Vec<[u8; 32]> {
    if leaves.len() < 2 {
        return Vec::new();
    }
    let (left, right) = leaves.split_at(split(leaves.len()));
    let (mut hashes, sibling) = match index.checked_sub(left.len()) {
        None => (path(left, index), root(right)),
        Some(index) => (path(right, index), root(left)),
    };
    hashes.push(sibling);
    hashes
}
