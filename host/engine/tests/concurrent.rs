//! Instances that serve several calls at once, with components written out as text.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop at what it did not expect")]

use std::{sync::Arc, time::Duration};

use wasmtime::component::{Accessor, Instance, Linker};
use witan_capability::{
    Authority, Beginning, CallContext, CallError, CallState, Component, Decision, Kernel, Limit, Limits, Policy,
    Privacy, Request, TaskFile,
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

/// A component whose `run` counts its calls, does `then`, and gives the count.
fn counting(then: &str) -> String {
    lingering(then, "")
}

/// As [`counting`], with something left to do after the count is given.
fn lingering(then: &str, rest: &str) -> String {
    format!(
        r#"(component
            (import "park" (func $park async))
            (import "turn" (func $turn async))
            (core func $park (canon lower (func $park)))
            (core func $turn (canon lower (func $turn)))
            (core func $return (canon task.return (result u32)))
            (core module $m
                (import "" "park" (func $park))
                (import "" "turn" (func $turn))
                (import "" "return" (func $return (param i32)))
                (global $n (mut i32) (i32.const 0))
                (func (export "run") (local $n i32)
                    (global.set $n (i32.add (global.get $n) (i32.const 1)))
                    (local.set $n (global.get $n))
                    {then}
                    (call $return (local.get $n))
                    {rest}))
            (core instance $i (instantiate $m
                (with "" (instance
                    (export "park" (func $park)) (export "turn" (func $turn)) (export "return" (func $return))))))
            (func (export "run") async (result u32) (canon lift (core func $i "run") async)))"#
    )
}

/// The first call waits without end.
const FIRST_PARKS: &str = "(if (i32.eq (local.get $n) (i32.const 1)) (then (call $park)))";

struct Host {
    engine: Arc<Engine>,
    service: Arc<Service>,
}

fn version(engine: &Arc<Engine>, text: &str, instances: Instances) -> Arc<Version> {
    let code = engine.compile(&wat::parse_str(text).unwrap(), Trust::Own, None, None).unwrap();
    let mut linker = Linker::<CallState>::new(engine.wasmtime());
    linker
        .root()
        .func_wrap_concurrent("park", |_, ()| Box::pin(std::future::pending::<wasmtime::Result<()>>()))
        .unwrap();
    let turn = async || {
        tokio::task::yield_now().await;
        Ok(())
    };
    linker.root().func_wrap_concurrent("turn", move |_, ()| Box::pin(turn())).unwrap();
    let pre = linker.instantiate_pre(&code).unwrap();
    let component = Arc::new(Component { name: "guest".into(), digest: [0; 32], grants: Arc::default() });
    Version::new(engine.clone(), component, pre, instances)
}

fn concurrent() -> Instances {
    Instances { reuse: Reuse::Concurrent, ..Instances::default() }
}

impl Host {
    fn new(text: &str, instances: Instances) -> Self {
        let engine =
            Engine::new(Settings { pool: Pool { instances: 50, ..Pool::default() }, ..Settings::default() }).unwrap();
        let version = version(&engine, text, instances);
        let service = Service::new("guest", Kernel::new(Arc::new(AllowAll)), ServiceSettings::default(), version);
        Self { engine, service }
    }

    async fn call(&self) -> Result<u32, CallError> {
        self.call_as(&CallContext::local(), Limits::default()).await
    }

    async fn call_as(&self, context: &CallContext, limits: Limits) -> Result<u32, CallError> {
        self.service.call_plain(context, &self.engine.open_account(limits), Run).await
    }

    /// Starts a call in a task of its own, and waits until it is under way in the guest.
    async fn park(&self) -> tokio::task::JoinHandle<Result<u32, CallError>> {
        let (service, account) = (self.service.clone(), self.engine.open_account(Limits::default()));
        let call = tokio::spawn(async move { service.call_plain(&CallContext::local(), &account, Run).await });
        while self.service.stats().active == 0 {
            tokio::task::yield_now().await;
        }
        call
    }
}

#[tokio::test]
async fn calls_share_an_instance_at_the_same_time() {
    let host = Host::new(&counting(FIRST_PARKS), concurrent());
    let parked = host.park().await;
    assert_eq!(host.call().await, Ok(2));
    assert_eq!(host.call().await, Ok(3));
    parked.abort();
    host.service.current().drained().await;
    assert_eq!(host.call().await, Ok(4));
}

