//! What a registry says refers to a manifest: a list that proves nothing, and that may leave out or invent.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::digest::Digest;
use crate::json;
use crate::manifest::ManifestError;
use crate::media;

/// One thing that refers to a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Referrer {
    /// The digest of its manifest.
    pub digest: Digest,
    /// The length of its manifest in bytes.
    pub size: u64,
    /// What the list says it is. Lists under a fallback tag are written by clients, which get this wrong; a bundle is
    /// known by its own manifest.
    pub artifact_type: Option<String>,
}

/// A list of referrers: an OCI index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Referrers(
    /// In the order of the list.
    pub Vec<Referrer>,
);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    schema_version: u32,
    #[serde(default)]
    media_type: Option<String>,
    manifests: Vec<WireReferrer>,
    #[serde(default)]
    layers: Option<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireReferrer {
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    artifact_type: Option<String>,
    #[serde(default, rename = "annotations")]
    _annotations: BTreeMap<String, String>,
}

impl Referrers {
    /// Referrers that are looked at; a list without end is how a reader is kept busy.
    pub const MOST: usize = 256;
    const LARGEST: usize = 1 << 20;
    const LARGEST_MANIFEST: u64 = 64 << 10;

    /// Reads a list. What cannot be a manifest that we read is passed over: other tools attach other things, under
    /// other digests. More than [`Referrers::MOST`] is an error and not a shorter list, which would hide what stands at
    /// its end.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        let wire: Wire = json::parse(bytes, Self::LARGEST)?;
        let found = wire.media_type.as_deref().unwrap_or(media::INDEX);
        if wire.schema_version != 2 || found != media::INDEX || wire.layers.is_some() {
            let found = crate::digest::shown(found);
            return Err(ManifestError::MediaType { of: "the list of referrers", found, expected: media::INDEX });
        }
        if wire.manifests.len() > Self::MOST {
            return Err(ManifestError::Layers(wire.manifests.len()));
        }
        let referrers = wire.manifests.into_iter().filter_map(|entry| {
            let plausible = entry.media_type == media::MANIFEST && (1..=Self::LARGEST_MANIFEST).contains(&entry.size);
            let digest = entry.digest.parse().ok().filter(|_| plausible)?;
            Some(Referrer { digest, size: entry.size, artifact_type: entry.artifact_type })
        });
        Ok(Self(referrers.collect()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list(count: usize) -> String {
        let entry = |number: usize| {
            let digest = Digest::of(&number.to_be_bytes());
            format!(r#"{{"mediaType":"{}","digest":"{digest}","size":500,"artifactType":"wrong"}}"#, media::MANIFEST)
        };
        let entries: Vec<String> = (0..count).map(entry).collect();
        format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{}]}}"#, media::INDEX, entries.join(","))
    }

    #[test]
    fn a_list_is_read_whatever_it_calls_its_entries() {
        let Referrers(referrers) = Referrers::parse(list(2).as_bytes()).unwrap();
        assert_eq!(referrers.len(), 2);
        assert_eq!(referrers[0].artifact_type.as_deref(), Some("wrong"));
        assert_eq!(Referrers::parse(list(0).as_bytes()).unwrap(), Referrers::default());
    }

    #[test]
    fn what_we_do_not_read_is_passed_over() {
        for (from, to) in [("sha256:", "sha512:"), (media::MANIFEST, media::INDEX), ("\"size\":500", "\"size\":70000")]
        {
            let text = list(1).replace(from, to);
            assert_eq!(Referrers::parse(text.as_bytes()).unwrap(), Referrers::default(), "{to}");
        }
    }

    #[test]
    fn a_list_without_end_is_refused() {
        assert!(Referrers::parse(list(Referrers::MOST).as_bytes()).is_ok());
        assert!(Referrers::parse(list(Referrers::MOST + 1).as_bytes()).is_err());
    }

    #[test]
    fn what_is_no_list_is_an_error_and_not_an_empty_one() {
        for text in [
            "",
            "{}",
            "[]",
            r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#,
            r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#,
            r#"{"schemaVersion":1,"manifests":[]}"#,
            r#"{"schemaVersion":2,"manifests":[{"size":-1}]}"#,
        ] {
            assert!(Referrers::parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_change_of_a_byte_makes_it_panic(at in 0usize..400, byte: u8) {
            let mut bytes = list(2).into_bytes();
            let at = at % bytes.len();
            bytes[at] = byte;
            let _referrers = Referrers::parse(&bytes);
        }
    }
}
