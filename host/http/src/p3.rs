//! wasi:http 0.3: `types` behind the guard, and `client`.

use std::sync::Arc;

use wasmtime::AsContextMut as _;
use wasmtime::component::{Access, Accessor, FutureReader, Linker, Resource, StreamReader};
use wasmtime_wasi::TrappableError;
use wasmtime_wasi_http::p3::bindings::http::{client, types};
use wasmtime_wasi_http::{FieldMap, WasiHttp};
use witan_capability::{Action, CallState, HostFunction};

use crate::client::{Connector, refused};
use crate::headers;
use crate::target::{Invalid, Target};
use crate::view::{Armed, Guarded, arm, http};

type Result<T> = wasmtime::Result<T>;
type Maybe<T> = wasmtime::Result<std::result::Result<T, ()>>;
type HeaderResult<T> = std::result::Result<T, TrappableError<types::HeaderError>>;
type OptionsResult<T> = std::result::Result<T, TrappableError<types::RequestOptionsError>>;
type Sent = FutureReader<std::result::Result<(), types::ErrorCode>>;
type Trailers = FutureReader<std::result::Result<Option<Resource<FieldMap>>, types::ErrorCode>>;
type Values = Vec<Vec<u8>>;
type Duration = u64;

/// The interface of every function in this file but one.
const INTERFACE: &str = "wasi:http/types@0.3.0";

guarded! {
    /// Functions without authority that need no more of the store than its data.
    PLAIN of "wasi:http/types@0.3.0";

    impl types::HostFields [drop FieldMap] {
        "[constructor]fields" => fn new() -> Result<Resource<FieldMap>>;
        "[static]fields.from-list" => fn from_list(entries: Vec<(String, Vec<u8>)>) -> HeaderResult<Resource<FieldMap>>,
            charging |_view| entries.iter().map(|(name, value)| headers::entry_size(name.len(), value.len())).sum();
        "[method]fields.get" => fn get(fields: Resource<FieldMap>, name: String) -> Result<Values>;
        "[method]fields.has" => fn has(fields: Resource<FieldMap>, name: String) -> Result<bool>;
        "[method]fields.set" => fn set(fields: Resource<FieldMap>, name: String, values: Values) -> HeaderResult<()>,
            charging |_view| values.iter().map(|value| headers::entry_size(name.len(), value.len())).sum();
        "[method]fields.delete" => fn delete(fields: Resource<FieldMap>, name: String) -> HeaderResult<()>;
        "[method]fields.get-and-delete" =>
            fn get_and_delete(fields: Resource<FieldMap>, name: String) -> HeaderResult<Values>;
        "[method]fields.append" => fn append(fields: Resource<FieldMap>, name: String, value: Vec<u8>) -> HeaderResult<()>,
            charging |_view| headers::entry_size(name.len(), value.len());
        "[method]fields.copy-all" => fn copy_all(fields: Resource<FieldMap>) -> Result<Vec<(String, Vec<u8>)>>;
        "[method]fields.clone" => fn clone(fields: Resource<FieldMap>) -> Result<Resource<FieldMap>>,
            charging |view| headers::size(view.0.table.get(&fields)?);
    }

    impl types::HostRequest {
        "[method]request.get-method" => fn get_method(this: Resource<types::Request>) -> Result<types::Method>;
        "[method]request.set-method" => fn set_method(this: Resource<types::Request>, method: types::Method) -> Maybe<()>;
        "[method]request.get-path-with-query" =>
            fn get_path_with_query(this: Resource<types::Request>) -> Result<Option<String>>;
        "[method]request.set-path-with-query" =>
            fn set_path_with_query(this: Resource<types::Request>, path: Option<String>) -> Maybe<()>;
        "[method]request.get-scheme" => fn get_scheme(this: Resource<types::Request>) -> Result<Option<types::Scheme>>;
        "[method]request.set-scheme" =>
            fn set_scheme(this: Resource<types::Request>, scheme: Option<types::Scheme>) -> Maybe<()>;
        "[method]request.get-authority" => fn get_authority(this: Resource<types::Request>) -> Result<Option<String>>;
        "[method]request.set-authority" =>
            fn set_authority(this: Resource<types::Request>, authority: Option<String>) -> Maybe<()>;
        "[method]request.get-options" =>
            fn get_options(this: Resource<types::Request>) -> Result<Option<Resource<types::RequestOptions>>>;
        "[method]request.get-headers" => fn get_headers(this: Resource<types::Request>) -> Result<Resource<FieldMap>>;
    }

    impl types::HostRequestOptions [drop types::RequestOptions] {
        "[constructor]request-options" => fn new() -> Result<Resource<types::RequestOptions>>;
        "[method]request-options.get-connect-timeout" =>
            fn get_connect_timeout(this: Resource<types::RequestOptions>) -> Result<Option<Duration>>;
        "[method]request-options.set-connect-timeout" =>
            fn set_connect_timeout(this: Resource<types::RequestOptions>, time: Option<Duration>) -> OptionsResult<()>;
        "[method]request-options.get-first-byte-timeout" =>
            fn get_first_byte_timeout(this: Resource<types::RequestOptions>) -> Result<Option<Duration>>;
        "[method]request-options.set-first-byte-timeout" =>
            fn set_first_byte_timeout(this: Resource<types::RequestOptions>, time: Option<Duration>) -> OptionsResult<()>;
        "[method]request-options.get-between-bytes-timeout" =>
            fn get_between_bytes_timeout(this: Resource<types::RequestOptions>) -> Result<Option<Duration>>;
        "[method]request-options.set-between-bytes-timeout" =>
            fn set_between_bytes_timeout(this: Resource<types::RequestOptions>, time: Option<Duration>) -> OptionsResult<()>;
        "[method]request-options.clone" =>
            fn clone(this: Resource<types::RequestOptions>) -> Result<Resource<types::RequestOptions>>;
    }

    impl types::HostResponse {
        "[method]response.get-status-code" => fn get_status_code(this: Resource<types::Response>) -> Result<types::StatusCode>;
        "[method]response.set-status-code" =>
            fn set_status_code(this: Resource<types::Response>, status: types::StatusCode) -> Maybe<()>;
        "[method]response.get-headers" => fn get_headers(this: Resource<types::Response>) -> Result<Resource<FieldMap>>;
    }

    impl types::Host {
        also {
            fn convert_error_code(&mut self, error: TrappableError<types::ErrorCode>) -> Result<types::ErrorCode> {
                error.downcast()
            }

            fn convert_header_error(&mut self, error: TrappableError<types::HeaderError>) -> Result<types::HeaderError> {
                error.downcast()
            }

            fn convert_request_options_error(
                &mut self,
                error: TrappableError<types::RequestOptionsError>,
            ) -> Result<types::RequestOptionsError> {
                error.downcast()
            }
        }
    }
}

