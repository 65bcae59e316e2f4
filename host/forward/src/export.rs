//! The exports of a component, and how they are called.
//!
//! Where an export lies and whether its type is right is found once for each version of a component. Finding it for
//! each call would cost as much as a small call itself.

use std::{
    marker::PhantomData,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tracing::Instrument as _;
use wasmtime::component::{
    Accessor, Component, ComponentExportIndex, ComponentNamedList, Instance, Lift, Lower, TypedFunc,
};
use witan_capability::{Action, CallError, CallState, HostFunction, Permit, Resource};
use witan_engine::{Invocation, Reply, Service, Version};

use crate::{Caller, Run, run::Parts};

/// A function of an interface, and of its twin.
pub(crate) struct Export {
    pub(crate) interface: &'static str,
    pub(crate) twin: &'static str,
    pub(crate) name: &'static str,
}

impl Export {
    pub(crate) const fn host_function(&self) -> HostFunction {
        HostFunction::new(self.interface, self.name)
    }

    pub(crate) const fn host_twin(&self) -> HostFunction {
        HostFunction::new(self.twin, self.name)
    }
}

/// An exported function that takes `P` and gives `R`.
pub(crate) struct Function<P, R> {
    index: ComponentExportIndex,
    /// Whether the export has been found to be of this type.
    checked: AtomicBool,
    typed: PhantomData<fn(P) -> R>,
}

impl<P, R> Function<P, R>
where
    P: ComponentNamedList + Lower + 'static,
    R: ComponentNamedList + Lift + 'static,
{
    /// Finds `name` in the exported `interface`.
    pub(crate) fn find(code: &Component, interface: &str, name: &str) -> Option<Self> {
        let interface = code.get_export_index(None, interface)?;
        let index = code.get_export_index(Some(&interface), name)?;
        Some(Self { index, checked: AtomicBool::new(false), typed: PhantomData })
    }

    /// Calls it in `instance`.
    pub(crate) async fn call(
        &self,
        accessor: &Accessor<CallState>,
        instance: Instance,
        params: P,
    ) -> wasmtime::Result<R> {
        self.of(accessor, instance)?.call_concurrent(accessor, params).await
    }

    fn of(&self, accessor: &Accessor<CallState>, instance: Instance) -> wasmtime::Result<TypedFunc<P, R>> {
        accessor.with(|mut store| {
            if !self.checked.load(Ordering::Acquire) {
                let function = instance.get_typed_func(&mut store, self.index)?;
                self.checked.store(true, Ordering::Release);
                return Ok(function);
            }
            let Some(function) = instance.get_func(&mut store, self.index) else {
                return Err(wasmtime::format_err!("the instance is of another component than the export"));
            };
            // SAFETY: an index belongs to one compiled component, and is found in no instance of another. The type of
            // its export was checked against `P` and `R` in an instance of that component, and is the same in each:
            // what could differ are host resources, which neither `P` nor `R` ever names.
            Ok(unsafe { TypedFunc::new_unchecked(function) })
        })
    }
}

/// Which of its two faces a component exports.
pub(crate) enum Face<A, T> {
    /// The interface itself.
    Async(A),
    /// The synchronous twin.
    Twin(T),
}

/// One call of a function, whatever the face.
pub(crate) trait FunctionCall: Send + 'static {
    /// What is found once for each version.
    type Found: Send + Sync + 'static;

    /// What the caller gets.
    type Output: Send + 'static;

    /// The function.
    const EXPORT: &'static Export;

    /// Finds it in the exports of a component.
    fn find(code: &Component) -> Option<Self::Found>;

    /// As [`Invocation::run`].
    fn run(
        self,
        found: &Self::Found,
        accessor: &Accessor<CallState>,
        instance: Instance,
        reply: Reply<Self::Output>,
    ) -> impl Future<Output = wasmtime::Result<()>> + Send;
}

/// What was found for the calls `C`. A type for each, so that no two share what they keep.
struct Found<C: FunctionCall>(Option<C::Found>);

struct Prepared<C: FunctionCall> {
    call: C,
    found: Option<Arc<Found<C>>>,
}

impl<C: FunctionCall> Prepared<C> {
    fn new(call: C) -> Self {
        Self { call, found: None }
    }
}

fn not_exported<C: FunctionCall>() -> CallError {
    let Export { interface, name, .. } = C::EXPORT;
    CallError::Invalid(format!("the component exports `{name}` of neither `{interface}` nor its synchronous twin"))
}

impl<C: FunctionCall> Invocation for Prepared<C> {
    type Output = C::Output;

    fn prepare(&mut self, version: &Version) -> Result<(), CallError> {
        let found = version.resolved(|pre| Found::<C>(C::find(pre.component())));
        if found.0.is_none() {
            return Err(not_exported::<C>());
        }
        self.found = Some(found);
        Ok(())
    }

    async fn run(
        self,
        accessor: &Accessor<CallState>,
        instance: Instance,
        reply: Reply<Self::Output>,
    ) -> wasmtime::Result<()> {
        let Some(found) = self.found.as_ref().and_then(|found| found.0.as_ref()) else {
            return Err(not_exported::<C>().into());
        };
        self.call.run(found, accessor, instance, reply).await
    }
}

fn enter(service: &Service, caller: &Caller<'_>) -> Result<Option<Permit>, CallError> {
    Ok(caller.enter(Action::ComponentCall, &Resource::Component(service.name()))?)
}

fn span(permit: Option<Permit>) -> tracing::Span {
    permit.map_or_else(tracing::Span::none, |permit| permit.span)
}

/// Calls a function whose answer is all that it gives.
pub(crate) async fn call<C: FunctionCall>(
    service: &Arc<Service>,
    caller: &Caller<'_>,
    call: C,
) -> Result<C::Output, CallError> {
    let permit = enter(service, caller)?;
    service.call_plain(caller.context(), caller.account(), Prepared::new(call)).instrument(span(permit)).await
}

/// Calls a function that streams.
pub(crate) async fn call_run<C, T, S, E>(
    service: &Arc<Service>,
    caller: &Caller<'_>,
    call: C,
) -> Result<Run<T, S, E>, CallError>
where
    C: FunctionCall<Output = Parts<T, S, E>>,
{
    let permit = enter(service, caller)?;
    let call = service.call(caller.context(), caller.account(), Prepared::new(call));
    let (parts, ended) = call.instrument(span(permit)).await?;
    Ok(Run::held(parts, ended))
}
