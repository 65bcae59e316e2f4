//! Pages of lists.

use sqlx::any::AnyRow;
use uuid::Uuid;
use witan_database::Database;

use crate::{IdentityError, TenantName};

/// Which page of a list, the newest first.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    /// How many, at most.
    pub limit: usize,
    /// Those after this one, the last of the page before.
    pub after: Option<Uuid>,
}

impl Page {
    /// The first page of as many as a person reads.
    #[must_use]
    pub fn first(limit: usize) -> Self {
        Self { limit, after: None }
    }

    /// This page of what `list` lists of `tenant`, or of every tenant; and whether there are more.
    pub(crate) async fn read<T>(
        self,
        list: &List<'_>,
        tenant: Option<&TenantName>,
        database: &Database,
        read: impl Fn(&AnyRow) -> Result<T, IdentityError>,
    ) -> Result<(Vec<T>, bool), IdentityError> {
        let List { select, table, only } = list;
        let only_where = only.map_or_else(String::new, |(expression, _)| format!(" AND {expression} = $4"));
        let statement = format!(
            "{select} WHERE ($1 = '' OR {table}.tenant_id = $1) AND {table}.id < $2{only_where} ORDER BY {table}.id DESC \
             LIMIT $3"
        );
        let query = sqlx::query(sqlx::AssertSqlSafe(statement))
            .bind(tenant.map_or("", TenantName::as_str))
            // Ids are made in the order of time, and begin with a digit of sixteen.
            .bind(self.after.map_or_else(|| "g".to_owned(), |id| id.to_string()))
            // One more says whether there are more.
            .bind(i64::try_from(self.limit.saturating_add(1)).unwrap_or(i64::MAX));
        let query = match only {
            Some((_, value)) => query.bind(*value),
            None => query,
        };
        let mut rows = query.fetch_all(database.pool()).await?;
        let more = rows.len() > self.limit;
        rows.truncate(self.limit);
        Ok((rows.iter().map(read).collect::<Result<_, _>>()?, more))
    }
}

/// What is listed, by the ids of `table`.
pub(crate) struct List<'a> {
    /// The statement up to its conditions.
    pub(crate) select: &'a str,
    /// The table.
    pub(crate) table: &'static str,
    /// Those alone of which an expression has this value.
    pub(crate) only: Option<(&'static str, &'a str)>,
}
