//! Attacks on what the host must hold: memories, tables, handles, and bytes that cross to it.

use std::time::Duration;

use witan_capability::{CallContext, CallError, Limit, Limits};
use witan_engine::Settings;
use witan_loader::LoadProblem;

use crate::{
    guest::{self, component, runs},
    host::{Host, call, engine, service, short},
};

fn of_memory(memory: u64) -> Limits {
    Limits { memory, ..short() }
}

#[tokio::test]
async fn a_memory_that_grows_page_by_page_ends_at_the_limit_of_its_call_tree() {
    let grows = |pages: &str| {
        runs(&format!(
            r#"(memory 1) (func (export "run") (result i32)
                (loop $more
                    (drop (memory.grow (i32.const 1)))
                    (br_if $more (i32.lt_u (memory.size) (i32.const {pages}))))
                (memory.size))"#
        ))
    };
    let host = Host::new();
    assert_eq!(host.guest(&grows("100"), "").await.call("run").await, Ok(100));
    let bomb = host.guest(&grows("1000000"), "").await;
    assert_eq!(bomb.attack_limited(of_memory(16 << 20)).await, Limit::Memory);
}

#[tokio::test]
async fn a_table_counts_as_memory() {
    let host = Host::new();
    let grows = r#"(table $t 0 10000 funcref) (func (export "run") (result i32)
        (loop $more (br_if $more (i32.ge_s (table.grow $t (ref.null func) (i32.const 100)) (i32.const 0))))
        (table.size $t))"#;
    let guest = host.guest(&runs(grows), "").await;
    assert_eq!(guest.call("run").await, Ok(10_000));
    assert_eq!(guest.attack_limited(of_memory(40_000)).await, Limit::Memory);
}

