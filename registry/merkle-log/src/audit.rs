//! Reading a log from its first entry to its last, and comparing it with what others kept of it.

use std::{io, path::Path};

use crate::{
    Checkpoint, Hash, NoteError, PublicKey, Tile, TileKind,
    disk::{Disk as _, Folder},
    tile::{self, LEVELS, WIDTH},
    tree,
};

/// What an audit found to hold.
#[derive(Clone, Debug)]
pub struct Audit {
    /// The checkpoint of the log as it is.
    pub checkpoint: Checkpoint,
    /// How many of the checkpoints that were kept elsewhere it follows.
    pub kept: usize,
}

/// What does not hold.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The checkpoint is not the log's.
    #[error("the log's checkpoint does not hold")]
    Checkpoint(#[source] NoteError),
    /// A checkpoint that was kept is not the log's.
    #[error("the checkpoint that was kept is none of this log")]
    Kept(#[source] NoteError),
    /// A part is not there.
    #[error("`{0}` is missing or breaks off: entries were removed, or the disk lost them")]
    Missing(Tile),
    /// An entry is not the one that was logged.
    #[error("entry {0} is not the one that was logged")]
    Changed(u64),
    /// Hashes are not those of the entries.
    #[error("`{0}` has not the hashes of its entries")]
    Hashes(Tile),
    /// The whole does not have the root that the checkpoint names.
    #[error("the log has not the root that its checkpoint names")]
    Root,
    /// The log is shorter than it was.
    #[error("the log has {found} entries, but had {kept} when a checkpoint was kept: its end was removed")]
    Shorter {
        /// Entries that it has.
        found: u64,
        /// Entries that it had.
        kept: u64,
    },
    /// The log is another than it was.
    #[error("the first {0} entries are not those of the checkpoint that was kept: the log was written anew")]
    Rewritten(u64),
    /// The disk failed.
    #[error("the log cannot be read")]
    Disk(#[from] io::Error),
}

/// Reads the whole log in `folder`, whose checkpoints one of `keys` signs, and compares it with the checkpoints in `kept`, which
/// must come from where whoever can write to the log cannot.
///
/// # Errors
/// When anything does not hold; the first that does not.
pub fn audit(folder: &Path, origin: &str, keys: &[PublicKey], kept: &[&str]) -> Result<Audit, AuditError> {
    let disk = Folder(folder.to_owned());
    let Newest { checkpoint, edge } = newest(&disk, origin, keys)?;
    let parse = |note: &&str| parse(note, origin, keys).map_err(AuditError::Kept);
    let mut kept: Vec<Checkpoint> = kept.iter().map(parse).collect::<Result<_, _>>()?;
    kept.sort_by_key(Checkpoint::size);
    if let Some(longest) = kept.last().filter(|longest| longest.size() > checkpoint.size()) {
        return Err(AuditError::Shorter { found: checkpoint.size(), kept: longest.size() });
    }
    let mut levels = vec![Vec::new(); usize::from(LEVELS)];
    let mut due = kept.iter().peekable();
    let size = checkpoint.size();
    let mut index = 0;
    loop {
        while let Some(kept) = due.next_if(|kept| kept.size() == index) {
            if tree::root(&levels) != kept.root() {
                return Err(AuditError::Rewritten(index));
            }
        }
        if index == size {
            break;
        }
        let bundle = tile_of(TileKind::Entries, index, size);
        let leaves = tile_of(TileKind::Hashes(0), index, size);
        let (bytes, hashes) = match &edge {
            Some(edge) if bundle.width.is_some() => edge.clone(),
            _ => (read(&disk, bundle)?, read(&disk, leaves)?),
        };
        let logged = Hash::all(&hashes).ok_or(AuditError::Missing(leaves))?;
        let entries = tile::entries(&bytes).filter(|entries| entries.len() >= bundle.count());
        let entries = entries.ok_or(AuditError::Missing(bundle))?;
        for (entry, logged) in entries.into_iter().zip(&logged) {
            if Hash::leaf(entry) != *logged {
                return Err(AuditError::Changed(index));
            }
            add(&disk, &mut levels, *logged, index)?;
            index += 1;
            while let Some(kept) = due.next_if(|kept| kept.size() == index) {
                if tree::root(&levels) != kept.root() {
                    return Err(AuditError::Rewritten(index));
                }
            }
        }
        if index < size && index % WIDTH != 0 {
            return Err(AuditError::Missing(leaves));
        }
    }
    if tree::root(&levels) != checkpoint.root() {
        return Err(AuditError::Root);
    }
    Ok(Audit { checkpoint, kept: kept.len() })
}

/// The newest checkpoint, with the tiles of its last entries and their hashes where these are not full.
struct Newest {
    checkpoint: Checkpoint,
    edge: Option<(Vec<u8>, Vec<u8>)>,
}

/// Reads the checkpoint and what it alone needs: with the next one, the tiles that are not full are gone. All others stay.
fn newest(disk: &Folder, origin: &str, keys: &[PublicKey]) -> Result<Newest, AuditError> {
    let path = Path::new("checkpoint");
    let mut note = disk.read(path)?;
    loop {
        let checkpoint = parse(&String::from_utf8_lossy(&note), origin, keys).map_err(AuditError::Checkpoint)?;
        let size = checkpoint.size();
        if size.is_multiple_of(WIDTH) {
            return Ok(Newest { checkpoint, edge: None });
        }
        let edge = [TileKind::Entries, TileKind::Hashes(0)].map(|kind| read(disk, tile_of(kind, size, size)));
        match edge {
            [Ok(bundle), Ok(hashes)] => return Ok(Newest { checkpoint, edge: Some((bundle, hashes)) }),
            [Err(error), _] | [_, Err(error)] => {
                let now = disk.read(path)?;
                if now == note {
                    return Err(error);
                }
                note = now;
            }
        }
    }
}

fn parse(note: &str, origin: &str, keys: &[PublicKey]) -> Result<Checkpoint, NoteError> {
    let mut parsed = Err(NoteError::Signature);
    for key in keys {
        parsed = Checkpoint::parse(note, origin, key);
        if parsed.is_ok() {
            break;
        }
    }
    parsed
}

/// The tile that holds number `index` in a level of `size`.
fn tile_of(kind: TileKind, index: u64, size: u64) -> Tile {
    let tile = index / WIDTH;
    let width = if tile == size / WIDTH { u8::try_from(size % WIDTH).ok() } else { None };
    Tile { kind, index: tile, width }
}

fn read(disk: &Folder, tile: Tile) -> Result<Vec<u8>, AuditError> {
    let missing = |error: io::Error| {
        if error.kind() == io::ErrorKind::NotFound { AuditError::Missing(tile) } else { AuditError::Disk(error) }
    };
    disk.read(&tile.path()).map_err(missing)
}

/// Adds a leaf, and compares each tile that it fills with the one on disk.
fn add(disk: &Folder, levels: &mut [Vec<Hash>], leaf: Hash, index: u64) -> Result<(), AuditError> {
    let (mut hash, mut at) = (leaf, index);
    for (number, level) in (0_u8..).zip(levels) {
        level.push(hash);
        if level.len() as u64 != WIDTH {
            break;
        }
        let full = std::mem::take(level);
        let tile = Tile { kind: TileKind::Hashes(number), index: at / WIDTH, width: None };
        if Hash::all(&read(disk, tile)?).as_ref() != Some(&full) {
            return Err(AuditError::Hashes(tile));
        }
        hash = tree::root(&[full]);
        at /= WIDTH;
    }
    Ok(())
}
