//! Who asks.
//!
//! Start at [`Identities::authenticate`]: from the headers of a request and its connection it makes a [`Client`], or a refusal.
//! A client is known by an API key, by a token that an issuer or this host signed, or by its certificate. [`Directory`] keeps
//! the rows: tenants, people, keys and sessions, each with its tenant.
//!
//! Secrets are shown once and kept as hashes. What ends in the rows ends with the next request: nothing that was looked up
//! is believed when the rows have changed.

mod attempts;
mod authenticate;
mod cache;
mod certificate;
mod client;
mod directory;
mod error;
mod event;
mod fetch;
mod follow;
mod issuer;
mod jwks;
mod jwt;
mod key;
mod login;
mod mapping;
mod page;
mod person;
mod secret;
mod session;
mod signer;
mod tables;
mod tenant;

pub use authenticate::{Identities, Peer, Settings};
pub use certificate::{Certificate, CertificateError};
pub use client::{Client, Kind};
pub use directory::Directory;
pub use error::{AuthError, IdentityError};
pub use event::{Event, Logged, Observer, What};
pub use fetch::FetchError;
pub use follow::Shown;
pub use jwks::{KeySet, KeySetError};
pub use jwt::{Algorithm, Token, TokenError};
pub use key::{Key, NewKey};
pub use login::{Begin, Begun, Caller, Ended, LoginError};
pub use page::Page;
pub use person::Person;
pub use secret::Secret;
pub use session::{Session, Tokens};
pub use tenant::Tenant;
pub use witan_system::{Name, Scope, TenantName, TrustLevel, Verb};

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// `duration` in whole seconds.
pub(crate) fn seconds(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}
