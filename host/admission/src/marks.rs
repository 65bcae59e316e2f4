//! What a host has seen and will not go behind: the highest version of each package, the largest checkpoint of each log.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use witan_registry_sign::Checkpoint;
use witan_registry_types::{Digest, Package, PackageName, Version};

use crate::file::{self, FileError, Turn};

const LARGEST: u64 = 4 << 20;

/// Why something lies behind a mark.
#[derive(Debug, thiserror::Error)]
pub enum MarkError {
    /// The version is older than one that ran here.
    #[error("version {found} is older than {mark}, which ran here before")]
    Rollback {
        /// The version in question.
        found: Version,
        /// The highest that ran.
        mark: Version,
    },
    /// The log shows another history.
    #[error("the log `{origin}` shows another history than before, at {size} entries")]
    Fork {
        /// Which log.
        origin: String,
        /// Entries of the tree in question.
        size: u64,
    },
    /// The file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The marks of a host, in a file.
#[derive(Debug, Clone)]
pub struct Marks {
    path: PathBuf,
}

#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    #[serde(default)]
    versions: BTreeMap<String, Version>,
    #[serde(default)]
    logs: BTreeMap<String, LogMark>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LogMark {
    size: u64,
    root: Digest,
}

impl Marks {
    /// The marks in the file at `path`, which need not be there yet.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn read(&self) -> Result<Wire, FileError> {
        match file::read(&self.path, LARGEST)? {
            None => Ok(Wire::default()),
            Some(text) => serde_json::from_str(&text).map_err(|error| FileError::form(&self.path, error)),
        }
    }

    /// Whether `package`, with the states of logs that have its signatures, lies behind no mark.
    pub fn check<'a>(
        &self,
        package: &Package,
        checkpoints: impl IntoIterator<Item = &'a Checkpoint>,
    ) -> Result<(), MarkError> {
        let marks = self.read()?;
        check_version(&marks, package)?;
        checkpoints.into_iter().try_for_each(|checkpoint| check_log(&marks, checkpoint))
    }

    /// Raises the marks to what has been loaded. They never sink. The mark of a log that was seen before stays where it is:
    /// that a larger state continues it is for [`Self::raise_log`] to be told.
    pub fn raise<'a>(
        &self,
        loaded: impl IntoIterator<Item = (&'a Package, Vec<&'a Checkpoint>)>,
    ) -> Result<(), MarkError> {
        let loaded: Vec<_> = loaded.into_iter().collect();
        if loaded.is_empty() {
            return Ok(());
        }
        let _turn = Turn::at(&self.path)?;
        let before = self.read()?;
        let mut marks = before.clone();
        for (package, checkpoints) in loaded {
            check_version(&marks, package)?;
            marks.versions.insert(package.name.to_string(), package.version.clone());
            for checkpoint in checkpoints {
                check_log(&marks, checkpoint)?;
                if !before.logs.contains_key(&checkpoint.origin) {
                    raise_log(&mut marks, checkpoint);
                }
            }
        }
        if marks == before { Ok(()) } else { Ok(self.write(&marks)?) }
    }

    /// Raises the mark of a log to `checkpoint`, which was proven to continue it.
    pub fn raise_log(&self, checkpoint: &Checkpoint) -> Result<(), MarkError> {
        let _turn = Turn::at(&self.path)?;
        let mut marks = self.read()?;
        check_log(&marks, checkpoint)?;
        raise_log(&mut marks, checkpoint);
        Ok(self.write(&marks)?)
    }

    /// Lowers the mark of a package to `version`: somebody asked for an older one to run.
    pub fn lower(&self, package: &PackageName, version: &Version) -> Result<(), FileError> {
        let _turn = Turn::at(&self.path)?;
        let mut marks = self.read()?;
        marks.versions.insert(package.to_string(), version.clone());
        self.write(&marks)
    }

    /// The highest version of a package that ran here.
    pub fn version(&self, package: &PackageName) -> Result<Option<Version>, FileError> {
        Ok(self.read()?.versions.remove(&package.to_string()))
    }

    /// The largest state of the log `origin` that was seen here.
    pub fn log(&self, origin: &str) -> Result<Option<Checkpoint>, FileError> {
        let mark = self.read()?.logs.remove(origin);
        let checkpoint =
            |mark: LogMark| Checkpoint { origin: origin.to_owned(), size: mark.size, root: *mark.root.as_bytes() };
        Ok(mark.map(checkpoint))
    }

    fn write(&self, marks: &Wire) -> Result<(), FileError> {
        let text = serde_json::to_string_pretty(marks).map_err(|error| FileError::form(&self.path, error))?;
        file::replace(&self.path, &text)
    }
}

