//! wasi:filesystem, sockets, clocks, random and cli, behind the guard.
//!
//! wasmtime implements WASI; this crate stands before it. Every function enters the guard first, every handle is known
//! by what it leads to, and what is written, sent and logged is charged to the call tree. Start reading at `guard`.
//!
//! **Invariant:** a call that never touches WASI makes nothing here.
//! **Invariant:** no function is linked that is not in [`Capability::functions`]; a test compares with the WIT.

mod baseline;
mod clock;
mod files;
mod guard;
mod network;
mod p2;
mod p3;
mod process;
mod sockets;
mod stream;
#[cfg(test)]
mod tests;
mod view;

use std::sync::Arc;

use witan_capability::Capability;

pub use baseline::Baseline;
pub use clock::WallClock;
pub use process::Process;
pub use sockets::Sockets;

/// The capabilities of this crate.
#[must_use]
pub fn capabilities() -> Vec<Arc<dyn Capability>> {
    vec![Arc::new(Baseline), Arc::new(WallClock), Arc::new(Sockets)]
}

/// Whether the interface that is linked as `linked` serves an import of `interface`: the same package and name, and a
/// version of the same line that is not newer (0.2.0 for 0.2.12).
fn serves(linked: &str, interface: &str) -> bool {
    let (Some((name, version)), Some((linked_name, linked_version))) =
        (interface.split_once('@'), linked.split_once('@'))
    else {
        return linked == interface;
    };
    let line = |version: &str| version.rsplit_once('.').map(|(line, _)| line.to_owned());
    name == linked_name && line(version) == line(linked_version)
}

#[cfg(test)]
mod versions {
    use super::*;

    #[test]
    fn a_line_of_versions_is_served() {
        let linked = "wasi:io/poll@0.2.12";
        assert!(serves(linked, "wasi:io/poll@0.2.0") && serves(linked, "wasi:io/poll@0.2.12"));
        assert!(!serves(linked, "wasi:io/poll@0.3.0") && !serves(linked, "wasi:io/streams@0.2.0"));
        assert!(!serves(linked, "wasi:io/poll"));
    }
}
