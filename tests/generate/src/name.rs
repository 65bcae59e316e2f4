//! Names in WIT and in Rust.

/// `media-type` as `MediaType`.
pub(crate) fn camel(kebab: &str) -> String {
    kebab
        .split('-')
        .map(|word| {
            let mut letters = word.chars();
            letters.next().map(|first| first.to_uppercase().collect::<String>() + letters.as_str()).unwrap_or_default()
        })
        .collect()
}

/// `media-type` as `media_type`; a keyword gets an underscore.
pub(crate) fn snake(kebab: &str) -> String {
    let name = kebab.replace('-', "_");
    if KEYWORDS.contains(&name.as_str()) { name + "_" } else { name }
}

/// `media-type` as `MEDIA_TYPE`.
pub(crate) fn shout(kebab: &str) -> String {
    kebab.replace('-', "_").to_uppercase()
}

const KEYWORDS: [&str; 38] = [
    "as", "async", "await", "break", "const", "continue", "crate", "dyn", "else", "enum", "extern", "false", "fn",
    "for", "gen", "if", "impl", "in", "let", "loop", "match", "mod", "move", "mut", "pub", "ref", "return", "self",
    "static", "struct", "super", "trait", "true", "type", "unsafe", "use", "where", "while",
];
