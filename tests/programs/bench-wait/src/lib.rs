//! A tool that waits in the host, for as many milliseconds as its arguments say.

#[allow(missing_docs, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({
        path: ["../../../wit/deps/clocks.wit", "../../../wit/component", "../../../wit/tools"],
        inline: "
            package witan:programs;
            world bench-wait {
                import wasi:clocks/monotonic-clock@0.3.0;
                export witan:tools/tool@0.1.0-draft;
            }
        ",
        world: "witan:programs/bench-wait",
        generate_all,
    });
}

use bindings::{
    exports::witan::tools::tool::{Content, Description, Error, Guest},
    wasi::clocks::monotonic_clock,
};

struct Component;

impl Guest for Component {
    async fn describe() -> Vec<Description> {
        Vec::new()
    }

    async fn invoke(_: String, arguments: String) -> Result<Vec<Content>, Error> {
        let milliseconds: u64 = arguments.parse().map_err(|_| Error::InvalidArguments("no number".to_owned()))?;
        monotonic_clock::wait_for(milliseconds * 1_000_000).await;
        Ok(Vec::new())
    }
}

bindings::export!(Component with_types_in bindings);
