//! Across all capabilities: what a component can import is what enters the guard, once each.

use std::collections::{BTreeMap, BTreeSet};

use wasmtime::component::{Component, Linker};
use wit_component::dummy_module;
use wit_parser::{LiftLowerAbi, ManglingAndAbi};
use witan_capability::{CallState, HostFunction};

use crate::{
    guest::{WIT, world, wrap},
    host::{ENGINE, Host},
};

/// A component that imports every function of `interface`, and calls none.
pub fn imports(interface: &str) -> Vec<u8> {
    let items = format!("import {interface};");
    let (resolve, world) = world(&items);
    wrap(&items, dummy_module(&resolve, world, ManglingAndAbi::Legacy(LiftLowerAbi::Sync)))
}

/// Every interface in `wit/` with its functions.
fn interfaces() -> BTreeMap<String, BTreeSet<String>> {
    let named = WIT
        .interfaces
        .iter()
        .filter_map(|(id, interface)| Some((WIT.id_of(id)?, interface.functions.keys().cloned().collect())));
    named.collect()
}

fn by_interface(functions: impl IntoIterator<Item = HostFunction>) -> BTreeMap<String, BTreeSet<String>> {
    let mut all = BTreeMap::<_, BTreeSet<_>>::new();
    for function in functions {
        let new = all.entry(function.interface.to_owned()).or_default().insert(function.name.to_owned());
        assert!(new, "`{function}` is claimed twice");
    }
    all
}

/// What components export and nobody serves to them.
const EXPORTED: [&str; 5] = [
    "wasi:cli/run@0.2.12",
    "wasi:cli/run@0.3.0",
    "wasi:http/handler@0.3.0",
    "wasi:http/incoming-handler@0.2.12",
    "wasi:keyvalue/watcher@0.2.0-draft",
];

#[test]
fn every_function_that_can_be_imported_is_listed_once_and_every_listed_one_can_be_imported() {
    let host = Host::new();
    let capabilities = &host.loader.capabilities;
    let listed = by_interface(capabilities.iter().flat_map(|capability| capability.functions()));
    let mut imported = BTreeMap::new();
    let mut unserved = BTreeSet::new();
    for (interface, functions) in interfaces() {
        let serving: Vec<_> = capabilities.iter().filter(|capability| capability.serves(&interface)).collect();
        assert!(serving.len() <= 1, "`{interface}` is served by more than one capability");
        match serving.first() {
            None => drop(unserved.insert(interface)),
            Some(_) if functions.is_empty() => {}
            Some(_) => drop(imported.insert(interface, functions)),
        }
    }
    assert_eq!(imported, listed);
    let ours = by_interface(witan_forward::functions());
    unserved.retain(|interface| !ours.contains_key(interface) && witan_forward::serves(interface).is_none());
    assert_eq!(unserved, EXPORTED.map(str::to_owned).into());
}

#[test]
fn every_function_of_our_interfaces_is_listed() {
    let wit = interfaces().into_iter().filter(|(name, functions)| name.starts_with("witan:") && !functions.is_empty());
    assert_eq!(wit.collect::<BTreeMap<_, _>>(), by_interface(witan_forward::functions()));
}

#[test]
fn a_component_that_imports_everything_finds_all_of_it() {
    let host = Host::new();
    let mut linker = Linker::<CallState>::new(ENGINE.wasmtime());
    for capability in &host.loader.capabilities {
        capability.add_to_linker(&mut linker).unwrap_or_else(|error| panic!("{}: {error:#}", capability.name()));
    }
    for interface in interfaces().into_keys() {
        let served = host.loader.capabilities.iter().any(|capability| capability.serves(&interface));
        if !served {
            continue;
        }
        let component = Component::new(ENGINE.wasmtime(), imports(&interface)).unwrap();
        linker.instantiate_pre(&component).unwrap_or_else(|error| panic!("{interface}: {error:#}"));
    }
}
