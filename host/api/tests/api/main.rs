//! The API over real connections: every rule, where it lets through and where it refuses.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod audit;
mod auth;
mod bounds;
mod events;
mod grpc;
mod platform;
mod policies;
mod tasks;
mod throttle;
mod tls;
mod world;
