//! What a registry is asked.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| witan_inputs::registry_request(bytes));
