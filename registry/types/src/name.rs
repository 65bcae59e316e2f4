//! What a component is called in a registry.
//!
//! A name ends up in paths, tags, URLs and signed statements. One strict form, without capitals and without anything but
//! ASCII, leaves no second spelling that looks the same.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::shown;

/// The same as for the names in `system.toml`.
const LONGEST: usize = 64;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct NameError {
    text: String,
    expected: &'static str,
}

impl NameError {
    fn new(text: &str, expected: &'static str) -> Self {
        Self { text: shown(text), expected }
    }
}

fn kebab(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= LONGEST
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.ends_with('-')
        && !text.contains("--")
}

/// A type that is written as a text and read from it.
macro_rules! as_text {
    ($name:ident) => {
        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }

        impl TryFrom<String> for $name {
            type Error = <$name as FromStr>::Err;
            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }
    };
}
pub(crate) use as_text;

macro_rules! kebab_name {
    ($(#[$doc:meta])* $name:ident, $expected:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
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
                if kebab(text) { Ok(Self(text.to_owned())) } else { Err(NameError::new(text, $expected)) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        as_text!($name);
    };
}

kebab_name!(
    /// Who publishes: lower-case letters, digits and single hyphens, 64 at most.
    Namespace,
    "a namespace: lower-case letters, digits and single hyphens, a letter first, 64 at most"
);

kebab_name!(
    /// What a component is called within its namespace: lower-case letters, digits and single hyphens, 64 at most.
    Name,
    "a name: lower-case letters, digits and single hyphens, a letter first, 64 at most"
);

/// A component in all its versions: `namespace:name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PackageName {
    /// Who publishes it.
    pub namespace: Namespace,
    /// What it is called there.
    pub name: Name,
}

impl FromStr for PackageName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let parts = text
            .split_once(':')
            .and_then(|(namespace, name)| Some(Self { namespace: namespace.parse().ok()?, name: name.parse().ok()? }));
        parts.ok_or_else(|| NameError::new(text, "the name of a package: `namespace:name`"))
    }
}

impl fmt::Display for PackageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.namespace, self.name)
    }
}

as_text!(PackageName);

/// A version: semantic versioning 2.0, 64 characters at most, without build metadata. Versions that differ in their
/// build metadata alone would be the same version to a resolver and two to a registry, and a tag cannot hold the `+`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version(semver::Version);

impl Version {
    /// The version as the `semver` crate knows it.
    pub fn semver(&self) -> &semver::Version {
        &self.0
    }
}

impl FromStr for Version {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let parsed = Some(text).filter(|text| text.len() <= LONGEST).and_then(|text| semver::Version::parse(text).ok());
        let parsed = parsed.filter(|version| version.build.is_empty());
        let expected = "a version: `1.2.3` or `1.2.3-rc.1`, without build metadata, 64 characters at most";
        parsed.map(Self).ok_or_else(|| NameError::new(text, expected))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

as_text!(Version);

/// A component in one version: `namespace:name@1.2.3`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Package {
    /// The component.
    pub name: PackageName,
    /// Which of its versions.
    pub version: Version,
}

impl FromStr for Package {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let parts = text
            .split_once('@')
            .and_then(|(name, version)| Some(Self { name: name.parse().ok()?, version: version.parse().ok()? }));
        parts.ok_or_else(|| NameError::new(text, "a reference to a package: `namespace:name@1.2.3`"))
    }
}

impl fmt::Display for Package {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.version)
    }
}

as_text!(Package);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_package_has_a_namespace_a_name_and_a_version() {
        let package: Package = "witan:tool-files@1.2.3-rc.1".parse().unwrap();
        assert_eq!(package.name.namespace.as_str(), "witan");
        assert_eq!(package.name.name.as_str(), "tool-files");
        assert_eq!(package.version.to_string(), "1.2.3-rc.1");
    }

    #[test]
    fn what_could_be_mistaken_for_a_name_is_refused() {
        for bad in [
            "",
            "a:b",
            "a@1.0.0",
            ":b@1.0.0",
            "a:@1.0.0",
            "A:b@1.0.0",
            "a:b_c@1.0.0",
            "a:b/c@1.0.0",
            "a:../b@1.0.0",
            "a:b@1",
            "a:b@1.0",
            "a:b@v1.0.0",
            "a:b@01.0.0",
            "a:b@1.0.0+build",
            "a:b@latest",
            "a:b@1.0.0@2.0.0",
            "a:b:c@1.0.0",
            "a:b@1.0.0\n",
            " a:b@1.0.0",
            "a:b--c@1.0.0",
            "а:b@1.0.0", // a Cyrillic letter
            "4a:b@1.0.0",
        ] {
            assert!(bad.parse::<Package>().is_err(), "{bad}");
        }
        assert!(format!("a:{}@1.0.0", "b".repeat(65)).parse::<Package>().is_err());
        assert!(format!("a:b@1.0.0-{}", "b".repeat(65)).parse::<Package>().is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            text in "[a-z][a-z0-9]{0,8}(-[a-z0-9]{1,4}){0,3}:[a-z][a-z0-9]{0,8}@[1-9][0-9]{0,3}\\.[0-9]\\.[0-9](-rc\\.[1-9])?"
        ) {
            prop_assert_eq!(text.parse::<Package>().unwrap().to_string(), text);
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,200}") {
            if let Ok(package) = text.parse::<Package>() {
                prop_assert_eq!(package.to_string(), text);
            }
        }
    }
}
