//! How long one decision takes: `cargo run --release -p witan-authorize --example decide`.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement may stop where it stands"
)]

use std::{hint::black_box, time::Instant};

use witan_authorize::{Authorizer, Request, Set, Sources, sample};

const DECISIONS: usize = 50_000;

fn main() {
    measure("mixed", &sample::sources(100, 1_000));
    measure("all general", &sample::general(100, 1_000));
}

fn measure(what: &str, sources: &Sources) {
    let authorizer = Authorizer::new(Set::new(sources).expect("the sample holds"), 1);
    let principal = sample::principal();
    for (name, action, resource) in sample::questions() {
        let request = Request { principal: &principal, action, resource, context: sample::context() };
        let allowed = authorizer.decide(&request).allow;
        let mut times: Vec<_> = (0..DECISIONS)
            .map(|_| {
                let started = Instant::now();
                black_box(authorizer.decide(black_box(&request)));
                started.elapsed()
            })
            .collect();
        times.sort_unstable();
        let at = |hundredth: usize| times[DECISIONS * hundredth / 100].as_nanos() as f64 / 1_000.0;
        println!("{what}: {name}: allowed {allowed}, p50 {:.2} µs, p99 {:.2} µs", at(50), at(99));
    }
}