#[tokio::test]
async fn others_and_calls_that_carry_something_of_their_own_get_another() {
    let host = Host::new(&counting(""), concurrent());
    let local = CallContext::local();
    assert_eq!(host.call_as(&local, Limits::default()).await, Ok(1));
    let file = TaskFile { name: "a".into(), guest: "/task/0/a".into(), host: "/a".into() };
    for other in [
        CallContext::new("someone", "local"),
        CallContext::new("local", "elsewhere"),
        local.narrow_privacy(Privacy::LocalOnly),
        local.narrow_budget(1),
        local.for_task(uuid::Uuid::nil(), vec![file]),
        local.child(),
        local.begun(Beginning { source: Some([192, 0, 2, 1].into()), ..Beginning::default() }),
        local.with_authority(Authority::none()),
    ] {
        assert_eq!(host.call_as(&other, Limits::default()).await, Ok(1), "{other:?}");
    }
    assert_eq!(host.call_as(&local, Limits::default()).await, Ok(2));
}

#[tokio::test]
async fn a_trap_ends_all_calls_of_its_instance_and_the_next_gets_another() {
    let traps = "(if (i32.eq (local.get $n) (i32.const 2)) (then unreachable))";
    let host = Host::new(&counting(&format!("{FIRST_PARKS} {traps}")), concurrent());
    let parked = host.park().await;
    assert!(matches!(host.call().await, Err(CallError::Trapped { .. })));
    assert!(matches!(parked.await.unwrap(), Err(CallError::Trapped { .. })));
    let parked = host.park().await;
    assert!(!parked.is_finished(), "a new instance counts from one, and its first call waits");
    parked.abort();
}

#[tokio::test]
async fn a_call_meets_its_own_deadline_and_the_instance_goes_on() {
    let host = Host::new(&counting("(call $park)"), concurrent());
    let parked = host.park().await;
    let limits = Limits { deadline: Duration::from_millis(50), ..Limits::default() };
    match host.call_as(&CallContext::local(), limits).await {
        Err(CallError::Limit(exceeded)) => assert_eq!(exceeded.limit, Limit::Deadline),
        other => panic!("expected a limit, not {other:?}"),
    }
    assert!(!parked.is_finished());
    parked.abort();
}

#[tokio::test]
async fn an_instance_is_replaced_after_its_calls() {
    let host = Host::new(&counting(""), Instances { calls: 2, ..concurrent() });
    let mut answers = Vec::new();
    for _ in 0..5 {
        answers.push(host.call().await.unwrap());
    }
    assert_eq!(answers, [1, 2, 1, 2, 1]);
}

#[tokio::test]
async fn a_limit_of_the_instance_ends_its_calls() {
    let host = Host::new(&counting("(loop (br 0))"), concurrent());
    let limits = Limits { cpu: Duration::from_millis(20), ..Limits::default() };
    match host.call_as(&CallContext::local(), limits).await {
        Err(CallError::Limit(exceeded)) => assert_eq!(exceeded.limit, Limit::Cpu),
        other => panic!("expected a limit, not {other:?}"),
    }
}

#[tokio::test]
async fn a_replaced_version_finishes_its_calls_and_is_gone() {
    let host = Host::new(&counting(FIRST_PARKS), concurrent());
    let parked = host.park().await;
    assert_eq!(host.call().await, Ok(2));
    let old = host.service.replace(version(&host.engine, &counting(""), concurrent()));
    assert_eq!(host.call().await, Ok(1), "new calls get the new version");
    assert!(!parked.is_finished(), "old ones stay");
    parked.abort();
    old.drained().await;
    let gone = Arc::downgrade(&old);
    drop(old);
    while gone.strong_count() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_linger_give_their_places_back() {
    const CALLERS: usize = 24;
    const CALLS: usize = 200;
    let turns = "(call $turn) (call $turn)";
    let host = Arc::new(Host::new(&lingering("(call $turn)", turns), concurrent()));
    let callers = (0..CALLERS).map(|_| {
        let host = host.clone();
        tokio::spawn(async move {
            for _ in 0..CALLS {
                host.call().await.unwrap();
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
    // Ends only when every place was given back.
    host.service.current().drained().await;
    let stats = host.service.stats();
    assert_eq!((stats.active, stats.waiting), (0, 0));
    assert_eq!(stats.completed, (CALLERS * CALLS) as u64);
}
