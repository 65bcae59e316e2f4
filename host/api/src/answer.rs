//! Errors as answers.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use witan_tasks::{Code, TaskError};

use crate::asks::Told;

/// An answer that is an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct ErrorBody {
    /// What went wrong.
    pub(crate) error: TaskError,
}

/// A refused request, on its way to become an answer.
#[derive(Clone, Debug)]
pub(crate) struct Refusal(pub(crate) TaskError);

impl From<TaskError> for Refusal {
    fn from(error: TaskError) -> Self {
        Self(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        error_response(self.0)
    }
}

/// The answer that `error` becomes. The server fills in the id of the request and the body just before it sends them.
#[must_use]
pub fn error_response(error: TaskError) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status(error.code);
    response.extensions_mut().insert(Refusal(error));
    response
}

/// Gives an answer that is an error its body, which names the request; a client of gRPC gets it as a status. `told` is what
/// else clients are told, which the caller writes into the headers.
pub(crate) fn complete(response: &mut Response, request_id: &HeaderValue, grpc: bool, told: Option<&Told>) {
    let Some(Refusal(mut error)) = response.extensions_mut().remove::<Refusal>() else { return };
    error.request_id = request_id.to_str().ok().map(Into::into);
    if grpc {
        let wait = told.and_then(Told::wait).or(error.code.retry_after());
        *response = witan_grpc::refusal(&error, wait);
    }
    retry_headers(&error, response.headers_mut());
    ask_for_credential(&error, response.headers_mut());
    if grpc {
        return;
    }
    let json = serde_json::to_vec(&ErrorBody { error }).unwrap_or_default();
    *response.body_mut() = json.into();
    // The router gave the length of the body that was not there yet.
    response.headers_mut().remove(header::CONTENT_LENGTH);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
}

pub(crate) fn status(code: Code) -> StatusCode {
    StatusCode::from_u16(code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// Tells clients that retry by themselves whether that helps.
pub(crate) fn retry_headers(error: &TaskError, headers: &mut HeaderMap) {
    let status = error.code.http_status();
    if let Some(wait) = error.code.retry_after() {
        witan_throttle::retry(Some(wait), headers);
    }
    // Clients of model providers retry these statuses unless they are told not to.
    if !error.retryable && (matches!(status, 408 | 409 | 429) || status >= 500) {
        headers.insert("x-should-retry", HeaderValue::from_static("false"));
    }
}

/// Tells clients which kind of credential is asked for, or that theirs is not for this.
fn ask_for_credential(error: &TaskError, headers: &mut HeaderMap) {
    let challenge = match error.code {
        Code::Unauthorized => "Bearer realm=\"witan\"",
        Code::InsufficientScope => "Bearer realm=\"witan\", error=\"insufficient_scope\"",
        _ => return,
    };
    headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_is_advised_exactly_where_it_may_help() {
        for code in Code::ALL {
            let mut headers = HeaderMap::new();
            let error = TaskError::new(*code, "");
            retry_headers(&error, &mut headers);
            let room = matches!(code.http_status(), 429 | 503) || *code == Code::IdempotencyInFlight;
            let later = room && error.retryable;
            assert_eq!(headers.contains_key("retry-after"), later, "{code}");
            let advised_against = headers.contains_key("x-should-retry");
            assert!(!(advised_against && error.retryable), "{code}");
            let retried = code.http_status() >= 500 || matches!(code.http_status(), 409 | 429);
            assert_eq!(advised_against, !error.retryable && retried, "{code}");
            assert_eq!(status(*code).as_u16(), code.http_status());
        }
    }
}
