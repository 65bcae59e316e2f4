//! Entries name the trace of the request in which they are made, without every part of a host handing it on.

use crate::Entry;

tokio::task_local! {
    /// The number of the trace.
    static TRACE: u128;
}

/// Has the entries that are given to a ledger in `work` and name no trace name the one with the number `trace`. What `work`
/// spawns is not in it.
pub async fn in_trace<F: Future>(trace: u128, work: F) -> F::Output {
    TRACE.scope(trace, work).await
}

/// `entry` in the trace that is under way.
pub(crate) fn traced(mut entry: Entry) -> Entry {
    if entry.trace_id.is_none()
        && let Ok(trace) = TRACE.try_get()
    {
        entry.trace_id = Some(format!("{trace:032x}"));
    }
    entry
}
