//! The way to a callback: to an address that was checked, or to a proxy that is told this address.
//!
//! The name was chosen by a client. It is looked up once, here, and what is connected to is one of the addresses that were found: a
//! proxy that was told the name would look it up again, and might reach what this host may not. The name itself is still what
//! the certificate must be for, and what the request says.

#[cfg(test)]
mod tests;

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_rustls::TlsConnector;
use url::{Host, Url};
use witan_egress::{EgressError, Resolver, Resolving, SystemResolver, Tunnel, TunnelError};

use crate::Settings;

/// How long one try may take, from the look-up of the name to the status of the answer.
const TIME: Duration = Duration::from_secs(10);
/// Addresses of one name that are tried.
const ADDRESSES: usize = 8;
/// The longest head of an answer, in bytes.
const HEAD: usize = 64 << 10;

/// Why there is no answer. No client is told which: that would say what there is in the network of this host.
#[derive(Debug, thiserror::Error)]
pub enum Unreached {
    /// The name is not known here.
    #[error(
        "its name cannot be looked up here; with `resolve = \"proxy\"` in [host.egress], names that \
         `host.tasks.callback-hosts` has are the proxy's to look up"
    )]
    Name(#[source] io::Error),
    /// It is none that may be told.
    #[error("the name has no public address; `host.tasks.callback-hosts` names others that may be told")]
    Private,
    /// Nobody answers there.
    #[error("there is no connection to it")]
    Connection(#[source] io::Error),
    /// The proxy does not lead there.
    #[error(transparent)]
    Proxy(#[from] TunnelError),
    /// Its host is no name that a certificate could be for.
    #[error("its name is none of a server")]
    ServerName(#[from] InvalidDnsNameError),
    /// It is not who it should be, or does not speak TLS.
    #[error("there is no TLS with it; `ca` of [host.egress] names authorities besides the public ones")]
    Tls(#[source] io::Error),
    /// It speaks no HTTP, or breaks off.
    #[error("it does not answer as HTTP has it")]
    Http(#[from] hyper::Error),
    /// It takes too long.
    #[error("it takes too long")]
    Time,
}

impl Unreached {
    /// Whether it is so whatever the address.
    fn of_all(&self) -> bool {
        matches!(self, Self::Proxy(TunnelError::Unreachable { .. } | TunnelError::Credentials { .. }))
    }
}

/// Reaches callbacks.
#[derive(Clone)]
pub(crate) struct Reach {
    tls: TlsConnector,
    resolver: Arc<dyn Resolver>,
    time: Duration,
}

impl fmt::Debug for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reach")
    }
}

impl Reach {
    pub(crate) fn new(settings: &Settings) -> Result<Self, EgressError> {
        let tls = TlsConnector::from(Arc::new(settings.egress.tls()?));
        Ok(Self { tls, resolver: Arc::new(SystemResolver), time: TIME })
    }

    pub(crate) fn resolving_by(self, resolver: Arc<dyn Resolver>) -> Self {
        Self { resolver, ..self }
    }

    /// What the host of `url` answers to `request`, by any of its addresses where it is `named`, and else by a public one.
    pub(crate) async fn ask(
        &self,
        settings: &Settings,
        url: &Url,
        named: bool,
        request: Request<Full<Bytes>>,
    ) -> Result<StatusCode, Unreached> {
        let until = Instant::now() + self.time;
        let asked = async {
            let stream = self.connect(settings, url, named, until).await?;
            match url.host() {
                Some(host) if url.scheme() == "https" => {
                    let stream = self.tls.connect(server_name(host)?, stream).await.map_err(Unreached::Tls)?;
                    exchange(stream, request).await
                }
                _ => exchange(stream, request).await,
            }
        };
        timeout_at(until, asked).await.unwrap_or(Err(Unreached::Time))
    }

    async fn connect(
        &self,
        settings: &Settings,
        url: &Url,
        named: bool,
        until: Instant,
    ) -> Result<TcpStream, Unreached> {
        let proxy = settings.egress.tunnel(url.host_str().unwrap_or_default());
        let port = url.port_or_known_default().unwrap_or_default();
        let found = match (url.host(), proxy) {
            (None, _) => Vec::new(),
            (Some(Host::Ipv4(address)), _) => vec![address.into()],
            (Some(Host::Ipv6(address)), _) => vec![address.into()],
            // It is the operator who named it, as a grant names a host for a component.
            (Some(Host::Domain(name)), Some((tunnel, Resolving::ByProxy))) if named && !is_of_this_machine(name) => {
                return Ok(tunnel.connect(name, port).await?);
            }
            (Some(Host::Domain(name)), _) => self.resolver.resolve(name).await.map_err(Unreached::Name)?,
        };
        let allowed = |address: &IpAddr| named || (settings.is_public)(*address);
        let addresses = found.iter().map(IpAddr::to_canonical).filter(allowed).take(ADDRESSES);
        let addresses: Vec<_> = addresses.map(|address| SocketAddr::new(address, port)).collect();
        first(proxy.map(|(tunnel, _)| tunnel), &addresses, until).await
    }
}

/// Connects to the first of `addresses` that answers. Each has its share of the time that is left.
async fn first(tunnel: Option<&Tunnel>, addresses: &[SocketAddr], until: Instant) -> Result<TcpStream, Unreached> {
    let mut failure = Unreached::Private;
    for (address, left) in addresses.iter().zip((1..=addresses.len()).rev()) {
        let now = Instant::now();
        let share = until.saturating_duration_since(now) / u32::try_from(left).unwrap_or(u32::MAX);
        match timeout_at(now + share, open(tunnel, *address)).await.unwrap_or(Err(Unreached::Time)) {
            Err(error) if !error.of_all() => failure = error,
            connected => return connected,
        }
    }
    Err(failure)
}

fn server_name(host: Host<&str>) -> Result<ServerName<'static>, InvalidDnsNameError> {
    match host {
        Host::Domain(name) => ServerName::try_from(name.to_owned()),
        Host::Ipv4(address) => Ok(ServerName::from(IpAddr::from(address))),
        Host::Ipv6(address) => Ok(ServerName::from(IpAddr::from(address))),
    }
}

/// Connects to `address`. One of this machine is another machine's behind a proxy, and nobody named that.
async fn open(tunnel: Option<&Tunnel>, address: SocketAddr) -> Result<TcpStream, Unreached> {
    match tunnel.filter(|_| !address.ip().is_loopback() && !address.ip().is_unspecified()) {
        Some(tunnel) => Ok(tunnel.connect(&address.ip().to_string(), address.port()).await?),
        None => TcpStream::connect(address).await.map_err(Unreached::Connection),
    }
}

/// Whether `name` means this machine wherever it is looked up (RFC 6761).
fn is_of_this_machine(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name == "localhost" || name.ends_with(".localhost")
}

/// What is answered to `request` over `stream`: its status, since nothing else of it is read.
async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<StatusCode, Unreached>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut builder = http1::Builder::new();
    let (mut sender, connection) = builder.max_buf_size(HEAD).handshake(TokioIo::new(stream)).await?;
    let mut answer = pin!(sender.send_request(request));
    let ended = tokio::select! {
        biased;
        answer = &mut answer => return Ok(answer?.status()),
        ended = connection => ended,
    };
    // A connection may break off in the same moment that it brings the answer.
    match (answer.await, ended) {
        (Ok(answer), _) => Ok(answer.status()),
        (Err(_), Err(error)) | (Err(error), Ok(())) => Err(error.into()),
    }
}
