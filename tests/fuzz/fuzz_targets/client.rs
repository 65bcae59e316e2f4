//! What a client sends.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| witan_inputs::client(bytes));
