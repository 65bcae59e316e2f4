//! Whether a file has the shape that its schema says, with every place where it has not.
//!
//! Serde stops at the first error, and knows no neighbours of a misspelt key. Walking the parsed file along the
//! published schema finds them all, and keeps what is enforced and what is published the same thing.

use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::problem::{Key, Origin, Position, Problem};

/// Other words for a key: what it was called before, or is called elsewhere. `(written, meant)`.
const RENAMED: &[(&str, &str)] = &[
    ("env", "environment"),
    ("fs", "filesystem"),
    ("files", "filesystem"),
    ("fuel", "cpu"),
    ("timeout", "deadline"),
    ("path-prefixes", "path-prefix"),
    ("version", "schema"),
    ("route", "path"),
    ("wasm", "source"),
];

/// Notes where every known key stands, and takes out what the schema does not know. What is left may still be
/// malformed if problems were found.
pub(crate) fn check(table: &mut DeTable<'_>, text: &str, schema: &Value, origin: &mut Origin) -> Vec<Problem> {
    let mut walk = Walk { text, definitions: schema.get("$defs").unwrap_or(&Value::Null), origin, found: Vec::new() };
    walk.table(&Key::root(), table, schema);
    let Walk { found, origin, .. } = walk;
    found.into_iter().map(|Found { key, message, help }| origin.problem(&key, message, help)).collect()
}

struct Walk<'a> {
    text: &'a str,
    definitions: &'a Value,
    origin: &'a mut Origin,
    found: Vec<Found>,
}

struct Found {
    key: Key,
    message: String,
    help: String,
}

impl<'a> Walk<'a> {
    fn report(&mut self, key: &Key, message: String, help: String) {
        self.found.push(Found { key: key.clone(), message, help });
    }

    fn note(&mut self, key: &Key, offset: usize) {
        self.origin.positions.insert(key.clone(), Position::of(self.text, offset));
    }

    fn resolve(&self, schema: &'a Value) -> &'a Value {
        let name = schema.get("$ref").and_then(Value::as_str).and_then(|path| path.strip_prefix("#/$defs/"));
        name.and_then(|name| self.definitions.get(name)).unwrap_or(schema)
    }

    fn value(&mut self, key: &Key, value: &mut Spanned<DeValue<'_>>, schema: &'a Value) {
        let schema = self.resolve(schema);
        let choices = choices(schema);
        let expected =
            if choices.is_empty() { schema.get("type").and_then(Value::as_str).unwrap_or("") } else { "string" };
        match (expected, value.get_mut()) {
            ("object", DeValue::Table(table)) => self.table(key, table, schema),
            ("array", DeValue::Array(array)) => {
                let items = schema.get("items").unwrap_or(&Value::Null);
                for (index, item) in array.iter_mut().enumerate() {
                    let key = key.index(index);
                    self.note(&key, item.span().start);
                    self.value(&key, item, items);
                }
            }
            ("string", DeValue::String(text)) => self.choice(key, text, &choices),
            ("integer", DeValue::Integer(number)) => {
                let number = i128::from_str_radix(number.as_str(), number.radix()).unwrap_or(i128::MAX);
                self.range(key, number, schema);
            }
            ("boolean", DeValue::Boolean(_)) | ("", _) => {}
            (expected, actual) => {
                let (expected, actual) = (in_words(expected), in_words(actual.type_str()));
                let help = format!("write {expected}: {}", description(schema));
                self.report(key, format!("`{key}` must be {expected}, and is {actual}"), help);
            }
        }
    }

    fn table(&mut self, key: &Key, table: &mut DeTable<'_>, schema: &'a Value) {
        let open = schema.get("additionalProperties").filter(|values| values.is_object());
        let known = schema.get("properties").and_then(Value::as_object);
        for (name, mut value) in std::mem::take(table) {
            let child = key.child(name.get_ref());
            let known_schema = known.and_then(|known| known.get(name.get_ref().as_ref())).or(open);
            let about_the_name = known_schema.is_none() || value.get_ref().is_table();
            self.note(&child, if about_the_name { name.span().start } else { value.span().start });
            match known_schema {
                Some(schema) => {
                    self.value(&child, &mut value, schema);
                    table.insert(name, value);
                }
                None => {
                    self.unknown(&child, name.get_ref(), known.into_iter().flatten().map(|(name, _)| name.as_str()))
                }
            }
        }
        for name in schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            if !table.contains_key(name) {
                let purpose = known.and_then(|known| known.get(name)).map(description).unwrap_or_default();
                let message = if *key == Key::root() {
                    format!("`{name}` is missing")
                } else {
                    format!("`{key}` has no `{name}`")
                };
                self.report(key, message, format!("add `{name}`: {purpose}"));
            }
        }
    }

    fn unknown<'k>(&mut self, key: &Key, name: &str, known: impl Iterator<Item = &'k str>) {
        self.report(key, format!("unknown key `{name}`"), spelling(name, &known.collect::<Vec<_>>()));
    }

    fn choice(&mut self, key: &Key, text: &str, choices: &[&str]) {
        if !choices.is_empty() && !choices.contains(&text) {
            self.report(key, format!("`{key}` cannot be `{text}`"), spelling(text, choices));
        }
    }

    fn range(&mut self, key: &Key, number: i128, schema: &Value) {
        let bound = |name| schema.get(name).and_then(Value::as_i64).map(i128::from);
        // Whole numbers are 32 bits wide unless the schema says less.
        let (least, most) = (bound("minimum").unwrap_or(0), bound("maximum").unwrap_or(u32::MAX.into()));
        if !(least..=most).contains(&number) {
            let help =
                if least == most { format!("write {least}") } else { format!("write a number from {least} to {most}") };
            self.report(key, format!("`{key}` cannot be {number}"), help);
        }
    }
}

fn choices(schema: &Value) -> Vec<&str> {
    let constants = schema.get("oneOf").and_then(Value::as_array).into_iter().flatten();
    constants.filter_map(|choice| choice.get("const")?.as_str()).collect()
}

fn in_words(kind: &str) -> &'static str {
    match kind {
        "object" | "table" => "a table",
        "array" => "an array",
        "string" => "a string",
        "integer" => "a whole number",
        "float" => "a number with a fraction",
        "boolean" => "true or false",
        _ => "a date or time",
    }
}

fn description(schema: &Value) -> String {
    let text = schema.get("description").and_then(Value::as_str).unwrap_or("see docs/system-toml.md");
    text.trim_end_matches('.').replace('\n', " ")
}

/// The help for a word that is none of `known`.
fn spelling(written: &str, known: &[&str]) -> String {
    let dashed = written.replace('_', "-").to_ascii_lowercase();
    let renamed = RENAMED.iter().find(|(old, new)| *old == dashed && known.contains(new));
    match renamed.map(|(_, new)| *new).or_else(|| nearest(&dashed, known.iter().copied())) {
        Some(meant) => format!("write `{meant}`"),
        None => format!("known here: {}", known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")),
    }
}

/// The one of `known` that `written` is likely to mean.
pub(crate) fn nearest<'a>(written: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // A third of the letters wrong is still the same word; more is a guess.
    let likely = |name: &&str| strsim::damerau_levenshtein(written, name) <= name.chars().count().div_ceil(3);
    // The distance takes the product of both lengths in time, and no name is longer.
    let written_is_short = written.len() <= 128;
    known.filter(|_| written_is_short).filter(likely).min_by_key(|name| strsim::damerau_levenshtein(written, name))
}
