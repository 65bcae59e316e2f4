//! What a component is made of: the dependencies that its build left in its bytes, and the CycloneDX document about them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use auditable_serde::{DependencyKind, VersionInfo};
use cyclonedx_bom::models::bom::{Bom, SpecVersion};
use cyclonedx_bom::models::component::{Classification, Component, Components, Scope};
use cyclonedx_bom::models::dependency::{Dependencies, Dependency as Edge};
use cyclonedx_bom::models::metadata::Metadata;
use cyclonedx_bom::prelude::Purl;
use miniz_oxide::inflate::decompress_to_vec_zlib_with_limit;
use serde_json::Value;
use wasmparser::{Parser, Payload};
use witan_registry_types::{Package, json};

use crate::statement::cut;

/// The section in which `cargo auditable` leaves the dependencies, compressed.
const SECTION: &str = ".dep-v0";
/// The largest list of dependencies, uncompressed; that of a program with a thousand is a tenth of it. Whoever writes the
/// section can make a few bytes of it unfold to anything.
const LARGEST_LIST: usize = 1 << 20;
/// Modules with such a list in one component: each part of a composed one has its own.
const MOST_LISTS: usize = 32;
/// How deep modules and components may lie in one another.
const DEEPEST: usize = 16;
/// Components of one SBOM, at any depth.
const MOST_COMPONENTS: usize = 20_000;

/// A dependency: a package URL without qualifiers, such as `pkg:cargo/serde@1.0.0`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dependency(String);

impl Dependency {
    /// A crate in a version.
    pub fn crate_(name: &str, version: &semver::Version) -> Self {
        let url = Purl::new("cargo", name, &version.to_string());
        Self(url.map_or_else(|_| format!("pkg:cargo/{name}@{version}"), |url| url.to_string()))
    }

    /// A package of npm in a version; its name may have a scope before it.
    pub fn npm(name: &str, version: &str) -> Self {
        match name.strip_prefix('@').and_then(|scoped| scoped.split_once('/')) {
            Some((scope, name)) => Self::of("npm", &format!("%40{scope}/{name}"), version),
            None => Self::of("npm", name, version),
        }
    }

    /// A package of PyPI in a version.
    pub fn pypi(name: &str, version: &str) -> Self {
        // The form of names that package URLs have there.
        Self::of("pypi", &name.to_ascii_lowercase().replace(['_', '.'], "-"), version)
    }

    fn of(kind: &str, name: &str, version: &str) -> Self {
        let escaped: String =
            version.chars().map(|char| if char == '+' { "%2B".to_owned() } else { char.into() }).collect();
        Self(format!("pkg:{kind}/{name}@{escaped}"))
    }

    /// The package URL.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Dependency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why the dependencies in a component's bytes cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EmbeddedError {
    /// The bytes are not WebAssembly.
    #[error("the component cannot be read: {0}")]
    Wasm(String),
    /// There are more lists than a component has modules.
    #[error("the component has more than {MOST_LISTS} lists of dependencies")]
    TooMany,
    /// A list unfolds to more than any build leaves.
    #[error("a list of dependencies is larger than {LARGEST_LIST} bytes")]
    TooLarge,
    /// A list is damaged.
    #[error("a list of dependencies cannot be read: {0}")]
    List(String),
}

/// The dependencies that the build of a component left in its bytes.
#[derive(Debug, Clone, Default)]
pub struct Embedded {
    lists: Vec<VersionInfo>,
}

impl Embedded {
    /// Reads them out of `wasm`, a component or a core module: those of every module in it. Empty where the build left none,
    /// as builds of other languages do.
    pub fn read(wasm: &[u8]) -> Result<Self, EmbeddedError> {
        let mut lists = Vec::new();
        let mut depth = 0;
        for payload in Parser::new(0).parse_all(wasm) {
            match payload.map_err(|error| EmbeddedError::Wasm(error.message().to_owned()))? {
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } if depth == DEEPEST => {
                    return Err(EmbeddedError::Wasm(format!("it is nested deeper than {DEEPEST}")));
                }
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::CustomSection(section) if section.name() == SECTION => {
                    if lists.len() == MOST_LISTS {
                        return Err(EmbeddedError::TooMany);
                    }
                    lists.push(read_list(section.data())?);
                }
                _ => {}
            }
        }
        Ok(Self { lists })
    }

    /// What runs in the component, without the crate that it is itself.
    pub fn dependencies(&self) -> BTreeSet<Dependency> {
        let packages = self.lists.iter().flat_map(|list| &list.packages);
        let running = packages.filter(|package| package.kind == DependencyKind::Runtime && !package.root);
        running.map(|package| Dependency::crate_(&package.name, &package.version)).collect()
    }

    /// Whether the build left nothing.
    pub fn is_empty(&self) -> bool {
        self.lists.is_empty()
    }
}

