//! How a call fails, once for every layer: guest, host, HTTP and command line map these cases and no others.

use crate::{DecisionId, LimitExceeded};

/// A refusal by policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} (decision {decision})")]
pub struct Denial {
    /// The decision, as it stands in the decision log.
    pub decision: DecisionId,
    /// What was refused, why, and what would grant it.
    pub reason: String,
}

/// Why a call did not complete. What the callee itself answered, good or bad, is not here: it is the call's result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Policy refused it.
    #[error(transparent)]
    Denied(#[from] Denial),
    /// The call tree exceeded a limit and has ended.
    #[error(transparent)]
    Limit(#[from] LimitExceeded),
    /// Whoever made the call tree ended it.
    #[error("the call was cancelled")]
    Cancelled,
    /// The component cannot take the call now.
    #[error("`{component}` cannot take the call now: {reason}")]
    Unavailable {
        /// The component that was called.
        component: String,
        /// Why: it drains, its queue is full, its breaker is open.
        reason: String,
    },
    /// The component trapped.
    #[error("`{component}` trapped: {message}")]
    Trapped {
        /// The component that trapped.
        component: String,
        /// What the trap said.
        message: String,
    },
    /// The request does not fit what it was sent to.
    #[error("{0}")]
    Invalid(String),
    /// The host itself failed; a log line says more.
    #[error("the host failed: {0}")]
    Internal(String),
}

impl CallError {
    /// Finds the call error in `error`, or takes the error for a trap of `component`.
    ///
    /// Host functions end a guest by returning a [`CallError`], [`Denial`] or [`LimitExceeded`] through the engine,
    /// which wraps it; this gets it back.
    #[must_use]
    pub fn from_engine(component: &str, error: &wasmtime::Error) -> Self {
        if let Some(error) = error.downcast_ref::<Self>() {
            return error.clone();
        }
        if let Some(limit) = error.downcast_ref::<LimitExceeded>() {
            return limit.clone().into();
        }
        if let Some(denial) = error.downcast_ref::<Denial>() {
            return denial.clone().into();
        }
        Self::Trapped { component: component.to_owned(), message: format!("{error:#}") }
    }

    /// A stable word for this kind of error: the `code` over HTTP and in the task envelope.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Denied(_) => "denied",
            Self::Limit(_) => "limit_exceeded",
            Self::Cancelled => "cancelled",
            Self::Unavailable { .. } => "unavailable",
            Self::Trapped { .. } => "trapped",
            Self::Invalid(_) => "invalid_request",
            Self::Internal(_) => "internal",
        }
    }

    /// Whether the same call may succeed later.
    #[must_use]
    pub fn retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Internal(_))
    }
}
