//! A component that exceeds limits of its own, which are narrower than those of the call trees it is called in. Beside
//! it the same bytes have no limits of their own: what ends the one is nothing to the other.

use std::sync::Arc;

use witan_capability::{Account, CallContext, CallError, Limit, LimitExceeded, Limits, Meter};
use witan_loader::Running;

use crate::{
    guest::{component, runs},
    host::{Host, call, service},
    loads::{asks, well},
};

/// Has `narrow` exceed its own `limit` in a tree that allows more, while `wide` does the same. Gives the account
/// of the tree that ended.
async fn exceed(host: &Host, running: &Running, limit: Limit) -> Arc<Account> {
    let of_tree = Limits::default();
    let account = host.loader.engine.open_account(of_tree.clone());
    let context = CallContext::local();
    let beside = host.loader.engine.open_account(of_tree);
    let (narrow, wide) = tokio::join!(
        call(service(running, "narrow"), &context, &account, "run"),
        call(service(running, "wide"), &context, &beside, "run"),
    );
    let Err(CallError::Limit(exceeded)) = narrow else { panic!("not ended by a limit: {narrow:?}") };
    let setting = format!("components.narrow.limits.{limit}");
    assert_eq!((exceeded.limit, exceeded.setting()), (limit, setting.clone()));
    assert!(exceeded.to_string().contains(&setting), "{exceeded}");
    let answer = wide.expect("the same bytes, beside it, have what the tree allows");
    assert_eq!(account.ended(), Some(&CallError::Limit(exceeded)));

    running.drained().await;
    assert_eq!(account.used(Meter::Memory), 0, "what the call held is given back");
    let after = host.loader.engine.open_account(Limits::default());
    assert_eq!(call(service(running, "wide"), &context, &after, "run").await, Ok(answer), "and later too");
    account
}

/// Loads the same bytes twice, each with `settings`: as `narrow`, with `limits` of its own, and as `wide`.
async fn load(host: &Host, bytes: &[u8], limits: &str, settings: &str) -> Running {
    host.put("both", bytes);
    host.put("well", &well());
    let text = format!(
        "[components.well]\nsource = \"well.wasm\"\n\
         [components.narrow]\nsource = \"both.wasm\"\nlimits = {{ {limits} }}\n{settings}\n\
         [components.wide]\nsource = \"both.wasm\"\n{settings}\n"
    );
    host.load(&text).await.unwrap_or_else(|error| panic!("{error}"))
}

#[tokio::test]
async fn its_own_memory() {
    let host = Host::new();
    let grows = runs(
        r#"(memory 1) (func (export "run") (result i32)
            (drop (memory.grow (i32.const 100)))
            (i32.eq (memory.size) (i32.const 101)))"#,
    );
    let running = load(&host, &grows, "memory = \"1MiB\"", "").await;
    let tree = exceed(&host, &running, Limit::Memory).await;
    assert!(tree.memory_peak() <= 1 << 20, "the tree's own limit was not drawn from: {}", tree.memory_peak());
}

#[tokio::test]
async fn its_own_processor_time() {
    let host = Host::new();
    // Some hundred milliseconds: more than the one may run, and far less than the other.
    let counts = runs(
        r#"(func (export "run") (result i32)
            (local $left i32)
            (local.set $left (i32.const 300000000))
            (loop $more (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
            (i32.const 1))"#,
    );
    let running = load(&host, &counts, "cpu = \"20ms\"", "").await;
    let tree = exceed(&host, &running, Limit::Cpu).await;
    assert!(tree.used(Meter::Cpu) < Limit::Cpu.allowed(tree.limits()), "most of the tree's time is left");
}

#[tokio::test]
async fn its_own_deadline() {
    let host = Host::new();
    let waits = component(
        "import wasi:clocks/monotonic-clock@0.3.0; export run: async func() -> u32;",
        r#"(import "wasi:clocks/monotonic-clock@0.3.0" "wait-for" (func $wait (param i64)))
            (func (export "run") (result i32) (call $wait (i64.const 2000000000)) (i32.const 1))"#,
    );
    let running = load(&host, &waits, "deadline = \"100ms\"", "").await;
    exceed(&host, &running, Limit::Deadline).await;
}

#[tokio::test]
async fn its_own_depth() {
    let host = Host::new();
    let link = "links.\"witan:component/health-sync\" = { component = \"well\" }";
    let running = load(&host, &asks(), "depth = 1", link).await;
    exceed(&host, &running, Limit::Depth).await;
}

#[tokio::test]
async fn its_own_handles_and_log_bytes() {
    let host = Host::new();
    let hoards = component(
        "import wasi:clocks/monotonic-clock@0.2.12; export run: func() -> u32;",
        r#"(import "wasi:clocks/monotonic-clock@0.2.12" "subscribe-duration" (func $open (param i64) (result i32)))
            (func (export "run") (result i32)
                (local $left i32)
                (local.set $left (i32.const 1000))
                (loop $more
                    (drop (call $open (i64.const 1)))
                    (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
                (i32.const 1))"#,
    );
    let running = load(&host, &hoards, "handles = 100", "").await;
    exceed(&host, &running, Limit::Handles).await;

    let logs = component(
        "import wasi:logging/logging@0.1.0-draft; export run: func() -> u32;",
        r#"(import "wasi:logging/logging@0.1.0-draft" "log" (func $log (param i32 i32 i32 i32 i32)))
            (memory (export "memory") 1)
            (func (export "run") (result i32)
                (memory.fill (i32.const 0) (i32.const 97) (i32.const 2000))
                (call $log (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 2000))
                (i32.const 1))"#,
    );
    let running = load(&host, &logs, "log-bytes = \"1KiB\"", "grants.logging = {}").await;
    let tree = exceed(&host, &running, Limit::LogBytes).await;
    assert_eq!(tree.used(Meter::LogBytes), 0, "what was refused is not charged to the tree");
}

/// A caller that is called with a limit of the tree that is narrower than the component's own meets the tree's.
#[tokio::test]
async fn a_tree_that_allows_less_goes_before() {
    let host = Host::new();
    let grows = runs(
        r#"(memory 1) (func (export "run") (result i32)
            (drop (memory.grow (i32.const 100))) (i32.eq (memory.size) (i32.const 101)))"#,
    );
    let running = load(&host, &grows, "memory = \"1MiB\"", "").await;
    let account = host.loader.engine.open_account(Limits { memory: 128 << 10, ..Limits::default() });
    let ended = call(service(&running, "narrow"), &CallContext::local(), &account, "run").await;
    let exceeded = LimitExceeded { limit: Limit::Memory, allowed: 128 << 10, component: None };
    assert_eq!(ended, Err(CallError::Limit(exceeded)));
}
