//! Components that serve requests: `wasi:http/incoming-handler` 0.2 and `wasi:http/handler` 0.3.

use std::sync::Arc;

use bytes::Bytes;
use http::uri::{Authority, Scheme};
use http::{HeaderMap, Request, Response, StatusCode, Uri, header};
use http_body::Body;
use http_body_util::{BodyExt as _, Empty};
use wasmtime::AsContextMut as _;
use wasmtime::component::{Accessor, Instance, InstancePre};
use wasmtime_wasi_http::p2::bindings::http::types as p2;
use wasmtime_wasi_http::p2::bindings::{Proxy, ProxyIndices};
use wasmtime_wasi_http::p3::bindings::{Service as Handler, ServiceIndices as HandlerIndices};
use wasmtime_wasi_http::{Error, FieldMap, WasiBody, p3};
use witan_capability::{Account, CallContext, CallError, CallState};
use witan_engine::{Invocation, Reply, Service, Version};

use crate::exchange::{self, ResponseBody};
use crate::view::http;

/// Which of the standard's interfaces a component serves requests by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `wasi:http/incoming-handler@0.2`.
    P2,
    /// `wasi:http/handler@0.3`.
    P3,
}

impl Protocol {
    /// How the component serves requests, if it does. One that can do both is called by the newer.
    #[must_use]
    pub fn of(pre: &InstancePre<CallState>) -> Option<Self> {
        match Exported::find(pre) {
            Exported::P2(_) => Some(Self::P2),
            Exported::P3(_) => Some(Self::P3),
            Exported::None => None,
        }
    }
}

/// The request as a component is given it: the URI has scheme and authority, taken from `Host` where the request line
/// names none.
///
/// # Errors
/// When the request names no authority, two, or one that is none.
pub fn incoming<B>(request: Request<B>, scheme: Scheme) -> Result<Request<WasiBody>, CallError>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: std::fmt::Display,
{
    let (mut head, body) = request.into_parts();
    let mut uri = head.uri.into_parts();
    if uri.authority.is_none() {
        uri.authority = Some(authority(&head.headers)?);
    }
    uri.scheme = Some(scheme);
    uri.path_and_query.get_or_insert_with(|| http::uri::PathAndQuery::from_static("/"));
    head.uri =
        Uri::from_parts(uri).map_err(|error| CallError::Invalid(format!("the request has no target: {error}")))?;
    let body = body.map_err(|error| {
        tracing::debug!(%error, "the body of a request broke off");
        Error::ConnectionTerminated
    });
    Ok(Request::from_parts(head, body.boxed_unsync()))
}

fn authority(headers: &HeaderMap) -> Result<Authority, CallError> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => Authority::try_from(host.as_bytes()).ok(),
        _ => None,
    };
    host.ok_or_else(|| CallError::Invalid("the request must have one `Host` header that names a host".to_owned()))
}

/// Has `service` answer `request`, which [`incoming`] made.
///
/// The component runs in the task of the caller, for as long as that polls the response's body: a client that goes away
/// takes the call with it. What a component does after the last byte of its response goes on by itself, within the
/// call's limits.
///
/// # Errors
/// When the call is not admitted, or ended before there was a response.
pub async fn serve(
    service: &Arc<Service>,
    context: &CallContext,
    account: &Arc<Account>,
    request: Request<WasiBody>,
) -> Result<Response<ResponseBody>, CallError> {
    let method = request.method().clone();
    let (run, response) = service.begin(context, account, Serve { request, exported: None }).await?;
    exchange::respond(run, response, &method, service.name()).await
}

/// The call of a component with a request.
struct Serve {
    /// As [`incoming`] made it.
    request: Request<WasiBody>,
    exported: Option<Arc<Exported>>,
}

/// The export that takes requests: where it lies is found once for each version of a component.
enum Exported {
    P2(ProxyIndices),
    P3(HandlerIndices),
    None,
}

impl Exported {
    /// The newer of the two that `pre` has.
    fn find(pre: &InstancePre<CallState>) -> Self {
        if let Ok(indices) = HandlerIndices::new(pre) {
            return Self::P3(indices);
        }
        ProxyIndices::new(pre).map_or(Self::None, Self::P2)
    }
}

impl Invocation for Serve {
    type Output = Response<WasiBody>;

    fn prepare(&mut self, version: &Version) -> Result<(), CallError> {
        self.exported = Some(version.resolved(Exported::find));
        Ok(())
    }

