//! Guests that call one another over interfaces that the host knows nothing of.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop at what it did not expect")]

mod guests;
mod host;
mod refused;
