//! Requests as people write them, and the tests that operators keep of their policies.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    Action, Context, Explanation, HOST_TENANT, Obligations, Principal, PrincipalKind, Request, Resource, ResourceKind,
    Set, TrustLevel,
};

/// Cases in one file.
pub const MOST_CASES: usize = 10_000;

/// A request, written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// Who.
    pub principal: PrincipalSpec,
    /// What, such as `task.create`.
    pub action: String,
    /// To what.
    pub resource: ResourceSpec,
    /// What else is known.
    #[serde(default)]
    pub context: ContextSpec,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PrincipalSpec {
    /// `user`, `key`, `service` or `local`.
    #[schema(value_type = String)]
    pub kind: PrincipalKind,
    /// The name within the tenant.
    pub name: String,
    /// The tenant; `local` if not given.
    #[serde(default = "host_tenant")]
    pub tenant: String,
    /// Its roles.
    #[serde(default)]
    pub roles: Vec<String>,
    /// `restricted`, `standard`, `elevated` or `privileged`; `standard` if not given.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub trust: TrustLevel,
    /// What its credential was made for.
    #[serde(default)]
    pub scopes: Vec<String>,
}

fn host_tenant() -> String {
    HOST_TENANT.to_owned()
}

/// To what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResourceSpec {
    /// The kind, such as `task`.
    #[schema(value_type = String)]
    pub kind: ResourceKind,
    /// Its id: of an origin, its URL; of what there is one of, nothing.
    #[serde(default)]
    pub id: String,
    /// Of a task: whose it is; the principal's tenant if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Of a task: the id of whoever submitted it, such as `acme/alice`; the principal if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Of a task: what it asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<String>,
}

/// What else is known of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ContextSpec {
    /// When, such as `2026-01-05T10:00:00Z`; now if not given.
    pub time: Option<String>,
    /// Whether nothing of it may leave this machine.
    pub local_only: bool,
    /// The client's address.
    pub source: Option<String>,
    /// The intent of the task that it is part of.
    pub intent: Option<String>,
    /// The route of the API, such as `POST /v1/tasks`.
    pub route: Option<String>,
    /// Whose model it is.
    pub provider: Option<String>,
    /// What the call tree may still spend, in millionths of a US dollar.
    pub budget_micros: Option<u64>,
    /// The component that asks for the principal.
    pub component: Option<String>,
    /// The HTTP method, upper case.
    pub method: Option<String>,
    /// The HTTP path.
    pub path: Option<String>,
}

/// What should be decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Expected {
    /// It may go on.
    Allow,
    /// It may not.
    Deny,
}

/// One test of policies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What it shows.
    pub name: String,
    /// Who.
    pub principal: PrincipalSpec,
    /// What.
    pub action: String,
    /// To what.
    pub resource: ResourceSpec,
    /// What else is known.
    #[serde(default)]
    pub context: ContextSpec,
    /// What should be decided.
    pub expect: Expected,
    /// The rules that should decide it, whatever others do too.
    #[serde(default)]
    pub by: Vec<String>,
    /// What the rules should add to the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub obligations: Option<Obligations>,
}

/// The tests of one file: `[[case]]` in TOML.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Cases {
    /// The tests.
    #[serde(rename = "case")]
    pub cases: Vec<Case>,
}

/// How a test went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Outcome {
    /// What it shows.
    pub name: String,
    /// Whether it is so.
    pub passed: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// What was decided, and by which rules; none where the request could not be asked.
    pub explanation: Option<Explanation>,
}

/// Why a question or a file of them is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuestionError {
    /// The file is not in its form.
    #[error("this is no file of cases: {0}; docs/policy.md shows one")]
    Form(String),
    /// There are too many.
    #[error("there are {0} cases, and {MOST_CASES} at most are taken; split the file")]
    TooMany(usize),
    /// There are none, which would pass and show nothing.
    #[error("there is no case; write `[[case]]`")]
    None,
    /// The action is not known.
    #[error("there is no action `{0}`; `witan policy schema` shows all{1}")]
    Action(String, String),
    /// The resource is not one of the action's.
    #[error("`{action}` is not done to a {kind}, but to: {known}")]
    Kind {
        /// The action.
        action: &'static str,
        /// The kind that was named.
        kind: &'static str,
        /// The kinds that it is done to.
        known: String,
    },
    /// A part is not in its form.
    #[error("`{value}` is no {what}, such as `{example}`")]
    Value {
        /// What was written.
        value: String,
        /// What it should be.
        what: &'static str,
        /// An example.
        example: &'static str,
    },
}

