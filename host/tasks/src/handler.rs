//! What serves an intent.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use witan_capability::{Account, CallContext, CallError, TaskFile};

use crate::{Code, Document, ErrorOrigin, Outcome, Parameter, TaskError};

/// What a handler is asked to do. Who asked, the privacy and the budget are in the call context.
#[derive(Clone, Debug, PartialEq)]
pub struct Work {
    /// The intent.
    pub intent: String,
    /// What to work on.
    pub input: WorkInput,
    /// Parameters of the intent.
    pub parameters: Vec<Parameter>,
}

/// What a handler works on.
#[derive(Clone, PartialEq, Debug)]
pub enum WorkInput {
    /// Text, named `text` as a source.
    Text(String),
    /// Documents, in the order the client gave them.
    Documents(Vec<Document>),
    /// Files that the task was granted, in the order the client gave them.
    Files(Vec<TaskFile>),
}

/// What happens while a task runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// The task has come further.
    Progress {
        /// What is being done, such as `extract`.
        stage: String,
        /// Units of this stage that are done.
        done: u32,
        /// Units of this stage in all; 0 while it is not known.
        total: u32,
    },
    /// A piece of the result's text, as it is made.
    Text {
        /// The piece.
        text: String,
    },
    /// Something the client should know, which is no error.
    Notice {
        /// What it is, for a person to read.
        text: String,
    },
}

/// A component that serves an intent.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// The component's name in the system.
    fn component(&self) -> &str;

    /// Does `work` for `context` at the cost of `account`, and gives what happens on the way to `events`. Dropping the
    /// future cancels the work.
    async fn handle(
        &self,
        context: &CallContext,
        account: &Arc<Account>,
        work: Work,
        events: &(dyn Fn(Event) + Send + Sync),
    ) -> Result<Outcome, HandlerError>;
}

/// Why a handler did not do its work: the errors of `witan:task/types`, and those of the call itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandlerError {
    /// The call did not complete.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The handler finds the request at fault.
    #[error("{0}")]
    Invalid(String),
    /// The handler does not do what is asked.
    #[error("{0}")]
    Unsupported(String),
    /// The handler could not finish.
    #[error("{0}")]
    Failed(String),
    /// Policy refused a call that the handler needed.
    #[error("{reason} (decision {decision})")]
    Denied {
        /// The decision in the decision log.
        decision: String,
        /// What was refused and why.
        reason: String,
    },
    /// A component that the handler needed could not take the call.
    #[error("{0}")]
    Unavailable(String),
    /// A component that the handler needed trapped.
    #[error("{0}")]
    Trapped(String),
}

impl From<HandlerError> for TaskError {
    fn from(error: HandlerError) -> Self {
        let message = error.to_string();
        match error {
            HandlerError::Call(error) => error.into(),
            HandlerError::Invalid(_) => Self { origin: ErrorOrigin::Task, ..Self::new(Code::InvalidRequest, message) },
            HandlerError::Unsupported(_) => Self::new(Code::Unsupported, message),
            HandlerError::Failed(_) => Self::new(Code::Failed, message),
            HandlerError::Denied { decision, .. } => {
                Self { decision: Some(decision.into()), ..Self::new(Code::Denied, message) }
            }
            HandlerError::Unavailable(_) => Self::new(Code::Unavailable, message),
            HandlerError::Trapped(_) => Self::new(Code::Trapped, message),
        }
    }
}
