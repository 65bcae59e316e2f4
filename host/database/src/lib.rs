//! SQLite in a file, or PostgreSQL, through the same statements.
//!
//! Start at [`Database::open`], then [`Database::migrate`]: each part of a program that keeps rows brings its own tables, and
//! takes them from one version to the next by itself. What is committed is durable.
//!
//! It knows no table but its own, which says what version each part's tables have.

mod backup;
mod claim;
mod database;
mod migrate;

#[cfg(test)]
mod tests;

use std::{path::PathBuf, time::Duration};

pub use claim::{Claim, Claimant};
pub use database::{Database, Writer};

/// Where rows are kept.
#[derive(Clone, PartialEq, Eq)]
pub enum Location {
    /// A file of SQLite, which is made if it is not there, for this user alone.
    Sqlite(PathBuf),
    /// A PostgreSQL database, by its URL.
    Postgres(String),
}

/// A URL of PostgreSQL holds a password.
impl std::fmt::Debug for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sqlite(file) => f.debug_tuple("Sqlite").field(file).finish(),
            Self::Postgres(_) => f.write_str("Postgres(…)"),
        }
    }
}

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The database itself.
    #[error("the database failed")]
    Sql(#[from] sqlx::Error),
    /// Its file.
    #[error("the file `{path}` of the database cannot be used")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A newer program has taken the tables further.
    #[error(
        "the tables of `{part}` have version {found}, and this program knows them up to {known}: run the newer program that \
         wrote them, or restore a backup from before"
    )]
    Newer {
        /// Whose tables.
        part: &'static str,
        /// Their version.
        found: i64,
        /// The version that this program takes them to.
        known: i64,
    },
    /// Another host has it.
    #[error(
        "a host that runs has the database already: {0}. One host serves a database: stop that one, or give this one a \
         database of its own in `host.database`"
    )]
    Taken(String),
    /// Another host has taken it from this one.
    #[error("another host has taken the database over: {0}. This one ends, and what it ran is left to that one")]
    TakenOver(String),
    /// The connection that holds it was lost.
    #[error(
        "the connection by which this host holds its database was lost, and could not be made again within {} s: another \
         host may take it over, so this one ends; start it again when the database is back", .0.as_secs()
    )]
    Lost(Duration),
    /// There is no backup of PostgreSQL from here.
    #[error(
        "a PostgreSQL database is backed up by its own tools: `pg_dump --format=custom` writes all of it at one moment"
    )]
    NotAFile,
    /// A backup never writes over anything.
    #[error("`{0}` exists; name a file that does not")]
    Exists(PathBuf),
}
