//! `/v1/auth`: how people log in, refresh, log out, and see their sessions.

use axum::{
    Json,
    body::Body,
    extract::{Extension, Path, State},
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;
use witan_identity::{
    Begin, Caller, Client, Ended, IdentityError, LoginError, Page, Peer, Secret, Session, Tokens, Verb,
};
use witan_tasks::{Code, TaskError};

use crate::{
    Api, List,
    answer::{ErrorBody, Refusal},
    gate::{self, Stopped},
    tasks::{Fields, read},
};

/// Things in one page of a list, where the client does not say, and at most.
const PAGE: usize = 20;
const LARGEST_PAGE: usize = 100;

/// The cookie of a login that has begun. It goes back to `/v1/auth` of this host alone.
const COOKIE: &str = "witan_login";

/// What somebody who logged in is given.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TokenView {
    /// What requests are sent with, as `Authorization: Bearer`.
    pub access_token: String,
    /// `Bearer`.
    pub token_type: String,
    /// How long the access token is good, in seconds.
    pub expires_in: u64,
    /// What is traded at `POST /v1/auth/token` for the next two tokens, once.
    pub refresh_token: String,
    /// The session.
    #[schema(value_type = String, format = "uuid")]
    pub session: Uuid,
}

impl From<Tokens> for TokenView {
    fn from(tokens: Tokens) -> Self {
        Self {
            access_token: tokens.access.expose().to_owned(),
            token_type: "Bearer".to_owned(),
            expires_in: tokens.time.as_secs(),
            refresh_token: tokens.refresh.expose().to_owned(),
            session: tokens.session,
        }
    }
}

/// What is traded for tokens.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(tag = "grant_type", rename_all = "snake_case")]
pub enum TokenRequest {
    /// A refresh token.
    RefreshToken {
        /// The token. It is good once: when it comes a second time, the session ends.
        refresh_token: String,
    },
    /// The code that a login on the command line ended with.
    AuthorizationCode {
        /// The code.
        code: String,
        /// The secret of the challenge that the login began with.
        code_verifier: String,
    },
}

/// A session of somebody who logged in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionView {
    /// The session.
    #[schema(value_type = String, format = "uuid")]
    pub id: Uuid,
    /// `session`.
    pub object: String,
    /// Whose it is.
    pub principal: String,
    /// Whether it is the one that this request was sent with.
    pub current: bool,
    /// Whether it is good.
    pub active: bool,
    /// With what they logged in, as that says of itself.
    pub agent: String,
    /// From where they logged in.
    pub address: String,
    /// When they logged in, in seconds since 1970.
    pub created_at: i64,
    /// When it was refreshed last.
    pub used_at: i64,
    /// When it ends unless it is refreshed.
    pub idle_at: i64,
    /// When it ends at last.
    pub expires_at: i64,
    /// When it was revoked.
    pub revoked_at: Option<i64>,
}

impl SessionView {
    fn of(session: &Session, client: &Client) -> Self {
        Self {
            id: session.id,
            object: "session".to_owned(),
            principal: session.principal.clone(),
            current: client.credential() == Some(session.id),
            active: session.is_good(),
            agent: session.agent.clone(),
            address: session.address.clone(),
            created_at: session.created,
            used_at: session.used,
            idle_at: session.idle,
            expires_at: session.expires,
            revoked_at: session.revoked,
        }
    }
}

/// Who a client is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Whoami {
    /// Who, in policies and records.
    pub principal: String,
    /// `local`, `key`, `user` or `service`.
    pub kind: String,
    /// Whose tenant.
    pub tenant: String,
    /// What they are.
    pub roles: Vec<String>,
    /// How far they are trusted.
    pub trust: String,
    /// What they may ask for.
    pub scopes: Vec<String>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct LoginQuery {
    /// Where a command of this machine waits for the end of the login: `http://127.0.0.1:PORT/…`. Without it, the browser is
    /// given the tokens itself.
    #[serde(default)]
    redirect: Option<String>,
    /// With `redirect`: the SHA-256 digest of a secret of that command, as PKCE writes it.
    #[serde(default)]
    challenge: Option<String>,
    /// With `redirect`: what that command gets back unchanged.
    #[serde(default)]
    state: Option<String>,
}

