//! Sends requests: one connection for one request, to an address that was checked.
//!
//! Connections are not kept. A kept one would have to be keyed by component, tenant and grant, and would outlive the
//! decision that opened it.

use std::{
    error::Error as _,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures::future::{Either, select};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::client::conn::http1;
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tracing::{Instrument as _, Span, field};
use wasmtime_wasi_http::io::TokioIo;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};
use witan_capability::{Account, Action, Call, HostFunction, LimitExceeded, Meter, Resource, Trace};
use witan_egress::{Resolver, Resolving, SystemResolver};
use witan_secrets::{Asker, Scan, Secrets};
use witan_system::HostName;

use crate::body::{Received, Scanned, Sent};
use crate::proxy::Proxy;
use crate::target::Target;
use crate::{headers, tls};

/// Addresses of one name that are tried. More would let a name server make the host connect for as long as it likes.
const ADDRESSES: usize = 8;

/// Bytes that a connection reads ahead at most, which also bounds the head of a response.
const READ_AHEAD: usize = 64 << 10;

/// What an open connection is charged: what it reads ahead, and what the guest's side of the request queues.
const CONNECTION_MEMORY: u64 = 2 * READ_AHEAD as u64;

/// What the client of a host uses. The call's own deadline bounds every wait besides.
#[derive(Clone)]
pub struct Settings {
    /// Looks names up.
    pub resolver: Arc<dyn Resolver>,
    /// Certificates of authorities that are trusted besides the public roots of the web.
    pub roots: Vec<CertificateDer<'static>>,
    /// The way to other machines, where there is no straight one.
    pub proxy: Option<Proxy>,
    /// The secrets whose placeholders are swapped in requests.
    pub secrets: Option<Arc<Secrets>>,
    /// How long a look-up, a connection and a TLS handshake may take together, where the guest does not say.
    pub connect_timeout: Duration,
    /// How long the head of the response may take, where the guest does not say.
    pub first_byte_timeout: Duration,
    /// How long each part of the response's body may take, where the guest does not say.
    pub between_bytes_timeout: Duration,
    /// Whether requests carry `traceparent`, and `tracestate` where there is one, so that whoever is asked can join their trace to that of the call.
    pub propagate: bool,
}

impl Default for Settings {
    /// Long enough for a model to begin its answer.
    fn default() -> Self {
        Self {
            resolver: Arc::new(SystemResolver),
            roots: Vec::new(),
            proxy: None,
            secrets: None,
            connect_timeout: Duration::from_secs(10),
            first_byte_timeout: Duration::from_secs(120),
            between_bytes_timeout: Duration::from_secs(60),
            propagate: true,
        }
    }
}

/// Why a client could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A certificate in [`Settings::roots`] is none, or TLS cannot be set up.
    #[error("cannot set TLS up; check the additional root certificates")]
    Tls(#[source] rustls::Error),
}

/// Sends the requests of a whole host.
pub(crate) struct Connector {
    settings: Settings,
    tls: Arc<ClientConfig>,
}

/// A response, and the work that keeps its body coming.
pub(crate) type Answer = (Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>);

impl Connector {
    pub(crate) fn new(settings: Settings) -> Result<Self, ClientError> {
        let tls = tls::config(&settings.roots).map_err(ClientError::Tls)?;
        Ok(Self { settings, tls })
    }

    /// Sends `request` to `target`, which policy allowed `call`, entering `function` again for each address.
    pub(crate) async fn send(
        &self,
        call: &Call,
        function: HostFunction,
        target: &Target,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
    ) -> Result<Answer, Error> {
        let trace = call.context.trace().child();
        let span = span(call, target, trace);
        let answer = self.send_in(call, function, target, request, options, trace).instrument(span.clone()).await;
        match &answer {
            Ok((response, _)) => {
                span.record("status", response.status().as_u16());
                span.record("outcome", "ok");
            }
            Err(error) => {
                span.record("outcome", field::display(error));
            }
        }
        answer
    }

