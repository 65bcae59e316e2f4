//! The extractor as a component.

#[allow(missing_docs, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({
        path: ["../../wit/component", "../../wit/documents"],
        inline: "
            package witan:components;
            world documents {
                export witan:documents/extract@0.1.0-draft;
            }
        ",
        world: "witan:components/documents",
        generate_all,
    });
}

use bindings::exports::witan::documents::extract::{Error, Extraction, Guest};
use wit_bindgen::StreamReader;

struct Component;

impl Guest for Component {
    async fn extract(
        name: String,
        _media_type: Option<String>,
        _data: StreamReader<u8>,
    ) -> Result<Extraction, Error> {
        Err(Error::Unsupported(name))
    }
}

bindings::export!(Component with_types_in bindings);
