//! `cargo xtask policy`: what the dependencies of every workspace may be. Licences, versions and sources, as
//! `tests/xtask/policy.toml` has them; it needs no network once the crates are there.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
};

use anyhow::{Context as _, bail};
use serde::Deserialize;
use spdx::{Expression, LicenseReq, ParseMode};
use witan_build::Checkout;

/// The workspaces, from the root of the checkout.
const WORKSPACES: [&str; 4] = [".", "components", "tests/programs", "tests/fuzz"];

/// The one source that crates may come from.
const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// What is allowed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Policy {
    /// SPDX identifiers of licences, with their exceptions.
    licences: BTreeSet<String>,
    /// Crates of which there may be several versions that do not fit each other.
    several: Vec<Several>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Several {
    crates: Vec<String>,
    /// Why there is no single version, for whoever would remove it.
    reason: String,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Clone, Deserialize)]
struct Package {
    name: String,
    version: semver::Version,
    license: Option<String>,
    /// None for our own.
    source: Option<String>,
}

/// Checks the dependencies of all workspaces, and fails on whatever is not allowed or no longer needs to be.
pub fn run() -> anyhow::Result<()> {
    let checkout = Checkout::find().context("this is no checkout of the project; run `cargo xtask` inside one")?;
    let file = checkout.root().join("tests/xtask/policy.toml");
    let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read `{}`", file.display()))?;
    let policy: Policy = toml::from_str(&text).with_context(|| format!("`{}` is no policy", file.display()))?;
    let mut workspaces = BTreeMap::new();
    for workspace in WORKSPACES {
        workspaces.insert(workspace, packages(&checkout.root().join(workspace))?);
    }
    let problems = policy.problems(&workspaces);
    if !problems.is_empty() {
        bail!("{}\n`tests/xtask/policy.toml` says what is allowed, and why", problems.join("\n"));
    }
    for (workspace, packages) in &workspaces {
        println!("{workspace:15} {:>4} crates, all as the policy allows", packages.len());
    }
    Ok(())
}