/// What the SBOM calls what it is about.
fn own_url(package: &Package) -> String {
    format!("pkg:generic/{}/{}@{}", package.name.namespace, package.name.name, package.version)
}

fn read_list(compressed: &[u8]) -> Result<VersionInfo, EmbeddedError> {
    if compressed.len() > LARGEST_LIST {
        return Err(EmbeddedError::TooLarge);
    }
    let text = decompress_to_vec_zlib_with_limit(compressed, LARGEST_LIST).map_err(|error| match error.status {
        miniz_oxide::inflate::TINFLStatus::HasMoreOutput => EmbeddedError::TooLarge,
        _ => EmbeddedError::List("it is not compressed as it should be".to_owned()),
    })?;
    let list = |error: &dyn fmt::Display| EmbeddedError::List(cut(&error.to_string()));
    json::parse_value(&text, LARGEST_LIST).map_err(|error| list(&error))?;
    let list: VersionInfo = serde_json::from_slice(&text).map_err(|error| list(&error))?;
    let exists = |index: &usize| *index < list.packages.len();
    if !list.packages.iter().all(|package| package.dependencies.iter().all(exists)) {
        return Err(EmbeddedError::List("it names a dependency that it does not list".to_owned()));
    }
    Ok(list)
}

/// Why a document is not an SBOM that we read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SbomError {
    /// It is of another form or version.
    #[error("it is not CycloneDX 1.5: {0}")]
    Form(String),
    /// It lists more components than anyone looks at.
    #[error("it lists more than {MOST_COMPONENTS} components")]
    TooLarge,
}

/// What a component is made of, as its author says: a CycloneDX document, version 1.5.
#[derive(Debug, Clone, PartialEq)]
pub struct Sbom {
    document: Value,
    dependencies: BTreeSet<Dependency>,
}

impl Sbom {
    /// The SBOM of `package`, made from what its build left in its bytes. The same bytes give the same document.
    pub fn of_embedded(package: &Package, embedded: &Embedded) -> Result<Self, SbomError> {
        let own = own_url(package);
        let mut components = BTreeMap::new();
        let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for list in &embedded.lists {
            let names = list.packages.iter().map(|package| {
                if package.root { own.clone() } else { Dependency::crate_(&package.name, &package.version).0 }
            });
            let names: Vec<String> = names.collect();
            for (package, name) in list.packages.iter().zip(&names) {
                let uses = package.dependencies.iter().filter_map(|index| names.get(*index).cloned());
                edges.entry(name.clone()).or_default().extend(uses);
                if package.root {
                    continue;
                }
                let version = package.version.to_string();
                let mut component =
                    Component::new(Classification::Library, &package.name, &version, Some(name.clone()));
                component.purl = name.parse().ok();
                let runs = package.kind == DependencyKind::Runtime;
                component.scope = Some(if runs { Scope::Required } else { Scope::Excluded });
                // What one part only builds with may run in another.
                components
                    .entry(name.clone())
                    .and_modify(|known: &mut Component| {
                        if runs {
                            known.scope = Some(Scope::Required);
                        }
                    })
                    .or_insert(component);
            }
        }
        Self::write(package, components, edges)
    }

    /// The SBOM of `package` as a list alone, such as a lock file has it: all that may be in the component, without how one
    /// part uses another. The same list gives the same document.
    pub fn of_dependencies(package: &Package, dependencies: &BTreeSet<Dependency>) -> Result<Self, SbomError> {
        let mut components = BTreeMap::new();
        for Dependency(url) in dependencies {
            let form = || SbomError::Form(format!("`{}` is no package URL", cut(url)));
            let (rest, version) = url.rsplit_once('@').ok_or_else(form)?;
            let (_, name) = rest.split_once('/').ok_or_else(form)?;
            let mut component = Component::new(Classification::Library, name, version, Some(url.clone()));
            component.purl = Some(url.parse().map_err(|_| form())?);
            component.scope = Some(Scope::Required);
            components.insert(url.clone(), component);
        }
        let uses = components.keys().cloned().collect();
        Self::write(package, components, BTreeMap::from([(own_url(package), uses)]))
    }

