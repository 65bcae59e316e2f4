//! Where a component lies: a registry, a repository in it, and a tag or a digest.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, shown};
use crate::name::{PackageName, Version, as_text};

/// Why a text names no place in a registry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct ReferenceError {
    text: String,
    expected: &'static str,
}

impl ReferenceError {
    fn new(text: &str, expected: &'static str) -> Self {
        Self { text: shown(text), expected }
    }
}

/// A registry: a host name or an address in lower case, with a port where it is not the usual one. `registry.example`,
/// `127.0.0.1:5000`, `[::1]:5000`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Host {
    text: String,
    port: Option<u16>,
}

impl Host {
    /// The host with its port, as it stands in a URL.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The name or address without the port.
    pub fn name(&self) -> &str {
        let port = self.port.and(self.text.rfind(':'));
        port.and_then(|colon| self.text.get(..colon)).unwrap_or(&self.text)
    }

    /// The port, if one is named.
    pub fn port(&self) -> Option<u16> {
        self.port
    }
}

fn is_host_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

impl FromStr for Host {
    type Err = ReferenceError;
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let error = || ReferenceError::new(text, "a registry: a host in lower case, with `:` and a port or without");
        let (name, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, rest) = rest.split_once(']').ok_or_else(error)?;
                let canonical = address.parse::<Ipv6Addr>().is_ok_and(|parsed| parsed.to_string() == address);
                (canonical, if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or_else(error)?) })
            }
            None => {
                let (name, port) = text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port)));
                (is_host_name(name), port)
            }
        };
        let port = port.map(|port| {
            let canonical = port.parse::<u16>().ok().filter(|number| *number > 0 && number.to_string() == port);
            canonical.ok_or_else(error)
        });
        if name { Ok(Self { text: text.to_owned(), port: port.transpose()? }) } else { Err(error()) }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

as_text!(Host);

/// A repository in a registry, such as `components/witan/tool-files`: the grammar of the OCI distribution specification,
/// 200 characters at most.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Repository(String);

impl Repository {
    /// The repository as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_path_part(part: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    part.starts_with(plain)
        && part.ends_with(plain)
        && part
            .split(plain)
            .all(|between| matches!(between, "" | "." | "_" | "__") || between.bytes().all(|b| b == b'-'))
}

impl FromStr for Repository {
    type Err = ReferenceError;
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        // Registries allow 255 for host and repository together.
        if text.len() <= 200 && text.split('/').all(is_path_part) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ReferenceError::new(text, "a repository: parts of lower-case letters and digits, joined by `/`"))
        }
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

as_text!(Repository);

/// A tag: a name in a repository that may come to mean something else.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tag(String);

impl Tag {
    /// The tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tag that lists the referrers of `digest` where a registry has no list of its own: `sha256-…`.
    pub fn fallback(digest: &Digest) -> Self {
        Self(format!("sha256-{}", digest.hex()))
    }
}

impl From<&Version> for Tag {
    fn from(version: &Version) -> Self {
        Self(version.to_string())
    }
}

impl FromStr for Tag {
    type Err = ReferenceError;
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let sound = (1..=128).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
            && !text.starts_with(['.', '-']);
        let expected = "a tag: letters, digits, `_`, `.` and `-`, 128 at most";
        if sound { Ok(Self(text.to_owned())) } else { Err(ReferenceError::new(text, expected)) }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

as_text!(Tag);

/// What is meant in a repository.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// What a tag means at the moment.
    Tag(Tag),
    /// Exactly these bytes.
    Digest(Digest),
}

/// A place in a registry: `host[:port]/repository`, and `:tag` or `@sha256:…`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    /// The registry.
    pub host: Host,
    /// The repository.
    pub repository: Repository,
    /// What is meant in it; `None` means the repository as such. There is no tag that is meant silently.
    pub target: Option<Target>,
}

