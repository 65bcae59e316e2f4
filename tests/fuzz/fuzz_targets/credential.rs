//! What a client shows for who it is, and what an issuer says of its keys.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| witan_inputs::credential(bytes));
