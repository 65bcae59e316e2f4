//! What every request passes: the refusals, the way to a mount or a route, and the request's id.
//!
//! Written out rather than layered: requests for mounts are the bulk of a busy host, and pay for nothing that they do
//! not need.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, response::Response};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tower::Service as _;
use tracing::Instrument as _;
use uuid::Uuid;
use witan_authorize::{Action, Resource};
use witan_capability::{CallContext, Trace, TraceState};
use witan_identity::Certificate;
use witan_tasks::{Code, TaskError};

use crate::{
    Api, Mount, RequestBody, answer,
    asks::{Asks, Told},
    authorize::{Caller, Way, narrowed},
    error_response,
    gate::{self, Stopped},
    hosts::Hosts,
    openapi,
    refusals::Refusals,
    seen::{Mounted, Seen},
};

const REQUEST_ID: &str = "x-request-id";
const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";

/// What stands before the routes and mounts of an API.
pub(crate) struct Front {
    api: Api,
    hosts: Hosts,
    router: Router,
    /// The first part of the ids of this host's requests.
    run: Uuid,
    requests: AtomicU64,
}

/// The other end of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// Where it is.
    pub(crate) address: SocketAddr,
    /// The certificate that it showed, if it showed one; it was verified.
    pub(crate) certificate: Option<Arc<Certificate>>,
    /// Of its requests.
    pub(crate) refusals: Arc<Refusals>,
}

impl Front {
    pub(crate) fn new(api: Api, listen: SocketAddr, tls: bool) -> Arc<Self> {
        Arc::new(Self {
            hosts: if tls { Hosts::of(listen).over_tls() } else { Hosts::of(listen) },
            router: openapi::router(api.clone()),
            api,
            run: Uuid::now_v7(),
            requests: AtomicU64::new(0),
        })
    }

    /// Answers `request`, whatever it is.
    pub(crate) async fn answer(self: Arc<Self>, mut request: Request<Incoming>, peer: Peer) -> Response {
        let id = self.request_id(request.headers());
        let grpc = witan_grpc::is_grpc(request.headers());
        let (trace, state) = self.trace(request.headers());
        request.extensions_mut().insert(trace);
        let told_state = state.as_ref().and_then(|state| HeaderValue::from_str(state.as_str()).ok());
        if let Some(state) = state {
            request.extensions_mut().insert(state);
        }
        let seen = Seen::new(&request, &id, trace);
        let answered = witan_ledger::in_trace(trace.id(), self.route(request, peer));
        let mut response = match answered.instrument(seen.span.clone()).await {
            Ok(response) => response,
            Err(error) => error_response(error),
        };
        seen.answered(&response, &self.api.0.parts.metrics);
        let told = response.extensions_mut().remove::<Told>();
        answer::complete(&mut response, &id, grpc, told.as_ref());
        if let Some(told) = told {
            told.write(response.headers_mut());
        }
        response.headers_mut().insert(REQUEST_ID, id);
        if let Ok(traceparent) = HeaderValue::try_from(trace.traceparent()) {
            response.headers_mut().insert(TRACEPARENT, traceparent);
        }
        if let Some(state) = told_state {
            response.headers_mut().insert(TRACESTATE, state);
        }
        response
    }

    /// Where the request stands in its trace: below the span that the client names, with what stands beside it, or at the begin
    /// of a trace of its own.
    fn trace(&self, headers: &HeaderMap) -> (Trace, Option<TraceState>) {
        let mut given = headers.get_all(TRACEPARENT).iter();
        let one = match (given.next(), given.next()) {
            (Some(one), None) => one.to_str().ok().and_then(Trace::parse),
            _ => None,
        };
        let Some(one) = one else { return (self.api.0.parts.logs.traces.begin().child(), None) };
        (one.child(), state(headers))
    }

