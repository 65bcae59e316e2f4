//! The connections, and the turn of the one writer.

use std::{
    fs::OpenOptions,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use sqlx::{
    Any, AnyPool, Executor as _, Transaction,
    any::{AnyPoolOptions, install_default_drivers},
};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::{DatabaseError, Location};

/// Enough for the readers of two cores; SQLite has one writer anyway.
const CONNECTIONS: u32 = 16;

/// How long somebody waits for a connection.
const PATIENCE: Duration = Duration::from_secs(30);

/// One number for the lock of all writers in a PostgreSQL database.
const WRITERS: &str = "SELECT pg_advisory_xact_lock(8602190417205)";

/// A database. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Database {
    pool: AnyPool,
    location: Location,
    writer: Arc<Mutex<()>>,
    /// The run of the owner that this is, once it was claimed.
    run: Arc<OnceLock<String>>,
}

/// A transaction of the one writer. It is rolled back when it is dropped.
pub struct Writer {
    transaction: Transaction<'static, Any>,
    _turn: OwnedMutexGuard<()>,
}

impl Database {
    /// Opens the database at `location`.
    ///
    /// # Errors
    /// When it cannot be reached, or its file not be made.
    pub async fn open(location: Location) -> Result<Self, DatabaseError> {
        install_default_drivers();
        let options = AnyPoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(PATIENCE);
        let pool = match &location {
            Location::Sqlite(file) => {
                let url = sqlite_url(file).map_err(|source| DatabaseError::File { path: file.clone(), source })?;
                let options = options.after_connect(|connection, _| {
                    Box::pin(async move {
                        for pragma in
                            ["PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", "PRAGMA busy_timeout = 5000"]
                        {
                            connection.execute(pragma).await?;
                        }
                        Ok(())
                    })
                });
                options.connect(&url).await?
            }
            Location::Postgres(url) => options.connect(url).await?,
        };
        Ok(Self { pool, location, writer: Arc::default(), run: Arc::default() })
    }

    /// For reading.
    #[must_use]
    pub fn pool(&self) -> &AnyPool {
        &self.pool
    }

    /// Begins to write, when all who write have ended: what is read in the transaction stays true until its end.
    ///
    /// # Errors
    /// When the database fails, or was claimed and belongs to another now.
    pub async fn write(&self) -> Result<Writer, sqlx::Error> {
        let turn = self.writer.clone().lock_owned().await;
        let mut transaction = self.pool.begin_with(if self.is_sqlite() { "BEGIN IMMEDIATE" } else { "BEGIN" }).await?;
        if !self.is_sqlite() {
            transaction.execute(WRITERS).await?;
        }
        if let Some(run) = self.run.get() {
            let own = sqlx::query("SELECT run FROM owner WHERE run = $1").bind(run.clone());
            if own.fetch_optional(&mut *transaction).await?.is_none() {
                return Err(sqlx::Error::Io(std::io::Error::other("another host has taken the database over")));
            }
        }
        Ok(Writer { transaction, _turn: turn })
    }

    /// From now on only the run `run` writes. Said once.
    pub(crate) fn belongs_to(&self, run: &str) {
        let _first = self.run.set(run.to_owned());
    }

    pub(crate) fn location(&self) -> &Location {
        &self.location
    }

    pub(crate) fn is_sqlite(&self) -> bool {
        matches!(self.location, Location::Sqlite(_))
    }
}

impl Writer {
    /// Makes what was written durable.
    ///
    /// # Errors
    /// When the database fails; then nothing of it was written.
    pub async fn commit(self) -> Result<(), sqlx::Error> {
        self.transaction.commit().await
    }
}

impl std::ops::Deref for Writer {
    type Target = sqlx::AnyConnection;

    fn deref(&self) -> &Self::Target {
        &self.transaction
    }
}

impl std::ops::DerefMut for Writer {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.transaction
    }
}

/// The URL of `file`, which is made first: SQLite gives its other files the same permissions.
fn sqlite_url(file: &Path) -> std::io::Result<String> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(file)?;
    let absolute = std::path::absolute(file)?;
    let url = url::Url::from_file_path(&absolute).map_err(|()| std::io::Error::other("this is no path of a URL"))?;
    Ok(format!("sqlite://{}", url.path()))
}
