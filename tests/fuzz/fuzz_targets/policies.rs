//! Policies, entities and cases, a NUL between them.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| witan_inputs::policies(bytes));
