//! What is asked of stored tasks.

use sqlx::{AssertSqlSafe, Row as _};
use uuid::Uuid;

use crate::{
    KnownKey, Row, State, Store, StoreError, Stored,
    change::known_key,
    files::{INPUT, RESULT},
    row::{COLUMNS, signed},
};

/// Which tasks of a tenant are asked for. All that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Those that stand here.
    pub state: Option<State>,
    /// Those with this intent.
    pub intent: Option<String>,
    /// Those that were accepted at this time or after, in milliseconds since the Unix epoch.
    pub created_from_ms: Option<u64>,
    /// Those that were accepted before this time.
    pub created_before_ms: Option<u64>,
    /// Those with this key in their metadata, and this value where there is one.
    pub metadata: Option<(String, Option<String>)>,
}

/// A page of tasks, the newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The tasks.
    pub rows: Vec<Row>,
    /// Whether there are more after the last.
    pub more: bool,
}

impl Store {
    /// The task `id` of `tenant`, with what it came to.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn get(&self, tenant: &str, id: Uuid) -> Result<Option<Stored>, StoreError> {
        let select = format!("SELECT {COLUMNS} FROM task WHERE id = $1 AND tenant = $2");
        let select = sqlx::query(AssertSqlSafe(select)).bind(id.to_string()).bind(tenant.to_owned());
        let Some(row) = select.fetch_optional(self.0.database.pool()).await? else { return Ok(None) };
        let row = Row::read(&row)?;
        let result = if row.state.is_final() { self.body(id, RESULT).await? } else { None };
        Ok(Some(Stored { row, result }))
    }

    /// What the task `id` works on; none once it is not needed any more.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn input(&self, id: Uuid) -> Result<Option<Vec<u8>>, StoreError> {
        self.body(id, INPUT).await
    }

    async fn body(&self, id: Uuid, kind: i64) -> Result<Option<Vec<u8>>, StoreError> {
        let select = sqlx::query("SELECT bytes FROM task_body WHERE task = $1 AND kind = $2");
        let row = select.bind(id.to_string()).bind(kind).fetch_optional(self.0.database.pool()).await?;
        let Some(row) = row else { return Ok(None) };
        match row.try_get::<Option<Vec<u8>>, _>(0)? {
            Some(bytes) => Ok(Some(bytes)),
            None => self.0.files.get(id, kind).await.map(Some),
        }
    }

    /// At most `limit` tasks of `tenant` that `filter` takes, the newest first; with `after`, of those older than it.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn list(
        &self,
        tenant: &str,
        filter: &Filter,
        limit: usize,
        after: Option<Uuid>,
    ) -> Result<Page, StoreError> {
        let mut values = vec![tenant.to_owned()];
        let mut bind = |value: String| {
            values.push(value);
            format!("${}", values.len())
        };
        // The index of the metadata leads where there is one; its own columns are compared, so that it is walked in order.
        let metadata = filter.metadata.is_some();
        let (from, whose, id) = match metadata {
            true => ("task_metadata JOIN task ON task.id = task_metadata.task", "task_metadata", "task_metadata.task"),
            false => ("task", "task", "task.id"),
        };
        let mut conditions = format!("{whose}.tenant = $1");
        if let Some((name, value)) = &filter.metadata {
            conditions += &format!(" AND task_metadata.name = {}", bind(name.clone()));
            if let Some(value) = value {
                conditions += &format!(" AND task_metadata.value = {}", bind(value.clone()));
            }
        }
        if let Some(state) = filter.state {
            conditions += &format!(" AND task.state = {}", bind(state.name().to_owned()));
        }
        if let Some(intent) = &filter.intent {
            conditions += &format!(" AND task.intent = {}", bind(intent.clone()));
        }
        // Ids are in the order of time, so that their index knows it too.
        if let Some(from_ms) = filter.created_from_ms {
            conditions += &format!(" AND {id} >= {}", bind(first_of(from_ms).to_string()));
        }
        let before = [filter.created_before_ms.map(first_of), after].into_iter().flatten().min();
        if let Some(before) = before {
            conditions += &format!(" AND {id} < {}", bind(before.to_string()));
        }
        let most = signed(limit.saturating_add(1) as u64);
        let select = format!("SELECT {COLUMNS} FROM {from} WHERE {conditions} ORDER BY {id} DESC LIMIT {most}");
        let mut select = sqlx::query(AssertSqlSafe(select));
        for value in values {
            select = select.bind(value);
        }
        let rows = select.fetch_all(self.0.database.pool()).await?;
        let more = rows.len() > limit;
        let rows = rows.iter().take(limit).map(Row::read).collect::<Result<_, _>>()?;
        Ok(Page { rows, more })
    }

    /// The tasks of all tenants that have not ended, the oldest first: what a host that starts goes on with.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn unfinished(&self) -> Result<Vec<Row>, StoreError> {
        let select = format!("SELECT {COLUMNS} FROM task WHERE finished_ms IS NULL ORDER BY id");
        let rows = sqlx::query(AssertSqlSafe(select)).fetch_all(self.0.database.pool()).await?;
        rows.iter().map(Row::read).collect()
    }

    /// Whose `key` is, if it is known and has not run out by `now_ms`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn key(&self, key: &str, now_ms: u64) -> Result<Option<KnownKey>, StoreError> {
        let select = sqlx::query("SELECT fingerprint, task FROM task_key WHERE key = $1 AND expires_ms > $2");
        let row = select.bind(key.to_owned()).bind(signed(now_ms)).fetch_optional(self.0.database.pool()).await?;
        Ok(row.map(|row| known_key(&row)).transpose()?)
    }
}

/// The least id that is made at a time, in milliseconds since the Unix epoch.
fn first_of(ms: u64) -> Uuid {
    Uuid::from_u128(u128::from(ms & 0xFFFF_FFFF_FFFF) << 80)
}
