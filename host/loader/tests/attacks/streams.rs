//! Streams without end: from a guest that never stops writing, and to one that never stops reading.

use std::{sync::Arc, time::Duration};

use witan_capability::{CallContext, CallError, Limit, Limits, Meter};
use witan_forward::{
    Caller,
    task::{Handler as _, Input, Request},
};

use crate::{
    guest::component,
    host::{Host, call, limit, service, short},
};

const HANDLER: &str = "witan:task/handler-sync@0.1.0-draft";

/// Handles every task with notices of so many bytes, `most` of them at most.
fn floods(bytes: u32, most: u32) -> Vec<u8> {
    let pages = bytes / 65_536 + 2;
    component(
        &format!("export {HANDLER};"),
        &format!(
            r#"(import "[export]{HANDLER}" "[resource-new]handle-run" (func $new (param i32) (result i32)))
            (memory (export "memory") {pages})
            (global $given (mut i32) (i32.const 0))
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))
            (func (export "{HANDLER}#handle") (param i32 i32 i32 i32 i32 i32 i32) (result i32)
                (call $new (i32.const 1)))
            (func (export "{HANDLER}#[method]handle-run.next") (param i32) (result i32)
                (if (i32.ge_u (global.get $given) (i32.const {most})) (then (return (i32.const 64))))
                (global.set $given (i32.add (global.get $given) (i32.const 1)))
                (i32.store8 (i32.const 0) (i32.const 1))
                (i32.store8 (i32.const 4) (i32.const 2))
                (i32.store (i32.const 8) (i32.const 4096))
                (i32.store (i32.const 12) (i32.const {bytes}))
                (i32.const 0))
            (func (export "{HANDLER}#[static]handle-run.verdict") (param i32) (result i32)
                (i32.store8 (i32.const 128) (i32.const 1))
                (i32.const 128))"#
        ),
    )
}

fn request() -> Request {
    Request { intent: "flood".to_owned(), input: Input::Text(String::new()), parameters: Vec::new() }
}

#[tokio::test]
async fn a_writer_whom_nobody_reads_waits_and_holds_little_until_its_time_is_up() {
    let host = Host::new();
    let guest = host.guest(&floods(1 << 20, u32::MAX), "").await;
    let limits = Limits { deadline: Duration::from_millis(800), ..Limits::default() };
    let account = host.loader.engine.open_account(limits);
    let context = CallContext::local();
    let run = service(&guest.running, "guest").handle(&Caller::host(&context, &account), request()).await.unwrap();
    // Nothing is read of it.
    let error = run.verdict.await.unwrap_err();
    assert_eq!(limit(error), Limit::Deadline);
    assert!(account.memory_peak() < 16 << 20, "{} bytes", account.memory_peak());
    assert!(account.used(Meter::Cpu) < 700_000_000, "it waited rather than ran");
    assert!(guest.attack_is_over().await);
}

#[tokio::test]
async fn a_writer_without_end_that_is_read_ends_with_its_processor_time() {
    let host = Host::new();
    let finite = host.guest(&floods(10, 100), "").await;
    assert_eq!(read_all(&host, &finite.running, Limits::default()).await.0, 100);
    let endless = host.guest(&floods(10, u32::MAX), "").await;
    let (_, ended) = read_all(&host, &endless.running, short()).await;
    assert_eq!(limit(ended.unwrap_err()), Limit::Cpu);
}

/// How many items came, and how it ended.
async fn read_all(host: &Host, running: &witan_loader::Running, limits: Limits) -> (usize, Result<(), CallError>) {
    let account = host.loader.engine.open_account(limits);
    let context = CallContext::local();
    let mut run = service(running, "guest").handle(&Caller::host(&context, &account), request()).await.unwrap();
    let mut read = 0;
    while let Some(items) = run.events.next().await {
        read += items.len();
    }
    (read, run.verdict.await.map(drop))
}

/// Reads what the component that it is linked to handles, until there is no more of it.
fn reads() -> Vec<u8> {
    component(
        &format!("import {HANDLER}; export run: func() -> u32;"),
        &format!(
            r#"(import "{HANDLER}" "handle" (func $handle (param i32 i32 i32 i32 i32 i32 i32) (result i32)))
            (import "{HANDLER}" "[method]handle-run.next" (func $next (param i32 i32)))
            (memory (export "memory") 2)
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))
            (func (export "run") (result i32) (local $run i32) (local $read i32)
                (local.set $run (call $handle (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
                    (i32.const 0) (i32.const 0)))
                (loop $more
                    (call $next (local.get $run) (i32.const 0))
                    (if (i32.load8_u (i32.const 0)) (then
                        (local.set $read (i32.add (local.get $read) (i32.const 1)))
                        (br $more))))
                (local.get $read))"#
        ),
    )
}

#[tokio::test]
async fn a_reader_without_end_ends_with_the_processor_time_of_the_whole_tree() {
    let host = Host::new();
    host.put("reads", &reads());
    let system = "[components.reads]\nsource = \"reads.wasm\"\n\
        links.\"witan:task/handler-sync\" = { component = \"floods\" }\n\
        [components.floods]\nsource = \"floods.wasm\"\n";
    for (most, expected) in [(50, Ok(50)), (u32::MAX, Err(Limit::Cpu))] {
        host.put("floods", &floods(10, most));
        let running = host.load(system).await.unwrap_or_else(|error| panic!("{error}"));
        let account = host.loader.engine.open_account(short());
        let answer = call(service(&running, "reads"), &CallContext::local(), &account, "run").await;
        assert_eq!(answer.map_err(limit), expected);
        running.drained().await;
        assert_eq!(account.used(Meter::Memory), 0);
        assert_eq!(Arc::strong_count(&account), 1, "nothing of the call tree is left");
    }
}
