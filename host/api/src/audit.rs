//! `/v1/audit`: the entries of the ledger, its checkpoint, and proofs.

use axum::{
    Json,
    extract::{Extension, State},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;
use witan_identity::{Client, TenantName, TrustLevel};
use witan_ledger::{Filter, Hash, Kind, Page, Placed, ReadError, Reader, Verdict};
use witan_merkle_log::LogError;
use witan_tasks::{Code, TaskError};

use crate::{
    Api, List,
    answer::{ErrorBody, Refusal},
    tasks::Fields,
};

/// Entries in one page, where the client does not say.
const PAGE: usize = 50;
/// Entries in one page at most.
const LARGEST_PAGE: usize = 1_000;

/// An entry of the ledger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// Its number, as text.
    pub id: String,
    /// Its number, from 0.
    pub index: u64,
    /// Whether what it said was erased.
    pub erased: bool,
    /// What it says; `docs/audit.md` has the fields.
    pub entry: Option<serde_json::Value>,
}

/// The newest checkpoint of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditCheckpoint {
    /// What the ledger calls itself.
    pub origin: String,
    /// Entries under the checkpoint.
    pub size: u64,
    /// The root of their tree, in Base64.
    pub root: String,
    /// When it was made, in seconds since 1970.
    pub time: Option<u64>,
    /// The signed note (C2SP `tlog-checkpoint`), co-signed with its time.
    pub checkpoint: String,
    /// The keys of the ledger, the first one first: each after it is signed for by the one before.
    pub keys: Vec<String>,
}

/// That an entry is in the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditInclusion {
    /// The entry's number.
    pub index: u64,
    /// Entries of the tree that it is in.
    pub size: u64,
    /// The root of that tree, in Base64.
    pub root: String,
    /// The leaf, in Base64.
    pub leaf: String,
    /// The proof (RFC 6962), in Base64.
    pub hashes: Vec<String>,
}

/// That the ledger of some entries is how a later one began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditConsistency {
    /// Entries of the earlier tree.
    pub from: u64,
    /// Its root, in Base64.
    pub from_root: String,
    /// Entries of the later tree.
    pub size: u64,
    /// Its root, in Base64.
    pub root: String,
    /// The proof (RFC 6962), in Base64.
    pub hashes: Vec<String>,
}

impl AuditConsistency {
    /// The proof; nothing where it is none.
    #[must_use]
    pub fn hashes(&self) -> Option<Vec<Hash>> {
        self.hashes.iter().map(|text| BASE64_STANDARD.decode(text).ok()?.try_into().ok().map(Hash)).collect()
    }
}

/// A proof: of an entry, or of a beginning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum AuditProof {
    /// That an entry is in the ledger.
    Inclusion(AuditInclusion),
    /// That the ledger of some entries is how a later one began.
    Consistency(AuditConsistency),
}