    async fn route(&self, request: Request<Incoming>, peer: Peer) -> Result<Response, TaskError> {
        let public = self.api.0.parts.identities.public_url();
        self.hosts.check_with(&request, public.as_deref())?;
        if request.method() == Method::CONNECT {
            return Err(TaskError::new(Code::MethodNotAllowed, "this host is no proxy"));
        }
        let mount = self.api.mount(request.uri().path());
        if mount.is_none() {
            json_only(&request)?;
        }
        let (mut head, body) = request.into_parts();
        let behind_proxy = self.api.0.parts.settings.behind_proxy;
        // What a proxy in front shows is not its clients'.
        let certificate = peer.certificate.filter(|_| !behind_proxy);
        let refusals = peer.refusals;
        let named = gate::peer(peer.address, &head.headers, behind_proxy);
        let peer = witan_identity::Peer { certificate, ..named };
        match gate::meet(&self.api, &mut head, &peer, mount.is_some()).await {
            Ok(()) => {}
            Err(Stopped::Error(error)) => return Err(error),
            Err(Stopped::Wait(error, wait)) => {
                let mut response = error_response(error);
                response.extensions_mut().insert(Told::later(Duration::from_secs(wait.as_secs().saturating_add(1))));
                return Ok(response);
            }
        }
        let asks = Asks::of(&head.extensions, peer.address);
        if let Some((context, trace)) = head.extensions.get::<CallContext>().zip(head.extensions.get::<Trace>()) {
            let mut traced = context.traced(*trace);
            if let Some(state) = head.extensions.get::<TraceState>() {
                traced = traced.with_trace_state(state.clone());
            }
            head.extensions.insert(traced);
        }
        let parts = &self.api.0.parts;
        // What is refused is held to rates too, so that nobody has the host refuse, and write that down, as fast as it can.
        let permitted = gate::permits(&head, mount.is_some());
        let passed = match parts.requests.pass(&head, &asks, permitted.is_ok(), &parts.metrics).await {
            Ok(passed) => passed,
            Err(refusal) => {
                if refusal.status() == StatusCode::TOO_MANY_REQUESTS {
                    refusals.delay().await;
                }
                return Ok(*refusal);
            }
        };
        refusals.forget();
        head.extensions.insert(asks);
        let answered = match permitted {
            Ok(()) => self.permitted(head, body, mount, peer).await,
            Err(error) => {
                gate::refused(&self.api, &head, &error);
                Err(error)
            }
        };
        let mut response = answered.unwrap_or_else(error_response);
        response.extensions_mut().insert(passed.told);
        Ok(response)
    }

    /// Answers a request that its credential is for.
    async fn permitted(
        &self,
        head: http::request::Parts,
        body: Incoming,
        mount: Option<(String, Arc<dyn Mount>)>,
        peer: witan_identity::Peer,
    ) -> Result<Response, TaskError> {
        gate::accounts(&self.api, &head, mount.is_some())?;
        let parts = &self.api.0.parts;
        let body = RequestBody::new(body, &parts.settings).map_err(|error| TaskError::from(&error))?;
        let body = body.weighed(&head, parts);
        self.answered(Request::from_parts(head, body), mount, peer).await
    }

    /// Answers a request whose turn it is.
    async fn answered(
        &self,
        mut request: Request<RequestBody>,
        mount: Option<(String, Arc<dyn Mount>)>,
        peer: witan_identity::Peer,
    ) -> Result<Response, TaskError> {
        match mount {
            Some((path, mount)) => {
                self.authorize_mount(&path, &mut request)?;
                let mut response = mount.handle(request).await;
                response.extensions_mut().insert(Mounted);
                Ok(response)
            }
            None => {
                request.extensions_mut().insert(peer);
                let grpc = witan_grpc::is_grpc(request.headers());
                let answered = self.router.clone().call(request.map(|body| routed(body, grpc))).await;
                answered.map_err(|never| match never {})
            }
        }
    }

    /// Asks whether the component at `path` may be sent `request`, and narrows the call that follows.
    fn authorize_mount<B>(&self, path: &str, request: &mut Request<B>) -> Result<(), TaskError> {
        let caller = Caller::of(request.extensions());
        let way = Way { route: None, method: Some(request.method().as_str()), path: Some(request.uri().path()) };
        let path = if path.is_empty() { "/" } else { path };
        let obligations = self.api.authorize(&caller, Action::MountCall, Resource::Mount(path.into()), way)?;
        request.extensions_mut().insert(narrowed(&caller.context, obligations));
        Ok(())
    }

    /// The client's id, if it is fit to be passed on, or else one of our own: cheap, and unique without being secret.
    fn request_id(&self, headers: &HeaderMap) -> HeaderValue {
        let fit = |id: &&HeaderValue| id.len() <= 128 && !id.is_empty() && id.to_str().is_ok();
        if let Some(id) = headers.get(REQUEST_ID).filter(fit) {
            return id.clone();
        }
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        HeaderValue::try_from(format!("req-{}-{number:x}", self.run.simple()))
            .unwrap_or_else(|_| HeaderValue::from_static("req"))
    }
}

/// What stands beside the trace of a request; none where that is no list.
fn state(headers: &HeaderMap) -> Option<TraceState> {
    let mut values = Vec::new();
    for value in headers.get_all(TRACESTATE) {
        values.push(value.to_str().ok()?);
    }
    TraceState::parse(values)
}

/// `body` for a route. For one of gRPC, why it broke off is a status.
fn routed(body: RequestBody, grpc: bool) -> Body {
    match grpc {
        true => Body::new(body.map_err(|error| witan_grpc::status(&TaskError::from(&error)))),
        false => Body::new(body),
    }
}

/// Refuses a `POST` that is neither JSON nor gRPC, body or none: a page of another origin can have a browser send forms and
/// text without asking, but not these.
fn json_only<B>(request: &Request<B>) -> Result<(), TaskError> {
    if request.method() != Method::POST || witan_grpc::is_grpc(request.headers()) {
        return Ok(());
    }
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let message =
        "send `Content-Type: application/json`; no other is taken, so that pages of other origins cannot post";
    Err(TaskError::new(Code::UnsupportedMediaType, message).at("Content-Type"))
}
