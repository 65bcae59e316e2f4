//! A registry's transparency log: having a signature witnessed, and seeing that the log still tells the same history.
//!
//! A log proves something only to whoever keeps what it said before. A state that is smaller than one that was seen, or
//! that does not continue it, is refused here: the log forgot what it promised, or tells different people different things.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Deserialize;
use witan_merkle_log::{Hash, NoteError, verify_consistency};
use witan_registry_sign::{
    Checkpoint, InclusionProof, KeyError, KeyId, Log, LogEntry, LogError, Proposal, PublicKey, TrustedLog, trusted_root,
};
use witan_registry_types::{Digest, json};

use crate::client::Client;
use crate::http::{Ask, Read, RequestError};

/// A note has a few lines and some co-signatures; a proof has 64 hashes.
const LARGEST: u64 = 64 << 10;
/// An entry with its proof.
const LARGEST_ENTRY: u64 = 1 << 20;
/// A trusted root with some logs.
const LARGEST_ROOT: usize = 1 << 20;

/// The log of a registry.
pub struct RegistryLog<'a> {
    client: &'a Client,
}

/// A log that is trusted to be what it was: its name and its key, as an operator pinned them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPin {
    /// The host that the log is named after, with `:port` where it has one.
    pub host: String,
    /// Its key.
    pub key: PublicKey,
}

