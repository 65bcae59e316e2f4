//! TUF metadata: kept in a folder, signed anew before they end, and served to everyone.
//!
//! What operators sign offline is put into the folder by [`sign_metadata`], where the registry that serves finds it. The rest
//! the registry signs itself, when a version is yanked and when half of its time is over. A file that is read has its
//! name from the start, and the timestamp comes last: whoever reads it finds what it names.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, SystemTime},
};

use axum::{
    Router,
    extract::{self, Request, State},
    response::{IntoResponse as _, Response},
    routing::get,
};
use http::{HeaderValue, StatusCode, header};
use sqlx::Row as _;
use tokio::sync::Mutex;
use witan_registry_sign::{KeyFolder, KeyId, KeysError, PublicKey, SigningKey, TrustedLog, trusted_root};
use witan_registry_tuf::{
    Document, MakeError, Signers, TRUSTED_ROOT, Yank, Yanks, check_previous, sign_online, sign_root, sign_targets,
};

use crate::names;
use crate::{
    Digest, Failure, Namespace, Refusal, Registry,
    blobs::{blocking, disk},
    tokens::{Action, timestamp},
};

/// The folder within that of the registry. It holds no secret, so that it can be carried to where operators sign.
const FOLDER: &str = "tuf";

/// The registry's public key, for those who sign a root.
const PUBLIC: &str = "registry.pub";

/// How long before what operators signed ends they are told.
const WARNED: Duration = Duration::from_secs(30 * 24 * 3600);

