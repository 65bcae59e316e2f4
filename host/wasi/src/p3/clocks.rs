//! wasi:clocks 0.3: the monotonic clock for everyone, the system clock where it was granted.

use wasmtime::Result;
use wasmtime_wasi::{
    clocks::WasiClocks,
    p3::bindings::clocks::{monotonic_clock, system_clock, types},
};
use witan_capability::CallState;

use crate::{
    guard::{guarded, guarded_concurrent},
    view::{self, View},
};

impl types::Host for View<'_> {}

guarded! {
    MONOTONIC: "wasi:clocks/monotonic-clock@0.3.0", monotonic_clock::Host, via clocks;
    ["now"] sync fn now(&mut self) -> Result<u64> = baseline();
    ["get-resolution"] sync fn get_resolution(&mut self) -> Result<u64> = baseline();
}

guarded_concurrent! {
    WAITING: "wasi:clocks/monotonic-clock@0.3.0", monotonic_clock::HostWithStore<CallState>, of WasiClocks, via view::clocks;
    ["wait-until"] fn wait_until(store, when: u64) -> Result<()> = baseline();
    ["wait-for"] fn wait_for(store, duration: u64) -> Result<()> = baseline();
}

guarded! {
    SYSTEM: "wasi:clocks/system-clock@0.3.0", system_clock::Host, via clocks;
    ["now"] sync fn now(&mut self) -> Result<system_clock::Instant> = wall_clock();
    ["get-resolution"] sync fn get_resolution(&mut self) -> Result<u64> = wall_clock();
}
