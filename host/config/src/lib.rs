//! wasi:config: the keys the operator granted.
