//! One connection: HTTP/1.1 or HTTP/2, from its first byte to its last.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;

use witan_stall::Stall;

use crate::{
    Settings, Tls,
    front::{Front, Peer},
    tls,
};

/// Streams of one HTTP/2 connection at once.
const STREAMS: u32 = 128;

/// The least that hyper takes as the size of its buffer.
const LEAST_BUFFER: usize = 8 << 10;

pub(crate) fn builder(settings: &Settings) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    let header_bytes = usize::try_from(settings.header_bytes).unwrap_or(usize::MAX);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(settings.header_time)
        .max_buf_size(header_bytes.max(LEAST_BUFFER));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(settings.header_bytes)
        .max_concurrent_streams(STREAMS)
        .keep_alive_interval(settings.header_time)
        .keep_alive_timeout(settings.header_time);
    builder
}

/// Speaks TLS with the client of `stream` where there is one, and serves it.
#[expect(clippy::too_many_arguments, reason = "all that a connection needs, once")]
pub(crate) async fn greet(
    stream: TcpStream,
    address: SocketAddr,
    tls: Option<Arc<Tls>>,
    front: Arc<Front>,
    builder: &Builder<TokioExecutor>,
    settings: &Settings,
    draining: CancellationToken,
    abandoned: CancellationToken,
) {
    // Answers are small and whole; waiting to fill a packet would only delay them.
    let _slower = stream.set_nodelay(true);
    let Some(tls) = tls else {
        let peer = Peer { address, certificate: None, refusals: Arc::default() };
        return serve(stream, peer, front, builder, settings, draining, abandoned).await;
    };
    let greeting = tokio::time::timeout(settings.header_time, tls.accept(stream));
    let greeted = tokio::select! {
        greeted = greeting => greeted,
        () = abandoned.cancelled() => return,
    };
    match greeted {
        Ok(Ok(stream)) => {
            let peer = Peer { address, certificate: tls::shown(&stream), refusals: Arc::default() };
            serve(stream, peer, front, builder, settings, draining, abandoned).await;
        }
        Ok(Err(error)) => tracing::debug!(%error, %address, "a client does not speak TLS as the host does"),
        Err(_) => tracing::debug!(%address, "a client did not greet in time"),
    }
}

/// Serves `stream` until its client is done, `draining` lets it finish what is under way, or `abandoned` ends it.
async fn serve<S>(
    stream: S,
    peer: Peer,
    front: Arc<Front>,
    builder: &Builder<TokioExecutor>,
    settings: &Settings,
    draining: CancellationToken,
    abandoned: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let spoken = Arc::new(AtomicBool::new(false));
    let speaks = spoken.clone();
    let service = service_fn(move |request| {
        speaks.store(true, Ordering::Relaxed);
        let (front, peer) = (front.clone(), peer.clone());
        async move { Ok::<_, Infallible>(front.answer(request, peer).await) }
    });
    let io = TokioIo::new(Stall::new(stream, settings.body_time));
    let mut connection = pin!(builder.serve_connection_with_upgrades(io, service));
    // hyper's own clock starts once it knows which version is spoken, and a client may keep that from it.
    let mut silence = pin!(tokio::time::sleep(settings.header_time));
    let (mut silent, mut told) = (true, false);
    loop {
        tokio::select! {
            biased;
            result = connection.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(%error, "a connection broke off");
                }
                return;
            }
            () = draining.cancelled(), if !told => {
                told = true;
                connection.as_mut().graceful_shutdown();
            }
            () = silence.as_mut(), if silent => {
                silent = false;
                if !spoken.load(Ordering::Relaxed) {
                    return;
                }
            }
            () = abandoned.cancelled() => return,
        }
    }
}