fn check_version(marks: &Wire, package: &Package) -> Result<(), MarkError> {
    match marks.versions.get(&package.name.to_string()) {
        Some(mark) if package.version.semver() < mark.semver() => {
            Err(MarkError::Rollback { found: package.version.clone(), mark: mark.clone() })
        }
        _ => Ok(()),
    }
}

/// Two trees of one size have one root. Whether a larger one continues a smaller is for whoever can ask the log for proof.
fn check_log(marks: &Wire, checkpoint: &Checkpoint) -> Result<(), MarkError> {
    let fork = |mark: &&LogMark| mark.size == checkpoint.size && *mark.root.as_bytes() != checkpoint.root;
    match marks.logs.get(&checkpoint.origin).filter(fork) {
        Some(_) => Err(MarkError::Fork { origin: checkpoint.origin.clone(), size: checkpoint.size }),
        None => Ok(()),
    }
}

fn raise_log(marks: &mut Wire, checkpoint: &Checkpoint) {
    let mark = LogMark { size: checkpoint.size, root: Digest::from_bytes(checkpoint.root) };
    let known = marks.logs.entry(checkpoint.origin.clone()).or_insert_with(|| mark.clone());
    if known.size < mark.size {
        *known = mark;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(text: &str) -> Package {
        text.parse().unwrap()
    }

    fn checkpoint(size: u64, root: u8) -> Checkpoint {
        Checkpoint { origin: "log.example - 1".to_owned(), size, root: [root; 32] }
    }

    #[test]
    fn marks_rise_and_hold() {
        let folder = tempfile::tempdir().unwrap();
        let marks = Marks::at(folder.path().join("marks.json"));
        let (one, two) = (package("acme:sums@1.0.0"), package("acme:sums@2.0.0"));
        let (small, large) = (checkpoint(5, 1), checkpoint(9, 2));
        marks.check(&one, [&small]).unwrap();
        marks.raise([(&two, vec![&large])]).unwrap();
        assert!(matches!(marks.check(&one, []), Err(MarkError::Rollback { .. })));
        marks.check(&package("acme:other@1.0.0"), [&small]).unwrap();
        marks.check(&two, [&large]).unwrap();
        assert!(matches!(marks.check(&two, [&checkpoint(9, 3)]), Err(MarkError::Fork { size: 9, .. })));
        assert!(matches!(marks.raise([(&one, vec![])]), Err(MarkError::Rollback { .. })));
        assert_eq!(marks.version(&two.name).unwrap(), Some(two.version.clone()));
        assert_eq!(marks.log("log.example - 1").unwrap(), Some(large));
        // Nobody has shown that this continues the smaller one.
        let larger = checkpoint(12, 4);
        marks.raise([(&two, vec![&larger])]).unwrap();
        assert_eq!(marks.log("log.example - 1").unwrap(), Some(checkpoint(9, 2)));
        marks.raise_log(&larger).unwrap();
        assert_eq!(marks.log("log.example - 1").unwrap(), Some(larger));

        marks.lower(&one.name, &one.version).unwrap();
        marks.check(&one, []).unwrap();
    }

    #[test]
    fn a_damaged_file_is_an_error_and_not_a_fresh_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("marks.json");
        std::fs::write(&path, "{\"versions\":").unwrap();
        let error = Marks::at(&path).check(&package("acme:sums@1.0.0"), []).unwrap_err();
        assert!(error.to_string().contains("marks.json"), "{error}");
    }
}
