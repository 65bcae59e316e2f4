//! Media types of what a registry holds.

/// An OCI image manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// An OCI image index, as a list of referrers is one.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// The config of a component: [`ComponentConfig`](crate::ComponentConfig).
pub const CONFIG: &str = "application/vnd.wasm.config.v0+json";
/// The bytes of a component, as they are: never compressed.
pub const WASM: &str = "application/wasm";
/// A Sigstore bundle in its third form: a signature with all that is needed to verify it.
pub const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// The config of what has none: the two bytes `{}`.
pub const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// The payload of a signed statement.
pub const STATEMENT: &str = "application/vnd.in-toto+json";
/// The trusted root of Sigstore: certificate authorities and logs.
pub const TRUSTED_ROOT: &str = "application/vnd.dev.sigstore.trustedroot+json;version=0.1";
