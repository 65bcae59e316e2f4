//! Reads documents: Markdown, HTML, plain text, PDF and DOCX.

#[cfg(target_arch = "wasm32")]
mod component;
