//! wasi:clocks 0.2: the monotonic clock for everyone, the wall clock where it was granted.

use wasmtime::{Result, component::Resource};
use wasmtime_wasi::p2::bindings::clocks::{monotonic_clock, wall_clock};
use wasmtime_wasi_io::poll::DynPollable;

use crate::guard::guarded;

guarded! {
    MONOTONIC: "wasi:clocks/monotonic-clock@0.2.12", monotonic_clock::Host, via clocks;
    ["now"] sync fn now(&mut self) -> Result<u64> = baseline();
    ["resolution"] sync fn resolution(&mut self) -> Result<u64> = baseline();
    ["subscribe-instant"] sync fn subscribe_instant(&mut self, when: u64) -> Result<Resource<DynPollable>> = baseline();
    ["subscribe-duration"] sync fn subscribe_duration(&mut self, duration: u64) -> Result<Resource<DynPollable>> = baseline();
}

guarded! {
    WALL: "wasi:clocks/wall-clock@0.2.12", wall_clock::Host, via clocks;
    ["now"] sync fn now(&mut self) -> Result<wall_clock::Datetime> = wall_clock();
    ["resolution"] sync fn resolution(&mut self) -> Result<wall_clock::Datetime> = wall_clock();
}
