//! The two manifests that a registry holds for us: of a component, and of a signature bundle that refers to one.
//!
//! Both have exactly one form. A general manifest can be read in two ways (as an image and as an index, with layers that
//! are foreign, compressed or many), and what one client verifies another would then run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::json::{self, JsonError};
use crate::media;

/// The largest manifest that is read: one of these has two descriptors and some annotations.
const LARGEST: usize = 64 << 10;
/// Annotations of one descriptor or manifest.
const MOST_ANNOTATIONS: usize = 64;
/// Where tools put the name that a layer's file had.
const TITLE: &str = "org.opencontainers.image.title";

/// Why bytes are not the manifest of a component or of a bundle.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It is not JSON of the form of a manifest.
    #[error("the manifest cannot be read")]
    Json(#[from] JsonError),
    /// A media type is another.
    #[error("the media type of {of} is `{found}`, and must be `{expected}`")]
    MediaType {
        /// What has it.
        of: &'static str,
        /// What it is.
        found: String,
        /// What it must be.
        expected: &'static str,
    },
    /// A component has one layer, no more and no less.
    #[error("the manifest has {0} layers, and must have one")]
    Layers(usize),
    /// A size cannot be that of what is described.
    #[error("{of} has {size} bytes, and may have {largest}")]
    Size {
        /// What has it.
        of: &'static str,
        /// What is claimed.
        size: u64,
        /// What is allowed.
        largest: u64,
    },
    /// A component does not refer to anything, and a bundle must.
    #[error("{0}")]
    Subject(&'static str),
    /// An annotation could lead somewhere, or there are too many.
    #[error("the annotations are refused: {0}")]
    Annotations(&'static str),
    /// The empty config is not the two bytes `{{}}`.
    #[error("the config is not the empty one")]
    EmptyConfig,
}

/// What a manifest says of a blob or another manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Descriptor {
    /// Its media type.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// What else is said of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// The descriptor of `bytes`.
    pub fn of(media_type: &str, bytes: &[u8]) -> Self {
        let size = bytes.len() as u64;
        Self { media_type: media_type.to_owned(), digest: Digest::of(bytes), size, annotations: BTreeMap::new() }
    }

    /// Whether `bytes` are what is described: as many, with this digest.
    pub fn matches(&self, bytes: &[u8]) -> bool {
        self.size == bytes.len() as u64 && self.digest == Digest::of(bytes)
    }

    fn check(&self, of: &'static str, media_type: &'static str, largest: u64) -> Result<(), ManifestError> {
        if self.media_type != media_type {
            return Err(ManifestError::MediaType { of, found: shown(&self.media_type), expected: media_type });
        }
        if self.size == 0 || self.size > largest {
            return Err(ManifestError::Size { of, size: self.size, largest });
        }
        check_annotations(&self.annotations)
    }
}

fn shown(text: &str) -> String {
    crate::digest::shown(text)
}

fn check_annotations(annotations: &BTreeMap<String, String>) -> Result<(), ManifestError> {
    if annotations.len() > MOST_ANNOTATIONS {
        return Err(ManifestError::Annotations("there are more than 64"));
    }
    // Other tools write the layer to a file of this name.
    let title = annotations.get(TITLE).map_or("title", String::as_str);
    if title.contains(['/', '\\', '\0']) || matches!(title, "" | "." | "..") {
        return Err(ManifestError::Annotations("the title leads out of a folder"));
    }
    Ok(())
}

/// The form on the wire.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Wire {
    schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    media_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
    config: WireConfig,
    layers: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subject: Option<Descriptor>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

/// The empty config may carry its two bytes along.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct WireConfig {
    media_type: String,
    digest: Digest,
    size: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data: Option<String>,
}

impl From<Descriptor> for WireConfig {
    fn from(from: Descriptor) -> Self {
        let Descriptor { media_type, digest, size, annotations } = from;
        Self { media_type, digest, size, annotations, data: None }
    }
}

