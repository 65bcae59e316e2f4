//! wasi:http 0.2: `types` behind the guard, and `outgoing-handler`.

use std::sync::Arc;

use http::uri::Scheme;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable};
use wasmtime_wasi_http::p2::bindings::http::{outgoing_handler, types};
use wasmtime_wasi_http::p2::{HeaderError, HeaderResult, HttpError, HttpResult};
use wasmtime_wasi_http::{Error, FieldMap};
use witan_capability::{Action, CallState, HostFunction};

use crate::client::{Connector, refused};
use crate::headers;
use crate::target::{Invalid, Target};
use crate::view::{Armed, Guarded, View, arm, http};

type Result<T> = wasmtime::Result<T>;
type Maybe<T> = wasmtime::Result<std::result::Result<T, ()>>;
type Values = Vec<Vec<u8>>;

guarded! {
    /// Functions without authority.
    TYPES of "wasi:http/types@0.2.12";

    impl types::HostFields [drop FieldMap] {
        "[constructor]fields" => fn new() -> Result<Resource<FieldMap>>;
        "[static]fields.from-list" => fn from_list(entries: Vec<(String, Vec<u8>)>) -> HeaderResult<Resource<FieldMap>>,
            charging |_view| entries.iter().map(|(name, value)| headers::entry_size(name.len(), value.len())).sum();
        "[method]fields.get" => fn get(fields: Resource<FieldMap>, name: String) -> Result<Values>;
        "[method]fields.has" => fn has(fields: Resource<FieldMap>, name: String) -> Result<bool>;
        "[method]fields.set" => fn set(fields: Resource<FieldMap>, name: String, values: Values) -> HeaderResult<()>,
            charging |_view| values.iter().map(|value| headers::entry_size(name.len(), value.len())).sum();
        "[method]fields.delete" => fn delete(fields: Resource<FieldMap>, name: String) -> HeaderResult<()>;
        "[method]fields.append" => fn append(fields: Resource<FieldMap>, name: String, value: Vec<u8>) -> HeaderResult<()>,
            charging |_view| headers::entry_size(name.len(), value.len());
        "[method]fields.entries" => fn entries(fields: Resource<FieldMap>) -> Result<Vec<(String, Vec<u8>)>>;
        "[method]fields.clone" => fn clone(fields: Resource<FieldMap>) -> Result<Resource<FieldMap>>,
            charging |view| headers::size(view.0.table.get(&fields)?);
    }

    impl types::HostIncomingRequest [drop types::IncomingRequest] {
        "[method]incoming-request.method" => fn method(this: Resource<types::IncomingRequest>) -> Result<types::Method>;
        "[method]incoming-request.path-with-query" =>
            fn path_with_query(this: Resource<types::IncomingRequest>) -> Result<Option<String>>;
        "[method]incoming-request.scheme" =>
            fn scheme(this: Resource<types::IncomingRequest>) -> Result<Option<types::Scheme>>;
        "[method]incoming-request.authority" =>
            fn authority(this: Resource<types::IncomingRequest>) -> Result<Option<String>>;
        "[method]incoming-request.headers" =>
            fn headers(this: Resource<types::IncomingRequest>) -> Result<Resource<FieldMap>>;
        "[method]incoming-request.consume" =>
            fn consume(this: Resource<types::IncomingRequest>) -> Maybe<Resource<types::IncomingBody>>;
    }

    impl types::HostRequestOptions [drop types::RequestOptions] {
        "[constructor]request-options" => fn new() -> Result<Resource<types::RequestOptions>>;
        "[method]request-options.connect-timeout" =>
            fn connect_timeout(this: Resource<types::RequestOptions>) -> Result<Option<types::Duration>>;
        "[method]request-options.set-connect-timeout" =>
            fn set_connect_timeout(this: Resource<types::RequestOptions>, time: Option<types::Duration>) -> Maybe<()>;
        "[method]request-options.first-byte-timeout" =>
            fn first_byte_timeout(this: Resource<types::RequestOptions>) -> Result<Option<types::Duration>>;
        "[method]request-options.set-first-byte-timeout" =>
            fn set_first_byte_timeout(this: Resource<types::RequestOptions>, time: Option<types::Duration>) -> Maybe<()>;
        "[method]request-options.between-bytes-timeout" =>
            fn between_bytes_timeout(this: Resource<types::RequestOptions>) -> Result<Option<types::Duration>>;
        "[method]request-options.set-between-bytes-timeout" =>
            fn set_between_bytes_timeout(this: Resource<types::RequestOptions>, time: Option<types::Duration>) -> Maybe<()>;
    }

    impl types::HostIncomingResponse [drop types::IncomingResponse] {
        "[method]incoming-response.status" =>
            fn status(this: Resource<types::IncomingResponse>) -> Result<types::StatusCode>;
        "[method]incoming-response.headers" =>
            fn headers(this: Resource<types::IncomingResponse>) -> Result<Resource<FieldMap>>;
        "[method]incoming-response.consume" =>
            fn consume(this: Resource<types::IncomingResponse>) -> Maybe<Resource<types::IncomingBody>>;
    }

    impl types::HostIncomingBody [drop types::IncomingBody] {
        "[method]incoming-body.stream" =>
            fn stream(this: Resource<types::IncomingBody>) -> Maybe<Resource<DynInputStream>>;
        "[static]incoming-body.finish" =>
            fn finish(this: Resource<types::IncomingBody>) -> Result<Resource<types::FutureTrailers>>;
    }

    impl types::HostFutureTrailers [drop types::FutureTrailers] {
        "[method]future-trailers.subscribe" =>
            fn subscribe(this: Resource<types::FutureTrailers>) -> Result<Resource<DynPollable>>;
        "[method]future-trailers.get" =>
            fn get(this: Resource<types::FutureTrailers>) -> Result<Option<
                std::result::Result<std::result::Result<Option<Resource<FieldMap>>, types::ErrorCode>, ()>
            >>;
    }

    impl types::HostFutureIncomingResponse [drop types::FutureIncomingResponse] {
        "[method]future-incoming-response.subscribe" =>
            fn subscribe(this: Resource<types::FutureIncomingResponse>) -> Result<Resource<DynPollable>>;
        "[method]future-incoming-response.get" =>
            fn get(this: Resource<types::FutureIncomingResponse>) -> Result<Option<
                std::result::Result<std::result::Result<Resource<types::IncomingResponse>, types::ErrorCode>, ()>
            >>;
    }

    impl types::HostOutgoingRequest [drop types::OutgoingRequest] {
        "[constructor]outgoing-request" => fn new(headers: Resource<FieldMap>) -> Result<Resource<types::OutgoingRequest>>;
        "[method]outgoing-request.body" =>
            fn body(this: Resource<types::OutgoingRequest>) -> Maybe<Resource<types::OutgoingBody>>,
            by |view| request_body(view, this);
        "[method]outgoing-request.method" => fn method(this: Resource<types::OutgoingRequest>) -> Result<types::Method>;
        "[method]outgoing-request.set-method" =>
            fn set_method(this: Resource<types::OutgoingRequest>, method: types::Method) -> Maybe<()>;
        "[method]outgoing-request.path-with-query" =>
            fn path_with_query(this: Resource<types::OutgoingRequest>) -> Result<Option<String>>;
        "[method]outgoing-request.set-path-with-query" =>
            fn set_path_with_query(this: Resource<types::OutgoingRequest>, path: Option<String>) -> Maybe<()>;
        "[method]outgoing-request.scheme" =>
            fn scheme(this: Resource<types::OutgoingRequest>) -> Result<Option<types::Scheme>>;
        "[method]outgoing-request.set-scheme" =>
            fn set_scheme(this: Resource<types::OutgoingRequest>, scheme: Option<types::Scheme>) -> Maybe<()>;
        "[method]outgoing-request.authority" =>
            fn authority(this: Resource<types::OutgoingRequest>) -> Result<Option<String>>;
        "[method]outgoing-request.set-authority" =>
            fn set_authority(this: Resource<types::OutgoingRequest>, authority: Option<String>) -> Maybe<()>;
        "[method]outgoing-request.headers" =>
            fn headers(this: Resource<types::OutgoingRequest>) -> Result<Resource<FieldMap>>;
    }

    impl types::HostOutgoingResponse [drop types::OutgoingResponse] {
        "[constructor]outgoing-response" =>
            fn new(headers: Resource<FieldMap>) -> Result<Resource<types::OutgoingResponse>>;
        "[method]outgoing-response.status-code" =>
            fn status_code(this: Resource<types::OutgoingResponse>) -> Result<types::StatusCode>;
        "[method]outgoing-response.set-status-code" =>
            fn set_status_code(this: Resource<types::OutgoingResponse>, status: types::StatusCode) -> Maybe<()>;
        "[method]outgoing-response.headers" =>
            fn headers(this: Resource<types::OutgoingResponse>) -> Result<Resource<FieldMap>>;
        "[method]outgoing-response.body" =>
            fn body(this: Resource<types::OutgoingResponse>) -> Maybe<Resource<types::OutgoingBody>>,
            by |view| response_body(view, this);
    }

    impl types::HostOutgoingBody [drop types::OutgoingBody, first |view, body| view.queues().forget(body.rep())] {
        "[method]outgoing-body.write" =>
            fn write(this: Resource<types::OutgoingBody>) -> Maybe<Resource<DynOutputStream>>,
            by |view| write(view, this);
        "[static]outgoing-body.finish" =>
            fn finish(this: Resource<types::OutgoingBody>, trailers: Option<Resource<FieldMap>>) -> HttpResult<()>,
            by |view| finish(view, this, trailers);
    }

    impl types::HostResponseOutparam [drop types::ResponseOutparam] {
        "[static]response-outparam.set" => fn set(
            this: Resource<types::ResponseOutparam>,
            response: std::result::Result<Resource<types::OutgoingResponse>, types::ErrorCode>
        ) -> Result<()>;
        also {
            // Unstable in the standard, and not linked.
            fn send_informational(
                &mut self,
                this: Resource<types::ResponseOutparam>,
                status: u16,
                headers: Resource<FieldMap>,
            ) -> HttpResult<()> {
                types::HostResponseOutparam::send_informational(&mut self.http(), this, status, headers)
            }
        }
    }

    impl types::Host {
        "http-error-code" => fn http_error_code(error: Resource<types::IoError>) -> Result<Option<types::ErrorCode>>,
            by |view| error_code(view, error);
        also {
            fn convert_error_code(&mut self, error: HttpError) -> Result<types::ErrorCode> {
                error.downcast()
            }

            fn convert_header_error(&mut self, error: HeaderError) -> Result<types::HeaderError> {
                error.downcast()
            }
        }
    }
}

