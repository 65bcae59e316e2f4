//! What calls may use.

use std::time::Duration;

use serde::Serialize;

/// What one call tree may use: a call from outside and every call that follows from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Bytes of linear memory, tables, buffered bodies and queued stream items, all components together.
    pub memory: u64,
    /// Processor time of the components' own code; waits in the host are free.
    pub cpu: Duration,
    /// Time on the clock until the answer, waits included.
    pub deadline: Duration,
    /// Calls that lie above one another.
    pub depth: u16,
    /// Handles open in one store.
    pub handles: u32,
    /// Bytes that cross from guest to host in one host call.
    pub call_bytes: u64,
    /// Bytes written to disk.
    pub disk_bytes: u64,
    /// Bytes of log lines and standard output.
    pub log_bytes: u64,
    /// Sockets and outgoing connections opened.
    pub sockets: u64,
    /// Bytes sent to other machines.
    pub bytes_out: u64,
}

impl Default for Limits {
    /// Enough for a document of some megabytes, little enough that a small machine bears a dozen runaways.
    fn default() -> Self {
        Self {
            memory: 256 << 20,
            cpu: Duration::from_secs(10),
            deadline: Duration::from_secs(60),
            depth: 16,
            handles: 10_000,
            call_bytes: 64 << 20,
            disk_bytes: 64 << 20,
            log_bytes: 1 << 20,
            sockets: 64,
            bytes_out: 64 << 20,
        }
    }
}

/// What calls of one component may use, and how many run at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ComponentLimits {
    /// What a call of it may use, together with the calls that follow; never more than the system's [`Limits`].
    pub call: Limits,
    /// Calls that run at once.
    pub concurrency: u32,
    /// Calls that wait while that many run; the next is refused.
    pub queue: u32,
    /// When calls are refused because it traps again and again.
    pub breaker: Breaker,
}

/// When calls of a component are refused because it traps again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Breaker {
    /// Traps in a row after which calls are refused for a while.
    pub traps: u32,
    /// How long at first; each further time twice as long.
    pub time: Duration,
    /// How long at most.
    pub longest: Duration,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { traps: 5, time: Duration::from_secs(1), longest: Duration::from_secs(30) }
    }
}

impl ComponentLimits {
    /// The limits of a component that states none.
    pub fn of(system: &Limits) -> Self {
        Self { call: system.clone(), concurrency: 1_000, queue: 1_000, breaker: Breaker::default() }
    }
}
