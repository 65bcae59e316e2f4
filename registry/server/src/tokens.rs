//! Who may do what: tokens with scopes, and the way OCI clients use them.
//!
//! A token's secret is shown once and kept as a hash. A client sends it as it is (`Bearer`, or as the password of
//! `Basic`), or trades it at `/token` for an access token that says what it is for and ends soon. An access token is
//! never more than the token it came from is at the time it is used: that is looked up every time, so a revoked token is
//! revoked at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
    time::SystemTime,
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use ring::hmac;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use sqlx::Row as _;
use uuid::Uuid;
use witan_database::Database;

use crate::names;
use crate::{Failure, Namespace, Refusal, Repository};

/// What a token's secret begins with, so that one that leaked is found by those who look for such.
const SECRET: &str = "witan_";

/// The most scopes of a token, and of a request for an access token.
const SCOPES: usize = 64;

/// What a client may do in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Read.
    Pull,
    /// Add, and yank.
    Push,
    /// Delete, where the registry's settings allow it.
    Delete,
    /// Anything, and what concerns the whole registry where the namespace is `*`.
    Admin,
}

/// Actions in a namespace, written `acme:pull,push`; `*` is every namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// The namespace; none is every one.
    namespace: Option<String>,
    actions: BTreeSet<Action>,
}

/// A token as it is listed: never its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its id.
    pub id: Uuid,
    /// What whoever made it called it.
    pub name: String,
    /// What it allows.
    pub scopes: Vec<Scope>,
    /// When it was made, in seconds since 1970.
    pub created: i64,
    /// When it ends, in seconds since 1970; never where there is none.
    pub expires: Option<i64>,
}

/// Why a scope is none.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a scope: write `namespace:actions`, such as `acme:pull,push`; `*` is every namespace")]
pub struct ScopeError(String);

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    /// Its token; none where it sent none.
    pub(crate) token: Option<Uuid>,
    scopes: Vec<Scope>,
    /// What an access token narrows it to; nothing where it sent a secret itself.
    narrowed: Option<BTreeMap<String, BTreeSet<Action>>>,
}

/// What an access token says.
#[derive(Serialize, Deserialize)]
struct Claims {
    token: Option<Uuid>,
    expires: i64,
    access: BTreeMap<String, BTreeSet<Action>>,
}

/// The key that access tokens are authenticated with. It is made anew by each process: access tokens end soon anyway.
pub(crate) struct Minter(hmac::Key);

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl Action {
    /// How it is written.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Delete => "delete",
            Self::Admin => "admin",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Pull, Self::Push, Self::Delete, Self::Admin].into_iter().find(|action| action.word() == text)
    }
}

impl FromStr for Scope {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let error = || ScopeError(text.to_owned());
        let (namespace, actions) = text.split_once(':').ok_or_else(error)?;
        let namespace = match namespace {
            "*" => None,
            name => Some(Namespace::parse(name).map_err(|_| error())?.as_str().to_owned()),
        };
        let actions =
            actions.split(',').map(|action| Action::parse(action).ok_or_else(error)).collect::<Result<_, _>>()?;
        Ok(Self { namespace, actions })
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let actions: Vec<&str> = self.actions.iter().map(|action| action.word()).collect();
        write!(f, "{}:{}", self.namespace.as_deref().unwrap_or("*"), actions.join(","))
    }
}

impl Scope {
    fn allows(&self, action: Action, namespace: Option<&Namespace>) -> bool {
        let within = match (&self.namespace, namespace) {
            (None, _) => true,
            (Some(ours), Some(asked)) => ours == asked.as_str(),
            (Some(_), None) => false,
        };
        within && (self.actions.contains(&action) || self.actions.contains(&Action::Admin))
    }
}

/// `seconds` since 1970 as RFC 3339 writes them; empty where no calendar reaches.
pub(crate) fn timestamp(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map(|time| time.to_string()).unwrap_or_default()
}

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn hashed(secret: &str) -> String {
    crate::hex(&Sha256::digest(secret.as_bytes()))
}

fn random() -> Result<[u8; 32], Failure> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|_| Failure::Damaged("the system has no random numbers".to_owned()))?;
    Ok(bytes)
}

