//! The host itself: whether it lives, what it runs, what it logged, and how it is stopped.

use axum::{
    Json,
    body::Body,
    extract::{Extension, State},
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use witan_engine::ServiceStats;
use witan_identity::Client;
use witan_ledger::{Entry, Kind};
use witan_tasks::{Code, TaskError};
use witan_telemetry::{LogRecord, Metrics, resident_bytes};

use crate::{
    Api, NotReady,
    answer::{ErrorBody, Refusal},
    tasks::{Fields, read},
};

/// Log lines in one answer, where the client does not say.
const LINES: usize = 200;
/// Log lines in one answer at most.
const MOST_LINES: usize = 4_000;

/// A page of things.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct List<T> {
    /// `list`.
    pub object: String,
    /// The things.
    pub data: Vec<T>,
    /// Whether there are more after the last.
    pub has_more: bool,
    /// The id of the first.
    pub first_id: Option<String>,
    /// The id of the last.
    pub last_id: Option<String>,
}

impl<T> List<T> {
    pub(crate) fn of(data: Vec<T>, has_more: bool, id: impl Fn(&T) -> String) -> Self {
        let (first_id, last_id) = (data.first().map(&id), data.last().map(&id));
        Self { object: "list".to_owned(), data, has_more, first_id, last_id }
    }
}

/// Whether the host lives. Says nothing of what it can do.
#[utoipa::path(get, path = "/healthz", tag = "platform", responses((status = 200, description = "It lives", body = String)))]
pub(crate) async fn health() -> &'static str {
    "ok\n"
}

/// Whether a host takes tasks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Readiness {
    /// Whether it does.
    pub ready: bool,
    /// What keeps it from it.
    pub not_ready: Vec<NotReady>,
    /// What does not, and an operator should know: components that nobody signed, components in quarantine.
    #[serde(default)]
    pub warnings: Vec<NotReady>,
}

/// Whether the host takes tasks, and if not, why.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "platform",
    responses(
        (status = 200, description = "It takes tasks", body = Readiness),
        (status = 503, description = "It does not", body = Readiness),
    )
)]
pub(crate) async fn ready(State(api): State<Api>) -> Response {
    let mut not_ready = api.0.parts.host.not_ready();
    if api.0.draining.is_cancelled() || api.0.parts.tasks.draining() {
        not_ready.push(NotReady { what: "host".to_owned(), why: "it is stopping".to_owned() });
    }
    let ready = not_ready.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut response =
        (status, Json(Readiness { ready, not_ready, warnings: api.0.parts.host.warnings() })).into_response();
    if !ready {
        crate::answer::retry_headers(&TaskError::new(Code::Unavailable, ""), response.headers_mut());
    }
    response
}

/// Metrics, as Prometheus scrapes them: as OpenMetrics, with the traces behind latencies, for who asks for that; and else
/// in the older format.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "platform",
    responses(
        (status = 200, description = "The metrics", content(
            (String = "application/openmetrics-text"),
            (String = "text/plain"),
        )),
    )
)]
pub(crate) async fn metrics(State(api): State<Api>, headers: HeaderMap) -> Result<Response, Refusal> {
    let metrics = &api.0.parts.metrics;
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|accepted| accepted.to_str().ok());
    let newer = accepted.into_iter().any(|accepted| accepted.contains("application/openmetrics-text"));
    let (kind, text) = if newer {
        (Metrics::CONTENT_TYPE, metrics.encode())
    } else {
        (Metrics::PLAIN_CONTENT_TYPE, metrics.encode_plain())
    };
    let text = text.map_err(|error| TaskError::new(Code::Internal, format!("cannot write the metrics: {error}")))?;
    Ok(([(header::CONTENT_TYPE, kind), (header::VARY, "accept")], text).into_response())
}

/// This description.
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "platform",
    responses((status = 200, description = "An OpenAPI 3.1 document", body = serde_json::Value))
)]
pub(crate) async fn openapi() -> Json<utoipa::openapi::OpenApi> {
    Json(crate::document())
}

/// Where a host stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HostState {
    /// It takes tasks.
    Serving,
    /// Something keeps it from taking tasks; `/readyz` says what.
    NotReady,
    /// It finishes what is under way, and ends.
    Stopping,
}

