//! A task as it is stored.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sqlx::{Row as _, any::AnyRow};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::StoreError;

/// Where a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It waits for its turn.
    Queued,
    /// Its handler runs.
    Working,
    /// Its handler waits for an answer of whoever asked.
    InputRequired,
    /// It waits to be resumed.
    Paused,
    /// It ended with a result.
    Completed,
    /// It ended with an error.
    Failed,
    /// It was cancelled.
    Cancelled,
}

impl State {
    /// All states.
    pub const ALL: [Self; 7] = [
        Self::Queued,
        Self::Working,
        Self::InputRequired,
        Self::Paused,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
    ];

    /// Whether the task has ended.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    /// The state as a word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Working => "working",
            Self::InputRequired => "input_required",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A task without what it works on and what it came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The task. Ids are made in the order of time.
    pub id: Uuid,
    /// Whose it is.
    pub tenant: String,
    /// Who asked for it.
    pub principal: String,
    /// What was asked for.
    pub intent: String,
    /// Where it stands.
    pub state: State,
    /// Its weight among the tasks that wait.
    pub priority: u32,
    /// How often its handler was started.
    pub attempt: u32,
    /// When it was accepted, in milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// When its handler started last.
    pub started_ms: Option<u64>,
    /// When it ended.
    pub finished_ms: Option<u64>,
    /// The call context that it runs in, as it writes itself.
    pub context: String,
    /// The metadata of the request.
    pub metadata: BTreeMap<String, String>,
}

/// A task with what it came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The task.
    pub row: Row,
    /// What it came to, once it has ended.
    pub result: Option<Vec<u8>>,
}

/// The columns of [`Row`], in its order.
pub(crate) const COLUMNS: &str = "task.id, task.tenant, task.principal, task.intent, task.state, task.priority, \
     task.attempt, task.created_ms, task.started_ms, task.finished_ms, task.context, task.metadata";

impl Row {
    pub(crate) fn read(row: &AnyRow) -> Result<Self, StoreError> {
        let id: String = row.try_get(0)?;
        let id: Uuid = id.parse().map_err(|_| StoreError::Row(Uuid::nil(), format!("`{id}` is no id")))?;
        let word: String = row.try_get(4)?;
        let state = State::ALL.into_iter().find(|state| state.name() == word);
        let state = state.ok_or_else(|| StoreError::Row(id, format!("there is no state `{word}`")))?;
        let metadata: String = row.try_get(11)?;
        Ok(Self {
            id,
            tenant: row.try_get(1)?,
            principal: row.try_get(2)?,
            intent: row.try_get(3)?,
            state,
            priority: u32::try_from(row.try_get::<i64, _>(5)?).unwrap_or(0),
            attempt: u32::try_from(row.try_get::<i64, _>(6)?).unwrap_or(u32::MAX),
            created_ms: unsigned(row.try_get(7)?),
            started_ms: row.try_get::<Option<i64>, _>(8)?.map(unsigned),
            finished_ms: row.try_get::<Option<i64>, _>(9)?.map(unsigned),
            context: row.try_get(10)?,
            metadata: serde_json::from_str(&metadata).map_err(|error| StoreError::Row(id, error.to_string()))?,
        })
    }
}

/// A number as databases have it.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(crate) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