    async fn run(
        self,
        store: &Accessor<CallState>,
        instance: Instance,
        reply: Reply<Response<WasiBody>>,
    ) -> wasmtime::Result<()> {
        let exported = self.exported.as_deref().unwrap_or(&Exported::None);
        match store.with(|mut access| Bound::new(access.as_context_mut(), &instance, exported))? {
            Bound::P2(proxy) => serve_p2(&proxy, store, self.request, reply).await,
            Bound::P3(handler) => serve_p3(&handler, store, self.request, reply).await,
        }
    }
}

/// The export that takes the request.
enum Bound {
    P2(Proxy),
    P3(Handler),
}

impl Bound {
    fn new(
        mut store: wasmtime::StoreContextMut<'_, CallState>,
        instance: &Instance,
        exported: &Exported,
    ) -> wasmtime::Result<Self> {
        match exported {
            Exported::P2(indices) => Ok(Self::P2(indices.load(&mut store, instance)?)),
            Exported::P3(indices) => Ok(Self::P3(indices.load(&mut store, instance)?)),
            Exported::None => Err(CallError::Invalid(
                "the component serves no requests: it exports neither `wasi:http/handler` nor \
                 `wasi:http/incoming-handler`"
                    .to_owned(),
            )
            .into()),
        }
    }
}

async fn serve_p2(
    proxy: &Proxy,
    store: &Accessor<CallState>,
    request: Request<WasiBody>,
    reply: Reply<Response<WasiBody>>,
) -> wasmtime::Result<()> {
    let scheme = if request.uri().scheme() == Some(&Scheme::HTTPS) { p2::Scheme::Https } else { p2::Scheme::Http };
    let arguments = store.with(|mut access| {
        let mut view = http(access.data_mut());
        let request = view.new_incoming_request(scheme, request)?;
        // A guest that gives no answer leaves the reply to be dropped with the store.
        let out = view.new_response_outparam_from_callback(move |response| {
            reply.send(response.unwrap_or_else(|code| failed(&code)));
        })?;
        wasmtime::error::Ok((request, out))
    })?;
    proxy.wasi_http_incoming_handler().func_handle().call_concurrent(store, arguments).await
}

async fn serve_p3(
    handler: &Handler,
    store: &Accessor<CallState>,
    request: Request<WasiBody>,
    reply: Reply<Response<WasiBody>>,
) -> wasmtime::Result<()> {
    let (request, processed) = store.with(|mut access| {
        let view = http(access.data_mut());
        let (head, body) = request.into_parts();
        let uri = head.uri.into_parts();
        let headers = FieldMap::new_immutable(view.hooks, head.headers);
        let (request, processed) =
            p3::Request::new(head.method, uri.scheme, uri.authority, uri.path_and_query, headers, None, body);
        wasmtime::error::Ok((view.table.push(request)?, processed))
    })?;
    let response = match handler.wasi_http_handler().call_handle(store, request).await? {
        Ok(response) => store.with(|mut access| {
            let response = http(access.data_mut()).table.delete(response)?;
            response.into_http_with_getter(&mut access, processed, http)
        })?,
        Err(code) => failed(&code),
    };
    // The guest goes on to write the body.
    reply.settle().await;
    reply.send(response);
    Ok(())
}

/// The answer for a component that answered with an error: like a trap, it is the component's own affair, so that the
/// log has it and the client does not.
fn failed(code: &dyn std::fmt::Debug) -> Response<WasiBody> {
    tracing::info!(?code, "the component answered with an error");
    let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(request: http::request::Builder) -> Result<String, CallError> {
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        incoming(request, Scheme::HTTP).map(|request| request.uri().to_string())
    }

    #[test]
    fn the_authority_comes_from_the_request_line_or_host() {
        assert_eq!(uri(Request::get("/a?b").header("host", "one:81")).unwrap(), "http://one:81/a?b");
        assert_eq!(uri(Request::get("http://two/a").header("host", "one")).unwrap(), "http://two/a");
    }

    #[test]
    fn a_request_without_one_authority_is_refused() {
        for request in [
            Request::get("/"),
            Request::get("/").header("host", "a").header("host", "b"),
            Request::get("/").header("host", "a b"),
        ] {
            assert!(matches!(uri(request), Err(CallError::Invalid(_))));
        }
    }
}
