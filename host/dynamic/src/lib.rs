//! Isolated links over a third party's own interfaces, whose types the host learns only when it loads them.
//!
//! For each function that one component imports and another exports, a host function is linked into the caller. It
//! takes the values out of the caller's store, calls the callee in its own, and puts the results back. Values are
//! copied; what belongs to a store is replaced on the way:
//! - a stream or future becomes a channel between the stores, bounded and charged to the call tree;
//! - a resource becomes a number that only this link can read: the caller holds a proxy, the callee the resource.
//!
//! A call of an interface without resources gets a store of its own. One with resources gets a session: a store of the
//! callee that lives as long as the caller's store, since a resource outlives the call that made it.
//!
//! Start reading at [`link`]. What cannot be forwarded is refused there, never at the first call.

mod error;
mod forward;
mod parcel;
mod passage;
mod resource;
mod shape;

pub use error::DynamicError;

use std::sync::Arc;

use wasmtime::{
    AsContextMut as _,
    component::{
        LinkerInstance, ResourceType,
        types::{ComponentInstance, ComponentItem},
    },
};
use witan_capability::{CallState, HostFunction};
use witan_engine::Service;

use crate::{
    forward::{Forward, Route},
    resource::{Proxies, intern},
};

/// Links `interface` of `target` into `linker`, the instance of that name in the caller's linker. `import` is what the
/// caller imports.
///
/// # Errors
/// When `target` does not export the interface, or not as the caller imports it, or when part of it cannot be
/// forwarded.
pub fn link(
    linker: &mut LinkerInstance<'_, CallState>,
    interface: &str,
    import: &ComponentInstance,
    target: &Arc<Service>,
) -> Result<(), DynamicError> {
    let link = Link::between(interface, import, target)?;
    let refused = |error: wasmtime::Error| DynamicError::Linker {
        target: target.name().into(),
        interface: interface.into(),
        detail: format!("{error:#}").into(),
    };
    for (name, id) in link.proxies.declared() {
        let (target, drop) = (target.clone(), HostFunction::new(intern(interface), "[resource-drop]"));
        linker
            .resource(name, ResourceType::host_dynamic(id), move |mut store, rep| {
                resource::dropped(store.data_mut(), &target, drop, rep)
            })
            .map_err(refused)?;
    }
    for (forward, kind) in link.forwards {
        define(linker, forward, kind).map_err(refused)?;
    }
    Ok(())
}

/// Whether the caller can do something else while it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Async,
    /// The caller's whole store waits, for its function says that it does.
    Sync,
}

fn define(linker: &mut LinkerInstance<'_, CallState>, forward: Forward, kind: Kind) -> wasmtime::Result<()> {
    let (name, forward) = (forward.name(), Arc::new(forward));
    match kind {
        Kind::Async => linker.func_new_concurrent(name, move |accessor, _, params, results| {
            let forward = forward.clone();
            Box::pin(async move {
                let begun = accessor.with(|mut store| forward.begin(store.as_context_mut(), params))?;
                let answer = forward.call(begun).await?;
                accessor.with(|mut store| forward.finish(store.as_context_mut(), answer, results))
            })
        }),
        Kind::Sync => linker.func_new_async(name, move |mut store, _, params, results| {
            let forward = forward.clone();
            Box::new(async move {
                let begun = forward.begin(store.as_context_mut(), params)?;
                let answer = forward.call(begun).await?;
                forward.finish(store, answer, results)
            })
        }),
    }
}

/// Checks that [`link`] would succeed, as before another version of `target` takes over.
///
/// # Errors
/// As [`link`].
pub fn check(interface: &str, import: &ComponentInstance, target: &Arc<Service>) -> Result<(), DynamicError> {
    Link::between(interface, import, target).map(|_| ())
}

/// What is to be linked.
struct Link {
    proxies: Proxies,
    forwards: Vec<(Forward, Kind)>,
}

impl Link {
    fn between(interface: &str, import: &ComponentInstance, target: &Arc<Service>) -> Result<Self, DynamicError> {
        let version = target.current();
        let engine = version.pre().engine().clone();
        let component = version.pre().component().component_type();
        let names = error::Names { target: target.name(), interface };
        let Some(ComponentItem::ComponentInstance(export)) =
            component.get_export(&engine, interface).map(|export| export.ty)
        else {
            return Err(names.not_exported());
        };
        let proxies = Proxies::between(&names, &engine, &component, import, &export)?;
        let stateful = !proxies.is_empty();
        let mut forwards = Vec::new();
        for (name, item) in import.exports(&engine) {
            let other = export.get_export(&engine, name).map(|export| export.ty);
            match (item.ty, other) {
                (_, None) => return Err(names.missing(name)),
                (ComponentItem::ComponentFunc(import), Some(ComponentItem::ComponentFunc(export))) => {
                    let signature = shape::signature(&names, name, &import, &export, &proxies)?;
                    let function = HostFunction::new(intern(interface), intern(name));
                    let route = if stateful { Route::Session } else { Route::Fresh };
                    let kind = if import.async_() { Kind::Async } else { Kind::Sync };
                    forwards.push((Forward::new(function, signature, target.clone(), route), kind));
                }
                (ComponentItem::Resource(_), Some(ComponentItem::Resource(_))) => {}
                (ComponentItem::Type(import), Some(ComponentItem::Type(export))) => {
                    shape::check(&names, name, &import, &export, &proxies)?;
                }
                (import, Some(export)) => {
                    return Err(names.differs(name, "itself", shape::kind(&import), shape::kind(&export)));
                }
            }
        }
        Ok(Self { proxies, forwards })
    }
}
