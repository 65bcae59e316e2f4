//! A ledger by its files: what is written, what is found changed, what is erased, and what a crash leaves.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop at what it did not expect")]

mod erased;
mod exported;
mod killed;
mod redacted;
mod support;
mod tampered;
mod witnessed;
mod written;
