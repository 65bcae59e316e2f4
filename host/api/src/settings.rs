//! Bounds on requests.

use std::time::Duration;

/// Bounds on what clients may send, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Bytes of a request's body.
    pub body_bytes: u64,
    /// The option that sets `body_bytes`, for the error that names it.
    pub body_setting: &'static str,
    /// Bytes of a request's line and headers together. There are at most 100 headers.
    pub header_bytes: u32,
    /// How long a client may take to send a request's line and headers; also how long a connection may be idle, which is
    /// without a request that is being answered or an answer that is being taken.
    pub header_time: Duration,
    /// How long a client may take to send a request's body, and how long it may leave a part of the answer untaken.
    pub body_time: Duration,
    /// Whether a proxy is all that reaches the host: it serves TLS, and says in `X-Forwarded-For` from where a request comes.
    pub behind_proxy: bool,
    /// Connections that are open at once; the next is closed. A quarter of them are for one address, half of them for this
    /// machine, and a sixteenth for this machine alone; behind a proxy, the proxy has as many as there are.
    pub connections: usize,
    /// What clients follow at once: streams of events, WebSockets and streams over gRPC. Seven eighths of them are for one tenant.
    pub streams: usize,
    /// How long requests and tasks that are under way may go on when the host stops.
    pub drain: Duration,
    /// The longest that a client may wait for a task with `?wait=`.
    pub longest_wait: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            body_bytes: 32 << 20,
            body_setting: "--max-body",
            header_bytes: 32 << 10,
            header_time: Duration::from_secs(15),
            body_time: Duration::from_secs(60),
            behind_proxy: false,
            connections: 2_000,
            streams: 1_000,
            drain: Duration::from_secs(30),
            longest_wait: Duration::from_secs(300),
        }
    }
}