/// Functions without authority that work on the streams of the store.
pub(crate) const STREAMING: &[HostFunction] = &[REQUEST_NEW, REQUEST_CONSUME, RESPONSE_NEW, RESPONSE_CONSUME];

const REQUEST_NEW: HostFunction = HostFunction::new(INTERFACE, "[static]request.new");
const REQUEST_CONSUME: HostFunction = HostFunction::new(INTERFACE, "[static]request.consume-body");
const RESPONSE_NEW: HostFunction = HostFunction::new(INTERFACE, "[static]response.new");
const RESPONSE_CONSUME: HostFunction = HostFunction::new(INTERFACE, "[static]response.consume-body");

/// The store as wasmtime's implementation takes it, once `function` was entered.
fn entered<'a>(
    store: &'a mut Access<'_, CallState, Guarded>,
    function: HostFunction,
) -> Access<'a, CallState, WasiHttp> {
    let _permit = store.get().enter(function);
    plain(store)
}

fn plain<'a>(store: &'a mut Access<'_, CallState, Guarded>) -> Access<'a, CallState, WasiHttp> {
    Access::<CallState, WasiHttp>::new(store.as_context_mut(), http)
}

impl types::HostRequestWithStore<CallState> for Guarded {
    fn new(
        mut store: Access<'_, CallState, Self>,
        headers: Resource<FieldMap>,
        contents: Option<StreamReader<u8>>,
        trailers: Trailers,
        options: Option<Resource<types::RequestOptions>>,
    ) -> Result<(Resource<types::Request>, Sent)> {
        let store = entered(&mut store, REQUEST_NEW);
        <WasiHttp as types::HostRequestWithStore<_>>::new(store, headers, contents, trailers, options)
    }

    fn consume_body(
        mut store: Access<'_, CallState, Self>,
        this: Resource<types::Request>,
        processed: Sent,
    ) -> Result<(StreamReader<u8>, Trailers)> {
        let store = entered(&mut store, REQUEST_CONSUME);
        <WasiHttp as types::HostRequestWithStore<_>>::consume_body(store, this, processed)
    }

