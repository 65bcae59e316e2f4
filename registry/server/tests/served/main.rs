//! What a registry answers those who push, pull, look and ask, and what is left of it when it is killed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop at what it did not expect")]

mod distribution;
mod killed;
mod metadata;
mod pages;
mod postgres;
mod signed;
mod stock_client;
mod transparency;
