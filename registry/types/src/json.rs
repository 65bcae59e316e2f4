//! JSON that somebody else wrote, read without a second meaning.
//!
//! Parsers differ in what they make of an object that names a key twice: one takes the first value, one the last. A
//! document that was signed by a reader of the first and run by a reader of the last is how signatures are got round, so
//! such documents are refused. Size and depth are bounded: whoever wrote the document chose both.

use std::fmt;

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// How deep arrays and objects may lie in one another. The documents of a registry need less than 10; a CycloneDX SBOM
/// may nest a few more.
pub const DEEPEST: usize = 32;

/// Why bytes are not a JSON document of the expected form.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// There are too many bytes.
    #[error("the document has {size} bytes, and may have {largest}")]
    TooLarge {
        /// How many there are.
        size: usize,
        /// How many there may be.
        largest: usize,
    },
    /// It is not JSON, names a key twice, or is nested deeper than [`DEEPEST`].
    #[error("the document is not sound JSON: {0}")]
    Syntax(serde_json::Error),
    /// It is JSON, and says something else.
    #[error("the document has another form: {0}")]
    Form(serde_json::Error),
}

/// Reads `bytes` as any document, at most `largest` bytes of it.
pub fn parse_value(bytes: &[u8], largest: usize) -> Result<Value, JsonError> {
    if bytes.len() > largest {
        return Err(JsonError::TooLarge { size: bytes.len(), largest });
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { depth: DEEPEST }.deserialize(&mut deserializer).map_err(JsonError::Syntax)?;
    deserializer.end().map_err(JsonError::Syntax)?;
    Ok(value)
}

/// Reads `bytes` as a `T`, at most `largest` bytes of it.
pub fn parse<T: DeserializeOwned>(bytes: &[u8], largest: usize) -> Result<T, JsonError> {
    serde_json::from_value(parse_value(bytes, largest)?).map_err(JsonError::Form)
}

#[derive(Clone, Copy)]
struct Strict {
    depth: usize,
}

impl Strict {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        let depth = self.depth.checked_sub(1).ok_or_else(|| E::custom(format!("nested deeper than {DEEPEST}")))?;
        Ok(Self { depth })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if map.contains_key(&key) {
                return Err(A::Error::custom(format!("the key `{}` stands twice", crate::digest::shown(&key))));
            }
            map.insert(key, entries.next_value_seed(inner)?);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_document_is_read_as_it_stands() {
        let text = br#"{"a":[1,-2,3.5,"x",null,true],"b":{"c":{}}}"#;
        let value = parse_value(text, 100).unwrap();
        assert_eq!(value, serde_json::from_slice::<Value>(text).unwrap());
    }

    #[test]
    fn a_key_that_stands_twice_is_refused() {
        for text in [r#"{"a":1,"a":1}"#, r#"{"a":1,"\u0061":2}"#, r#"[{"b":{"a":1,"a":2}}]"#] {
            assert!(matches!(parse_value(text.as_bytes(), 100), Err(JsonError::Syntax(_))), "{text}");
        }
    }

    #[test]
    fn size_and_depth_are_bounded() {
        assert!(matches!(parse_value(b"[1, 2]", 5), Err(JsonError::TooLarge { size: 6, largest: 5 })));
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse_value(nested(DEEPEST).as_bytes(), 1000).is_ok());
        assert!(parse_value(nested(DEEPEST + 1).as_bytes(), 1000).is_err());
        assert!(parse_value("[".repeat(100_000).as_bytes(), 100_000).is_err());
    }

    #[test]
    fn what_follows_a_document_is_refused() {
        assert!(parse_value(b"{} {}", 100).is_err());
    }

    proptest! {
        #[test]
        fn what_serde_refuses_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            if serde_json::from_slice::<Value>(&bytes).is_err() {
                prop_assert!(parse_value(&bytes, 100).is_err());
            }
        }
    }
}
