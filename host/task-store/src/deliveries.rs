//! What is to be sent until it has arrived.

use sqlx::Row as _;
use uuid::Uuid;

use crate::{
    Delivery, Store, StoreError,
    change::Change,
    row::{signed, unsigned},
};

impl Store {
    /// Stores what is to be delivered.
    ///
    /// # Errors
    /// When it could not be stored.
    pub async fn deliver(&self, deliveries: Vec<Delivery>) -> Result<(), StoreError> {
        self.0.writer.change(Change::Deliver(deliveries)).await.map(|_| ())
    }

    /// Says that a delivery has arrived, or is given up.
    ///
    /// # Errors
    /// When it could not be stored.
    pub async fn delivered(&self, id: Uuid) -> Result<(), StoreError> {
        self.0.writer.change(Change::Delivered { id }).await.map(|_| ())
    }

    /// Says when a delivery is to be tried again.
    ///
    /// # Errors
    /// When it could not be stored.
    pub async fn postpone(&self, id: Uuid, attempts: u32, due_ms: u64) -> Result<(), StoreError> {
        self.0.writer.change(Change::Postpone { id, attempts, due_ms }).await.map(|_| ())
    }

    /// At most `limit` deliveries, the next one first, due or not.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn next_deliveries(&self, limit: usize) -> Result<Vec<Delivery>, StoreError> {
        let select =
            "SELECT id, tenant, task, body, attempts, created_ms, due_ms FROM task_delivery ORDER BY due_ms LIMIT $1";
        let rows = sqlx::query(select).bind(signed(limit as u64)).fetch_all(self.0.database.pool()).await?;
        let uuid = |text: String| text.parse::<Uuid>().map_err(|error| sqlx::Error::Decode(error.into()));
        let delivery = |row: &sqlx::any::AnyRow| {
            Ok::<_, sqlx::Error>(Delivery {
                id: uuid(row.try_get(0)?)?,
                tenant: row.try_get(1)?,
                task: uuid(row.try_get(2)?)?,
                body: row.try_get(3)?,
                attempts: u32::try_from(row.try_get::<i64, _>(4)?).unwrap_or(u32::MAX),
                created_ms: unsigned(row.try_get(5)?),
                due_ms: unsigned(row.try_get(6)?),
            })
        };
        Ok(rows.iter().map(delivery).collect::<Result<_, _>>()?)
    }
}
