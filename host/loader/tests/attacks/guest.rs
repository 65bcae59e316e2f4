//! Components written as core modules in text, wrapped in the types of a world: short to write, quick to compile.

use std::{path::Path, sync::LazyLock};

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{PackageId, Resolve, WorldId};

/// Packages of one file each, before those that use them.
const FILES: [&str; 13] = [
    "0.2/io",
    "0.2/clocks",
    "0.2/random",
    "0.2/filesystem",
    "0.2/sockets",
    "0.2/cli",
    "0.2/http",
    "clocks",
    "random",
    "filesystem",
    "sockets",
    "cli",
    "http",
];

/// Packages of a folder each.
const FOLDERS: [&str; 7] = ["deps/config", "deps/keyvalue", "deps/logging", "component", "documents", "task", "tools"];

/// Everything in `wit/`, read once.
pub static WIT: LazyLock<Resolve> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit");
    let mut resolve = Resolve::default();
    for file in FILES {
        resolve.push_file(folder.join("deps").join(file).with_extension("wit")).unwrap();
    }
    for package in FOLDERS {
        resolve.push_dir(folder.join(package)).unwrap();
    }
    resolve
});

/// What is in `wit/`, with a world of these imports and exports.
pub fn world(items: &str) -> (Resolve, WorldId) {
    let mut resolve = WIT.clone();
    let package: PackageId =
        resolve.push_str("guest.wit", &format!("package test:guest; world guest {{ {items} }}")).unwrap();
    let world = resolve.select_world(&[package], Some("guest")).unwrap();
    (resolve, world)
}

/// The component that `module` is in a world of `items`.
pub fn component(items: &str, module: &str) -> Vec<u8> {
    let module = format!("(module {module})");
    wrap(items, wat::parse_str(&module).unwrap_or_else(|error| panic!("{error}")))
}

/// As [`component`], for a module that is binary already.
pub fn wrap(items: &str, mut module: Vec<u8>) -> Vec<u8> {
    let (resolve, world) = world(items);
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().validate(true).module(&module).unwrap().encode().unwrap_or_else(|e| panic!("{e:?}"))
}

/// A component that exports `run`, which gives a number.
pub fn runs(module: &str) -> Vec<u8> {
    component("export run: func() -> u32;", module)
}

/// A component whose `run` gives `number`.
pub fn gives(number: u32) -> Vec<u8> {
    runs(&format!(r#"(func (export "run") (result i32) (i32.const {number}))"#))
}

/// One page of memory, and an allocator that never gives back: what a guest with strings needs.
pub const MEMORY: &str = r#"
    (memory (export "memory") 2)
    (global $top (mut i32) (i32.const 65536))
    (func $alloc (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
        (local $at i32)
        (local.set $at (i32.and (i32.add (global.get $top) (i32.const 15)) (i32.const -16)))
        (global.set $top (i32.add (local.get $at) (local.get 3)))
        (block $fits
            (br_if $fits (i32.lt_u (global.get $top) (i32.mul (memory.size) (i32.const 65536))))
            (drop (memory.grow (i32.add (i32.shr_u (local.get 3) (i32.const 16)) (i32.const 1)))))
        (local.get $at))"#;