/// Why metadata are not signed.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// The registry was never served, so that it has no key.
    #[error("`{}` is not there: serve the registry once, which makes its key, or copy its folder `tuf` here", .0.display())]
    NoRegistry(PathBuf),
    /// What operators would sign is another than before, and nobody said that it should be.
    #[error(
        "{what} is another than was signed before: compare it with the registry's, and say `--replaced` if it was replaced"
    )]
    Replaced {
        /// What: the registry's key, or the trusted root.
        what: &'static str,
    },
    /// A key that should go is not there.
    #[error("the root does not name the key {0}, so that it cannot be dropped")]
    NotNamed(KeyId),
    /// They cannot be made.
    #[error(transparent)]
    Make(#[from] MakeError),
    /// The registry's own key cannot be used.
    #[error("the registry's own key cannot be used")]
    Key(#[from] KeysError),
    /// The disk or the database fails.
    #[error("the metadata cannot be read or written")]
    Failed(#[from] Failure),
}

impl From<sqlx::Error> for MetadataError {
    fn from(error: sqlx::Error) -> Self {
        Self::Failed(error.into())
    }
}

/// What operators sign.
#[derive(Debug)]
pub struct Signing {
    /// The keys to sign with. Those that the root does not name yet are added to it.
    pub keys: Vec<SigningKey>,
    /// Keys that the root no longer names.
    pub drop: BTreeSet<KeyId>,
    /// Whether the registry's own key or its trusted root may be another than was signed before.
    pub replaced: bool,
    /// How many keys have to sign; as before where there is none, and at first one.
    pub threshold: Option<usize>,
    /// How long root and targets hold.
    pub lifetime: Duration,
    /// The trusted root; that of the registry's own log where there is none.
    pub trusted_root: Option<Vec<u8>>,
}

/// What operators have signed.
#[derive(Debug)]
pub struct SignedMetadata {
    /// The newest root.
    pub root: PathBuf,
    /// Its version.
    pub root_version: u64,
    /// Whether it was signed now.
    pub root_is_new: bool,
    /// The version of the targets.
    pub targets_version: u64,
    /// Who may sign what.
    pub signers: Signers,
    /// The trusted root that was signed.
    pub trusted_root: Vec<u8>,
}

/// Signs the metadata of the registry in the folder `data`, as its operators do: a new root where it would say something
/// new or has less than half of its time left, and new targets. A registry that serves takes them up by itself.
///
/// # Errors
/// When the keys are not enough, and when the disk fails.
pub fn sign_metadata(data: &Path, signing: &Signing, now: SystemTime) -> Result<SignedMetadata, MetadataError> {
    let folder = Folder(data.join(FOLDER));
    let path = folder.0.join(PUBLIC);
    let public = folder.read(PUBLIC)?.ok_or_else(|| MetadataError::NoRegistry(path))?;
    let registry: PublicKey = String::from_utf8_lossy(&public).parse().map_err(MakeError::Key)?;
    let keys: Vec<&SigningKey> = signing.keys.iter().collect();
    let (mut roots, last_targets) = (folder.all("root")?, folder.newest("targets")?);
    check_previous(&roots, last_targets.as_ref(), &keys)?;
    let previous = roots.pop();
    let before = previous.as_ref().map(|root| Signers::of(&root.bytes)).transpose()?;
    let mut operators = before.as_ref().map(|before| before.operators.clone()).unwrap_or_default();
    operators.extend(signing.keys.iter().map(|key| key.public().clone()));
    for id in &signing.drop {
        let named = operators.iter().find(|key| key.id() == *id).cloned();
        operators.remove(&named.ok_or(MetadataError::NotNamed(*id))?);
    }
    let threshold = signing.threshold.or(before.as_ref().map(|before| before.threshold)).unwrap_or(1);
    let signers = Signers { operators, threshold, registry };
    if before.as_ref().is_some_and(|before| before.registry != signers.registry) && !signing.replaced {
        return Err(MetadataError::Replaced { what: "the registry's own key" });
    }
    let expires = now.checked_add(signing.lifetime).ok_or(MakeError::Time)?;
    let due = now.checked_add(signing.lifetime / 2).ok_or(MakeError::Time)?;
    let lasts = previous.as_ref().and_then(Document::expires).is_some_and(|at| at > due);
    let (root, root_is_new) = match previous {
        Some(root) if lasts && before.as_ref() == Some(&signers) => (root, false),
        previous => (sign_root(&signers, previous.as_ref(), expires, &keys)?, true),
    };
    let targets_version = last_targets.as_ref().map_or(1, |targets| targets.version.saturating_add(1));
    let trusted = match &signing.trusted_root {
        Some(bytes) => bytes.clone(),
        None => {
            let path = folder.0.join(TRUSTED_ROOT);
            folder.read(TRUSTED_ROOT)?.ok_or_else(|| MetadataError::NoRegistry(path))?
        }
    };
    let signed_before = last_targets.as_ref().and_then(Document::trusted_root);
    if signed_before.is_some_and(|digest| digest != Digest::of(&trusted).hex()) && !signing.replaced {
        return Err(MetadataError::Replaced { what: "the trusted root" });
    }
    let (targets, trusted_path) = sign_targets(&root, targets_version, expires, &trusted, &keys)?;
    folder.write(&format!("targets/{trusted_path}"), &trusted)?;
    folder.write(&format!("{}.targets.json", targets.version), &targets.bytes)?;
    let root_file = format!("{}.root.json", root.version);
    if root_is_new {
        folder.write(&root_file, &root.bytes)?;
    }
    Ok(SignedMetadata {
        root: folder.0.join(root_file),
        root_version: root.version,
        root_is_new,
        targets_version,
        signers,
        trusted_root: trusted,
    })
}

/// The folder of the metadata.
#[derive(Debug, Clone)]
struct Folder(PathBuf);

impl Folder {
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Failure> {
        let path = self.0.join(name);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(disk(&path)(error)),
        }
    }

    /// Puts a file in its place, whole and durably.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        let path = self.0.join(name);
        let folder = path.parent().unwrap_or(&self.0);
        fs::create_dir_all(folder).map_err(disk(folder))?;
        witan_durable::replace(&path, bytes, 0o666).map_err(disk(&path))
    }

    fn write_new(&self, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        if self.read(name)?.as_deref() == Some(bytes) { Ok(()) } else { self.write(name, bytes) }
    }

    /// The versions of a role that there are.
    fn versions(&self, role: &str) -> Result<BTreeSet<u64>, Failure> {
        let entries = match fs::read_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            entries => entries.map_err(disk(&self.0))?,
        };
        let mut versions = BTreeSet::new();
        for entry in entries {
            let name = entry.map_err(disk(&self.0))?.file_name();
            versions.extend(name.to_str().and_then(versioned).filter(|(_, found)| *found == role).map(|(at, _)| at));
        }
        Ok(versions)
    }

    /// All metadata of a role that there are, the newest last.
    fn all(&self, role: &str) -> Result<Vec<Document>, MetadataError> {
        let read = |version| Ok(Document::read(self.read(&format!("{version}.{role}.json"))?.unwrap_or_default())?);
        self.versions(role)?.into_iter().map(read).collect()
    }

    /// The newest metadata of a role.
    fn newest(&self, role: &str) -> Result<Option<Document>, MetadataError> {
        let Some(version) = self.versions(role)?.pop_last() else { return Ok(None) };
        let bytes = self.read(&format!("{version}.{role}.json"))?.unwrap_or_default();
        Ok(Some(Document::read(bytes)?))
    }
}

