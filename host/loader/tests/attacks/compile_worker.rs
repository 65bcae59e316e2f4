//! The compiler of foreign components as a program of its own, for tests: `witan compile-worker` without the rest.

fn main() {
    std::process::exit(witan_engine::compile_worker());
}