impl WireConfig {
    fn descriptor(self) -> (Descriptor, Option<String>) {
        let Self { media_type, digest, size, annotations, data } = self;
        (Descriptor { media_type, digest, size, annotations }, data)
    }
}

fn read(bytes: &[u8], content_type: &str) -> Result<(Wire, Descriptor), ManifestError> {
    let other = |of, found: &str| ManifestError::MediaType { of, found: shown(found), expected: media::MANIFEST };
    if content_type != media::MANIFEST {
        return Err(other("the answer", content_type));
    }
    let wire: Wire = json::parse(bytes, LARGEST)?;
    if wire.schema_version != 2 {
        return Err(other("the manifest", &format!("schema version {}", wire.schema_version)));
    }
    // It may be left out; the form leaves no doubt, since an index has keys that are refused here.
    if let Some(found) = wire.media_type.as_deref().filter(|found| *found != media::MANIFEST) {
        return Err(other("the manifest", found));
    }
    check_annotations(&wire.annotations)?;
    match wire.layers.as_slice() {
        [layer] => {
            let layer = layer.clone();
            Ok((wire, layer))
        }
        layers => Err(ManifestError::Layers(layers.len())),
    }
}

fn write(wire: &Wire) -> Vec<u8> {
    serde_json::to_vec(wire).unwrap_or_default()
}

/// The manifest of a component: its config and its one layer, which is never compressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComponentManifest {
    /// The [`ComponentConfig`](crate::ComponentConfig).
    pub config: Descriptor,
    /// The component's bytes.
    pub layer: Descriptor,
    /// What else is said of it.
    pub annotations: BTreeMap<String, String>,
}

impl ComponentManifest {
    /// The largest config.
    const LARGEST_CONFIG: u64 = 1 << 20;
    /// The largest layer. What is compiled may have a lower limit.
    const LARGEST_LAYER: u64 = 1 << 30;

    /// The manifest of the component `wasm` with `config`.
    pub fn new(config: &[u8], wasm: &[u8]) -> Self {
        let config = Descriptor::of(media::CONFIG, config);
        Self { config, layer: Descriptor::of(media::WASM, wasm), annotations: BTreeMap::new() }
    }

    /// Reads a manifest that came with `content_type`. Everything that is not the one form is refused.
    pub fn parse(bytes: &[u8], content_type: &str) -> Result<Self, ManifestError> {
        let (wire, layer) = read(bytes, content_type)?;
        if wire.subject.is_some() {
            return Err(ManifestError::Subject("a component refers to nothing, and this manifest has a subject"));
        }
        if let Some(found) = wire.artifact_type.filter(|found| found != media::CONFIG && found != media::WASM) {
            let expected = media::WASM;
            return Err(ManifestError::MediaType { of: "the artifact", found: shown(&found), expected });
        }
        let (config, data) = wire.config.descriptor();
        if data.is_some() {
            return Err(ManifestError::EmptyConfig);
        }
        config.check("the config", media::CONFIG, Self::LARGEST_CONFIG)?;
        layer.check("the layer", media::WASM, Self::LARGEST_LAYER)?;
        Ok(Self { config, layer, annotations: wire.annotations })
    }

    /// The manifest as it is stored; the same value gives the same bytes.
    pub fn to_json(&self) -> Vec<u8> {
        write(&Wire {
            schema_version: 2,
            media_type: Some(media::MANIFEST.to_owned()),
            artifact_type: None,
            config: self.config.clone().into(),
            layers: vec![self.layer.clone()],
            subject: None,
            annotations: self.annotations.clone(),
        })
    }
}

/// The manifest of a signature bundle: it refers to what is signed, and its one layer is the bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleManifest {
    /// The manifest that is signed.
    pub subject: Descriptor,
    /// The bundle.
    pub layer: Descriptor,
    /// What else is said of it; none of it is signed.
    pub annotations: BTreeMap<String, String>,
}

