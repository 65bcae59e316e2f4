//! What each route asks of request policy, before it runs.

use std::{net::IpAddr, time::SystemTime};

use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use http::{Extensions, HeaderValue, Method, header, request::Parts};
use witan_authorize::{Action, Context, Obligations, Principal, PrincipalKind, Resource};
use witan_capability::{Beginning, CallContext, Privacy};
use witan_grpc::{Counted, Door};
use witan_identity::{Client, TrustLevel};
use witan_policy::principal;
use witan_tasks::{Code, Edge, Task, TaskError, TaskRequest};

use crate::{
    Api,
    answer::Refusal,
    asks::Asks,
    audit,
    gate::{self, Decided, Operator},
    openapi, tasks,
};

/// What a route asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Nothing: what it says is for everybody who can connect, or about whoever asks.
    Open,
    /// Whether this may be done to the host.
    Host(Action),
    /// To the policies. Whoever shows the host's own token may: nobody locks its operator out of the way back.
    Policies(Action),
    /// To the principal's own tenant.
    Tenant(Action),
    /// To the ledger, or to what of it is the principal's tenant's.
    Audit,
    /// To the task that the path names.
    Task(Action),
    /// It asks by itself, once it knows what of.
    Within,
    /// To the host, by who runs it. Whoever shows the host's own token may; whoever shows no credential at all may not, since
    /// on this machine that is every process.
    Operated(Action),
}

/// Every route with its method. A test holds the routes to it, and a route without a row is refused.
const ACCESS: &[(&str, &str, Access)] = &[
    ("POST", "/v1/tasks", Access::Within),
    ("GET", "/v1/tasks", Access::Tenant(Action::TaskList)),
    ("GET", "/v1/tasks/{id}", Access::Task(Action::TaskRead)),
    ("GET", "/v1/tasks/{id}/events", Access::Task(Action::TaskRead)),
    ("POST", "/v1/tasks/{id}/cancel", Access::Task(Action::TaskCancel)),
    ("POST", "/v1/tasks/{id}/pause", Access::Task(Action::TaskControl)),
    ("POST", "/v1/tasks/{id}/resume", Access::Task(Action::TaskControl)),
    ("POST", "/v1/tasks/{id}/retry", Access::Task(Action::TaskControl)),
    ("GET", "/v1/tasks/{id}/ws", Access::Task(Action::TaskRead)),
    ("GET", "/v1/ws", Access::Within),
    ("GET", "/v1/events", Access::Tenant(Action::EventRead)),
    ("GET", "/v1/events/schemas", Access::Open),
    ("GET", "/v1/audit/entries", Access::Audit),
    ("GET", "/v1/audit/checkpoint", Access::Audit),
    ("GET", "/v1/audit/proof", Access::Audit),
    ("GET", "/v1/auth/login", Access::Open),
    ("GET", "/v1/auth/callback", Access::Open),
    ("POST", "/v1/auth/token", Access::Open),
    ("POST", "/v1/auth/logout", Access::Open),
    ("GET", "/v1/auth/me", Access::Open),
    ("GET", "/v1/auth/sessions", Access::Within),
    ("DELETE", "/v1/auth/sessions/{id}", Access::Within),
    ("GET", "/v1/keys", Access::Tenant(Action::KeyManage)),
    ("POST", "/v1/keys", Access::Tenant(Action::KeyManage)),
    ("GET", "/v1/keys/{id}", Access::Tenant(Action::KeyManage)),
    ("DELETE", "/v1/keys/{id}", Access::Tenant(Action::KeyManage)),
    ("POST", "/v1/keys/{id}/rotate", Access::Tenant(Action::KeyManage)),
    ("GET", "/v1/components", Access::Host(Action::ComponentRead)),
    ("GET", "/v1/host", Access::Host(Action::SystemRead)),
    ("GET", "/v1/host/logs", Access::Host(Action::LogRead)),
    ("POST", "/v1/host/stop", Access::Operated(Action::SystemAdmin)),
    ("GET", "/v1/logs/level", Access::Host(Action::LogRead)),
    ("POST", "/v1/logs/level", Access::Operated(Action::SystemAdmin)),
    ("GET", "/v1/policies", Access::Policies(Action::PolicyRead)),
    ("GET", "/v1/policies/{version}", Access::Policies(Action::PolicyRead)),
    ("POST", "/v1/policies/reload", Access::Policies(Action::PolicyWrite)),
    ("POST", "/v1/policies/rollback", Access::Policies(Action::PolicyWrite)),
    ("POST", "/v1/policies/test", Access::Policies(Action::PolicyRead)),
    ("GET", "/v1/policies/shadow", Access::Policies(Action::PolicyRead)),
    ("POST", "/v1/policies/shadow", Access::Policies(Action::PolicyWrite)),
    ("DELETE", "/v1/policies/shadow", Access::Policies(Action::PolicyWrite)),
    ("GET", "/healthz", Access::Open),
    ("GET", "/readyz", Access::Open),
    ("GET", "/metrics", Access::Host(Action::MetricsRead)),
    ("GET", "/openapi.json", Access::Open),
];