/// The code in an error of a stream. Wasmtime's own does not see what the body of a response failed with.
fn error_code(view: &mut View<'_>, error: Resource<types::IoError>) -> Result<Option<types::ErrorCode>> {
    let code = view.0.table.get(&error)?.downcast_ref::<Error>().map(|error| match error {
        Error::ConnectionReadTimeout => types::ErrorCode::ConnectionReadTimeout,
        Error::ConnectionTerminated => types::ErrorCode::ConnectionTerminated,
        Error::HttpResponseIncomplete => types::ErrorCode::HttpResponseIncomplete,
        Error::HttpResponseTimeout => types::ErrorCode::HttpResponseTimeout,
        Error::HttpResponseHeaderSectionSize(size) => types::ErrorCode::HttpResponseTrailerSectionSize(*size),
        _ => types::ErrorCode::HttpProtocolError,
    });
    match code {
        Some(code) => Ok(Some(code)),
        None => types::Host::http_error_code(&mut view.http(), error),
    }
}

fn request_body(view: &mut View<'_>, this: Resource<types::OutgoingRequest>) -> Maybe<Resource<types::OutgoingBody>> {
    let again = Resource::<types::OutgoingRequest>::new_borrow(this.rep());
    let opened = types::HostOutgoingRequest::body(&mut view.http(), this)?;
    if let Ok(handle) = &opened {
        let body = view.0.table.get_mut(&again)?.body.take();
        let metered = body.map(|body| view.queues().open(handle.rep(), body));
        view.0.table.get_mut(&again)?.body = metered;
    }
    Ok(opened)
}

