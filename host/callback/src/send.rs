//! One try to tell somebody.

use std::{
    fmt,
    net::IpAddr,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::Full;
use url::{Position, Url};
use witan_egress::{Cause, Egress, EgressError, Outcome, Purpose, Resolver};
use witan_task_store::Delivery;

use crate::{
    Callback, CallbackError,
    reach::{Reach, Unreached},
    signature::signature,
};

/// Where callbacks may lead.
#[derive(Clone)]
pub struct Settings {
    /// Whether an address is one of the public internet.
    pub is_public: fn(IpAddr) -> bool,
    /// Hosts that are told whatever their addresses are, and without TLS too: `host`, or `host:port`.
    pub hosts: Vec<String>,
    /// The way there, whose word for a server is believed, and who is told.
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
    Unreachable(#[source] Unreached),
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
    reach: Reach,
}

impl Sender {
    /// One that sends where `settings` let it, and looks names up as this machine does.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(settings: Settings) -> Result<Self, EgressError> {
        Ok(Self { reach: Reach::new(&settings)?, settings })
    }

    /// The same, which looks names up by `resolver`.
    #[must_use]
    pub fn resolving_by(self, resolver: Arc<dyn Resolver>) -> Self {
        Self { reach: self.reach.resolving_by(resolver), ..self }
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
        let request = request(callback, &url, &delivery.id.to_string(), body)?;
        let status = self.reach.ask(&self.settings, &url, named, request).await.map_err(SendError::Unreachable)?;
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

fn request(callback: &Callback, url: &Url, id: &str, body: &str) -> Result<Request<Full<Bytes>>, CallbackError> {
    let timestamp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut request = Request::post(&url[Position::BeforePath..Position::AfterQuery])
        .header(header::HOST, &url[Position::BeforeHost..Position::AfterPort])
        .header(header::USER_AGENT, "witan")
        .header(header::ACCEPT, "*/*")
        .header(header::CONTENT_TYPE, "application/json")
        .header("webhook-id", id)
        .header("webhook-timestamp", timestamp);
    if let Some(secret) = &callback.secret {
        let key = secret.key().ok_or(CallbackError::Secret)?;
        request = request.header("webhook-signature", signature(&key, id, timestamp, body));
    }
    request.body(Full::from(body.to_owned())).map_err(|_| CallbackError::Url)
}
