//! Systems with hostile components in them, loaded and called as the product does it: the loader, every capability,
//! the kernel's own policy. Each attack is met by its own typed error; the host stays up, and whoever shares it with the
//! attacker sees nothing of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop at what it did not expect")]

mod compile;
mod disk;
mod egress;
mod functions;
mod guest;
mod host;
mod loads;
mod logs;
mod memory;
mod narrower;
mod streams;
