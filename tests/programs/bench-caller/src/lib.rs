//! Calls the greeter many times.

#[allow(missing_docs, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({
        path: ["../bench-wit"],
        inline: "
            package witan:programs;
            world bench-caller {
                import test:bench/greet@1.0.0;
                export test:bench/greets@1.0.0;
            }
        ",
        world: "witan:programs/bench-caller",
        generate_all,
    });
}

use bindings::{exports::test::bench::greets::Guest, test::bench::greet};

struct Component;

impl Guest for Component {
    fn call(count: u32) -> u64 {
        (0..count).map(|_| greet::greet().len() as u64).sum()
    }
}

bindings::export!(Component with_types_in bindings);
