//! What may be asked, of what: the table that the schema, the documentation and the routes are held to.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How much an action can do to others. Ordered from little to much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Risk {
    /// It reads.
    Low,
    /// It runs something, or changes what is the principal's own.
    Medium,
    /// It reaches beyond this machine, or changes what others are held to.
    High,
}

impl Risk {
    /// As policies compare it: `context.risk == "high"`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// The kinds of resources, each an entity type of the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResourceKind {
    /// What tasks ask for, such as `summarize`.
    Intent,
    /// A task.
    Task,
    /// What belongs to a tenant as a whole; it is always the principal's own.
    Tenant,
    /// A tool, as `component.tool`.
    Tool,
    /// A model.
    Model,
    /// A component of the system.
    Component,
    /// A path that a component serves.
    Mount,
    /// Where egress leads.
    Origin,
    /// The policies of this host.
    Policy,
    /// What the ledger says of one tenant.
    AuditLog,
    /// The host itself.
    Host,
}

impl ResourceKind {
    /// Every kind.
    pub const ALL: &'static [Self] = &[
        Self::Intent,
        Self::Task,
        Self::Tenant,
        Self::Tool,
        Self::Model,
        Self::Component,
        Self::Mount,
        Self::Origin,
        Self::Policy,
        Self::AuditLog,
        Self::Host,
    ];

    /// The entity type.
    #[must_use]
    pub fn type_name(self) -> &'static str {
        match self {
            Self::Intent => "Intent",
            Self::Task => "Task",
            Self::Tenant => "Tenant",
            Self::Tool => "Tool",
            Self::Model => "Model",
            Self::Component => "Component",
            Self::Mount => "Mount",
            Self::Origin => "Origin",
            Self::Policy => "Policy",
            Self::AuditLog => "AuditLog",
            Self::Host => "Host",
        }
    }

    /// Whether such a resource belongs to one tenant, so that a request must say to which.
    #[must_use]
    pub fn has_tenant(self) -> bool {
        matches!(self, Self::Task | Self::Tenant | Self::AuditLog)
    }
}

macro_rules! actions {
    ($($(#[$doc:meta])* $action:ident = $name:literal, $risk:ident, $group:ident, [$($resource:ident),+];)*) => {
        /// Something that a principal may be allowed to do.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Action { $($(#[$doc])* $action,)* }

        impl Action {
            /// Every action.
            pub const ALL: &'static [Self] = &[$(Self::$action,)*];

            /// The name in policies: `Action::"task.create"`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$action => $name,)* }
            }

            /// How much it can do to others.
            #[must_use]
            pub fn risk(self) -> Risk {
                match self { $(Self::$action => Risk::$risk,)* }
            }

            /// The group that it is in, beside `all`.
            #[must_use]
            pub fn group(self) -> Group {
                match self { $(Self::$action => Group::$group,)* }
            }

            /// What it is done to.
            #[must_use]
            pub fn resources(self) -> &'static [ResourceKind] {
                match self { $(Self::$action => &[$(ResourceKind::$resource,)+],)* }
            }
        }
    };
}

/// Actions that policies name together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Group {
    /// `Action::"read"`: what only reads.
    Read,
    /// `Action::"use"`: what runs something.
    Use,
    /// `Action::"egress"`: what leaves this machine.
    Egress,
    /// `Action::"manage"`: what changes what a tenant is held to.
    Manage,
    /// `Action::"operate"`: what changes the host.
    Operate,
}

impl Group {
    /// The name in policies.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Use => "use",
            Self::Egress => "egress",
            Self::Manage => "manage",
            Self::Operate => "operate",
        }
    }
}

actions! {
    /// Submit a task for an intent.
    TaskCreate = "task.create", Medium, Use, [Intent];
    /// List the tenant's tasks.
    TaskList = "task.list", Low, Read, [Tenant];
    /// See a task, its events and its result.
    TaskRead = "task.read", Low, Read, [Task];
    /// Cancel a task.
    TaskCancel = "task.cancel", Medium, Use, [Task];
    /// Pause, resume, retry a task, or give it input.
    TaskControl = "task.control", Medium, Use, [Task];
    /// Call a tool. Components ask it, for the principal whose call they serve.
    ToolCall = "tool.call", Medium, Use, [Tool];
    /// Ask a model.
    ModelUse = "model.use", Medium, Use, [Model];
    /// Call a component over a link. Components ask it.
    ComponentCall = "component.call", Medium, Use, [Component];
    /// See which components there are, and how they are.
    ComponentRead = "component.read", Low, Read, [Host, Component];
    /// Install, upgrade or remove a component.
    ComponentInstall = "component.install", High, Operate, [Component];
    /// Send a request to a path that a component serves.
    MountCall = "mount.call", Medium, Use, [Mount];
    /// Send an HTTP request beyond this host. Components ask it.
    HttpSend = "http.send", High, Egress, [Origin];
    /// Look a name up. Components ask it.
    DnsLookup = "dns.lookup", High, Egress, [Origin];
    /// Connect a socket or send a datagram. Components ask it.
    SocketConnect = "socket.connect", High, Egress, [Origin];
    /// Bind a socket. Components ask it; no grant covers it.
    SocketBind = "socket.bind", High, Egress, [Origin];
    /// See policies, their versions and why a decision fell.
    PolicyRead = "policy.read", Low, Operate, [Policy];
    /// Load, roll back or shadow policies.
    PolicyWrite = "policy.write", High, Operate, [Policy];
    /// Read what the ledger says of one tenant.
    AuditRead = "audit.read", Low, Manage, [AuditLog];
    /// Read the whole ledger.
    LedgerRead = "ledger.read", Low, Operate, [Host];
    /// Follow a tenant's events.
    EventRead = "event.read", Low, Read, [Tenant];
    /// Make, list, rotate and revoke a tenant's keys and sessions.
    KeyManage = "key.manage", High, Manage, [Tenant];
    /// Set, list, rotate and remove a tenant's secrets.
    SecretManage = "secret.manage", High, Manage, [Tenant];
    /// Make, change and remove tenants.
    TenantManage = "tenant.manage", High, Operate, [Host];
    /// See how the host is, and what it serves.
    SystemRead = "system.read", Low, Read, [Host];
    /// Read the host's logs, which speak of every tenant.
    LogRead = "log.read", Low, Operate, [Host];
    /// Scrape the host's metrics.
    MetricsRead = "metrics.read", Low, Operate, [Host];
    /// Stop the host, load its system again, back it up.
    SystemAdmin = "system.admin", High, Operate, [Host];
}

/// What is in the schema so that policies can be written for it, and what no part of the host asks. A test of the routes
/// holds the list to the code.
const UNASKED: &[Action] = &[Action::ModelUse, Action::ComponentInstall, Action::SecretManage, Action::TenantManage];

impl Action {
    /// Whether anything asks it. What rules say of another has no effect yet.
    #[must_use]
    pub fn is_asked(self) -> bool {
        !UNASKED.contains(&self)
    }

    /// The action called `name`.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|action| action.name() == name)
    }

    /// Whether what it allows begins a call, whose context a rule may narrow.
    #[must_use]
    pub fn begins_call(self) -> bool {
        matches!(self, Self::TaskCreate | Self::MountCall)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
