//! What a registry says of its packages beside their bytes: which there are, and which versions are yanked. None of it is
//! signed; it is for people, and for refusing what a registry itself warns of.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::Method;
use serde::Deserialize;
use serde_json::json;
use url::form_urlencoded::byte_serialize;
use witan_registry_types::{Package, PackageName, Repository, Version};

use crate::client::Client;
use crate::fetch::LARGEST_MANIFEST;
use crate::http::{Ask, RequestError, shown};

/// Pages of what was found.
const PAGES: usize = 10;
const LARGEST_ANSWER: u64 = 64 << 10;

/// A package that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What it is called, where it is a component of this registry's mapping.
    pub package: Option<PackageName>,
    /// Where it lies.
    pub repository: Repository,
    /// How many versions it has.
    pub versions: u64,
    /// How often it was downloaded.
    pub downloads: u64,
}

#[derive(Deserialize)]
struct Page {
    packages: Vec<WireFound>,
    #[serde(default)]
    next: Option<String>,
}

#[derive(Deserialize)]
struct WireFound {
    repository: Repository,
    versions: u64,
    downloads: u64,
}

#[derive(Deserialize)]
struct Yanks {
    yanked: BTreeMap<String, Yank>,
}

#[derive(Deserialize)]
struct Yank {
    reason: String,
}

fn escaped(text: &str) -> String {
    byte_serialize(text.as_bytes()).collect()
}

impl Client {
    /// Packages whose name or description has `words`, some hundred at most.
    pub async fn search(&self, words: &str) -> Result<Vec<Found>, RequestError> {
        let (mut found, mut after) = (Vec::new(), String::new());
        for _ in 0..PAGES {
            let path = format!("/api/packages?q={}&after={}", escaped(words), escaped(&after));
            let page: Page = self.http.read(Ask::get(&path, None), LARGEST_MANIFEST).await?.json()?;
            found.extend(page.packages.into_iter().map(|WireFound { repository, versions, downloads }| Found {
                package: self.mapping.package(&repository),
                repository,
                versions,
                downloads,
            }));
            match page.next {
                Some(next) if next > after => after = next,
                _ => break,
            }
        }
        Ok(found)
    }

    /// The versions of `package` that should not be used any more, each with the reason. A registry that has no such list
    /// is an error, and not a list without entries.
    pub async fn yanked(&self, package: &PackageName) -> Result<BTreeMap<Version, String>, RequestError> {
        let path = format!("/api/yanks/{}", self.repository(package));
        let Yanks { yanked } = self.http.read(Ask::get(&path, None), LARGEST_MANIFEST).await?.json()?;
        let entry = |(version, yank): (String, Yank)| Some((version.parse().ok()?, shown(&yank.reason)));
        Ok(yanked.into_iter().filter_map(entry).collect())
    }

    /// Says that a version should not be used any more, and why.
    pub async fn yank(&self, package: &Package, reason: &str) -> Result<(), RequestError> {
        let path = self.yank_path(package);
        let body = Bytes::from(json!({ "reason": reason }).to_string());
        let ask = Ask::new(Method::PUT, &path, None).body("application/json", body);
        self.http.read(ask, LARGEST_ANSWER).await.map(drop)
    }

    /// Takes back that a version should not be used any more.
    pub async fn unyank(&self, package: &Package) -> Result<(), RequestError> {
        let path = self.yank_path(package);
        self.http.read(Ask::new(Method::DELETE, &path, None), LARGEST_ANSWER).await.map(drop)
    }

    fn yank_path(&self, package: &Package) -> String {
        format!("/api/yanks/{}?version={}", self.repository(&package.name), package.version)
    }
}
