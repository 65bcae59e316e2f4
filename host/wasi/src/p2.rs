//! WASI 0.2. The version that the linker is told is the newest; it serves every earlier 0.2 as well.

pub(crate) mod cli;
pub(crate) mod clocks;
pub(crate) mod filesystem;
pub(crate) mod io;
pub(crate) mod random;
pub(crate) mod sockets;