impl BundleManifest {
    /// The largest bundle: an SBOM of some thousand dependencies, encoded.
    pub const LARGEST_BUNDLE: u64 = 4 << 20;
    /// The largest manifest that a bundle may refer to.
    const LARGEST_SUBJECT: u64 = 4 << 20;
    const EMPTY: &'static [u8] = b"{}";

    /// The manifest of `bundle`, which signs `subject` with a predicate of type `predicate`. The annotations are those
    /// by which other clients find it.
    pub fn new(subject: Descriptor, bundle: &[u8], predicate: &str) -> Self {
        let annotations = [
            ("dev.sigstore.bundle.content".to_owned(), "dsse-envelope".to_owned()),
            ("dev.sigstore.bundle.predicateType".to_owned(), predicate.to_owned()),
        ];
        Self { subject, layer: Descriptor::of(media::BUNDLE, bundle), annotations: annotations.into() }
    }

    /// The descriptor of the empty config, which a registry must hold too, and its bytes.
    pub fn empty_config() -> (Descriptor, &'static [u8]) {
        (Descriptor::of(media::EMPTY, Self::EMPTY), Self::EMPTY)
    }

    /// Reads a manifest that came with `content_type`. The bundle that it names proves nothing before it is verified.
    pub fn parse(bytes: &[u8], content_type: &str) -> Result<Self, ManifestError> {
        let (wire, layer) = read(bytes, content_type)?;
        // Some clients name the type in the config alone.
        if let Some(found) = wire.artifact_type.filter(|found| found != media::BUNDLE) {
            let expected = media::BUNDLE;
            return Err(ManifestError::MediaType { of: "the artifact", found: shown(&found), expected });
        }
        let (config, data) = wire.config.descriptor();
        config.check("the config", media::EMPTY, Self::EMPTY.len() as u64)?;
        if !config.matches(Self::EMPTY) || data.is_some_and(|data| data != "e30=") {
            return Err(ManifestError::EmptyConfig);
        }
        layer.check("the bundle", media::BUNDLE, Self::LARGEST_BUNDLE)?;
        let subject = wire.subject.ok_or(ManifestError::Subject("a bundle must refer to what it signs"))?;
        subject.check("the subject", media::MANIFEST, Self::LARGEST_SUBJECT)?;
        Ok(Self { subject, layer, annotations: wire.annotations })
    }

