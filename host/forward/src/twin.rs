//! The resource that a synchronous twin has in place of a stream and its verdict.

use std::{future::poll_fn, vec};

use tokio::sync::oneshot;
use wasmtime::{
    StoreContextMut,
    component::{
        Accessor, Component, ComponentNamedList, Instance, Lift, LinkerInstance, Lower, Resource, ResourceAny,
        ResourceType,
    },
};
use witan_capability::{Action, CallState, HostFunction, SendError, channel};
use witan_engine::Reply;

use crate::{Run, answer, caller::calling, component::Failure, export::Function, pump::Item, run::Parts};

/// What the functions of the resource are called.
pub(crate) struct Names {
    pub(crate) interface: &'static str,
    pub(crate) next: &'static str,
    pub(crate) verdict: &'static str,
}

impl Names {
    pub(crate) const fn host_next(&self) -> HostFunction {
        HostFunction::new(self.interface, self.next)
    }

    pub(crate) const fn host_verdict(&self) -> HostFunction {
        HostFunction::new(self.interface, self.verdict)
    }
}

/// The functions of a twin that streams: `start` takes `P` and gives the resource.
pub(crate) struct TwinFunctions<P, T, S, E> {
    start: Function<P, (ResourceAny,)>,
    next: Function<(ResourceAny,), (Option<T>,)>,
    verdict: Function<(ResourceAny,), (Result<S, E>,)>,
}

impl<P, T, S, E> TwinFunctions<P, T, S, E>
where
    P: ComponentNamedList + Lower + Send + Sync + 'static,
    T: Item,
    S: Lift + Send + Sync + 'static,
    E: Lift + Send + Sync + 'static,
{
    pub(crate) fn find(code: &Component, start: &str, names: &Names) -> Option<Self> {
        Some(Self {
            start: Function::find(code, names.interface, start)?,
            next: Function::find(code, names.interface, names.next)?,
            verdict: Function::find(code, names.interface, names.verdict)?,
        })
    }

    /// Calls the function, and the resource that it gives until that has ended.
    pub(crate) async fn call(
        &self,
        accessor: &Accessor<CallState>,
        instance: Instance,
        params: P,
        reply: Reply<Parts<T, S, E>>,
    ) -> wasmtime::Result<()> {
        let (handle,) = self.start.call(accessor, instance, params).await?;
        let (mut outgoing, events) = channel(&calling(accessor).account);
        let (sender, receiver) = oneshot::channel();
        reply.send(Parts { events, verdict: receiver });
        // The guest is asked for no more than there is room for.
        while poll_fn(|context| outgoing.poll_ready(context)).await.is_ok() {
            let (Some(item),) = self.next.call(accessor, instance, (handle,)).await? else { break };
            let heap = item.heap();
            if let Err(SendError::Limit(limit)) = outgoing.send_ready(vec![item], heap) {
                return Err(limit.into());
            }
        }
        drop(outgoing);
        let (answer,) = self.verdict.call(accessor, instance, (handle,)).await?;
        // Whoever waits for the verdict may be gone.
        let _gone = sender.send(answer);
        Ok(())
    }
}

/// What a caller holds by a handle of the resource.
pub(crate) struct TwinRun<T, S, E> {
    run: Run<T, S, E>,
    /// Items that have come and were not yet asked for.
    items: vec::IntoIter<T>,
}

impl<T, S, E> TwinRun<T, S, E> {
    pub(crate) fn new(run: Run<T, S, E>) -> Self {
        Self { run, items: Vec::new().into_iter() }
    }

    async fn next(&mut self) -> Option<T> {
        loop {
            if let Some(item) = self.items.next() {
                return Some(item);
            }
            self.items = self.run.events.next().await?.into_iter();
        }
    }
}

/// Links the resource `name` with its functions.
pub(crate) fn link_run<T, S, E>(
    instance: &mut LinkerInstance<'_, CallState>,
    name: &str,
    names: &'static Names,
) -> wasmtime::Result<()>
where
    T: Item,
    S: Lower + Send + Sync + 'static,
    E: Lower + From<Failure> + Send + Sync + 'static,
{
    instance.resource(name, ResourceType::host::<TwinRun<T, S, E>>(), |mut store, handle| {
        store.data_mut().table.delete(Resource::<TwinRun<T, S, E>>::new_own(handle))?;
        Ok(())
    })?;
    instance.func_wrap_async(
        names.next,
        move |mut store: StoreContextMut<'_, CallState>, (run,): (Resource<TwinRun<T, S, E>>,)| {
            Box::new(async move {
                enter(&store, names.host_next())?;
                let run = store.data_mut().table.get_mut(&run)?;
                Ok((run.next().await,))
            })
        },
    )?;
    instance.func_wrap_async(
        names.verdict,
        move |mut store: StoreContextMut<'_, CallState>, (run,): (Resource<TwinRun<T, S, E>>,)| {
            Box::new(async move {
                enter(&store, names.host_verdict())?;
                let TwinRun { run: Run { events, verdict }, .. } = store.data_mut().table.delete(run)?;
                drop(events);
                Ok((answer::verdict(verdict).await?,))
            })
        },
    )
}

/// Enters the guard for a run whose beginning was decided.
fn enter(store: &StoreContextMut<'_, CallState>, function: HostFunction) -> wasmtime::Result<()> {
    store.data().call().enter(function, Action::Handle, &witan_capability::Resource::None)?;
    Ok(())
}