/// A running host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HostStatus {
    /// The version of `witan`.
    pub version: String,
    /// Where it stands.
    pub state: HostState,
    /// Its process.
    pub pid: u32,
    /// The file that describes the system.
    pub system: String,
    /// Where it listens.
    pub listen: Option<String>,
    /// When it started, in milliseconds since the Unix epoch.
    pub started_at_ms: u64,
    /// Milliseconds since then.
    pub uptime_ms: u64,
    /// Bytes of memory that it has resident, where the system says so.
    pub resident_bytes: Option<u64>,
    /// Tasks that run or wait.
    pub tasks_unfinished: u64,
    /// The intents that are served.
    pub intents: Vec<String>,
    /// The paths at which components are mounted.
    pub mounts: Vec<String>,
    /// How many components there are.
    pub components: u64,
}

/// The host: version, process, memory, what it serves.
#[utoipa::path(
    get,
    path = "/v1/host",
    tag = "platform",
    responses((status = 200, description = "The host", body = HostStatus))
)]
pub(crate) async fn host(State(api): State<Api>) -> Json<HostStatus> {
    let state = if api.0.draining.is_cancelled() {
        HostState::Stopping
    } else if api.0.parts.host.not_ready().is_empty() {
        HostState::Serving
    } else {
        HostState::NotReady
    };
    Json(HostStatus {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        state,
        pid: std::process::id(),
        system: api.0.parts.host.system(),
        listen: api.0.listen.get().map(ToString::to_string),
        started_at_ms: api.0.started_at_ms,
        uptime_ms: u64::try_from(api.0.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        resident_bytes: resident_bytes(),
        tasks_unfinished: api.0.parts.tasks.unfinished() as u64,
        intents: api.0.parts.tasks.intents(),
        mounts: api.mounted(),
        components: api.0.parts.host.components().len() as u64,
    })
}

/// A component of a running host, with its counters since it was loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ComponentStatus {
    /// Its name in the system.
    pub name: String,
    /// blake3 of its bytes, in hexadecimal digits.
    pub digest: String,
    /// Calls under way.
    pub active: u64,
    /// Calls that wait for a place.
    pub waiting: u64,
    /// Calls that ended well.
    pub completed: u64,
    /// Calls that trapped.
    pub trapped: u64,
    /// Calls that a limit ended, or whoever made them.
    pub ended: u64,
    /// Calls that were turned away.
    pub refused: u64,
    /// Milliseconds of processor time that its code ran.
    pub cpu_ms: u64,
    /// Whether calls are refused for a while because it trapped too often.
    pub breaker_open: bool,
}

impl ComponentStatus {
    /// The component `name` of the bytes with this digest, with its counters.
    #[must_use]
    pub fn new(name: impl Into<String>, digest: &[u8; 32], stats: &ServiceStats) -> Self {
        Self {
            name: name.into(),
            digest: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
            active: stats.active as u64,
            waiting: stats.waiting as u64,
            completed: stats.completed,
            trapped: stats.trapped,
            ended: stats.ended,
            refused: stats.refused,
            cpu_ms: stats.cpu_ns / 1_000_000,
            breaker_open: stats.breaker_open,
        }
    }
}

/// The components of the host, with their counters.
#[utoipa::path(
    get,
    path = "/v1/components",
    tag = "platform",
    responses((status = 200, description = "The components", body = List<ComponentStatus>))
)]
pub(crate) async fn components(State(api): State<Api>) -> Json<List<ComponentStatus>> {
    Json(List::of(api.0.parts.host.components(), false, |component| component.name.clone()))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Lines {
    /// The number of the last line that the client has. Without it, the last lines.
    #[serde(default)]
    after: Option<u64>,
    /// Lines in the answer: 1 to 4000, 200 if not given.
    #[param(minimum = 1, maximum = 4000)]
    #[serde(default)]
    limit: Option<usize>,
}

/// The last lines that the host logged, oldest first.
#[utoipa::path(
    get,
    path = "/v1/host/logs",
    tag = "platform",
    params(Lines),
    responses(
        (status = 200, description = "The lines", body = List<serde_json::Value>),
        (status = "4XX", description = "The request is refused", body = ErrorBody),
    )
)]
pub(crate) async fn logs(
    State(api): State<Api>,
    Fields(lines): Fields<Lines>,
) -> Result<Json<List<LogRecord>>, Refusal> {
    let limit = lines.limit.unwrap_or(LINES);
    if !(1..=MOST_LINES).contains(&limit) {
        return Err(TaskError::invalid("limit", format!("`limit` is from 1 to {MOST_LINES}")).into());
    }
    let mut data = api.0.parts.logs.ring.read(lines.after, limit.saturating_add(1));
    let has_more = lines.after.is_some() && data.len() > limit;
    if lines.after.is_some() {
        data.truncate(limit);
    } else {
        data.drain(..data.len().saturating_sub(limit));
    }
    Ok(Json(List::of(data, has_more, |line| line.sequence.to_string())))
}

