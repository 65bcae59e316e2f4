//! Tasks over gRPC: `witan.v1`, with reflection. The same tasks as over HTTP, under the same rules, and with the same codes.
//!
//! Start at [`routes`]. It knows no connection and no credential: what stands before it has let a request in, and says for
//! whom it runs.

mod message;
mod service;
mod status;

/// What `cargo xtask generate` makes of `proto/`: messages, server and client.
#[allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    clippy::nursery,
    clippy::restriction,
    reason = "it is generated; the sources have the words"
)]
pub mod v1 {
    include!("generated/witan.v1.rs");
}

use std::{any::Any, pin::Pin, sync::Arc, time::Duration};

use axum::Router;
use http::{Extensions, HeaderMap, header};
use tokio_util::sync::CancellationToken;
use witan_capability::CallContext;
use witan_tasks::{Edge, Task, TaskError, TaskRequest, Tasks};

pub use message::request;
pub use status::{CODE_DOMAIN, status, status_after};

/// Everything in `proto/`, as clients ask for it by reflection.
const DESCRIPTORS: &[u8] = include_bytes!("generated/descriptors.binpb");

/// Counts a task or a stream until it is dropped.
pub type Counted = Box<dyn Any + Send + Sync>;

/// What decides requests, by what was found out about each before it came here: its extensions.
pub trait Door: Send + Sync + 'static {
    /// Who asks.
    fn caller(&self, request: &Extensions) -> CallContext;

    /// For whom what `asked` asks for runs, and within what bounds.
    ///
    /// # Errors
    /// When it may not be submitted.
    fn submit(&self, request: &Extensions, asked: &TaskRequest) -> Result<Edge, TaskError>;

    /// Counts a task among those of who asks, as long as what comes back is kept.
    ///
    /// # Errors
    /// When as many run or wait as may.
    fn begin_task(&self, request: &Extensions) -> Result<Counted, TaskError>;

    /// Counts a stream among those of who asks, as long as what comes back is kept.
    ///
    /// # Errors
    /// When as many are open as may be.
    fn follow(&self, request: &Extensions) -> Result<Counted, TaskError>;

    /// Resolves when who asks may not be told any more of `task`, which they begin to follow, with what to say of it. It is
    /// called before [`Self::see`], which decides whether they begin, so that no change between the two is missed.
    fn cut_off(&self, request: &Extensions, task: &Task) -> Pin<Box<dyn Future<Output = TaskError> + Send>>;

    /// Whether `task` may be seen.
    ///
    /// # Errors
    /// When it may not.
    fn see(&self, request: &Extensions, task: &Task) -> Result<(), TaskError>;

    /// Whether `task` may be cancelled.
    ///
    /// # Errors
    /// When it may not.
    fn cancel(&self, request: &Extensions, task: &Task) -> Result<(), TaskError>;
}

/// Reflection cannot be served: what was generated is damaged.
#[derive(Debug, thiserror::Error)]
#[error("the description of the gRPC services is damaged")]
pub struct ReflectionError(#[from] tonic_reflection::server::Error);

/// The routes of all services over `tasks`. A message has at most `body_bytes` bytes. Streams end when `draining` is cancelled,
/// and say that the host stops.
///
/// # Errors
/// When the description that was compiled in is damaged.
pub fn routes(
    tasks: Tasks,
    door: Arc<dyn Door>,
    body_bytes: usize,
    draining: CancellationToken,
) -> Result<Router, ReflectionError> {
    let service = v1::tasks_server::TasksServer::new(service::Service { tasks, door, draining });
    let reflection =
        || tonic_reflection::server::Builder::configure().register_encoded_file_descriptor_set(DESCRIPTORS);
    Ok(Router::new()
        .route_service("/witan.v1.Tasks/{method}", service.max_decoding_message_size(body_bytes))
        .route_service("/grpc.reflection.v1.ServerReflection/{method}", reflection().build_v1()?)
        .route_service("/grpc.reflection.v1alpha.ServerReflection/{method}", reflection().build_v1alpha()?))
}

/// Whether a request with `headers` is one of gRPC, and wants its errors so.
#[must_use]
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.strip_prefix("application/grpc").is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', ';']))
}

/// The answer that `error` becomes for a client of gRPC, which may ask again after `wait`: headers alone.
#[must_use]
pub fn refusal(error: &TaskError, wait: Option<Duration>) -> http::Response<axum::body::Body> {
    status_after(error, wait).into_http()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_grpc_is_grpc() {
        for (kind, is) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;x", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
            assert_eq!(is_grpc(&headers), is, "{kind}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }
}
