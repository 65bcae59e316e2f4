//! Roots and proofs of a tree, from the hashes of its tiles.

use sigstore_types::Sha256Hash;

use crate::{
    Hash,
    tile::{LEVELS, WIDTH},
};

/// Why a proof proves nothing.
#[derive(Debug, thiserror::Error)]
#[error("the proof does not hold")]
pub struct ProofError(#[source] sigstore_merkle::Error);

/// Where the hashes of tiles come from.
pub(crate) trait Tiles {
    /// Why they cannot be read.
    type Error;

    /// The hashes of the tile `index` of `level`: as many as the tree that is asked about has.
    fn tile(&self, level: u8, index: u64) -> Result<Vec<Hash>, Self::Error>;
}

/// The root of a full subtree whose lowest nodes are `hashes`: a power of two of them.
fn perfect(hashes: &[Hash]) -> Hash {
    match hashes {
        [] => Hash::empty(),
        [one] => *one,
        _ => {
            let (left, right) = hashes.split_at(hashes.len() / 2);
            Hash::node(&perfect(left), &perfect(right))
        }
    }
}

/// The root of the tree whose last tiles hold `levels`, the lowest level first.
pub(crate) fn root(levels: &[Vec<Hash>]) -> Hash {
    let mut root: Option<Hash> = None;
    for level in levels {
        let mut rest = level.as_slice();
        while !rest.is_empty() {
            let (before, subtree) = rest.split_at(rest.len() - (1 << rest.len().trailing_zeros()));
            let subtree = perfect(subtree);
            root = Some(root.map_or(subtree, |right| Hash::node(&subtree, &right)));
            rest = before;
        }
    }
    root.unwrap_or_else(Hash::empty)
}

/// The largest power of two that is less than `size`, which is at least 2.
fn split(size: u64) -> u64 {
    1 << (63 - (size - 1).leading_zeros())
}

/// The root of the entries from `first` up to `end`.
pub(crate) fn subtree<T: Tiles>(tiles: &T, first: u64, end: u64) -> Result<Hash, T::Error> {
    let size = end - first;
    if size == 0 {
        return Ok(Hash::empty());
    }
    if size.is_power_of_two() && first.is_multiple_of(size) {
        let height = size.trailing_zeros();
        // A node lies in the tile of the level below it, where it is the root of a few hashes.
        let level = u8::try_from(height / 8).unwrap_or(LEVELS);
        let count = 1_u64 << (height % 8);
        let at = first >> (8 * u32::from(level));
        let hashes = tiles.tile(level, at / WIDTH)?;
        let from = usize::try_from(at % WIDTH).unwrap_or(0);
        let to = from + usize::try_from(count).unwrap_or(0);
        return Ok(perfect(hashes.get(from..to).unwrap_or_default()));
    }
    let middle = first + split(size);
    Ok(Hash::node(&subtree(tiles, first, middle)?, &subtree(tiles, middle, end)?))
}

/// That entry `index` is in the tree of `size` entries, as RFC 6962 has it.
pub(crate) fn inclusion<T: Tiles>(tiles: &T, index: u64, size: u64) -> Result<Vec<Hash>, T::Error> {
    let (mut first, mut end) = (0, size);
    let mut proof = Vec::new();
    while end - first > 1 {
        let middle = first + split(end - first);
        if index < middle {
            proof.push(subtree(tiles, middle, end)?);
            end = middle;
        } else {
            proof.push(subtree(tiles, first, middle)?);
            first = middle;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// That the tree of `old` entries is how the one of `new` began, as RFC 6962 has it.
pub(crate) fn consistency<T: Tiles>(tiles: &T, old: u64, new: u64) -> Result<Vec<Hash>, T::Error> {
    if old == 0 || old == new {
        return Ok(Vec::new());
    }
    let (mut first, mut end) = (0, new);
    let mut proof = Vec::new();
    // Whether the part that is looked at is the whole old tree, whose root the verifier has.
    let mut whole = true;
    while old != end {
        let middle = first + split(end - first);
        if old <= middle {
            proof.push(subtree(tiles, middle, end)?);
            end = middle;
        } else {
            proof.push(subtree(tiles, first, middle)?);
            first = middle;
            whole = false;
        }
    }
    if !whole {
        proof.push(subtree(tiles, first, end)?);
    }
    proof.reverse();
    Ok(proof)
}

fn foreign(hash: &Hash) -> Sha256Hash {
    Sha256Hash::new(hash.0)
}

fn all(hashes: &[Hash]) -> Vec<Sha256Hash> {
    hashes.iter().map(foreign).collect()
}

/// Verifies that the entry whose hash is `leaf` is number `index` of the tree of `size` entries with `root`.
///
/// # Errors
/// When the proof does not show it.
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, proof: &[Hash], root: &Hash) -> Result<(), ProofError> {
    sigstore_merkle::verify_inclusion_proof(&foreign(leaf), index, size, &all(proof), &foreign(root))
        .map_err(ProofError)
}

/// Verifies that the tree of `old` entries with `old_root` is how the tree of `new` entries with `new_root` began.
///
/// # Errors
/// When the proof does not show it.
pub fn verify_consistency(
    old: u64,
    new: u64,
    proof: &[Hash],
    old_root: &Hash,
    new_root: &Hash,
) -> Result<(), ProofError> {
    sigstore_merkle::verify_consistency_proof(old, new, &all(proof), &foreign(old_root), &foreign(new_root))
        .map_err(ProofError)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    /// A tree in memory, and the definition of its root from RFC 6962, word by word.
    struct Memory(Vec<Hash>);

    impl Memory {
        fn new(size: u64) -> Self {
            Self((0..size).map(|number| Hash::leaf(&number.to_be_bytes())).collect())
        }

        fn defined(hashes: &[Hash]) -> Hash {
            match hashes {
                [] => Hash::empty(),
                [one] => *one,
                more => {
                    let (left, right) = more.split_at(split(more.len() as u64) as usize);
                    Hash::node(&Self::defined(left), &Self::defined(right))
                }
            }
        }
    }

    impl Tiles for Memory {
        type Error = Infallible;

        fn tile(&self, level: u8, index: u64) -> Result<Vec<Hash>, Infallible> {
            let step = 1_usize << (8 * u32::from(level));
            let first = index as usize * 256;
            let whole = self.0.chunks_exact(step).skip(first).take(256);
            Ok(whole.map(Self::defined).collect())
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn proofs_hold_and_hold_for_nothing_else(size in 1..1200_u64, a in any::<u64>(), b in any::<u64>()) {
            let tree = Memory::new(size);
            let root = Memory::defined(&tree.0);
            prop_assert_eq!(subtree(&tree, 0, size).unwrap(), root);

            let index = a % size;
            let proof = inclusion(&tree, index, size).unwrap();
            let leaf = tree.0[index as usize];
            prop_assert!(verify_inclusion(&leaf, index, size, &proof, &root).is_ok());
            prop_assert!(verify_inclusion(&Hash::leaf(b"another"), index, size, &proof, &root).is_err());
            if size > 1 {
                prop_assert!(verify_inclusion(&leaf, (index + 1) % size, size, &proof, &root).is_err());
            }

            let old = b % (size + 1);
            let old_root = Memory::defined(&tree.0[..old as usize]);
            let proof = consistency(&tree, old, size).unwrap();
            prop_assert!(verify_consistency(old, size, &proof, &old_root, &root).is_ok());
            if old > 0 {
                let other = Hash::leaf(b"another");
                prop_assert!(verify_consistency(old, size, &proof, &other, &root).is_err());
                prop_assert!(verify_consistency(old, size, &proof, &old_root, &other).is_err());
            }
        }
    }

    #[test]
    fn the_last_tiles_give_the_root() {
        for size in [0, 1, 2, 3, 255, 256, 257, 511, 512, 65_535, 65_536, 65_537, 65_793] {
            let tree = Memory::new(size);
            let levels: Vec<Vec<Hash>> = (0..3)
                .map(|level| {
                    let count = size >> (8 * level);
                    if count % WIDTH == 0 { Vec::new() } else { tree.tile(level, count / WIDTH).unwrap() }
                })
                .collect();
            assert_eq!(root(&levels), Memory::defined(&tree.0), "{size}");
        }
    }
}
