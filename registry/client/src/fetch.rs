//! Fetching one version: its manifest by digest, what that names, and every bundle about it.

use std::collections::BTreeMap;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use http::{HeaderName, header};
use sha2::{Digest as _, Sha256};
use witan_registry_types::{
    Artifact, BundleManifest, ComponentManifest, Descriptor, Digest, ManifestError, Package, PackageName, Referrers,
    Repository, Tag, Version, media,
};

use crate::client::{Client, pull};
use crate::http::{self as request, Ask, Read, RequestError};

pub(crate) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// The largest manifest or list that is read of an answer.
pub(crate) const LARGEST_MANIFEST: u64 = 4 << 20;
/// The largest manifest of a bundle: two descriptors and some annotations.
const LARGEST_BUNDLE_MANIFEST: u64 = 64 << 10;
/// All bundles of one version together.
const LARGEST_BUNDLES: u64 = 64 << 20;
/// Pages of one list.
const PAGES: usize = 64;
/// Versions of one package.
const VERSIONS: usize = 20_000;
/// Bundles that are fetched at once.
const AT_ONCE: usize = 4;

/// How far the fetching of a component is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that are here.
    pub received: u64,
    /// Bytes that there will be.
    pub total: u64,
}

/// Why a version could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The registry could not be asked.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The registry does not have it.
    #[error("`{package}` is not in the registry `{registry}`")]
    NotFound {
        /// What was looked for.
        package: Package,
        /// Where.
        registry: String,
        /// What it said.
        #[source]
        source: RequestError,
    },
    /// The registry served other bytes than were asked for.
    #[error("the registry served {what} with the digest {found}, and {expected} was asked for")]
    Digest {
        /// What was asked for.
        what: &'static str,
        /// By which digest.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// The registry says of its own answer that it is something else.
    #[error("the registry says that {what} has the digest `{said}`, and it has {found}")]
    SaidDigest {
        /// What was asked for.
        what: &'static str,
        /// What the header says.
        said: String,
        /// What came.
        found: Digest,
    },
    /// Something has another size than the manifest says.
    #[error("{what} has {found} bytes, and the manifest says {stated}")]
    Size {
        /// What has it.
        what: &'static str,
        /// What the manifest says.
        stated: u64,
        /// How many came.
        found: u64,
    },
    /// The component is larger than is allowed.
    #[error("the component has {size} bytes, and may have {most}; allow more if that is right")]
    LayerTooLarge {
        /// What the manifest says.
        size: u64,
        /// What is allowed.
        most: u64,
    },
    /// The manifest is none of a component.
    #[error("the manifest of `{package}` is refused")]
    Manifest {
        /// Of what.
        package: Package,
        /// Why.
        #[source]
        source: ManifestError,
    },
    /// The list of what refers to the manifest is none.
    #[error("the list of signatures of `{package}` cannot be read, so that nobody knows which there are")]
    Referrers {
        /// Of what.
        package: Package,
        /// Why.
        #[source]
        source: ManifestError,
    },
    /// More refers to the manifest than is looked at.
    #[error("more than {most} things refer to `{package}`")]
    TooManyReferrers {
        /// To what.
        package: Package,
        /// How many are looked at.
        most: usize,
    },
    /// The bundles are larger than is read.
    #[error("the signatures of `{0}` have more than {LARGEST_BUNDLES} bytes")]
    BundlesTooLarge(Package),
    /// A list has more pages or entries than are read.
    #[error("the list of versions of `{0}` has no end")]
    Endless(PackageName),
}

impl Client {
    /// The versions of `package` that the registry lists, the newest first. What it lists proves nothing, nor does what it
    /// leaves out. Tags that are no version are passed over.
    pub async fn versions(&self, package: &PackageName) -> Result<Vec<Version>, FetchError> {
        #[derive(serde::Deserialize)]
        struct Tags {
            #[serde(default)]
            tags: Option<Vec<String>>,
        }
        let repository = self.repository(package);
        let scope = pull(&repository);
        let mut path = format!("/v2/{repository}/tags/list?n=1000");
        let mut versions: Vec<Version> = Vec::new();
        for _ in 0..PAGES {
            let answer = self.http.read(Ask::get(&path, Some(&scope)), LARGEST_MANIFEST).await?;
            let Tags { tags } = answer.json()?;
            versions.extend(tags.unwrap_or_default().iter().filter_map(|tag| tag.parse::<Version>().ok()));
            if versions.len() > VERSIONS {
                break;
            }
            let Some(next) = answer.next()? else {
                versions.sort();
                versions.dedup();
                versions.reverse();
                return Ok(versions);
            };
            path = next;
        }
        Err(FetchError::Endless(package.clone()))
    }

