//! The wall clock, which tells a guest when it runs, and so needs a grant to be read.
//!
//! Its interface is linked for everyone all the same: the C library of WASI reads every clock through one function, so
//! that a program which only measures time imports this clock too. Reading it without a grant ends the store.

use wasmtime::component::Linker;
use wasmtime_wasi::{p2 as wasip2, p3 as wasip3};
use witan_capability::{CallState, Capability, HostFunction};
use witan_system::Grants;

use crate::{
    p2, p3,
    view::{Guarded, view},
};

/// wasi:clocks/wall-clock (0.2) and wasi:clocks/system-clock (0.3).
pub struct WallClock;

const TABLES: &[&[HostFunction]] = &[p2::clocks::WALL, p3::clocks::SYSTEM];

impl Capability for WallClock {
    fn name(&self) -> &'static str {
        "wall-clock"
    }

    fn serves(&self, interface: &str) -> bool {
        TABLES.concat().iter().any(|function| crate::serves(function.interface, interface))
    }

    fn granted(&self, _: &Grants) -> bool {
        true
    }

    fn remedy(&self) -> &'static str {
        "wall-clock = true"
    }

    fn add_to_linker(&self, linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
        wasip2::bindings::clocks::wall_clock::add_to_linker::<_, Guarded>(linker, view)?;
        wasip3::bindings::clocks::system_clock::add_to_linker::<_, Guarded>(linker, view)
    }

    fn functions(&self) -> Vec<HostFunction> {
        TABLES.concat()
    }
}
