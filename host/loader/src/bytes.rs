//! The bytes of components, read once: what is checked is what is compiled.

use std::{
    collections::BTreeMap,
    io::{self, Read as _},
    path::Path,
    sync::Arc,
};

use witan_engine::CompileError;
use witan_system::{ComponentName, System};

use crate::{LoadError, LoadProblem};

/// Bytes and what identifies them.
#[derive(Clone)]
pub(crate) struct Bytes {
    pub(crate) bytes: Arc<[u8]>,
    /// blake3.
    pub(crate) digest: [u8; 32],
}

impl Bytes {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self { digest: *blake3::hash(&bytes).as_bytes(), bytes: bytes.into() }
    }
}

/// Reads the sources of all components, `most` bytes of each.
pub(crate) fn read_all(system: &System, most: u64) -> Result<BTreeMap<ComponentName, Bytes>, LoadError> {
    let mut all = BTreeMap::new();
    let mut problems = Vec::new();
    for (name, component) in &system.components {
        match read(&component.source, most) {
            Err(Unread::Failed(source)) => {
                problems.push(LoadProblem::Read { component: name.clone(), path: component.source.clone(), source })
            }
            Err(Unread::TooLarge(found)) => {
                problems.push(LoadProblem::compile(name, &CompileError::TooLarge { found, most }))
            }
            Ok(bytes) => {
                let bytes = Bytes::new(bytes);
                match component.digest {
                    Some(expected) if expected != bytes.digest => problems.push(LoadProblem::Digest {
                        component: name.clone(),
                        expected: hex(&expected),
                        found: hex(&bytes.digest),
                    }),
                    _ => drop(all.insert(name.clone(), bytes)),
                }
            }
        }
    }
    LoadError::unless_empty(problems)?;
    Ok(all)
}

enum Unread {
    Failed(io::Error),
    /// With its size.
    TooLarge(u64),
}

/// Reads a file, and neither waits for a pipe nor holds more than would be compiled.
fn read(path: &Path, most: u64) -> Result<Vec<u8>, Unread> {
    let metadata = std::fs::metadata(path).map_err(Unread::Failed)?;
    if !metadata.is_file() {
        return Err(Unread::Failed(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file")));
    }
    if metadata.len() > most {
        return Err(Unread::TooLarge(metadata.len()));
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(Unread::Failed)?;
    // It may grow while it is read; what comes after is refused with the rest.
    file.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(Unread::Failed)?;
    Ok(bytes)
}

pub(crate) fn hex(digest: &[u8; 32]) -> String {
    blake3::Hash::from(*digest).to_hex().to_string()
}
