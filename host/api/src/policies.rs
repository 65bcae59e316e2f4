//! `/v1/policies`: the policies that decide each request.

use std::time::SystemTime;

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
};
use http::{Extensions, Request, StatusCode};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use utoipa::{IntoParams, ToSchema};
use witan_authorize::{
    Candidate, Case, Cases, Explanation, Fault, Faults, Outcome, PolicyError, Principal, Question, ShadowView,
    VersionView,
};
use witan_tasks::{Code, TaskError};

use crate::{
    Api, List,
    answer::{ErrorBody, Refusal},
    authorize::Caller,
    tasks::{Fields, read},
};

/// Versions or differences in one answer, where the client does not say.
const PAGE: usize = 20;
/// Of those at most.
const LARGEST_PAGE: usize = 1_000;

impl From<PolicyError> for Refusal {
    fn from(error: PolicyError) -> Self {
        let message = error.to_string();
        Self(match error {
            PolicyError::Source(_) | PolicyError::Faults(_) => TaskError::invalid("policies", message),
            PolicyError::NoVersion(_) => TaskError::new(Code::NotFound, message).at("version"),
            PolicyError::NothingBefore => TaskError::invalid("version", message),
            PolicyError::Damaged(_) | PolicyError::BrokenOff => TaskError::new(Code::Internal, message),
            PolicyError::Database(_) | PolicyError::Sql(_) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the versions of the policies cannot be kept"
                );
                TaskError::new(Code::Internal, message)
            }
        })
    }
}

fn by(extensions: &Extensions) -> Principal {
    Caller::of(extensions).principal
}

async fn body<T: DeserializeOwned>(request: Request<Body>) -> Result<T, TaskError> {
    let bytes = read(request.into_body()).await?;
    // No body is an object without fields.
    let bytes = if bytes.is_empty() { &b"{}"[..] } else { &bytes };
    serde_json::from_slice(bytes).map_err(|error| TaskError::invalid("body", format!("the body does not fit: {error}")))
}

/// What nothing is said of; a body that says something is a mistake.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Page {
    /// Versions in the answer: 1 to 1000, 20 if not given.
    #[serde(default)]
    limit: Option<usize>,
    /// The `last_id` of the page before.
    #[serde(default)]
    after: Option<u64>,
}

fn limit(limit: Option<usize>) -> Result<usize, TaskError> {
    let limit = limit.unwrap_or(PAGE);
    if (1..=LARGEST_PAGE).contains(&limit) {
        return Ok(limit);
    }
    Err(TaskError::invalid("limit", format!("`limit` is from 1 to {LARGEST_PAGE}")))
}

/// Lists the versions of the policies, the newest first, without their texts.
#[utoipa::path(
    get,
    operation_id = "list_policies",
    path = "/v1/policies",
    tag = "policies",
    params(Page),
    responses(
        (status = 200, description = "The versions that are kept", body = List<VersionView>),
        (status = "4XX", description = "The request is refused", body = ErrorBody),
        (status = "5XX", description = "The versions cannot be read", body = ErrorBody),
    )
)]
pub(crate) async fn list(
    State(api): State<Api>,
    Fields(page): Fields<Page>,
) -> Result<Json<List<VersionView>>, Refusal> {
    let (versions, more) = api.0.parts.policies.versions(limit(page.limit)?, page.after).await?;
    Ok(Json(List::of(versions, more, |version| version.version.to_string())))
}

/// Shows a version of the policies with its texts.
#[utoipa::path(
    get,
    operation_id = "show_policies",
    path = "/v1/policies/{version}",
    tag = "policies",
    params(("version" = String, Path, description = "The number of the version, or `active`")),
    responses(
        (status = 200, description = "The version", body = VersionView),
        (status = 404, description = "No such version is kept", body = ErrorBody),
        (status = "4XX", description = "The request is refused", body = ErrorBody),
        (status = "5XX", description = "The version cannot be read", body = ErrorBody),
    )
)]
pub(crate) async fn show(State(api): State<Api>, Path(version): Path<String>) -> Result<Json<VersionView>, Refusal> {
    let number = match version.as_str() {
        "active" => api.0.parts.policies.authorizer().active().version,
        other => other.parse().map_err(|_| {
            TaskError::new(Code::NotFound, format!("`{other}` is no version; `GET /v1/policies` lists them"))
                .at("version")
        })?,
    };
    Ok(Json(api.0.parts.policies.version(number).await?))
}

