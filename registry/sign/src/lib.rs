//! Signs components and verifies them: keys, statements, bundles, trust.
//!
//! A version is trusted when enough of the signers that its rule names have signed the same statements about it, and a log
//! has witnessed that. [`evaluate`] is that verdict, a function of bytes, a policy and a time; nothing here opens a
//! connection. Formats are those of others, so that stock tools verify what is signed here: in-toto statements in Sigstore
//! bundles. The crates that know them are behind one adapter.

mod bundle;
mod checkpoint;
mod evaluate;
mod identity;
mod key;
mod keys;
mod log;
mod provenance;
mod reason;
mod release;
mod sbom;
mod sigstore;
mod statement;
mod time;
mod trust;

pub use bundle::{BundleError, SignError, Signed, is_signature_of};
pub use checkpoint::Checkpoint;
pub use evaluate::{Refusal, Rejected, Verified, evaluate};
pub use identity::{Certificate, CertificateError, IdentityToken, TokenError};
pub use key::{KeyError, KeyId, PublicKey, SigningKey};
pub use keys::{KeyFolder, KeyInfo, KeysError};
pub use log::{InclusionProof, Log, LogEntry, LogError, Proposal, TrustedLog, promise_payload, trusted_root};
pub use provenance::{BUILD_TYPE, LOCAL_BUILDER, LocalBuild, Provenance, Source};
pub use reason::Reason;
pub use release::Release;
pub use sbom::{Dependency, Embedded, EmbeddedError, Sbom, SbomError};
pub use statement::{Attestation, Statement, StatementError};
pub use trust::{
    Identity, PackagePattern, PolicyError, Rule, SignerId, Subject, TrustPolicy, TrustRoot, TrustRootError, TrustedKey,
};
