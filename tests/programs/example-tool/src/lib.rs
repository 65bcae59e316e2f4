//! A tool that explains the words of a glossary.

use std::fs;

use bindings::exports::witan::tools::tool::{Content, Description, Error, Guest};
use bindings::wasi::config::store;
use bindings::witan::tools::types::Effects;
use serde::Deserialize;

mod bindings {
    wit_bindgen::generate!({
        path: ["../../../wit/deps/config", "../../../wit/component", "../../../wit/tools"],
        inline: "
            package example:glossary;
            world glossary {
                import wasi:config/store@0.2.0-rc.1;
                export witan:tools/tool@0.1.0-draft;
            }
        ",
        world: "example:glossary/glossary",
        generate_all,
    });
}

/// The arguments of `define`, as JSON Schema: this is what a model reads.
const PARAMETERS: &str = r#"{
    "type": "object",
    "properties": { "word": { "type": "string", "description": "The word to explain." } },
    "required": ["word"]
}"#;

/// The same, as Rust.
#[derive(Deserialize)]
struct Arguments {
    word: String,
}

struct Glossary;

impl Guest for Glossary {
    async fn describe() -> Vec<Description> {
        vec![Description {
            name: "define".to_owned(),
            summary: "Explains a word of the glossary.".to_owned(),
            parameters: PARAMETERS.to_owned(),
            effects: Effects::READS,
        }]
    }

    async fn invoke(name: String, arguments: String) -> Result<Vec<Content>, Error> {
        if name != "define" {
            return Err(Error::NotFound(format!("there is no tool `{name}`")));
        }
        let arguments: Arguments =
            serde_json::from_str(&arguments).map_err(|error| Error::InvalidArguments(error.to_string()))?;
        Ok(vec![Content::Text(define(&arguments.word)?)])
    }
}

/// The meaning of `word` in the file that the operator chose: a word, a colon and a meaning in each line.
fn define(word: &str) -> Result<String, Error> {
    let file = store::get("file").ok().flatten().unwrap_or_else(|| "/glossary/words.txt".to_owned());
    let text = fs::read_to_string(&file).map_err(|error| Error::Failed(format!("cannot read `{file}`: {error}")))?;
    let mut entries = text.lines().filter_map(|line| line.split_once(':'));
    let found = entries.find(|(entry, _)| entry.trim().eq_ignore_ascii_case(word.trim()));
    match found {
        Some((_, meaning)) => Ok(meaning.trim().to_owned()),
        None => Err(Error::Failed(format!("the glossary has no word `{word}`"))),
    }
}

bindings::export!(Glossary with_types_in bindings);
