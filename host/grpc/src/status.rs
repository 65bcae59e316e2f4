//! What an error of a task is called in gRPC.

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use witan_tasks::TaskError;

/// The domain of the codes in `google.rpc.ErrorInfo`.
pub const CODE_DOMAIN: &str = "witan";

/// `error` as a status of gRPC. Its details have the code, in capitals as `google.rpc.ErrorInfo` has it, what else the
/// HTTP API says of the error, and after which time to ask again where that may help.
#[must_use]
pub fn status(error: &TaskError) -> Status {
    status_after(error, error.code.retry_after())
}

/// As [`status`], where it is known that asking again helps after `wait`, or that it does not.
#[must_use]
pub fn status_after(error: &TaskError, wait: Option<Duration>) -> Status {
    let named = [
        ("param", &error.param),
        ("limit", &error.limit),
        ("setting", &error.setting),
        ("decision", &error.decision),
        ("request_id", &error.request_id),
    ];
    let named = named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.as_ref()?.to_string())));
    let mut metadata: HashMap<String, String> = named.collect();
    metadata.insert("retryable".to_owned(), error.retryable.to_string());
    let mut details = ErrorDetails::with_error_info(error.code.to_string().to_ascii_uppercase(), CODE_DOMAIN, metadata);
    if wait.is_some() {
        details.set_retry_info(wait);
    }
    Status::with_error_details(code(error.code.http_status()), &error.message, details)
}

/// The code of gRPC for a status of HTTP, after the table of `google.rpc.Code`.
fn code(http: u16) -> Code {
    match http {
        401 => Code::Unauthenticated,
        403 | 421 => Code::PermissionDenied,
        404 => Code::NotFound,
        405 => Code::Unimplemented,
        408 | 504 => Code::DeadlineExceeded,
        409 => Code::Aborted,
        413 | 429 => Code::ResourceExhausted,
        422 => Code::FailedPrecondition,
        499 => Code::Cancelled,
        400..500 => Code::InvalidArgument,
        502 | 503 => Code::Unavailable,
        _ => Code::Internal,
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::StatusExt as _;

    use super::*;

    #[test]
    fn every_code_has_a_status_that_agrees_on_a_retry() {
        for code in witan_tasks::Code::ALL {
            let error = TaskError::new(*code, "why").at("input");
            let status = status(&error);
            assert!(!matches!(status.code(), Code::Ok | Code::Unknown), "{code}");
            assert_eq!(status.message(), "why");
            let info = status.get_details_error_info().unwrap();
            assert_eq!((info.domain.as_str(), info.reason), (CODE_DOMAIN, code.to_string().to_ascii_uppercase()));
            assert_eq!(info.metadata["param"], "input");
            // Clients of gRPC retry what is unavailable by themselves.
            assert!(status.code() != Code::Unavailable || code.http_status() >= 502, "{code}");
            let advice = status.get_details_retry_info().and_then(|retry| retry.retry_delay);
            assert_eq!(advice, code.retry_after(), "{code}");
        }
    }
}
