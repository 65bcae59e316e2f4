//! Components written out as text, fused, and called.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its input has failed")]

use wasmtime::{
    Engine, Store,
    component::{Component, Linker},
};
use witan_fuse::{FuseError, Origin, Part, Wire, fuse};
use witan_system::Grants;

const STEP: &str = "acme:sums/step@1.0.0";
const CLOCK: &str = "wasi:clocks/monotonic-clock@0.2.6";

/// A component that exports `interface` with a function `step`, which adds `amount`.
fn adds(interface: &str, amount: u32) -> String {
    format!(
        r#"(component
            (core module $m (func (export "step") (param i32) (result i32)
                (i32.add (local.get 0) (i32.const {amount}))))
            (core instance $i (instantiate $m))
            (func $step (param "n" u32) (result u32) (canon lift (core func $i "step")))
            (instance $e (export "step" (func $step)))
            (export "{interface}" (instance $e)))"#
    )
}

/// A component that imports `imported`, and exports `exported` with a function `step` that calls it twice. `more` is
/// put before everything else.
fn doubles(imported: &str, exported: &str, more: &str) -> String {
    format!(
        r#"(component
            {more}
            (import "{imported}" (instance $s (export "step" (func (param "n" u32) (result u32)))))
            (alias export $s "step" (func $imported))
            (core func $lowered (canon lower (func $imported)))
            (core module $m
                (import "" "step" (func $step (param i32) (result i32)))
                (func (export "step") (param i32) (result i32) (call $step (call $step (local.get 0)))))
            (core instance $i (instantiate $m (with "" (instance (export "step" (func $lowered))))))
            (func $step (param "n" u32) (result u32) (canon lift (core func $i "step")))
            (instance $e (export "step" (func $step)))
            (export "{exported}" (instance $e)))"#
    )
}

