//! A copy of all rows at one moment, made while others read and write.

use std::path::{Path, PathBuf};

use crate::{Database, DatabaseError, Location};

impl Database {
    /// Writes a copy of the database to `file`, which is a database like it. It is whole and on the disk when this returns.
    ///
    /// # Errors
    /// When the database is none in a file, when `file` exists, or the disk fails.
    pub async fn back_up(&self, file: &Path) -> Result<(), DatabaseError> {
        let Location::Sqlite(_) = self.location() else { return Err(DatabaseError::NotAFile) };
        if file.exists() {
            return Err(DatabaseError::Exists(file.to_owned()));
        }
        let disk = |source| DatabaseError::File { path: file.to_owned(), source };
        let Some(name) = file.to_str() else {
            return Err(disk(std::io::Error::other("its path is no text")));
        };
        sqlx::query("VACUUM INTO $1").bind(name).execute(self.pool()).await?;
        std::fs::File::open(file).and_then(|file| file.sync_all()).map_err(disk)?;
        let folder =
            file.parent().filter(|folder| !folder.as_os_str().is_empty()).map_or(PathBuf::from("."), Path::to_owned);
        std::fs::File::open(&folder).and_then(|folder| folder.sync_all()).map_err(disk)
    }

    /// Leaves nothing in the file of what was replaced or deleted before. PostgreSQL does that by itself in time.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn scrub(&self) -> Result<(), DatabaseError> {
        if let Location::Sqlite(_) = self.location() {
            sqlx::query("VACUUM").execute(self.pool()).await?;
            sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(self.pool()).await?;
        }
        Ok(())
    }
}
