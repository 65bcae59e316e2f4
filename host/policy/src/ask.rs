//! What components do, as request policy is asked of it: for the principal whose call they serve.

use std::{
    borrow::Cow,
    time::{SystemTime, UNIX_EPOCH},
};

use witan_authorize::{Action as Asked, Authorizer, Context, Principal, Resource as On};
use witan_capability::{Action, CallContext, PrincipalKind, Request, Resource};

use crate::verdict::Refusal;

/// Whether request policy lets the principal of `request` have it done.
pub(crate) fn ask(authorizer: &Authorizer, request: &Request<'_>) -> Result<(), Refusal> {
    let Some((action, resource)) = question(request) else { return Ok(()) };
    let principal = principal(request.context);
    let decision = authorizer.decide(&witan_authorize::Request {
        principal: &principal,
        action,
        resource,
        context: context(request),
    });
    if decision.allow {
        return Ok(());
    }
    let cause = format!("{principal} may not {action}: {}", decision.reason);
    Err(Refusal { cause, remedy: None, trial_may_allow: false })
}

/// What request policy is asked; nothing, where a grant alone decides.
fn question<'a>(request: &'a Request<'_>) -> Option<(Asked, On<'a>)> {
    let origin = |scheme: &'a str, host: Cow<'a, str>, port| On::Origin { scheme: scheme.into(), host, port };
    let address = |scheme, address: &std::net::SocketAddr| {
        origin(scheme, Cow::Owned(address.ip().to_canonical().to_string()), address.port())
    };
    let socket = || {
        let udp = request.function.interface.contains("udp") || request.function.name.contains("udp");
        if udp { "udp" } else { "tcp" }
    };
    // No `_` for actions: a new one says here whether it is for request policy, too.
    match (request.action, &request.resource) {
        (Action::ToolCall, Resource::Tool(tool)) => Some((Asked::ToolCall, On::Tool((*tool).into()))),
        (Action::ComponentCall, Resource::Component(name)) => {
            Some((Asked::ComponentCall, On::Component((*name).into())))
        }
        (Action::HttpSend, Resource::Url { scheme, host, port, .. }) => {
            Some((Asked::HttpSend, origin(scheme, (*host).into(), *port)))
        }
        // The request to this address was decided by its URL.
        (Action::HttpSend, Resource::Address { .. }) => None,
        (Action::DnsLookup, Resource::Host { name, .. }) => Some((Asked::DnsLookup, origin("dns", (*name).into(), 0))),
        (Action::SocketConnect, Resource::Host { name, port }) => {
            Some((Asked::SocketConnect, origin(socket(), (*name).into(), *port)))
        }
        (Action::SocketConnect, Resource::Address { name: Some(name), address }) => {
            Some((Asked::SocketConnect, origin(socket(), (*name).into(), address.port())))
        }
        (Action::SocketConnect, Resource::Address { name: None, address: to }) => {
            Some((Asked::SocketConnect, address(socket(), to)))
        }
        (Action::SocketBind, Resource::Address { address: at, .. }) => Some((Asked::SocketBind, address(socket(), at))),
        (Action::ToolCall | Action::ComponentCall, _) => None,
        // What leads off this machine and cannot be named is for nobody.
        (Action::HttpSend | Action::DnsLookup | Action::SocketConnect | Action::SocketBind, _) => {
            Some((Asked::SocketConnect, On::Host))
        }
        (
            Action::Baseline
            | Action::Handle
            | Action::FileRead
            | Action::FileWrite
            | Action::EnvironmentRead
            | Action::ConfigRead
            | Action::WallClock
            | Action::Log
            | Action::KeyvalueRead
            | Action::KeyvalueWrite
            | Action::ComponentLoad
            // The request that the secret goes with is decided as one.
            | Action::SecretUse,
            _,
        ) => None,
    }
}

/// The principal of a call, as request policy knows it.
#[must_use]
pub fn principal(context: &CallContext) -> Principal {
    let authority = context.authority();
    Principal {
        kind: match authority.kind {
            PrincipalKind::User => witan_authorize::PrincipalKind::User,
            PrincipalKind::Key => witan_authorize::PrincipalKind::Key,
            PrincipalKind::Service => witan_authorize::PrincipalKind::Service,
            PrincipalKind::Local => witan_authorize::PrincipalKind::Local,
        },
        name: context.principal().into(),
        tenant: context.tenant().into(),
        roles: authority.roles.clone(),
        trust: context.trust(),
        scopes: authority.scopes.clone(),
    }
}

fn context<'a>(request: &'a Request<'_>) -> Context<'a> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (method, path) = match &request.resource {
        Resource::Url { method, path, .. } => (Some((*method).into()), Some((*path).into())),
        _ => (None, None),
    };
    let began = request.context.beginning();
    Context {
        epoch: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        local_only: request.context.local_only(),
        budget_micros: request.context.budget_micros(),
        source: began.and_then(|began| began.source),
        intent: began.and_then(|began| began.intent.as_deref()).map(Into::into),
        route: began.and_then(|began| began.route.as_deref()).map(Into::into),
        component: Some((&*request.component.name).into()),
        method,
        path,
        ..Context::default()
    }
}
