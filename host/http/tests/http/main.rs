//! wasi:http as components use it: granted, missing and refused, against real servers on this machine.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop at what it did not expect")]

mod client;
mod functions;
mod host;
mod proxy;
mod secrets;
mod serve;
mod tls;