impl FromStr for Reference {
    type Err = ReferenceError;
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let error = || ReferenceError::new(text, "a reference: `registry.example/path`, with `:tag` or `@sha256:…`");
        let (host, rest) = text.split_once('/').ok_or_else(error)?;
        let (path, target) = if let Some((path, digest)) = rest.split_once('@') {
            (path, Some(Target::Digest(digest.parse().map_err(|_| error())?)))
        } else if let Some((path, tag)) = rest.split_once(':') {
            (path, Some(Target::Tag(tag.parse()?)))
        } else {
            (rest, None)
        };
        Ok(Self { host: host.parse()?, repository: path.parse()?, target })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        match &self.target {
            None => Ok(()),
            Some(Target::Tag(tag)) => write!(f, ":{tag}"),
            Some(Target::Digest(digest)) => write!(f, "@{digest}"),
        }
    }
}

as_text!(Reference);

/// In which repository of a registry a package lies: below a prefix, then by namespace and name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    prefix: Option<Repository>,
}

impl Default for Mapping {
    /// `components/<namespace>/<name>`.
    fn default() -> Self {
        Self { prefix: Some(Repository("components".to_owned())) }
    }
}

impl Mapping {
    /// The mapping for a `namespacePrefix`, as a registry's well-known file names it: empty, or a path with or without
    /// a `/` at its end. That file is another's: what is not a path of a repository is refused.
    pub fn with_prefix(prefix: &str) -> Result<Self, ReferenceError> {
        let path = prefix.strip_suffix('/').unwrap_or(prefix);
        if prefix.is_empty() {
            return Ok(Self { prefix: None });
        }
        if path.len() > 64 {
            return Err(ReferenceError::new(prefix, "a prefix: a path of 64 characters at most"));
        }
        Ok(Self { prefix: Some(path.parse()?) })
    }

    /// The repository of `package`.
    pub fn repository(&self, package: &PackageName) -> Repository {
        let PackageName { namespace, name } = package;
        // Names and a short prefix are within the grammar and the length of a repository.
        match &self.prefix {
            Some(prefix) => Repository(format!("{prefix}/{namespace}/{name}")),
            None => Repository(format!("{namespace}/{name}")),
        }
    }

    /// The package that lies in `repository`, if it is one of this mapping.
    pub fn package(&self, repository: &Repository) -> Option<PackageName> {
        let path = match &self.prefix {
            Some(prefix) => repository.as_str().strip_prefix(prefix.as_str())?.strip_prefix('/')?,
            None => repository.as_str(),
        };
        let (namespace, name) = path.split_once('/')?;
        Some(PackageName { namespace: namespace.parse().ok()?, name: name.parse().ok()? })
    }
}

/// A registry, and where packages lie in it: `host`, `host:port` or `host/prefix`; `host/` says that they lie below no path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Registry {
    /// Its host.
    pub host: Host,
    /// Where packages lie in it; none where the registry itself is to be asked.
    pub mapping: Option<Mapping>,
}

impl FromStr for Registry {
    type Err = ReferenceError;
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        match text.split_once('/') {
            None => Ok(Self { host: text.parse()?, mapping: None }),
            Some((host, prefix)) => Ok(Self { host: host.parse()?, mapping: Some(Mapping::with_prefix(prefix)?) }),
        }
    }
}

impl TryFrom<String> for Registry {
    type Error = ReferenceError;
    fn try_from(text: String) -> Result<Self, ReferenceError> {
        text.parse()
    }
}

impl From<Registry> for String {
    fn from(registry: Registry) -> Self {
        registry.to_string()
    }
}

