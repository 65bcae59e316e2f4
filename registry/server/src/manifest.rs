//! What a manifest says, checked before it is kept.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::names;
use crate::{Digest, Refusal};

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// The most things that a manifest names.
const NAMED: usize = 1_000;

/// The most bytes of a manifest's annotations: they are repeated in lists of referrers.
const ANNOTATIONS: usize = 16 << 10;

/// The longest media type.
const MEDIA_TYPE: usize = 255;

/// A manifest of any kind that is taken.
#[derive(Clone, Debug)]
pub(crate) struct Manifest {
    pub(crate) media_type: String,
    /// What it is, by itself or by its config; empty where it does not say.
    pub(crate) artifact_type: String,
    /// What it is about.
    pub(crate) subject: Option<Digest>,
    pub(crate) annotations: BTreeMap<String, String>,
    /// The config and the layers.
    pub(crate) blobs: Vec<Descriptor>,
    /// The manifests of an index.
    pub(crate) manifests: Vec<Descriptor>,
    /// The layers alone.
    pub(crate) layers: Vec<Descriptor>,
}

/// How a manifest names something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Descriptor {
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ManifestJson {
    schema_version: u64,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<DescriptorJson>,
    layers: Option<Vec<DescriptorJson>>,
    manifests: Option<Vec<DescriptorJson>>,
    subject: Option<DescriptorJson>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DescriptorJson {
    media_type: String,
    digest: String,
    size: u64,
}

/// A manifest in a list of referrers.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Referrer {
    pub(crate) media_type: String,
    pub(crate) digest: String,
    pub(crate) size: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) artifact_type: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
}

impl Manifest {
    /// Reads `bytes`, which were sent as `content_type`.
    ///
    /// # Errors
    /// When they are no manifest of that type.
    pub(crate) fn parse(bytes: &[u8], content_type: &str) -> Result<Self, Refusal> {
        let invalid = |reason: String| Refusal::ManifestInvalid(reason);
        let json: ManifestJson = serde_json::from_slice(bytes).map_err(|error| invalid(error.to_string()))?;
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        let is_index = match media_type {
            OCI_MANIFEST | DOCKER_MANIFEST => false,
            OCI_INDEX | DOCKER_LIST => true,
            other => return Err(invalid(format!("`{}` is no type of manifest that is kept here", short(other)))),
        };
        if json.schema_version != 2 {
            return Err(invalid("its `schemaVersion` is not 2".to_owned()));
        }
        if let Some(stated) = json.media_type.as_ref().filter(|stated| *stated != media_type) {
            let stated = short(stated);
            return Err(invalid(format!("its `mediaType` is `{stated}`, but it was sent as `{media_type}`")));
        }
        // Read as one kind by one client and as the other by another, it would be two things under one digest.
        if json.manifests.is_some() && (json.layers.is_some() || json.config.is_some()) {
            return Err(invalid("it has `manifests` and `layers` or `config`, and can be one kind alone".to_owned()));
        }
        if is_index != json.manifests.is_some() {
            return Err(invalid(format!("it was sent as `{media_type}`, and is not that")));
        }
        let layers = descriptors(json.layers.unwrap_or_default())?;
        let manifests = descriptors(json.manifests.unwrap_or_default())?;
        let config = json.config.map(DescriptorJson::checked).transpose()?;
        if !is_index && config.is_none() {
            return Err(invalid("it has no `config`".to_owned()));
        }
        let annotations = json.annotations.unwrap_or_default();
        if annotations.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() > ANNOTATIONS {
            return Err(invalid(format!("its annotations have more than {ANNOTATIONS} bytes")));
        }
        let artifact_type = json.artifact_type.filter(|kind| !kind.is_empty());
        let artifact_type =
            artifact_type.or_else(|| config.as_ref().map(|config| config.media_type.clone())).unwrap_or_default();
        if artifact_type.len() > MEDIA_TYPE {
            return Err(invalid("its `artifactType` is too long".to_owned()));
        }
        let blobs: Vec<Descriptor> = config.iter().chain(&layers).cloned().collect();
        if blobs.len() + manifests.len() > NAMED {
            return Err(invalid(format!("it names more than {NAMED} things")));
        }
        Ok(Self {
            media_type: media_type.to_owned(),
            artifact_type,
            subject: json.subject.map(DescriptorJson::checked).transpose()?.map(|subject| subject.digest),
            annotations,
            blobs,
            manifests,
            layers,
        })
    }
}

