//! Tools of others, with which the tests try ours: where they are, and how they are got.
//!
//! They come from where everyone gets them, into the target folder and never into the system. A test whose tool cannot be
//! had here is no failure: it says so by name, where nobody overlooks it.

mod bounded;
mod debian;
mod docker;
mod find;
mod postgres;
mod python;

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    io::Write as _,
    path::{Path, PathBuf},
};

pub use docker::DockerRegistry;
pub use find::Found;
pub use postgres::Postgres;

/// The environment variable that names the file to which tests add what they skip.
pub const SKIPPED: &str = "WITAN_SKIPPED_CHECKS";

/// A tool of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tool {
    /// Signs and verifies in registries, in its third version.
    Cosign,
    /// Pushes, pulls and copies images.
    Crane,
    /// The registry of Debian: OCI distribution 1.0, without referrers.
    DockerRegistry,
    /// Pushes and pulls artifacts of any type.
    Oras,
    /// Checks rules and metrics of Prometheus.
    Promtool,
    /// Asks an API for all that its OpenAPI document describes, and more.
    Schemathesis,
    /// `sigstore-python`: verifies bundles.
    Sigstore,
    /// Copies images between places of many kinds.
    Skopeo,
    /// Pushes and pulls components.
    Wkg,
}

impl Tool {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Cosign,
        Self::Crane,
        Self::DockerRegistry,
        Self::Oras,
        Self::Promtool,
        Self::Schemathesis,
        Self::Sigstore,
        Self::Skopeo,
        Self::Wkg,
    ];

    /// What the program is called.
    #[must_use]
    pub fn program(self) -> &'static str {
        match self {
            Self::Cosign => "cosign",
            Self::Crane => "crane",
            Self::DockerRegistry => "docker-registry",
            Self::Oras => "oras",
            Self::Promtool => "promtool",
            Self::Schemathesis => "schemathesis",
            Self::Sigstore => "sigstore",
            Self::Skopeo => "skopeo",
            Self::Wkg => "wkg",
        }
    }

    /// The environment variable that names the program to use, whatever else is there: `WITAN_TEST_COSIGN`.
    #[must_use]
    pub fn variable(self) -> String {
        format!("WITAN_TEST_{}", self.program().to_uppercase().replace('-', "_"))
    }

    /// The tool, for a test that can do nothing without it. Where it is missing, the test is noted as skipped.
    #[must_use]
    pub fn or_skip(self) -> Option<Found> {
        let found = self.find();
        if found.is_none() {
            skip(self.program(), &format!("there is no `{}`", self.program()));
        }
        found
    }
}

/// Notes that the test of this thread is skipped for want of `what`.
fn skip(what: &str, reason: &str) {
    // The harness captures what is printed, and not what is written.
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let _shown = std::io::stderr().write_all(format!("skipped {test}: {reason}\n").as_bytes());
    if let Some(path) = std::env::var_os(SKIPPED) {
        let file = OpenOptions::new().append(true).create(true).open(path);
        let _noted = file.and_then(|mut file| file.write_all(format!("{test}\t{what}\n").as_bytes()));
    }
}

/// What was set up: each tool, or why it is not there.
pub type Tools = BTreeMap<Tool, Result<Found, String>>;

/// Finds each tool, and gets those that are missing and can be got. `progress` hears what is under way. What cannot be had is
/// no error: there may be no network, or another platform.
pub fn set_up(progress: &dyn Fn(&str)) -> Tools {
    let missing: Vec<Tool> = Tool::ALL.into_iter().filter(|tool| tool.find().is_none()).collect();
    let mut reasons = BTreeMap::new();
    if let Some(folder) = folder() {
        let of_debian: Vec<Tool> = missing.iter().copied().filter(|tool| debian::has(*tool)).collect();
        if let Err(reason) = debian::fetch(&folder, &of_debian, progress) {
            reasons.extend(of_debian.into_iter().map(|tool| (tool, reason.clone())));
        }
        for tool in missing {
            if let Some(package) = python::package(tool)
                && let Err(reason) = python::install(package, &folder.join(tool.program()), progress)
            {
                reasons.insert(tool, reason);
            }
        }
    }
    reasons.insert(Tool::Wkg, "`cargo install --locked wkg` makes it, and takes some minutes".to_owned());
    let state = |tool: Tool| match tool.find() {
        Some(found) => Ok(found),
        None => Err(reasons.remove(&tool).unwrap_or_else(|| "what was got does not run here".to_owned())),
    };
    Tool::ALL.into_iter().zip(Tool::ALL.map(state)).collect()
}

/// Where tools are kept: in the target folder that this program was built into.
#[must_use]
pub fn folder() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    // Cargo marks its target folders so, for programs that make backups.
    let target = program.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file())?;
    Some(target.join("tools"))
}

/// Puts what was made at `made` to `place`, unless another process was faster.
fn keep(made: &Path, place: &Path) -> Result<(), String> {
    match std::fs::rename(made, place) {
        Err(_) if place.exists() => Ok(()),
        result => result.map_err(|error| format!("cannot write `{}`: {error}", place.display())),
    }
}
