//! Calls and the limits that end them, with components written out as text.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop at what it did not expect")]

use std::{sync::Arc, time::Duration};

use wasmtime::component::{Accessor, Instance, Linker};
use witan_capability::{
    Account, CallContext, CallError, CallState, Component, Decision, Kernel, Limit, Limits, Policy, Request,
};
use witan_engine::{Engine, Invocation, Reply, Service, ServiceSettings, Settings, Trust, Version};
use witan_system::{Instances, Pool, Reuse};

struct AllowAll;

impl Policy for AllowAll {
    fn decide(&self, _: &Request<'_>) -> Decision {
        Decision::Allow
    }
}

/// Calls the export `run`, which takes nothing and gives a number.
struct Run;

impl Invocation for Run {
    type Output = u32;

    async fn run(self, accessor: &Accessor<CallState>, instance: Instance, reply: Reply<u32>) -> wasmtime::Result<()> {
        let run = accessor.with(|mut store| instance.get_typed_func::<(), (u32,)>(&mut store, "run"))?;
        let (number,) = run.call_concurrent(accessor, ()).await?;
        reply.send(number);
        Ok(())
    }
}

struct Host {
    engine: Arc<Engine>,
    service: Arc<Service>,
}

impl Host {
    fn new(text: &str) -> Self {
        Self::with(text, Reuse::Fresh, ServiceSettings::default())
    }

    fn with(text: &str, reuse: Reuse, settings: ServiceSettings) -> Self {
        let engine =
            Engine::new(Settings { pool: Pool { instances: 50, ..Pool::default() }, ..Settings::default() }).unwrap();
        let code = engine.compile(&wat::parse_str(text).unwrap(), Trust::Own, None, None).unwrap();
        let mut linker = Linker::<CallState>::new(engine.wasmtime());
        linker
            .root()
            .func_wrap_concurrent("park", |_, ()| Box::pin(std::future::pending::<wasmtime::Result<()>>()))
            .unwrap();
        let hold = |mut store: wasmtime::StoreContextMut<'_, CallState>, ()| {
            store.data_mut().table.push("a handle")?;
            Ok(())
        };
        linker.root().func_wrap("hold", hold).unwrap();
        let pre = linker.instantiate_pre(&code).unwrap();
        let component = Arc::new(Component { name: "guest".into(), digest: [0; 32], grants: Arc::default() });
        let version = Version::new(engine.clone(), component, pre, Instances { reuse, ..Instances::default() });
        let service = Service::new("guest", Kernel::new(Arc::new(AllowAll)), settings, version);
        Self { engine, service }
    }

    async fn call(&self, limits: Limits) -> Result<u32, CallError> {
        self.call_in(&self.engine.open_account(limits)).await
    }

    async fn call_in(&self, account: &Arc<Account>) -> Result<u32, CallError> {
        self.service.call_plain(&CallContext::local(), account, Run).await
    }
}

/// A component whose core module is `module`, with `run` exported from it.
fn guest(module: &str) -> String {
    format!(
        r#"(component
            (core module $m {module})
            (core instance $i (instantiate $m))
            (func (export "run") (result u32) (canon lift (core func $i "run"))))"#
    )
}

fn limited(result: Result<u32, CallError>) -> Limit {
    match result {
        Err(CallError::Limit(exceeded)) => exceeded.limit,
        other => panic!("expected a limit, not {other:?}"),
    }
}

const LOOP: &str = r#"(func (export "run") (result i32) (loop (br 0)) unreachable)"#;

fn little_cpu() -> Limits {
    Limits { cpu: Duration::from_millis(50), ..Limits::default() }
}

