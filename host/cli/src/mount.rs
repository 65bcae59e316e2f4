//! Components that serve HTTP paths of a running host.

use std::sync::Arc;

use axum::body::Body;
use http::{Request, Response, uri::Scheme};
use http_body_util::BodyExt as _;
use wasmtime_wasi_http::Error;
use witan_api::{BodyError, Mount, MountFuture, Mounts, RequestBody, error_response};
use witan_capability::{Account, CallContext, CallError, Limits};
use witan_engine::{Engine, Service};
use witan_loader::Running;
use witan_tasks::{Code, TaskError};
use witan_telemetry::Metrics;

/// A component behind a path.
struct ComponentMount {
    engine: Arc<Engine>,
    service: Arc<Service>,
    limits: Limits,
    metrics: Arc<Metrics>,
    scheme: Scheme,
}

/// The mounts of `running`, whose clients speak `scheme`, and which count in `metrics` what limits end.
pub(crate) fn mounts(
    engine: &Arc<Engine>,
    running: &Running,
    metrics: &Arc<Metrics>,
    scheme: &Scheme,
) -> anyhow::Result<Mounts> {
    let all = running.system.mounts.iter().filter_map(|mount| {
        let service = running.component(&mount.component)?.service.clone();
        let limits = running.system.components.get(&mount.component)?.limits.call.clone();
        let component = ComponentMount {
            engine: engine.clone(),
            service,
            limits,
            metrics: metrics.clone(),
            scheme: scheme.clone(),
        };
        Some((mount.path.clone(), Arc::new(component) as Arc<dyn Mount>))
    });
    Ok(Mounts::new(all)?)
}

impl Mount for ComponentMount {
    fn handle(&self, request: Request<RequestBody>) -> MountFuture<'_> {
        Box::pin(async move {
            let request = request.map(|body| body.map_err(|error| wasi_error(&error)));
            match self.serve(request).await {
                Ok(response) => response,
                Err(error) => error_response(error),
            }
        })
    }
}

impl ComponentMount {
    async fn serve<B>(&self, request: Request<B>) -> Result<Response<Body>, TaskError>
    where
        B: http_body::Body<Data = bytes::Bytes, Error = Error> + Send + 'static,
    {
        let context = request.extensions().get::<CallContext>().cloned();
        // The front has put it there.
        let context = context.ok_or_else(|| TaskError::new(Code::Internal, "nobody knows who sent this"))?;
        let request = witan_http::incoming(request, self.scheme.clone())?;
        let account = self.engine.open_account(self.limits.clone());
        let tree = Tree { account: account.clone(), metrics: self.metrics.clone() };
        let response = witan_http::serve(&self.service, &context, &account, request).await?;
        Ok(response.map(|body| {
            // The tree goes on as long as the body does.
            Body::new(body.map_frame(move |frame| {
                let _tree = &tree;
                frame
            }))
        }))
    }
}

/// The call tree of one request. When it is dropped, a limit that has ended it is counted.
struct Tree {
    account: Arc<Account>,
    metrics: Arc<Metrics>,
}

impl Drop for Tree {
    fn drop(&mut self) {
        if let Some(CallError::Limit(exceeded)) = self.account.ended() {
            self.metrics.limit_exceeded(exceeded.limit);
        }
    }
}

/// What a component sees of a body that broke off.
fn wasi_error(error: &BodyError) -> Error {
    match error {
        BodyError::TooLarge { allowed, .. } => Error::HttpRequestBodySize(Some(*allowed)),
        BodyError::Late(_) | BodyError::Rate(_) | BodyError::Broken(_) => Error::HttpRequestDenied,
    }
}
