//! An OCI registry for components: blobs and manifests, a transparency log, and pages about what is in it.
//!
//! Start reading at [`serve`]: a connection's requests come to the handlers in `web`; those under `/v2/` are read by
//! [`Route::parse`] and answered by the `oci_*` modules. Bytes lie on disk under their digest, and rows of a database say
//! whose they are.
//!
//! The registry is not trusted by its clients: they verify signatures and the log. What it promises is that what it
//! acknowledged is there, that a released version stays what it is, and that a namespace is written to by those alone
//! who may.

mod blobs;
mod body;
mod catalog;
mod collect;
mod component;
mod database;
mod limits;
mod manifest;
mod metadata;
mod names;
mod oci;
mod oci_blobs;
mod oci_manifests;
mod pages;
pub mod range;
mod refusal;
mod registry;
mod routes;
mod serve;
mod settings;
mod tokens;
mod transparency;
mod uploads;
mod web;

pub use collect::Collected;
pub use metadata::{MetadataError, SignedMetadata, Signing, sign_metadata};
pub use names::{Digest, Namespace, Reference, Repository, Tag};
pub use refusal::{Failure, Refusal};
pub use registry::{Administration, OpenError, Registry};
pub use routes::Route;
pub use serve::{ServeError, serve};
pub use settings::{DatabaseSettings, Deletion, Limits, Settings};
pub use tokens::{Action, Scope, ScopeError, Token};

/// `bytes` in hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // A string takes whatever is written to it.
        let _written = write!(text, "{byte:02x}");
        text
    })
}

/// An error with all its causes, for the log.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
