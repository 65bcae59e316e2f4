//! Which host a PostgreSQL database belongs to: one at a time, for what is in it is run by whoever has it.
//!
//! A file of SQLite lies in a folder that one process has. A PostgreSQL database can be reached from anywhere, so a host holds
//! a lock of the server by a connection that it keeps for this alone. The server gives the lock up when it takes the
//! connection for dead, which may be before the host knows. So the row of the owner is what counts: each transaction that
//! writes looks whether it is still its own, in its turn among all writers, and whoever takes over writes its own name there
//! first, after it has waited until the former owner has noticed and has ended what ran.

use std::{
    fmt,
    future::pending,
    time::{Duration, Instant},
};

use sqlx::{AnyConnection, Connection as _, Row as _};

use crate::{Database, DatabaseError, Location};

/// One number for the lock of the one host in a PostgreSQL database.
const LOCK: &str = "SELECT pg_try_advisory_lock(8602190417206)";

const PART: &str = "owner";
const STEPS: &[&[&str]] =
    &[&["CREATE TABLE owner (run TEXT NOT NULL PRIMARY KEY, place TEXT NOT NULL, who TEXT NOT NULL)"]];

/// How long to wait between two tries to connect or to take the lock.
const AGAIN: Duration = Duration::from_millis(50);

/// Who claims a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimant {
    /// Different at each start.
    pub run: String,
    /// The same at each start, where the caller makes sure that no two run at once in one place: then the one before is dead.
    pub place: String,
    /// For people: where it runs.
    pub who: String,
}

/// How long things take. What a former owner needs to notice and to end is less than what a new one waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// How long a start tries: a host that was killed a moment ago may still have the lock.
    pub(crate) start: Duration,
    /// How often the connection is tried, and how long its answer may take.
    pub(crate) look: Duration,
    pub(crate) answer: Duration,
    /// How long the lock is tried to be taken again.
    pub(crate) patience: Duration,
    /// How long the next waits where the one before did not say that it ended, and ran elsewhere.
    pub(crate) grace: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            start: Duration::from_secs(3),
            look: Duration::from_secs(1),
            answer: Duration::from_secs(3),
            patience: Duration::from_secs(15),
            grace: Duration::from_secs(30),
        }
    }
}

/// That a database belongs to this process. Dropping it gives it up without saying so; see [`Self::release`].
#[derive(Debug)]
pub struct Claim {
    database: Database,
    /// None where there is one owner anyway.
    held: Option<Held>,
}

struct Held {
    url: String,
    connection: AnyConnection,
    claimant: Claimant,
    times: Times,
}

/// A URL of PostgreSQL holds a password.
impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("claimant", &self.claimant).finish_non_exhaustive()
    }
}

impl Database {
    /// Takes the database for this process alone, before anything in it is changed: from now on, what writes fails where it
    /// belongs to another. A file is nobody else's, by whose folder it is in.
    ///
    /// # Errors
    /// When another process has it, or the database fails.
    pub async fn claim(&self, claimant: Claimant) -> Result<Claim, DatabaseError> {
        self.claim_in(claimant, Times::default()).await
    }

    pub(crate) async fn claim_in(&self, claimant: Claimant, times: Times) -> Result<Claim, DatabaseError> {
        let Location::Postgres(url) = self.location() else {
            return Ok(Claim { database: self.clone(), held: None });
        };
        let began = Instant::now();
        let mut connection = AnyConnection::connect(url).await?;
        while !lock(&mut connection).await? {
            if began.elapsed() > times.start {
                return Err(DatabaseError::Taken(self.owner().await));
            }
            tokio::time::sleep(AGAIN).await;
        }
        self.migrate(PART, STEPS).await?;
        let former = sqlx::query("SELECT place FROM owner").fetch_optional(self.pool()).await?;
        let former: Option<String> = former.map(|row| row.try_get(0)).transpose()?;
        if former.is_some_and(|place| place != claimant.place) {
            tokio::time::sleep(times.grace).await;
        }
        let mut writer = self.write().await?;
        sqlx::query("DELETE FROM owner").execute(&mut *writer).await?;
        let insert = sqlx::query("INSERT INTO owner (run, place, who) VALUES ($1, $2, $3)").bind(claimant.run.clone());
        insert.bind(claimant.place.clone()).bind(claimant.who.clone()).execute(&mut *writer).await?;
        writer.commit().await?;
        self.belongs_to(&claimant.run);
        let held = Held { url: url.clone(), connection, claimant, times };
        Ok(Claim { database: self.clone(), held: Some(held) })
    }