/// Makes a token and gives its secret, which is not kept and cannot be shown again.
pub(crate) async fn create(
    database: &Database,
    name: &str,
    scopes: &[Scope],
    expires: Option<i64>,
) -> Result<(Uuid, String), Failure> {
    let secret = format!("{SECRET}{}", BASE64.encode(random()?));
    let id = Uuid::now_v7();
    let mut writer = database.write().await?;
    sqlx::query("INSERT INTO token (id, name, secret, scopes, created, expires) VALUES ($1, $2, $3, $4, $5, $6)")
        .bind(id.to_string())
        .bind(name)
        .bind(hashed(&secret))
        .bind(joined(scopes))
        .bind(now())
        .bind(expires.unwrap_or(i64::MAX))
        .execute(&mut *writer)
        .await?;
    writer.commit().await?;
    Ok((id, secret))
}

fn joined(scopes: &[Scope]) -> String {
    scopes.iter().map(Scope::to_string).collect::<Vec<_>>().join(" ")
}

fn split(scopes: &str) -> Result<Vec<Scope>, Failure> {
    let damaged = |error: ScopeError| Failure::Damaged(error.to_string());
    scopes.split_whitespace().map(|scope| scope.parse().map_err(damaged)).collect()
}

/// Every token.
pub(crate) async fn list(database: &Database) -> Result<Vec<Token>, Failure> {
    let rows = sqlx::query("SELECT id, name, scopes, created, expires FROM token ORDER BY id")
        .fetch_all(database.pool())
        .await?;
    rows.iter().map(token).collect()
}

fn token(row: &sqlx::any::AnyRow) -> Result<Token, Failure> {
    let id: String = row.try_get("id")?;
    let expires: i64 = row.try_get("expires")?;
    Ok(Token {
        id: Uuid::try_parse(&id).map_err(|_| Failure::Damaged(format!("`{id}` is not a token's id")))?,
        name: row.try_get("name")?,
        scopes: split(row.try_get("scopes")?)?,
        created: row.try_get("created")?,
        expires: (expires != i64::MAX).then_some(expires),
    })
}

/// Ends a token; whether there was one.
pub(crate) async fn revoke(database: &Database, id: Uuid) -> Result<bool, Failure> {
    let mut writer = database.write().await?;
    let gone = sqlx::query("DELETE FROM token WHERE id = $1").bind(id.to_string()).execute(&mut *writer).await?;
    writer.commit().await?;
    Ok(gone.rows_affected() > 0)
}

async fn with_secret(database: &Database, secret: &str) -> Result<Option<Token>, Failure> {
    if !secret.starts_with(SECRET) {
        return Ok(None);
    }
    // Found by the hash, so that how long it takes says nothing about the secret.
    let row = sqlx::query("SELECT id, name, scopes, created, expires FROM token WHERE secret = $1 AND expires > $2")
        .bind(hashed(secret))
        .bind(now())
        .fetch_optional(database.pool())
        .await?;
    row.as_ref().map(token).transpose()
}

async fn with_id(database: &Database, id: Uuid) -> Result<Option<Token>, Failure> {
    let row = sqlx::query("SELECT id, name, scopes, created, expires FROM token WHERE id = $1 AND expires > $2")
        .bind(id.to_string())
        .bind(now())
        .fetch_optional(database.pool())
        .await?;
    row.as_ref().map(token).transpose()
}

/// What the header `Authorization` holds.
pub(crate) enum Credential<'a> {
    /// The password of `Basic`. Its user says nothing.
    Basic(String),
    /// A secret or an access token.
    Bearer(&'a str),
}

impl<'a> Credential<'a> {
    /// Reads the header; nothing where it is not of these kinds.
    pub(crate) fn parse(header: &'a str) -> Option<Self> {
        let (kind, value) = header.split_once(' ')?;
        if kind.eq_ignore_ascii_case("bearer") {
            return Some(Self::Bearer(value.trim()));
        }
        if !kind.eq_ignore_ascii_case("basic") {
            return None;
        }
        let decoded = base64::prelude::BASE64_STANDARD.decode(value.trim()).ok()?;
        let decoded = String::from_utf8(decoded).ok()?;
        decoded.split_once(':').map(|(_, password)| Self::Basic(password.to_owned()))
    }
}

