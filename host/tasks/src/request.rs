//! What a client asks for: the same on the command line, over HTTP and in WIT.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use witan_callback::Callback;
use witan_capability::Privacy;

use crate::TaskError;

/// The longest name of an intent, parameter, document or metadata key, in bytes.
const NAME_BYTES: usize = 256;
/// The most documents, paths or parameters of one request, and the most keys of its metadata. A request is one piece
/// of work; a thousand files are a thousand tasks.
const ITEMS: usize = 256;
/// The longest value of a metadata key, in bytes.
const METADATA_BYTES: usize = 1024;
/// The largest budget: a million dollars. Above it, micros in a float are no longer exact enough to be called money.
const BUDGET_USD: f64 = 1e6;

/// A task that a client asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskRequest {
    /// What is to be done, such as `summarize`: one of the intents of the system.
    pub intent: String,
    /// What to work on.
    pub input: Input,
    /// Parameters of the intent: true or false, a number, text or a list of texts. Null and objects are refused.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, serde_json::Value>)]
    pub params: serde_json::Map<String, serde_json::Value>,
    /// Where the task's data may go: `standard` (wherever the grants allow) or `local-only` (nowhere beyond this
    /// machine).
    #[serde(default)]
    #[schema(value_type = String, default = "standard", pattern = "^(standard|local-only)$")]
    pub privacy: Privacy,
    /// US dollars that the task may spend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0.0, maximum = 1_000_000.0)]
    pub budget_usd: Option<f64>,
    /// Milliseconds from its acceptance after which the task is ended, wherever it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub deadline_ms: Option<u64>,
    /// Its share of the turns of its tenant, beside the tenant's other tasks that wait.
    #[serde(default, skip_serializing_if = "Priority::is_normal")]
    pub priority: Priority,
    /// Whom to tell what becomes of it. Not where `privacy` is `local-only`: that leaves this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback: Option<Callback>,
    /// Kept with the task for the client, and read by nobody.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

/// A task's share of the turns of its tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// A quarter of the share of a normal one.
    Low,
    /// That of most.
    #[default]
    Normal,
    /// Four times that of a normal one.
    High,
}

impl Priority {
    /// Its weight in the queue.
    #[must_use]
    pub fn weight(self) -> u32 {
        match self {
            Self::Low => 1,
            Self::Normal => 4,
            Self::High => 16,
        }
    }

    /// The one with a weight; a normal one where there is none.
    #[must_use]
    pub fn of_weight(weight: u32) -> Self {
        let all = [Self::Low, Self::Normal, Self::High];
        all.into_iter().find(|priority| priority.weight() == weight).unwrap_or_default()
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
    fn is_normal(&self) -> bool {
        *self == Self::Normal
    }
}

/// What a task works on: exactly one of these.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// Text; results name it `text` as their source.
    Text(String),
    /// Documents that travel with the request.
    Documents(Vec<Document>),
    /// Files on the host's machine. On the command line, any file; over HTTP, files under the `host.roots` of
    /// `system.toml`. Naming one grants it to this task, for reading.
    Paths(Vec<String>),
}

/// A document that travels with the request.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// Its name; results name it as their source.
    pub name: String,
    /// Its media type, if the client knows it.
    #[serde(default)]
    pub media_type: Option<String>,
    /// Its bytes: base64 with the standard alphabet and padding.
    #[serde(with = "as_base64")]
    #[schema(value_type = String, format = Byte)]
    pub data: Vec<u8>,
}

