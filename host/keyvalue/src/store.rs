//! The file behind all buckets: SQLite, one row for each key.

use std::{path::PathBuf, time::Duration};

use sqlx::{
    Row as _, Sqlite, SqlitePool, Transaction,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::{fs::OpenOptions, sync::OnceCell};

/// SQLite has one writer at a time; a few more connections let others read meanwhile.
const CONNECTIONS: u32 = 4;

/// Long enough for the writers before us, short enough to be told of a file that another program holds.
const BUSY: Duration = Duration::from_secs(5);

/// Keys of one page of a listing.
const PAGE: usize = 1000;

/// `id` is the cursor of a listing. Every row carries the tenant, and whether a local-only call wrote it.
const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS entry (
        id INTEGER PRIMARY KEY,
        tenant TEXT NOT NULL,
        component TEXT NOT NULL,
        key TEXT NOT NULL,
        value BLOB NOT NULL,
        local_only INTEGER NOT NULL,
        UNIQUE (tenant, component, key)
    ) STRICT;
    CREATE TABLE IF NOT EXISTS usage (
        tenant TEXT NOT NULL,
        component TEXT NOT NULL,
        bytes INTEGER NOT NULL,
        PRIMARY KEY (tenant, component)
    ) STRICT, WITHOUT ROWID;
";

/// The file, opened when it is first needed.
pub(crate) struct Store {
    path: PathBuf,
    pool: OnceCell<SqlitePool>,
}

/// Whose keys, and on whose behalf.
#[derive(Clone, Debug)]
pub(crate) struct Namespace {
    pub(crate) tenant: String,
    pub(crate) component: String,
    /// Whether the call is local-only: what it writes is labelled, and only it reads what is.
    pub(crate) local_only: bool,
    /// Bytes of keys and values that the namespace may hold.
    pub(crate) max_bytes: u64,
}

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("the key was written by a local-only call, and this call is not local-only")]
    Labelled,
    #[error("the store is full: it holds at most {0} bytes; raise the grant's `max-bytes` or delete keys")]
    Full(u64),
    #[error("the value of the key is not a number of 8 bytes")]
    NotANumber,
    #[error("the number does not fit into 64 bits")]
    Overflow,
    #[error("the key-value file cannot be used")]
    File(#[from] sqlx::Error),
}

struct Row {
    value: Vec<u8>,
    local_only: bool,
}

type Result<T> = std::result::Result<T, StoreError>;