    /// The digest that the registry gives for `package` at the moment. It is unverified: a registry may name another tomorrow,
    /// and its word is enough only to publish, or for a first lock that is verified before it is written.
    pub async fn resolve(&self, package: &Package) -> Result<Digest, FetchError> {
        let repository = self.repository(&package.name);
        let answer = self.manifest(&repository, package.version.to_string().as_str(), LARGEST_MANIFEST).await;
        let answer = answer.map_err(|error| self.not_found(package, error))?;
        digest_of(&answer, "the manifest")
    }

    /// Fetches the version of `package` whose manifest has this `digest`: exactly those bytes, what they name, and every
    /// bundle about them. Nothing of it is verified further than that; `progress` hears how much of the component is here.
    pub async fn fetch(
        &self,
        package: &Package,
        digest: &Digest,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Artifact, FetchError> {
        let repository = self.repository(&package.name);
        let answer = self.manifest(&repository, &digest.to_string(), LARGEST_MANIFEST).await;
        let answer = answer.map_err(|error| self.not_found(package, error))?;
        expect(&answer, "the manifest", digest)?;
        let content_type = answer.header(&header::CONTENT_TYPE).unwrap_or_default();
        let manifest = ComponentManifest::parse(&answer.bytes, content_type)
            .map_err(|source| FetchError::Manifest { package: package.clone(), source })?;
        let most = self.http.settings.layer_bytes;
        if manifest.layer.size > most {
            return Err(FetchError::LayerTooLarge { size: manifest.layer.size, most });
        }
        let bundles = self.bundles(package, &repository, digest).await?;
        let config = self.blob(&repository, "the config", &manifest.config, &|_| {}).await?;
        let layer = self.blob(&repository, "the component", &manifest.layer, progress).await?;
        Ok(Artifact { manifest: answer.bytes, config, layer, bundles })
    }

    fn not_found(&self, package: &Package, error: RequestError) -> FetchError {
        if error.is_not_found() {
            let (package, registry) = (package.clone(), self.host().to_string());
            return FetchError::NotFound { package, registry, source: error };
        }
        error.into()
    }

    /// The answer to asking for a manifest by a tag or a digest.
    pub(crate) async fn manifest(
        &self,
        repository: &Repository,
        reference: &str,
        most: u64,
    ) -> Result<Read, RequestError> {
        let path = format!("/v2/{repository}/manifests/{reference}");
        let scope = pull(repository);
        self.http.read(Ask::get(&path, Some(&scope)).header(header::ACCEPT, media::MANIFEST), most).await
    }

    /// The blob that `descriptor` names. Its bytes are hashed as they come, and it ends where it should or is refused.
    async fn blob(
        &self,
        repository: &Repository,
        what: &'static str,
        descriptor: &Descriptor,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Vec<u8>, FetchError> {
        let path = format!("/v2/{repository}/blobs/{}", descriptor.digest);
        let scope = pull(repository);
        let (url, response) = self.http.send_anywhere(Ask::get(&path, Some(&scope))).await?;
        let total = descriptor.size;
        let stated = |found| FetchError::Size { what, stated: total, found };
        if let Some(length) = response.content_length().filter(|length| *length != total) {
            return Err(stated(length));
        }
        let (mut bytes, mut hasher) = (Vec::new(), Sha256::new());
        let read = request::stream(response, &url, total, |chunk| {
            hasher.update(chunk);
            bytes.extend_from_slice(chunk);
            progress(Progress { received: bytes.len() as u64, total });
        });
        let found = match read.await {
            Err(RequestError::TooLarge { .. }) => return Err(stated(total.saturating_add(1))),
            found => found?,
        };
        if found != total {
            return Err(stated(found));
        }
        let found = Digest::from_bytes(hasher.finalize().into());
        if found != descriptor.digest {
            return Err(FetchError::Digest { what, expected: descriptor.digest, found });
        }
        Ok(bytes)
    }

    /// Every bundle about `digest` that the registry admits to, by its list of referrers and by the tag that clients write
    /// where there is no such list. That there is none is said by an answer, and never concluded from its absence.
    async fn bundles(
        &self,
        package: &Package,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Vec<Vec<u8>>, FetchError> {
        let mut referrers = BTreeMap::new();
        self.listed(package, repository, digest, &mut referrers).await?;
        self.tagged(package, repository, digest, &mut referrers).await?;
        if referrers.len() > Referrers::MOST {
            return Err(FetchError::TooManyReferrers { package: package.clone(), most: Referrers::MOST });
        }
        let found = stream::iter(referrers)
            .map(|(referrer, size)| async move { self.bundle_manifest(repository, digest, &referrer, size).await })
            .buffered(AT_ONCE);
        let layers: Vec<Descriptor> = found
            .try_filter_map(|manifest| async { Ok(manifest.map(|manifest| manifest.layer)) })
            .try_collect()
            .await?;
        if layers.iter().map(|layer| layer.size).sum::<u64>() > LARGEST_BUNDLES {
            return Err(FetchError::BundlesTooLarge(package.clone()));
        }
        let bundles = stream::iter(layers)
            .map(|layer| async move { self.blob(repository, "a signature", &layer, &|_| {}).await })
            .buffered(AT_ONCE);
        bundles.try_collect().await
    }

    /// Adds what the registry's own list has. Not every registry has such a list; one that has it answers for what it holds.
    async fn listed(
        &self,
        package: &Package,
        repository: &Repository,
        digest: &Digest,
        referrers: &mut BTreeMap<Digest, u64>,
    ) -> Result<(), FetchError> {
        let scope = pull(repository);
        // Not by type: clients name the type of what they attach in different ways.
        let mut path = format!("/v2/{repository}/referrers/{digest}");
        let endless = || FetchError::TooManyReferrers { package: package.clone(), most: Referrers::MOST };
        for page in 0..PAGES {
            let ask = Ask::get(&path, Some(&scope)).header(header::ACCEPT, media::INDEX);
            let answer = match self.http.read(ask, LARGEST_MANIFEST).await {
                Err(error) if error.is_not_found() && page == 0 => return Ok(()),
                answer => answer?,
            };
            add(package, &answer, referrers)?;
            if referrers.len() > Referrers::MOST {
                return Err(endless());
            }
            match answer.next()? {
                Some(next) => path = next,
                None => return Ok(()),
            }
        }
        Err(endless())
    }

    /// Adds what lies under the fallback tag.
    async fn tagged(
        &self,
        package: &Package,
        repository: &Repository,
        digest: &Digest,
        referrers: &mut BTreeMap<Digest, u64>,
    ) -> Result<(), FetchError> {
        match self.fallback(repository, digest).await? {
            Some(answer) => add(package, &answer, referrers),
            None => Ok(()),
        }
    }

    /// The answer to asking for the fallback tag of `digest`; nothing where there is none.
    pub(crate) async fn fallback(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<Read>, RequestError> {
        let path = format!("/v2/{repository}/manifests/{}", Tag::fallback(digest));
        let scope = pull(repository);
        let ask = Ask::get(&path, Some(&scope)).header(header::ACCEPT, media::INDEX);
        match self.http.read(ask, LARGEST_MANIFEST).await {
            Err(error) if error.is_not_found() => Ok(None),
            answer => answer.map(Some),
        }
    }

    /// The manifest of a referrer, if it is one of a bundle about `subject`. Other tools attach other things, which are
    /// passed over by what they are, and not by what the list calls them.
    async fn bundle_manifest(
        &self,
        repository: &Repository,
        subject: &Digest,
        digest: &Digest,
        size: u64,
    ) -> Result<Option<BundleManifest>, FetchError> {
        let answer = self.manifest(repository, &digest.to_string(), LARGEST_BUNDLE_MANIFEST).await?;
        let what = "the manifest of a signature";
        let found = answer.bytes.len() as u64;
        if found != size {
            return Err(FetchError::Size { what, stated: size, found });
        }
        expect(&answer, what, digest)?;
        let content_type = answer.header(&header::CONTENT_TYPE).unwrap_or_default();
        let manifest = BundleManifest::parse(&answer.bytes, content_type).ok();
        Ok(manifest.filter(|manifest| manifest.subject.digest == *subject))
    }
}

/// Adds the entries of a list.
fn add(package: &Package, answer: &Read, referrers: &mut BTreeMap<Digest, u64>) -> Result<(), FetchError> {
    let refused = |source| FetchError::Referrers { package: package.clone(), source };
    let content_type = answer.header(&header::CONTENT_TYPE).unwrap_or_default();
    if content_type != media::INDEX {
        let (of, found) = ("the list of referrers", request::shown(content_type));
        return Err(refused(ManifestError::MediaType { of, found, expected: media::INDEX }));
    }
    let Referrers(entries) = Referrers::parse(&answer.bytes).map_err(refused)?;
    referrers.extend(entries.into_iter().map(|entry| (entry.digest, entry.size)));
    Ok(())
}

/// The digest of an answer, of which its header must say nothing else.
pub(crate) fn digest_of(answer: &Read, what: &'static str) -> Result<Digest, FetchError> {
    let found = Digest::of(&answer.bytes);
    match answer.headers.get(CONTENT_DIGEST) {
        Some(said) if said.as_bytes() != found.to_string().as_bytes() => {
            let said = request::shown(&String::from_utf8_lossy(said.as_bytes()));
            Err(FetchError::SaidDigest { what, said, found })
        }
        _ => Ok(found),
    }
}

/// Refuses an answer that is not what was asked for.
fn expect(answer: &Read, what: &'static str, expected: &Digest) -> Result<(), FetchError> {
    let found = Digest::of(&answer.bytes);
    if found != *expected {
        return Err(FetchError::Digest { what, expected: *expected, found });
    }
    digest_of(answer, what).map(drop)
}