fn response_body(view: &mut View<'_>, this: Resource<types::OutgoingResponse>) -> Maybe<Resource<types::OutgoingBody>> {
    let again = Resource::<types::OutgoingResponse>::new_borrow(this.rep());
    let opened = types::HostOutgoingResponse::body(&mut view.http(), this)?;
    if let Ok(handle) = &opened {
        let body = view.0.table.get_mut(&again)?.body.take();
        let metered = body.map(|body| view.queues().open(handle.rep(), body));
        view.0.table.get_mut(&again)?.body = metered;
    }
    Ok(opened)
}

fn write(view: &mut View<'_>, this: Resource<types::OutgoingBody>) -> Maybe<Resource<DynOutputStream>> {
    let handle = this.rep();
    let opened = types::HostOutgoingBody::write(&mut view.http(), this)?;
    if let Ok(stream) = &opened
        && let Some(queue) = view.queues().take(handle)
    {
        queue.meter(view.0.table.get_mut(stream)?);
    }
    Ok(opened)
}

fn finish(
    view: &mut View<'_>,
    this: Resource<types::OutgoingBody>,
    trailers: Option<Resource<FieldMap>>,
) -> HttpResult<()> {
    view.queues().forget(this.rep());
    types::HostOutgoingBody::finish(&mut view.http(), this, trailers)
}

