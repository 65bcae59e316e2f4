//! The names in a system, each parsed once into a type.
//!
//! Names end up in file paths, log lines, URLs and metrics, so that one strict form spares every one of those places
//! an escape of its own.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// Long enough to say what a thing is, short enough for a label of a metric.
const LONGEST: usize = 64;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct NameError {
    text: String,
    expected: &'static str,
}

fn kebab(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= LONGEST
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.ends_with('-')
        && !text.contains("--")
}

macro_rules! kebab_name {
    ($(#[$doc:meta])* $name:ident, $expected:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                if kebab(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(NameError { text: text.to_owned(), expected: $expected })
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

kebab_name!(
    /// What a system calls a component: lower-case letters, digits and single hyphens, 64 at most.
    ComponentName,
    "a component name: lower-case letters, digits and single hyphens, a letter first, 64 at most"
);

kebab_name!(
    /// What a task is to do, such as `summarize`: lower-case letters, digits and single hyphens, 64 at most.
    Intent,
    "an intent: lower-case letters, digits and single hyphens, a letter first, 64 at most"
);

kebab_name!(
    /// What a component calls one of its tools: lower-case letters, digits and single hyphens, 64 at most.
    ToolName,
    "the name of a tool: lower-case letters, digits and single hyphens, a letter first, 64 at most"
);

kebab_name!(
    /// A tenant: lower-case letters, digits and single hyphens, 64 at most.
    TenantName,
    "a tenant: lower-case letters, digits and single hyphens, a letter first, 64 at most"
);

impl TenantName {
    /// The tenant of whoever sits at this machine.
    #[must_use]
    pub fn local() -> Self {
        Self("local".to_owned())
    }
}

kebab_name!(
    /// What an operator calls a role, an issuer or a service: lower-case letters, digits and single hyphens, 64 at most.
    Name,
    "a name: lower-case letters, digits and single hyphens, a letter first, 64 at most"
);

/// An interface that a component imports, such as `witan:documents/extract` or `wasi:http/types@0.2.0`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceName {
    text: String,
}

impl InterfaceName {
    /// The name as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether `import`, an interface with or without a version, is meant. A name without a version means every
    /// version of the interface.
    pub fn matches(&self, import: &str) -> bool {
        if self.text.contains('@') { self.text == import } else { import.split('@').next() == Some(&self.text) }
    }
}

impl FromStr for InterfaceName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let (path, version) = text.split_once('@').map_or((text, None), |(path, version)| (path, Some(version)));
        let parts: Vec<&str> = path.split([':', '/']).collect();
        let shaped = path.matches(':').count() == 1
            && path.matches('/').count() == 1
            && path.find(':') < path.find('/')
            && parts.iter().all(|part| kebab(part));
        if shaped && version.is_none_or(is_version) {
            Ok(Self { text: text.to_owned() })
        } else {
            Err(NameError {
                text: text.to_owned(),
                expected: "the name of an interface: `namespace:package/interface`, with `@version` or without",
            })
        }
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for InterfaceName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

fn is_version(text: &str) -> bool {
    text.len() <= LONGEST && semver::Version::parse(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn component_names_are_kebab_case() {
        for good in ["a", "tool-files", "llm-4"] {
            assert!(good.parse::<ComponentName>().is_ok(), "{good}");
        }
        for bad in ["", "A", "4a", "a-", "a--b", "a_b", "a/b", "..", "ä", &"a".repeat(65)] {
            assert!(bad.parse::<ComponentName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn interfaces_have_a_namespace_a_package_and_a_name() {
        for good in ["witan:documents/extract", "wasi:http/types@0.2.0", "a:b/c@0.1.0-draft"] {
            assert!(good.parse::<InterfaceName>().is_ok(), "{good}");
        }
        for bad in ["extract", "a:b", "a/b:c", "a:b/c/d", "a:b/c@", "a:b/c@1", "a:b/C", "a:b/c@1.0.0\n"] {
            assert!(bad.parse::<InterfaceName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_without_a_version_means_every_version() {
        let any: InterfaceName = "a:b/c".parse().unwrap();
        assert!(any.matches("a:b/c") && any.matches("a:b/c@1.0.0") && !any.matches("a:b/cd"));
        let one: InterfaceName = "a:b/c@1.0.0".parse().unwrap();
        assert!(one.matches("a:b/c@1.0.0") && !one.matches("a:b/c@1.0.1"));
    }
}
