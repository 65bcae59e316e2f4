//! `/v1/tasks`.

use std::{convert::Infallible, time::Duration};

use axum::{
    Json,
    body::Body,
    extract::{Extension, FromRequestParts, Path, Query, State},
    response::{
        IntoResponse as _, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures::stream;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header, request};
use http_body_util::BodyExt as _;
use serde::{Deserialize, de::DeserializeOwned};
use utoipa::IntoParams;
use uuid::Uuid;
use witan_capability::Trace;
use witan_tasks::{Code, Envelope, Task, TaskError, TaskRequest, TaskView};

use crate::{
    Api, BodyError, List,
    answer::{self, ErrorBody, Refusal},
    asks::Asks,
};

/// Tasks in one page of a list, where the client does not say.
const PAGE: usize = 20;
/// Tasks in one page of a list at most.
const LARGEST_PAGE: usize = 100;

/// A query string, whose faults are named in our own form.
pub(crate) struct Fields<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Fields<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut request::Parts, _state: &S) -> Result<Self, Refusal> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(fields)) => Ok(Self(fields)),
            Err(rejection) => Err(TaskError::invalid("query", rejection.body_text()).into()),
        }
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Submit {
    /// Seconds to wait for the end of the task, at most 300. Without it, the answer comes at once.
    #[serde(default)]
    wait: Option<u64>,
}

/// Submits a task.
///
/// With `wait`, answers with the envelope when the task ends in time: 200, or the status of its error. Otherwise 202
/// with the task, whose address is in `Location`. A client that goes away while it waits cancels the task.
#[utoipa::path(
    post,
    path = "/v1/tasks",
    tag = "tasks",
    params(Submit),
    request_body = TaskRequest,
    responses(
        (status = 200, description = "The task has ended with a result", body = Envelope),
        (status = 202, description = "The task was accepted", body = TaskView,
            headers(("Location" = String, description = "Where the task is"))),
        (status = "4XX", description = "The request is refused, or the task has ended with an error that is the request's \
            (then the body is the envelope)", body = ErrorBody),
        (status = "5XX", description = "The host cannot take the task, or the task has ended with another error (then the \
            body is the envelope)", body = ErrorBody),
    )
)]
pub(crate) async fn submit(
    State(api): State<Api>,
    Fields(query): Fields<Submit>,
    Extension(trace): Extension<Trace>,
    Extension(asks): Extension<Asks>,
    request: Request<Body>,
) -> Result<Response, Refusal> {
    let wait = Duration::from_secs(query.wait.unwrap_or(0));
    let longest = api.0.parts.settings.longest_wait;
    if wait > longest {
        let message = format!("a client waits at most {} seconds; ask for the task later", longest.as_secs());
        return Err(TaskError::invalid("wait", message).into());
    }
    let request = TaskRequest::from_json(&read(request.into_body()).await?)?;
    let lease = match api.0.parts.requests.begin_task(&asks, &api.0.parts.metrics) {
        Ok(lease) => lease,
        Err(refusal) => return Ok(*refusal),
    };
    let task = api.0.parts.tasks.submit(request, &api.edge(Some(trace))).await?;
    if lease.counts() {
        let task = task.clone();
        tokio::spawn(async move {
            task.finished().await;
            drop(lease);
        });
    }
    let ended = if wait.is_zero() { None } else { wait_for(&task, wait).await };
    let mut response = match ended {
        Some(envelope) => envelope_response(envelope),
        None => (StatusCode::ACCEPTED, Json(task.view())).into_response(),
    };
    if let Ok(location) = HeaderValue::try_from(format!("/v1/tasks/{}", task.id())) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// The envelope of `task`, if it ends in time. Dropping the future cancels the task: a client that hung up was never
/// told where the task is.
async fn wait_for(task: &Task, wait: Duration) -> Option<Envelope> {
    let guard = task.cancel_on_drop();
    let ended = tokio::time::timeout(wait, task.finished()).await;
    guard.disarm();
    ended.ok().map(|envelope| Envelope::clone(&envelope))
}

fn envelope_response(envelope: Envelope) -> Response {
    let mut headers = HeaderMap::new();
    let status = match &envelope.error {
        Some(error) => {
            answer::retry_headers(error, &mut headers);
            answer::status(error.code)
        }
        None => StatusCode::OK,
    };
    (status, headers, Json(envelope)).into_response()
}

pub(crate) async fn read(body: Body) -> Result<bytes::Bytes, TaskError> {
    let collected = body.collect().await.map_err(|error| match error.into_inner().downcast::<BodyError>() {
        Ok(error) => TaskError::from(&*error),
        Err(error) => TaskError::new(Code::InvalidRequest, format!("the body broke off: {error}")),
    })?;
    Ok(collected.to_bytes())
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Page {
    /// Tasks in the answer: 1 to 100, 20 if not given.
    #[serde(default)]
    limit: Option<usize>,
    /// The `last_id` of the page before.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    after: Option<Uuid>,
}

/// Lists tasks, the newest first, without their envelopes.
#[utoipa::path(
    get,
    path = "/v1/tasks",
    tag = "tasks",
    params(Page),
    responses(
        (status = 200, description = "The tasks that are kept", body = List<TaskView>),
        (status = "4XX", description = "The request is refused", body = ErrorBody),
    )
)]
pub(crate) async fn list(State(api): State<Api>, Fields(page): Fields<Page>) -> Result<Json<List<TaskView>>, Refusal> {
    let limit = page.limit.unwrap_or(PAGE);
    if !(1..=LARGEST_PAGE).contains(&limit) {
        return Err(TaskError::invalid("limit", format!("`limit` is from 1 to {LARGEST_PAGE}")).into());
    }
    let (tasks, more) = api.0.parts.tasks.newest(limit, page.after);
    let views: Vec<TaskView> = tasks.iter().map(|task| TaskView { envelope: None, ..task.view() }).collect();
    Ok(Json(List::of(views, more, |view| view.id.to_string())))
}