/// Why a `trusted_root.json` names no logs that can be compared with what they were.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The registry could not be asked.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The log's key is none.
    #[error("the log's key cannot be used")]
    Key(#[from] KeyError),
    /// The log's own checkpoint is none, or not signed with its key.
    #[error("the log's checkpoint does not hold")]
    Checkpoint(#[from] ConsistencyError),
    /// The file is of another form.
    #[error("the trusted root cannot be read: {0}")]
    Form(String),
}

/// Why a log's state is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConsistencyError {
    /// The log could not be asked.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// What it showed is no checkpoint of the pinned log.
    #[error("what the log shows is no checkpoint of it")]
    Note(#[from] NoteError),
    /// The pinned key is of no kind that logs have.
    #[error("the log's key cannot be used")]
    Key,
    /// The two states are of different logs.
    #[error("one checkpoint is of the log `{kept}`, and the other of `{found}`")]
    OtherLog {
        /// Of which the kept one is.
        kept: String,
        /// Of which the other is.
        found: String,
    },
    /// The log has fewer entries than it had.
    #[error("the log `{origin}` has {found} entries, and had {kept}: what it promised to keep is gone")]
    Shrunk {
        /// Which log.
        origin: String,
        /// How many it had.
        kept: u64,
        /// How many it has.
        found: u64,
    },
    /// The log has shown another history than the one that was kept.
    #[error(
        "the log `{origin}` shows another history of its first {size} entries than it did: it tells different people different things"
    )]
    Split {
        /// Which log.
        origin: String,
        /// How many entries the kept state has.
        size: u64,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireEntry {
    body: String,
    integrated_time: u64,
    #[serde(rename = "logID")]
    log_id: String,
    log_index: u64,
    verification: WireVerification,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireVerification {
    inclusion_proof: WireInclusion,
    signed_entry_timestamp: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireInclusion {
    checkpoint: String,
    hashes: Vec<String>,
    log_index: u64,
    root_hash: String,
    tree_size: u64,
}

#[derive(Deserialize)]
struct WireConsistency {
    hashes: Vec<String>,
}

fn bytes32(hex: &str) -> Option<[u8; 32]> {
    format!("sha256:{hex}").parse::<Digest>().ok().map(|digest| *digest.as_bytes())
}

fn entry(answer: &Read) -> Result<LogEntry, RequestError> {
    let entries: BTreeMap<String, WireEntry> = answer.json()?;
    let wire = entries.into_values().next().ok_or_else(|| answer.other("it has no entry"))?;
    let read = |wire: WireEntry| -> Option<LogEntry> {
        let proof = wire.verification.inclusion_proof;
        Some(LogEntry {
            log: wire.log_id.parse::<KeyId>().ok()?,
            index: wire.log_index,
            time: SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(wire.integrated_time))?,
            promise: BASE64.decode(wire.verification.signed_entry_timestamp).ok()?,
            proof: InclusionProof {
                index: proof.log_index,
                size: proof.tree_size,
                root: bytes32(&proof.root_hash)?,
                hashes: proof.hashes.iter().map(|hash| bytes32(hash)).collect::<Option<_>>()?,
                checkpoint: proof.checkpoint,
            },
            body: BASE64.decode(wire.body).ok()?,
        })
    };
    read(wire).ok_or_else(|| answer.other("the entry is not one of a log"))
}

impl LogPin {
    /// The logs that a `trusted_root.json` trusts.
    pub fn of_trusted_root(bytes: &[u8]) -> Result<Vec<Self>, TrustError> {
        #[derive(Deserialize)]
        struct Root {
            #[serde(default)]
            tlogs: Vec<WireLog>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct WireLog {
            base_url: String,
            public_key: WireKey,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct WireKey {
            raw_bytes: String,
        }
        let root: Root = json::parse(bytes, LARGEST_ROOT).map_err(|error| TrustError::Form(error.to_string()))?;
        let pin = |log: WireLog| {
            let host = log.base_url.trim_start_matches("https://").trim_end_matches('/').to_owned();
            let der = BASE64.decode(log.public_key.raw_bytes);
            let der = der.map_err(|_| TrustError::Form("a key is not in Base64".to_owned()))?;
            Ok(Self { host, key: PublicKey::from_der(&der)? })
        };
        root.tlogs.into_iter().map(pin).collect()
    }

    /// What the log's checkpoints name it: its host, and a number that is its key's.
    pub fn origin(&self) -> String {
        let id = self.key.id();
        let [a, b, c, d, e, f, g, h, ..] = *id.as_bytes();
        format!("{} - {}", self.host, u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1)
    }

    /// Reads a checkpoint of the log, which its key must have signed.
    pub fn checkpoint(&self, note: &str) -> Result<Checkpoint, ConsistencyError> {
        let key = witan_merkle_log::PublicKey::from_der(self.key.der()).map_err(|_| ConsistencyError::Key)?;
        let checkpoint = witan_merkle_log::Checkpoint::parse(note, &self.origin(), &key)?;
        Ok(Checkpoint { origin: self.origin(), size: checkpoint.size(), root: checkpoint.root().0 })
    }

    /// A `trusted_root.json` that trusts this log and no certificate authority, for as long as the log has been there.
    pub fn trusted_root(&self) -> Vec<u8> {
        let (host, key) = (self.host.clone(), self.key.clone());
        trusted_root(&[TrustedLog { host, key, since: SystemTime::UNIX_EPOCH }])
    }
}

impl Client {
    /// The registry's log.
    pub fn log(&self) -> RegistryLog<'_> {
        RegistryLog { client: self }
    }
}

impl RegistryLog<'_> {
    /// What the log says of itself, to be pinned: asked once, compared with what its operator published elsewhere, and kept.
    pub async fn introduce(&self) -> Result<LogPin, TrustError> {
        let answer = self.client.http.read(Ask::get("/api/v1/log/publicKey", None), LARGEST).await?;
        let key: PublicKey = String::from_utf8_lossy(&answer.bytes).parse()?;
        let note = self.note().await?;
        let (host, _) = note.lines().next().and_then(|origin| origin.rsplit_once(" - ")).ok_or_else(|| {
            TrustError::Form("the log's checkpoint does not name it by a host and a number".to_owned())
        })?;
        let pin = LogPin { host: host.to_owned(), key };
        pin.checkpoint(&note)?;
        Ok(pin)
    }

    async fn note(&self) -> Result<String, RequestError> {
        let answer = self.client.http.read(Ask::get("/log/checkpoint", None), LARGEST).await?;
        String::from_utf8(answer.bytes.clone()).map_err(|_| answer.other("it is no text"))
    }

    /// The state that the log shows now, signed with the pinned key. `kept` is the largest state that was seen before: the
    /// log must continue it. Keep what this gives in its place.
    pub async fn checkpoint(&self, pin: &LogPin, kept: Option<&Checkpoint>) -> Result<Checkpoint, ConsistencyError> {
        let found = pin.checkpoint(&self.note().await?)?;
        if let Some(kept) = kept {
            if kept.origin == found.origin && found.size < kept.size {
                return Err(ConsistencyError::Shrunk { origin: found.origin, kept: kept.size, found: found.size });
            }
            self.consistent(kept, &found).await?;
        }
        Ok(found)
    }

    /// Whether two states, whose signatures the caller has verified, are of one history: the smaller is how the larger
    /// began. The log is asked for the proof, which does not have to be believed.
    pub async fn consistent(&self, kept: &Checkpoint, found: &Checkpoint) -> Result<(), ConsistencyError> {
        if kept.origin != found.origin {
            return Err(ConsistencyError::OtherLog { kept: kept.origin.clone(), found: found.origin.clone() });
        }
        let (old, new) = if kept.size <= found.size { (kept, found) } else { (found, kept) };
        let split = || ConsistencyError::Split { origin: kept.origin.clone(), size: old.size };
        if old.size == new.size {
            return if old.root == new.root { Ok(()) } else { Err(split()) };
        }
        // How a log began that had nothing is said by any log.
        if old.size == 0 {
            return if Hash(old.root) == Hash::empty() { Ok(()) } else { Err(split()) };
        }
        let path = format!("/api/v1/log/proof?firstSize={}&lastSize={}", old.size, new.size);
        let answer = self.client.http.read(Ask::get(&path, None), LARGEST).await?;
        let WireConsistency { hashes } = answer.json()?;
        let hashes: Option<Vec<Hash>> = hashes.iter().map(|hash| bytes32(hash).map(Hash)).collect();
        let hashes = hashes.ok_or_else(|| answer.other("a hash of the proof is none"))?;
        verify_consistency(old.size, new.size, &hashes, &Hash(old.root), &Hash(new.root)).map_err(|_| split())
    }

    async fn known(&self, body: &[u8]) -> Result<LogEntry, RequestError> {
        let Hash(leaf) = Hash::leaf(body);
        let path = format!("/api/v1/log/entries/{}", Digest::from_bytes(leaf).hex());
        entry(&self.client.http.read(Ask::get(&path, None), LARGEST_ENTRY).await?)
    }

    async fn propose(&self, proposal: &Proposal) -> Result<LogEntry, RequestError> {
        let body = Bytes::from(proposal.to_json());
        let ask = Ask::new(Method::POST, "/api/v1/log/entries", None).body("application/json", body);
        match self.client.http.read(ask, LARGEST_ENTRY).await {
            // It has this very entry, from an attempt that broke off.
            Err(RequestError::Status { status: StatusCode::CONFLICT, .. }) => self.known(proposal.body()).await,
            answer => entry(&answer?),
        }
    }
}

impl Log for RegistryLog<'_> {
    async fn witness(&self, proposal: &Proposal) -> Result<LogEntry, LogError> {
        let entry = self.propose(proposal).await.map_err(|error| match error {
            RequestError::Answer { .. } => LogError::Answer(error.to_string()),
            RequestError::Unreachable { .. } | RequestError::Timeout { .. } => LogError::Unreachable(error.to_string()),
            _ => LogError::Refused(error.to_string()),
        })?;
        if entry.body != proposal.body() {
            return Err(LogError::Answer("it is the entry of something else".to_owned()));
        }
        Ok(entry)
    }
}