/// A question whose parts were all understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    principal: Principal,
    action: Action,
    resource: Resource<'static>,
    context: Context<'static>,
}

impl Asked {
    /// The request.
    #[must_use]
    pub fn request(&self) -> Request<'_> {
        Request {
            principal: &self.principal,
            action: self.action,
            resource: self.resource.clone(),
            context: self.context.clone(),
        }
    }
}

impl Question {
    /// Understands the question; `now` is the time where it names none, in seconds since the Unix epoch.
    ///
    /// # Errors
    /// When a part of it is not in its form.
    pub fn understand(&self, now: i64) -> Result<Asked, QuestionError> {
        let principal = self.principal.principal();
        let action = Action::parse(&self.action).ok_or_else(|| unknown(&self.action))?;
        let kind = self.resource.kind;
        if !action.resources().contains(&kind) {
            let known: Vec<&str> = action.resources().iter().map(|kind| kind.type_name()).collect();
            let (action, kind) = (action.name(), kind.type_name());
            return Err(QuestionError::Kind { action, kind, known: known.join(", ") });
        }
        let resource = self.resource.resource(&principal)?;
        Ok(Asked { action, resource, context: self.context.context(now)?, principal })
    }
}

fn unknown(name: &str) -> QuestionError {
    let family = name.split('.').next().unwrap_or_default();
    let near: Vec<&str> = Action::ALL
        .iter()
        .map(|action| action.name())
        .filter(|known| known.split('.').next() == Some(family))
        .collect();
    let near = if near.is_empty() { String::new() } else { format!("; did you mean {}?", near.join(", ")) };
    QuestionError::Action(name.to_owned(), near)
}

impl PrincipalSpec {
    fn principal(&self) -> Principal {
        let all = |texts: &[String]| texts.iter().map(|text| text.as_str().into()).collect();
        Principal {
            kind: self.kind,
            name: self.name.as_str().into(),
            tenant: self.tenant.as_str().into(),
            roles: all(&self.roles),
            trust: self.trust,
            scopes: all(&self.scopes),
        }
    }
}

impl ResourceSpec {
    fn resource(&self, principal: &Principal) -> Result<Resource<'static>, QuestionError> {
        let id = || self.id.clone().into();
        let own = |given: &Option<String>| given.clone().unwrap_or_else(|| principal.tenant.to_string());
        Ok(match self.kind {
            ResourceKind::Intent => Resource::Intent(id()),
            ResourceKind::Task => Resource::Task {
                id: id(),
                tenant: own(&self.tenant).into(),
                owner: self.owner.clone().unwrap_or_else(|| principal.id()).into(),
                intent: self.intent.clone().unwrap_or_default().into(),
            },
            ResourceKind::Tenant if self.id.is_empty() => Resource::Tenant(own(&self.tenant).into()),
            ResourceKind::Tenant => Resource::Tenant(id()),
            ResourceKind::Tool => Resource::Tool(id()),
            ResourceKind::Model => Resource::Model(id()),
            ResourceKind::Component => Resource::Component(id()),
            ResourceKind::Mount => Resource::Mount(id()),
            ResourceKind::Origin => origin(&self.id)?,
            ResourceKind::Policy => Resource::Policy,
            ResourceKind::AuditLog if self.id.is_empty() => Resource::AuditLog(own(&self.tenant).into()),
            ResourceKind::AuditLog => Resource::AuditLog(id()),
            ResourceKind::Host => Resource::Host,
        })
    }
}

