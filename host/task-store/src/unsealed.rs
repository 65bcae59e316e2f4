//! What an earlier version stored as clients said it, and what takes its place.

use sqlx::Row as _;
use uuid::Uuid;

use crate::{Store, StoreError, change::Change, files::INPUT, row::signed};

/// Everything of a task that may have the secret of its callback.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unsealed {
    /// The callback, as it writes itself.
    pub callback: Option<String>,
    /// What the task works on, if it is kept.
    pub input: Option<Vec<u8>>,
    /// What is to be delivered, by id.
    pub deliveries: Vec<(Uuid, String)>,
}

impl Store {
    /// At most `limit` tasks whose secrets are not sealed yet.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn unsealed(&self, limit: usize) -> Result<Vec<Uuid>, StoreError> {
        let select = sqlx::query("SELECT task FROM task_unsealed ORDER BY task LIMIT $1").bind(signed(limit as u64));
        let rows = select.fetch_all(self.0.database.pool()).await?;
        rows.iter().map(|row| Ok(uuid(row.try_get(0)?)?)).collect()
    }

    /// What of `task` may have a secret.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn unsealed_of(&self, task: Uuid) -> Result<Unsealed, StoreError> {
        let select = sqlx::query("SELECT callback FROM task WHERE id = $1").bind(task.to_string());
        let row = select.fetch_optional(self.0.database.pool()).await?;
        let callback = row.map(|row| row.try_get(0)).transpose()?.flatten();
        let select = sqlx::query("SELECT id, body FROM task_delivery WHERE task = $1").bind(task.to_string());
        let rows = select.fetch_all(self.0.database.pool()).await?;
        let deliveries = rows.iter().map(|row| Ok((uuid(row.try_get(0)?)?, row.try_get(1)?)));
        let deliveries = deliveries.collect::<Result<_, sqlx::Error>>()?;
        Ok(Unsealed { callback, input: self.input(task).await?, deliveries })
    }

    /// Puts `sealed` in the place of what `task` had.
    ///
    /// # Errors
    /// When it could not be stored.
    pub async fn seal(&self, task: Uuid, sealed: Unsealed) -> Result<(), StoreError> {
        let Unsealed { callback, input, deliveries } = sealed;
        let input = match input {
            Some(input) => Some(self.0.files.put(task, INPUT, input).await?),
            None => None,
        };
        let change = Change::Seal { id: task, callback, input, deliveries };
        self.0.writer.change(change).await.map(|_| ())
    }

    /// Leaves nothing of what was replaced or deleted in the file of the database. PostgreSQL does that by itself in time.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn scrub(&self) -> Result<(), StoreError> {
        Ok(self.0.database.scrub().await?)
    }
}

fn uuid(text: String) -> Result<Uuid, sqlx::Error> {
    text.parse().map_err(|error: uuid::Error| sqlx::Error::Decode(error.into()))
}
