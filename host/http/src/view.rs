//! What the host functions of wasi:http see of a store.

use std::sync::Arc;

use http::{HeaderName, Request, Response};
use tracing::{Instrument as _, Span};
use wasmtime::component::HasData;
use wasmtime_wasi_http::p2::bindings::http::types as p2;
use wasmtime_wasi_http::p3::bindings::http::types as p3;
use wasmtime_wasi_http::{
    Error, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks,
};
use witan_capability::{Account, Call, CallState, HostFunction, LimitExceeded, Meter, Permit};

use crate::client::Connector;
use crate::headers;
use crate::queue::Queues;
use crate::target::Target;

/// Bytes that a guest may hand over in one write to a body.
const CHUNK: usize = 64 << 10;

/// A store, as the guarded implementations of wasi:http's interfaces see it.
pub(crate) struct View<'a>(pub(crate) &'a mut CallState);

/// Marks the data of [`View`] for the linker.
pub(crate) struct Guarded;

impl HasData for Guarded {
    type Data<'a> = View<'a>;
}

impl Guarded {
    pub(crate) fn view(state: &mut CallState) -> View<'_> {
        View(state)
    }
}

impl View<'_> {
    /// Enters a function of the baseline.
    pub(crate) fn enter(&self, function: HostFunction) -> Permit {
        self.0.call().enter_baseline(function)
    }

    /// What wasmtime's implementation works on.
    pub(crate) fn http(&mut self) -> WasiHttpCtxView<'_> {
        http(self.0)
    }

    /// Charges `bytes` of headers that the host keeps for the guest.
    pub(crate) fn charge(&mut self, bytes: usize) -> Result<(), LimitExceeded> {
        slot(self.0).headers.charge(bytes as u64)
    }

    pub(crate) fn queues(&mut self) -> &mut Queues {
        &mut slot(self.0).queues
    }
}

/// What wasmtime's implementation of wasi:http works on.
pub(crate) fn http(state: &mut CallState) -> WasiHttpCtxView<'_> {
    let (slot, table) = state.slot_and_table(Slot::new);
    WasiHttpCtxView { hooks: &mut slot.hooks, table, ctx: &mut slot.context }
}

/// Lets the next request of wasmtime's implementation out. Only who entered the guard for it calls this.
pub(crate) fn arm(state: &mut CallState, request: Armed) {
    slot(state).hooks.armed = Some(request);
}

fn slot(state: &mut CallState) -> &mut Slot {
    state.slot(Slot::new)
}

/// What wasi:http keeps for a call.
struct Slot {
    context: WasiHttpCtx,
    hooks: Hooks,
    headers: Charged,
    queues: Queues,
}

impl Slot {
    fn new(call: &Call) -> Self {
        let mut context = WasiHttpCtx::new();
        context.set_field_size_limit(headers::SECTION);
        Self {
            context,
            hooks: Hooks { armed: None },
            headers: Charged { account: call.account.clone(), bytes: 0 },
            queues: Queues::new(call.account.clone()),
        }
    }
}

/// Memory that is given back when the call ends.
struct Charged {
    account: Arc<Account>,
    bytes: u64,
}

impl Charged {
    fn charge(&mut self, bytes: u64) -> Result<(), LimitExceeded> {
        self.account.charge(Meter::Memory, bytes)?;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Charged {
    fn drop(&mut self) {
        self.account.release(Meter::Memory, self.bytes);
    }
}

/// A request that policy allowed.
pub(crate) struct Armed {
    pub(crate) connector: Arc<Connector>,
    pub(crate) call: Call,
    pub(crate) function: HostFunction,
    pub(crate) target: Target,
    pub(crate) span: Span,
}

/// Where wasmtime's implementation asks us. It sends nothing but what was armed, so that a way to a request that does
/// not go through the guard ends in a refusal.
struct Hooks {
    armed: Option<Armed>,
}

type Sending = Box<
    dyn Future<Output = Result<(Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>), Error>> + Send,
>;

impl WasiHttpHooks for Hooks {
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        headers::is_forbidden(name)
    }

    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        headers::filter()
    }

    fn set_host_header(&mut self) -> bool {
        false
    }

    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _response_processed: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Sending {
        let Some(Armed { connector, call, function, target, span }) = self.armed.take() else {
            return Box::new(async { Err(Error::HttpRequestDenied) });
        };
        let sending = async move { connector.send(&call, function, &target, request, options).await };
        Box::new(sending.instrument(span))
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK
    }

    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK
    }

    fn p2_error_from_hyper(&mut self, _: &hyper::Error) -> p2::ErrorCode {
        p2::ErrorCode::HttpProtocolError
    }

    fn p3_error_from_hyper(&mut self, _: &hyper::Error) -> p3::ErrorCode {
        p3::ErrorCode::HttpProtocolError
    }
}
