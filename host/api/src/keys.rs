//! `/v1/keys`: the API keys of a tenant.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use axum::{
    Json,
    body::Body,
    extract::{Extension, Path, State},
    response::{IntoResponse as _, Response},
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;
use witan_identity::{Client, Directory, IdentityError, Key, Kind, NewKey, Scope, Secret, TrustLevel};
use witan_tasks::{Code, TaskError};

use crate::{
    Api, List,
    answer::{ErrorBody, Refusal},
    auth::{identity_refusal, json, page, secret, shown},
    tasks::Fields,
};

/// The most scopes and roles of a key.
const MOST: usize = 64;
/// The longest that a key is good, where it ends at all: ten years, in seconds.
const LONGEST: u64 = 10 * 366 * 24 * 3_600;

/// A key: never its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyView {
    /// The key.
    #[schema(value_type = String, format = "uuid")]
    pub id: Uuid,
    /// `key`.
    pub object: String,
    /// What its owner calls it.
    pub name: String,
    /// How its secret begins.
    pub hint: String,
    /// Whose it is.
    pub tenant: String,
    /// What it may ask for.
    pub scopes: Vec<String>,
    /// What policies know it as.
    pub roles: Vec<String>,
    /// How far it is trusted.
    pub trust: String,
    /// Whether it is good.
    pub active: bool,
    /// When it was made, in seconds since 1970.
    pub created_at: i64,
    /// Who made it.
    pub created_by: String,
    /// When it ends.
    pub expires_at: Option<i64>,
    /// When it was revoked.
    pub revoked_at: Option<i64>,
    /// The key that it takes the place of.
    #[schema(value_type = Option<String>)]
    pub replaces: Option<Uuid>,
}

impl From<Key> for KeyView {
    fn from(key: Key) -> Self {
        Self {
            active: key.is_good(),
            id: key.id,
            object: "key".to_owned(),
            name: key.name,
            hint: key.hint,
            tenant: key.tenant.to_string(),
            scopes: key.scopes.iter().map(ToString::to_string).collect(),
            roles: key.roles.iter().map(ToString::to_string).collect(),
            trust: key.trust.to_string(),
            created_at: key.created,
            created_by: key.created_by,
            expires_at: key.expires,
            revoked_at: key.revoked,
            replaces: key.replaces,
        }
    }
}

/// A key that was just made, with its secret, which is not kept and cannot be shown again.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct MadeKey {
    /// The key.
    #[serde(flatten)]
    pub key: KeyView,
    /// Its secret.
    pub secret: String,
}

/// What a key is to be.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewKeyRequest {
    /// What you call it.
    pub name: String,
    /// What it may ask for; nothing that you may not.
    pub scopes: Vec<String>,
    /// What policies know it as; nothing that you are not.
    #[serde(default)]
    pub roles: Vec<String>,
    /// How far it is trusted; no further than you. Default: `restricted` or `standard`, as you are at most.
    #[serde(default)]
    pub trust: Option<String>,
    /// How many seconds it is good; for good without. One that a key makes ends with that one at the latest.
    #[serde(default)]
    pub expires_in: Option<u64>,
}

/// How a key is replaced.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateRequest {
    /// How many seconds the former is good still. Default: 0.
    #[serde(default)]
    pub overlap: u64,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct KeysQuery {
    /// Keys in the answer: 1 to 100, 20 if not given.
    #[param(minimum = 1, maximum = 100)]
    #[serde(default)]
    limit: Option<usize>,
    /// The `last_id` of the page before.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    after: Option<Uuid>,
}

fn made((key, made): (Key, Secret), status: StatusCode) -> Response {
    (status, secret(MadeKey { key: key.into(), secret: shown(&made) })).into_response()
}