    async fn send_in(
        &self,
        call: &Call,
        function: HostFunction,
        target: &Target,
        mut request: Request<WasiBody>,
        options: Option<RequestOptions>,
        trace: Trace,
    ) -> Result<Answer, Error> {
        if !target.address(&mut request) {
            return Err(Error::HttpRequestUriInvalid);
        }
        if !headers::fits(request.headers()) {
            return Err(Error::HttpRequestHeaderSectionSize(u32::try_from(headers::size(request.headers())).ok()));
        }
        if self.settings.propagate
            && let Ok(traceparent) = HeaderValue::try_from(trace.traceparent())
        {
            // The host's own goes before the guest's: a guest does not say whose trace a request belongs to.
            let headers = request.headers_mut();
            headers.insert("traceparent", traceparent);
            headers.remove("tracestate");
            let state = call.context.trace_state().and_then(|state| HeaderValue::from_str(state.as_str()).ok());
            if let Some(state) = state {
                headers.insert("tracestate", state);
            }
        }
        let scan = self.swap(call, function, target, &mut request).await?;
        let times = Times::new(call, &self.settings, options.unwrap_or_default());
        let lease = Lease::take(&call.account).map_err(|_| Error::ConnectionLimitReached)?;
        let head = headers::size(request.headers()) + target.host_text().len();
        call.account.charge(Meter::BytesOut, head as u64).map_err(|_| Error::HttpRequestDenied)?;
        let request = request.map(|body| Sent::new(body, call.account.clone()));
        let connect = times.connect();
        let stream = self.connect(call, function, target, connect).await?;
        if target.tls() {
            let handshake = tls::connect(&self.tls, target.host(), stream);
            let stream = timeout_at(connect, handshake).await.map_err(|_| Error::ConnectionTimeout)??;
            exchange(stream, request, times, lease, scan).await
        } else {
            exchange(stream, request, times, lease, scan).await
        }
    }

    /// Puts secrets in the place of their placeholders in the headers of `request`; what the response is to be searched for.
    async fn swap(
        &self,
        call: &Call,
        function: HostFunction,
        target: &Target,
        request: &mut Request<WasiBody>,
    ) -> Result<Option<Scan>, Error> {
        let Some(secrets) = &self.settings.secrets else { return Ok(None) };
        let asker = Asker {
            component: &call.component.name,
            tenant: call.context.tenant(),
            grants: &call.component.grants.secrets,
            origin: &target.origin(),
        };
        let permits = |name: &witan_system::SecretName| {
            let entered = call.enter(function, Action::SecretUse, &Resource::Key(name.as_str()));
            entered.inspect_err(|denial| refused(call, denial)).is_ok()
        };
        let swapped = secrets.swap(asker, request.headers_mut(), permits).await;
        let scan = swapped.map_err(|error| {
            let (component, trace) = (&call.component.name, call.context.trace());
            tracing::warn!(%component, %trace, "request refused: {error}");
            Error::HttpRequestDenied
        })?;
        // With the secrets in it, it may be too large.
        if scan.is_some() && !headers::fits(request.headers()) {
            return Err(Error::HttpRequestHeaderSectionSize(None));
        }
        Ok(scan)
    }

    /// Connects to the first address of `target` that policy allows and that answers.
    async fn connect(
        &self,
        call: &Call,
        function: HostFunction,
        target: &Target,
        until: Instant,
    ) -> Result<TcpStream, Error> {
        let proxy = self.settings.proxy.as_ref().filter(|proxy| proxy.leads_to(target.host()));
        if let (Some(proxy), HostName::Name(name)) = (proxy, target.host())
            && proxy.resolving == Resolving::ByProxy
        {
            // Where the name leads is known to the proxy alone: that the grant names it must do.
            return proxy.connect(name, target.port(), until).await;
        }
        let (name, addresses) = match target.host() {
            HostName::Address(address) => (None, vec![*address]),
            HostName::Name(name) => (Some(name.as_str()), self.resolve(name, until).await?),
        };
        let mut failure = Error::DestinationNotFound;
        for address in addresses.into_iter().take(ADDRESSES) {
            let address = SocketAddr::new(address.to_canonical(), target.port());
            let resource = Resource::Address { name, address };
            if let Err(denial) = call.enter(function, Action::HttpSend, &resource) {
                refused(call, &denial);
                failure = Error::DestinationIpProhibited;
                continue;
            }
            if let Some(proxy) = proxy {
                match proxy.connect(&address.ip().to_string(), address.port(), until).await {
                    Err(error) => failure = error,
                    connected => return connected,
                }
                continue;
            }
            match timeout_at(until, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => failure = connect_code(&error),
                Err(_) => return Err(Error::ConnectionTimeout),
            }
        }
        Err(failure)
    }

    async fn resolve(&self, name: &str, until: Instant) -> Result<Vec<IpAddr>, Error> {
        match timeout_at(until, self.settings.resolver.resolve(name)).await {
            Ok(Ok(addresses)) => Ok(addresses),
            Ok(Err(error)) => {
                tracing::debug!(name, %error, "look-up failed");
                Err(Error::DnsError { rcode: Some("address not available".to_owned()), info_code: None })
            }
            Err(_) => Err(Error::DnsTimeout),
        }
    }
}

fn span(call: &Call, target: &Target, trace: Trace) -> Span {
    tracing::debug_span!(
        "http.send",
        component = %call.component.name,
        tenant = call.context.tenant(),
        task = call.context.task().map(field::display),
        trace = %trace,
        span = trace.span().map(field::display),
        parent = trace.parent().map(field::display),
        sampled = trace.sampled(),
        method = target.method(),
        server = target.host_text(),
        status = field::Empty,
        outcome = field::Empty,
    )
}

