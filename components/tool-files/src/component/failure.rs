//! What the codes of the file system mean to the caller of a tool.

use super::bindings::exports::witan::tools::tool::Error;
use super::bindings::wasi::filesystem::types::ErrorCode;

/// The error of a tool that met `code` at `path`.
pub(super) fn failed(path: &str, code: &ErrorCode) -> Error {
    let reason = match code {
        ErrorCode::ReadOnly => return Error::Denied(format!("`{path}` may not be written")),
        ErrorCode::Access | ErrorCode::NotPermitted => return Error::Denied(format!("`{path}` is not granted")),
        ErrorCode::NoEntry => "does not exist",
        ErrorCode::Exist => "exists already; use the mode `replace` or `append`",
        ErrorCode::IsDirectory => "is a folder",
        ErrorCode::NotDirectory => "is no folder, or lies in something that is none",
        ErrorCode::Loop => "goes through too many links",
        ErrorCode::NameTooLong => "has too long a name",
        ErrorCode::Quota | ErrorCode::InsufficientSpace => "cannot grow: no space is left",
        ErrorCode::FileTooLarge => "would be too large",
        ErrorCode::Busy | ErrorCode::TextFileBusy => "is in use",
        other => return Error::Failed(format!("cannot access `{path}`: {other:?}")),
    };
    Error::Failed(format!("`{path}` {reason}"))
}
