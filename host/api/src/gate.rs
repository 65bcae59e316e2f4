//! Who sent a request, and whether they may ask for what they do.
//!
//! What a route concerns is read off its path: `/v1/AREA/…`. So a route that is added later is asked for a credential and a
//! scope without anybody thinking of it, and is the operator's alone until it is listed as a tenant's.

use std::{
    future::pending,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    time::{Duration, Instant},
};

use futures::FutureExt as _;
use http::{Extensions, HeaderMap, Method, header, request};
use tokio::sync::watch;
use witan_capability::{Authority, Beginning, CallContext, PrincipalKind, Trace};
use witan_identity::{AuthError, Client, Kind, Peer, Shown, TrustLevel, Verb};
use witan_ledger::Entry;
use witan_tasks::{Code, TaskError};

use crate::{
    Api,
    denials::{self, Noted},
};

/// What anybody may ask for: whether the host lives, what it serves, and how to get a credential.
const OPEN: [&str; 6] =
    ["/healthz", "/readyz", "/openapi.json", "/v1/auth/login", "/v1/auth/callback", "/v1/auth/token"];

/// What describes the gRPC services, as `/openapi.json` does the routes.
const REFLECTION: &str = "/grpc.reflection.";

/// The service of tasks over gRPC, and its methods that only read.
const GRPC: &str = "/witan.v1.Tasks/";
const GRPC_READS: [&str; 2] = ["Stream", "StatusById"];

/// Whether anybody may ask for the route `path`.
pub(crate) fn is_open(path: &str) -> bool {
    OPEN.contains(&path) || path.starts_with(REFLECTION)
}

/// Areas in which each tenant has its own. Every other concerns the whole host.
const OF_TENANTS: [&str; 17] = [
    AUDIT,
    "tasks",
    "mounts",
    "keys",
    "sessions",
    "tools",
    "memory",
    "events",
    "usage",
    "flows",
    "route",
    "chat",
    "responses",
    "embeddings",
    "models",
    "messages",
    "mcp",
];

/// What others of the tenant did, which is for who administers it.
const AUDIT: &str = "audit";

/// What every client may ask about themselves, whatever their scopes.
const OWN: &str = "auth";

/// In the extensions of a request that showed the host's own token, from this machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operator;

/// In the extensions of a request that policies let through: their changes since before they were asked.
#[derive(Clone, Debug)]
pub(crate) struct Decided(pub(crate) watch::Receiver<()>);

/// Resolves when a client may not be told any more what it follows, with what to say of it.
pub(crate) type CutOff = Pin<Box<dyn Future<Output = TaskError> + Send>>;

/// What is written down of a path that was refused; clients choose its length.
const LONGEST_RESOURCE: usize = 512;

/// Why a request is not let through.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// With this error.
    Error(TaskError),
    /// Too many bad credentials came from there; in so long it may try again.
    Wait(TaskError, Duration),
}

impl From<TaskError> for Stopped {
    fn from(error: TaskError) -> Self {
        Self::Error(error)
    }
}

impl From<AuthError> for Stopped {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::TooMany(wait) => Self::Wait(TaskError::new(Code::TooManyAttempts, error.to_string()), wait),
            error => Self::Error(refusal(&error)),
        }
    }
}

/// What a client is told of why it is not let in.
pub(crate) fn refusal(error: &AuthError) -> TaskError {
    let code = match error {
        AuthError::Missing | AuthError::Refused(_) => Code::Unauthorized,
        AuthError::TooMany(_) => Code::TooManyAttempts,
        AuthError::Unavailable(cause) => {
            tracing::error!(error = %cause, "cannot find out who sent a request");
            Code::Unavailable
        }
    };
    let error = TaskError::new(code, error.to_string());
    if code == Code::Unauthorized { error.at("Authorization") } else { error }
}

/// Finds out who sent a request, and puts [`Client`] and [`CallContext`] into its extensions. What a mount gets has no
/// credential any more: it was shown to the host.
pub(crate) async fn meet(api: &Api, head: &mut request::Parts, peer: &Peer, mounted: bool) -> Result<(), Stopped> {
    if !mounted && is_open(head.uri.path()) {
        return Ok(());
    }
    let identities = &api.0.parts.identities;
    let client = match operator(api, &head.headers, peer) {
        Some(client) => {
            head.extensions.insert(Operator);
            client
        }
        None => identities.authenticate(&head.headers, peer).await?,
    };
    head.extensions.insert(Shown::of(&head.headers, peer));
    if mounted && identities.is_on() {
        head.headers.remove(header::AUTHORIZATION);
        head.headers.remove("x-api-key");
    }
    head.extensions.insert(context(&client));
    head.extensions.insert(client);
    Ok(())
}

/// Whether whom [`meet`] found may ask for what they do. What is open is open to all.
pub(crate) fn permits(head: &request::Parts, mounted: bool) -> Result<(), TaskError> {
    let Some(client) = head.extensions.get::<Client>() else { return Ok(()) };
    let (area, verb) = asked(head.uri.path(), &head.method, mounted);
    may(client, area, verb)
}