/// What the route asks that serves `method` at `path`, as the router writes it.
pub(crate) fn access(method: &Method, path: &str) -> Option<Access> {
    // What answers `GET` answers `HEAD`.
    let method = if method == Method::HEAD { "GET" } else { method.as_str() };
    ACCESS.iter().find(|row| row.0 == method && row.1 == path).map(|row| row.2)
}

/// Who asks, and from where. Cloning is cheap.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) context: CallContext,
    pub(crate) principal: Principal,
    source: Option<IpAddr>,
}

impl Caller {
    /// Of a request with these extensions: whom the gate found, or nobody, who has no tenant: those names are never empty.
    pub(crate) fn of(extensions: &Extensions) -> Self {
        let context = extensions.get::<CallContext>().cloned();
        let context = context.unwrap_or_else(|| CallContext::trusted("", "", TrustLevel::Restricted));
        let principal = principal(&context);
        Self { context, principal, source: extensions.get::<Client>().map(|client| client.address().to_canonical()) }
    }
}

/// How a request came.
#[derive(Clone, Copy, Default)]
pub(crate) struct Way<'a> {
    pub(crate) route: Option<&'a str>,
    pub(crate) method: Option<&'a str>,
    pub(crate) path: Option<&'a str>,
}

impl Api {
    /// Asks request policy, and gives what it adds to the call.
    ///
    /// # Errors
    /// When it is denied: 403 with the decision, or 404 for what is another tenant's.
    pub(crate) fn authorize(
        &self,
        caller: &Caller,
        action: Action,
        resource: Resource<'_>,
        way: Way<'_>,
    ) -> Result<Obligations, TaskError> {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let foreign = resource.tenant().is_some_and(|tenant| tenant != caller.context.tenant());
        let intent = match &resource {
            Resource::Intent(intent) | Resource::Task { intent, .. } => Some(intent.clone()),
            _ => None,
        };
        let context = Context {
            epoch: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            local_only: caller.context.local_only(),
            source: caller.source,
            intent,
            budget_micros: caller.context.budget_micros(),
            route: way.route.map(Into::into),
            method: way.method.map(Into::into),
            path: way.path.map(Into::into),
            ..Context::default()
        };
        let request = witan_authorize::Request { principal: &caller.principal, action, resource, context };
        let authorizer = self.0.parts.policies.authorizer();
        let decision = authorizer.authorize(&request);
        if decision.allow {
            return Ok(decision.obligations);
        }
        if foreign {
            return Err(tasks::no_such_task());
        }
        let mut message = format!("you may not {action}: {}", decision.reason);
        let may_read = witan_authorize::Request {
            principal: &caller.principal,
            action: Action::PolicyRead,
            resource: Resource::Policy,
            context: request.context.clone(),
        };
        if !decision.determining.is_empty() && authorizer.decide(&may_read).allow {
            let active = authorizer.active();
            let place = |id: &str| match active.set.place(id) {
                Some(place) => format!("`{id}` at {place}"),
                None => format!("`{id}`"),
            };
            let rules: Vec<String> = decision.determining.iter().map(|id| place(id)).collect();
            message = format!("{message} (by {})", rules.join(", "));
        }
        tracing::debug!(decision = %decision.id, principal = %caller.principal, %action, "denied");
        Err(TaskError { decision: Some(decision.id.to_string().into()), ..TaskError::new(Code::Denied, message) })
    }

