//! What a call holds of WASI, made when it first touches it.

use std::sync::{Arc, OnceLock};

use wasmtime::component::{HasData, ResourceTable};
use wasmtime_wasi::{
    WasiCtx, cli::WasiCliCtxView, clocks::WasiClocksCtxView, filesystem::WasiFilesystemCtxView, random::WasiRandomCtx,
    sockets::WasiSocketsCtxView,
};
use witan_capability::{Action, Call, CallState, HostFunction, Permit, Resource};

use crate::{files::Files, guard::Refusal, network::Network, process::Process};

/// Enough for any key or seed; a guest that wants more asks again, and pays for it in its own memory.
const RANDOM_BYTES: u64 = 1 << 20;

/// The slot of a store: wasmtime's context, which has no authority of its own, and what we know of each handle.
pub(crate) struct Wasi {
    pub(crate) call: Call,
    /// Made when something beyond streams is asked for: requests that are only answered never need one.
    context: Option<WasiCtx>,
    process: Option<Process>,
    pub(crate) exited: Arc<OnceLock<u8>>,
    pub(crate) files: Files,
    pub(crate) network: Arc<Network>,
}

impl Wasi {
    pub(crate) fn new(call: &Call) -> Self {
        Self {
            call: call.clone(),
            context: None,
            process: None,
            exited: Arc::default(),
            files: Files::default(),
            network: Arc::default(),
        }
    }

    pub(crate) fn replace_process(&mut self, process: Process) {
        self.exited = process.exited.clone();
        self.process = Some(process);
        self.context = None;
    }

    fn context(&mut self) -> &mut WasiCtx {
        self.context.get_or_insert_with(|| {
            let process = self.process.take().unwrap_or_else(|| Process::logged(&self.call));
            context(process, self.network.clone())
        })
    }
}

fn context(process: Process, network: Arc<Network>) -> WasiCtx {
    WasiCtx::builder()
        .max_random_size(RANDOM_BYTES)
        .allow_tcp(true)
        .allow_udp(true)
        .allow_ip_name_lookup(true)
        .socket_addr_check(move |address, used_for| {
            let permitted = network.permits(address, used_for);
            Box::pin(async move { permitted })
        })
        .args(&process.arguments)
        .stdin(process.stdin)
        .stdout(process.stdout)
        .stderr(process.stderr)
        .build()
}

/// Names [`View`] to the bindings.
pub(crate) struct Guarded;

impl HasData for Guarded {
    type Data<'a> = View<'a>;
}

/// What a host function gets to see of its store.
pub(crate) struct View<'a> {
    pub(crate) wasi: &'a mut Wasi,
    pub(crate) table: &'a mut ResourceTable,
}

/// The view of a store.
pub(crate) fn view(state: &mut CallState) -> View<'_> {
    let (wasi, table) = state.slot_and_table(Wasi::new);
    View { wasi, table }
}

/// wasmtime's view of the files of a store.
pub(crate) fn filesystem(state: &mut CallState) -> WasiFilesystemCtxView<'_> {
    let View { wasi, table } = view(state);
    WasiFilesystemCtxView { ctx: wasi.context().filesystem(), table }
}

/// wasmtime's view of the sockets of a store.
pub(crate) fn sockets(state: &mut CallState) -> WasiSocketsCtxView<'_> {
    let View { wasi, table } = view(state);
    WasiSocketsCtxView { ctx: wasi.context().sockets(), table }
}

/// wasmtime's view of the clocks of a store.
pub(crate) fn clocks(state: &mut CallState) -> WasiClocksCtxView<'_> {
    let View { wasi, table } = view(state);
    WasiClocksCtxView { ctx: wasi.context().clocks(), table }
}

/// wasmtime's view of the standard streams of a store.
pub(crate) fn cli(state: &mut CallState) -> WasiCliCtxView<'_> {
    let View { wasi, table } = view(state);
    WasiCliCtxView { ctx: wasi.context().cli(), table }
}

impl View<'_> {
    pub(crate) fn filesystem(&mut self) -> WasiFilesystemCtxView<'_> {
        WasiFilesystemCtxView { ctx: self.wasi.context().filesystem(), table: self.table }
    }

    pub(crate) fn sockets(&mut self) -> WasiSocketsCtxView<'_> {
        WasiSocketsCtxView { ctx: self.wasi.context().sockets(), table: self.table }
    }

    pub(crate) fn clocks(&mut self) -> WasiClocksCtxView<'_> {
        WasiClocksCtxView { ctx: self.wasi.context().clocks(), table: self.table }
    }

    pub(crate) fn cli(&mut self) -> WasiCliCtxView<'_> {
        WasiCliCtxView { ctx: self.wasi.context().cli(), table: self.table }
    }

    pub(crate) fn random(&mut self) -> &mut WasiRandomCtx {
        self.wasi.context().random()
    }

    pub(crate) fn io(&mut self) -> &mut ResourceTable {
        self.table
    }

    /// Enters a function without authority.
    #[allow(clippy::unnecessary_wraps, reason = "one shape for all guards")]
    pub(crate) fn baseline(&self, function: HostFunction) -> Result<Permit, Refusal> {
        Ok(self.wasi.call.enter_baseline(function))
    }

    /// Enters the end of the guest by its own wish, and keeps its status.
    pub(crate) fn exiting(&self, function: HostFunction, status: u8) -> Result<Permit, Refusal> {
        let _first = self.wasi.exited.set(status);
        self.baseline(function)
    }

    /// Enters a function that reads the wall clock.
    pub(crate) fn wall_clock(&self, function: HostFunction) -> Result<Permit, Refusal> {
        self.wasi.enter(function, Action::WallClock, &Resource::None)
    }
}

impl Wasi {
    /// Enters a function; a refusal is in the log with its decision, since WASI's codes carry none.
    pub(crate) fn enter(
        &self,
        function: HostFunction,
        action: Action,
        resource: &Resource<'_>,
    ) -> Result<Permit, Refusal> {
        self.call.enter(function, action, resource).map_err(|denial| {
            tracing::info!(
                component = %self.call.component.name,
                trace = %self.call.context.trace(),
                decision = %denial.decision,
                %function,
                "refused: {}",
                denial.reason
            );
            Refusal::Denied(denial)
        })
    }
}