    fn write(
        package: &Package,
        components: BTreeMap<String, Component>,
        mut edges: BTreeMap<String, BTreeSet<String>>,
    ) -> Result<Self, SbomError> {
        let own = own_url(package);
        let (name, version) = (package.name.to_string(), package.version.to_string());
        let mut subject = Component::new(Classification::Application, &name, &version, Some(own.clone()));
        subject.purl = own.parse().ok();
        edges.entry(own).or_default();
        let edge = |(dependency_ref, uses): (String, BTreeSet<String>)| Edge {
            dependency_ref,
            dependencies: uses.into_iter().collect(),
        };
        let bom = Bom {
            version: 1,
            serial_number: None,
            metadata: Some(Metadata { component: Some(subject), ..Metadata::default() }),
            components: Some(Components(components.into_values().collect())),
            dependencies: Some(Dependencies(edges.into_iter().map(edge).collect())),
            spec_version: SpecVersion::V1_5,
            ..Bom::default()
        };
        let mut text = Vec::new();
        bom.output_as_json_v1_5(&mut text).map_err(|error| SbomError::Form(error.to_string()))?;
        let document = serde_json::from_slice(&text).map_err(|error| SbomError::Form(error.to_string()))?;
        Self::parse(&document)
    }

    /// Reads a document.
    pub fn parse(document: &Value) -> Result<Self, SbomError> {
        let form = |text: &str| SbomError::Form(cut(text));
        if document.get("bomFormat").and_then(Value::as_str) != Some("CycloneDX") {
            return Err(form("its `bomFormat` is another"));
        }
        if document.get("specVersion").and_then(Value::as_str) != Some("1.5") {
            return Err(form("its `specVersion` is another"));
        }
        let bom = Bom::parse_json_value(document.clone()).map_err(|error| form(&error.to_string()))?;
        let mut dependencies = BTreeSet::new();
        let mut left: Vec<&Component> = bom.components.iter().flat_map(|list| &list.0).collect();
        let mut seen = 0;
        while let Some(component) = left.pop() {
            seen += 1;
            if seen > MOST_COMPONENTS {
                return Err(SbomError::TooLarge);
            }
            left.extend(component.components.iter().flat_map(|list| &list.0));
            // What only builds it is not part of it.
            if let (Some(purl), false) = (&component.purl, component.scope == Some(Scope::Excluded)) {
                let plain = purl.as_ref().split(['?', '#']).next().unwrap_or_default();
                dependencies.insert(Dependency(plain.to_owned()));
            }
        }
        Ok(Self { document: document.clone(), dependencies })
    }

    /// The document.
    pub fn to_predicate(&self) -> Value {
        self.document.clone()
    }

    /// What it says the component is made of.
    pub fn dependencies(&self) -> &BTreeSet<Dependency> {
        &self.dependencies
    }

    /// What is in the component's bytes and not in the document. Whoever leaves out a dependency hides its advisories.
    pub fn missing(&self, embedded: &Embedded) -> Vec<Dependency> {
        embedded.dependencies().difference(&self.dependencies).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use miniz_oxide::deflate::compress_to_vec_zlib;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn package() -> Package {
        "witan:tool-files@1.2.3".parse().unwrap()
    }

    /// The number as LEB128.
    fn leb(mut number: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            let byte = (number & 0x7f) as u8;
            number >>= 7;
            if number == 0 {
                bytes.push(byte);
                return bytes;
            }
            bytes.push(byte | 0x80);
        }
    }

    fn section(id: u8, content: &[u8]) -> Vec<u8> {
        [vec![id], leb(content.len()), content.to_vec()].concat()
    }

    fn module(list: &[u8]) -> Vec<u8> {
        let custom = [leb(SECTION.len()), SECTION.as_bytes().to_vec(), list.to_vec()].concat();
        [b"\0asm\x01\0\0\0".to_vec(), section(0, &custom)].concat()
    }

