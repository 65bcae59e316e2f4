//! `/v1/tasks`.

use std::{convert::Infallible, time::Duration};

use axum::{
    Json,
    body::Body,
    extract::{Extension, FromRequestParts, MatchedPath, Query, State as State_},
    response::{
        IntoResponse as _, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures::{FutureExt as _, stream};
use http::{Extensions, HeaderMap, HeaderValue, Request, StatusCode, header, request};
use http_body_util::BodyExt as _;
use serde::{Deserialize, de::DeserializeOwned};
use tracing::Instrument as _;
use utoipa::IntoParams;
use uuid::Uuid;
use witan_authorize::{Action, Resource};
use witan_capability::CallContext;
use witan_tasks::{
    CANCELLED_WITHIN, CancelOnDrop, Code, Edge, Envelope, Filter, Once, State, Task, TaskError, TaskRequest, TaskView,
};

use crate::{
    Api, BodyError, List,
    answer::{self, ErrorBody, Refusal},
    asks::{Asks, count},
    authorize::{Caller, Way},
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
            Err(rejection) => {
                let message = format!("{}; /openapi.json says what each parameter takes", rejection.body_text());
                Err(TaskError::invalid("query", message).into())
            }
        }
    }
}

/// The task that the path names: found in the caller's tenant, and decided, before the route runs.
#[derive(Clone)]
pub(crate) struct Found(pub(crate) Task);

impl<S: Send + Sync> FromRequestParts<S> for Found {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut request::Parts, _state: &S) -> Result<Self, Refusal> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| no_such_task().into())
    }
}

/// What was found out about a request.
pub(crate) struct Given(pub(crate) Extensions);

