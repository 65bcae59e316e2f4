//! What a lock file names: all that may be in a component, where its build left nothing in the bytes.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context as _, bail};
use serde::Deserialize;
use serde_json::Value;
use witan_registry_sign::Dependency;

/// The largest lock file.
const LARGEST: u64 = 16 << 20;

/// A package in a lock file in TOML: of Cargo, uv and Poetry.
#[derive(Deserialize)]
struct Locked {
    #[serde(default)]
    package: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    name: String,
    #[serde(default)]
    version: Option<String>,
    #[serde(default)]
    source: Option<toml::Value>,
}

/// The dependencies that the lock file at `path` names.
pub(crate) fn read(path: &Path) -> anyhow::Result<BTreeSet<Dependency>> {
    let size = std::fs::metadata(path).with_context(|| format!("cannot read `{}`", path.display()))?.len();
    if size > LARGEST {
        bail!("`{}` has {size} bytes, more than any lock file", path.display());
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let read = match name.as_ref() {
        "Cargo.lock" => cargo(&text),
        "package-lock.json" | "npm-shrinkwrap.json" => npm(&text),
        "uv.lock" | "poetry.lock" => python(&text),
        name if name.ends_with(".txt") => requirements(&text),
        _ => bail!(
            "`{}` is no lock file that is read here: Cargo.lock, package-lock.json, uv.lock, poetry.lock or \
             requirements.txt with versions; give a CycloneDX document with `--sbom` for others",
            path.display()
        ),
    };
    read.with_context(|| format!("`{}` is no lock file of its kind", path.display()))
}

fn cargo(text: &str) -> anyhow::Result<BTreeSet<Dependency>> {
    let Locked { package } = toml::from_str(text)?;
    // What has no source is of the workspace itself.
    let foreign = package.into_iter().filter(|entry| entry.source.is_some());
    let read = foreign.map(|entry| {
        let version = entry.version.context("a package has no version")?;
        Ok(Dependency::crate_(&entry.name, &version.parse()?))
    });
    read.collect()
}

fn python(text: &str) -> anyhow::Result<BTreeSet<Dependency>> {
    let Locked { package } = toml::from_str(text)?;
    let own = |entry: &Entry| {
        let source = entry.source.as_ref().and_then(toml::Value::as_table);
        source.is_some_and(|source| source.contains_key("virtual") || source.contains_key("editable"))
    };
    let foreign = package.into_iter().filter(|entry| !own(entry));
    let read = foreign.map(|entry| {
        let version = entry.version.with_context(|| format!("`{}` has no version", entry.name))?;
        Ok(Dependency::pypi(&entry.name, &version))
    });
    read.collect()
}

fn npm(text: &str) -> anyhow::Result<BTreeSet<Dependency>> {
    let lock: Value = serde_json::from_str(text)?;
    let packages = lock.get("packages").and_then(Value::as_object);
    let packages = packages.context("it has no `packages`; write it again with npm 7 or newer")?;
    let mut found = BTreeSet::new();
    for (path, package) in packages {
        let is = |key: &str| package.get(key).and_then(Value::as_bool) == Some(true);
        let Some((_, name)) = path.rsplit_once("node_modules/") else { continue };
        if is("dev") || is("link") {
            continue;
        }
        let name = package.get("name").and_then(Value::as_str).unwrap_or(name);
        let version = package.get("version").and_then(Value::as_str);
        found.insert(Dependency::npm(name, version.with_context(|| format!("`{name}` has no version"))?));
    }
    Ok(found)
}

fn requirements(text: &str) -> anyhow::Result<BTreeSet<Dependency>> {
    let mut found = BTreeSet::new();
    for line in text.replace("\\\n", " ").lines() {
        let line = line.split(" #").next().unwrap_or_default().trim();
        if line.is_empty() || line.starts_with(['#', '-']) {
            continue;
        }
        let (name, rest) = line.split_once("==").with_context(|| format!("`{line}` has no exact version"))?;
        let version = rest.split([';', ' ', ',']).next().unwrap_or_default();
        let name = name.split('[').next().unwrap_or_default().trim();
        found.insert(Dependency::pypi(name, version));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(found: anyhow::Result<BTreeSet<Dependency>>) -> Vec<String> {
        found.unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_kind_of_lock_file_is_read() {
        let cargo_lock = r#"
            version = 4
            [[package]]
            name = "own"
            version = "0.1.0"
            [[package]]
            name = "serde"
            version = "1.0.0"
            source = "registry+https://github.com/rust-lang/crates.io-index""#;
        assert_eq!(names(cargo(cargo_lock)), ["pkg:cargo/serde@1.0.0"]);
        let uv_lock = r#"
            [[package]]
            name = "own"
            version = "0.1.0"
            source = { virtual = "." }
            [[package]]
            name = "Typing_Extensions"
            version = "4.1.0"
            source = { registry = "https://pypi.org/simple" }"#;
        assert_eq!(names(python(uv_lock)), ["pkg:pypi/typing-extensions@4.1.0"]);
        let package_lock = r#"{"lockfileVersion": 3, "packages": {
            "": {"name": "own"},
            "node_modules/@a/b": {"version": "1.0.0"},
            "node_modules/@a/b/node_modules/c": {"version": "2.0.0"},
            "node_modules/test-only": {"version": "3.0.0", "dev": true}}}"#;
        assert_eq!(names(npm(package_lock)), ["pkg:npm/%40a/b@1.0.0", "pkg:npm/c@2.0.0"]);
        let text =
            "# made by pip\nrequests[socks]==2.0.0 ; python_version > '3' \\\n  --hash=sha256:00\n\n-i https://x\n";
        assert_eq!(names(requirements(text)), ["pkg:pypi/requests@2.0.0"]);
    }

    #[test]
    fn what_names_no_version_is_refused() {
        assert!(requirements("requests>=2\n").is_err());
        assert!(cargo("[[package]]\nname = \"a\"\nsource = \"x\"\n").is_err());
        assert!(npm("{\"dependencies\": {}}").is_err());
        assert!(npm(r#"{"packages": {"node_modules/a": {}}}"#).is_err());
    }
}
