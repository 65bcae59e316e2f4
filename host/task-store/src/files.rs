//! What is too large for a row.
//!
//! A file is whole and on the disk before the row that it belongs to: it gets its name once its bytes are, and a row without
//! its file is never written. A file without its row is what a crash between the two leaves, and is removed when it is old.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use uuid::Uuid;

use crate::StoreError;

/// Bytes of an input or a result that go into the database; larger ones are files.
pub const INLINE_BYTES: usize = 256 << 10;

/// What a task works on.
pub(crate) const INPUT: i64 = 0;
/// What it came to.
pub(crate) const RESULT: i64 = 1;

#[derive(Debug)]
pub(crate) struct Files {
    folder: PathBuf,
}

impl Files {
    pub(crate) fn open(folder: PathBuf) -> Result<Self, StoreError> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
        made.map_err(|error| failed(&folder, error))?;
        Ok(Self { folder })
    }

    fn path(&self, id: Uuid, kind: i64) -> PathBuf {
        self.folder.join(format!("{id}.{kind}"))
    }

    /// The bytes for the row; none where they are in a file now, on the disk.
    pub(crate) async fn put(&self, id: Uuid, kind: i64, bytes: Vec<u8>) -> Result<Option<Vec<u8>>, StoreError> {
        if bytes.len() <= INLINE_BYTES {
            return Ok(Some(bytes));
        }
        let path = self.path(id, kind);
        let written = tokio::task::spawn_blocking(move || {
            witan_durable::replace(&path, &bytes, witan_durable::OWN)
                .map_err(|error| failed(&path, error))
                .map(|()| None)
        });
        written.await.map_err(|_| StoreError::Ended)?
    }

    pub(crate) async fn get(&self, id: Uuid, kind: i64) -> Result<Vec<u8>, StoreError> {
        let path = self.path(id, kind);
        tokio::fs::read(&path).await.map_err(|error| failed(&path, error))
    }

    /// Removes a file, if there is one.
    pub(crate) fn remove(&self, id: Uuid, kind: i64) {
        let path = self.path(id, kind);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %path.display(), %error, "cannot remove the file of a task");
            }
            _ => {}
        }
    }

    /// The tasks of files that nobody has written to for `age`, at most `most`.
    pub(crate) fn older_than(&self, age: Duration, most: usize) -> io::Result<Vec<(Uuid, i64)>> {
        let cutoff = SystemTime::now().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if found.len() >= most || entry.metadata()?.modified()? > cutoff {
                continue;
            }
            let name = entry.file_name();
            match name.to_str().and_then(named) {
                Some(file) => found.push(file),
                None => fs::remove_file(entry.path())?,
            }
        }
        Ok(found)
    }
}

/// The task and kind of a file of this name; none of what was never finished.
fn named(name: &str) -> Option<(Uuid, i64)> {
    let (id, kind) = name.split_once('.')?;
    Some((id.parse().ok()?, kind.parse().ok()?))
}

fn failed(path: &Path, error: io::Error) -> StoreError {
    StoreError::File { path: path.to_owned(), source: Arc::new(error) }
}