/// Shows a task.
///
/// Tasks are kept in memory: after the host ends, or when many later tasks have ended, they are gone.
#[utoipa::path(
    get,
    path = "/v1/tasks/{id}",
    tag = "tasks",
    params(("id" = String, Path, description = "The task")),
    responses(
        (status = 200, description = "The task, with its envelope once it has ended", body = TaskView),
        (status = 404, description = "No such task is kept", body = ErrorBody),
        (status = "4XX", description = "The request is refused", body = ErrorBody),
    )
)]
pub(crate) async fn show(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<TaskView>, Refusal> {
    Ok(Json(find(&api, &id)?.view()))
}

/// Cancels a task.
///
/// Answers when it has ended. A task that has ended already stays as it is.
#[utoipa::path(
    post,
    path = "/v1/tasks/{id}/cancel",
    tag = "tasks",
    params(("id" = String, Path, description = "The task")),
    responses(
        (status = 200, description = "The task, which has ended", body = TaskView),
        (status = 404, description = "No such task is kept", body = ErrorBody),
        (status = "4XX", description = "The request is refused", body = ErrorBody),
    )
)]
pub(crate) async fn cancel(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<TaskView>, Refusal> {
    let task = find(&api, &id)?;
    task.cancel();
    task.finished().await;
    Ok(Json(task.view()))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct After {
    /// The number of the last event that the client has; `Last-Event-ID` goes before it.
    #[serde(default)]
    starting_after: Option<u64>,
}

/// Streams what happens to a task.
///
/// Server-sent events named `state`, `progress`, `text` and `notice`, each with its number as `id`, and at the end one
/// named `envelope`. A gap in the numbers means that events were dropped to bound memory.
#[utoipa::path(
    get,
    path = "/v1/tasks/{id}/events",
    tag = "tasks",
    params(("id" = String, Path, description = "The task"), After),
    responses(
        (status = 200, description = "The events", content_type = "text/event-stream", body = String),
        (status = 404, description = "No such task is kept", body = ErrorBody),
        (status = "4XX", description = "The request is refused", body = ErrorBody),
    )
)]
pub(crate) async fn events(
    State(api): State<Api>,
    Path(id): Path<String>,
    Fields(from): Fields<After>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let task = find(&api, &id)?;
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let after = last.or(from.starting_after).unwrap_or(0);
    let draining = api.0.draining.clone();
    let listening = api.0.parts.metrics.subscriber("sse");
    // After the last event comes the envelope, and after that nothing.
    let stream = stream::unfold(Some(after), move |after| {
        let (task, draining) = (task.clone(), draining.clone());
        async move {
            let after = after?;
            let event = tokio::select! {
                event = task.event_after(after) => event,
                () = draining.cancelled() => return None,
            };
            Some(match event {
                Some(event) => {
                    let sent = Event::default().id(event.sequence.to_string()).event(event.happened.name());
                    (sent.json_data(&event), Some(event.sequence))
                }
                None => (Event::default().event("envelope").json_data(&*task.finished().await), None),
            })
        }
    });
    let events = futures::StreamExt::map(stream, move |event| {
        let _listening = &listening;
        Ok::<_, Infallible>(event.unwrap_or_else(|_| Event::default().comment("an event could not be written")))
    });
    let mut response = Sse::new(events).keep_alive(KeepAlive::default()).into_response();
    // Proxies that buffer would hold events back.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

fn find(api: &Api, id: &str) -> Result<Task, TaskError> {
    let task = id.parse::<Uuid>().ok().and_then(|id| api.0.parts.tasks.get(id));
    task.ok_or_else(|| {
        let message =
            "no such task is kept; tasks are kept in memory, until the host ends or many later tasks have ended";
        TaskError::new(Code::NotFound, message).at("id")
    })
}
