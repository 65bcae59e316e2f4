//! What every request passes: the refusals, the way to a mount or a route, and the request's id.
//!
//! Written out rather than layered: requests for mounts are the bulk of a busy host, and pay for nothing that they do
//! not need.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use axum::{Router, body::Body, response::Response};
use http::{HeaderMap, HeaderValue, Method, Request, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tower::Service as _;
use uuid::Uuid;
use witan_tasks::{Code, TaskError};

use crate::{Api, RequestBody, answer, error_response, hosts::Hosts, openapi};

const REQUEST_ID: &str = "x-request-id";

/// What stands before the routes and mounts of an API.
pub(crate) struct Front {
    api: Api,
    hosts: Hosts,
    router: Router,
    in_flight: AtomicUsize,
    /// The first part of the ids of this host's requests.
    run: Uuid,
    requests: AtomicU64,
}

/// Who sent a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

impl Front {
    pub(crate) fn new(api: Api, listen: SocketAddr) -> Arc<Self> {
        Arc::new(Self {
            hosts: Hosts::of(listen),
            router: openapi::router(api.clone()),
            api,
            in_flight: AtomicUsize::new(0),
            run: Uuid::now_v7(),
            requests: AtomicU64::new(0),
        })
    }

    /// Answers `request`, whatever it is.
    pub(crate) async fn answer(self: Arc<Self>, request: Request<Incoming>, peer: SocketAddr) -> Response {
        let id = self.request_id(request.headers());
        let grpc = witan_grpc::is_grpc(request.headers());
        let mut response = match self.route(request, peer).await {
            Ok(response) => response,
            Err(error) => error_response(error),
        };
        answer::complete(&mut response, &id, grpc);
        response.headers_mut().insert(REQUEST_ID, id);
        response
    }

    async fn route(&self, request: Request<Incoming>, peer: SocketAddr) -> Result<Response, TaskError> {
        self.hosts.check(&request)?;
        if request.method() == Method::CONNECT {
            return Err(TaskError::new(Code::MethodNotAllowed, "this host is no proxy"));
        }
        let _place = self.place()?;
        let mount = self.api.mount(request.uri().path());
        if mount.is_none() {
            json_only(&request)?;
        }
        let (head, body) = request.into_parts();
        let body = RequestBody::new(body, &self.api.0.parts.settings).map_err(|error| TaskError::from(&error))?;
        let mut request = Request::from_parts(head, body);
        match mount {
            Some(mount) => Ok(mount.handle(request).await),
            None => {
                request.extensions_mut().insert(Peer(peer));
                let grpc = witan_grpc::is_grpc(request.headers());
                let answered = self.router.clone().call(request.map(|body| routed(body, grpc))).await;
                answered.map_err(|never| match never {})
            }
        }
    }

    /// A place among the requests that are answered at once.
    fn place(&self) -> Result<Place<'_>, TaskError> {
        let place = Place(&self.in_flight);
        let most = self.api.0.parts.settings.concurrency;
        if self.in_flight.fetch_add(1, Ordering::Relaxed) < most {
            return Ok(place);
        }
        let message = format!("{most} requests are being answered, the most that this host takes; try again later");
        Err(TaskError::new(Code::Overloaded, message))
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

struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
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
