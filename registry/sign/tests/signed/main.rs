//! What is signed, by whom, and which of it a policy accepts.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop at what it did not expect")]

mod common;
mod cosign;
mod keyed;
mod keyless;
mod policy;
