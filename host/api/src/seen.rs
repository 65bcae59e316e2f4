//! What logs, traces and metrics say of a request.

use std::time::Instant;

use axum::{extract::MatchedPath, middleware::Next, response::Response};
use http::{HeaderValue, Method, Request};
use tracing::{Span, field};
use witan_capability::Trace;
use witan_telemetry::{Metrics, RequestEnd};

use crate::answer::Refusal;

/// A request on its way to an answer.
pub(crate) struct Seen {
    pub(crate) span: Span,
    trace: Trace,
    method: &'static str,
    began: Instant,
}

/// The route that answered, as `/openapi.json` writes it.
#[derive(Clone)]
pub(crate) struct Route(pub(crate) MatchedPath);

/// What stands for the route of a request that a component answered.
#[derive(Clone, Copy)]
pub(crate) struct Mounted;

impl Seen {
    pub(crate) fn new<B>(request: &Request<B>, id: &HeaderValue, trace: Trace) -> Self {
        let method = method(request.method());
        let span = tracing::debug_span!(
            "http.request",
            method,
            request_id = id.to_str().unwrap_or_default(),
            trace = %trace,
            span = trace.span().map(field::display),
            parent = trace.parent().map(field::display),
            sampled = trace.sampled(),
            route = field::Empty,
            status = field::Empty,
            outcome = field::Empty,
        );
        Self { span, trace, method, began: Instant::now() }
    }

    /// Notes what was answered.
    pub(crate) fn answered(self, response: &Response, metrics: &Metrics) {
        let (extensions, status) = (response.extensions(), response.status().as_u16());
        let route = match extensions.get::<Route>() {
            Some(Route(path)) => path.as_str(),
            None if extensions.get::<Mounted>().is_some() => "mount",
            None => "none",
        };
        let refused = extensions.get::<Refusal>().map(|Refusal(error)| error.code.name());
        metrics.request_ended(&RequestEnd {
            route,
            method: self.method,
            status,
            refused,
            duration: self.began.elapsed(),
            trace: self.trace,
        });
        if !self.span.is_disabled() {
            self.span.record("route", route);
            self.span.record("status", status);
            self.span.record("outcome", if status < 500 { "ok" } else { refused.unwrap_or("error") });
        }
    }
}

/// The methods that there are; what a client makes up is none of them.
fn method(method: &Method) -> &'static str {
    const KNOWN: [&str; 9] = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT", "TRACE"];
    KNOWN.into_iter().find(|known| *known == method.as_str()).unwrap_or("other")
}

/// Leaves the route in the answer, for whoever counts it.
pub(crate) async fn mark(request: axum::extract::Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>().cloned();
    let mut response = next.run(request).await;
    if let Some(path) = path {
        response.extensions_mut().insert(Route(path));
    }
    response
}
