//! Tools that do what their name says.

#[allow(missing_docs, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({
        path: ["../../../wit/component", "../../../wit/tools"],
        inline: "
            package witan:programs;
            world tools-offer {
                export witan:tools/tool@0.1.0-draft;
            }
        ",
        world: "witan:programs/tools-offer",
        generate_all,
    });
}

use std::cell::Cell;

use bindings::exports::witan::tools::tool::{Content, Description, Error, Guest};
use bindings::witan::tools::types::{Blob, Effects};

struct Component;

thread_local! {
    /// How often this instance was asked anything.
    static ASKED: Cell<u32> = const { Cell::new(0) };
}

fn description(name: &str, summary: &str, parameters: &str) -> Description {
    Description {
        name: name.to_owned(),
        summary: summary.to_owned(),
        parameters: parameters.to_owned(),
        effects: Effects::READS,
    }
}

impl Guest for Component {
    async fn describe() -> Vec<Description> {
        ASKED.set(ASKED.get() + 1);
        let text = r#"{"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}"#;
        vec![
            description("echo", "Gives its text back.", text),
            description("refuse", "Refuses whatever text it is given.", "{}"),
            description("trap", "Traps.", "{}"),
            description("count", "Counts what this instance was asked.", "{}"),
            description("broken", "Has parameters that are no JSON.", "{"),
        ]
    }

    async fn invoke(name: String, arguments: String) -> Result<Vec<Content>, Error> {
        ASKED.set(ASKED.get() + 1);
        match name.as_str() {
            "echo" => Ok(vec![
                Content::Json(arguments),
                Content::Text("said".to_owned()),
                Content::Blob(Blob { media_type: "application/x-test".to_owned(), data: vec![0, 255] }),
            ]),
            "refuse" => Err(Error::Denied(arguments)),
            "count" => Ok(vec![Content::Text(ASKED.get().to_string())]),
            other => unreachable!("told to {other}"),
        }
    }
}

bindings::export!(Component with_types_in bindings);