impl<S: Send + Sync> FromRequestParts<S> for Given {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut request::Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(Self(parts.extensions.clone()))
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
/// with the task, whose address is in `Location`. A client that goes away while it waits cancels the task, unless it sent
/// an `Idempotency-Key`: then the same request with the same key finds the task again, for 24 hours.
#[utoipa::path(
    post,
    path = "/v1/tasks",
    tag = "tasks",
    params(
        Submit,
        ("Idempotency-Key" = Option<String>, Header, description = "The same for each try of one request: it makes one task"),
    ),
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
    State_(api): State_<Api>,
    Extension(context): Extension<CallContext>,
    Fields(query): Fields<Submit>,
    Extension(asks): Extension<Asks>,
    request: Request<Body>,
) -> Result<Response, Refusal> {
    let wait = Duration::from_secs(query.wait.unwrap_or(0));
    let longest = api.0.parts.settings.longest_wait;
    if wait > longest {
        let message = format!("a client waits at most {} seconds; ask for the task later", longest.as_secs());
        return Err(TaskError::invalid("wait", message).into());
    }
    let (head, body) = request.into_parts();
    let body = read(body).await?;
    let (tasks, edge) = (&api.0.parts.tasks, api.edge(context));
    let once = once(&api, &edge, &head.headers, SUBMIT, &body)?;
    let known = match &once {
        Some(once) => tasks.known(&edge, once).await?,
        None => None,
    };
    // One that hung up was never told where the task is, unless it can ask again with its key.
    let alone = once.is_none() && !wait.is_zero();
    // Another request with the key is a conflict until this one is answered.
    let (task, replayed, guard, _answering) = match known {
        // What is known already begins nothing.
        Some(task) => {
            api.admit(&head.extensions, &TaskRequest::from_json(&body)?)?;
            (task, true, None, once)
        }
        None => {
            let asked = TaskRequest::from_json(&body)?;
            let edge = api.admit(&head.extensions, &asked)?;
            let lease = match api.0.parts.requests.begin_task(&asks, &api.0.parts.metrics) {
                Ok(lease) => lease,
                Err(refusal) => return Ok(*refusal),
            };
            let tasks = tasks.clone();
            to_its_end(async move {
                let (task, replayed) = match &once {
                    Some(once) => tasks.submit_once(asked, &edge, once).await?,
                    None => (tasks.submit(asked, &edge).await?, false),
                };
                if !replayed {
                    count(&task, lease);
                }
                let guard = alone.then(|| task.cancel_on_drop());
                Ok((task, replayed, guard, once))
            })
            .await?
        }
    };
    let ended = if wait.is_zero() { None } else { wait_for(&api, &task, wait, guard).await };
    let mut response = match ended {
        Some(envelope) => envelope_response(envelope),
        None => accepted(&task),
    };
    locate(&mut response, &task);
    if replayed {
        response.headers_mut().insert("idempotency-replayed", HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// How keys of requests to routes are told apart.
const SUBMIT: &str = "POST /v1/tasks";

/// The request as one that is carried out once, if it has a key.
fn once(api: &Api, edge: &Edge, headers: &HeaderMap, route: &str, body: &[u8]) -> Result<Option<Once>, TaskError> {
    let Some(key) = headers.get("idempotency-key") else { return Ok(None) };
    // What is no text is no key either, and is refused as one.
    api.0.parts.tasks.once(edge, route, key.to_str().unwrap_or_default(), body).map(Some)
}

fn accepted(task: &Task) -> Response {
    (StatusCode::ACCEPTED, Json(task.view())).into_response()
}

fn locate(response: &mut Response, task: &Task) {
    if let Ok(location) = HeaderValue::try_from(format!("/v1/tasks/{}", task.id())) {
        response.headers_mut().insert(header::LOCATION, location);
    }
}

/// Does `work` to its end, also where the client goes away meanwhile: a task that is accepted is counted.
async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, TaskError>> + Send + 'static,
) -> Result<T, TaskError> {
    let done = tokio::spawn(work.in_current_span()).await;
    done.map_err(|_| TaskError::new(Code::Internal, "the host failed while it accepted the task"))?
}

/// The envelope of `task`, if it ends in time. Dropping the future cancels the task where there is a guard.
async fn wait_for(api: &Api, task: &Task, wait: Duration, guard: Option<CancelOnDrop>) -> Option<Envelope> {
    let ended = tokio::select! {
        ended = task.finished() => Some(Envelope::clone(&ended)),
        () = tokio::time::sleep(wait) => None,
        // It does not run here any more.
        () = left_to_the_next_host(api, task) => None,
    };
    if let Some(guard) = guard {
        guard.disarm();
    }
    ended
}

/// Resolves when the host stops and will not run `task`, or not to its end.
async fn left_to_the_next_host(api: &Api, task: &Task) {
    api.0.draining.cancelled().await;
    let tasks = &api.0.parts.tasks;
    if !tasks.keeps() || !task.waits() {
        tasks.abandoned().await;
    }
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
    #[param(minimum = 1, maximum = 100)]
    #[serde(default)]
    limit: Option<usize>,
    /// The `last_id` of the page before.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    after: Option<Uuid>,
    /// Those that stand here.
    #[serde(default)]
    state: Option<State>,
    /// Those with this intent.
    #[serde(default)]
    intent: Option<String>,
    /// Those that were accepted after this time, in milliseconds since the Unix epoch.
    #[serde(default)]
    created_after: Option<u64>,
    /// Those that were accepted before this time, in milliseconds since the Unix epoch.
    #[serde(default)]
    created_before: Option<u64>,
    /// Those with this key in their metadata, `KEY`, or with this value there, `KEY=VALUE`.
    #[serde(default)]
    metadata: Option<String>,
}

impl Page {
    fn filter(&self) -> Filter {
        let metadata = self.metadata.as_ref().map(|metadata| match metadata.split_once('=') {
            Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
            None => (metadata.clone(), None),
        });
        Filter {
            state: self.state,
            intent: self.intent.clone(),
            created_from_ms: self.created_after.map(|after| after.saturating_add(1)),
            created_before_ms: self.created_before,
            metadata,
        }
    }
}

/// Lists tasks, the newest first, without their envelopes. All that is asked for must hold.
#[utoipa::path(
    get,
    path = "/v1/tasks",
    tag = "tasks",
    params(Page),
    responses(
        (status = 200, description = "The tasks that are kept", body = List<TaskView>),
        (status = "4XX", description = "The request is refused", body = ErrorBody),
        (status = "5XX", description = "The tasks cannot be read", body = ErrorBody),
    )
)]
pub(crate) async fn list(
    State_(api): State_<Api>,
    Extension(context): Extension<CallContext>,
    Fields(page): Fields<Page>,
) -> Result<Json<List<TaskView>>, Refusal> {
    let limit = page.limit.unwrap_or(PAGE);
    if !(1..=LARGEST_PAGE).contains(&limit) {
        return Err(TaskError::invalid("limit", format!("`limit` is from 1 to {LARGEST_PAGE}")).into());
    }
    let (tasks, edge) = (&api.0.parts.tasks, api.edge(context));
    let (views, more) = tasks.list(edge.context.tenant(), &page.filter(), limit, page.after).await?;
    Ok(Json(List::of(views, more, |view| view.id.to_string())))
}

