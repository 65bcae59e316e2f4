//! Messages to and from the types of tasks.

use prost_types::{Struct, Value, value::Kind};
use witan_capability::Privacy;
use witan_tasks::{
    Callback, Document, EngineChoice, Envelope, Event, Happened, Input, Moved, Outcome, Passage, Priority, Route,
    Secret, State, Status, TaskError, TaskRequest, TaskView, Usage,
};

use crate::v1;

/// Whole numbers of this size and less are exact in the double that the wire has for every number.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// How deep lists and objects in `params` may lie in one another before they are not read any further.
const DEPTH: usize = 8;

/// What `message` asks for.
///
/// # Errors
/// When it has no input, or a value that the host does not know or cannot hold.
pub fn request(message: v1::SubmitRequest) -> Result<TaskRequest, TaskError> {
    use v1::submit_request::Input as Given;
    let input = match message.input {
        Some(Given::Text(text)) => Input::Text(text),
        Some(Given::Documents(documents)) => Input::Documents(documents.documents.into_iter().map(document).collect()),
        Some(Given::Paths(paths)) => Input::Paths(paths.paths),
        None => return Err(TaskError::invalid("input", "name what to work on: `text`, `documents` or `paths`")),
    };
    let privacy = match v1::Privacy::try_from(message.privacy) {
        Ok(v1::Privacy::Unspecified | v1::Privacy::Standard) => Privacy::Standard,
        Ok(v1::Privacy::LocalOnly) => Privacy::LocalOnly,
        // A value that is not known may be one that is narrower.
        Err(_) => return Err(TaskError::invalid("privacy", "the host does not know this value")),
    };
    let priority = match v1::Priority::try_from(message.priority) {
        Ok(v1::Priority::Unspecified | v1::Priority::Normal) => Priority::Normal,
        Ok(v1::Priority::Low) => Priority::Low,
        Ok(v1::Priority::High) => Priority::High,
        Err(_) => return Err(TaskError::invalid("priority", "the host does not know this value")),
    };
    Ok(TaskRequest {
        params: fields(message.params.unwrap_or_default(), 0)?,
        privacy,
        budget_usd: message.budget_usd,
        deadline_ms: message.deadline_ms,
        priority,
        callback: message.callback.map(callback),
        metadata: message.metadata.into_iter().collect(),
        ..TaskRequest::new(message.intent, input)
    })
}

fn callback(callback: v1::Callback) -> Callback {
    Callback { url: callback.url, secret: callback.secret.map(Secret::new), events: callback.events }
}

fn document(document: v1::Document) -> Document {
    Document { name: document.name, media_type: document.media_type, data: document.data }
}

fn fields(fields: Struct, depth: usize) -> Result<serde_json::Map<String, serde_json::Value>, TaskError> {
    fields.fields.into_iter().map(|(name, field)| Ok((name, value(field, depth)?))).collect()
}

fn value(given: Value, depth: usize) -> Result<serde_json::Value, TaskError> {
    if depth > DEPTH {
        return Err(TaskError::invalid("params", format!("a parameter lies more than {DEPTH} lists deep")));
    }
    Ok(match given.kind {
        None | Some(Kind::NullValue(_)) => serde_json::Value::Null,
        Some(Kind::BoolValue(flag)) => flag.into(),
        Some(Kind::StringValue(text)) => text.into(),
        Some(Kind::NumberValue(number)) => whole(number).map_or_else(|| number.into(), Into::into),
        Some(Kind::ListValue(list)) => {
            list.values.into_iter().map(|item| value(item, depth + 1)).collect::<Result<Vec<_>, _>>()?.into()
        }
        Some(Kind::StructValue(object)) => fields(object, depth + 1)?.into(),
    })
}

/// `number` as a whole one, if it is exactly that.
#[expect(clippy::cast_possible_truncation, reason = "it is whole, and within what both types hold exactly")]
fn whole(number: f64) -> Option<i64> {
    (number.fract() == 0.0 && number.abs() <= EXACT).then_some(number as i64)
}

pub(crate) fn task(view: TaskView) -> v1::Task {
    v1::Task {
        id: view.id.to_string(),
        intent: view.intent,
        state: state(view.state).into(),
        created_at_ms: view.created_at_ms,
        started_at_ms: view.started_at_ms,
        finished_at_ms: view.finished_at_ms,
        metadata: view.metadata.into_iter().collect(),
        envelope: view.envelope.as_ref().map(envelope),
        priority: match view.priority {
            Priority::Low => v1::Priority::Low,
            Priority::Normal => v1::Priority::Normal,
            Priority::High => v1::Priority::High,
        }
        .into(),
        attempt: view.attempt,
    }
}

fn state(state: State) -> v1::State {
    match state {
        State::Queued => v1::State::Queued,
        State::Working => v1::State::Working,
        State::Completed => v1::State::Completed,
        State::Failed => v1::State::Failed,
        State::Cancelled => v1::State::Cancelled,
        State::Paused => v1::State::Paused,
        State::InputRequired => v1::State::InputRequired,
    }
}

