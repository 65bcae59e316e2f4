//! Greets.

#[allow(missing_docs, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({
        path: ["../bench-wit"],
        inline: "
            package witan:programs;
            world bench-greeter {
                export test:bench/greet@1.0.0;
            }
        ",
        world: "witan:programs/bench-greeter",
        generate_all,
    });
}

use bindings::exports::test::bench::greet::Guest;

struct Component;

impl Guest for Component {
    fn greet() -> String {
        "Hello, world!".to_owned()
    }
}

bindings::export!(Component with_types_in bindings);
