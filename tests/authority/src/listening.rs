//! A server in a thread of its own, so that tests which are not async are served too.

use std::{net::SocketAddr, thread::JoinHandle};

use axum::Router;
use tokio::sync::oneshot;

/// A port of this machine, before anybody serves there.
pub(crate) struct Port(std::net::TcpListener);

impl Port {
    pub(crate) fn open() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Self(listener)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// Serves `router` until what this gives is dropped.
    pub(crate) fn serve(self, router: Router) -> Listening {
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(self.0).unwrap();
                tokio::select! {
                    served = axum::serve(listener, router) => served.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        Listening { stop: Some(stop), thread: Some(thread) }
    }
}

/// A server, until it is dropped.
pub(crate) struct Listening {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}