/// Loads the policies again from where they are kept.
///
/// A set that is at fault changes nothing, and the answer names each fault. The same texts keep their version.
#[utoipa::path(
    post,
    operation_id = "reload_policies",
    path = "/v1/policies/reload",
    tag = "policies",
    responses(
        (status = 200, description = "The version that decides", body = VersionView),
        (status = "4XX", description = "The request is refused, or the policies are at fault", body = ErrorBody),
        (status = "5XX", description = "The version cannot be kept", body = ErrorBody),
    )
)]
pub(crate) async fn reload(State(api): State<Api>, request: Request<Body>) -> Result<Json<VersionView>, Refusal> {
    let by = by(request.extensions());
    let Nothing {} = body(request).await?;
    Ok(Json(api.0.parts.policies.reload(&by).await?))
}

/// What to go back to.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    /// The version; the one before the one that decides, if not given.
    #[serde(default)]
    pub version: Option<u64>,
}

/// Puts a former version of the policies back.
///
/// It needs no file, and stays across restarts until the policies are loaded again.
#[utoipa::path(
    post,
    operation_id = "roll_back_policies",
    path = "/v1/policies/rollback",
    tag = "policies",
    request_body = Rollback,
    responses(
        (status = 200, description = "The version that decides", body = VersionView),
        (status = "4XX", description = "The request is refused, or there is no such version", body = ErrorBody),
        (status = "5XX", description = "The version cannot be read", body = ErrorBody),
    )
)]
pub(crate) async fn rollback(State(api): State<Api>, request: Request<Body>) -> Result<Json<VersionView>, Refusal> {
    let by = by(request.extensions());
    let Rollback { version } = body(request).await?;
    Ok(Json(api.0.parts.policies.rollback(version, &by).await?))
}

/// What to ask of policies, and which.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyTest {
    /// Tests.
    #[serde(default)]
    pub cases: Vec<Case>,
    /// Questions without an expectation.
    #[serde(default)]
    pub questions: Vec<Question>,
    /// The policies; those that decide, if not given.
    #[serde(default)]
    pub candidate: Option<Candidate>,
}

/// What policies say.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PolicyTested {
    /// Whether every test is as it should be.
    pub passed: bool,
    /// How each test went.
    pub outcomes: Vec<Outcome>,
    /// What each question is answered.
    pub explanations: Vec<Explanation>,
    /// Faults of the candidate. Then nothing was asked.
    pub faults: Vec<Fault>,
    /// What is no fault in the policies, and yet hardly meant.
    #[serde(default)]
    pub warnings: Vec<Fault>,
}