impl Store {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, pool: OnceCell::new() }
    }

    async fn pool(&self) -> Result<&SqlitePool> {
        let open = async || {
            // SQLite gives its other files the permissions of this one: nobody else on this machine reads it.
            OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path).await.map_err(sqlx::Error::Io)?;
            let options = SqliteConnectOptions::new()
                .filename(&self.path)
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Full)
                .busy_timeout(BUSY);
            let pool = SqlitePoolOptions::new().max_connections(CONNECTIONS).connect_with(options).await?;
            sqlx::raw_sql(SCHEMA).execute(&pool).await?;
            Ok(pool)
        };
        self.pool.get_or_try_init(open).await
    }

    /// The value of `key`.
    pub(crate) async fn get(&self, of: &Namespace, key: &str) -> Result<Option<Vec<u8>>> {
        let row = sqlx::query("SELECT value, local_only FROM entry WHERE tenant = ? AND component = ? AND key = ?")
            .bind(&of.tenant)
            .bind(&of.component)
            .bind(key)
            .fetch_optional(self.pool().await?)
            .await?;
        match row {
            Some(row) if row.try_get("local_only")? && !of.local_only => Err(StoreError::Labelled),
            Some(row) => Ok(Some(row.try_get("value")?)),
            None => Ok(None),
        }
    }

    /// Sets keys, all or none.
    pub(crate) async fn set(&self, of: &Namespace, entries: &[(String, Vec<u8>)]) -> Result<()> {
        let mut transaction = self.begin().await?;
        for (key, value) in entries {
            put(&mut transaction, of, key, value).await?;
        }
        Ok(transaction.commit().await?)
    }

    /// Deletes keys, all or none; those that do not exist are passed over.
    pub(crate) async fn delete(&self, of: &Namespace, keys: &[String]) -> Result<()> {
        let mut transaction = self.begin().await?;
        for key in keys {
            if let Some(old) = find(&mut transaction, of, key).await? {
                grow(&mut transaction, of, -size(key, &old.value)).await?;
                sqlx::query("DELETE FROM entry WHERE tenant = ? AND component = ? AND key = ?")
                    .bind(&of.tenant)
                    .bind(&of.component)
                    .bind(key)
                    .execute(&mut *transaction)
                    .await?;
            }
        }
        Ok(transaction.commit().await?)
    }

    /// Adds `delta` to the number that `key` holds, 8 bytes with the lowest first, or to 0; the sum.
    pub(crate) async fn increment(&self, of: &Namespace, key: &str, delta: u64) -> Result<u64> {
        let mut transaction = self.begin().await?;
        let before = match find(&mut transaction, of, key).await? {
            Some(old) if old.local_only && !of.local_only => return Err(StoreError::Labelled),
            Some(old) => u64::from_le_bytes(old.value.try_into().map_err(|_| StoreError::NotANumber)?),
            None => 0,
        };
        let sum = before.checked_add(delta).ok_or(StoreError::Overflow)?;
        put(&mut transaction, of, key, &sum.to_le_bytes()).await?;
        transaction.commit().await?;
        Ok(sum)
    }

    /// A page of the keys that the call may read, after `cursor`, and the cursor of the next page.
    pub(crate) async fn keys(&self, of: &Namespace, cursor: u64) -> Result<(Vec<String>, Option<u64>)> {
        let rows = sqlx::query(
            "SELECT id, key FROM entry WHERE tenant = ? AND component = ? AND id > ? AND local_only <= ? \
             ORDER BY id LIMIT ?",
        )
        .bind(&of.tenant)
        .bind(&of.component)
        .bind(i64::try_from(cursor).unwrap_or(i64::MAX))
        .bind(of.local_only)
        .bind(PAGE as i64)
        .fetch_all(self.pool().await?)
        .await?;
        let next = match rows.last() {
            Some(last) if rows.len() == PAGE => u64::try_from(last.try_get::<i64, _>("id")?).ok(),
            _ => None,
        };
        let keys: std::result::Result<_, sqlx::Error> = rows.iter().map(|row| row.try_get("key")).collect();
        Ok((keys?, next))
    }

    /// Begins as a writer at once: a transaction that reads first and then finds another writer would fail.
    async fn begin(&self) -> Result<Transaction<'static, Sqlite>> {
        Ok(self.pool().await?.begin_with("BEGIN IMMEDIATE").await?)
    }
}

fn size(key: &str, value: &[u8]) -> i64 {
    i64::try_from(key.len().saturating_add(value.len())).unwrap_or(i64::MAX)
}

async fn find(transaction: &mut Transaction<'_, Sqlite>, of: &Namespace, key: &str) -> Result<Option<Row>> {
    let row = sqlx::query("SELECT value, local_only FROM entry WHERE tenant = ? AND component = ? AND key = ?")
        .bind(&of.tenant)
        .bind(&of.component)
        .bind(key)
        .fetch_optional(&mut **transaction)
        .await?;
    row.map(|row| Ok(Row { value: row.try_get("value")?, local_only: row.try_get("local_only")? })).transpose()
}

async fn put(transaction: &mut Transaction<'_, Sqlite>, of: &Namespace, key: &str, value: &[u8]) -> Result<()> {
    let old = find(transaction, of, key).await?.map_or(0, |old| size(key, &old.value));
    grow(transaction, of, size(key, value).saturating_sub(old)).await?;
    sqlx::query(
        "INSERT INTO entry (tenant, component, key, value, local_only) VALUES (?, ?, ?, ?, ?) \
         ON CONFLICT DO UPDATE SET value = excluded.value, local_only = excluded.local_only",
    )
    .bind(&of.tenant)
    .bind(&of.component)
    .bind(key)
    .bind(value)
    .bind(of.local_only)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// Counts `bytes` more, or fewer, in the same transaction that adds or removes them. Shrinking is always allowed, also
/// where the grant has become smaller than what is there.
async fn grow(transaction: &mut Transaction<'_, Sqlite>, of: &Namespace, bytes: i64) -> Result<()> {
    let held: i64 = sqlx::query_scalar(
        "INSERT INTO usage (tenant, component, bytes) VALUES (?, ?, ?) \
         ON CONFLICT DO UPDATE SET bytes = bytes + excluded.bytes RETURNING bytes",
    )
    .bind(&of.tenant)
    .bind(&of.component)
    .bind(bytes)
    .fetch_one(&mut **transaction)
    .await?;
    if bytes > 0 && u64::try_from(held).unwrap_or(0) > of.max_bytes {
        return Err(StoreError::Full(of.max_bytes));
    }
    Ok(())
}
