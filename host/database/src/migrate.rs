//! Takes the tables of each part from the version they have to the one that the program knows.

use sqlx::{AssertSqlSafe, Executor as _, Row as _};

use crate::{Database, DatabaseError};

const VERSIONS: &str = "CREATE TABLE IF NOT EXISTS part (name TEXT NOT NULL PRIMARY KEY, version BIGINT NOT NULL)";

impl Database {
    /// Takes the tables of `part` forwards: each of `steps` is what leads from one version to the next, and one that was
    /// released is never changed. All of it happens or nothing does.
    ///
    /// Statements are written for SQLite; in PostgreSQL ` TEXT ` is compared byte by byte too, so that pages of a list
    /// come in one order.
    ///
    /// # Errors
    /// When a newer program has written the tables, or the database fails.
    pub async fn migrate(&self, part: &'static str, steps: &[&[&'static str]]) -> Result<(), DatabaseError> {
        let mut writer = self.write().await?;
        writer.execute(self.dialect(VERSIONS)).await?;
        let row =
            sqlx::query("SELECT version FROM part WHERE name = $1").bind(part).fetch_optional(&mut *writer).await?;
        let found: i64 = row.map_or(Ok(0), |row| row.try_get("version"))?;
        let known = i64::try_from(steps.len()).unwrap_or(i64::MAX);
        if found > known {
            return Err(DatabaseError::Newer { part, found, known });
        }
        for step in steps.iter().skip(usize::try_from(found).unwrap_or(0)) {
            for statement in *step {
                writer.execute(self.dialect(statement)).await?;
            }
        }
        sqlx::query("INSERT INTO part (name, version) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET version = $2")
            .bind(part)
            .bind(known)
            .execute(&mut *writer)
            .await?;
        Ok(writer.commit().await?)
    }

    fn dialect(&self, statement: &str) -> AssertSqlSafe<String> {
        AssertSqlSafe(if self.is_sqlite() {
            statement.to_owned()
        } else {
            statement.replace(" TEXT ", " TEXT COLLATE \"C\" ").replace(" BLOB ", " BYTEA ")
        })
    }
}
