//! Names, digests, references and documents of a component registry, each parsed once into a type.
//!
//! What is read here was written by somebody else: a registry, an author, a mirror. Each parser is total, takes a bounded
//! number of bytes, and refuses what it does not know, so that a value of one of these types can be compared, joined into
//! a path or put into a URL without another look.

mod artifact;
mod config;
mod digest;
pub mod json;
mod manifest;
pub mod media;
mod name;
mod reference;
mod referrers;

pub use artifact::Artifact;
pub use config::{ComponentConfig, ComponentInterfaces};
pub use digest::{Blake3, Digest, DigestError};
pub use manifest::{BundleManifest, ComponentManifest, Descriptor, ManifestError};
pub use name::{Name, NameError, Namespace, Package, PackageName, Version};
pub use reference::{Host, Mapping, Reference, ReferenceError, Registry, Repository, Tag, Target};
pub use referrers::{Referrer, Referrers};
