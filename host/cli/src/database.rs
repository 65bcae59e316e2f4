//! The database of a host: one for all parts that keep rows.

use anyhow::Context as _;
use witan_database::{Database, Location};
use witan_system::System;

/// Opens the database that `system` names, or the one in its state folder.
pub(crate) async fn open(system: &System) -> anyhow::Result<Database> {
    let (location, what) = match &system.host.database {
        Some(url) => (Location::Postgres(url.clone()), "the database that `host.database` names".to_owned()),
        None => {
            let file = system.host.state.join("witan.db");
            let what = format!("the database `{}`", file.display());
            (Location::Sqlite(file), what)
        }
    };
    Database::open(location).await.with_context(|| format!("cannot open {what}"))
}