/// Asks policies what would be decided, and by which rules. Nothing is done.
#[utoipa::path(
    post,
    operation_id = "test_policies",
    path = "/v1/policies/test",
    tag = "policies",
    request_body = PolicyTest,
    responses(
        (status = 200, description = "What they say, or what is wrong with the candidate", body = PolicyTested),
        (status = "4XX", description = "The request is refused", body = ErrorBody),
        (status = "5XX", description = "The version cannot be read", body = ErrorBody),
    )
)]
pub(crate) async fn test(State(api): State<Api>, request: Request<Body>) -> Result<Json<PolicyTested>, Refusal> {
    let PolicyTest { cases, questions, candidate } = body(request).await?;
    let most = witan_authorize::MOST_CASES;
    if cases.len() + questions.len() > most {
        return Err(TaskError::invalid("cases", format!("{most} cases and questions at most are taken")).into());
    }
    let policies = &api.0.parts.policies;
    let active = policies.authorizer().active();
    let (set, version) = match candidate {
        None => (active.set.clone(), Some(active.version)),
        Some(candidate) => match policies.check(candidate).await {
            Ok(set) => (set.into(), None),
            Err(PolicyError::Faults(Faults(faults))) => {
                let (outcomes, explanations, warnings) = (Vec::new(), Vec::new(), Vec::new());
                return Ok(Json(PolicyTested { passed: false, outcomes, explanations, faults, warnings }));
            }
            Err(error) => return Err(error.into()),
        },
    };
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    let warnings = set.warnings().to_vec();
    // Thousands of cases keep a thread busy, which must not be one that serves.
    let asked = tokio::task::spawn_blocking(move || {
        let explain = |question: Question| match question.understand(now) {
            Ok(asked) => Ok(set.explain(&asked.request(), version)),
            Err(error) => Err(TaskError::invalid("questions", error.to_string())),
        };
        let explanations = questions.into_iter().map(explain).collect::<Result<Vec<_>, _>>()?;
        Ok((Cases { cases }.run(&set, version, now), explanations))
    });
    let asked = asked.await.map_err(|_| TaskError::new(Code::Internal, "asking the policies was broken off"))?;
    let (outcomes, explanations): (Vec<Outcome>, _) = asked.map_err(Refusal)?;
    let passed = outcomes.iter().all(|outcome| outcome.passed);
    Ok(Json(PolicyTested { passed, outcomes, explanations, faults: Vec::new(), warnings }))
}

/// The candidate that is asked beside the policies that decide.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ShadowState {
    /// How it does; none where no candidate is asked.
    pub shadow: Option<ShadowView>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Differences {
    /// Differences in the answer: 1 to 1000, 20 if not given.
    #[serde(default)]
    limit: Option<usize>,
}

fn shadow_state(api: &Api, most: usize) -> Json<ShadowState> {
    Json(ShadowState { shadow: api.0.parts.policies.authorizer().shadow().map(|shadow| shadow.view(most)) })
}

/// Shows how the candidate does that is asked beside the policies that decide.
#[utoipa::path(
    get,
    operation_id = "show_shadow",
    path = "/v1/policies/shadow",
    tag = "policies",
    params(Differences),
    responses(
        (status = 200, description = "How it does", body = ShadowState),
        (status = "4XX", description = "The request is refused", body = ErrorBody),
    )
)]
pub(crate) async fn shadow(
    State(api): State<Api>,
    Fields(differences): Fields<Differences>,
) -> Result<Json<ShadowState>, Refusal> {
    Ok(shadow_state(&api, limit(differences.limit)?))
}

/// Asks a candidate whatever the policies are asked, from now on until the host ends. It decides nothing.
#[utoipa::path(
    post,
    operation_id = "begin_shadow",
    path = "/v1/policies/shadow",
    tag = "policies",
    request_body = Candidate,
    responses(
        (status = 200, description = "It is asked", body = ShadowState),
        (status = "4XX", description = "The request is refused, or the candidate is at fault", body = ErrorBody),
        (status = "5XX", description = "The version cannot be read", body = ErrorBody),
    )
)]
pub(crate) async fn begin_shadow(State(api): State<Api>, request: Request<Body>) -> Result<Json<ShadowState>, Refusal> {
    let by = by(request.extensions());
    api.0.parts.policies.begin_shadow(body(request).await?, &by).await?;
    Ok(shadow_state(&api, 0))
}

/// Asks no candidate any more.
#[utoipa::path(
    delete,
    operation_id = "end_shadow",
    path = "/v1/policies/shadow",
    tag = "policies",
    responses(
        (status = 204, description = "None is asked"),
        (status = "4XX", description = "The request is refused", body = ErrorBody),
    )
)]
pub(crate) async fn end_shadow(State(api): State<Api>, request: Request<Body>) -> Result<StatusCode, Refusal> {
    let by = by(request.extensions());
    let Nothing {} = body(request).await?;
    let _was_there = api.0.parts.policies.end_shadow(&by).await;
    Ok(StatusCode::NO_CONTENT)
}