    /// The edge for what `asked` asks for, with a request of these extensions, within what the rules add.
    ///
    /// # Errors
    /// When request policy denies it, or its budget is none.
    pub(crate) fn admit(&self, extensions: &Extensions, asked: &TaskRequest) -> Result<Edge, TaskError> {
        let (caller, intent) = (Caller::of(extensions), asked.intent.as_str());
        let context = caller.context.narrow_privacy(asked.privacy);
        let context = asked.budget_micros()?.map_or_else(|| context.clone(), |budget| context.narrow_budget(budget));
        let caller = Caller { context, ..caller };
        let route = extensions.get::<MatchedPath>().map(MatchedPath::as_str);
        let way = Way { route, method: Some("POST"), path: route };
        let obligations = self.authorize(&caller, Action::TaskCreate, Resource::Intent(intent.into()), way)?;
        let beginning = Beginning { intent: Some(intent.into()), route: route.map(Into::into), source: caller.source };
        Ok(self.edge(narrowed(&caller.context, obligations).begun(beginning)))
    }

    /// Asks whether the keys and sessions of others in the caller's tenant may be seen and ended.
    ///
    /// # Errors
    /// When request policy denies it.
    pub(crate) fn manages_keys(&self, head: &Parts) -> Result<(), TaskError> {
        let caller = Caller::of(&head.extensions);
        let route = head.extensions.get::<MatchedPath>().map(MatchedPath::as_str);
        let way = Way { route, method: Some(head.method.as_str()), path: Some(head.uri.path()) };
        let tenant = Resource::Tenant(caller.context.tenant().to_owned().into());
        self.authorize(&caller, Action::KeyManage, tenant, way).map(|_| ())
    }
}

/// The same for requests over gRPC.
impl Door for Api {
    fn submit(&self, request: &Extensions, asked: &TaskRequest) -> Result<Edge, TaskError> {
        self.admit(request, asked)
    }

    fn caller(&self, request: &Extensions) -> CallContext {
        Caller::of(request).context
    }

    fn begin_task(&self, request: &Extensions) -> Result<Counted, TaskError> {
        let parts = &self.0.parts;
        Ok(Box::new(parts.requests.count_task(Asks::left(request)?, &parts.metrics)?))
    }

    fn follow(&self, request: &Extensions) -> Result<Counted, TaskError> {
        Ok(Box::new(self.0.streams.open(Caller::of(request).context.tenant())?))
    }

    fn cut_off(&self, request: &Extensions, task: &Task) -> gate::CutOff {
        let (caller, task) = (Caller::of(request), task.clone());
        self.until_either(request, move |api| api.may(&caller, Action::TaskRead, &task, Way::default()))
    }

    fn see(&self, request: &Extensions, task: &Task) -> Result<(), TaskError> {
        self.may(&Caller::of(request), Action::TaskRead, task, Way::default())
    }

    fn cancel(&self, request: &Extensions, task: &Task) -> Result<(), TaskError> {
        self.may(&Caller::of(request), Action::TaskCancel, task, Way::default())
    }
}

impl Api {
    /// Asks request policy whether `action` may be done to `task`.
    ///
    /// # Errors
    /// As [`Api::authorize`].
    pub(crate) fn may(&self, caller: &Caller, action: Action, task: &Task, way: Way<'_>) -> Result<(), TaskError> {
        self.authorize(caller, action, tasks::resource(task), way).map(|_| ())
    }
}

/// `context` within what rules add to it.
pub(crate) fn narrowed(context: &CallContext, obligations: Obligations) -> CallContext {
    let context = if obligations.local_only { context.narrow_privacy(Privacy::LocalOnly) } else { context.clone() };
    match obligations.budget_micros {
        Some(budget) => context.narrow_budget(budget),
        None => context,
    }
}

/// Lets a request through to its route if request policy does.
pub(crate) async fn decide(State(api): State<Api>, request: Request, next: Next) -> Response {
    let (mut head, body) = request.into_parts();
    let route = head.extensions.get::<MatchedPath>().cloned();
    let route = route.as_ref().map(MatchedPath::as_str).unwrap_or_default();
    let Some(access) = access(&head.method, route) else { return not_served(route) };
    match asked(&api, &mut head, route, access).await {
        Ok(()) => next.run(Request::from_parts(head, body)).await,
        Err(error) => Refusal(error).into_response(),
    }
}

/// What a route serves has a row, and what has none is not served.
fn not_served(route: &str) -> Response {
    let methods: Vec<&str> = ACCESS.iter().filter(|row| row.1 == route).map(|row| row.0).collect();
    let mut response = Refusal(openapi::not_served()).into_response();
    if let Ok(methods) = HeaderValue::try_from(methods.join(",")) {
        response.headers_mut().insert(header::ALLOW, methods);
    }
    response
}

