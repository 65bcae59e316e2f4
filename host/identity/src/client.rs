//! Who sent a request.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use uuid::Uuid;
use witan_system::{Name, Scope, TenantName, TrustLevel, Verb};

/// What kind of client somebody is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Whoever sits at this machine.
    Local,
    /// A program with an API key.
    Key,
    /// A person, or whomever an issuer vouches for.
    User,
    /// A service with a client certificate.
    Service,
}

impl Kind {
    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Key => "key",
            Self::User => "user",
            Self::Service => "service",
        }
    }
}

/// Who somebody is, wherever they ask from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Who {
    pub(crate) principal: String,
    pub(crate) kind: Kind,
    pub(crate) tenant: TenantName,
    pub(crate) roles: BTreeSet<Name>,
    pub(crate) trust: TrustLevel,
    pub(crate) scopes: Vec<Scope>,
    pub(crate) credential: Option<Uuid>,
}

/// Who sent a request, and from where. Cloning is cheap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    pub(crate) who: Arc<Who>,
    address: IpAddr,
}

impl Client {
    pub(crate) fn new(who: Arc<Who>, address: IpAddr) -> Self {
        Self { who, address }
    }

    /// Whoever sits at this machine: may do everything.
    #[must_use]
    pub fn local(address: IpAddr) -> Self {
        // The name is one.
        let tenant = TenantName::local();
        let who = Who {
            principal: "local".to_owned(),
            kind: Kind::Local,
            tenant,
            roles: BTreeSet::new(),
            trust: TrustLevel::Privileged,
            scopes: vec![Scope::all()],
            credential: None,
        };
        Self::new(Arc::new(who), address)
    }

    /// Who they are, in policies and records: `local`, `key/ID`, `service/NAME`, or `ISSUER/SUBJECT`.
    #[must_use]
    pub fn principal(&self) -> &str {
        &self.who.principal
    }

    /// What kind of client they are.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.who.kind
    }

    /// Whose they are: all that they make is this tenant's, and they see nothing of another's.
    #[must_use]
    pub fn tenant(&self) -> &TenantName {
        &self.who.tenant
    }

    /// What they are.
    #[must_use]
    pub fn roles(&self) -> &BTreeSet<Name> {
        &self.who.roles
    }

    /// How far they are trusted.
    #[must_use]
    pub fn trust(&self) -> TrustLevel {
        self.who.trust
    }

    /// What they may ask for.
    #[must_use]
    pub fn scopes(&self) -> &[Scope] {
        &self.who.scopes
    }

    /// The key or the session that they showed.
    #[must_use]
    pub fn credential(&self) -> Option<Uuid> {
        self.who.credential
    }

    /// From where they ask.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Whether they may ask for `verb` in `area`.
    #[must_use]
    pub fn allows(&self, area: &str, verb: Verb) -> bool {
        self.who.scopes.iter().any(|scope| scope.allows(area, verb))
    }

    /// Whether they may give away `scopes` and `trust`: nobody gives what they have not.
    #[must_use]
    pub fn may_give(&self, scopes: &[Scope], trust: TrustLevel) -> bool {
        let covered = |given: &Scope| self.who.scopes.iter().any(|own| own.covers(given));
        trust <= self.who.trust && scopes.iter().all(covered)
    }
}
