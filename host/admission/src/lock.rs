//! `witan.lock`: what a system ran, so that it runs the same again.
//!
//! Of a package it holds everything that its verification came to. Of a file of this machine it holds what others rely on,
//! its WIT, its ceiling and its grants, and not its bytes or who signed them: a fresh clone builds it anew.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use witan_registry_types::{Blake3, Digest, Package};
use witan_system::{Component, ComponentName, Source, System, grants_toml};

use crate::file::{self, FileError};
use crate::gate::{Admitted, By};

const LARGEST: u64 = 4 << 20;
const HEAD: &str =
    "# What this system ran, and runs with `--locked`. Written by `witan`; keep it with `system.toml`.\n\n";

/// Why a lock does not hold.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// It cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is none.
    #[error("there is no `{0}`, and `--locked` holds to it; run once without `--locked`, and look at what it wrote")]
    Missing(String),
    /// What would run is something else.
    #[error("what would run differs from `{file}`:\n{}\n`witan upgrade` shows what a newer version brings; without \
             `--locked`, the lock is written anew", list(.differences))]
    Differs {
        /// The lock.
        file: String,
        /// How.
        differences: Vec<Difference>,
    },
}

fn list(differences: &[Difference]) -> String {
    differences.iter().map(|difference| format!("  {difference}")).collect::<Vec<_>>().join("\n")
}

/// One thing in which a component differs from its lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The component.
    pub component: String,
    /// What differs, as the lock calls it.
    pub what: &'static str,
    /// What is locked, if anything is.
    pub locked: Option<String>,
    /// What would run, if anything would.
    pub found: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |value: &Option<String>| value.as_ref().map_or("nothing".to_owned(), |value| format!("`{value}`"));
        let Self { component, what, locked, found } = self;
        write!(f, "`{component}`: {what} is {}, and {} is locked", text(found), text(locked))
    }
}

/// What is locked of one component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Locked {
    /// Its package in a version; none for a file of this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<Package>,
    /// The digest of its manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Digest>,
    /// The digest of its one layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<Digest>,
    /// The digest by which the host knows its bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blake3: Option<Blake3>,
    /// Who signed it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signers: Vec<String>,
    /// The digest of its WIT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wit: Option<Digest>,
    /// The digest of what it may ever need.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ceiling: Option<Digest>,
    /// The digest of what it is granted.
    pub grants: Digest,
    /// The states of the logs that had the signatures.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checkpoints: Vec<LockedCheckpoint>,
}

/// The state of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedCheckpoint {
    /// Which log.
    pub origin: String,
    /// Entries in its tree.
    pub size: u64,
    /// The root of the tree.
    pub root: Digest,
}

impl Locked {
    /// What is to be locked of a component that was admitted, in a system whose file lies in `folder`.
    pub fn of(name: &ComponentName, component: &Component, admitted: &Admitted, folder: &Path) -> Self {
        let grants = Digest::of(grants_toml(name.as_str(), &component.grants, folder).as_bytes());
        let ceiling = admitted.ceiling.as_ref().and_then(|ceiling| serde_json::to_vec(ceiling).ok());
        let local = Self {
            package: None,
            manifest: None,
            layer: None,
            blake3: None,
            signers: Vec::new(),
            wit: admitted.wit,
            ceiling: ceiling.map(|ceiling| Digest::of(&ceiling)),
            grants,
            checkpoints: Vec::new(),
        };
        let Source::Registry(package) = &component.source else { return local };
        let signers = match &admitted.by {
            By::Signers(signers) => signers.iter().cloned().collect(),
            By::Development | By::Nobody => Vec::new(),
        };
        let checkpoints = admitted.checkpoints.iter().map(|checkpoint| LockedCheckpoint {
            origin: checkpoint.origin.clone(),
            size: checkpoint.size,
            root: Digest::from_bytes(checkpoint.root),
        });
        Self {
            package: Some(package.clone()),
            manifest: admitted.manifest,
            layer: Some(admitted.layer),
            blake3: Some(admitted.blake3),
            signers,
            checkpoints: checkpoints.collect(),
            ..local
        }
    }

