//! Links between components, of every face with every face.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop at what it did not expect")]

mod ends;
mod host;
mod round_trip;
mod values;
