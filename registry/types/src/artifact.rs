//! What a registry holds of one version of a component.

/// The parts of one version, as somebody served them: nothing here is checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// The manifest, which names the others by digest. Its own digest is what is signed.
    pub manifest: Vec<u8>,
    /// What the manifest calls the config: a summary of the component.
    pub config: Vec<u8>,
    /// The component.
    pub layer: Vec<u8>,
    /// The Sigstore bundles that somebody attached to the manifest.
    pub bundles: Vec<Vec<u8>>,
}
