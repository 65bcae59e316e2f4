//! Why somebody is not who they say, and why the rows cannot be used.

use std::time::Duration;

use uuid::Uuid;
use witan_database::DatabaseError;
use witan_system::TenantName;

/// Why identities cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The rows cannot be read or written.
    #[error("the database failed")]
    Sql(#[from] sqlx::Error),
    /// The tables cannot be set up.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The system has no random numbers.
    #[error("the system has no random numbers to give")]
    Random,
    /// A row is not what this program writes.
    #[error("the database holds what this program did not write: {0}")]
    Damaged(String),
    /// There is no such tenant, or it is disabled.
    #[error("there is no tenant `{0}` that is not disabled: `witan auth tenant create` makes one")]
    NoTenant(TenantName),
    /// There is a tenant of this name already.
    #[error("there is a tenant `{0}` already")]
    TenantExists(TenantName),
    /// The tenant of this machine's user cannot be disabled.
    #[error("the tenant `local` is this machine's own and stays")]
    LocalTenant,
    /// There is no such key.
    #[error("there is no key `{0}`")]
    NoKey(Uuid),
    /// The key has ended, so that nothing can take its place.
    #[error("the key `{0}` has ended; make a new one")]
    KeyEnded(Uuid),
    /// There is no such person.
    #[error("there is no user `{0}`")]
    NoPerson(Uuid),
    /// There is no such session.
    #[error("there is no session `{0}`")]
    NoSession(Uuid),
    /// A name is longer than is kept.
    #[error("a name is from 1 to {0} characters long, without control characters")]
    Named(usize),
    /// A file that is needed cannot be used.
    #[error("cannot use `{path}`")]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// That it was done could not be written down.
    #[error("what cannot be written down is not done: {0}")]
    Unrecorded(String),
    /// The client for issuers cannot be made.
    #[error("cannot set up an HTTP client")]
    Http(#[source] reqwest::Error),
}

/// Why a request is not let through.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// It has no credential.
    #[error(
        "this host asks for a credential: send an API key or a token as `Authorization: Bearer`, or a key as `x-api-key`"
    )]
    Missing,
    /// Its credential is not good. What is wrong with it is for the host's log and for nobody else.
    #[error("the credential is not good here: it may be wrong, ended, revoked, or for somebody else")]
    Refused(Reason),
    /// Too many bad credentials came from this address.
    #[error("too many bad credentials came from this address; try again in {} s", .0.as_secs().max(1))]
    TooMany(Duration),
    /// It cannot be found out now.
    #[error("who sent this cannot be found out now")]
    Unavailable(#[source] IdentityError),
}

/// What is wrong with a credential, for the host's log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Reason(pub(crate) String);

impl From<IdentityError> for AuthError {
    fn from(error: IdentityError) -> Self {
        Self::Unavailable(error)
    }
}

impl AuthError {
    pub(crate) fn refused(reason: impl ToString) -> Self {
        Self::Refused(Reason(reason.to_string()))
    }
}
