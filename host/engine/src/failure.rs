//! What wasmtime's own bounds mean to a call: some of the limits are kept by it, and come back as errors of its own.

use wasmtime::{PoolConcurrencyLimitError, component::ResourceTableError};
use witan_capability::{Account, CallError, Limit};

/// Wasmtime says these in words alone. Each is compared as a whole, since a guest chooses the names in a backtrace.
const BY_WORDS: [(&str, Limit); 2] = [
    ("cannot allocate another handle: store handle limit exceeded", Limit::Handles),
    (
        "too much data is being copied between the host and the guest: fuel allocated for hostcalls has been exhausted",
        Limit::CallBytes,
    ),
];

/// Why a call of `component` ended with `error`. A limit that was exceeded ends the tree of `account`.
pub(crate) fn failure(component: &str, error: &wasmtime::Error, account: &Account) -> CallError {
    if let Some(limit) = limit(error) {
        return account.exceed(limit).into();
    }
    if error.downcast_ref::<PoolConcurrencyLimitError>().is_some() {
        return CallError::Unavailable {
            component: component.to_owned(),
            reason: format!("{error:#}; `host.pool.instances` is the setting"),
        };
    }
    CallError::from_engine(component, error)
}

fn limit(error: &wasmtime::Error) -> Option<Limit> {
    if let Some(ResourceTableError::Full) = error.downcast_ref() {
        return Some(Limit::Handles);
    }
    error.chain().find_map(|cause| {
        let words = cause.to_string();
        BY_WORDS.iter().find(|(known, _)| *known == words).map(|(_, limit)| *limit)
    })
}
