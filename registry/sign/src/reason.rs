//! Why a bundle does not count.

use std::time::SystemTime;

use witan_registry_types::{Digest, Package};

use crate::bundle::BundleError;
use crate::key::KeyId;
use crate::statement::{Attestation, StatementError};
use crate::time::rfc3339;
use crate::trust::{Identity, PackagePattern, SignerId};

/// Why one bundle does not count. Each has one cause, so that a test can tell a refusal for the right reason from one for a
/// wrong one.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// It is not a bundle of the form that is looked at.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// It is not a statement about a package.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// What it says cannot be read.
    #[error("the {0} cannot be read: {1}")]
    Predicate(Attestation, String),
    /// It is about another package or version.
    #[error("the statement is about `{0}`")]
    Package(Package),
    /// It is about other bytes.
    #[error("the statement is about {0}")]
    Digest(Digest),
    /// No rule knows the key.
    #[error("{}", key_text(.0.as_ref()))]
    UnknownKey(Option<KeyId>),
    /// No rule knows who signed.
    #[error("{0} is not trusted")]
    UnknownIdentity(Identity),
    /// The name is trusted, but another vouched for it.
    #[error("{found} was vouched for by another than `{expected}`")]
    Issuer {
        /// Who signed.
        found: Identity,
        /// Who must vouch for the name.
        expected: String,
    },
    /// The name is trusted as another kind of name: an address as a URI or the other way round.
    #[error("{0} is a trusted name of another kind")]
    SubjectKind(Identity),
    /// The signer may sign other packages.
    #[error("{signer} may sign `{packages}`, and not this package")]
    OtherPackages {
        /// Who signed.
        signer: SignerId,
        /// What that signer may sign.
        packages: PackagePattern,
    },
    /// The key was no longer trusted when it signed.
    #[error("the key {key} is trusted for signatures until {}, and this one is of {}", rfc3339(*.until), rfc3339(*.signed))]
    KeyExpired {
        /// The key.
        key: KeyId,
        /// When it signed.
        signed: SystemTime,
        /// Until when it is trusted.
        until: SystemTime,
    },
    /// The signature is not in a log, and the rule demands it.
    #[error("the signature is in no transparency log")]
    Unlogged,
    /// The signature is not one of the key over the statement.
    #[error("the signature is wrong")]
    Signature,
    /// The certificate was not yet valid when the log took the signature.
    #[error("the certificate is valid from {}, and the signature is of {}", rfc3339(*.from), rfc3339(*.signed))]
    CertificateNotYetValid {
        /// When the log took the signature.
        signed: SystemTime,
        /// Since when the certificate was valid.
        from: SystemTime,
    },
    /// The certificate had expired when the log took the signature.
    #[error("the certificate was valid until {}, and the signature is of {}", rfc3339(*.until), rfc3339(*.signed))]
    CertificateExpired {
        /// When the log took the signature.
        signed: SystemTime,
        /// Until when the certificate was valid.
        until: SystemTime,
    },
    /// The certificate is not one of a trusted authority, or not for signing.
    #[error("the certificate is refused: {0}")]
    Certificate(String),
    /// The certificate is in no trusted certificate log.
    #[error("the certificate is refused: {0}")]
    CertificateLog(String),
    /// The log is not a trusted one.
    #[error("the transparency log {0} is not trusted")]
    UnknownLog(String),
    /// The log's promise is not its own, or is for something else.
    #[error("the log's promise is wrong: {0}")]
    Promise(String),
    /// The entry is not in the log's tree.
    #[error("the inclusion proof is wrong: {0}")]
    Proof(String),
    /// The state of the log is not signed by it.
    #[error("the log's checkpoint is wrong: {0}")]
    Checkpoint(String),
    /// The entry is for another signature.
    #[error("the log entry is for something else: {0}")]
    Entry(String),
    /// The time of signing is not known, or cannot be.
    #[error("the time of the signature is wrong: {0}")]
    Time(String),
    /// The signature is from the future.
    #[error("the signature is of {}, which is in the future", rfc3339(*.0))]
    Future(SystemTime),
}

fn key_text(key: Option<&KeyId>) -> String {
    match key {
        Some(key) => format!("the key {key} is not trusted"),
        None => "no trusted key made the signature".to_owned(),
    }
}
