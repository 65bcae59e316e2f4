//! What is known about the bytes: SQLite beside them, or PostgreSQL, through the same statements.
//!
//! A row is written after what it speaks of is durable on disk, and removed before that is. So a crash leaves bytes
//! that no row names, which are never served and are collected, and never a row without its bytes.

use std::{path::Path, time::Duration};

use sqlx::{
    Any, AnyPool, AssertSqlSafe, Executor as _, Transaction,
    any::{AnyPoolOptions, install_default_drivers},
};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::{DatabaseSettings, Failure};

/// Enough for the readers of two cores; SQLite has one writer anyway.
const CONNECTIONS: u32 = 16;

/// How long a request waits for a connection.
const PATIENCE: Duration = Duration::from_secs(30);

/// `TEXT` is compared byte by byte in both: pages of a list must come in one order.
const SCHEMA: &[&str] = &[
    // One row a content, whatever it is used as.
    "CREATE TABLE IF NOT EXISTS blob (
        digest TEXT NOT NULL PRIMARY KEY,
        size BIGINT NOT NULL
    )",
    // Who may read a blob: those who may read a repository that it is in. `touched` is when a client last pushed it, or
    // asked for it in order to push what names it.
    "CREATE TABLE IF NOT EXISTS repository_blob (
        repository TEXT NOT NULL,
        digest TEXT NOT NULL,
        namespace TEXT NOT NULL,
        touched BIGINT NOT NULL,
        PRIMARY KEY (repository, digest)
    )",
    "CREATE INDEX IF NOT EXISTS repository_blob_digest ON repository_blob (digest)",
    "CREATE TABLE IF NOT EXISTS manifest (
        repository TEXT NOT NULL,
        digest TEXT NOT NULL,
        namespace TEXT NOT NULL,
        media_type TEXT NOT NULL,
        artifact_type TEXT NOT NULL,
        subject TEXT NOT NULL,
        size BIGINT NOT NULL,
        annotations TEXT NOT NULL,
        pushed BIGINT NOT NULL,
        downloads BIGINT NOT NULL,
        PRIMARY KEY (repository, digest)
    )",
    "CREATE INDEX IF NOT EXISTS manifest_subject ON manifest (repository, subject)",
    "CREATE INDEX IF NOT EXISTS manifest_digest ON manifest (digest)",
    // What a manifest names, be it a blob or a manifest.
    "CREATE TABLE IF NOT EXISTS reference (
        repository TEXT NOT NULL,
        manifest TEXT NOT NULL,
        digest TEXT NOT NULL,
        PRIMARY KEY (repository, manifest, digest)
    )",
    "CREATE INDEX IF NOT EXISTS reference_digest ON reference (repository, digest)",
    "CREATE TABLE IF NOT EXISTS tag (
        repository TEXT NOT NULL,
        tag TEXT NOT NULL,
        digest TEXT NOT NULL,
        updated BIGINT NOT NULL,
        PRIMARY KEY (repository, tag)
    )",
    "CREATE INDEX IF NOT EXISTS tag_digest ON tag (repository, digest)",
    // A released version outlives its tag: deleting one does not make room for another under its name.
    "CREATE TABLE IF NOT EXISTS version (
        repository TEXT NOT NULL,
        tag TEXT NOT NULL,
        digest TEXT NOT NULL,
        released BIGINT NOT NULL,
        yanked BIGINT NOT NULL,
        yank_reason TEXT NOT NULL,
        PRIMARY KEY (repository, tag)
    )",
    "CREATE TABLE IF NOT EXISTS namespace (
        namespace TEXT NOT NULL PRIMARY KEY,
        bytes BIGINT NOT NULL,
        quota BIGINT NOT NULL
    )",
    "CREATE TABLE IF NOT EXISTS upload (
        id TEXT NOT NULL PRIMARY KEY,
        repository TEXT NOT NULL,
        namespace TEXT NOT NULL,
        begun BIGINT NOT NULL
    )",
    // `secret` is the SHA-256 of a secret with 256 random bits, which no guessing reverses.
    "CREATE TABLE IF NOT EXISTS token (
        id TEXT NOT NULL PRIMARY KEY,
        name TEXT NOT NULL,
        secret TEXT NOT NULL UNIQUE,
        scopes TEXT NOT NULL,
        created BIGINT NOT NULL,
        expires BIGINT NOT NULL
    )",
    // The log's own index: what is lost of it is made again from the log.
    "CREATE TABLE IF NOT EXISTS log_entry (
        log_index BIGINT NOT NULL PRIMARY KEY,
        leaf TEXT NOT NULL UNIQUE,
        integrated BIGINT NOT NULL,
        artifact TEXT NOT NULL
    )",
    "CREATE INDEX IF NOT EXISTS log_entry_artifact ON log_entry (artifact)",
];

/// One number for the lock of all registries' writers in PostgreSQL.
const WRITERS: &str = "SELECT pg_advisory_xact_lock(8602190417205)";

/// The database.
#[derive(Debug)]
pub(crate) struct Database {
    pool: AnyPool,
    begin: &'static str,
    lock: Option<&'static str>,
    writer: std::sync::Arc<Mutex<()>>,
}

/// A transaction of the one writer. It is rolled back when it is dropped.
pub(crate) struct Writer {
    transaction: Transaction<'static, Any>,
    _turn: OwnedMutexGuard<()>,
}

impl Database {
    /// Opens the database, and makes its tables if they are not there.
    pub(crate) async fn open(settings: &DatabaseSettings, data: &Path) -> Result<Self, Failure> {
        install_default_drivers();
        let options = AnyPoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(PATIENCE);
        let (pool, sqlite) = match settings {
            DatabaseSettings::Sqlite => {
                let file = data.join("registry.db");
                let refused = |source| Failure::Disk { path: file.clone(), source };
                private(&file).map_err(refused)?;
                let absolute = std::path::absolute(&file).map_err(refused)?;
                let url = url::Url::from_file_path(&absolute)
                    .map_err(|()| refused(std::io::Error::other("this is no path of a URL")))?;
                let url = format!("sqlite://{}", url.path());
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
                (options.connect(&url).await?, true)
            }
            DatabaseSettings::Postgres(url) => (options.connect(url).await?, false),
        };
        let database = Self {
            pool,
            begin: if sqlite { "BEGIN IMMEDIATE" } else { "BEGIN" },
            lock: (!sqlite).then_some(WRITERS),
            writer: std::sync::Arc::default(),
        };
        let mut writer = database.write().await?;
        for statement in SCHEMA {
            let statement =
                if sqlite { (*statement).to_owned() } else { statement.replace(" TEXT ", " TEXT COLLATE \"C\" ") };
            writer.execute(AssertSqlSafe(statement)).await?;
        }
        writer.commit().await?;
        Ok(database)
    }

    /// For reading.
    pub(crate) fn pool(&self) -> &AnyPool {
        &self.pool
    }

    /// Begins to write, when all who write have ended: what is read in the transaction stays true until its end.
    pub(crate) async fn write(&self) -> Result<Writer, sqlx::Error> {
        let turn = self.writer.clone().lock_owned().await;
        let mut transaction = self.pool.begin_with(self.begin).await?;
        if let Some(lock) = self.lock {
            transaction.execute(lock).await?;
        }
        Ok(Writer { transaction, _turn: turn })
    }
}

impl Writer {
    /// Makes what was written durable.
    pub(crate) async fn commit(self) -> Result<(), sqlx::Error> {
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

/// Makes `file`, for this user alone; SQLite gives its other files the same permissions.
fn private(file: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(file).map(drop)
}
