//! The way to other machines through a proxy, by CONNECT.
//!
//! The address that the guard allowed is the address that the proxy is told to connect to, so that its rules hold behind a
//! proxy as they hold without one. Where only the proxy can look names up, they cannot: which address a name leads to is
//! then the proxy's to say, and `private = false` of a grant is not checked for names.

use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};
use wasmtime_wasi_http::Error;
use witan_egress::{Resolving, Tunnel, TunnelError};
use witan_system::{HostName, HostPattern};

use crate::client::connect_code;

/// A proxy that speaks HTTP/1.1.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// The way through it.
    pub tunnel: Tunnel,
    /// The machines that are reached without it.
    pub bypass: Vec<HostPattern>,
    /// Who looks names up.
    pub resolving: Resolving,
}

/// What `Proxy-Authorization` says for `credentials`, `user:password`.
#[must_use]
pub fn basic(credentials: &str) -> String {
    use base64::Engine as _;
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(credentials))
}

impl Proxy {
    /// Whether the way to `host` leads through it.
    pub(crate) fn leads_to(&self, host: &HostName) -> bool {
        !self.bypass.iter().any(|pattern| pattern.matches(host))
    }

    /// Connects to `host` and `port`, which were checked as far as they can be.
    pub(crate) async fn connect(&self, host: &str, port: u16, until: Instant) -> Result<TcpStream, Error> {
        let connected = timeout_at(until, self.tunnel.connect(host, port)).await;
        connected.map_err(|_| Error::ConnectionTimeout)?.map_err(|error| code(&error))
    }
}

/// The standard's code for what a proxy does not do.
fn code(error: &TunnelError) -> Error {
    tracing::warn!(error = error as &dyn std::error::Error, "no way through the proxy");
    match error {
        TunnelError::Unreachable { source, .. } => connect_code(source),
        TunnelError::Broken { .. } => Error::ConnectionTerminated,
        TunnelError::Credentials { .. } => Error::HttpRequestDenied,
        TunnelError::Refused { .. } => Error::DestinationUnavailable,
        TunnelError::Answer { .. } => Error::HttpProtocolError,
    }
}
