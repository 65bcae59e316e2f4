//! The rows, and the sign that they have changed.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use witan_database::Database;

use crate::{Event, IdentityError, Observer, tables};

/// The file in the state folder that grows with each change of what credentials are worth.
const CHANGES: &str = "identities.changes";

/// Tenants, people, keys and sessions. Cloning is cheap.
///
/// Several processes may have it open: what one changes, the others see with their next look.
#[derive(Clone)]
pub struct Directory {
    pub(crate) database: Database,
    changes: Arc<Path>,
    observer: Arc<dyn Observer>,
}

impl Directory {
    /// The rows in `database`, with the sign of their change in the folder `state`; `observer` sees what is done.
    ///
    /// # Errors
    /// When the tables cannot be set up, or the folder cannot be written to.
    pub async fn open(database: Database, state: &Path, observer: Arc<dyn Observer>) -> Result<Self, IdentityError> {
        database.migrate(tables::PART, tables::STEPS).await?;
        let directory = Self { database, changes: state.join(CHANGES).into(), observer };
        directory.append(b"")?;
        Ok(directory)
    }

    /// Tells everybody that rows have changed. Called when they are committed.
    pub(crate) fn changed(&self, event: Event) -> Result<(), IdentityError> {
        let told = self.append(b".");
        self.observer.observe(&event);
        told
    }

    /// Whether somebody may be given rights: only where a record of it can be kept.
    pub(crate) fn recorded(&self) -> Result<(), IdentityError> {
        self.observer.ready().map_err(IdentityError::Unrecorded)
    }

    pub(crate) fn tell(&self, event: &Event) {
        self.observer.observe(event);
    }

    /// A number that grows with each change; none where it cannot be read, and nothing that was looked up may be believed.
    pub(crate) fn stamp(&self) -> Option<u64> {
        fs::metadata(&self.changes).ok().map(|file| file.len())
    }

    fn append(&self, bytes: &[u8]) -> Result<(), IdentityError> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.changes);
        file.and_then(|mut file| file.write_all(bytes)).map_err(|source| self.file_error(source))
    }

    fn file_error(&self, source: std::io::Error) -> IdentityError {
        IdentityError::File { path: PathBuf::from(&*self.changes), source }
    }
}

impl std::fmt::Debug for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Directory").field("changes", &self.changes).finish_non_exhaustive()
    }
}

/// The longest name of a key and of a person that is kept, in characters.
const LONGEST_NAME: usize = 100;

/// A name that people may read, or why it is none.
pub(crate) fn named(name: &str) -> Result<&str, IdentityError> {
    let fits = (1..=LONGEST_NAME).contains(&name.chars().count()) && !name.chars().any(char::is_control);
    if fits { Ok(name) } else { Err(IdentityError::Named(LONGEST_NAME)) }
}

/// As much of `text` as is kept of what others say of themselves.
pub(crate) fn shortened(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(LONGEST_NAME).collect()
}
