//! Names as the OCI distribution specification has them: repositories, tags, digests.
//!
//! Each is parsed once, strictly; what is a name can be joined to a path of the disk or of a URL as it is.

use std::fmt;

use sha2::{Digest as _, Sha256};

use crate::Refusal;

/// The longest name of a repository.
const LONGEST_REPOSITORY: usize = 255;

/// The longest tag.
const LONGEST_TAG: usize = 128;

/// The name of a repository, such as `components/acme/sums`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository(String);

/// The first part of a repository's name that says whose it is: what tokens and quotas are about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Namespace(String);

/// `sha256:` and 64 hexadecimal digits in lower case. No other algorithm is taken: two ways to name one thing would be
/// two things to check.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(String);

/// A name for a manifest within a repository.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(String);

/// How a manifest is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// By what it is called.
    Tag(Tag),
    /// By what it is.
    Digest(Digest),
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(text: &str) -> bool {
    let mut rest = text;
    loop {
        let word = rest.find(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit()).unwrap_or(rest.len());
        if word == 0 {
            return false;
        }
        rest = &rest[word..];
        if rest.is_empty() {
            return true;
        }
        let end = rest.find(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()).unwrap_or(rest.len());
        let separator;
        (separator, rest) = rest.split_at(end);
        if !(matches!(separator, "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-')) {
            return false;
        }
    }
}

impl Repository {
    /// Parses `text`.
    ///
    /// # Errors
    /// When it is no name of a repository.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        if text.len() <= LONGEST_REPOSITORY && text.split('/').all(is_component) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Refusal::NameInvalid(shown(text)))
        }
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whose it is, where `prefix` stands before the namespaces of components.
    pub fn namespace(&self, prefix: &str) -> Namespace {
        let rest = self.0.strip_prefix(prefix).filter(|rest| !rest.is_empty()).unwrap_or(&self.0);
        Namespace(rest.split('/').next().unwrap_or(rest).to_owned())
    }
}

impl Namespace {
    /// Parses `text`.
    ///
    /// # Errors
    /// When it is no part of a repository's name.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        if text.len() <= LONGEST_REPOSITORY && is_component(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Refusal::NameInvalid(shown(text)))
        }
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Digest {
    /// Parses `text`.
    ///
    /// # Errors
    /// When it is anything but `sha256:` and 64 hexadecimal digits in lower case.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let lower = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        match text.strip_prefix("sha256:") {
            Some(hex) if hex.len() == 64 && hex.bytes().all(lower) => Ok(Self(text.to_owned())),
            _ => Err(Refusal::DigestInvalid(shown(text))),
        }
    }

    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self::finished(Sha256::new_with_prefix(bytes))
    }

    /// The digest of what `hasher` has been given.
    pub(crate) fn finished(hasher: Sha256) -> Self {
        Self(format!("sha256:{}", crate::hex(&hasher.finalize())))
    }

    /// With its algorithm.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Without its algorithm.
    pub fn hex(&self) -> &str {
        &self.0["sha256:".len()..]
    }
}

impl Tag {
    /// Parses `text`.
    ///
    /// # Errors
    /// When it is no tag.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let first = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let further = |byte: u8| first(byte) || matches!(byte, b'.' | b'-');
        if text.len() <= LONGEST_TAG && text.bytes().next().is_some_and(first) && text.bytes().all(further) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Refusal::TagInvalid(shown(text)))
        }
    }

    /// The tag.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The version that the tag names. A tag may hold no `+`; `_` stands for it, as elsewhere in OCI.
    pub fn version(&self) -> Option<semver::Version> {
        let text = self.0.strip_prefix('v').unwrap_or(&self.0);
        semver::Version::parse(&text.replace('_', "+")).ok()
    }
}

impl Reference {
    /// Parses `text`.
    ///
    /// # Errors
    /// When it is neither a tag nor a digest.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        if text.contains(':') { Digest::parse(text).map(Self::Digest) } else { Tag::parse(text).map(Self::Tag) }
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

macro_rules! display {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}
display!(Repository, Namespace, Digest, Tag);

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_paths_of_plain_words() {
        for name in ["a", "acme/sums", "components/acme/sums-2", "a.b_c__d---e/f0", "library/blobs/uploads"] {
            assert_eq!(Repository::parse(name).unwrap().as_str(), name);
        }
        let long = "a/".repeat(128);
        for name in
            ["", "/", "a/", "/a", "a//b", "A", "a/../b", "..", "a___b", "-a", "a-", "a._b", "a b", "é", "a\0", &long]
        {
            assert!(matches!(Repository::parse(name), Err(Refusal::NameInvalid(_))), "{name}");
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
            assert_eq!(Repository::parse(name).unwrap().namespace("components/").as_str(), namespace);
        }
    }

    #[test]
    fn a_digest_is_written_in_one_way() {
        let good = Digest::of(b"");
        assert_eq!(good.as_str(), "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(Digest::parse(good.as_str()).unwrap(), good);
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
            assert!(matches!(Digest::parse(&text), Err(Refusal::DigestInvalid(_))), "{text}");
        }
    }

    #[test]
    fn tags_are_bounded_words() {
        for tag in ["latest", "1.2.3", "v1.2.3-rc.1", "_x", &"a".repeat(128)] {
            assert_eq!(Tag::parse(tag).unwrap().as_str(), tag);
        }
        for tag in ["", ".", "..", "-a", "a/b", "a b", "a+b", "é", &"a".repeat(129)] {
            assert!(matches!(Tag::parse(tag), Err(Refusal::TagInvalid(_))), "{tag}");
        }
    }

    #[test]
    fn only_whole_versions_are_versions() {
        let version = |tag| Tag::parse(tag).unwrap().version().map(|version| version.to_string());
        assert_eq!(version("1.2.3").as_deref(), Some("1.2.3"));
        assert_eq!(version("v1.2.3").as_deref(), Some("1.2.3"));
        assert_eq!(version("1.2.3-rc.1_5").as_deref(), Some("1.2.3-rc.1+5"));
        for tag in ["1.2", "1", "latest", "vv1.2.3", "1.2.3.4"] {
            assert_eq!(version(tag), None, "{tag}");
        }
    }
}
