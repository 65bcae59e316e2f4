//! One forwarded function.

use std::sync::Arc;

use tracing::Instrument as _;
use wasmtime::{
    AsContextMut as _, StoreContextMut,
    component::{Accessor, Func, Instance, Val},
};
use witan_capability::{Action, Call, CallError, CallState, HostFunction, Permit, Resource};
use witan_engine::{Invocation, Reply, Service};

use crate::{
    parcel::{Parcel, Side},
    passage::{Fate, Pump},
    resource::{self, Cell},
    shape::Signature,
};

/// Which store of the callee a call goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// One of its own.
    Fresh,
    /// The one that the caller's store has with the callee.
    Session,
}

/// A function of the caller that calls one of the callee.
pub(crate) struct Forward {
    function: HostFunction,
    signature: Arc<Signature>,
    target: Arc<Service>,
    route: Route,
}

impl Forward {
    pub(crate) fn new(function: HostFunction, signature: Signature, target: Arc<Service>, route: Route) -> Self {
        Self { function, signature: Arc::new(signature), target, route }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.function.name
    }

    /// Takes `params` out of the caller's store. A denial ends the store.
    pub(crate) fn begin(&self, mut store: StoreContextMut<'_, CallState>, params: &[Val]) -> wasmtime::Result<Begun> {
        let call = store.data().call().clone();
        let permit = call.enter(self.function, Action::ComponentCall, &Resource::Component(self.target.name()))?;
        let session = (self.route == Route::Session).then(|| resource::cell(store.data_mut(), &self.target));
        let (shapes, params) = (&self.signature.params, params.to_vec());
        let params = Parcel::pack(store, Side::Caller, shapes, params, &call.account, &Pump::unattended())?;
        Ok(Begun { call, permit, session, params })
    }

    /// Calls the callee. Whatever keeps the call from being answered ends the caller's store: a third party's
    /// interface has no error of ours to say it with.
    pub(crate) async fn call(&self, begun: Begun) -> Result<Answer, CallError> {
        let Begun { call, permit, session, params } = begun;
        let answer = async {
            match session {
                Some(cell) => self.call_session(&cell, &call, params).await,
                None => self.call_fresh(&call, params).await,
            }
        };
        answer.instrument(permit.span).await
    }

    /// Puts the answer into the caller's store.
    pub(crate) fn finish(
        &self,
        store: StoreContextMut<'_, CallState>,
        answer: Answer,
        results: &mut [Val],
    ) -> wasmtime::Result<()> {
        let values = answer.results.unpack(store, Side::Caller, &self.signature.results, Some(&answer.fate))?;
        for (result, value) in results.iter_mut().zip(values) {
            *result = value;
        }
        Ok(())
    }

    async fn call_fresh(&self, call: &Call, params: Parcel) -> Result<Answer, CallError> {
        let invocation = self.invocation(params, true);
        let (results, ended) = self.target.call(&call.context, &call.account, invocation).await?;
        let fate = Fate::of_call(ended, results.passages());
        Ok(Answer { results, fate })
    }

    async fn call_session(&self, cell: &Cell, call: &Call, params: Parcel) -> Result<Answer, CallError> {
        let session = resource::session(cell, &self.target, call).await?;
        let results = session.call(self.invocation(params, false)).await?;
        Ok(Answer { results, fate: Fate::of_session(session) })
    }

    fn invocation(&self, params: Parcel, attended: bool) -> Export {
        Export { function: self.function, signature: self.signature.clone(), params, attended }
    }
}

/// A call that has left the caller's store.
pub(crate) struct Begun {
    call: Call,
    permit: Permit,
    session: Option<Cell>,
    params: Parcel,
}

/// What the callee answered.
pub(crate) struct Answer {
    results: Parcel,
    fate: Fate,
}

/// The call of an export, in the callee's store.
struct Export {
    function: HostFunction,
    signature: Arc<Signature>,
    params: Parcel,
    /// Whether the store is there for this call alone, and so goes when it is done.
    attended: bool,
}

impl Invocation for Export {
    type Output = Parcel;

    async fn run(
        self,
        accessor: &Accessor<CallState>,
        instance: Instance,
        reply: Reply<Parcel>,
    ) -> wasmtime::Result<()> {
        let Self { function, signature, params, attended } = self;
        let (export, params, account) = accessor.with(|mut store| -> wasmtime::Result<_> {
            let mut store = store.as_context_mut();
            let account = store.data().call().account.clone();
            let export = find(&mut store, instance, function)?;
            let params = params.unpack(store, Side::Callee, &signature.params, None)?;
            Ok((export, params, account))
        })?;
        let mut results = vec![Val::Bool(false); signature.results.len()];
        export.call_concurrent(accessor, &params, &mut results).await?;
        let (pump, mut all_ended) = Pump::attended();
        let parcel = accessor.with(|mut store| {
            Parcel::pack(store.as_context_mut(), Side::Callee, &signature.results, results, &account, &pump)
        })?;
        drop(pump);
        reply.send(parcel);
        if attended {
            // All streams have ended.
            all_ended.recv().await;
        }
        Ok(())
    }
}

fn find(
    store: &mut StoreContextMut<'_, CallState>,
    instance: Instance,
    function: HostFunction,
) -> Result<Func, CallError> {
    instance
        .get_export_index(&mut *store, None, function.interface)
        .and_then(|interface| instance.get_export_index(&mut *store, Some(&interface), function.name))
        .and_then(|index| instance.get_func(&mut *store, index))
        .ok_or_else(|| CallError::Internal(format!("the callee no longer exports `{function}`")))
}
