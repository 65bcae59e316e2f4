//! Tiles: the parts in which a log lies on disk and is served (C2SP `tlog-tiles`).
//!
//! A tile of level L holds up to 256 hashes of nodes of height 8·L; a bundle holds up to 256 entries. A full one never
//! changes. One that is not full has the number of what it holds in its name, so that neither does it.

use std::{fmt, path::PathBuf};

/// What a full tile holds.
pub(crate) const WIDTH: u64 = 256;

/// The highest level of tiles that a tree of 2⁶⁴ entries has.
pub(crate) const LEVELS: u8 = 8;

/// What a tile holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TileKind {
    /// Hashes of nodes whose height is 8 times the level.
    Hashes(u8),
    /// Entries, each behind its length in two bytes.
    Entries,
}

/// A tile of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tile {
    /// What it holds.
    pub kind: TileKind,
    /// Which one of its level it is, from 0.
    pub index: u64,
    /// Of how many hashes or entries, if not of 256.
    pub width: Option<u8>,
}

impl Tile {
    /// Reads `path` as it stands behind a log's address: `tile/0/x001/067`, `tile/entries/000.p/8`.
    pub fn parse(path: &str) -> Option<Self> {
        let (kind, rest) = path.strip_prefix("tile/")?.split_once('/')?;
        let kind = match kind {
            "entries" => TileKind::Entries,
            level => TileKind::Hashes(number(level).and_then(|level| u8::try_from(level).ok())?),
        };
        let (rest, width) = match rest.split_once(".p/") {
            Some((rest, width)) => (rest, Some(number(width).and_then(|width| u8::try_from(width).ok())?)),
            None => (rest, None),
        };
        let mut index = 0_u64;
        for part in rest.split('/') {
            let digits = part.strip_prefix('x').unwrap_or(part);
            if digits.len() != 3 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            index = index.checked_mul(1000)?.checked_add(digits.parse().ok()?)?;
        }
        let tile = Self { kind, index, width };
        let known = matches!(kind, TileKind::Entries | TileKind::Hashes(..LEVELS)) && width != Some(0);
        // Written in one way alone: no further `x`, no leading zeros.
        (known && tile.to_string() == path).then_some(tile)
    }

    /// Where it lies in the folder of a log.
    pub(crate) fn path(self) -> PathBuf {
        PathBuf::from(self.to_string())
    }

    /// The same, full.
    pub(crate) fn full(self) -> Self {
        Self { width: None, ..self }
    }

    /// How many hashes or entries it holds.
    pub(crate) fn count(self) -> usize {
        self.width.map_or(256, usize::from)
    }
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            TileKind::Hashes(level) => write!(f, "tile/{level}/")?,
            TileKind::Entries => f.write_str("tile/entries/")?,
        }
        let mut parts = vec![self.index % 1000];
        let mut rest = self.index / 1000;
        while rest > 0 {
            parts.push(rest % 1000);
            rest /= 1000;
        }
        for part in parts.iter().skip(1).rev() {
            write!(f, "x{part:03}/")?;
        }
        write!(f, "{:03}", parts[0])?;
        self.width.map_or(Ok(()), |width| write!(f, ".p/{width}"))
    }
}

/// A number without leading zeros.
fn number(text: &str) -> Option<u64> {
    let canonical = text == "0" || (!text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit()));
    if canonical { text.parse().ok() } else { None }
}

/// The entries of a bundle; nothing where it is not one.
pub(crate) fn entries(bundle: &[u8]) -> Option<Vec<&[u8]>> {
    let mut entries = Vec::new();
    let mut rest = bundle;
    while !rest.is_empty() {
        let (length, behind) = rest.split_first_chunk::<2>()?;
        let (entry, behind) = behind.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        entries.push(entry);
        rest = behind;
    }
    Some(entries)
}

/// Adds an entry to a bundle; nothing where it is longer than a bundle can say.
pub(crate) fn add_entry(bundle: &mut Vec<u8>, entry: &[u8]) -> Option<()> {
    bundle.extend_from_slice(&u16::try_from(entry.len()).ok()?.to_be_bytes());
    bundle.extend_from_slice(entry);
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_are_those_of_the_specification() {
        let tile = Tile { kind: TileKind::Hashes(1), index: 1_234_067, width: Some(8) };
        assert_eq!(tile.to_string(), "tile/1/x001/x234/067.p/8");
        let full = Tile { kind: TileKind::Entries, index: 0, width: None };
        assert_eq!(full.to_string(), "tile/entries/000");
    }

    #[test]
    fn a_tile_has_one_path() {
        for path in [
            "tile/0/0",
            "tile/0/000/000",
            "tile/0/x000/001",
            "tile/00/001",
            "tile/8/001",
            "tile/0/001.p/0",
            "tile/0/001.p/256",
            "tile/0/001.p/08",
            "tile/0/1234",
            "tile/0/x001",
            "tile/0/x001/",
            "tile/0/../001",
            "tile/entries/",
            "tile/other/001",
            "/tile/0/001",
            "tile/0/999/999/999/999/999/999/999/999",
        ] {
            assert_eq!(Tile::parse(path), None, "{path}");
        }
    }

    #[test]
    fn a_bundle_that_breaks_off_is_none() {
        let mut bundle = Vec::new();
        add_entry(&mut bundle, b"one").unwrap();
        add_entry(&mut bundle, b"").unwrap();
        assert_eq!(entries(&bundle).unwrap(), [b"one".as_slice(), b""]);
        assert_eq!(entries(&bundle[..4]), None);
        assert_eq!(entries(&bundle[..6]), None);
        assert_eq!(add_entry(&mut bundle, &[0; 1 << 16]), None);
    }

    proptest! {
        #[test]
        fn a_path_is_read_as_what_it_was_written_from(
            level in prop::option::of(0..LEVELS), index in any::<u64>(), width in prop::option::of(1..=255_u8),
        ) {
            let kind = level.map_or(TileKind::Entries, TileKind::Hashes);
            let tile = Tile { kind, index, width };
            prop_assert_eq!(Tile::parse(&tile.to_string()), Some(tile));
        }

        #[test]
        fn any_path_is_read_or_refused(path in "tile/(entries|[0-9]{1,2})/[x0-9/.p]{0,30}") {
            if let Some(tile) = Tile::parse(&path) {
                prop_assert_eq!(tile.to_string(), path);
            }
        }
    }
}
