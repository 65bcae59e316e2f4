//! What happens to identities, for whoever keeps a record of it.

use std::net::IpAddr;

use witan_system::TenantName;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum What {
    /// A credential was refused.
    AuthenticationFailed,
    /// Somebody logged in.
    LoggedIn,
    /// A login was refused.
    LoginFailed,
    /// A session was refreshed.
    SessionRefreshed,
    /// An old refresh token came again, and its session was ended.
    RefreshReused,
    /// A session was revoked, or its owner logged out.
    SessionRevoked,
    /// A key was made.
    KeyCreated,
    /// A key was replaced.
    KeyRotated,
    /// A key was revoked.
    KeyRevoked,
    /// A tenant was made.
    TenantCreated,
    /// A tenant was disabled or enabled again.
    TenantChanged,
    /// A user was disabled, enabled, or given other roles.
    UserChanged,
}

impl What {
    /// A stable word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AuthenticationFailed => "auth.failed",
            Self::LoggedIn => "auth.logged_in",
            Self::LoginFailed => "auth.login_failed",
            Self::SessionRefreshed => "session.refreshed",
            Self::RefreshReused => "session.reused",
            Self::SessionRevoked => "session.revoked",
            Self::KeyCreated => "key.created",
            Self::KeyRotated => "key.rotated",
            Self::KeyRevoked => "key.revoked",
            Self::TenantCreated => "tenant.created",
            Self::TenantChanged => "tenant.changed",
            Self::UserChanged => "user.changed",
        }
    }

    /// Whether somebody was refused.
    #[must_use]
    pub fn is_refusal(self) -> bool {
        matches!(self, Self::AuthenticationFailed | Self::LoginFailed | Self::RefreshReused)
    }
}

/// Something that happened to identities. It holds no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What.
    pub what: What,
    /// Whose tenant, where that is known.
    pub tenant: Option<TenantName>,
    /// Who did it, or whom it concerns where nobody else did.
    pub principal: Option<String>,
    /// Which key, session or user.
    pub subject: Option<String>,
    /// The principal of whom it concerns, where somebody else did it.
    pub about: Option<String>,
    /// From where it came.
    pub address: Option<IpAddr>,
    /// Why, for an operator to read.
    pub detail: String,
}

impl Event {
    pub(crate) fn new(what: What) -> Self {
        Self { what, tenant: None, principal: None, subject: None, about: None, address: None, detail: String::new() }
    }

    pub(crate) fn of(mut self, tenant: &TenantName) -> Self {
        self.tenant = Some(tenant.clone());
        self
    }

    pub(crate) fn by(mut self, principal: impl Into<String>) -> Self {
        self.principal = Some(principal.into());
        self
    }

    pub(crate) fn on(mut self, subject: impl ToString) -> Self {
        self.subject = Some(subject.to_string());
        self
    }

    /// Says whom it concerns; to be called after [`Self::by`].
    pub(crate) fn about(mut self, principal: impl Into<String>) -> Self {
        self.about = Some(principal.into()).filter(|about| self.principal.as_ref() != Some(about));
        self
    }

    pub(crate) fn from(mut self, address: Option<IpAddr>) -> Self {
        self.address = address;
        self
    }

    pub(crate) fn because(mut self, detail: impl ToString) -> Self {
        self.detail = detail.to_string();
        self
    }
}

/// Sees what happens to identities. Must not block.
pub trait Observer: Send + Sync + 'static {
    /// Whether it can keep a record now. Where it cannot, nobody gets rights; to take them away is never refused.
    ///
    /// # Errors
    /// Why it cannot.
    fn ready(&self) -> Result<(), String> {
        Ok(())
    }

    /// Sees `event`.
    fn observe(&self, event: &Event);
}

/// Writes each event to the log.
#[derive(Debug, Clone, Copy, Default)]
pub struct Logged;

impl Observer for Logged {
    fn observe(&self, event: &Event) {
        let tenant = event.tenant.as_ref().map(tracing::field::display);
        let address = event.address.map(tracing::field::display);
        let (principal, subject) = (event.principal.as_deref(), event.subject.as_deref());
        let (what, detail) = (event.what.name(), event.detail.as_str());
        match event.what {
            What::RefreshReused => tracing::warn!(tenant, principal, subject, address, detail, "{what}"),
            _ => tracing::info!(tenant, principal, subject, address, detail, "{what}"),
        }
    }
}