/// Shows a task.
///
/// Ended tasks are kept for a time and up to a number, which `[host.tasks]` of `system.toml` sets.
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
pub(crate) async fn show(Found(task): Found) -> Json<TaskView> {
    Json(task.view())
}

/// Cancels a task.
///
/// Answers when it has ended, or after 10 s as it stands. A task that has ended already stays as it is.
#[utoipa::path(
    post,
    path = "/v1/tasks/{id}/cancel",
    tag = "tasks",
    params(("id" = String, Path, description = "The task")),
    responses(
        (status = 200, description = "The task, which has ended", body = TaskView),
        (status = 202, description = "The task, which has not ended yet", body = TaskView),
        (status = 404, description = "No such task is kept", body = ErrorBody),
        (status = "4XX", description = "The request is refused", body = ErrorBody),
    )
)]
pub(crate) async fn cancel(Extension(context): Extension<CallContext>, Found(task): Found) -> Response {
    let ended = task.cancel_within(&context, CANCELLED_WITHIN).await;
    let status = if ended { StatusCode::OK } else { StatusCode::ACCEPTED };
    (status, Json(task.view())).into_response()
}

/// Pauses a task that waits for its turn.
///
/// A task that has begun has one handler, which cannot be paused: 409.
#[utoipa::path(
    post,
    path = "/v1/tasks/{id}/pause",
    tag = "tasks",
    params(("id" = String, Path, description = "The task")),
    responses(
        (status = 200, description = "The task, which is paused", body = TaskView),
        (status = 404, description = "No such task is kept", body = ErrorBody),
        (status = 409, description = "It has begun or has ended", body = ErrorBody),
        (status = "4XX", description = "The request is refused", body = ErrorBody),
        (status = "5XX", description = "The change cannot be stored", body = ErrorBody),
    )
)]
pub(crate) async fn pause(
    State_(api): State_<Api>,
    Extension(context): Extension<CallContext>,
    Found(task): Found,
) -> Result<Json<TaskView>, Refusal> {
    api.0.parts.tasks.pause(&task, &context).await?;
    Ok(Json(task.view()))
}

/// Lets a task that is paused wait for its turn again.
#[utoipa::path(
    post,
    path = "/v1/tasks/{id}/resume",
    tag = "tasks",
    params(("id" = String, Path, description = "The task")),
    responses(
        (status = 200, description = "The task, which waits", body = TaskView),
        (status = 404, description = "No such task is kept", body = ErrorBody),
        (status = 409, description = "It has begun or has ended", body = ErrorBody),
        (status = "4XX", description = "The request is refused", body = ErrorBody),
        (status = "5XX", description = "The change cannot be stored", body = ErrorBody),
    )
)]
pub(crate) async fn resume(
    State_(api): State_<Api>,
    Extension(context): Extension<CallContext>,
    Found(task): Found,
) -> Result<Json<TaskView>, Refusal> {
    api.0.parts.tasks.resume(&task, &context).await?;
    Ok(Json(task.view()))
}