/// The host was asked to stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Stopping {
    /// `stopping`.
    pub state: HostState,
}

/// Stops the host: it finishes what is under way, and ends.
///
/// For whoever shows the token that `witan up` writes into the state folder, from this machine, and for whom request policy
/// lets do `system.admin`.
#[utoipa::path(
    post,
    path = "/v1/host/stop",
    tag = "platform",
    security(("host_token" = []), ("bearer" = []), ("api_key" = [])),
    responses(
        (status = 202, description = "It stops", body = Stopping),
        (status = 401, description = "There is no credential, or it is wrong", body = ErrorBody),
        (status = 403, description = "Request policy denies it, by the decision that is named", body = ErrorBody),
        (status = "4XX", description = "The request is refused", body = ErrorBody),
    )
)]
pub(crate) async fn stop(State(api): State<Api>, Extension(client): Extension<Client>) -> Response {
    if let Some(ledger) = &api.0.parts.ledger {
        let written = ledger.append_durable(done_by(&client, "host-stop-asked", "host")).await;
        // A host whose disk fails must still end when it is asked to.
        if let Err(error) = written {
            tracing::error!(%error, "that the host was asked to stop is not in the ledger");
        }
    }
    tracing::info!("a client asked the host to stop");
    api.0.stop.cancel();
    (StatusCode::ACCEPTED, Json(Stopping { state: HostState::Stopping })).into_response()
}

/// What `client` has done to the host, as the ledger keeps it.
fn done_by(client: &Client, action: &str, resource: &str) -> Entry {
    let entry = Entry::new(Kind::Administration, action, resource).by(client.tenant().as_str(), client.principal());
    entry.with("peer", client.address())
}

/// What a host logs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LogLevel {
    /// A level, or a filter such as `info,witan_http=trace`.
    pub filter: String,
}

/// What the host logs.
#[utoipa::path(
    get,
    path = "/v1/logs/level",
    tag = "platform",
    responses((status = 200, description = "The filter", body = LogLevel))
)]
pub(crate) async fn log_level(State(api): State<Api>) -> Json<LogLevel> {
    Json(LogLevel { filter: api.0.parts.logs.levels.get() })
}

/// Changes what the host logs, until it ends.
///
/// For whoever shows the token that `witan up` writes into the state folder, from this machine, and for whom request policy
/// lets do `system.admin`.
#[utoipa::path(
    post,
    path = "/v1/logs/level",
    tag = "platform",
    security(("host_token" = []), ("bearer" = []), ("api_key" = [])),
    request_body = LogLevel,
    responses(
        (status = 200, description = "What is logged from now on", body = LogLevel),
        (status = 401, description = "There is no credential, or it is wrong", body = ErrorBody),
        (status = 403, description = "Request policy denies it, by the decision that is named", body = ErrorBody),
        (status = "4XX", description = "The request is refused", body = ErrorBody),
    )
)]
pub(crate) async fn set_log_level(
    State(api): State<Api>,
    Extension(client): Extension<Client>,
    body: Body,
) -> Result<Json<LogLevel>, Refusal> {
    let wanted: LogLevel = serde_json::from_slice(&read(body).await?)
        .map_err(|error| TaskError::new(Code::InvalidRequest, format!("the body is not what it should be: {error}")))?;
    let refused = |error: witan_telemetry::FilterError| TaskError::invalid("filter", error.to_string());
    witan_telemetry::Levels::check(&wanted.filter).map_err(refused)?;
    if let Some(ledger) = &api.0.parts.ledger {
        ledger.append_durable(done_by(&client, "log-level", &wanted.filter)).await.map_err(|error| {
            TaskError::new(Code::Unavailable, format!("what cannot be written down is not done: {error}"))
        })?;
    }
    let before = api.0.parts.logs.levels.set(&wanted.filter).map_err(refused)?;
    tracing::info!(before, filter = wanted.filter, "what is logged was changed");
    Ok(Json(wanted))
}
