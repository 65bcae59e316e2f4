//! What is said of who asks: tenants, roles, trust, and scopes.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How far somebody is trusted. Ordered from little to much.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TrustLevel {
    /// As somebody of whom nothing is known.
    Restricted,
    /// As a user.
    #[default]
    Standard,
    /// As somebody who may do what is dangerous.
    Elevated,
    /// As the host's operator: may also do what concerns the whole host, and so every tenant.
    Privileged,
}

impl TrustLevel {
    /// Every level, from little to much.
    pub const ALL: [Self; 4] = [Self::Restricted, Self::Standard, Self::Elevated, Self::Privileged];

    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Restricted => "restricted",
            Self::Standard => "standard",
            Self::Elevated => "elevated",
            Self::Privileged => "privileged",
        }
    }
}

impl fmt::Display for TrustLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a text is no trust level.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no trust level; these are `restricted`, `standard`, `elevated` and `privileged`")]
pub struct TrustLevelError(String);

impl FromStr for TrustLevel {
    type Err = TrustLevelError;

    fn from_str(text: &str) -> Result<Self, TrustLevelError> {
        Self::ALL.into_iter().find(|level| level.name() == text).ok_or_else(|| TrustLevelError(text.to_owned()))
    }
}

/// What a scope allows in its area.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// To read, list and follow.
    Read,
    /// To make, change and end.
    Write,
}

impl Verb {
    fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The longest name of an area.
const LONGEST_AREA: usize = 32;

/// What somebody may ask for: `tasks:read`, `tasks:*` for all of an area, `*` for all areas. An area is what stands after
/// `/v1/` in a route.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope {
    /// None is every area.
    area: Option<String>,
    /// None is every verb.
    verb: Option<Verb>,
}

impl Scope {
    /// Everything.
    #[must_use]
    pub fn all() -> Self {
        Self { area: None, verb: None }
    }

    /// Whether it allows `verb` in `area`.
    #[must_use]
    pub fn allows(&self, area: &str, verb: Verb) -> bool {
        self.area.as_deref().is_none_or(|ours| ours == area) && self.verb.is_none_or(|ours| ours == verb)
    }

    /// Whether it allows all that `other` does.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let area = self.area.is_none() || self.area == other.area;
        let verb = self.verb.is_none() || self.verb == other.verb;
        area && verb
    }
}

/// Why a text is no scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no scope; write `area:read`, `area:write` or `area:*`, such as `tasks:*`, or `*` for everything")]
pub struct ScopeError(String);

impl FromStr for Scope {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let error = || ScopeError(text.chars().take(2 * LONGEST_AREA).collect());
        let (area, verb) = match text {
            "*" => ("*", "*"),
            text => text.split_once(':').ok_or_else(error)?,
        };
        let is_name = !area.is_empty()
            && area.len() <= LONGEST_AREA
            && area.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
        let area = match area {
            "*" => None,
            name if is_name => Some(name.to_owned()),
            _ => return Err(error()),
        };
        let verb = match verb {
            "*" => None,
            "read" => Some(Verb::Read),
            "write" => Some(Verb::Write),
            _ => return Err(error()),
        };
        Ok(Self { area, verb })
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.area, self.verb) {
            (None, None) => f.write_str("*"),
            (area, verb) => {
                write!(f, "{}:{}", area.as_deref().unwrap_or("*"), verb.map_or("*", Verb::name))
            }
        }
    }
}

impl Serialize for Scope {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(text: &str) -> Scope {
        text.parse().unwrap()
    }

    #[test]
    fn a_scope_is_written_as_it_is_read() {
        for text in ["tasks:read", "tasks:write", "tasks:*", "*:read", "*"] {
            assert_eq!(scope(text).to_string(), text);
        }
        assert_eq!(scope("*:*").to_string(), "*");
        let long = format!("{}:read", "a".repeat(33));
        for text in ["", "tasks", "tasks:", ":read", "Tasks:read", "tasks:delete", "tasks:read:x", "tasks:read ", &long]
        {
            assert!(text.parse::<Scope>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_scope_allows_what_it_covers() {
        let all = ["*", "*:read", "*:write", "tasks:*", "tasks:read", "tasks:write", "keys:read"].map(scope);
        for wide in &all {
            for narrow in &all {
                let implied = ["tasks", "keys", "host"].iter().all(|area| {
                    [Verb::Read, Verb::Write].iter().all(|verb| !narrow.allows(area, *verb) || wide.allows(area, *verb))
                });
                assert_eq!(wide.covers(narrow), implied, "{wide} {narrow}");
            }
        }
    }

    #[test]
    fn trust_is_ordered_and_written_as_it_is_read() {
        assert!(TrustLevel::ALL.is_sorted());
        for level in TrustLevel::ALL {
            assert_eq!(level.to_string().parse(), Ok(level));
            assert_eq!(serde_json::to_value(level).unwrap(), level.name());
        }
        assert!("root".parse::<TrustLevel>().is_err());
    }
}