/// Submits the request of a task that has failed or was cancelled again, as a new task.
#[utoipa::path(
    post,
    path = "/v1/tasks/{id}/retry",
    tag = "tasks",
    params(("id" = String, Path, description = "The task")),
    responses(
        (status = 202, description = "The new task", body = TaskView,
            headers(("Location" = String, description = "Where the new task is"))),
        (status = 404, description = "No such task is kept", body = ErrorBody),
        (status = 409, description = "It has not failed and was not cancelled", body = ErrorBody),
        (status = "4XX", description = "The request is refused", body = ErrorBody),
        (status = "5XX", description = "The host cannot take the task", body = ErrorBody),
    )
)]
pub(crate) async fn retry(
    State_(api): State_<Api>,
    Found(task): Found,
    Extension(asks): Extension<Asks>,
    Given(extensions): Given,
) -> Result<Response, Refusal> {
    let asked = api.0.parts.tasks.request_again(&task).await?;
    let edge = api.admit(&extensions, &asked)?;
    let lease = match api.0.parts.requests.begin_task(&asks, &api.0.parts.metrics) {
        Ok(lease) => lease,
        Err(refusal) => return Ok(*refusal),
    };
    let tasks = api.0.parts.tasks.clone();
    let again = to_its_end(async move {
        let again = tasks.submit(asked, &edge).await?;
        count(&again, lease);
        Ok(again)
    })
    .await?;
    let mut response = accepted(&again);
    locate(&mut response, &again);
    Ok(response)
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
        (status = 503, description = "Too many are open", body = ErrorBody),
    )
)]
pub(crate) async fn events(
    State_(api): State_<Api>,
    Found(task): Found,
    Given(extensions): Given,
    Fields(from): Fields<After>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let after = last_event(&headers)?.or(from.starting_after).unwrap_or(0);
    let draining = api.0.draining.clone();
    let listening = (api.0.parts.metrics.subscriber("sse"), api.0.streams.open(task.tenant())?);
    let cut_off = api.until_either(&extensions, follows(&extensions, task.clone())).shared();
    // After the last event comes the envelope, and after that nothing.
    let stream = stream::unfold(Some(after), move |after| {
        let (task, draining, cut_off) = (task.clone(), draining.clone(), cut_off.clone());
        async move {
            let after = after?;
            let event = tokio::select! {
                // What is denied is not told, however much of it waits.
                biased;
                error = cut_off => return Some((crate::events::cut_off(error), None)),
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

/// Asks whether who sent a request with these extensions may follow `task`.
pub(crate) fn follows(extensions: &Extensions, task: Task) -> impl Fn(&Api) -> Result<(), TaskError> + Send + 'static {
    let caller = Caller::of(extensions);
    let route = extensions.get::<MatchedPath>().cloned();
    let path = route.as_ref().map(|route| route.as_str().replace("{id}", &task.id().to_string()));
    move |api| {
        let (route, method) = (route.as_ref().map(MatchedPath::as_str), route.is_some().then_some("GET"));
        api.may(&caller, Action::TaskRead, &task, Way { route, method, path: path.as_deref() })
    }
}

/// The number of the last event that a client has, as `Last-Event-ID` says it.
pub(crate) fn last_event(headers: &HeaderMap) -> Result<Option<u64>, TaskError> {
    let Some(last) = headers.get("last-event-id") else { return Ok(None) };
    match last.to_str().ok().and_then(|last| last.parse().ok()) {
        Some(last) => Ok(Some(last)),
        None => Err(TaskError::invalid("Last-Event-ID", "this is no number of an event; send the last `id` that came")),
    }
}

/// The task `id`, if it is of the tenant that asks: another's is no task here.
pub(crate) async fn find(api: &Api, context: &CallContext, id: &str) -> Result<Task, TaskError> {
    let found = match id.parse::<Uuid>() {
        Ok(id) => api.0.parts.tasks.get(context.tenant(), id).await?,
        Err(_) => None,
    };
    found.ok_or_else(no_such_task)
}

/// What is said of a task that is not there, and of one that is another tenant's.
pub(crate) fn no_such_task() -> TaskError {
    let message = "no such task is kept; ended tasks are kept as long as `[host.tasks]` of system.toml says";
    TaskError::new(Code::NotFound, message).at("id")
}

/// `task` as request policy knows it.
pub(crate) fn resource(task: &Task) -> Resource<'static> {
    Resource::Task {
        id: task.id().to_string().into(),
        tenant: task.tenant().to_owned().into(),
        owner: format!("{}/{}", task.tenant(), task.principal()).into(),
        intent: task.intent().to_owned().into(),
    }
}