fn origin(text: &str) -> Result<Resource<'static>, QuestionError> {
    let wrong =
        || QuestionError::Value { value: text.to_owned(), what: "origin", example: "https://api.example.com:443" };
    let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
    let known = ["https", "http", "tcp", "udp", "dns"].contains(&scheme);
    let (host, port) = match rest.rsplit_once(':').filter(|(host, _)| !host.contains(':') || host.ends_with(']')) {
        Some((host, port)) => (host, port.parse().map_err(|_| wrong())?),
        None => (
            rest,
            if scheme == "https" {
                443
            } else if scheme == "http" {
                80
            } else {
                0
            },
        ),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if !known || host.is_empty() {
        return Err(wrong());
    }
    Ok(Resource::Origin { scheme: scheme.to_owned().into(), host: host.to_owned().into(), port })
}

impl ContextSpec {
    fn context(&self, now: i64) -> Result<Context<'static>, QuestionError> {
        let wrong = |value: &str, what, example| QuestionError::Value { value: value.to_owned(), what, example };
        let epoch = match &self.time {
            None => now,
            Some(text) => {
                let time = text.parse::<jiff::Timestamp>();
                time.map_err(|_| wrong(text, "time", "2026-01-05T10:00:00Z"))?.as_second()
            }
        };
        let source =
            self.source.as_deref().map(|text| text.parse::<IpAddr>().map_err(|_| wrong(text, "address", "10.0.0.7")));
        let text = |text: &Option<String>| text.clone().map(Into::into);
        Ok(Context {
            epoch,
            local_only: self.local_only,
            source: source.transpose()?,
            intent: text(&self.intent),
            route: text(&self.route),
            provider: text(&self.provider),
            budget_micros: self.budget_micros,
            component: text(&self.component),
            method: text(&self.method),
            path: text(&self.path),
        })
    }
}

impl Cases {
    /// Reads a file of cases.
    ///
    /// # Errors
    /// When it is none, or has none or too many.
    pub fn parse(text: &str) -> Result<Self, QuestionError> {
        let cases: Self = toml::from_str(text).map_err(|error| QuestionError::Form(error.to_string()))?;
        cases.check()?;
        Ok(cases)
    }

    /// Holds their number to what is taken.
    ///
    /// # Errors
    /// When there are none or too many.
    pub fn check(&self) -> Result<(), QuestionError> {
        match self.cases.len() {
            0 => Err(QuestionError::None),
            1..=MOST_CASES => Ok(()),
            count => Err(QuestionError::TooMany(count)),
        }
    }

    /// Asks `set` each of them; `now` is the time where a case names none, in seconds since the Unix epoch.
    #[must_use]
    pub fn run(&self, set: &Set, version: Option<u64>, now: i64) -> Vec<Outcome> {
        self.cases.iter().map(|case| case.run(set, version, now)).collect()
    }
}

impl Case {
    /// What it asks.
    #[must_use]
    pub fn question(&self) -> Question {
        Question {
            principal: self.principal.clone(),
            action: self.action.clone(),
            resource: self.resource.clone(),
            context: self.context.clone(),
        }
    }

    fn run(&self, set: &Set, version: Option<u64>, now: i64) -> Outcome {
        let outcome = |fault: Option<String>, explanation| Outcome {
            name: self.name.clone(),
            passed: fault.is_none(),
            fault,
            explanation,
        };
        match self.question().understand(now) {
            Err(error) => outcome(Some(error.to_string()), None),
            Ok(asked) => {
                let explanation = set.explain(&asked.request(), version);
                outcome(self.fault(&explanation), Some(explanation))
            }
        }
    }

    fn fault(&self, explanation: &Explanation) -> Option<String> {
        if explanation.allow != (self.expect == Expected::Allow) {
            let was = if explanation.allow { "allowed" } else { "denied" };
            return Some(format!("it was {was}: {}", explanation.reason));
        }
        let decided: Vec<&str> = explanation.determining.iter().map(|rule| rule.id.as_str()).collect();
        if let Some(missing) = self.by.iter().find(|id| !decided.contains(&id.as_str())) {
            return Some(format!("`{missing}` did not decide it; what did: {}", decided.join(", ")));
        }
        let expected = self.obligations?;
        (expected != explanation.obligations).then(|| {
            let Obligations { local_only, budget_micros } = explanation.obligations;
            let budget = budget_micros.map_or_else(|| "none".to_owned(), |budget| budget.to_string());
            format!("the rules add local_only = {local_only}, budget_micros = {budget}")
        })
    }
}
