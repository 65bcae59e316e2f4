//! There is one way from bytes to code, by the sources: what makes code of bytes is called in one file of the engine, and
//! that, in the loader alone, on bytes that passed the gate. `host/cli/tests/systems/gate.rs` shows the same by what commands
//! do.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop at what it did not expect")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Whatever wasmtime makes code with, or reads it.
const MAKES_CODE: [&str; 12] = [
    "Component::new(",
    "Component::from_file",
    "Component::from_binary",
    "Component::deserialize",
    "Module::new(",
    "Module::from_file",
    "Module::from_binary",
    "Module::deserialize",
    "CodeBuilder",
    "precompile_component",
    "precompile_module",
    "::deserialize_file",
];

/// The sources of the product with their text, without what is compiled for tests alone.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
    let mut folders: Vec<PathBuf> = ["host", "registry"]
        .iter()
        .flat_map(|part| fs::read_dir(root.join(part)).unwrap())
        .map(|entry| entry.unwrap().path().join("src"))
        .collect();
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() && name != "tests" {
                folders.push(path);
            } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
                let text = fs::read_to_string(&path).unwrap();
                let product = text.split("#[cfg(test)]\nmod tests {").next().unwrap().to_owned();
                found.push((path.strip_prefix(&root).unwrap().display().to_string(), product));
            }
        }
    }
    assert!(found.len() > 100, "{}", found.len());
    found
}

/// The files that name `crate_` and one of `calls`.
fn calling(crate_: &str, calls: &[&str]) -> BTreeSet<String> {
    let calling = |text: &str| text.contains(crate_) && calls.iter().any(|call| text.contains(call));
    sources().into_iter().filter(|(_, text)| calling(text)).map(|(path, _)| path).collect()
}

#[test]
fn bytes_become_code_in_one_file_of_the_engine() {
    assert_eq!(calling("wasmtime", &MAKES_CODE), ["host/engine/src/compile.rs".to_owned()].into());
}

#[test]
fn the_engine_compiles_for_the_loader_alone() {
    assert_eq!(
        calling("witan_engine", &[".compile(", "Engine::compile"]),
        ["host/loader/src/lib.rs".to_owned()].into()
    );
}

#[test]
fn the_loader_has_its_bytes_from_the_gate() {
    let of_loader = |path: &&(String, String)| path.0.starts_with("host/loader/");
    let sources = sources();
    let judging: Vec<&str> = sources
        .iter()
        .filter(of_loader)
        .filter(|(_, text)| text.contains(".judge("))
        .map(|(path, _)| &**path)
        .collect();
    assert_eq!(judging, ["host/loader/src/admit.rs"]);
    // Bytes are made of what the gate let in, or fused of such bytes; nothing there reads a file.
    for (path, text) in sources.iter().filter(of_loader) {
        let makes = text.contains("Bytes {") || text.contains("Bytes::new(");
        assert!(!makes || ["admit.rs", "fused.rs"].iter().any(|file| path.ends_with(file)), "{path}");
        assert!(!["fs::read", "File::open", "fs::File"].iter().any(|call| text.contains(call)), "{path} reads files");
    }
}
