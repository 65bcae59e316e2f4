//! A component that exports `witan:task/handler`, as what serves an intent.

use std::sync::Arc;

use async_trait::async_trait;
use futures::FutureExt as _;
use witan_capability::{Account, CallContext};
use witan_engine::Service;
use witan_forward::{
    Caller, Events,
    component::Failure,
    task::{self, Handler as _},
};

use crate::{Document, Event, Handler, HandlerError, Outcome, Parameter, Passage, Value, Work, WorkInput};

/// Serves an intent by calling a component.
pub struct ComponentHandler(Arc<Service>);

impl ComponentHandler {
    /// The handler that `service` exports.
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
        let mut run = self.0.handle(&Caller::host(context, account), request(work)).await?;
        let mut verdict = run.verdict;
        let mut open = true;
        // A handler may hold its stream open beyond its verdict; what counts is the verdict.
        let answer = loop {
            tokio::select! {
                biased;
                told = run.events.next(), if open => match told {
                    Some(told) => tell(told, events),
                    None => open = false,
                },
                answer = &mut verdict => break answer,
            }
        };
        rest(&mut run.events, events);
        Ok(answer?.map_err(HandlerError::from)?.into())
    }
}

/// Tells what had come by the time of the verdict.
fn rest(from: &mut Events<task::Event>, events: &(dyn Fn(Event) + Send + Sync)) {
    while let Some(Some(told)) = from.next().now_or_never() {
        tell(told, events);
    }
}

fn tell(told: Vec<task::Event>, events: &(dyn Fn(Event) + Send + Sync)) {
    told.into_iter().map(Event::from).for_each(events);
}

fn request(work: Work) -> task::Request {
    task::Request {
        intent: work.intent,
        input: work.input.into(),
        parameters: work.parameters.into_iter().map(task::Parameter::from).collect(),
    }
}

impl From<WorkInput> for task::Input {
    fn from(input: WorkInput) -> Self {
        match input {
            WorkInput::Text(text) => Self::Text(text),
            WorkInput::Documents(documents) => Self::Documents(documents.into_iter().map(Into::into).collect()),
            WorkInput::Files(files) => {
                let file = |file: witan_capability::TaskFile| task::File { name: file.name, path: file.guest };
                Self::Files(files.into_iter().map(file).collect())
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
            Value::Flag(flag) => task::Value::Flag(flag),
            Value::Integer(integer) => task::Value::Integer(integer),
            Value::Number(number) => task::Value::Number(number),
            Value::Text(text) => task::Value::Text(text),
            Value::Texts(texts) => task::Value::Texts(texts),
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
        Self {
            text: outcome.text,
            passages: outcome.passages.into_iter().map(Into::into).collect(),
            language: outcome.language,
            method: outcome.method,
        }
    }
}

impl From<task::Passage> for Passage {
    fn from(passage: task::Passage) -> Self {
        Self {
            text: passage.text,
            source: passage.source,
            start: passage.start,
            end: passage.end,
            page: passage.page,
            weight: passage.weight,
        }
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
