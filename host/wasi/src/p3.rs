//! WASI 0.3.

pub(crate) mod cli;
pub(crate) mod clocks;
pub(crate) mod filesystem;
pub(crate) mod random;
pub(crate) mod sockets;
