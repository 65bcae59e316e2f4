//! Fetches components from a registry and publishes them, and keeps on disk what was fetched.
//!
//! Start reading at [`Client::fetch`]. A registry is not trusted: it may be compromised, or be somebody else's. Nothing that
//! it answers decides whether a component is run, which is for [`witan_registry_sign::evaluate`]; what is decided here is
//! that an answer is bounded in size and time, that bytes are those of the digest by which they were asked for, that
//! "there is none" is never concluded from a failure, and that a secret goes nowhere but where it belongs.
//!
//! Requests are made with `reqwest` and not with an OCI crate: those send credentials to whatever realm an answer names,
//! read manifests of any size, and check a digest after everything is written.

mod authority;
mod catalog;
mod client;
mod discover;
mod fetch;
mod http;
mod log;
mod metadata;
mod publish;
mod settings;
mod store;

pub use authority::{AmbientError, CertificateAuthority, CertifyError, github_token};
pub use catalog::Found;
pub use client::Client;
pub use discover::DiscoverError;
pub use fetch::{FetchError, Progress};
pub use http::RequestError;
pub use log::{ConsistencyError, LogPin, RegistryLog, TrustError};
pub use publish::{PublishError, Published};
pub use settings::{Credentials, Settings};
pub use store::{Store, StoreError};
