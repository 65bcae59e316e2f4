//! Whether arguments have the shape that a tool's schema asks for.
//!
//! A part of JSON Schema, on purpose: what a model gets wrong most is a missing or misspelt name or a wrong type, and
//! that is told without waking the tool. Schemas come from components, so that what is checked here must be cheap
//! whatever the schema says: no references, no patterns, and a bound on the work. What is not checked here is for the
//! tool to refuse, which it must do anyway.

use serde_json::{Map, Value};

/// Comparisons that one check makes at most; beyond them, it is left to the tool.
const MOST_STEPS: u32 = 100_000;

/// Checks `arguments`, JSON text, against `type`, `enum`, `const`, `required`, `properties`,
/// `additionalProperties: false`, `items`, `minimum` and `maximum` of `schema`.
///
/// # Errors
/// What does not fit, for a model to read.
pub(crate) fn check(schema: &Value, arguments: &str) -> Result<(), String> {
    let value: Value =
        serde_json::from_str(arguments).map_err(|error| format!("the arguments are no JSON: {error}"))?;
    if !value.is_object() {
        return Err("the arguments are no JSON object".to_owned());
    }
    Check { steps: MOST_STEPS }.value(schema, &value, "the arguments")
}

struct Check {
    steps: u32,
}

impl Check {
    /// Whether there is work left to spend on `count` comparisons.
    fn step(&mut self, count: usize) -> bool {
        self.steps = self.steps.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX));
        self.steps > 0
    }

    fn value(&mut self, schema: &Value, value: &Value, path: &str) -> Result<(), String> {
        let Some(schema) = schema.as_object() else { return Ok(()) };
        if !self.step(1) {
            return Ok(());
        }
        check_type(schema, value, path)?;
        self.choice(schema, value, path)?;
        check_range(schema, value, path)?;
        match value {
            Value::Object(members) => self.members(schema, members, path),
            Value::Array(items) => {
                let Some(schema) = schema.get("items") else { return Ok(()) };
                let mut items = items.iter().enumerate();
                items.try_for_each(|(index, item)| self.value(schema, item, &format!("{path}[{index}]")))
            }
            _ => Ok(()),
        }
    }

    fn choice(&mut self, schema: &Map<String, Value>, value: &Value, path: &str) -> Result<(), String> {
        if let Some(choices) = schema.get("enum").and_then(Value::as_array)
            && self.step(choices.len())
            && !choices.contains(value)
        {
            let choices: Vec<_> = choices.iter().take(20).map(Value::to_string).collect();
            return Err(format!("{path} must be one of {}", choices.join(", ")));
        }
        match schema.get("const") {
            Some(only) if only != value => Err(format!("{path} must be {only}")),
            _ => Ok(()),
        }
    }

    fn members(&mut self, schema: &Map<String, Value>, members: &Map<String, Value>, path: &str) -> Result<(), String> {
        let required = schema.get("required").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        if self.step(required.len()) {
            for name in required.iter().filter_map(Value::as_str) {
                if !members.contains_key(name) {
                    return Err(format!("{path} must have `{name}`"));
                }
            }
        }
        let properties = schema.get("properties").and_then(Value::as_object);
        let closed = schema.get("additionalProperties") == Some(&Value::Bool(false));
        for (name, member) in members {
            match properties.and_then(|properties| properties.get(name)) {
                Some(schema) => self.value(schema, member, &format!("{path}.{name}"))?,
                None if closed => return Err(format!("{path} must not have `{name}`")),
                None => {}
            }
        }
        Ok(())
    }
}

fn check_type(schema: &Map<String, Value>, value: &Value, path: &str) -> Result<(), String> {
    let fits = match schema.get("type") {
        Some(Value::String(name)) => is_type(name, value),
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).any(|name| is_type(name, value)),
        _ => true,
    };
    if fits {
        return Ok(());
    }
    Err(format!("{path} must be of the type {}", schema.get("type").unwrap_or(&Value::Null)))
}

/// A type that this does not know is left to the tool.
fn is_type(name: &str, value: &Value) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        _ => true,
    }
}

fn check_range(schema: &Map<String, Value>, value: &Value, path: &str) -> Result<(), String> {
    let Some(number) = value.as_f64() else { return Ok(()) };
    let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
    match (bound("minimum"), bound("maximum")) {
        (Some(least), _) if number < least => Err(format!("{path} must be {least} or more")),
        (_, Some(most)) if number > most => Err(format!("{path} must be {most} or less")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn schema() -> Value {
        json!({
            "type": "object",
            "properties": {
                "path": { "type": "string" },
                "count": { "type": "integer", "minimum": 1, "maximum": 10 },
                "mode": { "enum": ["fast", "slow"] },
                "tags": { "type": "array", "items": { "type": ["string", "null"] } },
                "inner": { "type": "object", "required": ["x"] },
            },
            "required": ["path"],
            "additionalProperties": false,
        })
    }

    #[test]
    fn what_fits_passes() {
        let arguments = r#"{"path": "a", "count": 3, "mode": "fast", "tags": ["x", null], "inner": {"x": 1, "y": 2}}"#;
        assert_eq!(check(&schema(), arguments), Ok(()));
        assert_eq!(check(&json!({}), "{}"), Ok(()));
    }

    #[test]
    fn what_does_not_fit_is_told() {
        for (arguments, told) in [
            ("{", "no JSON"),
            ("[]", "no JSON object"),
            ("{}", "must have `path`"),
            (r#"{"path": 1}"#, "the arguments.path must be of the type \"string\""),
            (r#"{"path": "a", "other": 1}"#, "must not have `other`"),
            (r#"{"path": "a", "count": 0}"#, "1 or more"),
            (r#"{"path": "a", "count": 11}"#, "10 or less"),
            (r#"{"path": "a", "count": 1.5}"#, "\"integer\""),
            (r#"{"path": "a", "mode": "quick"}"#, "one of \"fast\", \"slow\""),
            (r#"{"path": "a", "tags": ["x", 1]}"#, "tags[1]"),
            (r#"{"path": "a", "inner": {}}"#, "the arguments.inner must have `x`"),
        ] {
            let error = check(&schema(), arguments).unwrap_err();
            assert!(error.contains(told), "{arguments}: {error}");
        }
    }

    #[test]
    fn the_work_is_bounded_and_the_rest_left_to_the_tool() {
        let choices: Vec<u32> = (0..50_000).collect();
        let schema = json!({ "properties": { "a": { "items": { "enum": choices } } } });
        let arguments = json!({ "a": vec![49_999; 10_000] }).to_string();
        assert_eq!(check(&schema, &arguments), Ok(()));
    }

    proptest! {
        #[test]
        fn no_schema_and_no_arguments_panic(schema in ".{0,200}", arguments in ".{0,200}") {
            let schema = serde_json::from_str(&schema).unwrap_or(Value::Null);
            let _fits = check(&schema, &arguments);
        }
    }
}
