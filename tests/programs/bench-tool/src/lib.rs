//! A tool that does nothing but take a string and give one.

#[allow(missing_docs, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({
        path: ["../../../wit/component", "../../../wit/tools"],
        inline: "
            package witan:programs;
            world bench-tool {
                export witan:tools/tool@0.1.0-draft;
            }
        ",
        world: "witan:programs/bench-tool",
        generate_all,
    });
}

use bindings::{
    exports::witan::tools::tool::{Content, Description, Error, Guest},
    witan::tools::types::Effects,
};

struct Component;

impl Guest for Component {
    async fn describe() -> Vec<Description> {
        vec![Description {
            name: "echo".to_owned(),
            summary: "Gives its text back.".to_owned(),
            parameters: r#"{"type": "object"}"#.to_owned(),
            effects: Effects::READS,
        }]
    }

    async fn invoke(_: String, arguments: String) -> Result<Vec<Content>, Error> {
        Ok(vec![Content::Json(arguments)])
    }
}

bindings::export!(Component with_types_in bindings);
