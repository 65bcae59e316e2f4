//! The head of a request, and what comes over gRPC.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| witan_inputs::request(bytes));