/// Lists the tenant's keys, the newest first, also those that have ended.
#[utoipa::path(
    get,
    operation_id = "list_keys",
    path = "/v1/keys",
    tag = "keys",
    params(KeysQuery),
    responses(
        (status = 200, description = "The keys", body = List<KeyView>),
        (status = "4XX", description = "The request is refused", body = ErrorBody),
        (status = "5XX", description = "They cannot be read now", body = ErrorBody),
    )
)]
pub(crate) async fn list(
    State(api): State<Api>,
    Extension(client): Extension<Client>,
    Fields(query): Fields<KeysQuery>,
) -> Result<Json<List<KeyView>>, Refusal> {
    let page = page(query.limit, query.after)?;
    let found = api.0.parts.identities.directory().keys(Some(client.tenant()), page).await;
    let (keys, more) = found.map_err(|error| identity_refusal(&error))?;
    let views = keys.into_iter().map(KeyView::from).collect();
    Ok(Json(List::of(views, more, |view: &KeyView| view.id.to_string())))
}

/// Makes a key, and shows its secret this once. Nobody gives a key what they may not do themselves.
#[utoipa::path(
    post,
    operation_id = "create_key",
    path = "/v1/keys",
    tag = "keys",
    request_body = NewKeyRequest,
    responses(
        (status = 201, description = "The key with its secret", body = MadeKey),
        (status = 403, description = "It would be for more than you are", body = ErrorBody),
        (status = "4XX", description = "The request is refused", body = ErrorBody),
        (status = "5XX", description = "It cannot be made now", body = ErrorBody),
    )
)]
pub(crate) async fn create(
    State(api): State<Api>,
    Extension(client): Extension<Client>,
    body: Body,
) -> Result<Response, Refusal> {
    let request: NewKeyRequest = json(body).await?;
    let mut new = new_key(&client, request)?;
    let directory = api.0.parts.identities.directory();
    if let Some(left) = left(&client, directory).await.map_err(|error| identity_refusal(&error))? {
        new.time = Some(new.time.map_or(left, |time| time.min(left)));
    }
    let key = directory.create_key(&new, client.principal()).await;
    key.map(|key| made(key, StatusCode::CREATED)).map_err(|error| identity_refusal(&error))
}

/// How long the client is good still, where it is a key that ends: those that it makes end with it.
async fn left(client: &Client, directory: &Directory) -> Result<Option<Duration>, IdentityError> {
    let Some(id) = client.credential().filter(|_| client.kind() == Kind::Key) else { return Ok(None) };
    let ends = directory.key(Some(client.tenant()), id).await?.expires;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Ok(ends.map(|ends| Duration::from_secs(ends.try_into().unwrap_or(0)).saturating_sub(now)))
}

fn new_key(client: &Client, request: NewKeyRequest) -> Result<NewKey, TaskError> {
    let parsed = |field: &str, error: &dyn std::fmt::Display| TaskError::invalid(field, error.to_string());
    if request.scopes.is_empty() || request.scopes.len() > MOST || request.roles.len() > MOST {
        return Err(TaskError::invalid(
            "scopes",
            format!("a key has from 1 to {MOST} scopes, and {MOST} roles at most"),
        ));
    }
    if request.expires_in.is_some_and(|seconds| seconds == 0 || seconds > LONGEST) {
        return Err(TaskError::invalid("expires_in", format!("`expires_in` is from 1 to {LONGEST} seconds")));
    }
    let scopes: Result<Vec<Scope>, TaskError> =
        request.scopes.iter().map(|scope| scope.parse().map_err(|error| parsed("scopes", &error))).collect();
    let roles: Result<BTreeSet<_>, TaskError> =
        request.roles.iter().map(|role| role.parse().map_err(|error| parsed("roles", &error))).collect();
    let trust = match &request.trust {
        Some(trust) => trust.parse().map_err(|error| parsed("trust", &error))?,
        None => TrustLevel::Standard.min(client.trust()),
    };
    let new = NewKey {
        tenant: client.tenant().clone(),
        name: request.name,
        scopes: scopes?,
        roles: roles?,
        trust,
        time: request.expires_in.map(Duration::from_secs),
    };
    may_have(client, &new.scopes, &new.roles, new.trust)?;
    Ok(new)
}

