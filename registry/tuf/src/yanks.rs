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
    /// The versions of `package` that are yanked, each with the reason.
    pub fn of(&self, package: &PackageName) -> BTreeMap<Version, String> {
        let versions = self.0.get(&package.to_string()).into_iter().flatten();
        versions.filter_map(|(tag, yank)| Some((tag.parse().ok()?, crate::shown(&yank.reason)))).collect()
    }
}