/// The version and the role in the name of a file such as `3.root.json`.
fn versioned(name: &str) -> Option<(u64, &str)> {
    let (version, role) = name.strip_suffix(".json")?.split_once('.')?;
    let number = version.parse().ok().filter(|number: &u64| number.to_string() == version)?;
    Some((number, role))
}

/// What the registry itself has signed last.
struct Last {
    version: u64,
    at: SystemTime,
    root: u64,
    targets: u64,
    files: BTreeSet<String>,
}

/// The metadata of a registry that is open.
pub(crate) struct Metadata {
    folder: Folder,
    key: SigningKey,
    last: Mutex<Option<Last>>,
    /// Whether they no longer say what is yanked.
    changed: AtomicBool,
    /// Why they could not be signed anew.
    failed: parking_lot::Mutex<Option<String>>,
}

impl Metadata {
    /// Makes the registry's key, if it has none, and puts what operators sign where they find it.
    pub(crate) fn open(data: &Path, log_host: &str, log_key: &[u8]) -> Result<Self, MetadataError> {
        let name = "registry".parse().map_err(|_| MakeError::Refused("the name of a key".to_owned()))?;
        let keys = KeyFolder::open(&data.join("keys"))?;
        let key = match keys.load(&name, None) {
            Err(KeysError::Missing(_)) => keys.generate(&name, None)?,
            key => key?,
        };
        let folder = Folder(data.join(FOLDER));
        folder.write_new(PUBLIC, key.public().to_pem().as_bytes())?;
        let log = PublicKey::from_der(log_key).map_err(MakeError::Key)?;
        let log = TrustedLog { host: log_host.to_owned(), key: log, since: SystemTime::UNIX_EPOCH };
        folder.write_new(TRUSTED_ROOT, &trusted_root(&[log]))?;
        Ok(Self {
            folder,
            key,
            last: Mutex::default(),
            changed: AtomicBool::default(),
            failed: parking_lot::Mutex::default(),
        })
    }
}

impl Registry {
    /// Signs the registry's own metadata anew where that is due: when something else is yanked than they say, when operators
    /// have signed something, and when half of their time is over. Does nothing where operators have signed nothing yet.
    async fn sign_metadata(&self) -> Result<(), MetadataError> {
        let metadata = &self.0.metadata;
        let mut last = metadata.last.lock().await;
        let folder = metadata.folder.clone();
        let newest = blocking(move || Ok::<_, MetadataError>((folder.newest("root")?, folder.newest("targets")?)));
        let (Some(root), Some(targets)) = newest.await? else { return Ok(()) };
        let (now, lifetime) = (SystemTime::now(), self.0.settings.limits.metadata_lifetime);
        let due = last.as_ref().is_none_or(|last| {
            let new = (root.version, targets.version) != (last.root, last.targets);
            new || now.duration_since(last.at).map_or(true, |age| age >= lifetime / 2)
        });
        // Taken before what is yanked is read: what comes after it is signed once more.
        let changed = metadata.changed.swap(false, Ordering::SeqCst);
        if !due && !changed {
            return Ok(());
        }
        for (what, file) in [("root", &root), ("targets", &targets)] {
            if file.expires().is_some_and(|at| now.checked_add(WARNED).is_some_and(|soon| at < soon)) {
                tracing::warn!(file = what, version = file.version, "ends soon: have operators sign it again");
            }
        }
        let signed = self.sign_anew(&root, &targets, last.as_ref(), now).await;
        if signed.is_err() && changed {
            metadata.changed.store(true, Ordering::SeqCst);
        }
        *last = Some(signed?);
        Ok(())
    }

