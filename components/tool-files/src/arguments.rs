//! The arguments of each tool. Their JSON Schemas come from here, so that what a model reads is what is accepted.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform};
use schemars::{JsonSchema, Schema};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The most bytes that one `read` gives: more than the documents that people write, less than the memory that a call
/// may use.
pub const MOST_BYTES: u64 = 64 * 1024 * 1024;

/// The most entries that one `list` gives.
pub const MOST_ENTRIES: u32 = 10_000;

/// The most matches that one `search` gives.
pub const MOST_MATCHES: u32 = 1_000;

/// Why arguments do not fit.
#[derive(Debug, thiserror::Error)]
pub enum ArgumentsError {
    /// They do not fit the schema.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// A number is larger than the tool takes.
    #[error("`{name}` may be {most} at most")]
    TooLarge {
        /// The argument.
        name: &'static str,
        /// The largest value it may have.
        most: u64,
    },
    /// Neither or both of two arguments are given of which one is needed.
    #[error("give either `text` or `base64`")]
    OneOf,
    /// The data is not base64.
    #[error("`base64` is not valid: {0}")]
    Base64(#[from] base64::DecodeError),
    /// The query is empty.
    #[error("`query` is empty")]
    EmptyQuery,
    /// The query is no regular expression.
    #[error("`query` is no regular expression: {0}")]
    Regex(#[from] regex_lite::Error),
}

/// Arguments of `read`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Read {
    /// The absolute path of the file, such as `/data/report.pdf`.
    pub path: String,
    /// The first byte to read. The default is 0.
    #[serde(default)]
    pub offset: u64,
    /// How many bytes to read, 67108864 at most. The default is all.
    pub length: Option<u64>,
}

/// Arguments of `list`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// The absolute path of the folder. `/` lists the granted folders.
    pub path: String,
    /// Whether to list folders inside the folder as well. Links are listed, not followed.
    #[serde(default)]
    pub recursive: bool,
    /// How many entries to give, 10000 at most.
    #[serde(default = "default_entries")]
    pub limit: u32,
}

/// Arguments of `stat`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stat {
    /// The absolute path of the file or folder.
    pub path: String,
}

/// Arguments of `search`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Search {
    /// The absolute path of a file, or of a folder whose files are all searched.
    pub path: String,
    /// What a line must contain.
    pub query: String,
    /// Whether `query` is a regular expression rather than plain text.
    #[serde(default)]
    pub regex: bool,
    /// Whether capital and small letters differ. Only ASCII letters are ever taken as the same.
    #[serde(default = "default_case_sensitive")]
    pub case_sensitive: bool,
    /// How many matching lines to give, 1000 at most.
    #[serde(default = "default_matches")]
    pub limit: u32,
}

/// Arguments of `write`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Write {
    /// The absolute path of the file. Its folder must exist.
    pub path: String,
    /// What to write, as text. Give either this or `base64`.
    pub text: Option<String>,
    /// What to write, as bytes in base64. Give either this or `text`.
    pub base64: Option<String>,
    /// What to do if the file exists.
    #[serde(default)]
    pub mode: Mode,
}

/// What `write` does if the file exists.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Fail.
    #[default]
    Create,
    /// Replace its content, which is lost.
    Replace,
    /// Write after its end.
    Append,
}

fn default_entries() -> u32 {
    1_000
}

fn default_matches() -> u32 {
    100
}

fn default_case_sensitive() -> bool {
    true
}

/// Reads the arguments of a tool.
///
/// # Errors
/// Where they do not fit its schema.
pub fn parse<T: DeserializeOwned>(arguments: &str) -> Result<T, ArgumentsError> {
    Ok(serde_json::from_str(arguments)?)
}

/// The JSON Schema of a tool's arguments, for a model: one object without references or Rust's names.
#[must_use]
pub fn schema<T: JsonSchema>() -> String {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    RecursiveTransform(remove_names).transform(&mut schema);
    schema.to_value().to_string()
}

fn remove_names(schema: &mut Schema) {
    schema.remove("title");
    if schema.get("format").is_some_and(|format| format.as_str().is_some_and(|name| name.starts_with("uint"))) {
        schema.remove("format");
    }
}

/// `value`, unless it is more than `most`.
///
/// # Errors
/// Where it is.
pub fn at_most<T: Copy + Into<u64>>(name: &'static str, value: T, most: T) -> Result<T, ArgumentsError> {
    if value.into() > most.into() {
        return Err(ArgumentsError::TooLarge { name, most: most.into() });
    }
    Ok(value)
}

impl Write {
    /// The bytes to write.
    ///
    /// # Errors
    /// Where there are none, two kinds of them, or they are not base64.
    pub fn data(&self) -> Result<Vec<u8>, ArgumentsError> {
        match (&self.text, &self.base64) {
            (Some(text), None) => Ok(text.clone().into_bytes()),
            (None, Some(data)) => Ok(STANDARD.decode(data)?),
            _ => Err(ArgumentsError::OneOf),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_is_one_object_with_descriptions() {
        let schema: serde_json::Value = serde_json::from_str(&schema::<Write>()).unwrap();
        assert_eq!(schema["type"], "object");
        assert_eq!(schema["required"], serde_json::json!(["path"]));
        assert_eq!(schema["additionalProperties"], false);
        assert!(schema["properties"]["text"]["description"].as_str().unwrap().contains("base64"));
        let text = schema.to_string();
        assert!(!text.contains("$ref") && !text.contains("uint") && !text.contains("\"title\""), "{text}");
        for mode in ["create", "replace", "append"] {
            assert!(text.contains(mode), "{text}");
        }
    }

    #[test]
    fn an_unknown_argument_is_named() {
        let error = parse::<Read>(r#"{"path": "/a", "lenght": 3}"#).unwrap_err();
        assert!(error.to_string().contains("lenght"), "{error}");
    }

    #[test]
    fn a_number_over_its_bound_is_refused() {
        assert_eq!(at_most("limit", 10_u32, 10).unwrap(), 10);
        let error = at_most("limit", 11_u32, 10).unwrap_err();
        assert_eq!(error.to_string(), "`limit` may be 10 at most");
    }

    #[test]
    fn what_is_written_is_text_or_base64() {
        let write = |json| parse::<Write>(json).unwrap().data();
        assert_eq!(write(r#"{"path": "/a", "text": "hé"}"#).unwrap(), "hé".as_bytes());
        assert_eq!(write(r#"{"path": "/a", "base64": "AP8="}"#).unwrap(), [0, 255]);
        assert!(matches!(write(r#"{"path": "/a"}"#), Err(ArgumentsError::OneOf)));
        assert!(matches!(write(r#"{"path": "/a", "text": "", "base64": ""}"#), Err(ArgumentsError::OneOf)));
        assert!(matches!(write(r#"{"path": "/a", "base64": "*"}"#), Err(ArgumentsError::Base64(_))));
    }
}
