//! What a task came to.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;
use witan_task_store::State;

use crate::{Code, TaskError};

/// The version of [`Envelope`]. Fields may be added within a version; a change of one is a new version.
pub const SCHEMA_VERSION: u32 = 1;

/// What a task came to: the answer of `witan task --json` and of `POST /v1/tasks?wait=`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Envelope {
    /// The version of this form, 1.
    pub schema_version: u32,
    /// The task.
    #[schema(value_type = String, format = "uuid")]
    pub task_id: Uuid,
    /// What was asked for.
    pub intent: String,
    /// How it ended.
    pub status: Status,
    /// What did the work, and why that.
    pub engine: EngineChoice,
    /// The result, if the status is `OK`.
    pub result: Option<Outcome>,
    /// What it took.
    pub usage: Usage,
    /// Why it failed, if the status is not `OK`.
    pub error: Option<TaskError>,
}

impl Envelope {
    /// The exit code of a command that ends with this envelope; 0 is success.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        self.error.as_ref().map_or(0, |error| error.code.exit_code())
    }
}

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    /// With a result.
    Ok,
    /// With an error.
    Error,
    /// It reached its deadline.
    Timeout,
    /// It was cancelled.
    Canceled,
}

impl Status {
    /// The status of a task that ended with `error`.
    #[must_use]
    pub fn of(error: &TaskError) -> Self {
        match error.code {
            Code::DeadlineExceeded => Self::Timeout,
            Code::Cancelled => Self::Canceled,
            _ => Self::Error,
        }
    }

    /// The status as a word, as metrics label it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Timeout => "timeout",
            Self::Canceled => "canceled",
        }
    }
}

impl From<Status> for State {
    fn from(status: Status) -> Self {
        match status {
            Status::Ok => Self::Completed,
            Status::Error | Status::Timeout => Self::Failed,
            Status::Canceled => Self::Cancelled,
        }
    }
}

/// What did the work, and why that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EngineChoice {
    /// Where the work was done.
    pub route: Route,
    /// Who chose it: `system.toml`.
    pub chosen_by: String,
    /// Why, for a person to read.
    pub reason: String,
}

/// Where work is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Route {
    /// On this machine.
    Local,
}

/// What a task took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    /// Milliseconds from its acceptance to its end, waiting included.
    pub latency_ms: u64,
    /// Tokens of models, in and out. 0 where no model was asked.
    pub tokens: u64,
    /// US dollars. 0 where nothing was bought.
    pub cost_usd: f64,
    /// Milliseconds of processor time that components ran, all of its call tree.
    pub cpu_ms: u64,
    /// The most bytes of memory its call tree used at once.
    pub memory_peak: u64,
}

/// The result of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Outcome {
    /// The result as text.
    pub text: String,
    /// Where the result was taken from, in the order of the text.
    pub passages: Vec<Passage>,
    /// The language of the result as an ISO 639-3 code, if it was recognised.
    pub language: Option<String>,
    /// How it was made: the method and its settings, for a person to read.
    pub method: String,
}

/// A part of the result that was taken from a source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Passage {
    /// The passage as it stands in the result.
    pub text: String,
    /// The name of the source: that of the document or file, or `text`.
    pub source: String,
    /// First byte of the passage in the source; in formats that pack their text (PDF, DOCX), in its extracted text.
    pub start: u64,
    /// One past the last byte of the passage, counted as `start`.
    pub end: u64,
    /// The page it stands on, counted from 1, where the source has pages.
    pub page: Option<u32>,
    /// How much the method valued it; comparable within one result only.
    pub weight: f64,
}