    /// The manifest as it is stored; the same value gives the same bytes.
    pub fn to_json(&self) -> Vec<u8> {
        write(&Wire {
            schema_version: 2,
            media_type: Some(media::MANIFEST.to_owned()),
            artifact_type: Some(media::BUNDLE.to_owned()),
            config: Self::empty_config().0.into(),
            layers: vec![self.layer.clone()],
            subject: Some(self.subject.clone()),
            annotations: self.annotations.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn component() -> String {
        String::from_utf8(ComponentManifest::new(b"{\"a\":1}", b"\0asm").to_json()).unwrap()
    }

    fn bundle() -> String {
        let subject = Descriptor::of(media::MANIFEST, component().as_bytes());
        String::from_utf8(BundleManifest::new(subject, b"bundle", "https://slsa.dev/provenance/v1").to_json()).unwrap()
    }

    fn parse_component(text: &str) -> Result<ComponentManifest, ManifestError> {
        ComponentManifest::parse(text.as_bytes(), media::MANIFEST)
    }

    #[test]
    fn what_is_written_is_read_again() {
        let manifest = parse_component(&component()).unwrap();
        assert_eq!(manifest.to_json(), component().as_bytes());
        assert!(manifest.layer.matches(b"\0asm") && !manifest.layer.matches(b"\0asn"));
        let manifest = BundleManifest::parse(bundle().as_bytes(), media::MANIFEST).unwrap();
        assert_eq!(manifest.to_json(), bundle().as_bytes());
        let with_data = bundle().replace("\"size\":2}", "\"size\":2,\"data\":\"e30=\"}");
        assert_ne!(with_data, bundle());
        assert!(BundleManifest::parse(with_data.as_bytes(), media::MANIFEST).is_ok());
    }

    #[test]
    fn a_manifest_of_another_form_is_refused() {
        let changes = [
            // Read as an index by whoever looks at `manifests` first.
            ("\"layers\"", "\"manifests\":[],\"layers\""),
            ("\"layers\":[", "\"layers\":[],\"layers\":["),
            (
                "\"layers\":[",
                "\"layers\":[{\"mediaType\":\"application/wasm\",\"digest\":\"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\",\"size\":4},",
            ),
            ("\"schemaVersion\":2", "\"schemaVersion\":1"),
            (media::MANIFEST, media::INDEX),
            ("application/wasm\"", "application/wasm+gzip\""),
            ("application/wasm\"", "application/vnd.oci.image.layer.v1.tar+gzip\""),
            (media::CONFIG, "application/vnd.oci.image.config.v1+json"),
            ("\"size\":4", "\"size\":-4"),
            ("\"size\":4", "\"size\":0"),
            ("\"size\":4", "\"size\":4.5"),
            ("\"size\":4", "\"size\":\"4\""),
            ("\"size\":4", "\"size\":18446744073709551616"),
            ("\"size\":4", "\"size\":9223372036854775807"),
            ("\"size\":4", "\"size\":4,\"urls\":[\"https://elsewhere.example\"]"),
            ("\"size\":4", "\"size\":4,\"data\":\"AGFzbQ==\""),
            ("\"size\":4", "\"size\":4,\"annotations\":{\"org.opencontainers.image.title\":\"../../bin/sh\"}"),
            ("sha256:", "sha512:"),
            ("sha256:", "SHA256:"),
            ("sha256:", "sha256:../"),
            ("\"schemaVersion\":2,", "\"schemaVersion\":2,\"artifactType\":\"application/other\","),
        ];
        for (from, to) in changes {
            let text = component().replace(from, to);
            assert_ne!(text, component(), "{from}");
            assert!(parse_component(&text).is_err(), "{to}");
        }
        assert!(parse_component(&bundle()).is_err());
        assert!(BundleManifest::parse(component().as_bytes(), media::MANIFEST).is_err());
    }

    #[test]
    fn the_answer_must_call_it_what_it_is() {
        for content_type in
            ["", media::INDEX, "application/json", "application/vnd.docker.distribution.manifest.v2+json"]
        {
            let answer = ComponentManifest::parse(component().as_bytes(), content_type);
            assert!(matches!(answer, Err(ManifestError::MediaType { of: "the answer", .. })), "{content_type}");
        }
    }

    #[test]
    fn a_huge_manifest_is_refused_before_it_is_read() {
        let text = component().replace("\"layers\"", &format!("{}\"layers\"", " ".repeat(LARGEST)));
        assert!(matches!(parse_component(&text), Err(ManifestError::Json(JsonError::TooLarge { .. }))));
    }

    #[test]
    fn a_bundle_refers_to_a_manifest() {
        for (from, to) in [("\"subject\"", "\"subjects\""), ("e30=", "e30"), ("\"size\":2", "\"size\":3")] {
            let text = bundle().replace("\"size\":2}", "\"size\":2,\"data\":\"e30=\"}").replace(from, to);
            assert!(BundleManifest::parse(text.as_bytes(), media::MANIFEST).is_err(), "{to}");
        }
    }

    proptest! {
        #[test]
        fn no_change_of_a_byte_makes_it_panic(at in 0usize..600, byte: u8) {
            for text in [component(), bundle()] {
                let mut bytes = text.into_bytes();
                let at = at % bytes.len();
                bytes[at] = byte;
                let _component = ComponentManifest::parse(&bytes, media::MANIFEST);
                let _bundle = BundleManifest::parse(&bytes, media::MANIFEST);
            }
        }
    }
}