impl Minter {
    pub(crate) fn new() -> Result<Self, Failure> {
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &random()?)))
    }

    fn mint(&self, claims: &Claims) -> Result<String, Failure> {
        let claims = serde_json::to_vec(claims).map_err(|error| Failure::Damaged(error.to_string()))?;
        let tag = hmac::sign(&self.0, &claims);
        Ok(format!("{}.{}", BASE64.encode(&claims), BASE64.encode(tag)))
    }

    fn read(&self, text: &str) -> Option<Claims> {
        let (claims, tag) = text.split_once('.')?;
        let (claims, tag) = (BASE64.decode(claims).ok()?, BASE64.decode(tag).ok()?);
        hmac::verify(&self.0, &claims, &tag).ok()?;
        let claims: Claims = serde_json::from_slice(&claims).ok()?;
        (claims.expires > now()).then_some(claims)
    }

    /// Who `credential` is of. Nothing where it is of nobody.
    pub(crate) async fn client(
        &self,
        database: &Database,
        credential: Credential<'_>,
    ) -> Result<Option<Client>, Failure> {
        let secret = match &credential {
            Credential::Basic(secret) => secret,
            Credential::Bearer(value) if value.starts_with(SECRET) => *value,
            Credential::Bearer(value) => {
                let Some(claims) = self.read(value) else { return Ok(None) };
                let scopes = match claims.token {
                    Some(id) => match with_id(database, id).await? {
                        Some(token) => token.scopes,
                        None => return Ok(None),
                    },
                    None => Vec::new(),
                };
                return Ok(Some(Client { token: claims.token, scopes, narrowed: Some(claims.access) }));
            }
        };
        let token = with_secret(database, secret).await?;
        Ok(token.map(|token| Client { token: Some(token.id), scopes: token.scopes, narrowed: None }))
    }

    /// An access token for what of `scopes`, as Docker's clients write them, `client` may.
    pub(crate) fn access<'a>(
        &self,
        client: &Client,
        scopes: impl Iterator<Item = &'a str>,
        policy: &Policy<'_>,
        seconds: i64,
    ) -> Result<String, Refusal> {
        let mut access = BTreeMap::<String, BTreeSet<Action>>::new();
        for scope in scopes.flat_map(str::split_whitespace).take(SCOPES) {
            let Some((name, actions)) = scope.strip_prefix("repository:").and_then(|scope| scope.rsplit_once(':'))
            else {
                continue;
            };
            let repository = names::repository(name)?;
            let namespace = Namespace::of(&repository, policy.prefix);
            let every = [Action::Pull, Action::Push, Action::Delete, Action::Admin];
            let asked: Vec<Action> = if actions.split(',').any(|action| action == "*") {
                every.to_vec()
            } else {
                actions.split(',').filter_map(Action::parse).collect()
            };
            let may = asked.into_iter().filter(|action| policy.may(client, *action, Some(&namespace)));
            access.entry(name.to_owned()).or_default().extend(may);
        }
        Ok(self.mint(&Claims { token: client.token, expires: now().saturating_add(seconds), access })?)
    }
}

/// What holds beside the tokens.
pub(crate) struct Policy<'a> {
    /// What stands before the namespaces of components.
    pub(crate) prefix: &'a str,
    /// Whether everyone may pull.
    pub(crate) anonymous_pull: bool,
}

/// What a client may in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It may.
    Allowed,
    /// It may not, as far as it has said who it is.
    Unknown,
    /// It may not.
    Denied,
}

impl Policy<'_> {
    fn may(&self, client: &Client, action: Action, namespace: Option<&Namespace>) -> bool {
        (action == Action::Pull && self.anonymous_pull)
            || client.scopes.iter().any(|scope| scope.allows(action, namespace))
    }

    /// Whether `client` may do `action` in `repository`.
    pub(crate) fn decide(&self, client: &Client, action: Action, repository: &Repository) -> Verdict {
        let namespace = Namespace::of(repository, self.prefix);
        let may = self.may(client, action, Some(&namespace));
        // What everyone may needs no access token that names it.
        let open = action == Action::Pull && self.anonymous_pull;
        let within = open
            || client
                .narrowed
                .as_ref()
                .is_none_or(|access| access.get(repository.as_str()).is_some_and(|actions| actions.contains(&action)));
        match (may, within) {
            (true, true) => Verdict::Allowed,
            // Another access token of the same token would do.
            (true, false) => Verdict::Unknown,
            (false, _) if client.token.is_none() => Verdict::Unknown,
            (false, _) => Verdict::Denied,
        }
    }

    /// Whether `client` may do `action` in any namespace at all, such as write to the log.
    pub(crate) fn anywhere(&self, client: &Client, action: Action) -> bool {
        client.narrowed.is_none()
            && client
                .scopes
                .iter()
                .any(|scope| scope.actions.contains(&action) || scope.actions.contains(&Action::Admin))
    }
}

