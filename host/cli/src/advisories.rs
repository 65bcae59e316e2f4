//! Advisories about crates, in a folder of the RustSec form; nobody is asked.

use std::{fmt, path::Path, str::FromStr as _};

use anyhow::Context as _;
use rustsec::{Collection, Database, database::Query, package};
use serde::Serialize;
use witan_registry_sign::Dependency;

/// A folder of advisories.
pub(crate) struct Advisories(Database);

/// An advisory about a dependency.
#[derive(Serialize)]
pub(crate) struct Finding {
    pub(crate) dependency: String,
    pub(crate) advisory: String,
    pub(crate) title: String,
    /// What it is where it is no vulnerability, such as that nobody maintains it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) informational: Option<String>,
    pub(crate) patched: Vec<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` has {}: {}", self.dependency, self.advisory, self.title)
    }
}

impl Advisories {
    /// Reads a folder. One without any advisory is an error: it finds nothing in anything.
    pub(crate) fn open(folder: &Path) -> anyhow::Result<Self> {
        let unreadable =
            || format!("`{}` is no folder of advisories, such as a clone of rustsec/advisory-db", folder.display());
        let all = Self(Database::open(folder).with_context(unreadable)?);
        all.newest().with_context(|| format!("`{}` has no advisories", folder.display()))?;
        Ok(all)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.iter().count()
    }

    /// The date of the newest.
    pub(crate) fn newest(&self) -> Option<String> {
        self.0.iter().map(|advisory| advisory.date().as_str().to_owned()).max()
    }

    /// What is known of `dependency`; none where it is of a kind that advisories are not kept of.
    pub(crate) fn of(&self, dependency: &Dependency) -> Option<Vec<Finding>> {
        let url = dependency.as_str();
        let (name, version) = url.strip_prefix("pkg:cargo/")?.split_once('@')?;
        let (name, version) = (package::Name::from_str(name).ok()?, version.replace("%2B", "+").parse().ok()?);
        let query =
            Query::new().collection(Collection::Crates).package_name(name).package_version(version).withdrawn(false);
        let found = self.0.query(&query).into_iter().map(|advisory| Finding {
            dependency: url.to_owned(),
            advisory: advisory.id().to_string(),
            title: advisory.title().to_owned(),
            informational: advisory.metadata.informational.as_ref().map(|kind| kind.as_str().to_owned()),
            patched: advisory.versions.patched().iter().map(ToString::to_string).collect(),
        });
        Some(found.collect())
    }

    /// The vulnerability of `dependency` in words, if one is known.
    pub(crate) fn vulnerability(&self, dependency: &Dependency) -> Option<String> {
        let found = self.of(dependency)?.into_iter().find(|finding| finding.informational.is_none())?;
        Some(found.to_string())
    }
}
