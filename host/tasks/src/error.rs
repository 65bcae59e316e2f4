//! How errors map: the one table from every failure to its code, type, HTTP status and exit code.
//!
//! `docs/decisions/0003-how-errors-map.md` says why; a test keeps the table there equal to the one here.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use witan_capability::{CallError, Limit};

/// Why a request was refused or a task failed: the `error` of an envelope and of every HTTP answer that is one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, thiserror::Error)]
#[error("{message}")]
pub struct TaskError {
    /// What went wrong, as a stable word.
    pub code: Code,
    /// What went wrong and what to do, for a person to read.
    pub message: String,
    /// The family of the code.
    #[serde(rename = "type")]
    pub kind: ErrorType,
    /// The part of the request that is at fault, such as `input.documents[0].data`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub param: Option<Box<str>>,
    /// Whose failure it is.
    #[serde(rename = "source")]
    pub origin: ErrorOrigin,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// The limit that was exceeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub limit: Option<Box<str>>,
    /// The setting in `system.toml` that would change the outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub setting: Option<Box<str>>,
    /// The decision in the decision log that refused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub decision: Option<Box<str>>,
    /// The HTTP request that it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub request_id: Option<Box<str>>,
}

impl TaskError {
    /// An error with what its code says of it.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        let row = code.row();
        Self {
            code,
            message: message.into(),
            kind: row.kind,
            param: None,
            origin: row.origin,
            retryable: row.retryable,
            limit: None,
            setting: None,
            decision: None,
            request_id: None,
        }
    }

    /// A request that is at fault in `param`.
    #[must_use]
    pub fn invalid(param: impl Into<Box<str>>, message: impl Into<String>) -> Self {
        Self::new(Code::InvalidRequest, message).at(param)
    }

    /// The same error, at fault in `param`.
    #[must_use]
    pub fn at(mut self, param: impl Into<Box<str>>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// The same error, which `setting` would change.
    #[must_use]
    pub fn setting(mut self, setting: impl Into<Box<str>>) -> Self {
        self.setting = Some(setting.into());
        self
    }
}

impl From<CallError> for TaskError {
    fn from(error: CallError) -> Self {
        let message = error.to_string();
        match error {
            CallError::Denied(denial) => {
                Self { decision: Some(denial.decision.to_string().into()), ..Self::new(Code::Denied, message) }
            }
            CallError::Limit(exceeded) => {
                let code = if exceeded.limit == Limit::Deadline { Code::DeadlineExceeded } else { Code::LimitExceeded };
                Self { limit: Some(exceeded.limit.to_string().into()), ..Self::new(code, message) }
                    .setting(exceeded.setting())
            }
            CallError::Cancelled => Self::new(Code::Cancelled, "the task was cancelled"),
            CallError::Unavailable { .. } => Self::new(Code::Unavailable, message),
            CallError::Trapped { .. } => Self::new(Code::Trapped, message),
            CallError::Invalid(_) => Self::new(Code::InvalidRequest, message),
            CallError::Internal(_) => Self::new(Code::Internal, message),
        }
    }
}

/// The family of a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorType {
    /// The request is at fault.
    InvalidRequestError,
    /// The client did not show who it is.
    AuthenticationError,
    /// The client or the component may not do it.
    PermissionError,
    /// There is no such thing.
    NotFoundError,
    /// A limit was exceeded.
    LimitError,
    /// It took too long.
    TimeoutError,
    /// The host has too much to do.
    OverloadedError,
    /// The component failed.
    TaskError,
    /// The host failed.
    ApiError,
}

/// Whose failure an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorOrigin {
    /// The host's, or the request's.
    Platform,
    /// The component's that serves the intent, or of one that it called.
    Task,
    /// That of a service elsewhere.
    Provider,
}

/// What the table says of a code.
struct Row {
    name: &'static str,
    kind: ErrorType,
    origin: ErrorOrigin,
    http: u16,
    exit: u8,
    retryable: bool,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $code:ident = $name:literal, $kind:ident, $origin:ident, $http:literal, $exit:literal, $retry:literal;)*) => {
        /// What went wrong, as a stable word. The table of the decision record 0003, row by row.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum Code { $($(#[$doc])* $code,)* }

        impl Code {
            /// Every code, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$code,)*];

            fn row(self) -> Row {
                match self {
                    $(Self::$code => Row {
                        name: $name,
                        kind: ErrorType::$kind,
                        origin: ErrorOrigin::$origin,
                        http: $http,
                        exit: $exit,
                        retryable: $retry,
                    },)*
                }
            }
        }
    };
}

