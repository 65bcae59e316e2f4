//! What is refused at load.

use wit_component::{ComponentEncoder, StringEncoding, dummy_module, embed_component_metadata};
use wit_parser::{LiftLowerAbi, ManglingAndAbi, Resolve};
use witan_dynamic::DynamicError;

use crate::host::{Host, code};

/// A component of the world `guest`, which does nothing.
fn component(items: &str, world: &str) -> Vec<u8> {
    let text = format!(
        "package acme:a; interface other {{ resource thing; }} interface b {{ {items} }} world guest {{ {world} }}"
    );
    let mut resolve = Resolve { all_features: true, ..Resolve::default() };
    let package = resolve.push_str("a.wit", &text).unwrap();
    let world = resolve.select_world(&[package], Some("guest")).unwrap();
    let mut module = dummy_module(&resolve, world, ManglingAndAbi::Legacy(LiftLowerAbi::Sync));
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().module(&module).unwrap().validate(true).encode().unwrap()
}

fn link(import: &str, export: &str) -> Result<Host, DynamicError> {
    let (caller, callee) = (component(import, "import b;"), component(export, "export b;"));
    Host::link(&code(&caller), &code(&callee), None)
}

fn refuse(import: &str, export: &str) -> DynamicError {
    match link(import, export) {
        Err(error) => error,
        Ok(_) => panic!("`{import}` was linked to `{export}`"),
    }
}

fn accept(import: &str, export: &str) {
    if let Err(error) = link(import, export) {
        panic!("{error}");
    }
}

fn taking(ty: &str) -> String {
    format!("f: func(x: {ty});")
}

#[test]
fn equal_types_are_linked_and_more_exports_do_not_matter() {
    let f = taking("list<tuple<u8, option<string>>>");
    accept(&f, &f);
    accept(&f, &format!("{f} g: func();"));
}

#[test]
fn async_and_sync_fit_one_another() {
    let (sync, later) = ("f: func() -> u8;", "f: async func() -> u8;");
    accept(sync, later);
    accept(later, sync);
}

#[test]
fn a_difference_is_named_with_its_place() {
    let error = refuse(&taking("list<tuple<u8, option<string>>>"), &taking("list<tuple<u8, option<u32>>>"));
    assert_eq!(
        error.to_string(),
        "`acme:a/b#f` of `callee` is not what the caller imports: the option in item 1 in the items in parameter `x` \
         is `u32`, and the caller expects `string`; build both against the same version"
    );
    let error = refuse(&taking("u8"), "f: func(y: u8);");
    assert!(error.to_string().contains("a parameter is `y`, and the caller expects `x`"), "{error}");
    let error = refuse(&taking("u8"), "f: func();");
    assert!(error.to_string().contains("0 parameters"), "{error}");
}

#[test]
fn named_types_are_compared_by_what_they_are() {
    let named = |kind: &str| format!("{kind} {}", taking("t"));
    for (import, export) in [
        ("record t { a: u8 }", "record t { b: u8 }"),
        ("record t { a: u8 }", "record t { a: u16 }"),
        ("record t { a: u8 }", "record t { a: u8, b: u8 }"),
        ("variant t { a(u8) }", "variant t { a }"),
        ("variant t { a(u8) }", "variant t { a(u8), b }"),
        ("enum t { a }", "enum t { a, b }"),
        ("flags t { a }", "flags t { b }"),
        ("type t = result<u8>;", "type t = result<_, u8>;"),
        ("type t = list<u8>;", "type t = option<u8>;"),
    ] {
        let error = refuse(&named(import), &named(export));
        assert!(matches!(error, DynamicError::Differs { .. }), "{error}");
        accept(&named(import), &named(import));
    }
}

#[test]
fn what_is_not_exported_is_named() {
    let error = refuse(&taking("u8"), "g: func();");
    assert!(matches!(&error, DynamicError::Missing { item, .. } if **item == *"f"), "{error}");
    let (caller, callee) = (component(&taking("u8"), "import b;"), component("", ""));
    let Err(error) = Host::link(&code(&caller), &code(&callee), None) else { panic!("linked") };
    assert!(matches!(error, DynamicError::NotExported { .. }), "{error}");
    let error = refuse("resource r;", "g: func();");
    assert!(matches!(&error, DynamicError::Missing { item, .. } if **item == *"r"), "{error}");
}

fn unsupported(items: &str) -> String {
    match refuse(items, items) {
        error @ DynamicError::Unsupported { .. } => error.to_string(),
        error => panic!("{error}"),
    }
}

#[test]
fn what_cannot_be_forwarded_is_refused_with_the_way_out() {
    assert_eq!(
        unsupported("f: func() -> option<stream<list<u8>>>;"),
        "`acme:a/b#f` of `callee` cannot be forwarded: the option in the result is a stream whose items are a list, \
         and only numbers, `bool`, `char` and `string` pass; the two components may be fused instead, with \
         `mode = \"fused\"` on the link"
    );
    let future = unsupported("f: func() -> future<tuple<u8, u8>>;");
    assert!(future.contains("a future whose items are a tuple"), "{future}");
    let foreign = "use other.{thing}; f: func(x: thing);";
    let (caller, callee) = (component(foreign, "import b;"), component(foreign, "import other; export b;"));
    let Err(error) = Host::link_only("acme:a/b", &code(&caller), &code(&callee)) else { panic!("linked") };
    assert!(error.to_string().contains("which only passes through"), "{error}");
}

#[test]
fn streams_and_futures_of_simple_items_are_linked() {
    for item in ["u8", "bool", "string", "f64", "s64"] {
        accept(&taking(&format!("stream<{item}>")), &taking(&format!("stream<{item}>")));
        accept(&taking(&format!("future<{item}>")), &taking(&format!("future<{item}>")));
    }
    accept(&taking("stream"), &taking("stream"));
    let error = refuse(&taking("stream<u8>"), &taking("stream<s8>"));
    assert!(matches!(error, DynamicError::Differs { .. }), "{error}");
}
