//! Every function that is linked enters the guard: the tables, of which each line is one guarded function, name exactly
//! the functions that the WIT has.

#![allow(clippy::unwrap_used, reason = "a failed test says where")]

use std::{collections::BTreeSet, path::Path};

use wasmtime::component::Linker;
use wit_parser::Resolve;

/// The functions of the stable interfaces in `files`, which lie in `wit/deps` and are in the order of their use.
fn functions(files: &[&str]) -> BTreeSet<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit/deps");
    let mut resolve = Resolve::default();
    for file in files {
        resolve.push_path(folder.join(file)).unwrap();
    }
    let exported_by_guests = ["run"];
    let interfaces = resolve
        .interfaces
        .iter()
        .filter(|(_, interface)| interface.name.as_deref().is_some_and(|name| !exported_by_guests.contains(&name)));
    let named = |(id, interface): (_, &wit_parser::Interface)| {
        let id = resolve.id_of(id).unwrap();
        interface.functions.keys().map(move |name| (id.clone(), name.clone())).collect::<Vec<_>>()
    };
    interfaces.flat_map(named).collect()
}

#[test]
fn what_is_linked_is_what_enters_the_guard() {
    let old = ["io", "clocks", "random", "filesystem", "sockets", "cli"].map(|name| format!("0.2/{name}.wit"));
    let new = ["clocks", "random", "filesystem", "sockets", "cli"].map(|name| format!("{name}.wit"));
    let mut linked = functions(&old.each_ref().map(String::as_str));
    linked.extend(functions(&new.each_ref().map(String::as_str)));
    let guarded: Vec<_> = witan_wasi::capabilities().iter().flat_map(|capability| capability.functions()).collect();
    let table: BTreeSet<_> =
        guarded.iter().map(|function| (function.interface.to_owned(), function.name.to_owned())).collect();
    assert_eq!(table.len(), guarded.len(), "a function has two entries");
    assert_eq!(table.difference(&linked).collect::<Vec<_>>(), Vec::<&_>::new(), "in a table, but in no WIT");
    assert_eq!(linked.difference(&table).collect::<Vec<_>>(), Vec::<&_>::new(), "in the WIT, but in no table");
}

#[test]
fn all_of_it_links_at_once() {
    let mut config = wasmtime::Config::new();
    config.wasm_component_model_async(true);
    let mut linker = Linker::new(&wasmtime::Engine::new(&config).unwrap());
    for capability in witan_wasi::capabilities() {
        capability.add_to_linker(&mut linker).unwrap();
    }
}

#[test]
fn each_capability_serves_what_it_links() {
    for capability in witan_wasi::capabilities() {
        for function in capability.functions() {
            assert!(capability.serves(function.interface), "{} {function}", capability.name());
        }
    }
}