/// Refuses what could not be written down.
pub(crate) fn accounts(api: &Api, head: &request::Parts, mounted: bool) -> Result<(), TaskError> {
    let (_, verb) = asked(head.uri.path(), &head.method, mounted);
    let known = head.extensions.get::<Client>().is_some();
    if known && !mounted && verb == Verb::Write && !takes_away(head) { accountable(api) } else { Ok(()) }
}

impl Api {
    /// Resolves when whoever sent a request with these extensions may not be told any more what it began to follow, since its
    /// credential has ended.
    pub(crate) fn until_cut_off(&self, extensions: &Extensions) -> CutOff {
        let identities = self.0.parts.identities.clone();
        let known = extensions.get::<Client>().cloned().zip(extensions.get::<Shown>().cloned());
        Box::pin(async move {
            let Some((client, shown)) = known else { return pending().await };
            let error = identities.until_refused(&client, &shown).await;
            tracing::info!(principal = client.principal(), %error, "a client is not told any more");
            refusal(&error)
        })
    }

    /// Resolves when request policy does not let a client follow any more what it began to: when `ask` says so, which is asked
    /// once for each set of policies that decides from when `changes` were asked for: before it was decided that the client
    /// may.
    pub(crate) fn until_denied(
        &self,
        mut changes: watch::Receiver<()>,
        ask: impl Fn(&Self) -> Result<(), TaskError> + Send + 'static,
    ) -> CutOff {
        let api = self.clone();
        Box::pin(async move {
            while changes.changed().await.is_ok() {
                if let Err(error) = ask(&api) {
                    tracing::info!(error = error.message, "a client is not told any more");
                    return error;
                }
            }
            pending().await
        })
    }

    /// Changes each time that other policies decide from then on.
    pub(crate) fn policy_changes(&self) -> watch::Receiver<()> {
        self.0.parts.policies.authorizer().changes()
    }

    /// Resolves when either does, for a request with these extensions, that was decided or is about to be.
    pub(crate) fn until_either(
        &self,
        extensions: &Extensions,
        ask: impl Fn(&Self) -> Result<(), TaskError> + Send + 'static,
    ) -> CutOff {
        let decided = extensions.get::<Decided>().map(|Decided(changes)| changes.clone());
        let changes = decided.unwrap_or_else(|| self.policy_changes());
        let (cut_off, denied) = (self.until_cut_off(extensions), self.until_denied(changes, ask));
        Box::pin(futures::future::select(cut_off, denied).map(|either| either.factor_first().0))
    }
}

/// Writes down that a request was refused. A refusal that the ledger has no room for stays one; the ledger counts it.
pub(crate) fn refused(api: &Api, head: &request::Parts, error: &TaskError) {
    let (Some(ledger), Some(client)) = (&api.0.parts.ledger, head.extensions.get::<Client>()) else { return };
    let mut resource = format!("{} {}", head.method, head.uri.path());
    resource.truncate(resource.floor_char_boundary(LONGEST_RESOURCE));
    let mut entry = Entry::new(witan_ledger::Kind::Decision, "request", resource)
        .by(client.tenant().as_str(), client.principal())
        .denied(error.message.as_str())
        .with("address", client.address());
    entry.trace_id = head.extensions.get::<Trace>().map(ToString::to_string);
    let entry = match api.0.denials.note(entry, Instant::now()) {
        Noted::Counted => return,
        Noted::Written(entry) => entry,
        Noted::First(entry, of) => {
            let (denials, ledger) = (api.0.denials.clone(), ledger.downgrade());
            tokio::spawn(async move {
                tokio::time::sleep(denials::WINDOW).await;
                let _counted = denials.end(&of).zip(ledger.upgrade()).map(|(rest, ledger)| ledger.append(rest));
            });
            entry
        }
    };
    let _counted = ledger.append(entry);
}

impl Api {
    /// Writes down what was refused and only counted so far.
    pub(crate) fn tell_denials(&self) {
        let Some(ledger) = &self.0.parts.ledger else { return };
        for entry in self.0.denials.end_all() {
            let _counted = ledger.append(entry);
        }
    }
}

/// Refuses what could not be written down.
fn accountable(api: &Api) -> Result<(), TaskError> {
    let failing = api.0.parts.ledger.as_ref().and_then(witan_ledger::Ledger::failing);
    failing.map_or(Ok(()), |why| {
        tracing::warn!(error = why, "a request is refused, since the ledger cannot be written");
        Err(TaskError::new(Code::Unavailable, "what cannot be written down is not done, and the ledger fails now"))
    })
}

/// Whether a request ends something or takes rights away. It is better done and not written down than not done.
fn takes_away(head: &request::Parts) -> bool {
    let path = head.uri.path();
    head.method == Method::DELETE
        || ["/v1/host/stop", "/v1/auth/logout", "/witan.v1.Tasks/Cancel"].contains(&path)
        || (path.starts_with("/v1/tasks/") && path.ends_with("/cancel"))
}

