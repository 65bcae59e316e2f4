//! What is written down.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The tenant and the principal of what the host does by itself. No tenant can be called so.
pub const HOST: &str = "@host";

/// What kind of thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A component or a client asked, and was answered.
    Decision,
    /// A component was let in or turned away.
    Load,
    /// What components may do was changed.
    Grant,
    /// A task came to be, went on or ended.
    Task,
    /// Somebody changed how the host runs.
    Administration,
    /// Data left this machine.
    Egress,
    /// The ledger was tended: an erasure, a dropped part, a new key.
    Ledger,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Decision, Self::Load, Self::Grant, Self::Task, Self::Administration, Self::Egress, Self::Ledger];

    /// Its name, as it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Decision => "decision",
            Self::Load => "load",
            Self::Grant => "grant",
            Self::Task => "task",
            Self::Administration => "administration",
            Self::Egress => "egress",
            Self::Ledger => "ledger",
        }
    }
}

impl std::str::FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("`{text}` is no kind of entry; there are {names}")
        })
    }
}

/// How it was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It was done, or may be.
    Allow,
    /// It was refused.
    Deny,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Identifies it: a UUID of version 7.
    pub id: Uuid,
    /// When, in milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// What kind of thing it is.
    pub kind: Kind,
    /// To whose data it belongs.
    pub tenant: String,
    /// Who acted.
    pub principal: String,
    /// The person whom it is about, where that is another than who acted: it is kept under that person's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// The component that acted or was acted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<String>,
    /// The digest of that component's bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// What was done.
    pub action: String,
    /// To what.
    pub resource: String,
    /// Whether it was allowed.
    pub decision: Verdict,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The decision that it is or follows from; errors and spans name the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision_id: Option<Uuid>,
    /// Joins the entries, logs and spans of one call tree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// The task that it is part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Uuid>,
    /// What else there is to say, by name: a host function, a port, a count of bytes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, String>,
}

impl Entry {
    /// What the host itself did just now, allowed.
    #[must_use]
    pub fn new(kind: Kind, action: impl Into<String>, resource: impl Into<String>) -> Self {
        Self {
            id: Uuid::now_v7(),
            time_ms: now_ms(),
            kind,
            tenant: HOST.to_owned(),
            principal: HOST.to_owned(),
            about: None,
            component: None,
            digest: None,
            action: action.into(),
            resource: resource.into(),
            decision: Verdict::Allow,
            reason: None,
            decision_id: None,
            trace_id: None,
            task: None,
            details: BTreeMap::new(),
        }
    }

    /// The same, done by `principal` of `tenant`.
    #[must_use]
    pub fn by(self, tenant: impl Into<String>, principal: impl Into<String>) -> Self {
        Self { tenant: tenant.into(), principal: principal.into(), ..self }
    }

    /// The same, about another person of the same tenant.
    #[must_use]
    pub fn about(self, person: impl Into<String>) -> Self {
        Self { about: Some(person.into()), ..self }
    }

    /// The same, refused.
    #[must_use]
    pub fn denied(self, reason: impl Into<String>) -> Self {
        Self { decision: Verdict::Deny, reason: Some(reason.into()), ..self }
    }

    /// The same, for a reason.
    #[must_use]
    pub fn because(self, reason: impl Into<String>) -> Self {
        Self { reason: Some(reason.into()), ..self }
    }

    /// The same, with a further detail.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl ToString) -> Self {
        self.details.insert(name.into(), value.to_string());
        self
    }

    /// Under whose key it is kept.
    pub(crate) fn person(&self) -> &str {
        self.about.as_deref().unwrap_or(&self.principal)
    }
}

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
