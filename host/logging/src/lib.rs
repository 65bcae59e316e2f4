//! wasi:logging, at a limited rate.