impl fmt::Debug for Input {
    /// Says how much there is, never what: debug output ends up in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "text of {} bytes", text.len()),
            Self::Documents(documents) => f.debug_list().entries(documents).finish(),
            Self::Paths(paths) => f.debug_list().entries(paths).finish(),
        }
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`, {} bytes", self.name, self.data.len())
    }
}

mod as_base64 {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        STANDARD.decode(text.as_bytes()).map_err(|error| D::Error::custom(format!("this is not base64: {error}")))
    }
}

/// A named parameter, as the handler gets it.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Its name, in kebab case.
    pub name: String,
    /// Its value.
    pub value: Value,
}

/// The value of a parameter.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// True or false.
    Flag(bool),
    /// A whole number.
    Integer(i64),
    /// A number with a fraction.
    Number(f64),
    /// Text.
    Text(String),
    /// A list of texts.
    Texts(Vec<String>),
}

impl TaskRequest {
    /// A request with `input` for `intent`, and nothing else.
    #[must_use]
    pub fn new(intent: impl Into<String>, input: Input) -> Self {
        Self {
            intent: intent.into(),
            input,
            params: serde_json::Map::new(),
            privacy: Privacy::Standard,
            budget_usd: None,
            deadline_ms: None,
            priority: Priority::Normal,
            callback: None,
            metadata: BTreeMap::new(),
        }
    }

    /// Reads a request from JSON and checks it.
    ///
    /// # Errors
    /// An `invalid_request` that names the field.
    pub fn from_json(json: &[u8]) -> Result<Self, TaskError> {
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        let request: Self = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
            let path = error.path().to_string();
            let message = format!("{}; /openapi.json describes a task request", error.inner());
            let error = TaskError::new(crate::Code::InvalidRequest, message);
            if path == "." { error } else { error.at(path) }
        })?;
        deserializer
            .end()
            .map_err(|error| TaskError::new(crate::Code::InvalidRequest, format!("text after the request: {error}")))?;
        request.check()?;
        Ok(request)
    }

    /// Checks what its types do not say.
    ///
    /// # Errors
    /// An `invalid_request` that names the field.
    pub fn check(&self) -> Result<(), TaskError> {
        name("intent", &self.intent)?;
        self.input.check()?;
        self.parameters()?;
        self.budget_micros()?;
        if self.deadline_ms == Some(0) {
            return Err(TaskError::invalid(
                "deadline_ms",
                "a deadline of 0 ms has passed already; leave it out for none",
            ));
        }
        if self.callback.is_some() && self.privacy == Privacy::LocalOnly {
            let message =
                "a callback leaves this machine, which nothing of a local-only task does; ask for the task instead";
            return Err(TaskError::invalid("callback", message));
        }
        count("metadata", self.metadata.len())?;
        for (key, value) in &self.metadata {
            name("metadata", key)?;
            if value.len() > METADATA_BYTES {
                let message =
                    format!("a metadata value has at most {METADATA_BYTES} bytes, this one has {}", value.len());
                return Err(TaskError::invalid(format!("metadata.{key}"), message));
            }
        }
        Ok(())
    }

    /// The parameters, as the handler gets them.
    ///
    /// # Errors
    /// An `invalid_request` that names the parameter which is null, an object, a mixed list or out of range.
    pub fn parameters(&self) -> Result<Vec<Parameter>, TaskError> {
        count("params", self.params.len())?;
        self.params.iter().map(|(key, json)| parameter(key, json)).collect()
    }

    /// The budget in millionths of a US dollar, rounded down.
    ///
    /// # Errors
    /// An `invalid_request` when it is negative, not a number or beyond a million dollars.
    pub fn budget_micros(&self) -> Result<Option<u64>, TaskError> {
        let Some(budget) = self.budget_usd else { return Ok(None) };
        if !(0.0..=BUDGET_USD).contains(&budget) {
            return Err(TaskError::invalid("budget_usd", format!("a budget is from 0 to {BUDGET_USD} US dollars")));
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range was checked")]
        Ok(Some((budget * 1e6).floor() as u64))
    }

    /// Bytes that the request holds in memory, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let input = match &self.input {
            Input::Text(text) => text.len(),
            Input::Documents(documents) => {
                documents.iter().map(|document| document.data.len() + document.name.len() + 64).sum()
            }
            Input::Paths(paths) => paths.iter().map(|path| path.len() + 64).sum(),
        };
        let params: usize = self.params.iter().map(|(key, value)| key.len() + json_bytes(value)).sum();
        let metadata: usize = self.metadata.iter().map(|(key, value)| key.len() + value.len() + 64).sum();
        input + params + metadata + size_of::<Self>()
    }
}

impl Input {
    fn check(&self) -> Result<(), TaskError> {
        let some = |field: &str, number: usize| {
            count(field, number)?;
            if number == 0 {
                Err(TaskError::invalid(field, format!("`{field}` is empty; name at least one")))
            } else {
                Ok(())
            }
        };
        match self {
            Self::Text(_) => Ok(()),
            Self::Documents(documents) => {
                some("input.documents", documents.len())?;
                documents.iter().enumerate().try_for_each(|(index, document)| document.check(index))
            }
            Self::Paths(paths) => some("input.paths", paths.len()),
        }
    }
}

impl Document {
    fn check(&self, index: usize) -> Result<(), TaskError> {
        name(&format!("input.documents[{index}].name"), &self.name)?;
        match &self.media_type {
            Some(media_type) => name(&format!("input.documents[{index}].media_type"), media_type),
            None => Ok(()),
        }
    }
}

fn count(field: &str, number: usize) -> Result<(), TaskError> {
    if number <= ITEMS {
        return Ok(());
    }
    Err(TaskError::invalid(field, format!("`{field}` has {number} entries, more than {ITEMS}; split the task")))
}

fn name(field: &str, text: &str) -> Result<(), TaskError> {
    if text.is_empty() || text.len() > NAME_BYTES || text.chars().any(char::is_control) {
        let message = format!("`{field}` is a name: 1 to {NAME_BYTES} bytes without control characters");
        return Err(TaskError::invalid(field, message));
    }
    Ok(())
}

fn parameter(key: &str, json: &serde_json::Value) -> Result<Parameter, TaskError> {
    let field = format!("params.{key}");
    let kebab = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if key.is_empty() || key.len() > NAME_BYTES || !key.chars().all(kebab) {
        let message = format!("a parameter's name has lower-case letters, digits and `-`; `{key}` is none");
        return Err(TaskError::invalid(field, message));
    }
    let refused = |what: &str| {
        let message = format!("`{field}` is {what}; give true or false, a number, text or a list of texts");
        Err(TaskError::invalid(field.as_str(), message))
    };
    let value = match json {
        serde_json::Value::Null => return refused("null"),
        serde_json::Value::Object(_) => return refused("an object"),
        serde_json::Value::Bool(flag) => Value::Flag(*flag),
        serde_json::Value::String(text) => Value::Text(text.clone()),
        serde_json::Value::Array(items) => {
            let texts: Option<Vec<String>> = items.iter().map(|item| item.as_str().map(str::to_owned)).collect();
            match texts {
                Some(texts) => Value::Texts(texts),
                None => return refused("a list of other things than texts"),
            }
        }
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => Value::Integer(integer),
            (None, Some(float)) if number.is_f64() => Value::Number(float),
            _ => return refused("a whole number beyond 64 bits with a sign"),
        },
    };
    Ok(Parameter { name: key.to_owned(), value })
}

fn json_bytes(value: &serde_json::Value) -> usize {
    match value {
        serde_json::Value::String(text) => text.len() + 32,
        serde_json::Value::Array(items) => items.iter().map(json_bytes).sum::<usize>() + 32,
        _ => 32,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Code;

    fn refused(request: &serde_json::Value) -> TaskError {
        TaskRequest::from_json(request.to_string().as_bytes()).unwrap_err()
    }

    #[test]
    fn a_whole_request_is_read_and_written_alike() {
        let json = json!({
            "intent": "summarize",
            "input": {"documents": [{"name": "a.md", "media_type": "text/markdown", "data": "SGVsbG8="}]},
            "params": {"sentences": 3, "ratio": 0.5, "keep-order": true, "language": "deu", "skip": ["a", "b"]},
            "privacy": "local-only",
            "budget_usd": 0.1,
            "deadline_ms": 500,
            "metadata": {"ticket": "7"},
        });
        let request = TaskRequest::from_json(json.to_string().as_bytes()).unwrap();
        let Input::Documents(documents) = &request.input else { panic!("documents") };
        assert_eq!(documents[0].data, b"Hello");
        assert_eq!(request.budget_micros().unwrap(), Some(100_000));
        let parameters = request.parameters().unwrap();
        let value = |name: &str| parameters.iter().find(|parameter| parameter.name == name).unwrap().value.clone();
        assert_eq!(value("sentences"), Value::Integer(3));
        assert_eq!(value("ratio"), Value::Number(0.5));
        assert_eq!(value("keep-order"), Value::Flag(true));
        assert_eq!(value("language"), Value::Text("deu".into()));
        assert_eq!(value("skip"), Value::Texts(vec!["a".into(), "b".into()]));
        assert_eq!(serde_json::to_value(&request).unwrap(), json);
    }

    #[test]
    fn what_is_at_fault_is_named() {
        let text = json!({"text": "a"});
        let document = |data: &str| json!({"documents": [{"name": "a", "data": data}]});
        for (request, param) in [
            (json!({"intent": "", "input": text}), "intent"),
            (json!({"intent": "a", "input": {"text": "a", "paths": ["b"]}}), "input"),
            (json!({"intent": "a", "input": {}}), "input"),
            (json!({"intent": "a", "input": {"url": "a"}}), "input"),
            (json!({"intent": "a", "input": document("!")}), "input.documents[0].data"),
            (json!({"intent": "a", "input": {"documents": []}}), "input.documents"),
            (json!({"intent": "a", "input": {"paths": []}}), "input.paths"),
            (json!({"intent": "a", "input": text, "params": {"a": null}}), "params.a"),
            (json!({"intent": "a", "input": text, "params": {"a": {"b": 1}}}), "params.a"),
            (json!({"intent": "a", "input": text, "params": {"a": ["b", 1]}}), "params.a"),
            (json!({"intent": "a", "input": text, "params": {"a": u64::MAX}}), "params.a"),
            (json!({"intent": "a", "input": text, "params": {"A": 1}}), "params.A"),
            (json!({"intent": "a", "input": text, "privacy": "secret"}), "privacy"),
            (json!({"intent": "a", "input": text, "budget_usd": -1}), "budget_usd"),
            (json!({"intent": "a", "input": text, "deadline_ms": 0}), "deadline_ms"),
            (json!({"intent": "a", "input": text, "deadline_ms": -1}), "deadline_ms"),
            (json!({"intent": "a", "input": text, "metadata": {"a": "b".repeat(2000)}}), "metadata.a"),
        ] {
            let error = refused(&request);
            assert_eq!(error.code, Code::InvalidRequest);
            assert!(error.param.as_deref().is_some_and(|found| found.starts_with(param)), "{request}: {error:?}");
        }
    }

    #[test]
    fn unknown_fields_and_what_follows_are_refused() {
        let error = refused(&json!({"intent": "a", "input": {"text": "a"}, "modle": "b"}));
        assert!(error.message.contains("modle"), "{error}");
        assert!(TaskRequest::from_json(br#"{"intent":"a","input":{"text":"a"}} {}"#).is_err());
        let deep = "[".repeat(100_000);
        assert!(TaskRequest::from_json(deep.as_bytes()).is_err());
    }

    #[test]
    fn debug_output_has_no_content() {
        let request = TaskRequest::new("a", Input::Text("secret".into()));
        assert!(!format!("{request:?}").contains("secret"));
    }
}