/// Refuses who would have the secret of a key that is for more than they are.
fn may_have(
    client: &Client,
    scopes: &[Scope],
    roles: &BTreeSet<witan_identity::Name>,
    trust: TrustLevel,
) -> Result<(), TaskError> {
    let operator = client.trust() == TrustLevel::Privileged;
    if client.may_give(scopes, trust) && (operator || roles.is_subset(client.roles())) {
        return Ok(());
    }
    let message = "the key would be for more than the credential of this request is, in scopes, roles or trust";
    Err(TaskError::new(Code::InsufficientScope, message))
}

/// Shows a key.
#[utoipa::path(
    get,
    operation_id = "show_key",
    path = "/v1/keys/{id}",
    tag = "keys",
    params(("id" = String, Path, description = "The key")),
    responses(
        (status = 200, description = "The key", body = KeyView),
        (status = 404, description = "There is no such key", body = ErrorBody),
        (status = "4XX", description = "The request is refused", body = ErrorBody),
        (status = "5XX", description = "It cannot be read now", body = ErrorBody),
    )
)]
pub(crate) async fn show(
    State(api): State<Api>,
    Extension(client): Extension<Client>,
    Path(id): Path<String>,
) -> Result<Json<KeyView>, Refusal> {
    let key = api.0.parts.identities.directory().key(Some(client.tenant()), parse(&id)?).await;
    key.map(|key| Json(key.into())).map_err(|error| identity_refusal(&error))
}

/// Revokes a key: it is not good from the next request on.
#[utoipa::path(
    delete,
    operation_id = "revoke_key",
    path = "/v1/keys/{id}",
    tag = "keys",
    params(("id" = String, Path, description = "The key")),
    responses(
        (status = 200, description = "The key, which is revoked", body = KeyView),
        (status = 404, description = "There is no such key", body = ErrorBody),
        (status = "4XX", description = "The request is refused", body = ErrorBody),
        (status = "5XX", description = "It cannot be revoked now", body = ErrorBody),
    )
)]
pub(crate) async fn revoke(
    State(api): State<Api>,
    Extension(client): Extension<Client>,
    Path(id): Path<String>,
) -> Result<Json<KeyView>, Refusal> {
    let directory = api.0.parts.identities.directory();
    let key = directory.revoke_key(Some(client.tenant()), parse(&id)?, client.principal()).await;
    key.map(|key| Json(key.into())).map_err(|error| identity_refusal(&error))
}

/// Replaces a key: makes one like it, shows its secret this once, and ends the former after `overlap`.
#[utoipa::path(
    post,
    operation_id = "rotate_key",
    path = "/v1/keys/{id}/rotate",
    tag = "keys",
    params(("id" = String, Path, description = "The key")),
    request_body = RotateRequest,
    responses(
        (status = 201, description = "The new key with its secret", body = MadeKey),
        (status = 403, description = "The key is for more than you are", body = ErrorBody),
        (status = 404, description = "There is no such key", body = ErrorBody),
        (status = "4XX", description = "The request is refused", body = ErrorBody),
        (status = "5XX", description = "It cannot be replaced now", body = ErrorBody),
    )
)]
pub(crate) async fn rotate(
    State(api): State<Api>,
    Extension(client): Extension<Client>,
    Path(id): Path<String>,
    body: Body,
) -> Result<Response, Refusal> {
    let request: RotateRequest = json(body).await?;
    if request.overlap > LONGEST {
        return Err(TaskError::invalid("overlap", format!("`overlap` is at most {LONGEST} seconds")).into());
    }
    let (id, tenant) = (parse(&id)?, Some(client.tenant()));
    let directory = api.0.parts.identities.directory();
    let former = directory.key(tenant, id).await.map_err(|error| identity_refusal(&error))?;
    may_have(&client, &former.scopes, &former.roles, former.trust)?;
    let overlap = Duration::from_secs(request.overlap);
    let next = directory.rotate_key(tenant, id, overlap, client.principal()).await;
    next.map(|key| made(key, StatusCode::CREATED)).map_err(|error| identity_refusal(&error))
}

/// What is no id is the id of nothing.
fn parse(id: &str) -> Result<Uuid, Refusal> {
    id.parse().map_err(|_| TaskError::new(Code::NotFound, "there is no such key").at("id").into())
}