    fn drop(mut store: Access<'_, CallState, Self>, this: Resource<types::Request>) -> Result<()> {
        <WasiHttp as types::HostRequestWithStore<_>>::drop(plain(&mut store), this)
    }
}

impl types::HostResponseWithStore<CallState> for Guarded {
    fn new(
        mut store: Access<'_, CallState, Self>,
        headers: Resource<FieldMap>,
        contents: Option<StreamReader<u8>>,
        trailers: Trailers,
    ) -> Result<(Resource<types::Response>, Sent)> {
        let store = entered(&mut store, RESPONSE_NEW);
        <WasiHttp as types::HostResponseWithStore<_>>::new(store, headers, contents, trailers)
    }

    fn consume_body(
        mut store: Access<'_, CallState, Self>,
        this: Resource<types::Response>,
        processed: Sent,
    ) -> Result<(StreamReader<u8>, Trailers)> {
        let store = entered(&mut store, RESPONSE_CONSUME);
        <WasiHttp as types::HostResponseWithStore<_>>::consume_body(store, this, processed)
    }

    fn drop(mut store: Access<'_, CallState, Self>, this: Resource<types::Response>) -> Result<()> {
        <WasiHttp as types::HostResponseWithStore<_>>::drop(plain(&mut store), this)
    }
}

/// Links `types`.
pub(crate) fn link_types(linker: &mut Linker<CallState>) -> Result<()> {
    types::add_to_linker::<CallState, Guarded>(linker, Guarded::view)
}

/// The function that sends a request.
pub(crate) const SEND: HostFunction = HostFunction::new("wasi:http/client@0.3.0", "send");

type Answer = std::result::Result<Resource<types::Response>, types::ErrorCode>;

/// Links `client`, which sends through `connector`.
pub(crate) fn link_client(linker: &mut Linker<CallState>, connector: Arc<Connector>) -> Result<()> {
    linker.instance(SEND.interface)?.func_wrap_concurrent(
        SEND.name,
        move |store: &Accessor<CallState>, (request,): (Resource<types::Request>,)| {
            let connector = connector.clone();
            Box::pin(async move { send(store, connector, request).await.map(|answer| (answer,)) })
        },
    )
}

async fn send(
    store: &Accessor<CallState>,
    connector: Arc<Connector>,
    request: Resource<types::Request>,
) -> Result<Answer> {
    let refusal = store.with(|mut store| {
        let refusal = enter(store.data_mut(), connector, &request)?;
        if refusal.is_some() {
            let store = Access::<CallState, WasiHttp>::new(store.as_context_mut(), http);
            let request = Resource::new_own(request.rep());
            <WasiHttp as types::HostRequestWithStore<_>>::drop(store, request)?;
        }
        wasmtime::error::Ok(refusal)
    })?;
    if let Some(refusal) = refusal {
        return Ok(Err(refusal));
    }
    // Nothing is awaited between arming above and the first poll of this, which takes what was armed.
    let store = store.with_getter::<WasiHttp>(http);
    match <WasiHttp as client::HostWithStore<_>>::send(&store, request).await {
        Ok(response) => Ok(Ok(response)),
        Err(error) => Ok(Err(error.downcast()?)),
    }
}

/// Enters the guard for `request`, and arms the store to send it. Returns the refusal, if it is refused.
fn enter(
    state: &mut CallState,
    connector: Arc<Connector>,
    request: &Resource<types::Request>,
) -> Result<Option<types::ErrorCode>> {
    let request = state.table.get(request)?;
    let authority = request.authority.as_ref().map(http::uri::Authority::as_str);
    let path = request.path_with_query.as_ref().map(http::uri::PathAndQuery::as_str);
    let target = match Target::read(request.method.clone(), request.scheme.as_ref(), authority, path) {
        Ok(target) => target,
        Err(Invalid::Method) => return Ok(Some(types::ErrorCode::HttpRequestMethodInvalid)),
        Err(Invalid::Scheme) => return Ok(Some(types::ErrorCode::HttpProtocolError)),
        Err(Invalid::Uri) => return Ok(Some(types::ErrorCode::HttpRequestUriInvalid)),
    };
    let call = state.call().clone();
    match call.enter(SEND, Action::HttpSend, &target.resource()) {
        Ok(permit) => {
            arm(state, Armed { connector, call, function: SEND, target, span: permit.span });
            Ok(None)
        }
        Err(denial) => {
            refused(&call, &denial);
            Ok(Some(types::ErrorCode::HttpRequestDenied))
        }
    }
}
