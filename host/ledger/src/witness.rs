//! Those outside who keep what the ledger said: how checkpoints are offered to them (C2SP `tlog-witness`).

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use witan_merkle_log::{Checkpoint, Hash, Witness};

/// A witness, and how it is reached.
#[derive(Clone)]
pub struct WitnessSettings {
    /// Its name and key.
    pub witness: Witness,
    /// How it is reached.
    pub transport: Arc<dyn Transport>,
}

impl std::fmt::Debug for WitnessSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("WitnessSettings").field(&self.witness).finish()
    }
}

/// What a witness answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status of HTTP.
    pub status: u16,
    /// The body, of at most 64 KiB.
    pub body: String,
}

/// Posts to a witness's `add-checkpoint`. It may block: a thread of the ledger calls it, and nothing waits for that one.
pub trait Transport: Send + Sync {
    /// Posts `body`.
    ///
    /// # Errors
    /// When there is no answer, in words.
    fn post(&self, body: String) -> Result<Answer, String>;
}

/// What a witness has to say of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// It signed: the note with its signature.
    Signed(Checkpoint),
    /// It has seen a checkpoint of this size.
    HasSeen(u64),
}

/// What is posted: the size that the witness has seen, the proof from there, and the checkpoint.
pub(crate) fn request(old: u64, proof: &[Hash], checkpoint: &Checkpoint) -> String {
    let mut body = format!("old {old}\n");
    for hash in proof {
        body.push_str(&hash.to_string());
        body.push('\n');
    }
    body.push('\n');
    body.push_str(checkpoint.note());
    body
}

/// Reads what a witness answered to `checkpoint`.
pub(crate) fn said(answer: &Answer, witness: &Witness, checkpoint: &Checkpoint) -> Result<Said, String> {
    match answer.status {
        200 => {
            let signatures = answer.body.lines().filter(|line| line.starts_with("— "));
            let mut signed = checkpoint.clone();
            for line in signatures {
                signed = signed.signed(line).map_err(|error| error.to_string())?;
            }
            match witness.on(&signed) {
                Some(_) => Ok(Said::Signed(signed)),
                None => Err(format!("`{}` answered, and did not sign", witness.name())),
            }
        }
        409 => answer.body.trim().parse().map(Said::HasSeen).map_err(|_| "it has seen something else".to_owned()),
        status => Err(format!("it answered {status}: {}", answer.body.chars().take(200).collect::<String>())),
    }
}

/// A hash as it stands in requests.
pub(crate) fn hash(text: &str) -> Option<Hash> {
    BASE64_STANDARD.decode(text).ok()?.try_into().ok().map(Hash)
}
