//! The bytes of components, read once: what is checked is what is compiled.

use std::{collections::BTreeMap, sync::Arc};

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

pub(crate) fn read_all(system: &System) -> Result<BTreeMap<ComponentName, Bytes>, LoadError> {
    let mut all = BTreeMap::new();
    let mut problems = Vec::new();
    for (name, component) in &system.components {
        match std::fs::read(&component.source) {
            Err(source) => {
                problems.push(LoadProblem::Read { component: name.clone(), path: component.source.clone(), source })
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

pub(crate) fn hex(digest: &[u8; 32]) -> String {
    blake3::Hash::from(*digest).to_hex().to_string()
}
