//! An entry as it lies on disk: sealed with a person's key, beside a commitment to what it says.
//!
//! The commitment is a hash over a salt and the entry. It is what the Merkle log has, with the name of the key: from it
//! nobody learns what the entry says, and nobody who has the log can say that it said something else. Whoever is given salt
//! and entry can check them without the key; when the key is destroyed, the salt is gone with the entry.

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, Nonce, UnboundKey};
use sha2::{Digest as _, Sha256};

use crate::keys::{Key, KeyId};

/// Bytes of a salt.
pub(crate) const SALT: usize = 32;
/// Bytes of a nonce.
pub(crate) const NONCE: usize = 12;
/// Bytes of a leaf of the log.
const LEAF: usize = 1 + 16 + 32;
/// The version of leaves.
const VERSION: u8 = 1;
/// Bytes of a record before what is sealed.
const HEAD: usize = 8 + 16 + 32 + NONCE;

/// What the Merkle log has of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    pub(crate) key: KeyId,
    pub(crate) commitment: [u8; 32],
}

impl Leaf {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        [&[VERSION], self.key.0.as_slice(), &self.commitment].concat()
    }

    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; LEAF] = bytes.try_into().ok()?;
        let ([VERSION], rest) = bytes.split_first_chunk::<1>()? else { return None };
        let (key, commitment) = rest.split_first_chunk::<16>()?;
        Some(Self { key: KeyId(*key), commitment: commitment.try_into().ok()? })
    }
}

/// A commitment to what `json` says.
pub(crate) fn commitment(salt: &[u8; SALT], json: &[u8]) -> [u8; 32] {
    Sha256::new_with_prefix(b"witan-ledger entry\n").chain_update(salt).chain_update(json).finalize().into()
}

/// An entry on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) index: u64,
    pub(crate) leaf: Leaf,
    nonce: [u8; NONCE],
    sealed: Vec<u8>,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Opened {
    pub(crate) salt: [u8; SALT],
    pub(crate) json: Vec<u8>,
}

/// Why a record does not say anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unsealed;

impl Record {
    /// Seals `json` as entry number `index`. The salt and the nonce are random.
    pub(crate) fn seal(
        index: u64,
        key: &Key,
        json: &[u8],
        salt: &[u8; SALT],
        nonce: [u8; NONCE],
    ) -> Result<Self, Unsealed> {
        let leaf = Leaf { key: key.id, commitment: commitment(salt, json) };
        let mut sealed = [salt.as_slice(), json].concat();
        let aad = Aad::from(aad(index, &leaf));
        cipher(key)?
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed)
            .map_err(|_| Unsealed)?;
        Ok(Self { index, leaf, nonce, sealed })
    }

    /// What it says, if `key` is its key and nothing of it was changed.
    pub(crate) fn open(&self, key: &Key) -> Result<Opened, Unsealed> {
        if key.id != self.leaf.key {
            return Err(Unsealed);
        }
        let mut bytes = self.sealed.clone();
        let aad = Aad::from(aad(self.index, &self.leaf));
        let nonce = Nonce::assume_unique_for_key(self.nonce);
        let opened = cipher(key)?.open_in_place(nonce, aad, &mut bytes).map_err(|_| Unsealed)?;
        let (salt, json) = opened.split_first_chunk::<SALT>().ok_or(Unsealed)?;
        if commitment(salt, json) != self.leaf.commitment {
            return Err(Unsealed);
        }
        Ok(Opened { salt: *salt, json: json.to_vec() })
    }

    /// Adds the record to `bytes`.
    pub(crate) fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.index.to_be_bytes());
        bytes.extend_from_slice(&self.leaf.key.0);
        bytes.extend_from_slice(&self.leaf.commitment);
        bytes.extend_from_slice(&self.nonce);
        bytes.extend_from_slice(&self.sealed);
    }

    /// Bytes that [`Self::write`] adds.
    pub(crate) fn len(&self) -> usize {
        HEAD + self.sealed.len()
    }

    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let (index, rest) = bytes.split_first_chunk::<8>()?;
        let (key, rest) = rest.split_first_chunk::<16>()?;
        let (commitment, rest) = rest.split_first_chunk::<32>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE>()?;
        let leaf = Leaf { key: KeyId(*key), commitment: *commitment };
        Some(Self { index: u64::from_be_bytes(*index), leaf, nonce: *nonce, sealed: sealed.to_vec() })
    }
}

fn aad(index: u64, leaf: &Leaf) -> Vec<u8> {
    [index.to_be_bytes().as_slice(), &leaf.bytes()].concat()
}

/// A nonce that should come twice would tell no more than that two entries are the same (RFC 8452).
fn cipher(key: &Key) -> Result<LessSafeKey, Unsealed> {
    let key = UnboundKey::new(&AES_256_GCM_SIV, &*key.secret).map_err(|_| Unsealed)?;
    Ok(LessSafeKey::new(key))
}
