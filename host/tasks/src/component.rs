//! Components that serve intents, over `witan:task/handler`.

use std::sync::Arc;

use async_trait::async_trait;
use witan_capability::{Account, CallContext};
use witan_engine::Service;
use witan_forward::{
    Caller,
    component::Failure,
    task::{self, handler::Handler as _},
};

use crate::{Document, Event, Handler, HandlerError, Outcome, Parameter, Passage, Value, Work, WorkInput};

/// A component that serves an intent.
pub struct ComponentHandler(Arc<Service>);

impl ComponentHandler {
    /// What `service` serves.
    #[must_use]
    pub fn new(service: Arc<Service>) -> Self {
        Self(service)
    }
}

#[async_trait]
impl Handler for ComponentHandler {
    fn component(&self) -> &str {
        self.0.name()
    }

    async fn handle(
        &self,
        context: &CallContext,
        account: &Arc<Account>,
        work: Work,
        events: &(dyn Fn(Event) + Send + Sync),
    ) -> Result<Outcome, HandlerError> {
        let run = self.0.handle(&Caller::host(context, account), work.into()).await?;
        let mut told = run.events;
        while let Some(batch) = told.next().await {
            batch.into_iter().for_each(|event| events(event.into()));
        }
        Ok(run.verdict.await??.into())
    }
}

impl From<Work> for task::Request {
    fn from(work: Work) -> Self {
        Self {
            intent: work.intent,
            input: work.input.into(),
            parameters: work.parameters.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<WorkInput> for task::Input {
    fn from(input: WorkInput) -> Self {
        match input {
            WorkInput::Text(text) => Self::Text(text),
            WorkInput::Documents(documents) => Self::Documents(documents.into_iter().map(Into::into).collect()),
            WorkInput::Files(files) => {
                Self::Files(files.into_iter().map(|file| task::File { name: file.name, path: file.guest }).collect())
            }
        }
    }
}

impl From<Document> for task::Document {
    fn from(document: Document) -> Self {
        Self { name: document.name, media_type: document.media_type, data: document.data }
    }
}

impl From<Parameter> for task::Parameter {
    fn from(parameter: Parameter) -> Self {
        let value = match parameter.value {
            Value::Flag(value) => task::Value::Flag(value),
            Value::Integer(value) => task::Value::Integer(value),
            Value::Number(value) => task::Value::Number(value),
            Value::Text(value) => task::Value::Text(value),
            Value::Texts(value) => task::Value::Texts(value),
        };
        Self { name: parameter.name, value }
    }
}

impl From<task::Event> for Event {
    fn from(event: task::Event) -> Self {
        match event {
            task::Event::Progress(task::Progress { stage, done, total }) => Self::Progress { stage, done, total },
            task::Event::Text(text) => Self::Text { text },
            task::Event::Notice(text) => Self::Notice { text },
        }
    }
}

impl From<task::Outcome> for Outcome {
    fn from(outcome: task::Outcome) -> Self {
        let passages = outcome.passages.into_iter().map(|passage| Passage {
            text: passage.text,
            source: passage.source,
            start: passage.start,
            end: passage.end,
            page: passage.page,
            weight: passage.weight,
        });
        Self { text: outcome.text, passages: passages.collect(), language: outcome.language, method: outcome.method }
    }
}

impl From<task::Error> for HandlerError {
    fn from(error: task::Error) -> Self {
        match error {
            task::Error::Invalid(message) => Self::Invalid(message),
            task::Error::Unsupported(message) => Self::Unsupported(message),
            task::Error::Failed(message) => Self::Failed(message),
            task::Error::CallFailed(Failure::Denied(denial)) => {
                Self::Denied { decision: denial.decision, reason: denial.reason }
            }
            task::Error::CallFailed(Failure::Unavailable(message)) => Self::Unavailable(message),
            task::Error::CallFailed(Failure::Trapped(message)) => Self::Trapped(message),
        }
    }
}
