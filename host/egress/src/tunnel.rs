//! The way through a proxy, by CONNECT: to the machine that whoever asks for it says, which may be an address that was checked.

use std::{fmt, io};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use zeroize::Zeroizing;

/// The largest answer to CONNECT.
const LARGEST: usize = 8 << 10;

/// A proxy that speaks HTTP/1.1. It is shown without its credentials.
#[derive(Clone)]
pub struct Tunnel {
    host: String,
    port: u16,
    authorization: Option<Zeroizing<String>>,
}

/// Who looks names up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resolving {
    /// The host, which checks each address.
    #[default]
    Here,
    /// The proxy; the host sees no address of a name.
    ByProxy,
}

/// Why a proxy does not lead on. No message has its credentials.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// Nobody answers where it should be.
    #[error("the proxy {proxy} cannot be reached")]
    Unreachable {
        /// Where it should be.
        proxy: String,
        /// Why.
        source: io::Error,
    },
    /// It ended the connection without an answer.
    #[error("the proxy {proxy} breaks off")]
    Broken {
        /// Where it is.
        proxy: String,
        /// How.
        source: io::Error,
    },
    /// It wants credentials, or others.
    #[error("the proxy {proxy} does not know who asks (407); `host.egress.proxy-credentials` names what it is told")]
    Credentials {
        /// Where it is.
        proxy: String,
    },
    /// It does not connect to that machine.
    #[error("the proxy {proxy} refuses to connect ({status})")]
    Refused {
        /// Where it is.
        proxy: String,
        /// What it answered.
        status: u16,
    },
    /// It answers what is no answer of HTTP, or is too long for one.
    #[error("what the proxy {proxy} answers is no HTTP")]
    Answer {
        /// Where it is.
        proxy: String,
    },
}

impl Tunnel {
    /// The proxy at `host`, a name or address without brackets, which is told `authorization` in `Proxy-Authorization`.
    #[must_use]
    pub fn new(host: impl Into<String>, port: u16, authorization: Option<String>) -> Self {
        Self { host: host.into(), port, authorization: authorization.map(Zeroizing::new) }
    }

    /// Connects to `host`, a name or address without brackets, through it. It takes as long as it takes: whoever asks says how
    /// long that may be.
    ///
    /// # Errors
    /// When it cannot be reached, or does not lead on.
    pub async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, TunnelError> {
        let proxy = || self.to_string();
        let connected = TcpStream::connect((self.host.as_str(), self.port)).await;
        let mut stream = connected.map_err(|source| TunnelError::Unreachable { proxy: proxy(), source })?;
        let broken = |source| TunnelError::Broken { proxy: proxy(), source };
        stream.write_all(self.head(host, port).as_bytes()).await.map_err(broken)?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            // Byte by byte: what follows the head is the other machine's.
            answer.push(stream.read_u8().await.map_err(broken)?);
            if answer.len() > LARGEST {
                return Err(TunnelError::Answer { proxy: proxy() });
            }
        }
        match status(&answer) {
            Some(200..=299) => Ok(stream),
            Some(407) => Err(TunnelError::Credentials { proxy: proxy() }),
            Some(status) => Err(TunnelError::Refused { proxy: proxy(), status }),
            None => Err(TunnelError::Answer { proxy: proxy() }),
        }
    }

    fn head(&self, host: &str, port: u16) -> Zeroizing<String> {
        let authority = authority(host, port);
        let authorization = self.authorization.as_ref().map_or_else(Zeroizing::default, |authorization| {
            Zeroizing::new(format!("proxy-authorization: {}\r\n", authorization.as_str()))
        });
        let authorization = authorization.as_str();
        Zeroizing::new(format!("CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n{authorization}\r\n"))
    }
}

impl fmt::Display for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&authority(&self.host, self.port))
    }
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tunnel({self})")
    }
}

fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn status(answer: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(answer.split(|byte| *byte == b'\r').next()?).ok()?;
    let mut words = line.split(' ');
    words.next().filter(|version| version.starts_with("HTTP/1."))?;
    words.next().filter(|digits| digits.len() == 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// Asks a proxy that answers `answer` and ends; what it was asked too.
    async fn asked(answer: &'static [u8], host: &str) -> (Result<TcpStream, TunnelError>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let proxy = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let _gone = stream.write_all(answer).await;
            String::from_utf8(head).unwrap()
        });
        let tunnel = Tunnel::new(address.ip().to_string(), address.port(), Some("Basic eDp5".to_owned()));
        assert!(!format!("{tunnel:?} {tunnel}").contains("eDp5"));
        let connected = tunnel.connect(host, 443).await;
        (connected, proxy.await.unwrap())
    }

    #[tokio::test]
    async fn what_follows_the_answer_is_the_other_machines() {
        let (connected, head) = asked(b"HTTP/1.0 200 OK\r\nvia: x\r\n\r\nhello", "2001:db8::1").await;
        let mut rest = String::new();
        connected.unwrap().read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "hello");
        let expected =
            "CONNECT [2001:db8::1]:443 HTTP/1.1\r\nhost: [2001:db8::1]:443\r\nproxy-authorization: Basic eDp5\r\n\r\n";
        assert_eq!(head, expected);
    }

    #[tokio::test]
    async fn what_does_not_lead_on_says_so_without_the_credentials() {
        const LONG: &[u8] = &[b'x'; LARGEST + 2];
        for (answer, expected) in [
            (&b"HTTP/1.1 407 Who\r\n\r\n"[..], "(407)"),
            (b"HTTP/1.1 403 No\r\n\r\n", "(403)"),
            (b"HTTP/1.1 101 Switch\r\n\r\n", "(101)"),
            (b"HTTP/2 200\r\n\r\n", "no HTTP"),
            (b"HTTP/1.1 20\r\n\r\n", "no HTTP"),
            (b"\r\n\r\n", "no HTTP"),
            (LONG, "no HTTP"),
            (b"HTTP/1.1 200 OK\r\n", "breaks off"),
        ] {
            let error = asked(answer, "name.test").await.0.unwrap_err();
            let text = format!("{error} {error:?}");
            assert!(text.contains(expected) && text.contains("127.0.0.1:") && !text.contains("eDp5"), "{text}");
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let error = Tunnel::new("127.0.0.1", port, None).connect("name.test", 443).await.unwrap_err();
        assert!(matches!(error, TunnelError::Unreachable { .. }), "{error}");
    }
}