#[tokio::test]
async fn a_call_answers() {
    let host = Host::new(&guest(r#"(func (export "run") (result i32) (i32.const 42))"#));
    assert_eq!(host.call(Limits::default()).await, Ok(42));
    assert_eq!(host.service.stats().completed, 1);
}

#[tokio::test(flavor = "current_thread")]
async fn an_endless_loop_ends_with_its_processor_time_and_others_go_on() {
    let runaway = Host::new(&guest(LOOP));
    let other = Host::new(&guest(r#"(func (export "run") (result i32) (i32.const 1))"#));
    let (ended, answered) = tokio::join!(runaway.call(little_cpu()), other.call(Limits::default()));
    assert_eq!(limited(ended), Limit::Cpu);
    assert_eq!(answered, Ok(1));
}

#[tokio::test]
async fn an_endless_loop_in_a_start_function_ends_too() {
    let host = Host::new(&guest(
        r#"(func $start (loop (br 0))) (start $start) (func (export "run") (result i32) (i32.const 0))"#,
    ));
    assert_eq!(limited(host.call(little_cpu()).await), Limit::Cpu);
}

#[tokio::test]
async fn a_loop_that_is_quicker_than_its_processor_time_meets_its_deadline() {
    let host = Host::new(&guest(LOOP));
    let limits = Limits { deadline: Duration::from_millis(20), ..Limits::default() };
    assert_eq!(limited(host.call(limits).await), Limit::Deadline);
}

#[tokio::test]
async fn a_call_that_is_parked_in_the_host_meets_its_deadline_and_pays_no_processor_time() {
    let host = Host::new(
        r#"(component
            (import "park" (func $park async))
            (core func $park (canon lower (func $park)))
            (core module $m
                (import "" "park" (func $park))
                (func (export "run") (result i32) (call $park) (i32.const 0)))
            (core instance $i (instantiate $m (with "" (instance (export "park" (func $park))))))
            (func (export "run") async (result u32) (canon lift (core func $i "run"))))"#,
    );
    let limits = Limits { deadline: Duration::from_millis(100), cpu: Duration::from_millis(50), ..Limits::default() };
    assert_eq!(limited(host.call(limits).await), Limit::Deadline);
}

#[tokio::test]
async fn memory_beyond_the_limit_ends_the_call_even_if_the_guest_would_go_on() {
    let host = Host::new(&guest(
        r#"(memory 1) (func (export "run") (result i32) (drop (memory.grow (i32.const 1000))) (i32.const 7))"#,
    ));
    let limits = Limits { memory: 32 << 20, ..Limits::default() };
    let account = host.engine.open_account(limits);
    assert_eq!(limited(host.call_in(&account).await), Limit::Memory);
    assert_eq!(account.used(witan_capability::Meter::Memory), 0, "what the store held is given back");
    assert_eq!(host.call(Limits::default()).await, Ok(7));
}

#[tokio::test]
async fn the_first_memory_counts_too() {
    let host = Host::new(&guest(r#"(memory 100) (func (export "run") (result i32) (i32.const 7))"#));
    assert_eq!(limited(host.call(Limits { memory: 1 << 20, ..Limits::default() }).await), Limit::Memory);
}

#[tokio::test]
async fn deep_recursion_traps_alone() {
    let host = Host::new(&guest(r#"(func $f (export "run") (result i32) (i32.add (call $f) (i32.const 1)))"#));
    let error = host.call(Limits::default()).await.unwrap_err();
    assert!(matches!(&error, CallError::Trapped { message, .. } if message.contains("stack")), "{error}");
}

#[tokio::test]
async fn a_component_that_keeps_trapping_is_left_alone() {
    let host = Host::new(&guest(r#"(func (export "run") (result i32) unreachable)"#));
    for _ in 0..5 {
        assert!(matches!(host.call(Limits::default()).await, Err(CallError::Trapped { .. })));
    }
    assert!(matches!(host.call(Limits::default()).await, Err(CallError::Unavailable { .. })));
    assert_eq!(host.service.stats().refused, 1);
}

#[tokio::test]
async fn calls_that_are_too_deep_are_refused() {
    let host = Host::new(&guest(r#"(func (export "run") (result i32) (i32.const 0))"#));
    assert_eq!(limited(host.call(Limits { depth: 0, ..Limits::default() }).await), Limit::Depth);
}

#[tokio::test]
async fn a_full_queue_turns_calls_away() {
    let host = Host::with(
        &guest(LOOP),
        Reuse::Fresh,
        ServiceSettings { concurrency: 1, queue: 0, ..ServiceSettings::default() },
    );
    let account = host.engine.open_account(little_cpu());
    let other = host.engine.open_account(Limits::default());
    let (ended, refused) = tokio::join!(host.call_in(&account), host.call_in(&other));
    assert_eq!(limited(ended), Limit::Cpu);
    assert!(matches!(refused, Err(CallError::Unavailable { reason, .. }) if reason.contains("limits.queue")));
}

#[tokio::test]
async fn a_component_that_traps_as_often_as_is_set_is_left_alone_and_says_so() {
    let hour = Duration::from_secs(3_600);
    let breaker = witan_system::Breaker { traps: 2, time: hour, longest: hour };
    let settings = ServiceSettings { breaker, ..ServiceSettings::default() };
    let host = Host::with(&guest(r#"(func (export "run") (result i32) unreachable)"#), Reuse::Fresh, settings);
    for _ in 0..2 {
        assert!(!host.service.stats().breaker_open);
        assert!(matches!(host.call(Limits::default()).await, Err(CallError::Trapped { .. })));
    }
    let refused = host.call(Limits::default()).await;
    assert!(
        matches!(&refused, Err(CallError::Unavailable { reason, .. }) if reason.contains("breaker")),
        "{refused:?}"
    );
    let stats = host.service.stats();
    assert_eq!((stats.breaker_open, stats.trapped, stats.refused), (true, 2, 1));
}

#[tokio::test]
async fn a_dropped_call_takes_the_guest_with_it() {
    let host = Host::new(&guest(LOOP));
    let account = host.engine.open_account(Limits::default());
    let call = host.call_in(&account);
    assert!(tokio::time::timeout(Duration::from_millis(30), call).await.is_err());
    host.service.current().drained().await;
}

const COUNTER: &str = r#"(global $n (mut i32) (i32.const 0))
    (func (export "run") (result i32)
        (global.set $n (i32.add (global.get $n) (i32.const 1)))
        (global.get $n))"#;

#[tokio::test]
async fn a_fresh_instance_remembers_nothing() {
    let host = Host::new(&guest(COUNTER));
    assert_eq!(host.call(Limits::default()).await, Ok(1));
    assert_eq!(host.call(Limits::default()).await, Ok(1));
}

#[tokio::test]
async fn a_kept_instance_serves_its_tenant_and_no_other() {
    let host = Host::with(&guest(COUNTER), Reuse::Serial, ServiceSettings::default());
    let call = async |context: &CallContext| {
        let answer = host.service.call_plain(context, &host.engine.open_account(Limits::default()), Run).await.unwrap();
        host.service.current().drained().await;
        answer
    };
    let (one, two) = (CallContext::new("a", "one"), CallContext::new("b", "two"));
    assert_eq!(call(&one).await, 1);
    assert_eq!(call(&one).await, 2);
    assert_eq!(call(&two).await, 1);
    assert_eq!(call(&one.narrow_privacy(witan_capability::Privacy::LocalOnly)).await, 1);
    assert_eq!(call(&one).await, 3);
}

#[tokio::test]
async fn an_instance_that_holds_a_handle_is_not_kept() {
    let text = r#"(component
        (import "hold" (func $hold))
        (core func $hold (canon lower (func $hold)))
        (core module $m
            (import "" "hold" (func $hold))
            (global $n (mut i32) (i32.const 0))
            (func (export "run") (result i32)
                (call $hold)
                (global.set $n (i32.add (global.get $n) (i32.const 1)))
                (global.get $n)))
        (core instance $i (instantiate $m (with "" (instance (export "hold" (func $hold))))))
        (func (export "run") (result u32) (canon lift (core func $i "run"))))"#;
    let host = Host::with(text, Reuse::Serial, ServiceSettings::default());
    for _ in 0..2 {
        assert_eq!(host.call(Limits::default()).await, Ok(1));
        host.service.current().drained().await;
    }
}

#[tokio::test]
async fn a_components_own_narrower_limits_hold_within_a_wider_tree() {
    let module = r#"(memory 1) (func (export "run") (result i32) (drop (memory.grow (i32.const 64))) (i32.const 7))"#;
    let host = Host::new(&guest(module));
    let limits = Limits { memory: 1 << 20, ..Limits::default() };
    let narrow = Service::limited(
        "guest",
        Kernel::new(Arc::new(AllowAll)),
        ServiceSettings::default(),
        host.service.current(),
        limits,
    );
    let account = host.engine.open_account(Limits::default());
    let error = narrow.call_plain(&CallContext::local(), &account, Run).await.unwrap_err();
    let CallError::Limit(exceeded) = error else { panic!("expected a limit, not {error:?}") };
    assert_eq!(exceeded.setting(), "components.guest.limits.memory");
    assert_eq!(host.call(Limits::default()).await, Ok(7), "the same component without limits of its own");
}
