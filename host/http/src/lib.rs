//! wasi:http, both ways, 0.2 and 0.3, behind the guard.