/// In which order entries are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Order {
    /// The oldest first.
    #[default]
    Asc,
    /// The newest first.
    Desc,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Asked {
    /// Not before, in milliseconds since 1970.
    since_ms: Option<u64>,
    /// Not after, in milliseconds since 1970.
    until_ms: Option<u64>,
    /// `decision`, `load`, `grant`, `task`, `administration`, `egress` or `ledger`.
    kind: Option<String>,
    /// Of a tenant. Who may see one tenant alone sees no other, nor whether there is one.
    tenant: Option<String>,
    /// By or about a person.
    principal: Option<String>,
    /// Of a component.
    component: Option<String>,
    /// `allow` or `deny`.
    decision: Option<String>,
    /// The decision with this id, and what follows from it.
    #[param(value_type = Option<String>, format = "uuid")]
    decision_id: Option<Uuid>,
    /// Of a task.
    #[param(value_type = Option<String>, format = "uuid")]
    task: Option<Uuid>,
    /// `asc`, the oldest first, or `desc`.
    #[serde(default)]
    #[param(inline)]
    order: Order,
    /// The id of the last entry that the client has.
    after: Option<u64>,
    /// Entries in the answer: 1 to 1000, 50 if not given.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

impl Asked {
    fn filter(&self) -> Result<Filter, TaskError> {
        let kind = self.kind.as_deref().map(str::parse::<Kind>).transpose();
        let decision = match self.decision.as_deref() {
            None => None,
            Some("allow") => Some(Verdict::Allow),
            Some("deny") => Some(Verdict::Deny),
            Some(_) => return Err(TaskError::invalid("decision", "`decision` is `allow` or `deny`")),
        };
        Ok(Filter {
            since_ms: self.since_ms,
            until_ms: self.until_ms,
            kind: kind.map_err(|error| TaskError::invalid("kind", error))?,
            tenant: self.tenant.clone(),
            principal: self.principal.clone(),
            component: self.component.clone(),
            decision,
            decision_id: self.decision_id,
            task: self.task,
        })
    }
}

/// Whose entries a client sees.
#[derive(Clone, Debug)]
enum Sight {
    /// Everybody's.
    All,
    /// Those of one tenant.
    Tenant(String),
}

/// Whether `client` is the host's operator, for whom the ledger is not one tenant's.
pub(crate) fn sees_all(client: &Client) -> bool {
    client.trust() == TrustLevel::Privileged && client.tenant() == &TenantName::local()
}

impl Sight {
    /// What `client` sees: the operator all of it, and who administers a tenant what is that tenant's. Others do not get here.
    fn of(client: &Client) -> Self {
        if sees_all(client) { Self::All } else { Self::Tenant(client.tenant().to_string()) }
    }

    /// The same filter, which takes nothing that may not be seen; nothing where it asks for that alone.
    fn narrow(&self, filter: Filter) -> Option<Filter> {
        match self {
            Self::All => Some(filter),
            Self::Tenant(own) if filter.tenant.as_ref().is_some_and(|asked| asked != own) => None,
            Self::Tenant(own) => Some(Filter { tenant: Some(own.clone()), ..filter }),
        }
    }

    /// Whether entry `index` may be seen.
    fn sees(&self, reader: &Reader, index: u64) -> Result<bool, ReadError> {
        let Self::Tenant(own) = self else { return Ok(true) };
        let placed = reader.entry(index)?;
        Ok(placed.and_then(|placed| placed.entry).is_some_and(|entry| entry.tenant == *own))
    }
}

/// Reads from the ledger, on a thread that may wait for the disk.
async fn read<T: Send + 'static>(
    api: &Api,
    read: impl FnOnce(&Reader) -> Result<T, ReadError> + Send + 'static,
) -> Result<T, TaskError> {
    let Some(ledger) = api.0.parts.ledger.clone() else {
        return Err(TaskError::new(Code::NotFound, "this host keeps no ledger"));
    };
    // A page may take reading much, and the disk is needed for writing.
    let Ok(turn) = api.0.audits.clone().acquire_owned().await else {
        return Err(TaskError::new(Code::Unavailable, "the host is stopping"));
    };
    let reading = move || {
        let _turn = turn;
        read(ledger.reader())
    };
    let done = tokio::task::spawn_blocking(reading).await;
    done.map_err(|_| TaskError::new(Code::Internal, "reading the ledger was broken off"))?.map_err(
        |error| match error {
            ReadError::Proof(LogError::Beyond(size)) => {
                TaskError::invalid("size", format!("the ledger has {size} entries under a checkpoint, and no other"))
            }
            error => {
                tracing::error!(error = %error, "the ledger cannot be read");
                TaskError::new(Code::Internal, "the ledger cannot be read; `witan audit verify` says more")
            }
        },
    )
}

/// The entries of the ledger, oldest first.
///
/// The operator sees all of them, and who administers a tenant (`audit:read`, trust level `elevated`) that tenant's.
///
/// A page may have fewer entries than its limit, or none, while `has_more` is true: so many were looked at. The next page is
/// asked for with `after` and the `last_id` of this one.
#[utoipa::path(
    get,
    path = "/v1/audit/entries",
    tag = "audit",
    params(Asked),
    responses(
        (status = 200, description = "The entries", body = List<AuditEntry>),
        (status = "4XX", description = "The request is refused", body = ErrorBody),
    )
)]
pub(crate) async fn entries(
    State(api): State<Api>,
    Extension(client): Extension<Client>,
    Fields(asked): Fields<Asked>,
) -> Result<Json<List<AuditEntry>>, Refusal> {
    let sight = Sight::of(&client);
    let limit = asked.limit.unwrap_or(PAGE);
    if !(1..=LARGEST_PAGE).contains(&limit) {
        return Err(TaskError::invalid("limit", format!("`limit` is from 1 to {LARGEST_PAGE}")).into());
    }
    let (filter, order, after) = (asked.filter()?, asked.order, asked.after);
    let Some(filter) = sight.narrow(filter) else { return Ok(Json(List::of(Vec::new(), false, |_| String::new()))) };
    let page = read(&api, move |reader| match order {
        Order::Asc => reader.after(&filter, after, limit),
        Order::Desc => reader.before(&filter, after, limit),
    });
    let Page { entries, more, cursor } = page.await?;
    let shown = |placed: Placed| AuditEntry {
        id: placed.index.to_string(),
        index: placed.index,
        erased: placed.entry.is_none(),
        entry: placed.entry.and_then(|entry| serde_json::to_value(entry).ok()),
    };
    let mut list = List::of(entries.into_iter().map(shown).collect(), more, |entry| entry.id.clone());
    if more {
        list.last_id = cursor.map(|cursor| cursor.to_string());
    }
    Ok(Json(list))
}