/// The packages that the lock file of `workspace` names, for any platform, without our own.
fn packages(workspace: &Path) -> anyhow::Result<Vec<Package>> {
    let mut command = Command::new("cargo");
    command.args(["metadata", "--locked", "--format-version", "1"]).current_dir(workspace);
    let output = command.output().context("cannot run `cargo`; install Rust with rustup")?;
    if !output.status.success() {
        bail!("`{command:?}` failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: Metadata = serde_json::from_slice(&output.stdout).context("cargo's metadata are not as expected")?;
    Ok(metadata.packages.into_iter().filter(|package| package.source.is_some()).collect())
}

impl Policy {
    fn problems(&self, workspaces: &BTreeMap<&str, Vec<Package>>) -> Vec<String> {
        let mut problems = Vec::new();
        let mut met = BTreeSet::new();
        let mut manifold = BTreeSet::new();
        for (workspace, packages) in workspaces {
            for package in packages {
                let who = format!("{workspace}: `{} {}`", package.name, package.version);
                if package.source.as_deref() != Some(CRATES_IO) {
                    problems.push(format!("{who} does not come from crates.io"));
                }
                match self.licences_met(package.license.as_deref()) {
                    Ok(licences) => met.extend(licences),
                    Err(problem) => problems.push(format!("{who} {problem}")),
                }
            }
            manifold.extend(several(packages).into_iter().map(|(name, versions)| (name, *workspace, versions)));
        }
        let listed: BTreeSet<&str> = self.several.iter().flat_map(|one| &one.crates).map(String::as_str).collect();
        for (name, workspace, versions) in &manifold {
            if !listed.contains(name) {
                problems.push(format!(
                    "{workspace}: `{name}` is there as {versions}; agree on one, or list it with the reason"
                ));
            }
        }
        let needed: BTreeSet<&str> = manifold.iter().map(|(name, ..)| *name).collect();
        let stale = listed.difference(&needed).map(|name| format!("`{name}` is listed, but has one version"));
        problems.extend(stale);
        let unused = self.licences.difference(&met);
        problems.extend(unused.map(|licence| format!("the licence `{licence}` is allowed, but nothing needs it")));
        let unexplained = self.several.iter().filter(|one| one.reason.trim().is_empty());
        problems.extend(unexplained.map(|one| format!("there is no reason for {}", one.crates.join(", "))));
        problems
    }

    /// Of the licences in `expression`, those that are allowed, if they are enough.
    fn licences_met(&self, expression: Option<&str>) -> Result<BTreeSet<String>, String> {
        let text = expression.ok_or("names no licence")?;
        // Older crates write a slash for `OR`.
        let mode = ParseMode { allow_slash_as_or_operator: true, ..ParseMode::STRICT };
        let expression =
            Expression::parse_mode(text, mode).map_err(|_| format!("has the licence `{text}`, no SPDX"))?;
        let allowed = |licence: &LicenseReq| self.licences.contains(&licence.to_string());
        if !expression.evaluate(allowed) {
            return Err(format!("has the licence `{text}`, which is not allowed"));
        }
        let named = expression.requirements().map(|one| one.req.to_string());
        Ok(named.filter(|name| self.licences.contains(name)).collect())
    }
}

/// The crates of which there are versions that do not fit each other, and those versions.
fn several(packages: &[Package]) -> BTreeMap<&str, String> {
    let mut versions = BTreeMap::<&str, BTreeSet<(u64, u64, u64)>>::new();
    for Package { name, version, .. } in packages {
        // What a caret requirement takes for the same.
        let fits = match (version.major, version.minor) {
            (0, 0) => (0, 0, version.patch),
            (0, minor) => (0, minor, 0),
            (major, _) => (major, 0, 0),
        };
        versions.entry(name).or_default().insert(fits);
    }
    versions.retain(|_, versions| versions.len() > 1);
    let text = |versions: BTreeSet<(u64, u64, u64)>| {
        let versions: Vec<String> = versions
            .into_iter()
            .map(|version| match version {
                (0, 0, patch) => format!("0.0.{patch}"),
                (0, minor, _) => format!("0.{minor}"),
                (major, ..) => major.to_string(),
            })
            .collect();
        versions.join(" and ")
    };
    versions.into_iter().map(|(name, versions)| (name, text(versions))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(text: &str) -> Policy {
        toml::from_str(text).unwrap()
    }

    fn package(name: &str, version: &str, license: Option<&str>) -> Package {
        Package {
            name: name.to_owned(),
            version: version.parse().unwrap(),
            license: license.map(str::to_owned),
            source: Some(CRATES_IO.to_owned()),
        }
    }

    fn problems(policy: &Policy, packages: Vec<Package>) -> Vec<String> {
        policy.problems(&BTreeMap::from([(".", packages)]))
    }

    #[test]
    fn a_licence_is_enough_where_the_expression_says_so() {
        let policy = policy("licences = [\"MIT\", \"Apache-2.0 WITH LLVM-exception\"]\nseveral = []");
        let with = |license| {
            problems(
                &policy,
                vec![package("llvm", "1.0.0", Some("Apache-2.0 WITH LLVM-exception")), package("a", "1.0.0", license)],
            )
        };
        for good in ["MIT", "MIT/Apache-2.0", "GPL-3.0-only OR MIT", "(MIT OR ISC) AND MIT"] {
            let found = with(Some(good));
            assert!(
                found.is_empty() || found == ["the licence `MIT` is allowed, but nothing needs it"],
                "{good}: {found:?}"
            );
        }
        for bad in [Some("Apache-2.0"), Some("MIT AND GPL-3.0-only"), Some("my own"), None] {
            let found = with(bad);
            assert!(found[0].contains("`a 1.0.0`"), "{bad:?}: {found:?}");
        }
    }

    #[test]
    fn versions_that_do_not_fit_each_other_are_listed_or_refused() {
        let mit = |name, version| package(name, version, Some("MIT"));
        let none = policy("licences = [\"MIT\"]\nseveral = []");
        assert_eq!(
            problems(&none, vec![mit("a", "1.2.0"), mit("a", "1.9.1"), mit("b", "0.2.1")]),
            Vec::<String>::new()
        );
        for (one, other) in [("1.0.0", "2.0.0"), ("0.1.0", "0.2.0"), ("0.0.1", "0.0.2")] {
            let found = problems(&none, vec![mit("a", one), mit("a", other)]);
            assert!(found.len() == 1 && found[0].contains("`a` is there as"), "{found:?}");
        }
        let listed = policy("licences = [\"MIT\"]\n[[several]]\ncrates = [\"a\"]\nreason = \"b wants the old one\"");
        assert_eq!(problems(&listed, vec![mit("a", "1.0.0"), mit("a", "2.0.0")]), Vec::<String>::new());
        assert_eq!(problems(&listed, vec![mit("a", "1.0.0")]), ["`a` is listed, but has one version"]);
    }

    #[test]
    fn other_sources_and_what_nothing_needs_are_refused() {
        let policy = policy("licences = [\"MIT\", \"ISC\"]\nseveral = []");
        let git =
            Package { source: Some("git+https://git.example/a".to_owned()), ..package("a", "1.0.0", Some("MIT")) };
        let found = problems(&policy, vec![git]);
        assert_eq!(
            found,
            [".: `a 1.0.0` does not come from crates.io", "the licence `ISC` is allowed, but nothing needs it"]
        );
    }
}