    async fn sign_anew(
        &self,
        root: &Document,
        targets: &Document,
        last: Option<&Last>,
        now: SystemTime,
    ) -> Result<Last, MetadataError> {
        let (metadata, lifetime) = (&self.0.metadata, self.0.settings.limits.metadata_lifetime);
        let yanks = self.all_yanks().await?;
        let folder = metadata.folder.clone();
        let before = folder.read("timestamp.json")?.map(Document::read).transpose()?.map_or(0, |last| last.version);
        // A registry that was restored from a copy goes on above what it had signed, since time has gone by.
        let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let version = before.saturating_add(1).max(seconds);
        let expires = now.checked_add(lifetime).ok_or(MakeError::Time)?;
        let online = sign_online(root, targets, version, expires, &yanks, &metadata.key)?;
        let files: BTreeSet<String> = online.targets.keys().map(|path| format!("targets/{path}")).collect();
        let needed = last.map(|last| (last.version, last.files.union(&files).cloned().collect::<BTreeSet<_>>()));
        blocking(move || {
            for (path, bytes) in &online.targets {
                folder.write_new(&format!("targets/{path}"), bytes)?;
            }
            folder.write(&format!("{version}.yanks.json"), &online.yanks.bytes)?;
            folder.write(&format!("{version}.snapshot.json"), &online.snapshot.bytes)?;
            folder.write("timestamp.json", &online.timestamp.bytes)?;
            // Whoever has just read the timestamp before still finds what it names.
            needed.map_or(Ok(()), |(version, files)| folder.clean(version, &files))
        })
        .await
        .map_err(|failure: Failure| failure)?;
        Ok(Last { version, at: now, root: root.version, targets: targets.version, files })
    }
}

impl Registry {
    /// Has the metadata say what is yanked now.
    pub(crate) async fn yanks_changed(&self) {
        self.0.metadata.changed.store(true, Ordering::SeqCst);
        self.keep_metadata().await;
    }

    /// Signs the metadata anew where that is due.
    pub(crate) async fn keep_metadata(&self) {
        let failure = self.sign_metadata().await.err().map(|error| crate::chain(&error));
        let mut last = self.0.metadata.failed.lock();
        // It is tried again and again, and said once.
        if let Some(error) = failure.as_ref().filter(|_| failure != *last) {
            tracing::error!(error, "the TUF metadata are not signed anew, and will expire");
        }
        *last = failure;
    }

    async fn all_yanks(&self) -> Result<BTreeMap<String, Yanks>, Failure> {
        let rows = sqlx::query("SELECT repository, tag, yanked, yank_reason FROM version WHERE yanked > 0")
            .fetch_all(self.0.database.pool())
            .await?;
        let mut yanks = BTreeMap::<String, Yanks>::new();
        for row in &rows {
            let (repository, tag): (String, String) = (row.try_get("repository")?, row.try_get("tag")?);
            let yank = Yank { at: timestamp(row.try_get("yanked")?), reason: row.try_get("yank_reason")? };
            let name = names::repository(&repository).map_err(|refusal| Failure::Damaged(refusal.to_string()))?;
            let of_namespace = yanks.entry(self.namespace(&name).to_string()).or_default();
            of_namespace.0.entry(self.package_name(&name)).or_default().insert(tag, yank);
        }
        Ok(yanks)
    }