/// Begins a login: sends the browser to the provider.
#[utoipa::path(
    get,
    path = "/v1/auth/login",
    tag = "auth",
    params(LoginQuery),
    responses(
        (status = 302, description = "To the provider"),
        (status = "4XX", description = "The request is refused, or nobody logs in here", body = ErrorBody),
        (status = "5XX", description = "The provider cannot be asked", body = ErrorBody),
    )
)]
pub(crate) async fn login(
    State(api): State<Api>,
    Fields(query): Fields<LoginQuery>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let caller = query
        .redirect
        .map(|redirect| Caller::new(&redirect, &query.challenge.unwrap_or_default(), &query.state.unwrap_or_default()));
    let caller = caller.transpose().map_err(|error| login_refusal(&error))?;
    let origin = origin(&api, &headers);
    let begin = Begin { callback: format!("{origin}/v1/auth/callback"), caller };
    let begun = api.0.parts.identities.begin_login(begin).await.map_err(|error| login_refusal(&error))?;
    let secure = if origin.starts_with("https:") { "; Secure" } else { "" };
    let cookie =
        format!("{COOKIE}={}; Path=/v1/auth; HttpOnly; SameSite=Lax; Max-Age=600{secure}", begun.cookie.expose());
    redirect(&begun.location, &cookie)
}

/// Where the browser reaches this host.
fn origin(api: &Api, headers: &HeaderMap) -> String {
    api.0.parts.identities.public_url().map_or_else(
        || {
            // The front has seen that it is a name of this host.
            let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
            format!("http://{}", host.unwrap_or("localhost"))
        },
        |url| url.to_string(),
    )
}

fn redirect(location: &str, cookie: &str) -> Result<Response, Refusal> {
    let value = |text: &str| {
        HeaderValue::try_from(text).map_err(|_| TaskError::new(Code::Internal, "an address cannot be written"))
    };
    let mut response = StatusCode::FOUND.into_response();
    response.headers_mut().insert(header::LOCATION, value(location)?);
    response.headers_mut().insert(header::SET_COOKIE, value(cookie)?);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct CallbackQuery {
    /// What the login began with.
    #[serde(default)]
    state: Option<String>,
    /// The provider's code.
    #[serde(default)]
    code: Option<String>,
    /// Why the provider refuses.
    #[serde(default)]
    error: Option<String>,
}

/// Ends a login that the provider has sent the browser back from.
///
/// The browser is given the tokens, or is sent to the command that waits for it.
#[utoipa::path(
    get,
    path = "/v1/auth/callback",
    tag = "auth",
    params(CallbackQuery),
    responses(
        (status = 200, description = "The tokens", body = TokenView),
        (status = 302, description = "To the command that waits"),
        (status = "4XX", description = "The login is refused", body = ErrorBody),
        (status = "5XX", description = "The provider cannot be asked", body = ErrorBody),
    )
)]
pub(crate) async fn callback(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    Fields(query): Fields<CallbackQuery>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let code = match (&query.code, &query.error) {
        (_, Some(error)) => Err(error.as_str()),
        (Some(code), None) => Ok(code.as_str()),
        (None, None) => return Err(TaskError::invalid("code", "`code` is missing").into()),
    };
    let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    let state = query.state.as_deref().unwrap_or_default();
    let identities = &api.0.parts.identities;
    let ended = identities.end_login(cookie(&headers), state, code, peer.address, agent).await;
    let gone = format!("{COOKIE}=; Path=/v1/auth; HttpOnly; SameSite=Lax; Max-Age=0");
    match ended.map_err(|error| login_refusal(&error))? {
        Ended::Caller(location) => redirect(&location, &gone),
        Ended::Tokens(tokens) => {
            let mut response = secret(TokenView::from(tokens)).into_response();
            if let Ok(gone) = HeaderValue::try_from(gone) {
                response.headers_mut().insert(header::SET_COOKIE, gone);
            }
            Ok(response)
        }
    }
}

/// The cookie of a login; empty where there is none.
pub(crate) fn cookie(headers: &HeaderMap) -> &str {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|cookies| cookies.to_str().ok());
    let mut pairs = all.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map_or("", |(_, value)| value)
}

/// An answer that nobody keeps.
pub(crate) fn secret<T: Serialize>(answer: T) -> impl axum::response::IntoResponse {
    ([(header::CACHE_CONTROL, "no-store")], Json(answer))
}

