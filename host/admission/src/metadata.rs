//! What a registry was believed last: its TUF metadata, as a host keeps them.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use witan_registry_tuf::Held;
use witan_registry_types::Host;

use crate::file::{self, FileError, Turn};

const LARGEST: u64 = 64 << 20;

/// The metadata of one registry, in a file.
#[derive(Debug, Clone)]
pub struct Metadata {
    path: PathBuf,
}

impl Metadata {
    /// What a host that keeps its data in `state` keeps of `registry`. It need not be there yet.
    pub fn of(state: &Path, registry: &Host) -> Self {
        Self { path: state.join("tuf").join(format!("{registry}.json")) }
    }

    /// What was kept, and when the registry was heard: when it was kept.
    pub fn read(&self) -> Result<Option<(Held, SystemTime)>, FileError> {
        let Some(text) = file::read(&self.path, LARGEST)? else { return Ok(None) };
        let held = Held::parse(&text).map_err(|error| FileError::form(&self.path, error))?;
        let heard =
            std::fs::metadata(&self.path).and_then(|about| about.modified()).map_err(FileError::io(&self.path))?;
        Ok(Some((held, heard)))
    }

    /// Keeps `held`, unless somebody has kept something newer meanwhile.
    pub fn keep(&self, held: &Held) -> Result<(), FileError> {
        let _turn = Turn::at(&self.path)?;
        match self.read()? {
            Some((newer, _)) if newer.follows(held) => Ok(()),
            _ => file::replace(&self.path, &held.to_text()),
        }
    }
}
