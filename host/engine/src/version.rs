//! One version of a component, ready to be instantiated.

use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::RwLock;
use tokio::sync::Notify;
use wasmtime::{
    Store,
    component::{Instance, InstancePre},
};
use witan_capability::{Call, CallState, Component, Limit};

use crate::{Engine, instances::Instances};

/// Compiled and linked bytes, with the instances that are kept of them.
pub struct Version {
    pub(crate) engine: Arc<Engine>,
    component: Arc<Component>,
    pre: InstancePre<CallState>,
    pub(crate) instances: Instances,
    /// What [`Self::resolved`] keeps, each of another type: as many as there are functions that are called.
    resolved: RwLock<Vec<Arc<dyn Any + Send + Sync>>>,
    calls: AtomicUsize,
    idle: Notify,
}

/// A store that runs one call, and its instance.
pub(crate) struct Leased {
    pub(crate) store: Store<CallState>,
    pub(crate) instance: Instance,
    /// Calls that it has served before this one.
    pub(crate) calls: u32,
}

impl Drop for Leased {
    fn drop(&mut self) {
        // What a capability keeps for the call goes before the store's own streams do, so that they can tell that they
        // did not end but were torn down.
        self.store.data_mut().park();
    }
}

impl Leased {
    pub(crate) fn tenant(&self) -> &str {
        self.store.data().call().context.tenant()
    }
}

impl Version {
    /// A version of `component` whose instances are kept as `instances` says.
    #[must_use]
    pub fn new(
        engine: Arc<Engine>,
        component: Arc<Component>,
        pre: InstancePre<CallState>,
        instances: witan_system::Instances,
    ) -> Arc<Self> {
        Arc::new(Self {
            engine,
            component,
            pre,
            instances: Instances::new(instances),
            resolved: RwLock::default(),
            calls: AtomicUsize::new(0),
            idle: Notify::new(),
        })
    }

    /// Whose version it is.
    #[must_use]
    pub fn component(&self) -> &Arc<Component> {
        &self.component
    }

    /// What is instantiated, with its exports and imports.
    #[must_use]
    pub fn pre(&self) -> &InstancePre<CallState> {
        &self.pre
    }

    /// What calls of one kind need to know of the code, such as where an export lies: found by `resolve` once, and
    /// kept as long as the version. Each kind has a type of its own.
    pub fn resolved<T: Any + Send + Sync>(&self, resolve: impl FnOnce(&InstancePre<CallState>) -> T) -> Arc<T> {
        let kept = self.resolved.read().iter().find(|kept| kept.is::<T>()).cloned();
        if let Some(kept) = kept.and_then(|kept| kept.downcast().ok()) {
            return kept;
        }
        let made = Arc::new(resolve(&self.pre));
        // Another call may have been as quick; the first one that is found counts.
        self.resolved.write().push(made.clone());
        made
    }

    /// Calls under way.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::Acquire)
    }

    /// Resolves when no call is under way.
    pub async fn drained(&self) {
        loop {
            let idle = self.idle.notified();
            if self.calls() == 0 {
                return;
            }
            idle.await;
        }
    }

    /// A store for `call`: a kept one of the same tenant if there is one, else a fresh one.
    pub(crate) async fn lease(&self, call: Call) -> wasmtime::Result<Leased> {
        if let Some(mut leased) = self.instances.take(&call) {
            leased.store.data_mut().rebind(call)?;
            self.arm(&mut leased.store);
            return Ok(leased);
        }
        let mut store = Store::new(self.engine.wasmtime(), CallState::new(call));
        store.limiter(|state| state);
        self.arm(&mut store);
        let instance = self.pre.instantiate_async(&mut store).await?;
        Ok(Leased { store, instance, calls: 0 })
    }

    /// Keeps the instance of a call that ended well, where reuse allows.
    pub(crate) fn give_back(&self, leased: Leased) {
        self.instances.keep(leased);
    }

    fn arm(&self, store: &mut Store<CallState>) {
        let limits = store.data().call().account.limits();
        let (fuel, handles) = (Limit::CallBytes.allowed(limits), Limit::Handles.allowed(limits));
        store.set_hostcall_fuel(usize::try_from(fuel).unwrap_or(usize::MAX));
        store.set_max_component_handles(usize::try_from(handles).unwrap_or(usize::MAX));
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
    }

    pub(crate) fn enter(self: &Arc<Self>) -> InFlight {
        self.calls.fetch_add(1, Ordering::AcqRel);
        InFlight(self.clone())
    }
}

/// Counts a call of a version as long as it lives.
pub(crate) struct InFlight(pub(crate) Arc<Version>);

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.0.calls.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}
