//! What the errors of those that are called mean to the client of a summary.

use super::bindings::exports::witan::task::handler::Error;
use super::bindings::witan::documents::types::Error as ExtractError;
use super::bindings::witan::tools::types::Error as ToolError;

/// The tool `tool` could not read `name`.
pub(super) fn unread(name: &str, tool: &str, error: ToolError) -> Error {
    match error {
        ToolError::CallFailed(failure) => Error::CallFailed(failure),
        ToolError::Denied(reason) => Error::Invalid(format!("cannot read `{name}`: {reason}")),
        ToolError::NotFound(_) => {
            let advice = "send text or documents instead";
            Error::Unsupported(format!("cannot read `{name}`: the tool `{tool}` is not granted; {advice}"))
        }
        ToolError::InvalidArguments(reason) | ToolError::Failed(reason) => {
            Error::Failed(format!("cannot read `{name}`: {reason}"))
        }
    }
}

/// The extractor could not read `name`.
pub(super) fn unextracted(name: &str, error: ExtractError) -> Error {
    match error {
        ExtractError::CallFailed(failure) => Error::CallFailed(failure),
        ExtractError::Unsupported(reason) => Error::Unsupported(format!("`{name}`: {reason}")),
        ExtractError::Malformed(reason) => Error::Invalid(format!("`{name}`: {reason}")),
        ExtractError::TooLarge(reason) => Error::Invalid(format!("`{name}`: {reason}")),
        ExtractError::Encrypted => Error::Invalid(format!("`{name}` is encrypted; send it without a password")),
    }
}
