//! Which events somebody listens to.

use std::{fmt, str::FromStr};

use crate::What;

/// Events of one type, such as `task.completed`, of all types below a name, such as `task.*`, or all, `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no events are called `{0}`; there are {known}, `*` for all, and such as `task.*`", known = What::TYPES.join(", "))]
pub struct PatternError(String);

impl Pattern {
    /// All events.
    #[must_use]
    pub fn all() -> Self {
        Self("*".to_owned())
    }

    /// Whether it takes events of the type `name`.
    #[must_use]
    pub fn takes(&self, name: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == self.0,
        }
    }

    /// Reads a list with commas between.
    ///
    /// # Errors
    /// When one is none.
    pub fn list(text: &str) -> Result<Vec<Self>, PatternError> {
        text.split(',').map(|one| one.trim().parse()).collect()
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let pattern = Self(text.to_owned());
        let whole = text == "*" || text.ends_with(".*") || !text.contains('*');
        // One that takes nothing would look like a subscription and never tell anything.
        if whole && What::TYPES.iter().any(|name| pattern.takes(name)) {
            return Ok(pattern);
        }
        let shown: String = text.chars().filter(|char| !char.is_control()).take(64).collect();
        Err(PatternError(shown))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_a_type_those_below_a_name_or_all() {
        let takes = |pattern: &str, name: &str| pattern.parse::<Pattern>().unwrap().takes(name);
        assert!(takes("task.created", "task.created") && !takes("task.created", "task.started"));
        assert!(takes("task.*", "task.started") && !takes("task.*", "component.loaded"));
        assert!(takes("*", "policy.reloaded"));
        for none in ["", "task", "task.none", "ta*", "*.created", "task.*.*", "other.*", "**"] {
            assert!(none.parse::<Pattern>().is_err(), "{none}");
        }
        assert_eq!(Pattern::list("task.created, component.*").unwrap().len(), 2);
        assert!(Pattern::list("task.created,").is_err());
    }
}
