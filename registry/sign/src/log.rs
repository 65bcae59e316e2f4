//! The transparency log that witnesses a signature, as a signer and a log see it.
//!
//! An entry has the form of Rekor's first version: a canonical JSON body, a promise that covers body, index and time, and
//! an inclusion proof under a signed checkpoint. Existing clients verify exactly that.

use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use witan_registry_types::Digest;

use crate::key::{KeyId, PublicKey};
use crate::sigstore;
use crate::time::unix_seconds;

/// Why a log did not take an entry.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The log cannot be reached, or broke off.
    #[error("the transparency log cannot be reached: {0}")]
    Unreachable(String),
    /// The log took the entry and said no.
    #[error("the transparency log refused the entry: {0}")]
    Refused(String),
    /// What it answered is not an entry.
    #[error("the transparency log answered with something else: {0}")]
    Answer(String),
}

/// A transparency log that takes entries.
pub trait Log {
    /// Puts a signature into the log, and returns once it is in the tree that the answer's checkpoint signs. One that is in
    /// the log already may be answered with the entry that it has.
    fn witness(&self, proposal: &Proposal) -> impl Future<Output = Result<LogEntry, LogError>> + Send;
}

/// A signature on its way into a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    envelope: String,
    verifier: String,
    body: Vec<u8>,
}

impl Proposal {
    /// Of the signature over `payload` in an `envelope`. `verifier` is the signer's key or certificate in PEM.
    pub(crate) fn new(envelope: String, payload: &[u8], signature: &[u8], verifier: &str) -> Self {
        let body = entry_body(envelope.as_bytes(), payload, signature, verifier);
        Self { envelope, verifier: STANDARD.encode(verifier), body }
    }

    /// The entry that a log makes of it: canonical JSON.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// What a log of the shape of Rekor's first version is asked with: the whole envelope, whose signature it can check.
    pub fn to_json(&self) -> Vec<u8> {
        let content = json!({ "envelope": self.envelope, "verifiers": [self.verifier] });
        json!({ "apiVersion": "0.0.1", "kind": "dsse", "spec": { "proposedContent": content } })
            .to_string()
            .into_bytes()
    }
}

/// The place of an entry in a log, and the evidence for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Which log: the name of its key.
    pub log: KeyId,
    /// Where in the log, from 0, over all the trees that it ever had.
    pub index: u64,
    /// When the log took it; whole seconds.
    pub time: SystemTime,
    /// The log's signature over [`promise_payload`].
    pub promise: Vec<u8>,
    /// That the entry is in the tree of the checkpoint.
    pub proof: InclusionProof,
    /// The entry: [`Proposal::body`] of what was given to [`Log::witness`].
    pub body: Vec<u8>,
}

/// That an entry is in a tree (RFC 6962, section 2.1.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InclusionProof {
    /// Where in the tree, from 0: another number than in the log where that began a new tree.
    pub index: u64,
    /// Entries in the tree.
    pub size: u64,
    /// The root of the tree.
    pub root: [u8; 32],
    /// The hashes from the entry up to the root.
    pub hashes: Vec<[u8; 32]>,
    /// The signed note that names size and root. Its origin is the host of the log, ` - ` and a number: other clients take
    /// a log with another origin for one that gives no promises.
    pub checkpoint: String,
}

impl LogEntry {
    /// Reads an entry in the form that a bundle has it in (`TransparencyLogEntry` of Sigstore, as JSON). Proves nothing:
    /// a bundle with the entry is verified.
    pub fn from_json(bytes: &[u8]) -> Result<Self, LogError> {
        sigstore::read_entry(bytes).map_err(LogError::Answer)
    }

    /// The entry in the form that a bundle has it in.
    pub fn to_json(&self) -> Result<Vec<u8>, LogError> {
        sigstore::write_entry(self).map_err(LogError::Answer)
    }
}

impl PublicKey {
    /// The four bytes by which a checkpoint's signature names the log's key.
    pub fn checkpoint_hint(&self) -> [u8; 4] {
        let [a, b, c, d, ..] = *self.id().as_bytes();
        [a, b, c, d]
    }
}

/// What a log signs as its promise to include `body` at `index`: canonical JSON.
pub fn promise_payload(log: &KeyId, index: u64, time: SystemTime, body: &[u8]) -> Vec<u8> {
    // The keys of a map are in order, and the values need no escape: this is the canonical form (RFC 8785).
    let payload = json!({
        "body": STANDARD.encode(body),
        "integratedTime": unix_seconds(time),
        "logID": log.to_string(),
        "logIndex": index,
    });
    payload.to_string().into_bytes()
}

/// The body of the entry for a signature over `payload` in an `envelope`: canonical JSON. `verifier` is the signer's key or
/// certificate in PEM.
fn entry_body(envelope: &[u8], payload: &[u8], signature: &[u8], verifier: &str) -> Vec<u8> {
    let hash = |bytes: &[u8]| json!({ "algorithm": "sha256", "value": Digest::of(bytes).hex() });
    let body = json!({
        "apiVersion": "0.0.1",
        "kind": "dsse",
        "spec": {
            "envelopeHash": hash(envelope),
            "payloadHash": hash(payload),
            "signatures": [{ "signature": STANDARD.encode(signature), "verifier": STANDARD.encode(verifier) }],
        },
    });
    body.to_string().into_bytes()
}

/// A log that is trusted, for [`trusted_root`].
#[derive(Debug, Clone)]
pub struct TrustedLog {
    /// Its host, as the origin of its checkpoints and the name of their signer have it: with `:port` where it has one.
    pub host: String,
    /// Its key.
    pub key: PublicKey,
    /// Since when it logs.
    pub since: SystemTime,
}

/// A `trusted_root.json` that trusts these logs and no certificate authority.
pub fn trusted_root(logs: &[TrustedLog]) -> Vec<u8> {
    let log = |log: &TrustedLog| {
        json!({
            "baseUrl": format!("https://{}", log.host),
            "hashAlgorithm": "SHA2_256",
            "publicKey": {
                "rawBytes": STANDARD.encode(log.key.der()),
                "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                "validFor": { "start": crate::time::rfc3339(log.since) },
            },
            "logId": { "keyId": STANDARD.encode(log.key.id().as_bytes()) },
        })
    };
    let root = json!({
        "mediaType": witan_registry_types::media::TRUSTED_ROOT,
        "tlogs": logs.iter().map(log).collect::<Vec<_>>(),
        "certificateAuthorities": [],
        "ctlogs": [],
        "timestampAuthorities": [],
    });
    root.to_string().into_bytes()
}