fn imports_clock(result: &str) -> String {
    format!(r#"(import "{CLOCK}" (instance (export "now" (func (result {result})))))"#)
}

/// Parts from `texts`, called `a`, `b` and so on, all with `grants` and `origin`.
fn fuse_with(
    texts: &[&str],
    wires: &[(usize, usize, &str)],
    grants: &[Grants],
    origin: &dyn Fn(usize, &str) -> Option<Origin>,
) -> Result<Vec<u8>, FuseError> {
    let bytes: Vec<_> = texts.iter().map(|text| wat::parse_str(text).unwrap()).collect();
    let origins: Vec<_> = (0..texts.len()).map(|at| move |import: &str| origin(at, import)).collect();
    let names = ["a", "b", "c", "d"];
    let parts: Vec<_> = (0..texts.len())
        .map(|at| Part { name: names[at], bytes: &bytes[at], grants: &grants[at], origin: &origins[at] })
        .collect();
    let wires: Vec<_> = wires.iter().map(|&(caller, callee, interface)| Wire { caller, callee, interface }).collect();
    fuse(&parts, &wires)
}

fn fuse_pure(texts: &[&str], wires: &[(usize, usize, &str)]) -> Result<Vec<u8>, FuseError> {
    let grants = vec![Grants::default(); texts.len()];
    fuse_with(texts, wires, &grants, &|_, import| (import == CLOCK).then_some(Origin::Baseline))
}

fn wall_clock() -> Grants {
    Grants { wall_clock: true, ..Grants::default() }
}

/// Calls `step` of `interface`, with imports other than types linked to nothing.
fn call(bytes: &[u8], interface: &str, n: u32) -> u32 {
    let engine = Engine::default();
    let component = Component::new(&engine, bytes).unwrap();
    let mut linker = Linker::<()>::new(&engine);
    linker.define_unknown_imports_as_traps(&component).unwrap();
    let mut store = Store::new(&engine, ());
    let instance = linker.instantiate(&mut store, &component).unwrap();
    let interface = instance.get_export_index(&mut store, None, interface).unwrap();
    let step = instance.get_export_index(&mut store, Some(&interface), "step").unwrap();
    let step = instance.get_typed_func::<(u32,), (u32,)>(&mut store, step).unwrap();
    step.call(&mut store, (n,)).unwrap().0
}

fn imports(bytes: &[u8]) -> Vec<String> {
    let engine = Engine::default();
    let component = Component::new(&engine, bytes).unwrap();
    component.component_type().imports(&engine).map(|(name, _)| name.to_owned()).collect()
}

#[test]
fn calls_go_through_and_the_output_is_the_same_each_time() {
    let (caller, callee) = (doubles(STEP, "acme:sums/run", ""), adds(STEP, 3));
    let fused = fuse_pure(&[&caller, &callee], &[(0, 1, STEP)]).unwrap();
    assert_eq!(call(&fused, "acme:sums/run", 10), 16);
    assert_eq!(imports(&fused), [""; 0]);
    assert_eq!(fuse_pure(&[&caller, &callee], &[(0, 1, STEP)]).unwrap(), fused);
}

#[test]
fn a_chain_fuses_at_once_and_step_by_step() {
    let (first, second) =
        (doubles("acme:sums/two", "acme:sums/one", ""), doubles("acme:sums/three", "acme:sums/two", ""));
    let third = adds("acme:sums/three", 1);
    let at_once = fuse_pure(&[&first, &second, &third], &[(0, 1, "acme:sums/two"), (1, 2, "acme:sums/three")]).unwrap();
    assert_eq!(call(&at_once, "acme:sums/one", 0), 4);

    let grants = Grants::default();
    let bytes = |text: &str| wat::parse_str(text).unwrap();
    let link = |import: &str| (import == "acme:sums/three").then(|| Origin::Link("c".to_owned()));
    let pair = [
        Part { name: "a", bytes: &bytes(&first), grants: &grants, origin: &link },
        Part { name: "b", bytes: &bytes(&second), grants: &grants, origin: &link },
    ];
    let pair = fuse(&pair, &[Wire { caller: 0, callee: 1, interface: "acme:sums/two" }]).unwrap();
    assert_eq!(imports(&pair), ["acme:sums/three"]);
    let all = [
        Part { name: "a+b", bytes: &pair, grants: &grants, origin: &|_| None },
        Part { name: "c", bytes: &bytes(&third), grants: &grants, origin: &|_| None },
    ];
    let all = fuse(&all, &[Wire { caller: 0, callee: 1, interface: "acme:sums/three" }]).unwrap();
    assert_eq!(call(&all, "acme:sums/one", 0), 4);
}

#[test]
fn a_part_that_two_others_call_is_one_instance() {
    let counter = format!(
        r#"(component
            (core module $m (global $n (mut i32) (i32.const 0))
                (func (export "step") (param i32) (result i32)
                    (global.set $n (i32.add (global.get $n) (i32.const 1)))
                    (i32.add (local.get 0) (global.get $n))))
            (core instance $i (instantiate $m))
            (func $step (param "n" u32) (result u32) (canon lift (core func $i "step")))
            (instance $e (export "step" (func $step)))
            (export "{STEP}" (instance $e)))"#
    );
    // `a` calls the counter through `b` twice; each time `b` calls it twice.
    let (a, b) = (doubles("acme:sums/b", "acme:sums/a", ""), doubles(STEP, "acme:sums/b", ""));
    let fused = fuse_pure(&[&a, &b, &counter], &[(0, 1, "acme:sums/b"), (1, 2, STEP)]).unwrap();
    assert_eq!(call(&fused, "acme:sums/a", 0), 1 + 2 + 3 + 4);
}

#[test]
fn imports_of_the_same_name_become_one() {
    let clock = imports_clock("u64");
    let caller = doubles(STEP, "acme:sums/run", &clock);
    let callee = adds(STEP, 3).replace("(component", &format!("(component {clock}"));
    let fused = fuse_pure(&[&caller, &callee], &[(0, 1, STEP)]).unwrap();
    assert_eq!(imports(&fused), [CLOCK]);
    assert_eq!(call(&fused, "acme:sums/run", 10), 16);
}

#[test]
fn imports_of_the_same_name_and_other_types_are_refused() {
    let caller = doubles(STEP, "acme:sums/run", &imports_clock("u64"));
    let callee = adds(STEP, 3).replace("(component", &format!("(component {}", imports_clock("u32")));
    let error = fuse_pure(&[&caller, &callee], &[(0, 1, STEP)]).unwrap_err();
    assert!(matches!(&error, FuseError::TypesDiffer { item, .. } if **item == *"now"), "{error}");
}

#[test]
fn imports_of_the_same_name_that_mean_other_links_are_refused() {
    let clock = imports_clock("u64");
    let caller = doubles(STEP, "acme:sums/run", &clock);
    let callee = adds(STEP, 3).replace("(component", &format!("(component {clock}"));
    let grants = [Grants::default(), Grants::default()];
    let origin = |at: usize, _: &str| Some(if at == 0 { Origin::Baseline } else { Origin::Link("sundial".to_owned()) });
    let error = fuse_with(&[&caller, &callee], &[(0, 1, STEP)], &grants, &origin).unwrap_err();
    assert!(matches!(&error, FuseError::OriginsDiffer { import, .. } if **import == *CLOCK), "{error}");
    assert!(error.to_string().contains("a link to `sundial`"), "{error}");
}

