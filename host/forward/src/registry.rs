//! Our interfaces by the names that components import and export.

use std::sync::Arc;

use wasmtime::component::{Component, Linker, types::ComponentItem};
use witan_capability::{CallState, HostFunction};
use witan_engine::Service;

use crate::generated::{INTERFACES, TYPES};

/// An interface as the generator lists it.
pub(crate) struct Interface {
    pub(crate) name: &'static str,
    pub(crate) twin: &'static str,
    pub(crate) functions: &'static [HostFunction],
    pub(crate) link: fn(&mut Linker<CallState>, Arc<Service>) -> wasmtime::Result<()>,
    pub(crate) link_twin: fn(&mut Linker<CallState>, Arc<Service>) -> wasmtime::Result<()>,
}

/// What an import of ours needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// Nothing: it has types alone.
    Types,
    /// To be linked to something that serves this interface. An import of the twin needs the interface.
    Interface(&'static str),
}

/// What an import called `name` needs, or none if it is not ours. Versions match exactly, as those of drafts must.
#[must_use]
pub fn serves(name: &str) -> Option<Served> {
    if let Some(interface) = find(name) {
        return Some(Served::Interface(interface.name));
    }
    TYPES.contains(&name).then_some(Served::Types)
}

/// The interfaces that `component` exports, itself or as their twins, by their own names.
#[must_use]
pub fn exports(component: &Component) -> Vec<&'static str> {
    let mut names = Vec::new();
    for (name, item) in component.component_type().exports(component.engine()) {
        if let (ComponentItem::ComponentInstance(_), Some(interface)) = (item.ty, find(name)) {
            names.push(interface.name);
        }
    }
    names.sort_unstable();
    names.dedup();
    names
}

/// Links the import called `name`, an interface or a twin, to the component `target`. None if no interface of ours has
/// that name.
///
/// The target must export the interface or its twin; [`exports`] tells.
#[must_use]
pub fn link(linker: &mut Linker<CallState>, name: &str, target: Arc<Service>) -> Option<wasmtime::Result<()>> {
    let interface = find(name)?;
    let link = if interface.name == name { interface.link } else { interface.link_twin };
    Some(link(linker, target))
}

/// Every function that [`link()`] links, whatever its name. Each of them enters the guard.
pub fn functions() -> impl Iterator<Item = HostFunction> {
    INTERFACES.iter().flat_map(|interface| interface.functions).copied()
}

fn find(name: &str) -> Option<&'static Interface> {
    INTERFACES.iter().find(|interface| interface.name == name || interface.twin == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_with_their_exact_version_and_no_other() {
        let extract = Served::Interface("witan:documents/extract@0.1.0-draft");
        assert_eq!(serves("witan:documents/extract@0.1.0-draft"), Some(extract));
        assert_eq!(serves("witan:documents/extract-sync@0.1.0-draft"), Some(extract));
        assert_eq!(serves("witan:component/types@0.1.0-draft"), Some(Served::Types));
        for unknown in ["witan:documents/extract", "witan:documents/extract@0.1.0", "wasi:io/poll@0.2.6"] {
            assert_eq!(serves(unknown), None);
        }
    }

    #[test]
    fn each_function_is_listed_once() {
        let all: Vec<_> = functions().collect();
        let mut once = all.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(all.len(), once.len());
        assert!(all.contains(&HostFunction::new("witan:task/handler@0.1.0-draft", "handle")));
        assert!(all.contains(&HostFunction::new("witan:task/handler-sync@0.1.0-draft", "[method]handle-run.next")));
    }
}