    /// In what `self`, which is locked, differs from `found`. Checkpoints may: the same signatures can be shown in a later
    /// state of the log.
    pub fn differences(&self, component: &str, found: &Self) -> Vec<Difference> {
        let text = |value: &Option<Digest>| value.map(|value| value.to_string());
        let package = |value: &Option<Package>| value.as_ref().map(ToString::to_string);
        let signers = |value: &[String]| (!value.is_empty()).then(|| value.join(", "));
        let all = [
            ("package", package(&self.package), package(&found.package)),
            ("manifest", text(&self.manifest), text(&found.manifest)),
            ("layer", text(&self.layer), text(&found.layer)),
            ("blake3", self.blake3.map(|it| it.to_string()), found.blake3.map(|it| it.to_string())),
            ("signers", signers(&self.signers), signers(&found.signers)),
            ("wit", text(&self.wit), text(&found.wit)),
            ("ceiling", text(&self.ceiling), text(&found.ceiling)),
            ("grants", Some(self.grants.to_string()), Some(found.grants.to_string())),
        ];
        let differing = all.into_iter().filter(|(_, locked, found)| locked != found);
        differing
            .map(|(what, locked, found)| Difference { component: component.to_owned(), what, locked, found })
            .collect()
    }
}

/// What a system ran.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Lock {
    /// The version of this file's form.
    version: Version1,
    /// What is locked, by component.
    #[serde(default)]
    pub components: BTreeMap<String, Locked>,
    /// What was locked before the last upgrade, by component: what `witan rollback` returns to.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub previous: BTreeMap<String, Locked>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
struct Version1;

impl From<Version1> for u32 {
    fn from(_: Version1) -> Self {
        1
    }
}

impl TryFrom<u32> for Version1 {
    type Error = String;
    fn try_from(number: u32) -> Result<Self, String> {
        if number == 1 { Ok(Self) } else { Err(format!("its version is {number}, and must be 1")) }
    }
}

impl Lock {
    /// The lock of what a system runs, with nothing before it.
    pub fn of(components: BTreeMap<String, Locked>) -> Self {
        Self { components, ..Self::default() }
    }

    /// The lock at `path`; none if there is no file.
    pub fn load(path: &Path) -> Result<Option<Self>, FileError> {
        match file::read(path, LARGEST)? {
            None => Ok(None),
            Some(text) => toml::from_str(&text).map(Some).map_err(|error| FileError::form(path, error)),
        }
    }

    /// Puts it in the place of the file at `path`, if that says something else.
    pub fn save(&self, path: &Path) -> Result<(), FileError> {
        if Self::load(path).is_ok_and(|old| old.as_ref() == Some(self)) {
            return Ok(());
        }
        let text = toml::to_string(self).map_err(|error| FileError::form(path, error))?;
        file::replace(path, &format!("{HEAD}{text}"))
    }

    /// Locks `locked` for a component, and keeps what was locked before for going back.
    pub fn upgrade(&mut self, component: &str, locked: Locked) {
        if let Some(before) = self.components.insert(component.to_owned(), locked) {
            self.previous.insert(component.to_owned(), before);
        }
    }

    /// Locks again what was locked for a component before the last upgrade, and keeps that for going forward.
    pub fn roll_back(&mut self, component: &str) {
        if let Some(before) = self.previous.remove(component) {
            self.upgrade(component, before);
        }
    }

    /// The digest that is locked for `package`, whichever component it is.
    pub fn digest(&self, package: &Package) -> Option<Digest> {
        let locked = self.components.values().chain(self.previous.values());
        locked.filter(|locked| locked.package.as_ref() == Some(package)).find_map(|locked| locked.manifest)
    }

    /// In what a system that was admitted as `found` differs from this lock, in the order of names.
    pub fn differences(&self, found: &BTreeMap<String, Locked>) -> Vec<Difference> {
        let gone = |name: &String, what: &Locked, locked: bool| {
            let text = Some(what.package.as_ref().map_or("a file".to_owned(), ToString::to_string));
            let (locked, found) = if locked { (text, None) } else { (None, text) };
            vec![Difference { component: name.clone(), what: "source", locked, found }]
        };
        let mut all: Vec<Difference> = Vec::new();
        for (name, locked) in &self.components {
            all.extend(match found.get(name) {
                Some(found) => locked.differences(name, found),
                None => gone(name, locked, true),
            });
        }
        let new = found.iter().filter(|(name, _)| !self.components.contains_key(*name));
        all.extend(new.flat_map(|(name, found)| gone(name, found, false)));
        all.sort_by(|a, b| a.component.cmp(&b.component));
        all
    }

    /// Which digests `system` asks for, and this lock has.
    pub fn pins(&self, system: &System) -> BTreeMap<Package, Digest> {
        let packages = system.components.values().filter_map(|component| component.source.package());
        packages.filter_map(|package| Some((package.clone(), self.digest(package)?))).collect()
    }
}
