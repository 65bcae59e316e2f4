//! What was fetched, kept on disk so that a system starts without a registry.
//!
//! Every file is named by the SHA-256 of its bytes, and is hashed again when it is read: the disk is another place where
//! bytes can change. A version is there when its record is, and the record comes last; until then there are files that
//! nothing names. Each file is written whole under another name, made durable, and then named.

use std::fs::{self, DirBuilder};
use std::io::{self, Read as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use witan_registry_types::{Artifact, BundleManifest, ComponentManifest, Digest, ManifestError, Package, json, media};

/// The largest manifest of a component, and the largest record.
const LARGEST_SMALL: u64 = 64 << 10;

/// A folder of versions that were fetched.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
}

/// Why a version cannot be kept, or had from the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file cannot be read or written.
    #[error("cannot use `{}`", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is not what was stored: the disk changed it, or somebody did.
    #[error("`{}` is not what was stored: fetch it again with `witan pull {package}`", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What it is a part of.
        package: Package,
    },
    /// What is to be stored does not belong together.
    #[error("`{package}` is not stored: {reason}")]
    Parts {
        /// What it is.
        package: Package,
        /// What does not belong.
        reason: &'static str,
    },
    /// The manifest is none of a component.
    #[error("`{package}` has a manifest that is refused")]
    Manifest {
        /// What it is.
        package: Package,
        /// Why.
        #[source]
        source: ManifestError,
    },
}

/// What the manifest does not say.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    schema: u32,
    bundles: Vec<Digest>,
}

impl Record {
    /// The record with its own digest before it: nothing else names its bytes.
    fn to_bytes(&self) -> io::Result<Vec<u8>> {
        let text = serde_json::to_vec(self)?;
        Ok([Digest::of(&text).to_string().as_bytes(), b"\n", &text].concat())
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (digest, text) = std::str::from_utf8(bytes).ok()?.split_once('\n')?;
        let sound = digest.parse() == Ok(Digest::of(text.as_bytes()));
        let record: Self = json::parse(text.as_bytes(), text.len()).ok()?;
        (sound && record.schema == 1).then_some(record)
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    |source| StoreError::Io { path, source }
}

impl Store {
    /// The store in `folder`, which is made if it is not there.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let store = Self { folder: folder.to_owned() };
        make(&store.blobs())?;
        Ok(store)
    }

    fn blobs(&self) -> PathBuf {
        self.folder.join("sha256")
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    /// Its parts are within the grammar of names, which has nothing that leads out of a folder.
    fn record(&self, package: &Package, digest: &Digest) -> PathBuf {
        let (namespace, name) = (package.name.namespace.as_str(), package.name.name.as_str());
        let version = self.folder.join("packages").join(namespace).join(name).join(package.version.to_string());
        version.join(format!("{}.json", digest.hex()))
    }

    /// Keeps `artifact` as the version of `package` whose manifest has this `digest`. It is there when this returns, and
    /// stays there if the machine then loses its power. What is kept already is not written again.
    pub fn put(&self, package: &Package, digest: &Digest, artifact: &Artifact) -> Result<(), StoreError> {
        let parts = |reason| StoreError::Parts { package: package.clone(), reason };
        if Digest::of(&artifact.manifest) != *digest {
            return Err(parts("its manifest has another digest"));
        }
        let manifest = self.manifest(package, &artifact.manifest)?;
        if !manifest.config.matches(&artifact.config) || !manifest.layer.matches(&artifact.layer) {
            return Err(parts("its manifest names another config or component"));
        }
        let mut bundles = Vec::new();
        for bundle in &artifact.bundles {
            let bundle_digest = Digest::of(bundle);
            self.write(&self.blob(&bundle_digest), bundle)?;
            bundles.push(bundle_digest);
        }
        for (digest, bytes) in [
            (&manifest.layer.digest, &artifact.layer),
            (&manifest.config.digest, &artifact.config),
            (digest, &artifact.manifest),
        ] {
            self.write(&self.blob(digest), bytes)?;
        }
        let path = self.record(package, digest);
        make(witan_durable::folder(&path))?;
        self.write(&path, &Record { schema: 1, bundles }.to_bytes().map_err(at(&path))?)
    }

    /// The version of `package` whose manifest has this `digest`, or nothing where it was never stored. What is given has
    /// the digests by which it was stored, and is as unverified as it was then.
    pub fn get(&self, package: &Package, digest: &Digest) -> Result<Option<Artifact>, StoreError> {
        let path = self.record(package, digest);
        let record = match read(&path, LARGEST_SMALL) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            record => record.map_err(at(&path))?,
        };
        let damaged = || StoreError::Damaged { path: path.clone(), package: package.clone() };
        let record = Record::read(&record).ok_or_else(damaged)?;
        let manifest_bytes = self.part(package, digest, LARGEST_SMALL)?;
        let manifest = self.manifest(package, &manifest_bytes)?;
        let bundle = |digest: &Digest| self.part(package, digest, BundleManifest::LARGEST_BUNDLE);
        Ok(Some(Artifact {
            config: self.part(package, &manifest.config.digest, manifest.config.size)?,
            layer: self.part(package, &manifest.layer.digest, manifest.layer.size)?,
            bundles: record.bundles.iter().map(bundle).collect::<Result<_, _>>()?,
            manifest: manifest_bytes,
        }))
    }

    fn manifest(&self, package: &Package, bytes: &[u8]) -> Result<ComponentManifest, StoreError> {
        let refused = |source| StoreError::Manifest { package: package.clone(), source };
        ComponentManifest::parse(bytes, media::MANIFEST).map_err(refused)
    }

    /// The file that is named by `digest`, if that is what it is.
    fn part(&self, package: &Package, digest: &Digest, most: u64) -> Result<Vec<u8>, StoreError> {
        let path = self.blob(digest);
        let damaged = || StoreError::Damaged { path: path.clone(), package: package.clone() };
        let bytes = match read(&path, most) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(damaged()),
            bytes => bytes.map_err(at(&path))?,
        };
        if Digest::of(&bytes) == *digest { Ok(bytes) } else { Err(damaged()) }
    }

    /// Gives `path` these bytes, whole and durable, unless it has them.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        if read(path, bytes.len() as u64).is_ok_and(|there| there == bytes) {
            return Ok(());
        }
        witan_durable::replace(path, bytes, witan_durable::OWN).map_err(at(path))
    }
}

/// Makes a folder and those that it is in, durably.
fn make(folder: &Path) -> Result<(), StoreError> {
    if folder.is_dir() {
        return Ok(());
    }
    let above = folder.parent().unwrap_or(Path::new(""));
    if !above.as_os_str().is_empty() {
        make(above)?;
    }
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(at(folder)(error)),
        _ => {}
    }
    if above.as_os_str().is_empty() { Ok(()) } else { witan_durable::synchronize(above).map_err(at(above)) }
}

/// The bytes of a file, one more than `most` at most: enough to tell that it is another.
fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}
