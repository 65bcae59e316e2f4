//! Who is told of the host's own requests.

use std::fmt;

use uuid::Uuid;

/// Is told of each request that the host itself made. Whoever is told must not wait.
pub trait Observer: Send + Sync {
    /// A request was made.
    fn observe(&self, sent: &Sent<'_>);
}

/// A request that the host itself made. Neither path nor query is told: they may hold what is nobody else's.
#[derive(Debug, Clone, Copy)]
pub struct Sent<'a> {
    /// What for.
    pub purpose: Purpose,
    /// To which host, with its port where that is not the usual one.
    pub host: &'a str,
    /// What came of it.
    pub outcome: Outcome,
    /// For which task, where it was for one.
    pub cause: Option<Cause<'a>>,
}

/// The task that a request of the host was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cause<'a> {
    /// Whose it is.
    pub tenant: &'a str,
    /// Who submitted it, where that is known.
    pub principal: Option<&'a str>,
    /// The task.
    pub task: Uuid,
    /// How often it was tried so far, with this time.
    pub tries: u32,
    /// Whether it arrived; nothing where it is to be tried again.
    pub delivered: Option<bool>,
}

/// What a request of the host is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// To tell a client's own server what became of a task.
    Callback,
    /// To send traces to a collector.
    Collector,
    /// To ask an issuer of tokens or a provider of logins.
    Issuer,
    /// To ask a registry of components.
    Registry,
    /// To fetch a secret.
    Vault,
}

impl Purpose {
    /// Its name, as it stands in the ledger.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Callback => "callback",
            Self::Collector => "collector",
            Self::Issuer => "issuer",
            Self::Registry => "registry",
            Self::Vault => "vault",
        }
    }
}

/// What came of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// An answer with this status.
    Answered(u16),
    /// No answer.
    Unreachable,
    /// It was not made.
    Unsent,
}

impl Outcome {
    /// What came of a request that was sent.
    pub fn of(answer: &Result<reqwest::Response, reqwest::Error>) -> Self {
        answer.as_ref().map_or(Self::Unreachable, |answer| Self::Answered(answer.status().as_u16()))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered(status) => write!(f, "answered {status}"),
            Self::Unreachable => f.write_str("unreachable"),
            Self::Unsent => f.write_str("not sent"),
        }
    }
}