#[test]
fn different_grants_are_refused_and_the_same_are_not() {
    let (caller, callee) = (doubles(STEP, "acme:sums/run", ""), adds(STEP, 3));
    let fuse = |grants: [Grants; 2]| fuse_with(&[&caller, &callee], &[(0, 1, STEP)], &grants, &|_, _| None);
    let others = Grants { logging: Some(witan_system::LoggingGrant::default()), ..Grants::default() };
    let error = fuse([wall_clock(), others]).unwrap_err();
    assert_eq!(error, FuseError::GrantsDiffer { first: "a".into(), second: "b".into() });
    assert!(fuse([wall_clock(), wall_clock()]).is_ok());
}

#[test]
fn a_part_without_grants_may_join_one_that_has_some_only_if_it_imports_nothing_to_call() {
    let caller = doubles(STEP, "acme:sums/run", "");
    let (pure, other) =
        (adds(STEP, 3), adds(STEP, 3).replace("(component", &format!("(component {}", imports_clock("u64"))));
    let fuse = |callee: &str| {
        let grants = [wall_clock(), Grants::default()];
        fuse_with(&[&caller, callee], &[(0, 1, STEP)], &grants, &|_, _| Some(Origin::Baseline))
    };
    assert!(fuse(&pure).is_ok());
    let shares = FuseError::SharesGrants { part: "b".into(), import: CLOCK.into(), granted: "a".into() };
    assert_eq!(fuse(&other).unwrap_err(), shares);
}

#[test]
fn a_part_without_grants_imports_the_baseline_and_nothing_else() {
    let caller = doubles(STEP, "acme:sums/run", "");
    let callee = adds(STEP, 3).replace("(component", &format!("(component {}", imports_clock("u64")));
    let fuse = |grants: Grants, origin: Option<Origin>| {
        fuse_with(&[&caller, &callee], &[(0, 1, STEP)], &[grants.clone(), grants], &|_, _| origin.clone())
    };
    let beyond = FuseError::BeyondBaseline { part: "b".into(), import: CLOCK.into() };
    assert_eq!(fuse(Grants::default(), Some(Origin::Grant)).unwrap_err(), beyond);
    assert_eq!(fuse(Grants::default(), None).unwrap_err(), beyond);
    assert!(fuse(Grants::default(), Some(Origin::Baseline)).is_ok());
    assert!(fuse(wall_clock(), Some(Origin::Grant)).is_ok());
    assert_eq!(
        fuse(wall_clock(), None).unwrap_err(),
        FuseError::Unsatisfied { part: "b".into(), import: CLOCK.into() }
    );
}

