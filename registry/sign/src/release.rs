//! The release statement: what an author says of a version by publishing it.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use witan_registry_types::Digest;
use witan_system::Ceiling;

/// The predicate of a release statement. A key that is not known is an error: it could be a constraint that this host would
/// not hold to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Release {
    schema: Schema,
    /// What the component may ever need.
    pub ceiling: Ceiling,
    /// The SHA-256 of its WIT, as the host prints it.
    pub wit: Digest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
struct Schema;

impl From<Schema> for u32 {
    fn from(_: Schema) -> Self {
        1
    }
}

impl TryFrom<u32> for Schema {
    type Error = String;
    fn try_from(number: u32) -> Result<Self, String> {
        if number == 1 { Ok(Self) } else { Err(format!("the schema is {number}, and must be 1")) }
    }
}

impl Release {
    /// The release of a component with this ceiling and this WIT.
    pub fn new(ceiling: Ceiling, wit: Digest) -> Self {
        Self { schema: Schema, ceiling, wit }
    }

    /// Reads a predicate.
    pub fn parse(predicate: &Value) -> Result<Self, String> {
        Self::deserialize(predicate).map_err(|error| error.to_string())
    }

    /// The predicate.
    pub fn to_predicate(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_release_is_read_as_it_was_written() {
        let ceiling = serde_json::from_value(json!({ "http": [{ "host": "api.example.com" }] })).unwrap();
        let release = Release::new(ceiling, Digest::of(b"wit"));
        assert_eq!(Release::parse(&release.to_predicate()).unwrap(), release);
    }

    #[test]
    fn what_this_host_does_not_know_is_refused() {
        let good = Release::new(Ceiling::default(), Digest::of(b"wit")).to_predicate();
        for (key, value) in [
            ("schema", json!(2)),
            ("schema", json!("1")),
            ("more", json!(true)),
            ("ceiling", json!({ "telepathy": true })),
            ("ceiling", json!(null)),
            ("wit", json!("sha512:00")),
        ] {
            let mut bad = good.clone();
            bad[key] = value;
            assert!(Release::parse(&bad).is_err(), "{bad}");
        }
    }
}
