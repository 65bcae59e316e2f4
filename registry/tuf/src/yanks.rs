//! Which versions are yanked, as it is signed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use witan_registry_types::{PackageName, Version};

/// The versions of a namespace's packages that should not be used any more: by package, such as `acme:sums`, and then by version.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Yanks(pub BTreeMap<String, BTreeMap<String, Yank>>);

/// That a version should not be used any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Yank {
    /// Since when: RFC 3339.
    pub at: String,
    /// Why, in the words of whoever yanked it.
    pub reason: String,
}

impl Yanks {
    /// Why `version` of `package` was yanked, if it was.
    pub fn reason(&self, package: &PackageName, version: &Version) -> Option<&str> {
        let versions = self.0.get(&package.to_string())?;
        let same = |tag: &str| tag.parse::<Version>().is_ok_and(|found| found == *version);
        versions.iter().find(|(tag, _)| same(tag)).map(|(_, yank)| yank.reason.as_str())
    }
}
