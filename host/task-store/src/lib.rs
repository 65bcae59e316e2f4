//! Tasks in a database: durable when acknowledged, found again after a crash.
//!
//! Start at [`Store::open`]. What changes is sent to one writer, which commits what has come together: a hundred tasks that
//! are submitted at once cost one flush of the disk. Each row has its tenant, and no query reads without one but those of the
//! host itself.
//!
//! It knows what a task's life is, and nothing of what a task does: inputs and results are bytes to it. Those that are larger
//! than [`INLINE_BYTES`] are files beside the database, durable before the row that they belong to.

mod change;
mod deliveries;
mod files;
mod read;
mod row;
mod schema;
mod sweep;
mod unsealed;
mod writer;

#[cfg(test)]
mod tests;

use std::{path::PathBuf, sync::Arc};

use uuid::Uuid;
use witan_database::{Database, DatabaseError};

pub use change::{Accepted, Delivery, Ended, Key, KnownKey, New};
pub use files::INLINE_BYTES;
pub use read::{Filter, Page};
pub use row::{Row, State, Stored};
pub use sweep::Retention;
pub use unsealed::Unsealed;

use change::Change;
use files::Files;
use writer::Writer;

/// The part of the database that the tables belong to.
const PART: &str = "tasks";

/// The tasks of a host, in its database. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Store(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    database: Database,
    files: Files,
    writer: Writer,
}

/// Why tasks could not be stored or read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The database failed.
    #[error("the database of tasks failed")]
    Database(#[source] Arc<DatabaseError>),
    /// A file beside the database could not be written or read.
    #[error("the file `{path}` of a task cannot be used")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: Arc<std::io::Error>,
    },
    /// A row is not what this program writes.
    #[error("the row of task `{0}` cannot be read: {1}")]
    Row(Uuid, String),
    /// The host ends.
    #[error("the writer of tasks has ended")]
    Ended,
}

impl From<DatabaseError> for StoreError {
    fn from(error: DatabaseError) -> Self {
        Self::Database(Arc::new(error))
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        DatabaseError::from(error).into()
    }
}

impl Store {
    /// The tasks in `database`; what is too large for it lies in `folder`, which is made if it is not there.
    ///
    /// # Errors
    /// When a newer program has written the tables, or the database or the folder cannot be used.
    pub async fn open(database: Database, folder: PathBuf) -> Result<Self, StoreError> {
        database.migrate(PART, schema::STEPS).await?;
        let files = Files::open(folder)?;
        let writer = Writer::start(database.clone());
        Ok(Self(Arc::new(Shared { database, files, writer })))
    }

    /// Stores a task that is accepted. It is durable when this returns.
    ///
    /// With a key that is known already nothing is stored, and whose it is comes back.
    ///
    /// # Errors
    /// When it could not be stored; then it is not.
    pub async fn accept(&self, new: New) -> Result<Accepted, StoreError> {
        let input = self.0.files.put(new.row.id, files::INPUT, new.input.clone()).await?;
        let answer = self.0.writer.change(Change::Accept { new: Box::new(new), input }).await?;
        Ok(answer.unwrap_or(Accepted::New))
    }

    /// Says that the handler of a task is about to start, for the `attempt`th time, with what is to be delivered because of it.
    ///
    /// # Errors
    /// When it could not be stored.
    pub async fn begin(&self, id: Uuid, attempt: u32, at_ms: u64, deliveries: Vec<Delivery>) -> Result<(), StoreError> {
        self.0.writer.change(Change::Begin { id, attempt, at_ms, deliveries }).await.map(|_| ())
    }

    /// Says that a task which has not started is paused, or is queued again.
    ///
    /// # Errors
    /// When it could not be stored.
    pub async fn hold(&self, id: Uuid, state: State) -> Result<(), StoreError> {
        self.0.writer.change(Change::Hold { id, state }).await.map(|_| ())
    }

    /// Stores how a task has ended, with what is to be delivered because of it: both or neither.
    ///
    /// # Errors
    /// When it could not be stored.
    pub async fn end(&self, ended: Ended) -> Result<(), StoreError> {
        let id = ended.id;
        let result = self.0.files.put(id, files::RESULT, ended.result.clone()).await?;
        let drop_input = ended.state == State::Completed;
        self.0.writer.change(Change::End { ended: Box::new(ended), result }).await?;
        if drop_input {
            self.0.files.remove(id, files::INPUT);
        }
        Ok(())
    }
}