    fn component(modules: &[Vec<u8>]) -> Vec<u8> {
        let sections = modules.iter().map(|module| section(1, module)).collect::<Vec<_>>().concat();
        [b"\0asm\x0d\0\x01\0".to_vec(), sections].concat()
    }

    /// A component with another in it.
    fn around(inner: &[u8]) -> Vec<u8> {
        [b"\0asm\x0d\0\x01\0".to_vec(), section(4, inner)].concat()
    }

    fn list(packages: &Value) -> Vec<u8> {
        compress_to_vec_zlib(json!({ "packages": packages }).to_string().as_bytes(), 6)
    }

    fn some() -> Vec<u8> {
        module(&list(&json!([
            { "name": "tool-files", "version": "1.2.3", "source": "local", "root": true, "dependencies": [1, 2] },
            { "name": "serde", "version": "1.0.0", "source": "crates.io" },
            { "name": "cc", "version": "1.1.0", "source": "crates.io", "kind": "build" },
        ])))
    }

    #[test]
    fn every_module_of_a_component_is_looked_at() {
        let names = |wasm: &[u8]| -> Vec<String> {
            Embedded::read(wasm).unwrap().dependencies().iter().map(ToString::to_string).collect()
        };
        let empty = b"\0asm\x01\0\0\0".to_vec();
        let other = module(&list(&json!([{ "name": "libm", "version": "0.2.0", "source": "crates.io" }])));
        assert_eq!(names(&some()), ["pkg:cargo/serde@1.0.0"]);
        assert_eq!(names(&around(&around(&component(&[empty.clone(), some()])))), ["pkg:cargo/serde@1.0.0"]);
        assert_eq!(
            names(&component(&[empty.clone(), some(), other])),
            ["pkg:cargo/libm@0.2.0", "pkg:cargo/serde@1.0.0"]
        );
        assert!(Embedded::read(&component(&[empty])).unwrap().is_empty());
        let deep = (0..=DEEPEST).fold(component(&[]), |inner, _| around(&inner));
        assert!(matches!(Embedded::read(&deep), Err(EmbeddedError::Wasm(_))));
    }

    #[test]
    fn an_sbom_lists_what_a_lock_file_names() {
        let list = BTreeSet::from([
            Dependency::npm("@bytecodealliance/jco", "1.2.3"),
            Dependency::npm("left-pad", "1.0.0"),
            Dependency::pypi("Typing_Extensions", "4.0.0+local"),
            Dependency::crate_("serde", &"1.0.0".parse().unwrap()),
        ]);
        let sbom = Sbom::of_dependencies(&package(), &list).unwrap();
        let found: Vec<&str> = sbom.dependencies().iter().map(Dependency::as_str).collect();
        assert_eq!(
            found,
            [
                "pkg:cargo/serde@1.0.0",
                "pkg:npm/%40bytecodealliance/jco@1.2.3",
                "pkg:npm/left-pad@1.0.0",
                "pkg:pypi/typing-extensions@4.0.0%2Blocal",
            ]
        );
        assert_eq!(Sbom::of_dependencies(&package(), &list).unwrap(), sbom);
        let embedded = Embedded::read(&component(&[some()])).unwrap();
        assert_eq!(sbom.missing(&embedded), []);
        assert!(Sbom::of_dependencies(&package(), &BTreeSet::new()).unwrap().dependencies().is_empty());
    }

    #[test]
    fn an_sbom_lists_what_is_embedded() {
        let embedded = Embedded::read(&component(&[some()])).unwrap();
        let sbom = Sbom::of_embedded(&package(), &embedded).unwrap();
        assert_eq!(sbom.missing(&embedded), []);
        assert_eq!(Sbom::parse(&sbom.to_predicate()).unwrap(), sbom);
        assert_eq!(Sbom::of_embedded(&package(), &embedded).unwrap().to_predicate(), sbom.to_predicate());
        let document = sbom.to_predicate();
        assert_eq!(document["metadata"]["component"]["name"], "witan:tool-files");
        assert_eq!(document["components"].as_array().unwrap().len(), 2);
        let root = document["dependencies"]
            .as_array()
            .unwrap()
            .iter()
            .find(|edge| edge["ref"] == "pkg:generic/witan/tool-files@1.2.3");
        assert_eq!(root.unwrap()["dependsOn"], json!(["pkg:cargo/cc@1.1.0", "pkg:cargo/serde@1.0.0"]));
    }