/// Links `types`.
pub(crate) fn link_types(linker: &mut Linker<CallState>) -> Result<()> {
    let options = types::LinkOptions::default();
    types::add_to_linker::<CallState, Guarded>(linker, &options, Guarded::view)
}

/// The function that sends a request.
pub(crate) const HANDLE: HostFunction = HostFunction::new("wasi:http/outgoing-handler@0.2.12", "handle");

type Sent = std::result::Result<Resource<types::FutureIncomingResponse>, types::ErrorCode>;

/// Links `outgoing-handler`, which sends through `connector`.
pub(crate) fn link_client(linker: &mut Linker<CallState>, connector: Arc<Connector>) -> Result<()> {
    linker.instance(HANDLE.interface)?.func_wrap(
        HANDLE.name,
        move |mut store: StoreContextMut<'_, CallState>,
              (request, options): (Resource<types::OutgoingRequest>, Option<Resource<types::RequestOptions>>)|
              -> Result<(Sent,)> {
            let state = store.data_mut();
            if let Err(refusal) = enter(state, &connector, &request)? {
                state.table.delete(request)?;
                return Ok((Err(refusal),));
            }
            match outgoing_handler::Host::handle(&mut http(state), request, options) {
                Ok(response) => Ok((Ok(response),)),
                Err(error) => Ok((Err(error.downcast()?),)),
            }
        },
    )
}

/// Enters the guard for `request`, and arms the store to send it.
fn enter(
    state: &mut CallState,
    connector: &Arc<Connector>,
    request: &Resource<types::OutgoingRequest>,
) -> Result<std::result::Result<(), types::ErrorCode>> {
    let target = match target(state.table.get(request)?) {
        Ok(target) => target,
        Err(Invalid::Method) => return Ok(Err(types::ErrorCode::HttpRequestMethodInvalid)),
        Err(Invalid::Scheme) => return Ok(Err(types::ErrorCode::HttpProtocolError)),
        Err(Invalid::Uri) => return Ok(Err(types::ErrorCode::HttpRequestUriInvalid)),
    };
    let call = state.call().clone();
    match call.enter(HANDLE, Action::HttpSend, &target.resource()) {
        Ok(permit) => {
            let connector = connector.clone();
            arm(state, Armed { connector, call, function: HANDLE, target, span: permit.span });
            Ok(Ok(()))
        }
        Err(denial) => {
            refused(&call, &denial);
            Ok(Err(types::ErrorCode::HttpRequestDenied))
        }
    }
}

fn target(request: &types::OutgoingRequest) -> std::result::Result<Target, Invalid> {
    let method = request.method.clone().try_into().map_err(|_| Invalid::Method)?;
    let scheme = match &request.scheme {
        None => None,
        Some(types::Scheme::Http) => Some(Scheme::HTTP),
        Some(types::Scheme::Https) => Some(Scheme::HTTPS),
        Some(types::Scheme::Other(_)) => return Err(Invalid::Scheme),
    };
    Target::read(method, scheme.as_ref(), request.authority.as_deref(), request.path_with_query.as_deref())
}
