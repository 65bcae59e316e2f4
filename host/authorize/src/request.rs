//! What an authorizer is asked.

use std::{borrow::Cow, fmt, net::IpAddr, sync::Arc};

use serde::{Deserialize, Serialize};

use witan_system::TrustLevel;

use crate::{Action, ResourceKind};

/// The tenant of the host itself.
pub const HOST_TENANT: &str = "local";

/// What kind of client a principal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PrincipalKind {
    /// A person.
    User,
    /// An API key.
    Key,
    /// A service that shows a certificate.
    Service,
    /// Whoever sits at this machine.
    Local,
}

impl PrincipalKind {
    /// Every kind.
    pub const ALL: &'static [Self] = &[Self::User, Self::Key, Self::Service, Self::Local];

    /// The entity type.
    #[must_use]
    pub fn type_name(self) -> &'static str {
        match self {
            Self::User => "User",
            Self::Key => "Key",
            Self::Service => "Service",
            Self::Local => "Local",
        }
    }
}

/// As policies order it: `principal.level >= 2`.
pub(crate) fn level(trust: TrustLevel) -> i64 {
    match trust {
        TrustLevel::Restricted => 0,
        TrustLevel::Standard => 1,
        TrustLevel::Elevated => 2,
        TrustLevel::Privileged => 3,
    }
}

/// Who asks, as whoever authenticated the client says. Cloning is cheap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// What kind of client.
    pub kind: PrincipalKind,
    /// Its name within the tenant.
    pub name: Arc<str>,
    /// The tenant that it belongs to.
    pub tenant: Arc<str>,
    /// Its roles.
    pub roles: Arc<[Arc<str>]>,
    /// How far it is trusted.
    pub trust: TrustLevel,
    /// What its credential was made for; empty where it was not narrowed.
    pub scopes: Arc<[Arc<str>]>,
}

impl Principal {
    /// Whoever sits at this machine.
    #[must_use]
    pub fn local() -> Self {
        Self {
            kind: PrincipalKind::Local,
            name: HOST_TENANT.into(),
            tenant: HOST_TENANT.into(),
            roles: Arc::default(),
            trust: TrustLevel::Privileged,
            scopes: Arc::default(),
        }
    }

    /// The id of its entity: a name alone would be the same in two tenants.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}/{}", self.tenant, self.name)
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::\"{}/{}\"", self.kind.type_name(), self.tenant, self.name)
    }
}

/// What an action is done to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource<'a> {
    /// What a task asks for.
    Intent(Cow<'a, str>),
    /// A task.
    Task {
        /// Its id.
        id: Cow<'a, str>,
        /// Whose it is.
        tenant: Cow<'a, str>,
        /// The id ([`Principal::id`]) of whoever submitted it.
        owner: Cow<'a, str>,
        /// What it asks for.
        intent: Cow<'a, str>,
    },
    /// A tenant as a whole.
    Tenant(Cow<'a, str>),
    /// A tool, as `component.tool`.
    Tool(Cow<'a, str>),
    /// A model.
    Model(Cow<'a, str>),
    /// A component.
    Component(Cow<'a, str>),
    /// A path that a component serves.
    Mount(Cow<'a, str>),
    /// Where egress leads.
    Origin {
        /// `https`, `http`, `tcp`, `udp` or `dns`.
        scheme: Cow<'a, str>,
        /// A name or an address.
        host: Cow<'a, str>,
        /// The port; 0 for a look-up alone.
        port: u16,
    },
    /// The policies of this host.
    Policy,
    /// What the ledger says of this tenant.
    AuditLog(Cow<'a, str>),
    /// The host itself.
    Host,
}

impl Resource<'_> {
    /// The entity type.
    #[must_use]
    pub fn kind(&self) -> ResourceKind {
        match self {
            Self::Intent(_) => ResourceKind::Intent,
            Self::Task { .. } => ResourceKind::Task,
            Self::Tenant(_) => ResourceKind::Tenant,
            Self::Tool(_) => ResourceKind::Tool,
            Self::Model(_) => ResourceKind::Model,
            Self::Component(_) => ResourceKind::Component,
            Self::Mount(_) => ResourceKind::Mount,
            Self::Origin { .. } => ResourceKind::Origin,
            Self::Policy => ResourceKind::Policy,
            Self::AuditLog(_) => ResourceKind::AuditLog,
            Self::Host => ResourceKind::Host,
        }
    }

    /// The id of its entity.
    #[must_use]
    pub fn id(&self) -> Cow<'_, str> {
        match self {
            Self::Task { id, .. } => Cow::Borrowed(id),
            Self::Intent(id)
            | Self::Tenant(id)
            | Self::Tool(id)
            | Self::Model(id)
            | Self::Component(id)
            | Self::Mount(id)
            | Self::AuditLog(id) => Cow::Borrowed(id),
            Self::Origin { scheme, host, port: 0 } => Cow::Owned(format!("{scheme}://{host}")),
            Self::Origin { scheme, host, port } if host.contains(':') => {
                Cow::Owned(format!("{scheme}://[{host}]:{port}"))
            }
            Self::Origin { scheme, host, port } => Cow::Owned(format!("{scheme}://{host}:{port}")),
            Self::Policy | Self::Host => Cow::Borrowed("host"),
        }
    }

    /// The tenant that owns it, if one does.
    #[must_use]
    pub fn tenant(&self) -> Option<&str> {
        match self {
            Self::Task { tenant, .. } | Self::Tenant(tenant) | Self::AuditLog(tenant) => Some(tenant),
            _ => None,
        }
    }
}

impl fmt::Display for Resource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::\"{}\"", self.kind().type_name(), self.id())
    }
}

/// What is known of a request beside who, what and to what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context<'a> {
    /// When, in seconds since the Unix epoch.
    pub epoch: i64,
    /// Whether nothing of it may leave this machine.
    pub local_only: bool,
    /// The client's address.
    pub source: Option<IpAddr>,
    /// The intent of the task that it is part of.
    pub intent: Option<Cow<'a, str>>,
    /// The route of the API.
    pub route: Option<Cow<'a, str>>,
    /// Whose model it is.
    pub provider: Option<Cow<'a, str>>,
    /// What the call tree may still spend, in millionths of a US dollar.
    pub budget_micros: Option<u64>,
    /// The component that asks for the principal.
    pub component: Option<Cow<'a, str>>,
    /// The HTTP method, upper case.
    pub method: Option<Cow<'a, str>>,
    /// The HTTP path.
    pub path: Option<Cow<'a, str>>,
}

/// One question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// Who.
    pub principal: &'a Principal,
    /// What.
    pub action: Action,
    /// To what; one of [`Action::resources`].
    pub resource: Resource<'a>,
    /// What else is known.
    pub context: Context<'a>,
}