    #[test]
    fn a_dependency_that_is_left_out_is_named() {
        let embedded = Embedded::read(&some()).unwrap();
        let mut document = Sbom::of_embedded(&package(), &embedded).unwrap().to_predicate();
        let serde = |component: &Value| component["name"] == "serde";
        for change in [
            (|component: &mut Value| component["version"] = json!("1.0.1")) as fn(&mut Value),
            |component| component["purl"] = json!("pkg:npm/serde@1.0.0"),
            |component| component["scope"] = json!("excluded"),
            |component| component["purl"] = Value::Null,
        ] {
            let mut changed = document.clone();
            let list = changed["components"].as_array_mut().unwrap();
            let component = list.iter_mut().find(|component| serde(component)).unwrap();
            change(component);
            if component["version"] != "1.0.0" {
                component["purl"] = json!("pkg:cargo/serde@1.0.1");
            }
            let sbom = Sbom::parse(&changed).unwrap();
            assert_eq!(sbom.missing(&embedded), [Dependency("pkg:cargo/serde@1.0.0".to_owned())]);
        }
        document["components"].as_array_mut().unwrap().retain(|component| !serde(component));
        let names: Vec<String> =
            Sbom::parse(&document).unwrap().missing(&embedded).iter().map(ToString::to_string).collect();
        assert_eq!(names, ["pkg:cargo/serde@1.0.0"]);
    }

    #[test]
    fn a_list_that_unfolds_without_end_is_refused() {
        let sound = compress_to_vec_zlib(format!("{{\"packages\":[]{}}}", " ".repeat(1000)).as_bytes(), 9);
        assert!(Embedded::read(&module(&sound)).is_ok());
        let bomb = compress_to_vec_zlib(&vec![b' '; 64 << 20], 9);
        assert!(bomb.len() < 100_000);
        assert_eq!(Embedded::read(&module(&bomb)).unwrap_err(), EmbeddedError::TooLarge);
        let many = vec![module(&sound); MOST_LISTS + 1];
        assert_eq!(Embedded::read(&component(&many)).unwrap_err(), EmbeddedError::TooMany);
    }

    #[test]
    fn a_damaged_list_is_an_error_and_not_an_empty_one() {
        for bad in [
            b"".to_vec(),
            b"not zlib".to_vec(),
            compress_to_vec_zlib(b"", 6),
            compress_to_vec_zlib(b"{}", 6),
            compress_to_vec_zlib(b"{\"packages\":[],\"packages\":[]}", 6),
            list(&json!([{ "name": "a", "version": "x", "source": "local" }])),
            list(&json!([{ "name": "a", "version": "1.0.0", "source": "local", "dependencies": [7] }])),
            list(&json!([{ "name": "a", "version": "1.0.0", "source": "local", "dependencies": [0] }])),
        ] {
            assert!(matches!(Embedded::read(&module(&bad)), Err(EmbeddedError::List(_))), "{bad:?}");
        }
    }

    #[test]
    fn another_document_is_refused() {
        let good = Sbom::of_embedded(&package(), &Embedded::default()).unwrap().to_predicate();
        for (key, value) in [("bomFormat", json!("SPDX")), ("specVersion", json!("1.4")), ("components", json!({}))] {
            let mut bad = good.clone();
            bad[key] = value;
            assert!(Sbom::parse(&bad).is_err(), "{key}");
        }
        assert!(Sbom::parse(&json!(null)).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0usize..200) {
            let _embedded = Embedded::read(&bytes);
            let _embedded = Embedded::read(&module(&bytes));
            let mut changed = some();
            let at = at % changed.len();
            changed[at] ^= bytes.first().copied().unwrap_or(1);
            let _embedded = Embedded::read(&changed);
        }

        #[test]
        fn no_document_makes_it_panic(at in 0usize..3000, byte: u8) {
            let good = Sbom::of_embedded(&package(), &Embedded::read(&some()).unwrap()).unwrap().to_predicate();
            let mut bytes = good.to_string().into_bytes();
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Ok(document) = json::parse_value(&bytes, 1 << 20) {
                let _sbom = Sbom::parse(&document);
            }
        }
    }
}
