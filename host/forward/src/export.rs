//! The exports of a component, and how they are called.

use std::{future::poll_fn, sync::Arc};

use tracing::Instrument as _;
use wasmtime::{
    AsContextMut as _,
    component::{Accessor, ComponentExportIndex, ComponentNamedList, Instance, Lift, Lower, TypedFunc},
};
use witan_capability::{Action, CallError, CallState, HostFunction, Permit, Resource};
use witan_engine::{Invocation, Service};

use crate::{Caller, Run, run::Parts, twin};

/// A function of an interface, and of its twin.
pub(crate) struct Export {
    pub(crate) interface: &'static str,
    pub(crate) twin: &'static str,
    pub(crate) name: &'static str,
    /// What the resource is called that the twin gives instead of a stream.
    pub(crate) run: Option<&'static twin::Names>,
}

impl Export {
    pub(crate) const fn host_function(&self) -> HostFunction {
        HostFunction::new(self.interface, self.name)
    }

    pub(crate) const fn host_twin(&self) -> HostFunction {
        HostFunction::new(self.twin, self.name)
    }

    /// Whether `instance` exports the interface itself rather than its twin.
    pub(crate) fn is_async(&self, accessor: &Accessor<CallState>, instance: Instance) -> bool {
        index(accessor, instance, self.interface, self.name).is_some()
    }

    /// The function of the interface.
    pub(crate) fn function<P, R>(
        &self,
        accessor: &Accessor<CallState>,
        instance: Instance,
    ) -> wasmtime::Result<TypedFunc<P, R>>
    where
        P: ComponentNamedList + Lower,
        R: ComponentNamedList + Lift,
    {
        find(accessor, instance, self.interface, self.name)
    }

    /// The function of the twin.
    pub(crate) fn twin<P, R>(
        &self,
        accessor: &Accessor<CallState>,
        instance: Instance,
    ) -> wasmtime::Result<TypedFunc<P, R>>
    where
        P: ComponentNamedList + Lower,
        R: ComponentNamedList + Lift,
    {
        find(accessor, instance, self.twin, self.name)
    }
}

fn index(
    accessor: &Accessor<CallState>,
    instance: Instance,
    interface: &str,
    name: &str,
) -> Option<ComponentExportIndex> {
    accessor.with(|mut store| {
        let interface = instance.get_export_index(store.as_context_mut(), None, interface)?;
        instance.get_export_index(store.as_context_mut(), Some(&interface), name)
    })
}

/// The exported function `name` of `interface`.
pub(crate) fn find<P, R>(
    accessor: &Accessor<CallState>,
    instance: Instance,
    interface: &str,
    name: &str,
) -> wasmtime::Result<TypedFunc<P, R>>
where
    P: ComponentNamedList + Lower,
    R: ComponentNamedList + Lift,
{
    let Some(index) = index(accessor, instance, interface, name) else {
        return Err(CallError::Invalid(format!("the component does not export `{interface}#{name}`")).into());
    };
    accessor.with(|mut store| instance.get_typed_func(store.as_context_mut(), index))
}

/// Waits until the guest has nothing left to do, so that its instance may serve another call.
pub(crate) async fn finish(accessor: &Accessor<CallState>) -> wasmtime::Result<()> {
    poll_fn(|context| accessor.poll_no_interesting_tasks(context)).await;
    Ok(())
}

fn enter(service: &Service, caller: &Caller<'_>) -> Result<Option<Permit>, CallError> {
    Ok(caller.enter(Action::ComponentCall, &Resource::Component(service.name()))?)
}

fn span(permit: Option<Permit>) -> tracing::Span {
    permit.map_or_else(tracing::Span::none, |permit| permit.span)
}

/// Calls a function whose answer is all that it gives.
pub(crate) async fn call<I: Invocation>(
    service: &Arc<Service>,
    caller: &Caller<'_>,
    invocation: I,
) -> Result<I::Output, CallError> {
    let permit = enter(service, caller)?;
    service.call_plain(caller.context(), caller.account(), invocation).instrument(span(permit)).await
}

/// Calls a function that streams.
pub(crate) async fn call_run<I, T, S, E>(
    service: &Arc<Service>,
    caller: &Caller<'_>,
    invocation: I,
) -> Result<Run<T, S, E>, CallError>
where
    I: Invocation<Output = Parts<T, S, E>>,
{
    let permit = enter(service, caller)?;
    let call = service.call(caller.context(), caller.account(), invocation);
    let (parts, ended) = call.instrument(span(permit)).await?;
    Ok(Run::held(parts, ended))
}
