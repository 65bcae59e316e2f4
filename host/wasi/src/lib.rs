//! wasi:filesystem, sockets, clocks, random and cli, behind the guard.
