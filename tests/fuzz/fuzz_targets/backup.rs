//! A backup.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| witan_inputs::backup(bytes));
