//! Calls a tool many times, and waits many times at once.

#[allow(missing_docs, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({
        path: ["../../../wit/deps/clocks.wit", "../../../wit/component", "../../../wit/tools", "../bench-wit"],
        inline: "
            package witan:programs;
            world bench-agent {
                import wasi:clocks/monotonic-clock@0.3.0;
                import witan:tools/tool@0.1.0-draft;
                export test:bench/agent@1.0.0;
            }
        ",
        world: "witan:programs/bench-agent",
        generate_all,
    });
}

use bindings::{
    exports::test::bench::agent::Guest,
    wasi::clocks::monotonic_clock,
    witan::tools::tool::{self, Content},
};
use futures_util::future::join_all;

struct Component;

impl Guest for Component {
    async fn call(count: u32, arguments: String) -> u64 {
        let mut bytes = 0;
        for _ in 0..count {
            let contents = tool::invoke("echo".to_owned(), arguments.clone()).await.expect("the tool answers");
            bytes += contents.iter().map(size).sum::<u64>();
        }
        bytes
    }

    async fn wait(count: u32, milliseconds: u32) -> u32 {
        let nanoseconds = u64::from(milliseconds) * 1_000_000;
        join_all((0..count).map(|_| monotonic_clock::wait_for(nanoseconds))).await;
        count
    }
}

fn size(content: &Content) -> u64 {
    match content {
        Content::Text(text) | Content::Json(text) => text.len() as u64,
        Content::Blob(blob) => blob.data.len() as u64,
    }
}

bindings::export!(Component with_types_in bindings);
