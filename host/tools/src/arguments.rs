//! Whether arguments fit a tool's schema.
//!
//! Checked before the tool is called, so that a model that got them wrong is told what is wrong: an object, all that is
//! required, nothing unknown where the schema closes the object, and the type and the listed values of each property.
//! The tool itself still checks what it relies on: a schema may say more than this.

use serde_json::{Map, Value};

/// Checks `arguments` against `schema`, both JSON.
///
/// # Errors
/// What does not fit, for a model to read.
pub(crate) fn check(schema: &str, arguments: &str) -> Result<(), String> {
    let arguments: Value =
        serde_json::from_str(arguments).map_err(|error| format!("the arguments are no JSON: {error}"))?;
    let Value::Object(arguments) = arguments else { return Err("the arguments must be a JSON object".to_owned()) };
    // A schema that is none says nothing; the tool judges by itself.
    let Ok(Value::Object(schema)) = serde_json::from_str::<Value>(schema) else { return Ok(()) };
    let none = Map::new();
    let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
    for name in schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        if !arguments.contains_key(name) {
            return Err(format!("`{name}` is missing"));
        }
    }
    let closed = schema.get("additionalProperties") == Some(&Value::Bool(false));
    for (name, value) in &arguments {
        match properties.get(name) {
            Some(property) => check_value(name, property, value)?,
            None if closed => {
                let known: Vec<&str> = properties.keys().map(String::as_str).collect();
                return Err(format!("`{name}` is not known; the arguments are: {}", known.join(", ")));
            }
            None => {}
        }
    }
    Ok(())
}

fn check_value(name: &str, property: &Value, value: &Value) -> Result<(), String> {
    let types: Vec<&str> = match property.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(some)) => some.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !types.is_empty() && !types.iter().any(|wanted| is_of(wanted, value)) {
        return Err(format!("`{name}` must be of type {}", types.join(" or ")));
    }
    match property.get("enum").and_then(Value::as_array) {
        Some(values) if !values.contains(value) => {
            let values: Vec<String> = values.iter().map(ToString::to_string).collect();
            Err(format!("`{name}` must be one of {}", values.join(", ")))
        }
        _ => Ok(()),
    }
}

fn is_of(wanted: &str, value: &Value) -> bool {
    match wanted {
        "string" => value.is_string(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        // A type that this page does not know is the tool's to judge.
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: &str = r#"{"type": "object", "required": ["path"], "additionalProperties": false, "properties": {
        "path": {"type": "string"}, "limit": {"type": ["integer", "null"]}, "mode": {"enum": ["a", "b"]}}}"#;

    #[test]
    fn what_fits_passes() {
        for good in
            [r#"{"path": "x"}"#, r#"{"path": "x", "limit": 2.0, "mode": "a"}"#, r#"{"path": "", "limit": null}"#]
        {
            assert_eq!(check(SCHEMA, good), Ok(()), "{good}");
        }
        assert_eq!(check("no schema", "{}"), Ok(()));
    }

    #[test]
    fn what_does_not_fit_says_why() {
        for (bad, why) in [
            ("", "no JSON"),
            ("[]", "object"),
            ("{}", "`path` is missing"),
            (r#"{"path": 1}"#, "`path` must be of type string"),
            (r#"{"path": "x", "limit": 1.5}"#, "integer or null"),
            (r#"{"path": "x", "mode": "c"}"#, "one of"),
            (r#"{"path": "x", "paht": "y"}"#, "`paht` is not known"),
        ] {
            let error = check(SCHEMA, bad).unwrap_err();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }
}
