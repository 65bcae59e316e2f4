//! The database of a host: one for all parts that keep rows.

use std::{fs, io, time::Duration};

use anyhow::Context as _;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use witan_database::{Claim, Claimant, Database, DatabaseError, Location};
use witan_system::System;
use witan_tasks::Tasks;

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

/// The file of the data folder that says which data folder it is.
const PLACE: &str = "host-id";

/// Takes `database` for the host that has the data folder of `system`, before it changes anything there.
pub(crate) async fn claim(system: &System, database: &Database) -> anyhow::Result<Claim> {
    let state = &system.host.state;
    let file = state.join(PLACE);
    let place = match fs::read_to_string(&file) {
        Ok(place) => place,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let place = Uuid::new_v4().to_string();
            let written = witan_durable::replace(&file, place.as_bytes(), witan_durable::OWN);
            written.with_context(|| format!("cannot write `{}`", file.display()))?;
            place
        }
        Err(error) => return Err(error).with_context(|| format!("cannot read `{}`", file.display())),
    };
    let machine = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let (machine, process) = (machine.trim(), std::process::id());
    let who = format!("process {process} on the machine `{machine}`, with the state folder `{}`", state.display());
    let claimant = Claimant { run: Uuid::new_v4().to_string(), place, who };
    database.claim(claimant).await.context("the database cannot be used")
}

/// Holds the database of a host that serves, and ends what runs there when it may be another's.
pub(crate) struct Keeper {
    lost: CancellationToken,
    done: CancellationToken,
    keeping: JoinHandle<Result<(), DatabaseError>>,
}

impl Keeper {
    pub(crate) fn start(claim: Claim, tasks: Tasks) -> Self {
        let (lost, done) = (CancellationToken::new(), CancellationToken::new());
        let keeping = tokio::spawn(keep(claim, tasks, lost.clone(), done.clone()));
        Self { lost, done, keeping }
    }

    /// Resolves when the database may be another's, and nothing runs here any more.
    pub(crate) async fn lost(&self) {
        self.lost.cancelled().await;
    }

    /// Gives the database up, now that nothing uses it any more, or says how it was lost.
    pub(crate) async fn finish(self) -> anyhow::Result<()> {
        self.done.cancel();
        self.keeping.await?.context("the host has lost its database")
    }
}

async fn keep(
    mut claim: Claim,
    tasks: Tasks,
    lost: CancellationToken,
    done: CancellationToken,
) -> Result<(), DatabaseError> {
    let error = tokio::select! {
        error = claim.lost() => error,
        () = done.cancelled() => {
            if let Err(error) = claim.release().await {
                tracing::warn!(error = &error as &dyn std::error::Error, "the database was not given up in order");
            }
            return Ok(());
        }
    };
    tracing::error!(%error, "what runs is left to the next start");
    tasks.drain(Duration::ZERO).await;
    lost.cancel();
    Err(error)
}
