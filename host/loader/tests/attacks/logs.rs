//! Attacks on the log.

use std::{
    io,
    sync::{Arc, Mutex},
};

use tracing_subscriber::fmt::MakeWriter;
use witan_capability::{Limit, Limits};

use crate::{
    guest::component,
    host::{Host, short},
};

const LOGGING: &str = "wasi:logging/logging@0.1.0-draft";

/// Logs `lines` lines of `length` bytes; `run` never stops.
fn logs(lines: u32, length: u32) -> Vec<u8> {
    component(
        &format!("import {LOGGING}; export run: func() -> u32; export few: func() -> u32;"),
        &format!(
            r#"(import "{LOGGING}" "log" (func $log (param i32 i32 i32 i32 i32)))
            (memory (export "memory") 2)
            (func $line (call $log (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const {length})))
            (func (export "few") (result i32) (local i32)
                (loop $more
                    (call $line)
                    (br_if $more (i32.lt_u (local.tee 0 (i32.add (local.get 0) (i32.const 1))) (i32.const {lines}))))
                (i32.const 1))
            (func (export "run") (result i32) (loop $more (call $line) (br $more)) (unreachable))"#
        ),
    )
}

#[tokio::test]
async fn a_flood_of_lines_ends_with_the_bytes_that_a_call_may_log() {
    let host = Host::new();
    let guest = host.guest(&logs(10, 100), "grants.logging = { rate = \"1000000/s\" }").await;
    assert_eq!(guest.call("few").await, Ok(1));
    assert_eq!(guest.attack_limited(Limits { log_bytes: 100_000, ..short() }).await, Limit::LogBytes);
}

#[tokio::test]
async fn lines_beyond_the_granted_rate_cost_the_log_nothing_and_the_guest_its_processor_time() {
    let host = Host::new();
    let guest = host.guest(&logs(5, 100), "grants.logging = { rate = \"1/m\" }").await;
    assert_eq!(guest.attack_limited(Limits { log_bytes: 1_000, ..short() }).await, Limit::Cpu);
}

#[tokio::test]
async fn a_flood_of_standard_output_ends_likewise() {
    let host = Host::new();
    let writes = component(
        "import wasi:cli/stdout@0.2.12; export run: func() -> u32; export once: func() -> u32;",
        r#"(import "wasi:cli/stdout@0.2.12" "get-stdout" (func $stdout (result i32)))
            (import "wasi:io/streams@0.2.12" "[method]output-stream.blocking-write-and-flush"
                (func $write (param i32 i32 i32 i32)))
            (memory (export "memory") 1)
            (global $out (mut i32) (i32.const 0))
            (func $line (call $write (global.get $out) (i32.const 0) (i32.const 4096) (i32.const 8192)))
            (func (export "once") (result i32)
                (global.set $out (call $stdout)) (call $line) (i32.load8_u (i32.const 8192)))
            (func (export "run") (result i32)
                (global.set $out (call $stdout)) (loop $more (call $line) (br $more)) (unreachable))"#,
    );
    let guest = host.guest(&writes, "").await;
    assert_eq!(guest.call("once").await, Ok(0));
    assert_eq!(guest.attack_limited(Limits { log_bytes: 100_000, ..short() }).await, Limit::LogBytes);
}

/// What is logged while it is the subscriber.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl io::Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Logged {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// A line of the guest that would clear the screen and add one that is not its own.
#[tokio::test]
async fn a_line_cannot_forge_another() {
    let logged = Logged::default();
    let subscriber = tracing_subscriber::fmt().with_writer(logged.clone()).with_ansi(false).finish();
    let _while = tracing::subscriber::set_default(subscriber);
    let host = Host::new();
    let forges = component(
        &format!("import {LOGGING}; export run: func() -> u32;"),
        &format!(
            r#"(import "{LOGGING}" "log" (func $log (param i32 i32 i32 i32 i32)))
            (memory (export "memory") 1)
            (data (i32.const 0) "mine\1b[2J\0d\0aERROR host: all is lost")
            (func (export "run") (result i32)
                (call $log (i32.const 2) (i32.const 0) (i32.const 4) (i32.const 0) (i32.const 34))
                (i32.const 1))"#
        ),
    );
    let guest = host.guest(&forges, "grants.logging = {}").await;
    // Another test may have logged there first, where nobody listens.
    tracing::callsite::rebuild_interest_cache();
    assert_eq!(guest.call("run").await, Ok(1));
    let text = String::from_utf8(logged.0.lock().unwrap().clone()).unwrap();
    let line = text.lines().find(|line| line.contains("all is lost")).expect("it is logged");
    assert!(line.contains("mine") && line.contains("guest"), "{line}");
    assert!(!text.contains('\u{1b}') && !text.contains('\r'), "{text:?}");
}