/// Trades a refresh token, or the code of a login on the command line, for tokens.
#[utoipa::path(
    post,
    path = "/v1/auth/token",
    tag = "auth",
    request_body = TokenRequest,
    responses(
        (status = 200, description = "The tokens", body = TokenView),
        (status = 401, description = "It is not good, or was traded before", body = ErrorBody),
        (status = "4XX", description = "The request is refused", body = ErrorBody),
        (status = "5XX", description = "It cannot be found out now", body = ErrorBody),
    )
)]
pub(crate) async fn token(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Result<Response, Refusal> {
    let request: TokenRequest = json(body).await?;
    let identities = &api.0.parts.identities;
    let traded = match request {
        TokenRequest::RefreshToken { refresh_token } => identities.refresh(&refresh_token, peer.address).await,
        TokenRequest::AuthorizationCode { code, code_verifier } => {
            identities.redeem(&code, &code_verifier, peer.address).await
        }
    };
    match traded {
        Ok(tokens) => Ok(secret(TokenView::from(tokens)).into_response()),
        Err(error) => Err(match Stopped::from(error) {
            Stopped::Error(error) => error,
            Stopped::Wait(error, _) => error,
        }
        .into()),
    }
}

/// Ends the session that the request is sent with.
#[utoipa::path(
    post,
    path = "/v1/auth/logout",
    tag = "auth",
    responses(
        (status = 200, description = "The session, which has ended", body = SessionView),
        (status = "4XX", description = "The request is refused, or is not sent with a session", body = ErrorBody),
        (status = "5XX", description = "It cannot be ended now", body = ErrorBody),
    )
)]
pub(crate) async fn logout(
    State(api): State<Api>,
    Extension(client): Extension<Client>,
) -> Result<Json<SessionView>, Refusal> {
    let (tenant, principal) = (Some(client.tenant()), Some(client.principal()));
    let Some(id) = client.credential() else { return Err(not_a_session()) };
    let directory = api.0.parts.identities.directory();
    match directory.revoke_session(tenant, principal, id, client.principal()).await {
        Ok(session) => Ok(Json(SessionView::of(&session, &client))),
        Err(IdentityError::NoSession(_)) => Err(not_a_session()),
        Err(error) => Err(identity_refusal(&error)),
    }
}

fn not_a_session() -> Refusal {
    TaskError::invalid("Authorization", "the request is not sent with a session, so that there is none to end").into()
}

/// Says who the client is.
#[utoipa::path(
    get,
    path = "/v1/auth/me",
    tag = "auth",
    responses(
        (status = 200, description = "Who they are", body = Whoami),
        (status = "4XX", description = "The request is refused", body = ErrorBody),
    )
)]
pub(crate) async fn me(Extension(client): Extension<Client>) -> Json<Whoami> {
    Json(Whoami {
        principal: client.principal().to_owned(),
        kind: client.kind().name().to_owned(),
        tenant: client.tenant().to_string(),
        roles: client.roles().iter().map(ToString::to_string).collect(),
        trust: client.trust().to_string(),
        scopes: client.scopes().iter().map(ToString::to_string).collect(),
    })
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SessionsQuery {
    /// Sessions in the answer: 1 to 100, 20 if not given.
    #[param(minimum = 1, maximum = 100)]
    #[serde(default)]
    limit: Option<usize>,
    /// The `last_id` of the page before.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    after: Option<Uuid>,
    /// All of the tenant instead of the client's own; needs the scope `sessions:read`.
    #[serde(default)]
    all: bool,
}

/// Lists sessions, the newest first.
#[utoipa::path(
    get,
    path = "/v1/auth/sessions",
    tag = "auth",
    params(SessionsQuery),
    responses(
        (status = 200, description = "The sessions", body = List<SessionView>),
        (status = "4XX", description = "The request is refused", body = ErrorBody),
        (status = "5XX", description = "They cannot be read now", body = ErrorBody),
    )
)]
pub(crate) async fn sessions(
    State(api): State<Api>,
    Extension(client): Extension<Client>,
    Fields(query): Fields<SessionsQuery>,
    head: Parts,
) -> Result<Json<List<SessionView>>, Refusal> {
    if query.all {
        gate::may(&client, "sessions", Verb::Read)?;
        api.manages_keys(&head)?;
    }
    let page = page(query.limit, query.after)?;
    let found = api.0.parts.identities.sessions(&client, query.all, page).await;
    let (sessions, more) = found.map_err(|error| identity_refusal(&error))?;
    let views = sessions.iter().map(|session| SessionView::of(session, &client)).collect();
    Ok(Json(List::of(views, more, |view: &SessionView| view.id.to_string())))
}

