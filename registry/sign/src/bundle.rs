//! Signing: a statement becomes a bundle, which holds the signature and the evidence for it.

use witan_registry_types::json::JsonError;

use crate::identity::Certificate;
use crate::key::{KeyError, PublicKey, SigningKey};
use crate::log::{Log, LogEntry, LogError, Proposal};
use crate::sigstore::{self, Verifies};
use crate::statement::Statement;

/// Why bytes are not a bundle of the one form that is looked at: Sigstore's third, with a statement, exactly one signature,
/// and one whole log entry or none.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// They are not sound JSON, or too many.
    #[error("the bundle cannot be read")]
    Json(#[from] JsonError),
    /// It is of another type or version.
    #[error("the bundle has the media type {0}, and must have `application/vnd.dev.sigstore.bundle.v0.3+json`")]
    MediaType(String),
    /// It has several signatures, of which another client would verify another one.
    #[error("the bundle has {0} signatures, and must have one")]
    Signatures(usize),
    /// It has several log entries, which may say different things.
    #[error("the bundle has {0} log entries, and may have one")]
    Entries(usize),
    /// It has more timestamps than anyone needs.
    #[error("the bundle has {0} timestamps")]
    Timestamps(usize),
    /// It signs something else than a statement.
    #[error("the bundle signs a `{0}`, not a statement")]
    PayloadType(String),
    /// Its log entry lacks a part.
    #[error("the bundle's log entry lacks {0}")]
    HalfEntry(&'static str),
    /// It is of another form.
    #[error("the bundle has another form: {0}")]
    Form(String),
}

/// Why a statement could not be signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The key failed.
    #[error("cannot sign")]
    Key(#[from] KeyError),
    /// The log did not take it.
    #[error("the signature is not in the log")]
    Log(#[from] LogError),
    /// The log answered with the entry of another signature.
    #[error("the log answered with another entry than it was given")]
    OtherEntry,
    /// The statement is larger than a verifier reads.
    #[error("the statement has {0} bytes, more than a verifier reads: leave out what is not needed")]
    TooLarge(usize),
    /// The bundle cannot be written.
    #[error("the bundle cannot be written: {0}")]
    Write(String),
}

enum Signer {
    Key(PublicKey),
    Certificate(Vec<u8>),
}

/// A signed statement, before it is in a log.
pub struct Signed {
    payload: Vec<u8>,
    signature: Vec<u8>,
    signer: Signer,
}

impl Signed {
    /// Signs `statement` with `key`, which whoever verifies must have.
    pub fn with_key(statement: &Statement, key: &SigningKey) -> Result<Self, SignError> {
        Self::new(statement, key, Signer::Key(key.public().clone()))
    }

    /// Signs `statement` with `key`, for which an authority has just given `certificate` (DER).
    pub fn with_certificate(statement: &Statement, key: &SigningKey, certificate: &[u8]) -> Result<Self, SignError> {
        Self::new(statement, key, Signer::Certificate(certificate.to_vec()))
    }

    /// Signs `statement` with `key` in the name of whom `certificate` names.
    pub fn certified(statement: &Statement, key: &SigningKey, certificate: &Certificate) -> Result<Self, SignError> {
        Self::with_certificate(statement, key, certificate.der())
    }

    fn new(statement: &Statement, key: &SigningKey, signer: Signer) -> Result<Self, SignError> {
        let payload = statement.to_payload();
        if payload.len() > crate::statement::LARGEST {
            return Err(SignError::TooLarge(payload.len()));
        }
        let signature = key.sign(&sigstore::signed_bytes(&payload))?;
        Ok(Self { payload, signature, signer })
    }

    fn verifies(&self) -> Verifies<'_> {
        match &self.signer {
            Signer::Key(key) => Verifies::Key(key),
            Signer::Certificate(der) => Verifies::Certificate(der),
        }
    }

    /// What a log is given.
    pub fn proposal(&self) -> Result<Proposal, SignError> {
        let verifier = match &self.signer {
            Signer::Key(key) => key.to_pem(),
            Signer::Certificate(der) => sigstore::certificate_pem(der),
        };
        let envelope = sigstore::envelope_json(&self.payload, &self.signature).map_err(SignError::Write)?;
        Ok(Proposal::new(envelope, &self.payload, &self.signature, &verifier))
    }

    /// The entry that a log makes of [`Signed::proposal`].
    pub fn entry_body(&self) -> Result<Vec<u8>, SignError> {
        Ok(self.proposal()?.body().to_vec())
    }

    /// The bundle with the entry that a log made of [`Signed::proposal`].
    pub fn logged(&self, entry: &LogEntry) -> Result<Vec<u8>, SignError> {
        if entry.body != self.entry_body()? {
            return Err(SignError::OtherEntry);
        }
        sigstore::write_bundle(&self.payload, &self.signature, &self.verifies(), Some(entry)).map_err(SignError::Write)
    }

    /// The bundle after `log` has taken the signature.
    pub async fn witnessed(&self, log: &impl Log) -> Result<Vec<u8>, SignError> {
        let entry = log.witness(&self.proposal()?).await?;
        self.logged(&entry)
    }

    /// The bundle without a log entry. It verifies only where the policy allows that: nobody but the holder of the key
    /// knows when it was made, or what else was.
    pub fn unlogged(&self) -> Result<Vec<u8>, SignError> {
        sigstore::write_bundle(&self.payload, &self.signature, &self.verifies(), None).map_err(SignError::Write)
    }
}

/// Whether `bundle` is `key`'s signature of `statement`, with an entry of a log or without one as `logged` says. Whether a log
/// has that entry is not looked at: this is for whoever would sign the same again.
pub fn is_signature_of(bundle: &[u8], statement: &Statement, key: &PublicKey, logged: bool) -> bool {
    sigstore::Bundle::parse(bundle).is_ok_and(|bundle| {
        bundle.payload() == statement.to_payload() && bundle.is_logged() == logged && bundle.is_signed_by(key)
    })
}
