//! One try to tell somebody.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use reqwest::{
    Client, StatusCode,
    dns::{Addrs, Name, Resolve, Resolving},
};
use witan_egress::{Cause, Egress, Outcome, Purpose};
use witan_task_store::Delivery;

use crate::{Callback, CallbackError, signature::signature};

/// How long one try may take, from the look-up of the name to the status of the answer.
const TIME: Duration = Duration::from_secs(10);

/// Where callbacks may lead.
#[derive(Clone)]
pub struct Settings {
    /// Whether an address is one of the public internet.
    pub is_public: fn(IpAddr) -> bool,
    /// Hosts that are told whatever their addresses are, and without TLS too: `host`, or `host:port`.
    pub hosts: Vec<String>,
    /// Whose word for a server is believed, and who is told. It is not sent through a proxy: that would connect to another
    /// address than the one that was checked.
    pub egress: Egress,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

impl Settings {
    pub(crate) fn names(&self, host: &str, port: u16) -> bool {
        let with_port = format!("{host}:{port}");
        self.hosts.iter().any(|named| named.eq_ignore_ascii_case(host) || named.eq_ignore_ascii_case(&with_port))
    }
}

/// Why somebody could not be told.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// It may not be told, by the settings that hold now.
    #[error(transparent)]
    Refused(#[from] CallbackError),
    /// Its secret does not open.
    #[error("the secret of the callback does not open")]
    Sealed(#[source] witan_secrets::SealError),
    /// It could not be reached.
    #[error("the callback cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    /// It answered something else than that it has taken it.
    #[error("the callback answered {0}")]
    Status(StatusCode),
}

impl SendError {
    /// Whether another try may help.
    #[must_use]
    pub fn retryable(&self) -> bool {
        !matches!(self, Self::Refused(_) | Self::Status(StatusCode::GONE))
    }
}

/// Sends to callbacks.
#[derive(Clone, Debug)]
pub struct Sender {
    settings: Settings,
    /// Connects to public addresses alone.
    public: Client,
    /// Connects to any.
    named: Client,
}

/// Resolves names, and leaves out what is not public: what is left is what is connected to.
struct Public(fn(IpAddr) -> bool);

impl Resolve for Public {
    fn resolve(&self, name: Name) -> Resolving {
        let is_public = self.0;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<SocketAddr> = found.filter(|address| is_public(address.ip())).collect();
            if public.is_empty() {
                let error = io::Error::new(io::ErrorKind::PermissionDenied, "the name has no public address");
                return Err(error.into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

impl Sender {
    /// One that sends where `settings` let it.
    ///
    /// # Errors
    /// When HTTP cannot be set up.
    pub fn new(settings: Settings) -> Result<Self, reqwest::Error> {
        let builder = || settings.egress.straight().timeout(TIME).user_agent("witan");
        Ok(Self {
            public: builder().dns_resolver(Arc::new(Public(settings.is_public))).build()?,
            named: builder().build()?,
            settings,
        })
    }

    /// Where it sends.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Tells `callback` what `body` says, which is to be delivered by `delivery`, once; its id is the same at each try. The
    /// status with which it was taken.
    ///
    /// # Errors
    /// When it was not told, or did not take it.
    pub async fn send(&self, callback: &Callback, delivery: &Delivery, body: &str) -> Result<StatusCode, SendError> {
        // The settings may have changed since it was accepted.
        let (url, named) = callback.target(&self.settings)?;
        let client = if named { &self.named } else { &self.public };
        let id = delivery.id.to_string();
        let timestamp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let request = client.post(url).header("content-type", "application/json");
        let mut request = request.header("webhook-id", &id).header("webhook-timestamp", timestamp);
        if let Some(secret) = &callback.secret {
            let key = secret.key().ok_or(CallbackError::Secret)?;
            request = request.header("webhook-signature", signature(&key, &id, timestamp, body));
        }
        let answer = request.body(body.to_owned()).send().await;
        let status = answer.map_err(|error| SendError::Unreachable(error.without_url()))?.status();
        if status.is_success() { Ok(status) } else { Err(SendError::Status(status)) }
    }

    /// Says to whoever watches the host's own requests what came of one to `callback`.
    pub(crate) fn tell(&self, callback: &Callback, cause: Cause<'_>, sent: &Result<StatusCode, SendError>) {
        let Ok(to) = callback.url.parse() else { return };
        let outcome = match sent {
            Ok(status) | Err(SendError::Status(status)) => Outcome::Answered(status.as_u16()),
            Err(SendError::Unreachable(_)) => Outcome::Unreachable,
            Err(SendError::Refused(_) | SendError::Sealed(_)) => Outcome::Unsent,
        };
        self.settings.egress.sent_for(cause, Purpose::Callback, &to, outcome);
    }
}
