//! What is known of a principal beside its name and its trust: what request policies ask.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// What kind of client a principal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
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

/// What is known of a principal beside its trust, as whoever authenticated the client says. Cloning is cheap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Authority {
    /// What kind of client.
    pub kind: PrincipalKind,
    /// Its roles.
    pub roles: Arc<[Arc<str>]>,
    /// What its credential was made for.
    pub scopes: Arc<[Arc<str>]>,
}

impl Authority {
    /// Of somebody of whom nothing more is known than that they are somebody.
    #[must_use]
    pub fn none() -> Self {
        Self { kind: PrincipalKind::User, roles: Arc::default(), scopes: Arc::default() }
    }

    /// Of whoever sits at this machine.
    #[must_use]
    pub fn local() -> Self {
        Self { kind: PrincipalKind::Local, ..Self::none() }
    }
}
