//! Resources by proxy: the caller holds a number, the callee's session the resource behind it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::OnceCell;
use wasmtime::{
    Engine,
    component::{
        ResourceAny, ResourceType,
        types::{Component, ComponentInstance, ComponentItem},
    },
};
use witan_capability::{Action, Call, CallError, CallState, HostFunction, Resource};
use witan_engine::{Service, Session};

use crate::error::{DynamicError, Names};

/// The same text, for as long as the process lives. Names of linked functions come from components, of which a host
/// loads few and the same again and again.
pub(crate) fn intern(text: &str) -> &'static str {
    static TEXTS: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut texts = TEXTS.lock();
    if let Some(kept) = texts.get(text) {
        return kept;
    }
    let kept: &'static str = Box::leak(text.into());
    texts.insert(kept);
    kept
}

/// A number for the type of a resource that `target` exports as `name` of `interface`: the same for every link, since a
/// resource that one interface gives is taken by another.
fn type_number(target: &str, interface: &str, name: &str) -> u32 {
    static NUMBERS: OnceLock<Mutex<HashMap<[Box<str>; 3], u32>>> = OnceLock::new();
    let mut numbers = NUMBERS.get_or_init(Mutex::default).lock();
    let next = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
    *numbers.entry([target.into(), interface.into(), name.into()]).or_insert(next)
}

/// The resources of an interface, as caller and callee know them.
pub(crate) struct Proxies(Vec<Proxy>);

struct Proxy {
    /// Its name in the caller's import.
    name: Box<str>,
    import: ResourceType,
    export: ResourceType,
    number: u32,
}

impl Proxies {
    pub(crate) fn between(
        names: &Names<'_>,
        engine: &Engine,
        callee: &Component,
        import: &ComponentInstance,
        export: &ComponentInstance,
    ) -> Result<Self, DynamicError> {
        let foreign: Vec<ResourceType> = callee
            .imports(engine)
            .filter_map(|(_, import)| instance(import.ty))
            .flat_map(|import| resources(engine, &import).into_iter().map(|(_, ty)| ty))
            .collect();
        let mut found = Vec::new();
        for (name, import) in resources(engine, import) {
            let Some(ComponentItem::Resource(export)) = export.get_export(engine, &name).map(|export| export.ty) else {
                return Err(names.missing(&name));
            };
            if foreign.contains(&export) {
                let reason = "a resource of another component, which only passes through";
                return Err(names.unsupported(&name, "the resource", reason));
            }
            let (interface, first) = origin(engine, callee, export).unwrap_or((names.interface.into(), name.clone()));
            let number = type_number(names.target, &interface, &first);
            found.push(Proxy { name, import, export, number });
        }
        Ok(Self(found))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the caller's linker has to define.
    pub(crate) fn declared(&self) -> impl Iterator<Item = (&str, u32)> {
        self.0.iter().map(|proxy| (&*proxy.name, proxy.number))
    }

    /// The callee's type for the caller's type `import`, and its number.
    pub(crate) fn find(&self, import: ResourceType) -> Option<(ResourceType, u32)> {
        self.0.iter().find(|proxy| proxy.import == import).map(|proxy| (proxy.export, proxy.number))
    }
}

fn instance(item: ComponentItem) -> Option<ComponentInstance> {
    match item {
        ComponentItem::ComponentInstance(instance) => Some(instance),
        _ => None,
    }
}

fn resources(engine: &Engine, instance: &ComponentInstance) -> Vec<(Box<str>, ResourceType)> {
    instance
        .exports(engine)
        .filter_map(|(name, item)| match item.ty {
            ComponentItem::Resource(ty) => Some((name.into(), ty)),
            _ => None,
        })
        .collect()
}

/// The first place where a component exports a resource, which stands for all of them.
fn origin(engine: &Engine, component: &Component, ty: ResourceType) -> Option<(Box<str>, Box<str>)> {
    component.exports(engine).find_map(|(interface, item)| {
        let found = resources(engine, &instance(item.ty)?).into_iter().find(|(_, other)| *other == ty)?;
        Some((interface.into(), found.0))
    })
}

/// The resources of a callee's session that its caller holds, by the number that the caller knows.
#[derive(Default)]
pub(crate) struct Held(HashMap<u32, ResourceAny>);

impl Held {
    /// Keeps `resource` for the caller, under a number that no other resource of this host has: a caller that keeps a
    /// proxy beyond its session finds nothing rather than something else.
    pub(crate) fn keep(&mut self, resource: ResourceAny) -> u32 {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            if let std::collections::hash_map::Entry::Vacant(vacant) = self.0.entry(number) {
                vacant.insert(resource);
                return number;
            }
        }
    }

    pub(crate) fn lend(&self, number: u32) -> Result<ResourceAny, CallError> {
        self.0.get(&number).copied().ok_or_else(gone)
    }

    pub(crate) fn give(&mut self, number: u32) -> Result<ResourceAny, CallError> {
        self.0.remove(&number).ok_or_else(gone)
    }
}

fn gone() -> CallError {
    CallError::Invalid("the resource is gone: it was made by a call that has ended".to_owned())
}

/// The sessions that a caller's store has opened, by target.
#[derive(Default)]
pub(crate) struct Sessions(Vec<(Arc<Service>, Cell)>);

/// Where the session with one target is, once it is open.
pub(crate) type Cell = Arc<OnceCell<Arc<Session>>>;

impl Sessions {
    fn cell(&mut self, target: &Arc<Service>) -> Cell {
        if let Some((_, cell)) = self.0.iter().find(|(service, _)| Arc::ptr_eq(service, target)) {
            return cell.clone();
        }
        let cell = Cell::default();
        self.0.push((target.clone(), cell.clone()));
        cell
    }
}

/// The cell for the session of the caller's store with `target`.
pub(crate) fn cell(state: &mut CallState, target: &Arc<Service>) -> Cell {
    state.slot(|_| Sessions::default()).cell(target)
}

/// The session in `cell`, opened on behalf of `call` if there is none yet.
pub(crate) async fn session(cell: &Cell, target: &Arc<Service>, call: &Call) -> Result<Arc<Session>, CallError> {
    cell.get_or_try_init(async || target.session(&call.context, &call.account).await.map(Arc::new)).await.cloned()
}

/// The caller dropped a resource: so does the callee, after the calls that were made before.
pub(crate) fn dropped(
    state: &mut CallState,
    target: &Arc<Service>,
    function: HostFunction,
    number: u32,
) -> wasmtime::Result<()> {
    let resource = Resource::Component(target.name());
    let _permit = state.call().enter(function, Action::Handle, &resource)?;
    // A proxy that outlived its session has nothing behind it.
    if let Some(session) = cell(state, target).get() {
        session.cleanup(move |store| {
            let held = store.data_mut().slot(|_| Held::default()).give(number);
            Box::pin(async move {
                match held {
                    Ok(resource) => resource.resource_drop_async(store).await,
                    Err(_) => Ok(()),
                }
            })
        });
    }
    Ok(())
}
