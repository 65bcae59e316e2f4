//! An answer of Vault.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| witan_inputs::vault(bytes));