/// The newest checkpoint of the ledger, signed and bound to a time. Whoever keeps one can tell later whether what it covers was
/// changed.
#[utoipa::path(
    get,
    path = "/v1/audit/checkpoint",
    tag = "audit",
    responses(
        (status = 200, description = "The checkpoint", body = AuditCheckpoint),
        (status = "4XX", description = "The request is refused, or there is none yet", body = ErrorBody),
    )
)]
pub(crate) async fn checkpoint(State(api): State<Api>) -> Result<Json<AuditCheckpoint>, Refusal> {
    let newest = read(&api, |reader| Ok(reader.checkpoint()?.zip(Some(reader.host_keys()?)))).await?;
    let (timed, keys) =
        newest.ok_or_else(|| TaskError::new(Code::NotFound, "the ledger has no checkpoint yet; ask again soon"))?;
    Ok(Json(AuditCheckpoint {
        origin: keys.origin().to_owned(),
        size: timed.checkpoint.size(),
        root: timed.checkpoint.root().to_string(),
        time: timed.time,
        checkpoint: timed.checkpoint.note().to_owned(),
        keys: keys.lines(),
    }))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Proven {
    /// The entry that is to be shown to be in the ledger.
    index: Option<u64>,
    /// The earlier size, of which it is to be shown that the ledger began so.
    from: Option<u64>,
    /// Entries of the tree; those of the newest checkpoint if not given.
    size: Option<u64>,
}

/// That an entry is in the ledger (`index`), or that the ledger of `from` entries is how a later one began.
#[utoipa::path(
    get,
    path = "/v1/audit/proof",
    tag = "audit",
    params(Proven),
    responses(
        (status = 200, description = "The proof", body = AuditProof),
        (status = "4XX", description = "The request is refused", body = ErrorBody),
    )
)]
pub(crate) async fn proof(
    State(api): State<Api>,
    Extension(client): Extension<Client>,
    Fields(asked): Fields<Proven>,
) -> Result<Json<AuditProof>, Refusal> {
    let sight = Sight::of(&client);
    let size = asked.size;
    let words = |hashes: Vec<Hash>| hashes.iter().map(Hash::to_string).collect();
    let proof = match (asked.index, asked.from) {
        (Some(index), None) => {
            let proven = read(&api, move |reader| {
                let tree = reader.tree()?;
                let size = size.unwrap_or(tree.size());
                if !sight.sees(reader, index)? {
                    return Err(LogError::Beyond(tree.size()).into());
                }
                Ok((size, tree.root(size)?, tree.inclusion(index, size)?, tree.leaf(index)?))
            });
            let (size, root, hashes, leaf) = proven.await?;
            let (root, leaf, hashes) = (root.to_string(), BASE64_STANDARD.encode(leaf), words(hashes));
            AuditProof::Inclusion(AuditInclusion { index, size, root, leaf, hashes })
        }
        (None, Some(from)) => {
            let proven = read(&api, move |reader| {
                let tree = reader.tree()?;
                let size = size.unwrap_or(tree.size());
                Ok((tree.root(from)?, size, tree.root(size)?, tree.consistency(from, size)?))
            });
            let (from_root, size, root, hashes) = proven.await?;
            let (from_root, root, hashes) = (from_root.to_string(), root.to_string(), words(hashes));
            AuditProof::Consistency(AuditConsistency { from, from_root, size, root, hashes })
        }
        _ => return Err(TaskError::invalid("index", "give either `index` or `from`").into()),
    };
    Ok(Json(proof))
}