#[test]
fn async_with_sync_is_refused() {
    let caller = doubles(STEP, "acme:sums/run", "");
    let callee = adds(STEP, 3).replace(r#"(func $step (param"#, r#"(func $step async (param"#);
    let error = fuse_pure(&[&caller, &callee], &[(0, 1, STEP)]).unwrap_err();
    assert!(
        matches!(
            &error,
            FuseError::AsyncDiffers { function, caller_kind: "sync", callee_kind: "async", .. } if **function == *"step"
        ),
        "{error}"
    );
}

#[test]
fn what_does_not_fit_is_named() {
    let (caller, callee) = (doubles(STEP, "acme:sums/run", ""), adds(STEP, 3));
    let wire = [(0, 1, STEP)];
    let other = callee.replace("u32", "s32");
    let error = fuse_pure(&[&caller, &other], &wire).unwrap_err();
    assert!(matches!(&error, FuseError::ItemDiffers { item, .. } if **item == *"step"), "{error}");
    let other = callee.replace(r#"(export "step" (func $step))"#, r#"(export "stride" (func $step))"#);
    let error = fuse_pure(&[&caller, &other], &wire).unwrap_err();
    assert!(matches!(&error, FuseError::Missing { item, .. } if **item == *"step"), "{error}");
    let error = fuse_pure(&[&caller, &adds("acme:sums/other", 3)], &wire).unwrap_err();
    assert!(matches!(error, FuseError::NotExported { .. }), "{error}");
    let error = fuse_pure(&[&callee, &callee], &wire).unwrap_err();
    assert!(matches!(error, FuseError::NotImported { .. }), "{error}");
}

#[test]
fn a_circle_is_refused() {
    let (a, b) = (doubles("acme:sums/b", "acme:sums/a", ""), doubles("acme:sums/a", "acme:sums/b", ""));
    let error = fuse_pure(&[&a, &b], &[(0, 1, "acme:sums/b"), (1, 0, "acme:sums/a")]).unwrap_err();
    assert!(matches!(error, FuseError::Cycle { .. }), "{error}");
}

#[test]
fn wires_that_make_no_sense_are_refused() {
    let (caller, callee) = (doubles(STEP, "acme:sums/run", ""), adds(STEP, 3));
    let error = fuse_pure(&[&caller, &callee, &callee], &[(0, 1, STEP), (0, 2, STEP)]).unwrap_err();
    assert!(matches!(error, FuseError::WiredTwice { .. }), "{error}");
    let error = fuse_pure(&[&callee, &callee], &[]).unwrap_err();
    assert_eq!(error, FuseError::Unused { part: "b".into() });
    let error = fuse_pure(&[&caller], &[(0, 1, STEP)]).unwrap_err();
    assert!(matches!(error, FuseError::NoSuchPart { .. }), "{error}");
}

#[test]
fn resources_of_one_part_are_used_by_another() {
    let boxes = "acme:boxes/boxes";
    let callee = format!(
        r#"(component
            (type $box (resource (rep i32)))
            (core func $new (canon resource.new $box))
            (core module $m
                (import "" "new" (func $new (param i32) (result i32)))
                (func (export "make") (param i32) (result i32) (call $new (local.get 0)))
                (func (export "get") (param i32) (result i32) (local.get 0)))
            (core instance $i (instantiate $m (with "" (instance (export "new" (func $new))))))
            (func $make (param "n" u32) (result (own $box)) (canon lift (core func $i "make")))
            (func $get (param "self" (borrow $box)) (result u32) (canon lift (core func $i "get")))
            (component $e
                (import "box" (type $box (sub resource)))
                (import "make" (func $make (param "n" u32) (result (own $box))))
                (import "get" (func $get (param "self" (borrow $box)) (result u32)))
                (export $exported "box" (type $box))
                (export "[static]box.make" (func $make) (func (param "n" u32) (result (own $exported))))
                (export "[method]box.get" (func $get) (func (param "self" (borrow $exported)) (result u32))))
            (instance $i2 (instantiate $e
                (with "box" (type $box)) (with "make" (func $make)) (with "get" (func $get))))
            (export "{boxes}" (instance $i2)))"#
    );
    let caller = format!(
        r#"(component
            (import "{boxes}" (instance $b
                (export "box" (type $box (sub resource)))
                (export "[static]box.make" (func (param "n" u32) (result (own $box))))
                (export "[method]box.get" (func (param "self" (borrow $box)) (result u32)))))
            (alias export $b "box" (type $box))
            (alias export $b "[static]box.make" (func $make))
            (alias export $b "[method]box.get" (func $get))
            (core func $make (canon lower (func $make)))
            (core func $get (canon lower (func $get)))
            (core func $drop (canon resource.drop $box))
            (core module $m
                (import "" "make" (func $make (param i32) (result i32)))
                (import "" "get" (func $get (param i32) (result i32)))
                (import "" "drop" (func $drop (param i32)))
                (func (export "step") (param i32) (result i32) (local $box i32)
                    (local.set $box (call $make (local.get 0)))
                    (call $get (local.get $box))
                    (call $drop (local.get $box))))
            (core instance $i (instantiate $m (with "" (instance
                (export "make" (func $make)) (export "get" (func $get)) (export "drop" (func $drop))))))
            (func $step (param "n" u32) (result u32) (canon lift (core func $i "step")))
            (instance $e (export "step" (func $step)))
            (export "acme:sums/run" (instance $e)))"#
    );
    let fused = fuse_pure(&[&caller, &callee], &[(0, 1, boxes)]).unwrap();
    assert_eq!(call(&fused, "acme:sums/run", 7), 7);
}

#[test]
fn bytes_that_are_no_component_are_refused() {
    let caller = wat::parse_str(doubles(STEP, "acme:sums/run", "")).unwrap();
    let good = wat::parse_str(adds(STEP, 3)).unwrap();
    let grants = Grants::default();
    for bytes in [&b""[..], &good[..good.len() - 5], &good[..8], b"\0asm\x01\0\0\0"] {
        let parts = [
            Part { name: "a", bytes: &caller, grants: &grants, origin: &|_| None },
            Part { name: "b", bytes, grants: &grants, origin: &|_| None },
        ];
        assert!(fuse(&parts, &[Wire { caller: 0, callee: 1, interface: STEP }]).is_err());
    }
}