#[tokio::test]
async fn a_table_that_no_pool_holds_does_not_load() {
    let host = Host::new();
    let table = |elements: u32| {
        runs(&format!(r#"(table {elements} funcref) (func (export "run") (result i32) (i32.const 1))"#))
    };
    assert_eq!(host.guest(&table(1_000), "").await.call("run").await, Ok(1));
    host.put("bomb", &table(10_000_000));
    let problem = host.problem("[components.bomb]\nsource = \"bomb.wasm\"").await;
    assert!(matches!(&problem, LoadProblem::Compile { component, .. } if component.as_str() == "bomb"), "{problem}");
}

/// A component of so many core modules, each with a memory of one page.
fn memories(count: usize) -> Vec<u8> {
    let more: String =
        (1..count).map(|n| format!("(core instance $i{n} (instantiate $m))")).collect::<Vec<_>>().join("\n");
    let text = format!(
        r#"(component
            (core module $m (memory 1) (func (export "run") (result i32) (i32.const 1)))
            (core instance $i0 (instantiate $m))
            {more}
            (func (export "run") (result u32) (canon lift (core func $i0 "run"))))"#
    );
    wat::parse_str(text).unwrap()
}

#[tokio::test]
async fn more_memories_than_a_component_may_have_do_not_load() {
    let host = Host::new();
    assert_eq!(host.guest(&memories(8), "").await.call("run").await, Ok(1));
    host.put("bomb", &memories(1_000));
    let problem = host.problem("[components.bomb]\nsource = \"bomb.wasm\"").await;
    assert!(matches!(&problem, LoadProblem::Compile { .. } | LoadProblem::Unhealthy { .. }), "{problem}");
}

#[tokio::test]
async fn many_small_memories_count_together() {
    let host = Host::new();
    let guest = host.guest(&memories(8), "").await;
    assert_eq!(guest.call_within("run", of_memory(8 << 16)).await, Ok(1));
    assert_eq!(guest.attack_limited(of_memory(7 << 16)).await, Limit::Memory);
}

#[tokio::test]
async fn callers_that_take_every_place_of_the_pool_are_turned_away_and_it_recovers() {
    // Not the one that the other tests share.
    let host = Host::with(engine(Settings::default()));
    let parked = component(
        "import wasi:clocks/monotonic-clock@0.3.0; export run: async func() -> u32; export quick: func() -> u32;",
        r#"(import "wasi:clocks/monotonic-clock@0.3.0" "wait-for" (func $wait (param i64)))
            (func (export "run") (result i32) (call $wait (i64.const 3600000000000)) (i32.const 1))
            (func (export "quick") (result i32) (i32.const 1))"#,
    );
    let guest = host.guest(&parked, "").await;
    let limits = Limits { deadline: Duration::from_millis(500), ..Limits::default() };
    let engine = &host.loader.engine;
    let calls = (0..300).map(|_| {
        let account = engine.open_account(limits.clone());
        let service = service(&guest.running, "guest").clone();
        tokio::spawn(async move { call(&service, &CallContext::local(), &account, "run").await })
    });
    let (mut parked, mut turned_away) = (0, 0);
    for ended in calls.collect::<Vec<_>>() {
        match ended.await.unwrap().unwrap_err() {
            CallError::Limit(exceeded) if exceeded.limit == Limit::Deadline => parked += 1,
            CallError::Unavailable { reason, .. } if reason.contains("host.pool.instances") => turned_away += 1,
            other => panic!("neither parked nor turned away: {other}"),
        }
    }
    assert!(parked > 0 && turned_away > 0, "{parked} parked, {turned_away} turned away");
    assert_eq!(guest.call("quick").await, Ok(1), "a full pool is not the component's fault");
}

#[tokio::test]
async fn a_million_handles_of_the_host_end_at_the_limit() {
    let host = Host::new();
    let hoards = component(
        "import wasi:clocks/monotonic-clock@0.2.12; export run: func() -> u32; export few: func() -> u32;",
        r#"(import "wasi:clocks/monotonic-clock@0.2.12" "subscribe-duration" (func $open (param i64) (result i32)))
            (func $hoard (param $left i32) (result i32)
                (loop $more
                    (drop (call $open (i64.const 1)))
                    (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
                (i32.const 1))
            (func (export "few") (result i32) (call $hoard (i32.const 100)))
            (func (export "run") (result i32) (call $hoard (i32.const 1000000)))"#,
    );
    let guest = host.guest(&hoards, "").await;
    assert_eq!(guest.call("few").await, Ok(1));
    assert_eq!(guest.attack_limited(Limits::default()).await, Limit::Handles);
}

#[tokio::test]
async fn a_million_handles_of_the_component_s_own_end_at_the_limit() {
    let host = Host::new();
    let hoards = wat::parse_str(
        r#"(component
            (type $thing' (resource (rep i32)))
            (core func $new (canon resource.new $thing'))
            (core module $m
                (import "" "new" (func $new (param i32) (result i32)))
                (func $hoard (param $left i32) (result i32)
                    (loop $more
                        (drop (call $new (local.get $left)))
                        (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
                    (i32.const 1))
                (func (export "few") (result i32) (call $hoard (i32.const 100)))
                (func (export "run") (result i32) (call $hoard (i32.const 1000000))))
            (core instance $i (instantiate $m (with "" (instance (export "new" (func $new))))))
            (func (export "few") (result u32) (canon lift (core func $i "few")))
            (func (export "run") (result u32) (canon lift (core func $i "run"))))"#,
    )
    .unwrap();
    let guest = host.guest(&hoards, "").await;
    assert_eq!(guest.call("few").await, Ok(1));
    assert_eq!(guest.attack_limited(Limits::default()).await, Limit::Handles);
}

/// Sends strings and lists of any length to the host: a line to the log.
fn sends(length: u32) -> Vec<u8> {
    let pages = length / 65536 + 1;
    component(
        "import wasi:logging/logging@0.1.0-draft; export run: func() -> u32;",
        &format!(
            r#"(import "wasi:logging/logging@0.1.0-draft" "log" (func $log (param i32 i32 i32 i32 i32)))
            (memory (export "memory") {pages})
            (func (export "run") (result i32)
                (memory.fill (i32.const 0) (i32.const 97) (i32.const {length}))
                (call $log (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const {length}))
                (i32.const 1))"#
        ),
    )
}

#[tokio::test]
async fn a_huge_string_does_not_cross_to_the_host() {
    let host = Host::new();
    let limits = Limits { call_bytes: 1 << 20, ..Limits::default() };
    let sound = host.guest(&sends(1000), "grants.logging = {}").await;
    assert_eq!(sound.call_within("run", limits.clone()).await, Ok(1));
    let huge = host.guest(&sends(8 << 20), "grants.logging = {}").await;
    assert_eq!(huge.attack_limited(limits).await, Limit::CallBytes);
}

#[tokio::test]
async fn a_huge_list_does_not_come_back_as_an_answer() {
    let text = |length: u32| {
        component(
            "export run: func() -> u32; export texts: func() -> list<string>;",
            &format!(
                r#"{}
                (func (export "run") (result i32) (i32.const 1))
                (func (export "texts") (result i32)
                    (i32.store (i32.const 16) (i32.const 1024))
                    (i32.store (i32.const 20) (i32.const {length}))
                    (i32.const 16))"#,
                guest::MEMORY
            ),
        )
    };
    let host = Host::new();
    let limits = Limits { call_bytes: 4 << 10, ..Limits::default() };
    let texts = async |length: u32| {
        let guest = host.guest(&text(length), "").await;
        let account = host.loader.engine.open_account(limits.clone());
        crate::host::values(service(&guest.running, "guest"), &account, "texts").await
    };
    assert!(texts(10).await.is_ok());
    assert_eq!(crate::host::limit(texts(8_000).await.unwrap_err()), Limit::CallBytes);
}