/// Writes a refusal to the log. Policy has recorded the decision itself; this says what the guest got for it.
pub(crate) fn refused(call: &Call, denial: &witan_capability::Denial) {
    tracing::info!(
        component = %call.component.name,
        trace = %call.context.trace(),
        decision = %denial.decision,
        "request refused: {}",
        denial.reason
    );
}

async fn exchange<S>(
    stream: S,
    request: Request<Sent>,
    times: Times,
    lease: Lease,
    scan: Option<Scan>,
) -> Result<Answer, Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut builder = http1::Builder::new();
    builder.max_buf_size(READ_AHEAD).max_headers(headers::COUNT);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(code)?;
    let connection = Box::pin(async move {
        let _lease = lease;
        connection.await
    });
    let response = Box::pin(timeout_at(times.first_byte(), sender.send_request(request)));
    let (response, connection) = match select(response, connection).await {
        Either::Left((response, connection)) => (response, Some(connection)),
        Either::Right((ended, response)) => match (response.await, ended) {
            (Err(_) | Ok(Err(_)), Err(error)) => return Err(code(error)),
            // A connection may break off in the same moment that it brings the response.
            (response, _) => (response, None),
        },
    };
    let response = response.map_err(|_| Error::ConnectionReadTimeout)?.map_err(code)?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Error::HttpUpgradeFailed);
    }
    let response = match scan {
        None => response.map(|body| Received::new(body, times).boxed_unsync()),
        Some(scan) => {
            let (mut head, body) = response.into_parts();
            let covered = scan.headers(&mut head.headers);
            if covered > 0 {
                tracing::warn!(headers = covered, "a response's headers had a secret of its request; it is covered");
            }
            Response::from_parts(head, Scanned::new(Received::new(body, times), scan).boxed_unsync())
        }
    };
    let rest = async move {
        match connection {
            Some(connection) => connection.await.map_err(code),
            None => Ok(()),
        }
    };
    Ok((response, Box::new(rest)))
}

/// The standard's code for an error of a connection. An error that a body gave passes through.
pub(crate) fn code(error: hyper::Error) -> Error {
    if error.source().is_some_and(|source| source.is::<Error>()) {
        return Error::Hyper(error);
    }
    tracing::debug!(%error, "connection failed");
    if error.is_parse_too_large() {
        Error::HttpResponseHeaderSectionSize(None)
    } else if error.is_incomplete_message() || breaks_off(&error) {
        Error::HttpResponseIncomplete
    } else if error.is_timeout() {
        Error::HttpResponseTimeout
    } else if error.is_canceled() || error.is_closed() {
        Error::ConnectionTerminated
    } else {
        Error::HttpProtocolError
    }
}

/// Whether the connection ended in the middle of a body.
fn breaks_off(error: &hyper::Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| cause.kind() == io::ErrorKind::UnexpectedEof)
}

pub(crate) fn connect_code(error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Error::ConnectionRefused,
        io::ErrorKind::TimedOut => Error::ConnectionTimeout,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Error::DestinationIpUnroutable,
        _ => Error::DestinationUnavailable,
    }
}

/// One socket and its buffers in the account of a call tree, given back when it closes.
struct Lease(Arc<Account>);

impl Lease {
    fn take(account: &Arc<Account>) -> Result<Self, LimitExceeded> {
        account.charge(Meter::Sockets, 1)?;
        if let Err(limit) = account.charge(Meter::Memory, CONNECTION_MEMORY) {
            account.release(Meter::Sockets, 1);
            return Err(limit);
        }
        Ok(Self(account.clone()))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.release(Meter::Memory, CONNECTION_MEMORY);
        self.0.release(Meter::Sockets, 1);
    }
}

/// How long the parts of an exchange may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    connect: Duration,
    first_byte: Duration,
    between_bytes: Duration,
    /// When the call ends, whatever the guest asked for.
    end: Instant,
}

impl Times {
    fn new(call: &Call, settings: &Settings, options: RequestOptions) -> Self {
        let tree = Instant::from_std(call.account.deadline());
        let end = call.context.deadline_ms().map_or(tree, |deadline| tree.min(Instant::now() + until(deadline)));
        Self {
            connect: options.connect_timeout.unwrap_or(settings.connect_timeout),
            first_byte: options.first_byte_timeout.unwrap_or(settings.first_byte_timeout),
            between_bytes: options.between_bytes_timeout.unwrap_or(settings.between_bytes_timeout),
            end,
        }
    }

    fn within(self, time: Duration) -> Instant {
        Instant::now().checked_add(time).map_or(self.end, |until| until.min(self.end))
    }

    fn connect(self) -> Instant {
        self.within(self.connect)
    }

    fn first_byte(self) -> Instant {
        self.within(self.first_byte)
    }

    pub(crate) fn between_bytes(self) -> Instant {
        self.within(self.between_bytes)
    }
}

/// How long until `deadline`, in milliseconds since the Unix epoch.
fn until(deadline: u64) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Duration::from_millis(deadline).saturating_sub(now)
}