pub(crate) fn event(sequence: u64, at_ms: u64, happened: Happened) -> v1::TaskEvent {
    use v1::task_event::Happened as Told;
    let happened = match happened {
        Happened::Moved(Moved::State { state: moved }) => Told::State(state(moved).into()),
        Happened::Told(Event::Progress { stage, done, total }) => Told::Progress(v1::Progress { stage, done, total }),
        Happened::Told(Event::Text { text }) => Told::Text(text),
        Happened::Told(Event::Notice { text }) => Told::Notice(text),
    };
    v1::TaskEvent { sequence, at_ms, happened: Some(happened) }
}

/// The event after which there is none.
pub(crate) fn last(ended: &Envelope) -> v1::TaskEvent {
    v1::TaskEvent { sequence: 0, at_ms: 0, happened: Some(v1::task_event::Happened::Envelope(envelope(ended))) }
}

fn envelope(envelope: &Envelope) -> v1::Envelope {
    let status = match envelope.status {
        Status::Ok => v1::Status::Ok,
        Status::Error => v1::Status::Error,
        Status::Timeout => v1::Status::Timeout,
        Status::Canceled => v1::Status::Canceled,
    };
    v1::Envelope {
        schema_version: envelope.schema_version,
        task_id: envelope.task_id.to_string(),
        intent: envelope.intent.clone(),
        status: status.into(),
        engine: Some(engine(&envelope.engine)),
        result: envelope.result.as_ref().map(outcome),
        usage: Some(usage(envelope.usage)),
        error: envelope.error.as_ref().map(error),
    }
}

fn engine(engine: &EngineChoice) -> v1::Engine {
    let route = match engine.route {
        Route::Local => "local",
    };
    v1::Engine { route: route.to_owned(), chosen_by: engine.chosen_by.clone(), reason: engine.reason.clone() }
}

fn outcome(outcome: &Outcome) -> v1::Outcome {
    v1::Outcome {
        text: outcome.text.clone(),
        passages: outcome.passages.iter().map(passage).collect(),
        language: outcome.language.clone(),
        method: outcome.method.clone(),
    }
}

fn passage(passage: &Passage) -> v1::Passage {
    v1::Passage {
        text: passage.text.clone(),
        source: passage.source.clone(),
        start: passage.start,
        end: passage.end,
        page: passage.page,
        weight: passage.weight,
    }
}

fn usage(usage: Usage) -> v1::Usage {
    v1::Usage {
        latency_ms: usage.latency_ms,
        tokens: usage.tokens,
        cost_usd: usage.cost_usd,
        cpu_ms: usage.cpu_ms,
        memory_peak: usage.memory_peak,
    }
}

fn error(error: &TaskError) -> v1::Error {
    let named = |value: &Option<Box<str>>| value.as_deref().map(str::to_owned);
    v1::Error {
        message: error.message.clone(),
        code: error.code.to_string(),
        param: named(&error.param),
        retryable: error.retryable,
        limit: named(&error.limit),
        setting: named(&error.setting),
        decision: named(&error.decision),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(number: f64) -> Value {
        Value { kind: Some(Kind::NumberValue(number)) }
    }

    #[test]
    fn numbers_keep_what_they_are() {
        assert_eq!(value(number(3.0), 0).unwrap(), serde_json::json!(3));
        assert_eq!(value(number(-0.5), 0).unwrap(), serde_json::json!(-0.5));
        assert_eq!(value(number(f64::NAN), 0).unwrap(), serde_json::Value::Null);
        assert_eq!(value(number(1e300), 0).unwrap(), serde_json::json!(1e300));
    }

    #[test]
    fn what_lies_too_deep_is_refused() {
        let mut deep = number(1.0);
        for _ in 0..=DEPTH {
            deep = Value { kind: Some(Kind::ListValue(prost_types::ListValue { values: vec![deep] })) };
        }
        let error = value(deep, 0).unwrap_err();
        assert_eq!(error.param.as_deref(), Some("params"));
    }

    #[test]
    fn a_request_needs_an_input_and_a_privacy_that_is_known() {
        let asked = v1::SubmitRequest { intent: "summarize".into(), ..v1::SubmitRequest::default() };
        assert_eq!(request(asked.clone()).unwrap_err().param.as_deref(), Some("input"));
        let text = Some(v1::submit_request::Input::Text("a".into()));
        let unknown = v1::SubmitRequest { privacy: 9, input: text.clone(), ..asked.clone() };
        assert_eq!(request(unknown).unwrap_err().param.as_deref(), Some("privacy"));
        let unknown = v1::SubmitRequest { priority: 9, input: text.clone(), ..asked.clone() };
        assert_eq!(request(unknown).unwrap_err().param.as_deref(), Some("priority"));
        let local = v1::SubmitRequest { privacy: v1::Privacy::LocalOnly.into(), input: text, ..asked };
        assert_eq!(request(local).unwrap().privacy, Privacy::LocalOnly);
    }
}