codes! {
    /// The request is malformed, or its handler finds it at fault.
    InvalidRequest = "invalid_request", InvalidRequestError, Platform, 400, 2, false;
    /// No component serves the intent.
    UnknownIntent = "unknown_intent", NotFoundError, Platform, 404, 2, false;
    /// The handler does not do what is asked, such as an unknown format.
    Unsupported = "unsupported", InvalidRequestError, Task, 422, 2, false;
    /// A path lies outside of what may be named, or is no file.
    PathRefused = "path_refused", PermissionError, Platform, 403, 3, false;
    /// Policy refused what a component did.
    Denied = "denied", PermissionError, Platform, 403, 3, false;
    /// The call tree exceeded a limit other than its deadline.
    LimitExceeded = "limit_exceeded", LimitError, Platform, 422, 4, false;
    /// The call tree exceeded its deadline.
    DeadlineExceeded = "deadline_exceeded", TimeoutError, Platform, 504, 5, false;
    /// Whoever asked for it ended it.
    Cancelled = "cancelled", TaskError, Platform, 499, 130, false;
    /// The host's queue is full, or it drains.
    Overloaded = "overloaded", OverloadedError, Platform, 503, 6, true;
    /// A component cannot take a call now.
    Unavailable = "unavailable", OverloadedError, Platform, 503, 6, true;
    /// A component trapped.
    Trapped = "trapped", TaskError, Task, 502, 1, false;
    /// The handler could not finish.
    Failed = "failed", TaskError, Task, 500, 1, true;
    /// The host ended while the task ran, and its intent is none that is run again.
    Interrupted = "interrupted", ApiError, Platform, 500, 7, true;
    /// The host failed.
    Internal = "internal", ApiError, Platform, 500, 7, true;
    /// There is no such route, task or component.
    NotFound = "not_found", NotFoundError, Platform, 404, 2, false;
    /// The route does not serve this method.
    MethodNotAllowed = "method_not_allowed", InvalidRequestError, Platform, 405, 2, false;
    /// The body is larger than the host takes.
    BodyTooLarge = "body_too_large", InvalidRequestError, Platform, 413, 2, false;
    /// The body is not of the content type that the route takes.
    UnsupportedMediaType = "unsupported_media_type", InvalidRequestError, Platform, 415, 2, false;
    /// The request did not arrive in time.
    RequestTimeout = "request_timeout", TimeoutError, Platform, 408, 6, true;
    /// The request was sent to a host name that is not this host's.
    HostNotAllowed = "host_not_allowed", PermissionError, Platform, 421, 3, false;
    /// The request comes from a page of another origin.
    OriginNotAllowed = "origin_not_allowed", PermissionError, Platform, 403, 3, false;
    /// The client asks more than it may; later it may ask again.
    RateLimited = "rate_limited", LimitError, Platform, 429, 6, true;
    /// One request weighs more than its client may ask at once.
    TooHeavy = "too_heavy", LimitError, Platform, 429, 4, false;
    /// The task is not in a state that allows it.
    Conflict = "conflict", InvalidRequestError, Platform, 409, 2, false;
    /// A request with the same key is being answered.
    IdempotencyInFlight = "idempotency_in_flight", InvalidRequestError, Platform, 409, 6, true;
    /// The key came with another request before.
    IdempotencyKeyReused = "idempotency_key_reused", InvalidRequestError, Platform, 422, 2, false;
    /// The credential is missing or not good.
    Unauthorized = "unauthorized", AuthenticationError, Platform, 401, 3, false;
    /// The credential is good, and not for this.
    InsufficientScope = "insufficient_scope", PermissionError, Platform, 403, 3, false;
    /// Too many bad credentials came from the client's address.
    TooManyAttempts = "too_many_attempts", AuthenticationError, Platform, 429, 6, true;
}

impl Code {
    /// The word itself.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The HTTP status of an answer that is this error. 499 is no registered status; proxies have long used it for a
    /// request that its client ended.
    #[must_use]
    pub fn http_status(self) -> u16 {
        self.row().http
    }

    /// After which time to ask again, where that may help and nobody knows better.
    #[must_use]
    pub fn retry_after(self) -> Option<Duration> {
        let row = self.row();
        let room = matches!(row.http, 429 | 503) || self == Self::IdempotencyInFlight;
        (row.retryable && room).then_some(Duration::from_secs(1))
    }

    /// The exit code of a command that ends with this error.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        self.row().exit
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use witan_capability::LimitExceeded;

    use super::*;

    #[test]
    fn the_decision_record_has_this_table() {
        let mut table = String::new();
        for code in Code::ALL {
            let row = code.row();
            let word = |value: serde_json::Value| value.as_str().unwrap().to_owned();
            let kind = word(serde_json::to_value(row.kind).unwrap());
            let origin = word(serde_json::to_value(row.origin).unwrap());
            let retry = if row.retryable { "yes" } else { "no" };
            table += &format!("| `{}` | `{kind}` | `{origin}` | {} | {} | {retry} |\n", row.name, row.http, row.exit);
            assert_eq!(word(serde_json::to_value(code).unwrap()), row.name);
        }
        let record = include_str!("../../../docs/decisions/0003-how-errors-map.md");
        assert!(record.contains(&table), "put this into docs/decisions/0003-how-errors-map.md:\n{table}");
    }

    #[test]
    fn a_limit_is_named_with_its_setting_and_the_deadline_is_a_timeout() {
        let of = |limit| TaskError::from(CallError::from(LimitExceeded { limit, allowed: 5, component: None }));
        let memory = of(Limit::Memory);
        assert_eq!(memory.code, Code::LimitExceeded);
        assert_eq!(memory.limit.as_deref(), Some("memory"));
        assert_eq!(memory.setting.as_deref(), Some("limits.memory"));
        assert_eq!(of(Limit::Deadline).code, Code::DeadlineExceeded);
    }

    #[test]
    fn what_the_call_says_of_a_retry_stays() {
        for error in [
            CallError::Cancelled,
            CallError::Unavailable { component: "a".into(), reason: "b".into() },
            CallError::Trapped { component: "a".into(), message: "b".into() },
            CallError::Invalid("a".into()),
            CallError::Internal("a".into()),
        ] {
            assert_eq!(TaskError::from(error.clone()).retryable, error.retryable(), "{error}");
        }
    }
}
