//! Publishing one version: bytes first, then the manifest that names them, then the signatures that refer to it.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use bytes::Bytes;
use http::{HeaderName, Method, StatusCode, header};
use serde_json::{Value, json};
use witan_registry_types::{
    Artifact, BundleManifest, ComponentManifest, Descriptor, Digest, ManifestError, Package, Repository, Tag,
    json as strict, media,
};

use crate::client::{Client, push};
use crate::fetch::{CONTENT_DIGEST, FetchError, LARGEST_MANIFEST, digest_of};
use crate::http::{Ask, RequestError, shown};

const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
/// What is read of an answer that should be empty.
const LARGEST_ANSWER: u64 = 64 << 10;
/// How often a list under a fallback tag is written again when another client wrote it meanwhile.
const ATTEMPTS: usize = 5;

/// What was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The digest of the manifest.
    pub digest: Digest,
    /// Where it lies.
    pub repository: Repository,
    /// Whether the version was there already, with these very bytes.
    pub was_there: bool,
}

/// Why a version could not be published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The registry could not be asked.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// What the registry has of the version cannot be read.
    #[error("what the registry has of this version cannot be read")]
    Existing(#[source] Box<FetchError>),
    /// The version is taken by something else.
    #[error("`{package}` is {found} in the registry, and never becomes another: publish this as a new version")]
    VersionTaken {
        /// The version.
        package: Package,
        /// What it is.
        found: String,
    },
    /// The parts do not belong together.
    #[error("the parts of the version do not belong together: {0}")]
    Parts(&'static str),
    /// The manifest is none.
    #[error("the manifest cannot be published")]
    Manifest(#[from] ManifestError),
    /// A bundle is none.
    #[error("signature {0} is no bundle with a statement in it")]
    Bundle(usize),
    /// A bundle is larger than anybody reads.
    #[error(
        "signature {number} has {size} bytes, and may have {}: an SBOM this large must leave out something",
        BundleManifest::LARGEST_BUNDLE
    )]
    BundleTooLarge {
        /// Its place, from 0.
        number: usize,
        /// Its bytes.
        size: usize,
    },
    /// The registry says that it took something else than it was given.
    #[error("the registry took {what} as `{said}`, and it is {expected}")]
    Other {
        /// What it was given.
        what: &'static str,
        /// What it says.
        said: String,
        /// What it is.
        expected: Digest,
    },
    /// Other clients kept writing the same list.
    #[error("the list of signatures of `{0}` was changed by others each time it was written; publish again")]
    Busy(Package),
}

impl Client {
    /// Publishes `artifact` as `package`: its blobs, its manifest under the version's tag, and its bundles. What is there
    /// already is not sent again, so that a publication that broke off is completed by the next.
    pub async fn publish(&self, package: &Package, artifact: &Artifact) -> Result<Published, PublishError> {
        let manifest = ComponentManifest::parse(&artifact.manifest, media::MANIFEST)?;
        if !manifest.config.matches(&artifact.config) || !manifest.layer.matches(&artifact.layer) {
            return Err(PublishError::Parts("the manifest names another config or component"));
        }
        let subject = Descriptor::of(media::MANIFEST, &artifact.manifest);
        let mut bundles = Vec::new();
        for (number, bundle) in artifact.bundles.iter().enumerate() {
            if bundle.len() as u64 > BundleManifest::LARGEST_BUNDLE {
                return Err(PublishError::BundleTooLarge { number, size: bundle.len() });
            }
            let predicate = predicate_type(bundle).ok_or(PublishError::Bundle(number))?;
            bundles.push((bundle, BundleManifest::new(subject.clone(), bundle, &predicate)));
        }
        let repository = self.repository(&package.name);
        let was_there = self.is_published(package, &subject.digest).await?;
        self.push_blob(&repository, &artifact.config).await?;
        self.push_blob(&repository, &artifact.layer).await?;
        if !was_there {
            let version = package.version.to_string();
            let put = self.put_manifest(&repository, &version, &artifact.manifest, media::MANIFEST).await;
            put.map_err(|error| taken(package, error))?;
        }
        for (bundle, manifest) in &bundles {
            self.attach(package, &repository, &subject, bundle, manifest).await?;
        }
        Ok(Published { digest: subject.digest, repository, was_there })
    }

    /// Whether the version is there with this digest; an error where it is another, since it can never become this one.
    pub async fn is_published(&self, package: &Package, digest: &Digest) -> Result<bool, PublishError> {
        let repository = self.repository(&package.name);
        let found = match self.manifest(&repository, &package.version.to_string(), LARGEST_MANIFEST).await {
            Err(error) if error.is_not_found() => return Ok(false),
            answer => digest_of(&answer?, "the manifest").map_err(|error| PublishError::Existing(Box::new(error)))?,
        };
        if found == *digest {
            return Ok(true);
        }
        Err(PublishError::VersionTaken { package: package.clone(), found: found.to_string() })
    }