impl fmt::Display for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.host.as_str())?;
        match self.mapping.as_ref().map(|mapping| &mapping.prefix) {
            None => Ok(()),
            Some(prefix) => write!(f, "/{}", prefix.as_ref().map_or("", Repository::as_str)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_registry_has_a_host_and_a_prefix() {
        let sums = "acme:sums".parse().unwrap();
        for (text, repository) in
            [("r.example:5000", None), ("r.example/a/b", Some("a/b/acme/sums")), ("r.example/", Some("acme/sums"))]
        {
            let registry: Registry = text.parse().unwrap();
            let found = registry.mapping.as_ref().map(|mapping| mapping.repository(&sums).to_string());
            assert_eq!(found.as_deref(), repository);
            assert_eq!(registry.to_string(), text);
        }
        for text in ["", "/", "/a", "R.example", "r.example/../a", "https://r.example"] {
            assert!(text.parse::<Registry>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_reference_has_a_host_a_repository_and_a_target() {
        let reference: Reference = "registry.example:5000/components/witan/tool-files:1.2.3".parse().unwrap();
        assert_eq!((reference.host.name(), reference.host.port()), ("registry.example", Some(5000)));
        assert_eq!(reference.repository.as_str(), "components/witan/tool-files");
        assert_eq!(reference.target, Some(Target::Tag("1.2.3".parse().unwrap())));
        for text in [
            "localhost/a".to_owned(),
            "127.0.0.1:5000/a/b".to_owned(),
            "[::1]:5000/a".to_owned(),
            "[::1]/a__b/c--d.e".to_owned(),
            format!("r.example/a@sha256:{HEX}"),
        ] {
            assert_eq!(text.parse::<Reference>().unwrap().to_string(), text);
        }
        assert_eq!("[::1]:5000".parse::<Host>().unwrap().name(), "[::1]");
        assert_eq!("[::1]".parse::<Host>().unwrap().name(), "[::1]");
    }

    #[test]
    fn what_leads_elsewhere_is_refused() {
        for bad in [
            "",
            "/",
            "a",
            "r.example",
            "r.example/",
            "r.example//a",
            "r.example/a/",
            "r.example/../a",
            "r.example/a/../b",
            "r.example/a/./b",
            "r.example/%2e%2e/a",
            "r.example/A",
            "r.example/a_",
            "r.example/a..b",
            "r.example/a___b",
            "r.example/a:",
            "r.example/a:.tag",
            "r.example/a:b:c",
            "r.example/a:b/c",
            "r.example/a@sha512:00",
            "r.example/a@sha256:00",
            "r.example/a?b",
            "r.example/a#b",
            "user@r.example/a",
            "https://r.example/a",
            "R.example/a",
            "r.example:0/a",
            "r.example:065/a",
            "r.example:65536/a",
            "r.example:/a",
            "-r.example/a",
            "r..example/a",
            "[::1/a",
            "[::0001]/a",
            "[1.2.3.4]/a",
            "r.example\\@evil/a",
            "r.example/a b",
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
        assert!(format!("r.example/{}", "a".repeat(201)).parse::<Reference>().is_err());
    }

    #[test]
    fn a_package_lies_below_the_prefix() {
        let package: PackageName = "witan:tool-files".parse().unwrap();
        let mapping = Mapping::default();
        assert_eq!(mapping.repository(&package).as_str(), "components/witan/tool-files");
        assert_eq!(mapping.package(&mapping.repository(&package)), Some(package.clone()));
        assert_eq!(mapping.package(&"other/witan/tool-files".parse().unwrap()), None);
        assert_eq!(mapping.package(&"components/witan/tool-files/more".parse().unwrap()), None);
        assert_eq!(mapping.package(&"componentswitan/tool-files".parse().unwrap()), None);
        let bare = Mapping::with_prefix("").unwrap();
        assert_eq!(bare.repository(&package).as_str(), "witan/tool-files");
        let other = Mapping::with_prefix("some/where/").unwrap();
        assert_eq!(other.repository(&package).as_str(), "some/where/witan/tool-files");
        for bad in ["/", "../", "a//", "https://evil/", "a/../", "A/", &"a".repeat(65)] {
            assert!(Mapping::with_prefix(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_repository_is_mapped_back(namespace in "[a-z][a-z0-9]{0,9}(-[a-z0-9]{1,9}){0,2}", name in "[a-z][a-z0-9]{0,63}") {
            let package: PackageName = format!("{namespace}:{name}").parse().unwrap();
            for mapping in [Mapping::default(), Mapping::with_prefix("").unwrap()] {
                let repository = mapping.repository(&package);
                prop_assert_eq!(repository.as_str().parse::<Repository>().unwrap(), repository.clone());
                prop_assert_eq!(mapping.package(&repository), Some(package.clone()));
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,300}", path in "[a-z./_:@0-9-]{0,80}") {
            for text in [text, path] {
                if let Ok(reference) = text.parse::<Reference>() {
                    prop_assert_eq!(reference.to_string(), text);
                }
            }
        }
    }
}
