//! The hashes of RFC 6962.

use std::fmt;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use sha2::{Digest as _, Sha256};

/// A SHA-256 hash: of an entry, of a node, of a tree.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// Bytes of a hash.
    pub const SIZE: usize = 32;

    /// The root of the tree without entries.
    pub fn empty() -> Self {
        Self(Sha256::digest(b"").into())
    }

    /// The hash of an entry. Its prefix keeps an entry from being taken for a node.
    pub fn leaf(entry: &[u8]) -> Self {
        Self(Sha256::new_with_prefix([0]).chain_update(entry).finalize().into())
    }

    /// The hash of a node.
    pub fn node(left: &Self, right: &Self) -> Self {
        Self(Sha256::new_with_prefix([1]).chain_update(left.0).chain_update(right.0).finalize().into())
    }

    /// The hashes that `bytes` are, one after the other; nothing where a part remains.
    pub(crate) fn all(bytes: &[u8]) -> Option<Vec<Self>> {
        let (hashes, rest) = bytes.as_chunks::<{ Self::SIZE }>();
        rest.is_empty().then(|| hashes.iter().map(|hash| Self(*hash)).collect())
    }
}

/// In Base64, as checkpoints have it.
impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64_STANDARD.encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