    /// Sends a blob, unless the repository has it.
    async fn push_blob(&self, repository: &Repository, bytes: &[u8]) -> Result<(), PublishError> {
        let digest = Digest::of(bytes);
        let (path, scope) = (format!("/v2/{repository}/blobs/{digest}"), push(repository));
        match self.http.send(Ask::new(Method::HEAD, &path, Some(&scope))).await {
            Ok(_) => return Ok(()),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
        let path = format!("/v2/{repository}/blobs/uploads/");
        let begun = self.http.read(Ask::new(Method::POST, &path, Some(&scope)), LARGEST_ANSWER).await?;
        let location =
            begun.header(&header::LOCATION).ok_or_else(|| begun.other("it does not say where to send to"))?;
        let mut url = begun.url.join(location).map_err(|_| begun.other("it does not say where to send to"))?;
        // Our bytes and our secret go to the registry that was named, and nowhere else.
        if url.origin() != self.http.base.origin() {
            return Err(RequestError::Redirect { url: begun.url.clone(), to: shown(location) }.into());
        }
        url.query_pairs_mut().append_pair("digest", &digest.to_string());
        let path = format!("{}?{}", url.path(), url.query().unwrap_or_default());
        let body = Bytes::copy_from_slice(bytes);
        let ask = Ask::new(Method::PUT, &path, Some(&scope)).body("application/octet-stream", body);
        let answer = self.http.read(ask, LARGEST_ANSWER).await?;
        if answer.status != StatusCode::CREATED {
            return Err(answer.other("it did not take a blob").into());
        }
        same(answer.header(&CONTENT_DIGEST), "a blob", &digest)
    }

    /// Puts a manifest under a tag or its digest; gives what the registry says that it refers to.
    async fn put_manifest(
        &self,
        repository: &Repository,
        reference: &str,
        bytes: &[u8],
        kind: &'static str,
    ) -> Result<Option<String>, PublishError> {
        let (path, scope) = (format!("/v2/{repository}/manifests/{reference}"), push(repository));
        let ask = Ask::new(Method::PUT, &path, Some(&scope)).body(kind, Bytes::copy_from_slice(bytes));
        let answer = self.http.read(ask, LARGEST_ANSWER).await?;
        if answer.status != StatusCode::CREATED {
            return Err(answer.other("it did not take a manifest").into());
        }
        same(answer.header(&CONTENT_DIGEST), "a manifest", &Digest::of(bytes))?;
        Ok(answer.header(&SUBJECT).map(str::to_owned))
    }

    /// Attaches a bundle to what it is about.
    async fn attach(
        &self,
        package: &Package,
        repository: &Repository,
        subject: &Descriptor,
        bundle: &[u8],
        manifest: &BundleManifest,
    ) -> Result<(), PublishError> {
        self.push_blob(repository, BundleManifest::empty_config().1).await?;
        self.push_blob(repository, bundle).await?;
        let bytes = manifest.to_json();
        let digest = Digest::of(&bytes).to_string();
        match self.put_manifest(repository, &digest, &bytes, media::MANIFEST).await? {
            Some(said) => same(Some(&said), "what a signature is about", &subject.digest),
            // It does not know of referrers; clients look under a tag then.
            None => self.list(package, repository, &subject.digest, &bytes).await,
        }
    }

    /// Adds a bundle's manifest to the list under the fallback tag. There is no way to write it only if nobody else did, so
    /// it is read again afterwards.
    async fn list(
        &self,
        package: &Package,
        repository: &Repository,
        subject: &Digest,
        manifest: &[u8],
    ) -> Result<(), PublishError> {
        let digest = Digest::of(manifest).to_string();
        let entry = json!({
            "mediaType": media::MANIFEST,
            "digest": digest,
            "size": manifest.len(),
            "artifactType": media::BUNDLE,
        });
        for _ in 0..ATTEMPTS {
            let mut entries = match self.fallback(repository, subject).await? {
                None => Vec::new(),
                Some(answer) => {
                    let list: Value = answer.json()?;
                    let entries = list.get("manifests").and_then(Value::as_array).cloned();
                    entries.ok_or_else(|| answer.other("what lies under the fallback tag is no list"))?
                }
            };
            if entries.iter().any(|entry| entry["digest"] == digest.as_str()) {
                return Ok(());
            }
            entries.push(entry.clone());
            let list = json!({ "schemaVersion": 2, "mediaType": media::INDEX, "manifests": entries }).to_string();
            let tag = Tag::fallback(subject).to_string();
            self.put_manifest(repository, &tag, list.as_bytes(), media::INDEX).await?;
        }
        Err(PublishError::Busy(package.clone()))
    }
}

/// The version became another between our look and our push.
fn taken(package: &Package, error: PublishError) -> PublishError {
    match error {
        PublishError::Request(RequestError::Status { status: StatusCode::CONFLICT, message, .. }) => {
            PublishError::VersionTaken { package: package.clone(), found: format!("another ({message})") }
        }
        other => other,
    }
}

/// Refuses an answer that names something else. One that names nothing is as good as none.
fn same(said: Option<&str>, what: &'static str, expected: &Digest) -> Result<(), PublishError> {
    match said {
        Some(said) if said != expected.to_string() => {
            Err(PublishError::Other { what, said: shown(said), expected: *expected })
        }
        _ => Ok(()),
    }
}

/// The type of what a bundle's statement says.
fn predicate_type(bundle: &[u8]) -> Option<String> {
    let most = usize::try_from(BundleManifest::LARGEST_BUNDLE).ok()?;
    let bundle = strict::parse_value(bundle, most).ok()?;
    let payload = BASE64.decode(bundle.pointer("/dsseEnvelope/payload")?.as_str()?).ok()?;
    let statement = strict::parse_value(&payload, most).ok()?;
    Some(statement.get("predicateType")?.as_str()?.to_owned())
}
