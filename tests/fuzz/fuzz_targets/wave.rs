//! A value as text.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| witan_inputs::wave(bytes));