    async fn metadata_file(&self, path: &str, request: Request) -> Result<Response, Refusal> {
        let (parts, _) = request.into_parts();
        let client = self.identify(&parts).await?;
        if let Some(namespace) = served(path).ok_or(Refusal::NoSuchPath)? {
            // What is yanked says what there is.
            self.allow(&client, Action::Pull, &names::repository(namespace)?)?;
        }
        let (folder, path) = (self.0.metadata.folder.clone(), path.to_owned());
        let bytes = blocking(move || folder.read(&path)).await?.ok_or(Refusal::NoSuchPath)?;
        let mut response = Response::new(bytes.into());
        *response.status_mut() = StatusCode::OK;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        Ok(response)
    }
}

impl Folder {
    /// Removes what the registry has signed before the version `oldest`, and the targets that are not `needed`.
    fn clean(&self, oldest: u64, needed: &BTreeSet<String>) -> Result<(), Failure> {
        for role in ["yanks", "snapshot"] {
            for version in self.versions(role)?.range(..oldest) {
                let path = self.0.join(format!("{version}.{role}.json"));
                fs::remove_file(&path).map_err(disk(&path))?;
            }
        }
        let folder = self.0.join("targets/yanks");
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(disk(&folder))?,
        };
        for entry in entries {
            let entry = entry.map_err(disk(&folder))?;
            if !needed.contains(&format!("targets/yanks/{}", entry.file_name().to_string_lossy())) {
                fs::remove_file(entry.path()).map_err(disk(&folder))?;
            }
        }
        Ok(())
    }
}

/// Whether there may be a file of metadata at `path`; and of which namespace, where not everyone may read it.
fn served(path: &str) -> Option<Option<&str>> {
    let digest =
        |file: &'_ str| file.split_once('.').is_some_and(|(hex, _)| names::digest(&format!("sha256:{hex}")).is_ok());
    if let Some(file) = path.strip_prefix("targets/yanks/").filter(|file| digest(file)) {
        let namespace = file.split_once('.')?.1.strip_suffix(".json")?;
        return Namespace::parse(namespace).is_ok().then_some(Some(namespace));
    }
    if let Some(file) = path.strip_prefix("targets/").filter(|file| digest(file)) {
        return (file.split_once('.')?.1 == TRUSTED_ROOT).then_some(None);
    }
    let role = versioned(path).map(|(_, role)| role);
    let known = role.is_some_and(|role| matches!(role, "root" | "targets" | "snapshot" | "yanks"));
    (known || path == "timestamp.json").then_some(None)
}

pub(crate) fn router() -> Router<Registry> {
    Router::new().route("/tuf/{*path}", get(file))
}

async fn file(
    State(registry): State<Registry>,
    extract::Path(path): extract::Path<String>,
    request: Request,
) -> Response {
    registry.metadata_file(&path, request).await.unwrap_or_else(Refusal::into_response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_metadata_is_served() {
        let hex = Digest::of(b"").hex().to_owned();
        for name in ["timestamp.json", "1.root.json", "12.targets.json", "3.snapshot.json", "1790000000.yanks.json"] {
            assert_eq!(served(name), Some(None), "{name}");
        }
        assert_eq!(served(&format!("targets/{hex}.trusted_root.json")), Some(None));
        assert_eq!(served(&format!("targets/yanks/{hex}.acme.json")), Some(Some("acme")));
        for name in [
            "",
            "registry.pub",
            "01.root.json",
            "root.json",
            "1.timestamp.json",
            "timestamp.json.new",
            "../log.key",
            "targets/trusted_root.json",
            "targets/yanks/../../../log.key",
            &format!("targets/{hex}.other.json"),
            &format!("targets/yanks/{hex}.../x.json"),
        ] {
            assert_eq!(served(name), None, "{name}");
        }
    }
}
