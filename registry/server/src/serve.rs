//! Accepts connections, and lets them finish when the registry stops.

use std::{convert::Infallible, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::Router;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

use witan_stall::Stall;

use crate::{Limits, OpenError, Registry, Settings, oci::Peer, web};

/// Streams of one HTTP/2 connection at once.
const STREAMS: u32 = 128;

/// The least that hyper takes as the size of its buffer.
const LEAST_BUFFER: usize = 8 << 10;

/// How long to wait after a connection could not be accepted, for want of file handles mostly: at once would fail at
/// once.
const AFTER_REFUSAL: Duration = Duration::from_millis(50);

/// Why a registry cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The registry cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Tokens would travel in the clear.
    #[error(
        "`{0}` can be reached from other machines, and tokens would travel to it unencrypted; listen on a loopback \
         address, or end TLS before it and say so with `behind-tls`"
    )]
    NotLoopback(SocketAddr),
    /// The listener is none.
    #[error("the listener has no address")]
    Listener(#[source] io::Error),
}

/// Opens the registry of `settings` and serves it to whoever connects to `listener`, until `shutdown` resolves; then takes
/// no more connections, lets the requests under way finish for [`Limits::drain`], and ends the rest.
///
/// # Errors
/// When the registry cannot be opened, or other machines could reach the listener without TLS before it.
pub async fn serve(
    settings: Settings,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let registry = Registry::open(settings).await?;
    registry.serve(listener, shutdown).await
}

impl Registry {
    /// Serves the registry, as [`serve`] does.
    ///
    /// # Errors
    /// When other machines could reach the listener without TLS before it.
    pub async fn serve(&self, listener: TcpListener, shutdown: impl Future<Output = ()>) -> Result<(), ServeError> {
        let address = listener.local_addr().map_err(ServeError::Listener)?;
        if !address.ip().to_canonical().is_loopback() && !self.0.settings.behind_tls {
            return Err(ServeError::NotLoopback(address));
        }
        let (draining, abandoned) = (CancellationToken::new(), CancellationToken::new());
        let connections = TaskTracker::new();
        tokio::select! {
            () = self.accept(listener, &connections, &draining, &abandoned) => {}
            () = self.tend() => {}
            () = shutdown => {}
        }
        tracing::info!(connections = connections.len(), "stopping");
        draining.cancel();
        connections.close();
        if tokio::time::timeout(self.0.settings.limits.drain, connections.wait()).await.is_err() {
            tracing::warn!(connections = connections.len(), "some connections did not finish in time, and are ended");
            abandoned.cancel();
            connections.wait().await;
        }
        if let Err(error) = self.write_downloads().await {
            tracing::warn!(error = %crate::chain(&error), "the last downloads are not counted");
        }
        Ok(())
    }

    async fn accept(
        &self,
        listener: TcpListener,
        connections: &TaskTracker,
        draining: &CancellationToken,
        abandoned: &CancellationToken,
    ) {
        let limits = self.0.settings.limits.clone();
        let builder = Arc::new(builder(&limits));
        let router = web::router(self.clone());
        let places = Arc::new(Semaphore::new(limits.connections));
        loop {
            // Nobody closes the semaphore.
            let place = places.clone().acquire_owned().await.ok();
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(AFTER_REFUSAL).await;
                    continue;
                }
            };
            let (builder, router, limits) = (builder.clone(), router.clone(), limits.clone());
            let (draining, abandoned) = (draining.clone(), abandoned.clone());
            connections.spawn(async move {
                connection(stream, peer, router, &builder, &limits, draining, abandoned).await;
                drop(place);
            });
        }
    }
}

fn builder(limits: &Limits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    let header_bytes = usize::try_from(limits.header_bytes).unwrap_or(usize::MAX);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_time)
        .max_buf_size(header_bytes.max(LEAST_BUFFER));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(limits.header_bytes)
        .max_concurrent_streams(STREAMS)
        .keep_alive_interval(limits.header_time)
        .keep_alive_timeout(limits.header_time);
    builder
}

/// Serves `stream` until its client is done, `draining` lets it finish what is under way, or `abandoned` ends it.
async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    builder: &Builder<TokioExecutor>,
    limits: &Limits,
    draining: CancellationToken,
    abandoned: CancellationToken,
) {
    // Answers are whole; waiting to fill a packet would only delay them.
    let _slower = stream.set_nodelay(true);
    // hyper's own clock starts once it knows which version is spoken, and a client may keep that from it.
    if !matches!(tokio::time::timeout(limits.header_time, stream.readable()).await, Ok(Ok(()))) {
        return;
    }
    let service = service_fn(move |mut request: http::Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        let router = router.clone();
        async move { router.oneshot(request).await.map_err(|never: Infallible| never) }
    });
    let io = TokioIo::new(Stall::new(stream, limits.stall_time));
    let mut serving = pin!(builder.serve_connection(io, service));
    let mut told = false;
    loop {
        tokio::select! {
            biased;
            result = serving.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(%error, "a connection broke off");
                }
                return;
            }
            () = draining.cancelled(), if !told => {
                told = true;
                serving.as_mut().graceful_shutdown();
            }
            () = abandoned.cancelled() => return,
        }
    }
}
