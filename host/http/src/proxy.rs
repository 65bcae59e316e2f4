//! The way to other machines through a proxy, by CONNECT.
//!
//! The address that the guard allowed is the address that the proxy is told to connect to, so that its rules hold behind a
//! proxy as they hold without one. Where only the proxy can look names up, they cannot: which address a name leads to is
//! then the proxy's to say, and `private = false` of a grant is not checked for names.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, timeout_at},
};
use wasmtime_wasi_http::Error;
use witan_system::{HostName, HostPattern};

use crate::client::connect_code;

/// The largest answer to CONNECT.
const LARGEST: usize = 8 << 10;

/// A proxy that speaks HTTP/1.1.
#[derive(Clone)]
pub struct Proxy {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// What `Proxy-Authorization` says to it, a secret.
    pub authorization: Option<String>,
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

/// Who looks names up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolving {
    /// The host, which checks each address.
    Here,
    /// The proxy; the host sees no address of a name.
    ByProxy,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy").field("host", &self.host).field("port", &self.port).finish_non_exhaustive()
    }
}

impl Proxy {
    /// Whether the way to `host` leads through it.
    pub(crate) fn leads_to(&self, host: &HostName) -> bool {
        !self.bypass.iter().any(|pattern| pattern.matches(host))
    }

    /// Connects to `host` and `port`, which were checked as far as they can be.
    pub(crate) async fn connect(&self, host: &str, port: u16, until: Instant) -> Result<TcpStream, Error> {
        timeout_at(until, self.tunnel(host, port)).await.unwrap_or(Err(Error::ConnectionTimeout))
    }

    async fn tunnel(&self, host: &str, port: u16) -> Result<TcpStream, Error> {
        let connected = TcpStream::connect((self.host.as_str(), self.port)).await;
        let mut stream = connected.map_err(|error| {
            tracing::warn!(proxy = %self.host, %error, "the proxy cannot be reached");
            connect_code(&error)
        })?;
        let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let mut head = format!("CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n");
        if let Some(authorization) = &self.authorization {
            head.push_str(&format!("proxy-authorization: {authorization}\r\n"));
        }
        head.push_str("\r\n");
        let broken = |_| Error::ConnectionTerminated;
        stream.write_all(head.as_bytes()).await.map_err(broken)?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            // Byte by byte: what follows the head is the other machine's.
            let byte = stream.read_u8().await.map_err(broken)?;
            answer.push(byte);
            if answer.len() > LARGEST {
                return Err(Error::HttpProtocolError);
            }
        }
        match status(&answer) {
            Some(200..=299) => Ok(stream),
            Some(status) => {
                tracing::warn!(proxy = %self.host, status, "the proxy refuses to connect");
                Err(if status == 407 { Error::HttpRequestDenied } else { Error::DestinationUnavailable })
            }
            None => Err(Error::HttpProtocolError),
        }
    }
}

fn status(answer: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(answer.split(|byte| *byte == b'\r').next()?).ok()?;
    let mut words = line.split(' ');
    words.next().filter(|version| version.starts_with("HTTP/1."))?;
    words.next().filter(|digits| digits.len() == 3)?.parse().ok()
}
