//! One connection: HTTP/1.1 or HTTP/2, from its first byte to its last.

use std::{convert::Infallible, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

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
    flight::{Flights, Standing},
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
    let flights = Flights::new();
    let begins = flights.clone();
    let service = service_fn(move |request| {
        let flight = begins.begin();
        let (front, peer) = (front.clone(), peer.clone());
        async move { Ok::<_, Infallible>(front.answer(request, peer).await.map(|body| flight.answer(body))) }
    });
    let io = TokioIo::new(Stall::new(stream, settings.body_time));
    let mut connection = pin!(builder.serve_connection_with_upgrades(io, service));
    // hyper's own clocks start once it knows which version is spoken, and a client may keep that from it; and of HTTP/2 they
    // ask no more of a client than that it is there.
    let mut clock = pin!(tokio::time::sleep(settings.header_time));
    let mut told = false;
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
            () = clock.as_mut() => {
                let wait = match due(&flights, settings, told) {
                    Due::In(wait) => wait,
                    Due::Told => {
                        told = true;
                        connection.as_mut().graceful_shutdown();
                        settings.body_time
                    }
                    Due::Over => return,
                };
                clock.as_mut().reset(tokio::time::Instant::now() + wait);
            }
            () = abandoned.cancelled() => return,
        }
    }
}

/// What a connection has come to.
enum Due {
    /// Nothing; in so long it is to be asked again.
    In(Duration),
    /// It has been idle for too long, and its client is to be told to go.
    Told,
    /// Its end.
    Over,
}

fn due(flights: &Flights, settings: &Settings, told: bool) -> Due {
    let in_time = |most: Duration, quiet: Duration| most.checked_sub(quiet).filter(|left| !left.is_zero());
    match flights.standing() {
        Standing::Busy => Due::In(settings.header_time),
        Standing::Untaken(quiet) => in_time(settings.body_time, quiet).map_or(Due::Over, Due::In),
        Standing::Idle(_) if flights.is_silent() => Due::Over,
        // The last of what was answered may be on its way still.
        Standing::Idle(quiet) if told => {
            in_time(settings.header_time + settings.body_time, quiet).map_or(Due::Over, Due::In)
        }
        Standing::Idle(quiet) => in_time(settings.header_time, quiet).map_or(Due::Told, Due::In),
    }
}