async fn asked(api: &Api, head: &mut Parts, route: &str, access: Access) -> Result<(), TaskError> {
    let operated = matches!(access, Access::Policies(_) | Access::Operated(_));
    if matches!(access, Access::Open | Access::Within) || operated && head.extensions.get::<Operator>().is_some() {
        return Ok(());
    }
    let caller = Caller::of(&head.extensions);
    let (action, resource) = match access {
        Access::Open | Access::Within => return Ok(()),
        Access::Operated(_) if caller.principal.kind == PrincipalKind::Local => return Err(no_token()),
        Access::Host(action) | Access::Operated(action) => (action, Resource::Host),
        Access::Policies(action) => (action, Resource::Policy),
        Access::Audit if head.extensions.get::<Client>().is_some_and(audit::sees_all) => {
            (Action::LedgerRead, Resource::Host)
        }
        Access::Audit => (Action::AuditRead, Resource::AuditLog(caller.context.tenant().to_owned().into())),
        Access::Tenant(action) => (action, Resource::Tenant(caller.context.tenant().to_owned().into())),
        Access::Task(action) => {
            let id = task_id(head.uri.path(), route).to_owned();
            let task = tasks::find(api, &caller.context, &id).await?;
            let resource = tasks::resource(&task);
            head.extensions.insert(tasks::Found(task));
            (action, resource)
        }
    };
    if matches!(action, Action::TaskRead | Action::EventRead) {
        head.extensions.insert(Decided(api.policy_changes()));
    }
    let way = Way { route: Some(route), method: Some(head.method.as_str()), path: Some(head.uri.path()) };
    api.authorize(&caller, action, resource, way).map(|_| ())
}

fn no_token() -> TaskError {
    let message = "send the token from `host.json` in the state folder as `Authorization: Bearer`, as the commands on this \
                   machine do";
    TaskError::new(Code::Unauthorized, message).at("Authorization")
}

/// What stands in `path` where the route has `{id}`.
fn task_id<'a>(path: &'a str, route: &str) -> &'a str {
    let place = route.split('/').position(|part| part == "{id}").unwrap_or(usize::MAX);
    path.split('/').nth(place).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// A route that is added says here what it asks.
    #[test]
    fn every_route_asks_something_and_nothing_else_is_listed() {
        let json = serde_json::to_value(crate::document()).unwrap();
        let mut described = BTreeSet::new();
        for (path, operations) in json["paths"].as_object().unwrap() {
            for method in operations.as_object().unwrap().keys() {
                described.insert((method.to_uppercase(), path.clone()));
            }
        }
        let listed: BTreeSet<_> = ACCESS.iter().map(|row| (row.0.to_owned(), row.1.to_owned())).collect();
        assert_eq!(described, listed);
        assert_eq!(ACCESS.len(), listed.len());
    }

    /// What is asked stands in the sources, here or where components ask.
    #[test]
    fn what_is_asked_is_what_the_code_asks() {
        let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut code = std::fs::read_to_string(here.join("../policy/src/ask.rs")).unwrap();
        for file in std::fs::read_dir(here.join("src")).unwrap() {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            code.push_str(&text.split("#[cfg(test)]").next().unwrap().replace("Action::", "Asked::"));
        }
        let words: BTreeSet<&str> = code.split(|char: char| !char.is_alphanumeric() && char != ':').collect();
        for action in Action::ALL {
            assert_eq!(words.contains(&*format!("Asked::{action:?}")), action.is_asked(), "{action}");
        }
    }

    #[test]
    fn each_action_is_done_to_what_its_row_says() {
        use witan_authorize::ResourceKind as Kind;
        for (method, path, access) in ACCESS {
            let (action, kind) = match access {
                Access::Open | Access::Within => continue,
                Access::Host(action) | Access::Operated(action) => (action, Kind::Host),
                Access::Policies(action) => (action, Kind::Policy),
                Access::Tenant(action) => (action, Kind::Tenant),
                Access::Audit => (&Action::AuditRead, Kind::AuditLog),
                Access::Task(action) => (action, Kind::Task),
            };
            assert!(action.resources().contains(&kind), "{method} {path}");
        }
    }

    #[test]
    fn rules_only_narrow() {
        let context = CallContext::local().narrow_budget(5);
        let same = narrowed(&context, Obligations { local_only: false, budget_micros: Some(9) });
        assert_eq!(same, context);
        let both = narrowed(&context, Obligations { local_only: true, budget_micros: Some(3) });
        assert!(both.local_only() && both.budget_micros() == Some(3));
    }
}