impl Client {
    /// Whoever sent nothing.
    pub(crate) fn anonymous() -> Self {
        Self { token: None, scopes: Vec::new(), narrowed: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(scopes: &[&str]) -> Client {
        let scopes = scopes.iter().map(|scope| scope.parse().unwrap()).collect();
        Client { token: Some(Uuid::nil()), scopes, narrowed: None }
    }

    fn decide(client: &Client, action: Action, repository: &str) -> Verdict {
        Policy { prefix: "components/", anonymous_pull: false }.decide(
            client,
            action,
            &names::repository(repository).unwrap(),
        )
    }

    #[test]
    fn a_scope_is_of_one_namespace() {
        let acme = client(&["acme:pull,push"]);
        assert_eq!(decide(&acme, Action::Push, "components/acme/sums"), Verdict::Allowed);
        assert_eq!(decide(&acme, Action::Push, "acme/sums"), Verdict::Allowed);
        assert_eq!(decide(&acme, Action::Delete, "acme/sums"), Verdict::Denied);
        for other in ["acmes/sums", "components/other/acme", "other", "acm/e"] {
            assert_eq!(decide(&acme, Action::Pull, other), Verdict::Denied, "{other}");
        }
        assert_eq!(decide(&client(&["*:pull"]), Action::Pull, "other/x"), Verdict::Allowed);
        assert_eq!(decide(&client(&["*:pull"]), Action::Push, "other/x"), Verdict::Denied);
        assert_eq!(decide(&client(&["acme:admin"]), Action::Delete, "acme/x"), Verdict::Allowed);
    }

    #[test]
    fn who_said_nothing_is_asked() {
        let nobody = Client::anonymous();
        assert_eq!(decide(&nobody, Action::Pull, "acme/x"), Verdict::Unknown);
        let open = Policy { prefix: "", anonymous_pull: true };
        let repository = names::repository("acme/x").unwrap();
        assert_eq!(open.decide(&nobody, Action::Pull, &repository), Verdict::Allowed);
        assert_eq!(open.decide(&nobody, Action::Push, &repository), Verdict::Unknown);
    }

    #[test]
    fn an_access_token_is_for_what_was_asked_and_may_be() {
        let minter = Minter::new().unwrap();
        let policy = Policy { prefix: "components/", anonymous_pull: false };
        let acme = client(&["acme:pull,push"]);
        let asked = ["repository:acme/x:pull,delete", "repository:other/x:pull", "registry:catalog:*"];
        let minted = minter.access(&acme, asked.into_iter(), &policy, 60).unwrap();
        let claims = minter.read(&minted).unwrap();
        assert_eq!(claims.access["acme/x"], BTreeSet::from([Action::Pull]));
        assert!(claims.access["other/x"].is_empty());
        let narrowed = Client { narrowed: Some(claims.access), ..acme };
        assert_eq!(decide(&narrowed, Action::Pull, "acme/x"), Verdict::Allowed);
        assert_eq!(decide(&narrowed, Action::Push, "acme/x"), Verdict::Unknown);
        assert_eq!(decide(&narrowed, Action::Pull, "acme/y"), Verdict::Unknown);
        assert_eq!(decide(&narrowed, Action::Pull, "other/x"), Verdict::Denied);
        assert!(!policy.anywhere(&narrowed, Action::Push));
    }

    #[test]
    fn an_access_token_is_ours_and_ends() {
        let minter = Minter::new().unwrap();
        let claims = |expires| Claims { token: None, expires, access: BTreeMap::new() };
        let good = minter.mint(&claims(now() + 60)).unwrap();
        assert!(minter.read(&good).is_some());
        assert!(minter.read(&minter.mint(&claims(now())).unwrap()).is_none());
        assert!(Minter::new().unwrap().read(&good).is_none());
        let (body, tag) = good.split_once('.').unwrap();
        let other = BASE64.encode(r#"{"token":null,"expires":9999999999,"access":{}}"#);
        for forged in [format!("{other}.{tag}"), format!("{body}."), body.to_owned(), ".".to_owned(), String::new()] {
            assert!(minter.read(&forged).is_none(), "{forged}");
        }
    }

    #[test]
    fn a_scope_is_written_as_it_is_read() {
        for text in ["acme:pull", "*:admin", "a-b.c:pull,push,delete"] {
            assert_eq!(text.parse::<Scope>().unwrap().to_string(), text);
        }
        for text in ["", "acme", "acme:", ":pull", "acme:read", "acme/x:pull", "acme:pull,", "**:pull", "A:pull"] {
            assert!(text.parse::<Scope>().is_err(), "{text}");
        }
    }
}