/// Ends a session. One that is not the client's own needs the scope `sessions:write`.
#[utoipa::path(
    delete,
    path = "/v1/auth/sessions/{id}",
    tag = "auth",
    params(("id" = String, Path, description = "The session")),
    responses(
        (status = 200, description = "The session, which has ended", body = SessionView),
        (status = 404, description = "There is no such session", body = ErrorBody),
        (status = "4XX", description = "The request is refused", body = ErrorBody),
        (status = "5XX", description = "It cannot be ended now", body = ErrorBody),
    )
)]
pub(crate) async fn end_session(
    State(api): State<Api>,
    Extension(client): Extension<Client>,
    Path(id): Path<String>,
    head: Parts,
) -> Result<Json<SessionView>, Refusal> {
    let id = id.parse().map_err(|_| no_session())?;
    let directory = api.0.parts.identities.directory();
    let (tenant, by) = (Some(client.tenant()), client.principal());
    let mut ended = directory.revoke_session(tenant, Some(by), id, by).await;
    if matches!(ended, Err(IdentityError::NoSession(_))) && gate::may(&client, "sessions", Verb::Write).is_ok() {
        api.manages_keys(&head)?;
        ended = directory.revoke_session(tenant, None, id, by).await;
    }
    ended.map(|session| Json(SessionView::of(&session, &client))).map_err(|error| identity_refusal(&error))
}

fn no_session() -> Refusal {
    TaskError::new(Code::NotFound, "there is no such session").at("id").into()
}

/// The page that a client asks for.
pub(crate) fn page(limit: Option<usize>, after: Option<Uuid>) -> Result<Page, Refusal> {
    let limit = limit.unwrap_or(PAGE);
    if !(1..=LARGEST_PAGE).contains(&limit) {
        return Err(TaskError::invalid("limit", format!("`limit` is from 1 to {LARGEST_PAGE}")).into());
    }
    Ok(Page { limit, after })
}

/// The body of a request, as JSON. What it says is not shown: it may be a secret.
pub(crate) async fn json<T: serde::de::DeserializeOwned>(body: Body) -> Result<T, Refusal> {
    let body = zeroize::Zeroizing::new(read(body).await?.to_vec());
    serde_json::from_slice(&body).map_err(|error| {
        let message = match error.classify() {
            serde_json::error::Category::Data => "the body has not the fields that /openapi.json describes",
            _ => "the body is not JSON",
        };
        TaskError::new(Code::InvalidRequest, message).into()
    })
}

/// What a client is told of why identities are not read or changed.
pub(crate) fn identity_refusal(error: &IdentityError) -> Refusal {
    let refused = match error {
        IdentityError::NoSession(_) => return no_session(),
        IdentityError::NoKey(_) => TaskError::new(Code::NotFound, "there is no such key").at("id"),
        IdentityError::KeyEnded(_) => TaskError::invalid("id", "the key has ended; make a new one"),
        IdentityError::Unrecorded(_) => TaskError::new(Code::Unavailable, error.to_string()),
        IdentityError::Named(_) => TaskError::invalid("name", error.to_string()),
        IdentityError::NoTenant(_) => TaskError::invalid("tenant", error.to_string()),
        error => {
            tracing::error!(%error, "identities cannot be read or changed");
            TaskError::new(Code::Unavailable, "this cannot be read or changed now; try again later")
        }
    };
    refused.into()
}

fn login_refusal(error: &LoginError) -> Refusal {
    let message = error.to_string();
    let refused = match error {
        LoginError::NotSetUp => TaskError::new(Code::NotFound, message),
        LoginError::Caller(what) => TaskError::invalid(*what, message),
        LoginError::Unknown => TaskError::invalid("state", message),
        LoginError::Refused(_) | LoginError::NotBelieved(_) => TaskError::new(Code::Unauthorized, message),
        LoginError::Provider(_) | LoginError::Unavailable(_) => {
            tracing::warn!(
                error = message,
                cause = std::error::Error::source(error).map(ToString::to_string),
                "a login"
            );
            TaskError::new(Code::Unavailable, message)
        }
    };
    refused.into()
}

/// A secret as an answer shows it, this once.
pub(crate) fn shown(secret: &Secret) -> String {
    secret.expose().to_owned()
}