impl DescriptorJson {
    fn checked(self) -> Result<Descriptor, Refusal> {
        if self.media_type.len() > MEDIA_TYPE {
            return Err(Refusal::ManifestInvalid("it names a `mediaType` that is too long".to_owned()));
        }
        Ok(Descriptor { media_type: self.media_type, digest: names::digest(&self.digest)?, size: self.size })
    }
}

fn descriptors(json: Vec<DescriptorJson>) -> Result<Vec<Descriptor>, Refusal> {
    json.into_iter().map(DescriptorJson::checked).collect()
}

fn short(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn descriptor() -> Value {
        json!({ "mediaType": "a/b", "digest": Digest::of(b"x").to_string(), "size": 1 })
    }

    fn image() -> Value {
        json!({ "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": descriptor(), "layers": [descriptor()] })
    }

    fn parse(json: &Value, content_type: &str) -> Result<Manifest, String> {
        Manifest::parse(json.to_string().as_bytes(), content_type).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn manifests_and_indexes_are_taken() {
        let manifest = parse(&image(), OCI_MANIFEST).unwrap();
        assert_eq!((manifest.blobs.len(), manifest.artifact_type.as_str()), (2, "a/b"));
        let index = json!({ "schemaVersion": 2, "manifests": [descriptor()], "subject": descriptor() });
        let index = parse(&index, OCI_INDEX).unwrap();
        assert_eq!((index.manifests.len(), index.subject.is_some()), (1, true));
        assert!(parse(&image(), &format!("{OCI_MANIFEST}; charset=utf-8")).is_ok());
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let changed = |key: &str, value: Value| {
            let mut json = image();
            json[key] = value;
            json
        };
        for (json, content_type, reason) in [
            (image(), "text/plain", "no type of manifest"),
            (image(), OCI_INDEX, "`mediaType` is"),
            (changed("mediaType", json!(OCI_INDEX)), OCI_MANIFEST, "`mediaType` is"),
            (changed("manifests", json!([])), OCI_MANIFEST, "one kind alone"),
            (changed("schemaVersion", json!(1)), OCI_MANIFEST, "schemaVersion"),
            (changed("config", Value::Null), OCI_MANIFEST, "no `config`"),
            (changed("layers", json!(vec![descriptor(); NAMED])), OCI_MANIFEST, "names more than"),
            (changed("annotations", json!({ "a": "x".repeat(ANNOTATIONS) })), OCI_MANIFEST, "annotations"),
            (changed("subject", json!({ "mediaType": "a", "digest": "sha512:00", "size": 1 })), OCI_MANIFEST, "digest"),
            (
                changed("layers", json!([{ "mediaType": "a", "digest": "sha256:../x", "size": 1 }])),
                OCI_MANIFEST,
                "digest",
            ),
            (
                changed("layers", json!([{ "mediaType": "a", "digest": Digest::of(b"").to_string(), "size": -1 }])),
                OCI_MANIFEST,
                "invalid",
            ),
            (json!([]), OCI_MANIFEST, "invalid"),
        ] {
            let error = parse(&json, content_type).unwrap_err();
            assert!(error.contains(reason), "{error}: {reason}");
        }
        assert!(Manifest::parse(b"", OCI_MANIFEST).is_err());
        let twice = image().to_string().replacen('{', r#"{"mediaType":"a/b","#, 1);
        assert!(Manifest::parse(twice.as_bytes(), OCI_MANIFEST).is_err(), "a key that is there twice");
    }
}
