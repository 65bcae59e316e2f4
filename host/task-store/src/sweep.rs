//! Ended tasks are kept for a time and up to a number; what is beyond is deleted a little at a time, between the changes of
//! tasks that run.

use std::time::Duration;

use sqlx::Row as _;
use uuid::Uuid;

use crate::{
    Store, StoreError,
    change::Change,
    files::{INPUT, RESULT},
    row::signed,
};

/// Tasks that are deleted in one transaction: others wait for it.
const TOGETHER: i64 = 100;
/// A file whose row is not there may be one whose row is about to be written; after this time it is not.
const ORPHANED: Duration = Duration::from_secs(3_600);
/// Files that are looked at in one go.
const FILES: usize = 1_000;

/// How long ended tasks are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// From their end.
    pub time: Duration,
    /// Of each tenant, at most.
    pub number: u64,
}

impl Store {
    /// Deletes what is kept no longer at `now_ms`, and says how many tasks.
    ///
    /// # Errors
    /// When the database fails; what was deleted stays so.
    pub async fn sweep(&self, retention: &Retention, now_ms: u64) -> Result<u64, StoreError> {
        let time = u64::try_from(retention.time.as_millis()).unwrap_or(u64::MAX);
        let old = signed(now_ms.saturating_sub(time));
        let (mut deleted, mut tenant) = (0, String::new());
        while let Some(next) = self.tenant_after(&tenant).await? {
            let many = self.beyond(&next, retention.number).await?.unwrap_or(i64::MIN);
            deleted += self.forget(&next, old.max(many)).await?;
            tenant = next;
        }
        self.0.writer.change(Change::ForgetKeys { before_ms: now_ms }).await?;
        self.orphans().await?;
        Ok(deleted)
    }

    async fn tenant_after(&self, tenant: &str) -> Result<Option<String>, StoreError> {
        let next = sqlx::query("SELECT MIN(tenant) FROM task WHERE tenant > $1").bind(tenant.to_owned());
        Ok(next.fetch_one(self.0.database.pool()).await?.try_get(0)?)
    }

    /// When the first ended that is beyond the number of those that are kept.
    async fn beyond(&self, tenant: &str, number: u64) -> Result<Option<i64>, StoreError> {
        let select = "SELECT finished_ms FROM task WHERE tenant = $1 AND finished_ms IS NOT NULL ORDER BY finished_ms DESC \
                      LIMIT 1 OFFSET $2";
        let select = sqlx::query(select).bind(tenant.to_owned()).bind(signed(number));
        let row = select.fetch_optional(self.0.database.pool()).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }

    /// Deletes the tasks of `tenant` that had ended by `until`.
    async fn forget(&self, tenant: &str, until: i64) -> Result<u64, StoreError> {
        let select = "SELECT id FROM task WHERE tenant = $1 AND finished_ms <= $2 ORDER BY finished_ms LIMIT $3";
        let mut deleted = 0;
        loop {
            let some = sqlx::query(select).bind(tenant.to_owned()).bind(until).bind(TOGETHER);
            let rows = some.fetch_all(self.0.database.pool()).await?;
            let ids: Vec<Uuid> = rows.iter().filter_map(|row| row.try_get::<String, _>(0).ok()?.parse().ok()).collect();
            if ids.is_empty() {
                return Ok(deleted);
            }
            deleted += ids.len() as u64;
            self.0.writer.change(Change::Forget(ids.clone())).await?;
            for id in ids {
                self.0.files.remove(id, INPUT);
                self.0.files.remove(id, RESULT);
            }
        }
    }

    /// Removes files that no row belongs to.
    async fn orphans(&self) -> Result<(), StoreError> {
        let old = match self.0.files.older_than(ORPHANED, FILES) {
            Ok(old) => old,
            Err(error) => {
                tracing::warn!(%error, "cannot list the files of tasks");
                return Ok(());
            }
        };
        for (id, kind) in old {
            let select = sqlx::query("SELECT kind FROM task_body WHERE task = $1 AND kind = $2 AND bytes IS NULL");
            let row = select.bind(id.to_string()).bind(kind).fetch_optional(self.0.database.pool()).await?;
            if row.is_none() {
                self.0.files.remove(id, kind);
            }
        }
        Ok(())
    }
}
