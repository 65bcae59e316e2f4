//! What must not run, and why.
//!
//! Two kinds of entries lie here. What failed its checks is listed as long as it fails them: each load checks anew. What an
//! operator put aside, or was yanked or revoked while it ran, stays until an operator lets it go.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use witan_registry_types::Digest;
use witan_system::{ComponentName, Source};

use crate::file::{self, FileError, Turn};

const LARGEST: u64 = 4 << 20;

/// Who or what put a component aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// It did not pass its checks.
    Verification,
    /// An operator.
    Operator,
    /// Its version was yanked while it ran.
    Yanked,
    /// The key that signed it is no longer trusted.
    Revoked,
}

impl Cause {
    /// Whether it stays until an operator lets it go.
    pub fn holds(self) -> bool {
        self != Self::Verification
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Verification => "verification",
            Self::Operator => "operator",
            Self::Yanked => "yanked",
            Self::Revoked => "revoked",
        })
    }
}

/// A component in quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Held {
    /// Its name in the system.
    pub component: String,
    /// Where it came from, as text.
    pub source: String,
    /// The bytes that are meant: the digest of a file, or of a manifest; none means all that come from that source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Who or what put it here.
    pub cause: Cause,
    /// Why.
    pub reason: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// When, in seconds since the Unix epoch.
    pub since: u64,
}

impl Held {
    /// An entry of now.
    pub fn new(component: &ComponentName, source: &Source, cause: Cause, reason: impl Into<String>) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let (component, source) = (component.to_string(), source.to_string());
        Self { component, source, digest: None, cause, reason: reason.into(), help: None, since }
    }

    /// The same with what to do about it.
    #[must_use]
    pub fn with_help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// The same for these bytes alone.
    #[must_use]
    pub fn of(self, digest: Digest) -> Self {
        Self { digest: Some(digest), ..self }
    }

    /// What a system calls a component does not matter: another system, or another table of it, may name the same bytes.
    fn is_about(&self, source: &Source, digest: Option<&Digest>) -> bool {
        let fits = |own: &Digest| digest.is_none_or(|digest| digest == own);
        self.source == source.to_string() && self.digest.as_ref().is_none_or(fits)
    }
}

/// The quarantine of a host, in a file.
#[derive(Debug, Clone)]
pub struct Quarantine {
    path: PathBuf,
}

impl Quarantine {
    /// The quarantine in the file at `path`, which need not be there yet.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All that is in it.
    pub fn list(&self) -> Result<Vec<Held>, FileError> {
        match file::read(&self.path, LARGEST)? {
            None => Ok(Vec::new()),
            Some(text) => serde_json::from_str(&text).map_err(|error| FileError::form(&self.path, error)),
        }
    }

    /// What keeps these bytes from running whatever their checks say. Without a digest: what is meant for all bytes of the
    /// source, or for any.
    pub fn holds(&self, source: &Source, digest: Option<&Digest>) -> Result<Option<Held>, FileError> {
        let mut all = self.list()?.into_iter();
        Ok(all.find(|held| held.cause.holds() && held.is_about(source, digest)))
    }

    /// Puts a component aside, in the place of an older entry about the same.
    pub fn add(&self, held: Held) -> Result<(), FileError> {
        self.change(|all| {
            all.retain(|other| {
                let same = (&other.component, &other.source, other.cause.holds());
                same != (&held.component, &held.source, held.cause.holds())
            });
            all.push(held);
        })
    }

    /// Forgets what was said of the checks of components, since they passed them.
    pub fn passed(&self, components: &BTreeSet<&str>) -> Result<(), FileError> {
        let listed = |held: &Held| held.cause == Cause::Verification && components.contains(held.component.as_str());
        if !self.list()?.iter().any(listed) {
            return Ok(());
        }
        self.change(|all| all.retain(|held| !listed(held)))
    }

    /// Lets a component go, and says what was let go.
    pub fn release(&self, component: &str) -> Result<Vec<Held>, FileError> {
        let mut released = Vec::new();
        self.change(|all| released.extend(all.extract_if(.., |held| held.component == component)))?;
        Ok(released)
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Held>)) -> Result<(), FileError> {
        let _turn = Turn::at(&self.path)?;
        let mut all = self.list()?;
        change(&mut all);
        let text = serde_json::to_string_pretty(&all).map_err(|error| FileError::form(&self.path, error))?;
        file::replace(&self.path, &text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_operator_holds_stays_and_what_passed_goes() {
        let folder = tempfile::tempdir().unwrap();
        let quarantine = Quarantine::at(folder.path().join("quarantine.json"));
        let name: ComponentName = "sums".parse().unwrap();
        let source = Source::Registry("acme:sums@1.0.0".parse().unwrap());
        let other = Source::Registry("acme:sums@1.0.1".parse().unwrap());
        let digest = Digest::of(b"manifest");
        assert_eq!(quarantine.holds(&source, None).unwrap(), None);

        quarantine.add(Held::new(&name, &source, Cause::Verification, "unsigned")).unwrap();
        assert_eq!(quarantine.holds(&source, None).unwrap(), None, "each load checks anew");
        quarantine.passed(&["sums"].into()).unwrap();
        assert_eq!(quarantine.list().unwrap(), []);

        quarantine.add(Held::new(&name, &source, Cause::Yanked, "a hole").of(digest)).unwrap();
        quarantine.passed(&["sums"].into()).unwrap();
        assert_eq!(quarantine.holds(&source, Some(&digest)).unwrap().unwrap().reason, "a hole");
        assert_eq!(quarantine.holds(&source, Some(&Digest::of(b"other"))).unwrap(), None);
        assert_eq!(quarantine.holds(&other, Some(&digest)).unwrap(), None);
        assert_eq!(quarantine.release("sums").unwrap().len(), 1);
        assert_eq!(quarantine.holds(&source, Some(&digest)).unwrap(), None);
    }
}
