//! What a client asks to be told, and where.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use url::{Host, Url};
use utoipa::ToSchema;
use uuid::Uuid;
use witan_secrets::{SealError, Sealer};
use zeroize::Zeroizing;

use crate::Settings;

/// What can be told: the types of events that a task has.
pub const TYPES: [&str; 4] = ["task.started", "task.completed", "task.failed", "task.cancelled"];
/// The longest URL, in bytes.
const URL_BYTES: usize = 2_048;
/// What a secret begins with, and how many bytes it may have.
const PREFIX: &str = "whsec_";
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// Where a client is told what became of its task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Callback {
    /// `https://`, and a public host; others are those that `host.tasks.callback-hosts` names.
    #[schema(max_length = 2048)]
    pub url: String,
    /// `whsec_` and the base64 of 24 to 64 bytes, by which what is sent is signed. Without it, it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub secret: Option<Secret>,
    /// What is told: `task.started`, `task.completed`, `task.failed`, `task.cancelled`. Default: the ends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<String>,
}

/// A secret that a client shares with this host, as the client says it, or sealed for the host's database.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

/// Into the database of the host and nowhere else: what is asked of a task does not tell its callback.
impl Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Why a callback is refused. No message has the secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallbackError {
    /// The URL is none.
    #[error("`callback.url` is no URL of at most {URL_BYTES} bytes with a host, and without a user and a password")]
    Url,
    /// The scheme is none.
    #[error("`callback.url` must be `https://`; `http://` goes to hosts that `host.tasks.callback-hosts` names")]
    Scheme,
    /// The address is one of this machine or a private network.
    #[error("`{0}` is no public address; `host.tasks.callback-hosts` of system.toml names others that may be told")]
    Private(String),
    /// The secret is none.
    #[error("`callback.secret` is `whsec_` and the base64 of 24 to 64 bytes")]
    Secret,
    /// There is nothing of that name to be told.
    #[error("`callback.events` are some of {}", TYPES.join(", "))]
    Events,
}

impl Secret {
    /// One from its text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The key; none where the text is no secret.
    pub(crate) fn key(&self) -> Option<Zeroizing<Vec<u8>>> {
        let key = Zeroizing::new(STANDARD.decode(self.0.strip_prefix(PREFIX)?).ok()?);
        SECRET_BYTES.contains(&key.len()).then_some(key)
    }
}

impl Callback {
    /// The same with its secret sealed, as that of `task`: what is stored of it.
    ///
    /// # Errors
    /// When there is no key to seal it with.
    pub async fn sealed(mut self, task: Uuid, sealer: &Sealer) -> Result<Self, SealError> {
        if let Some(Secret(secret)) = &self.secret
            && !Sealer::is_sealed(secret)
        {
            self.secret = Some(Secret::new(sealer.seal(task.as_bytes(), secret).await?));
        }
        Ok(self)
    }

    /// The same with its secret as the client said it, which was sealed as that of `task`.
    ///
    /// # Errors
    /// When it was not, or its key is not here.
    pub async fn opened(mut self, task: Uuid, sealer: &Sealer) -> Result<Self, SealError> {
        if let Some(Secret(secret)) = &self.secret
            && Sealer::is_sealed(secret)
        {
            self.secret = Some(Secret(sealer.open(task.as_bytes(), secret).await?));
        }
        Ok(self)
    }

    /// Checks it, as far as that can be without asking where its host is.
    ///
    /// # Errors
    /// When it is at fault, or leads where `settings` do not let it.
    pub fn check(&self, settings: &Settings) -> Result<(), CallbackError> {
        self.target(settings)?;
        if self.secret.as_ref().is_some_and(|secret| secret.key().is_none()) {
            return Err(CallbackError::Secret);
        }
        let known = self.events.iter().all(|event| TYPES.contains(&event.as_str()));
        if known && self.events.len() <= TYPES.len() { Ok(()) } else { Err(CallbackError::Events) }
    }

    /// Where it leads, and whether that is a host which may be private.
    pub(crate) fn target(&self, settings: &Settings) -> Result<(Url, bool), CallbackError> {
        let url = Url::parse(&self.url).ok().filter(|_| self.url.len() <= URL_BYTES).ok_or(CallbackError::Url)?;
        let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else {
            return Err(CallbackError::Url);
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(CallbackError::Url);
        }
        let named = settings.names(&host.to_string(), port);
        match url.scheme() {
            "https" => {}
            "http" if named => {}
            _ => return Err(CallbackError::Scheme),
        }
        let address = match host {
            Host::Ipv4(address) => Some(address.into()),
            Host::Ipv6(address) => Some(address.into()),
            Host::Domain(_) => None,
        };
        if !named && address.is_some_and(|address| !(settings.is_public)(address)) {
            return Err(CallbackError::Private(host.to_string()));
        }
        Ok((url, named))
    }

    /// Whether events of the type `name` are told.
    #[must_use]
    pub fn tells(&self, name: &str) -> bool {
        match self.events.as_slice() {
            [] => TYPES.contains(&name) && name != "task.started",
            events => events.iter().any(|event| event == name),
        }
    }
}
