//! Whether a crash leaves an image of this process, with the secrets in it, on the disk.

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

/// Leaves none, and keeps other processes of this user from reading this one's memory. What this process starts inherits the
/// limit.
pub(crate) fn off() {
    let limit = Rlimit { current: Some(0), ..getrlimit(Resource::Core) };
    let done = setrlimit(Resource::Core, limit).and_then(|()| set_dumpable_behavior(DumpableBehavior::NotDumpable));
    if let Err(error) = done {
        tracing::warn!(%error, "a crash may leave an image of this process on the disk");
    }
}

/// Leaves one, as the operator asked.
pub(crate) fn on() {
    let limit = getrlimit(Resource::Core);
    if limit.maximum == Some(0) {
        tracing::warn!(
            "a crash will leave no image of this process, although `host.core-dumps` asks for one: the limit that it was started \
             with is 0; raise `LimitCORE` of the service, or `ulimit -Hc`"
        );
    }
    let done = setrlimit(Resource::Core, Rlimit { current: limit.maximum, ..limit });
    if let Err(error) = done.and_then(|()| set_dumpable_behavior(DumpableBehavior::Dumpable)) {
        tracing::warn!(%error, "a crash will leave no image of this process, although `host.core-dumps` asks for one");
    }
}
