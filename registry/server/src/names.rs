//! Names as the registry takes them from a path or a manifest.
//!
//! Each is parsed once, strictly, by the types that all of the registry's crates share; what is a name can be joined to a
//! path of the disk or of a URL as it is. What is refused is refused with the code that OCI has for it.

use std::fmt;

use sha2::{Digest as _, Sha256};
pub use witan_registry_types::{Digest, Repository, Tag};

use crate::Refusal;

/// The first part of a repository's name that says whose it is: what tokens and quotas are about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Namespace(String);

/// How a manifest is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// By what it is called.
    Tag(Tag),
    /// By what it is.
    Digest(Digest),
}

/// A repository, such as `components/acme/sums`.
pub(crate) fn repository(text: &str) -> Result<Repository, Refusal> {
    text.parse().map_err(|_| Refusal::NameInvalid(shown(text)))
}

/// A digest: `sha256:` and 64 hexadecimal digits in lower case.
pub(crate) fn digest(text: &str) -> Result<Digest, Refusal> {
    text.parse().map_err(|_| Refusal::DigestInvalid(shown(text)))
}

/// A tag.
pub(crate) fn tag(text: &str) -> Result<Tag, Refusal> {
    text.parse().map_err(|_| Refusal::TagInvalid(shown(text)))
}

/// The digest of what `hasher` has been given.
pub(crate) fn finished(hasher: Sha256) -> Digest {
    Digest::from_bytes(hasher.finalize().into())
}

/// The version that a tag names. A tag may hold no `+`; `_` stands for it, as elsewhere in OCI.
pub(crate) fn version(tag: &Tag) -> Option<semver::Version> {
    let text = tag.as_str();
    semver::Version::parse(&text.strip_prefix('v').unwrap_or(text).replace('_', "+")).ok()
}

impl Namespace {
    /// Parses `text`.
    ///
    /// # Errors
    /// When it is no part of a repository's name.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        if text.contains('/') {
            return Err(Refusal::NameInvalid(shown(text)));
        }
        repository(text).map(|name| Self(name.to_string()))
    }

    /// Whose `repository` is, where `prefix` stands before the namespaces of components.
    pub(crate) fn of(repository: &Repository, prefix: &str) -> Self {
        let name = repository.as_str();
        let rest = name.strip_prefix(prefix).filter(|rest| !rest.is_empty()).unwrap_or(name);
        Self(rest.split('/').next().unwrap_or(rest).to_owned())
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Reference {
    /// Parses `text`.
    ///
    /// # Errors
    /// When it is neither a tag nor a digest.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        if text.contains(':') { digest(text).map(Self::Digest) } else { tag(text).map(Self::Tag) }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

/// As much of what a client wrote as is worth repeating to it.
fn shown(text: &str) -> String {
    let mut short: String = text.chars().take(80).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_paths_of_plain_words() {
        for name in ["a", "acme/sums", "components/acme/sums-2", "a.b_c__d---e/f0", "library/blobs/uploads"] {
            assert_eq!(repository(name).unwrap().as_str(), name);
        }
        let long = "a/".repeat(128);
        for name in
            ["", "/", "a/", "/a", "a//b", "A", "a/../b", "..", "a___b", "-a", "a-", "a._b", "a b", "é", "a\0", &long]
        {
            assert!(matches!(repository(name), Err(Refusal::NameInvalid(_))), "{name}");
        }
    }

    #[test]
    fn the_namespace_is_the_first_part_after_the_prefix() {
        for (name, namespace) in [
            ("components/acme/sums", "acme"),
            ("acme/sums", "acme"),
            ("acme", "acme"),
            ("components", "components"),
            ("componentsx/a", "componentsx"),
        ] {
            assert_eq!(Namespace::of(&repository(name).unwrap(), "components/").as_str(), namespace);
        }
    }

    #[test]
    fn a_digest_is_written_in_one_way() {
        let good = Digest::of(b"");
        assert_eq!(good.to_string(), "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(digest(&good.to_string()).unwrap(), good);
        let hex = good.hex();
        for text in [
            format!("sha512:{hex}{hex}"),
            format!("SHA256:{hex}"),
            format!("sha256:{}", hex.to_uppercase()),
            format!("sha256:{}", &hex[1..]),
            format!("sha256:{hex}0"),
            format!("sha256:../{}", &hex[3..]),
            format!("sha256:{} ", &hex[1..]),
            format!("sha256-{hex}"),
            hex.to_owned(),
            String::new(),
        ] {
            assert!(matches!(digest(&text), Err(Refusal::DigestInvalid(_))), "{text}");
        }
    }

    #[test]
    fn tags_are_bounded_words() {
        for text in ["latest", "1.2.3", "v1.2.3-rc.1", "_x", &"a".repeat(128)] {
            assert_eq!(tag(text).unwrap().as_str(), text);
        }
        for text in ["", ".", "..", "-a", "a/b", "a b", "a+b", "é", &"a".repeat(129)] {
            assert!(matches!(tag(text), Err(Refusal::TagInvalid(_))), "{text}");
        }
    }

    #[test]
    fn only_whole_versions_are_versions() {
        let version = |text| version(&tag(text).unwrap()).map(|version| version.to_string());
        assert_eq!(version("1.2.3").as_deref(), Some("1.2.3"));
        assert_eq!(version("v1.2.3").as_deref(), Some("1.2.3"));
        assert_eq!(version("1.2.3-rc.1_5").as_deref(), Some("1.2.3-rc.1+5"));
        for text in ["1.2", "1", "latest", "vv1.2.3", "1.2.3.4"] {
            assert_eq!(version(text), None, "{text}");
        }
    }
}