/// The context of what `client` has the host do.
pub(crate) fn context(client: &Client) -> CallContext {
    let context = CallContext::trusted(client.principal(), client.tenant().as_str(), client.trust());
    let source = Some(client.address().to_canonical());
    context.begun(Beginning { source, ..Beginning::default() }).with_authority(Authority {
        kind: match client.kind() {
            Kind::Local => PrincipalKind::Local,
            Kind::Key => PrincipalKind::Key,
            Kind::User => PrincipalKind::User,
            Kind::Service => PrincipalKind::Service,
        },
        roles: client.roles().iter().map(|role| role.as_str().into()).collect(),
        scopes: client.scopes().iter().map(|scope| scope.to_string().into()).collect(),
    })
}

/// Whoever shows what `witan up` wrote into the state folder, on this machine.
fn operator(api: &Api, headers: &HeaderMap, peer: &Peer) -> Option<Client> {
    let given = headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")?;
    let may = peer.address.to_canonical().is_loopback() && api.0.parts.token.matches(given);
    may.then(|| Client::local(peer.address))
}

/// Who sends a request with these headers over the connection from `address`. Where a proxy is all that connects, it is whom
/// the proxy names last: what stands before that was there when the proxy got it.
pub(crate) fn peer(address: SocketAddr, headers: &HeaderMap, behind_proxy: bool) -> Peer {
    let last = || headers.get_all("x-forwarded-for").iter().next_back()?.to_str().ok()?.rsplit(',').next();
    let named = if behind_proxy { last().and_then(|named| named.trim().parse::<IpAddr>().ok()) } else { None };
    Peer { address: named.unwrap_or(address.ip()).to_canonical(), certificate: None }
}

/// What a request asks for.
fn asked<'a>(path: &'a str, method: &Method, mounted: bool) -> (&'a str, Verb) {
    if mounted {
        return ("mounts", verb(method));
    }
    match path.strip_prefix(GRPC) {
        Some(method) if GRPC_READS.contains(&method) => ("tasks", Verb::Read),
        Some(_) => ("tasks", Verb::Write),
        None => (area(path), verb(method)),
    }
}

fn verb(method: &Method) -> Verb {
    if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) { Verb::Read } else { Verb::Write }
}

/// What a route concerns. To follow tasks over a socket is to read tasks.
fn area(path: &str) -> &str {
    let path = path.trim_start_matches('/');
    let path = path.strip_prefix("v1/").unwrap_or(path);
    match path.split('/').next().unwrap_or_default() {
        "ws" => "tasks",
        area => area,
    }
}

/// Refuses what `client` may not ask for.
pub(crate) fn may(client: &Client, area: &str, verb: Verb) -> Result<(), TaskError> {
    if area == OWN {
        return Ok(());
    }
    if !client.allows(area, verb) {
        let message = format!("the credential is not for this, which needs the scope `{area}:{verb}`");
        return Err(TaskError::new(Code::InsufficientScope, message).at("Authorization"));
    }
    if area == AUDIT && client.trust() < TrustLevel::Elevated {
        let message = "the audit log needs a credential of the trust level `elevated`, which sees what is the tenant's, or of \
                       `privileged`";
        return Err(TaskError::new(Code::InsufficientScope, message).at("Authorization"));
    }
    if client.trust() < TrustLevel::Privileged && !OF_TENANTS.contains(&area) {
        let message = "this concerns the whole host, and needs a credential of the trust level `privileged`";
        return Err(TaskError::new(Code::InsufficientScope, message).at("Authorization"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_says_from_where_a_request_comes() {
        let from = |values: &[&'static str], behind_proxy| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("x-forwarded-for", http::HeaderValue::from_static(value));
            }
            peer("127.0.0.1:1".parse().unwrap(), &headers, behind_proxy).address.to_string()
        };
        assert_eq!(from(&["192.0.2.1, 192.0.2.2"], true), "192.0.2.2");
        assert_eq!(from(&["192.0.2.1", "2001:db8::1"], true), "2001:db8::1");
        for wrong in [&[][..], &["unknown"], &["192.0.2.1,"]] {
            assert_eq!(from(wrong, true), "127.0.0.1");
        }
        assert_eq!(from(&["192.0.2.1"], false), "127.0.0.1");
    }

    #[test]
    fn what_a_route_concerns_is_read_off_its_path() {
        for (path, expected) in [
            ("/v1/tasks", "tasks"),
            ("/v1/tasks/1/events", "tasks"),
            ("/v1/ws", "tasks"),
            ("/v1/auth/sessions", "auth"),
            ("/v1/host/logs", "host"),
            ("/v1/audit/entries", "audit"),
            ("/metrics", "metrics"),
            ("/v1", "v1"),
            ("/", ""),
            ("//v1/tasks", "tasks"),
        ] {
            assert_eq!(asked(path, &Method::GET, false), (expected, Verb::Read), "{path}");
        }
        for (path, verb) in [("Submit", Verb::Write), ("Cancel", Verb::Write), ("StatusById", Verb::Read)] {
            assert_eq!(asked(&format!("/witan.v1.Tasks/{path}"), &Method::POST, false), ("tasks", verb), "{path}");
        }
        assert_eq!(asked("/v1/tasks", &Method::POST, true), ("mounts", Verb::Write));
    }
}
