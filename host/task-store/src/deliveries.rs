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

    /// The tenants with something to be delivered, each with when its next is due in milliseconds since the Unix epoch.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn delivering(&self) -> Result<Vec<(String, u64)>, StoreError> {
        // A step for each tenant, however much each has.
        let select = "WITH RECURSIVE whose (tenant) AS (SELECT MIN(tenant) FROM task_delivery UNION ALL SELECT (SELECT \
                      MIN(tenant) FROM task_delivery WHERE tenant > whose.tenant) FROM whose WHERE whose.tenant IS NOT NULL) \
                      SELECT tenant, (SELECT MIN(due_ms) FROM task_delivery WHERE task_delivery.tenant = whose.tenant) FROM \
                      whose WHERE tenant IS NOT NULL";
        let rows = sqlx::query(select).fetch_all(self.0.database.pool()).await?;
        let due = |row: &sqlx::any::AnyRow| {
            // One whose last was delivered between the two steps has none any more.
            let due: Option<i64> = row.try_get(1)?;
            due.map(|due| Ok::<_, sqlx::Error>((row.try_get(0)?, unsigned(due)))).transpose()
        };
        Ok(rows.iter().filter_map(|row| due(row).transpose()).collect::<Result<_, _>>()?)
    }

    /// Whether `tenant` has `number` deliveries, or more.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn delivers(&self, tenant: &str, number: usize) -> Result<bool, StoreError> {
        let Some(others) = number.checked_sub(1) else { return Ok(true) };
        let select = "SELECT due_ms FROM task_delivery WHERE tenant = $1 ORDER BY due_ms LIMIT 1 OFFSET $2";
        let select = sqlx::query(select).bind(tenant.to_owned()).bind(signed(others as u64));
        Ok(select.fetch_optional(self.0.database.pool()).await?.is_some())
    }

    /// At most `limit` deliveries of `tenant`, the next one first, due or not.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn next_deliveries(&self, tenant: &str, limit: usize) -> Result<Vec<Delivery>, StoreError> {
        let select = "SELECT id, tenant, task, body, attempts, created_ms, due_ms FROM task_delivery WHERE tenant = $1 ORDER BY \
                      due_ms LIMIT $2";
        let select = sqlx::query(select).bind(tenant.to_owned()).bind(signed(limit as u64));
        let rows = select.fetch_all(self.0.database.pool()).await?;
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
