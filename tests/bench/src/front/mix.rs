//! What clients ask for: the mix of documents.

use std::fs;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hyper::body::Bytes;
use serde_json::json;

use super::client::on_text;
use crate::Setting;

/// The kind of which the time is held to a bar.
pub(crate) const HELD: &str = "text of 10 KB";

/// A request of one kind.
#[derive(Clone)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) task: Bytes,
}

/// What of 20 requests each kind is.
const SHARES: [(usize, &str); 5] = [(6, "text of 1 KB"), (8, HELD), (1, "text of 100 KB"), (4, "Markdown"), (1, "PDF")];

/// As the table says it.
pub(crate) fn stated() -> String {
    let shares = SHARES.map(|(share, name)| format!("{} % {name}", share * 5));
    shares.join(", ")
}

/// The 20 requests, such that those of a kind do not stand together.
pub(crate) fn requests(setting: &Setting) -> anyhow::Result<Vec<Kind>> {
    let markdown = fs::read(setting.root.join("docs/trust.md"))?;
    let pdf = fs::read(setting.root.join("components/documents/tests/files/reportlab.pdf"))?;
    let prose = fs::read_to_string(setting.root.join("docs/http-api.md"))?;
    let text = |bytes: usize| {
        on_text("summarize", &prose.chars().cycle().filter(char::is_ascii).take(bytes).collect::<String>())
    };
    let tasks = [
        text(1_000),
        text(10_000),
        text(100_000),
        on_document("trust.md", "text/markdown", &markdown),
        on_document("report.pdf", "application/pdf", &pdf),
    ];
    let kinds = SHARES.into_iter().zip(tasks);
    let all: Vec<Kind> = kinds.flat_map(|((share, name), task)| vec![Kind { name, task }; share]).collect();
    // 7 and 20 have no divisor in common: each is taken once.
    Ok((0..all.len()).map(|number| all[number * 7 % all.len()].clone()).collect())
}

/// One short text.
pub(crate) fn short() -> Bytes {
    on_text("summarize", "The first sentence says what this is. The second one says why. The third says nothing.")
}

fn on_document(name: &str, media_type: &str, bytes: &[u8]) -> Bytes {
    let document = json!({ "name": name, "media_type": media_type, "data": STANDARD.encode(bytes) });
    json!({ "intent": "summarize", "input": { "documents": [document] } }).to_string().into()
}