    /// Who has the database, for people.
    async fn owner(&self) -> String {
        let row = sqlx::query("SELECT who FROM owner").fetch_optional(self.pool()).await;
        let who = row.ok().flatten().and_then(|row| row.try_get(0).ok());
        who.unwrap_or_else(|| "one that has just begun".to_owned())
    }
}

impl Claim {
    /// Resolves when the database may be another's: what runs because of what is in it must end now, since the next owner
    /// runs it again. Does not resolve while it is this process's.
    pub async fn lost(&mut self) -> DatabaseError {
        let Some(held) = &mut self.held else { return pending().await };
        loop {
            tokio::time::sleep(held.times.look).await;
            if held.answers().await {
                continue;
            }
            if let Err(error) = held.take_again(&self.database).await {
                return error;
            }
        }
    }

    /// Gives the database up, when nothing uses it any more: the next owner need not wait.
    ///
    /// # Errors
    /// When the database fails; then the next waits.
    pub async fn release(self) -> Result<(), DatabaseError> {
        let Some(held) = self.held else { return Ok(()) };
        let mut writer = self.database.write().await?;
        sqlx::query("DELETE FROM owner WHERE run = $1").bind(held.claimant.run).execute(&mut *writer).await?;
        writer.commit().await?;
        Ok(held.connection.close().await?)
    }
}

impl Held {
    /// Whether the connection is there, and the lock with it.
    async fn answers(&mut self) -> bool {
        let answer = tokio::time::timeout(self.times.answer, self.connection.ping()).await;
        matches!(answer, Ok(Ok(())))
    }

    /// Takes the lock by a new connection, unless another has taken the database, or the lock is not to be had in time.
    async fn take_again(&mut self, database: &Database) -> Result<(), DatabaseError> {
        let deadline = tokio::time::Instant::now() + self.times.patience;
        let (url, run) = (self.url.as_str(), self.claimant.run.as_str());
        let taken = tokio::time::timeout_at(deadline, async {
            loop {
                match take(url, run).await {
                    Ok(Lock::Taken(connection)) => return Some(connection),
                    Ok(Lock::TakenOver) => return None,
                    // It may be back, or free, in a moment.
                    Ok(Lock::Busy) | Err(_) => {}
                }
                tokio::time::sleep(AGAIN).await;
            }
        });
        match taken.await {
            Ok(Some(connection)) => self.connection = connection,
            Ok(None) => return Err(DatabaseError::TakenOver(database.owner().await)),
            Err(_late) => return Err(DatabaseError::Lost(self.times.patience)),
        }
        Ok(())
    }
}

/// What became of a try to take the lock again.
enum Lock {
    Taken(AnyConnection),
    /// Somebody has it.
    Busy,
    /// Another owner has been there.
    TakenOver,
}

/// Takes the lock for the owner `run` by a new connection.
async fn take(url: &str, run: &str) -> Result<Lock, sqlx::Error> {
    let mut connection = AnyConnection::connect(url).await?;
    if !lock(&mut connection).await? {
        return Ok(Lock::Busy);
    }
    let own = sqlx::query("SELECT who FROM owner WHERE run = $1").bind(run.to_owned());
    let own = own.fetch_optional(&mut connection).await?.is_some();
    Ok(if own { Lock::Taken(connection) } else { Lock::TakenOver })
}

async fn lock(connection: &mut AnyConnection) -> Result<bool, sqlx::Error> {
    sqlx::query(LOCK).fetch_one(connection).await?.try_get(0)
}
