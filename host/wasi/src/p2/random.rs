//! wasi:random 0.2. Randomness gives a guest nothing over others.

use wasmtime::Result;
use wasmtime_wasi::p2::bindings::random::{insecure, insecure_seed, random};

use crate::guard::guarded;

guarded! {
    RANDOM: "wasi:random/random@0.2.12", random::Host, via random;
    ["get-random-bytes"] sync fn get_random_bytes(&mut self, length: u64) -> Result<Vec<u8>> = baseline();
    ["get-random-u64"] sync fn get_random_u64(&mut self) -> Result<u64> = baseline();
}

guarded! {
    INSECURE: "wasi:random/insecure@0.2.12", insecure::Host, via random;
    ["get-insecure-random-bytes"] sync fn get_insecure_random_bytes(&mut self, length: u64) -> Result<Vec<u8>> = baseline();
    ["get-insecure-random-u64"] sync fn get_insecure_random_u64(&mut self) -> Result<u64> = baseline();
}

guarded! {
    INSECURE_SEED: "wasi:random/insecure-seed@0.2.12", insecure_seed::Host, via random;
    ["insecure-seed"] sync fn insecure_seed(&mut self) -> Result<(u64, u64)> = baseline();
}
