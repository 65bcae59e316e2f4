//! Accepts connections, and lets them finish when the host stops.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Api, Exposure, ListenError, Tls, check_listen, connection,
    front::Front,
    places::{Full, Places},
};

/// How long to wait after a connection could not be accepted, for want of file handles mostly: at once would fail at
/// once.
const AFTER_REFUSAL: Duration = Duration::from_millis(50);

/// How often the log says that connections find no place.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// Serves `api` to whoever connects to `listener`, until `shutdown` resolves or a client that may asks for it; then
/// takes no more connections and tasks, lets those under way finish for [`crate::Settings::drain`], and ends the rest.
///
/// # Errors
/// When other machines could reach the listener.
pub async fn serve(listener: TcpListener, api: Api, shutdown: impl Future<Output = ()>) -> Result<(), ListenError> {
    serve_tls(listener, api, None, shutdown).await
}

/// As [`serve`], over TLS where there is one.
///
/// # Errors
/// As [`serve`].
pub async fn serve_tls(
    listener: TcpListener,
    api: Api,
    tls: Option<Arc<Tls>>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ListenError> {
    let unknown = |source: io::Error| ListenError::Bind { address: ([127, 0, 0, 1], 0).into(), source };
    let address = listener.local_addr().map_err(unknown)?;
    let exposure = Exposure {
        asks: api.0.parts.identities.required(),
        private: tls.is_some() || api.0.parts.settings.behind_proxy,
    };
    check_listen(address, exposure)?;
    let _first = api.0.listen.set(address);
    let connections = TaskTracker::new();
    let abandoned = CancellationToken::new();
    tokio::select! {
        () = accept(listener, &api, address, tls.clone(), &connections, &abandoned) => {}
        () = follow(tls.as_deref()) => {}
        () = shutdown => {}
        () = api.stop_requested() => {}
    }
    drain(&api, &connections, &abandoned).await;
    Ok(())
}

/// Reads certificates again when they change, for as long as connections are taken.
async fn follow(tls: Option<&Tls>) {
    match tls {
        Some(tls) => tls.follow().await,
        None => std::future::pending().await,
    }
}

async fn accept(
    listener: TcpListener,
    api: &Api,
    address: SocketAddr,
    tls: Option<Arc<Tls>>,
    connections: &TaskTracker,
    abandoned: &CancellationToken,
) {
    let settings = Arc::new(api.0.parts.settings.clone());
    let front = Front::new(api.clone(), address, tls.is_some());
    let builder = Arc::new(connection::builder(&settings));
    let places = Places::new(&settings);
    let mut turned_away = TurnedAway::default();
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(AFTER_REFUSAL).await;
                continue;
            }
        };
        let place = match places.take(address.ip()) {
            Ok(place) => place,
            Err(full) => {
                turned_away.say(full, address);
                continue;
            }
        };
        let (front, builder, settings) = (front.clone(), builder.clone(), settings.clone());
        let tls = tls.clone();
        let (draining, abandoned) = (api.0.draining.clone(), abandoned.clone());
        connections.spawn(async move {
            connection::greet(stream, address, tls, front, &builder, &settings, draining, abandoned).await;
            drop(place);
        });
    }
}

/// Connections for which there was no place.
#[derive(Default)]
struct TurnedAway {
    said: Option<Instant>,
    since: u64,
}

impl TurnedAway {
    /// Says so now and then: whoever opens them chooses how many there are.
    fn say(&mut self, full: Full, address: SocketAddr) {
        self.since += 1;
        if self.said.is_none_or(|said| said.elapsed() >= SAY_AGAIN) {
            tracing::warn!(%full, %address, connections = self.since, "connections are turned away");
            (self.said, self.since) = (Some(Instant::now()), 0);
        }
    }
}

async fn drain(api: &Api, connections: &TaskTracker, abandoned: &CancellationToken) {
    let patience = api.0.parts.settings.drain;
    tracing::info!(tasks = api.0.parts.tasks.unfinished(), connections = connections.len(), "stopping");
    api.0.draining.cancel();
    connections.close();
    api.0.sockets.close();
    let sockets = async {
        if tokio::time::timeout(patience, api.0.sockets.wait()).await.is_err() {
            tracing::warn!(sockets = api.0.sockets.len(), "some WebSockets did not close in time");
        }
    };
    let requests = async {
        if tokio::time::timeout(patience, connections.wait()).await.is_err() {
            tracing::warn!(connections = connections.len(), "some connections did not finish in time, and are ended");
            abandoned.cancel();
            connections.wait().await;
        }
    };
    tokio::join!(api.0.parts.tasks.drain(patience), requests, sockets);
    api.tell_denials();
}
