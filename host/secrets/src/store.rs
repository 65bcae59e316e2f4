//! The stored secrets: one file, each entry encrypted by itself.
//!
//! An entry is sealed with XChaCha20-Poly1305 under the operator key, and bound to its tenant, name and version: moved to
//! another place in the file, it opens no more. Versions are never used twice. What this cannot see is that the whole file
//! was replaced by an older one.
//!
//! Whoever changes the file holds its lock and puts a new one in its place; a host that runs notices.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::{Aead as _, Payload},
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use witan_system::SecretName;
use zeroize::Zeroizing;

use crate::{KeyError, KeySource, Value, key::Key};

/// The version of the file's form.
const SCHEMA: u32 = 1;

/// The most that the file may hold.
const LARGEST: u64 = 32 << 20;

/// Secrets of all tenants together.
const MOST: usize = 10_000;

/// Whose the host's own secrets are: no tenant has such a name.
pub(crate) const HOST: &str = "host:";
/// The key that rows are sealed with.
pub(crate) const DATA_KEY: &str = "rows";

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Its file cannot be used.
    #[error("the store of secrets `{path}` cannot be used")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Its file has another form.
    #[error(
        "`{0}` is no store of secrets, or one of a newer version; restore it from a backup, or run the newer version"
    )]
    Malformed(PathBuf),
    /// It was encrypted under another key.
    #[error(
        "the secret `{name}` of `{tenant}` was encrypted under the operator key {found}, which is not here; bring it back, or \
         set the secret anew with `witan secrets set {name}`"
    )]
    OtherKey {
        /// The tenant.
        tenant: String,
        /// The secret.
        name: SecretName,
        /// The key's id.
        found: String,
    },
    /// It was changed by somebody without the key.
    #[error(
        "the secret `{name}` of `{tenant}` does not open: it was changed; set it anew with `witan secrets set {name}`"
    )]
    Changed {
        /// The tenant.
        tenant: String,
        /// The secret.
        name: SecretName,
    },
    /// There are too many.
    #[error("there are {MOST} secrets, the most that the store takes; remove some with `witan secrets rm`")]
    Full,
    /// There is none to replace.
    #[error("there is no secret `{0}` to replace; make it with `witan secrets set {0}`")]
    Missing(SecretName),
    /// The tenant has a name that none has.
    #[error("`{0}` names no tenant")]
    Tenant(String),
    /// There is no key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The new key would be the old one.
    #[error(
        "the operator key comes from a program, and it still gives the old one alone: have it print the new key first and \
         the old one after it, and run this again"
    )]
    SameKey,
}

/// What is known of a secret without opening it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Info {
    /// The tenant.
    pub tenant: String,
    /// The secret.
    pub name: SecretName,
    /// Which of the store's changes it is.
    pub version: u64,
    /// When it was set, in seconds since the Unix epoch.
    pub set_at: u64,
    /// The id of the operator key that it is encrypted under.
    pub key: String,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    schema: u32,
    /// The last version that was given.
    version: u64,
    secrets: Vec<Entry>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    tenant: String,
    name: String,
    version: u64,
    set_at: u64,
    key: String,
    nonce: String,
    sealed: String,
}

type Entries = BTreeMap<(String, SecretName), Entry>;

/// The stored secrets.
pub struct Store {
    file: PathBuf,
    keys: KeySource,
    read: Mutex<Option<(Stamp, Arc<Entries>)>>,
}

/// What tells one state of a file from the next.
type Stamp = (u64, u64, i64, i64);

impl Store {
    /// The store in the folder `state`, under the key of `keys`. Nothing is read yet.
    #[must_use]
    pub fn new(state: &Path, keys: KeySource) -> Self {
        Self { file: state.join("secrets.json"), keys, read: Mutex::default() }
    }

    /// A secret, if there is one.
    ///
    /// # Errors
    /// When the store cannot be read, or it does not open under the operator key.
    pub fn get(&self, tenant: &str, name: &SecretName) -> Result<Option<Value>, StoreError> {
        let (_, entries) = self.load()?;
        let Some(entry) = entries.get(&(tenant.to_owned(), name.clone())) else { return Ok(None) };
        let keys = self.keys.read()?.unwrap_or_default();
        open(&keys, name, entry).map(Some)
    }

    /// The key `name` of `owner`, which is made if there is none yet.
    pub(crate) fn data_key(&self, owner: &str, name: &str) -> Result<Zeroizing<[u8; 32]>, StoreError> {
        let malformed = || StoreError::Malformed(self.file.clone());
        let name: SecretName = name.parse().map_err(|_| malformed())?;
        if let Some(value) = self.get(owner, &name)? {
            let bytes = Zeroizing::new(STANDARD.decode(value.expose()).map_err(|_| malformed())?);
            return bytes.as_slice().try_into().map(Zeroizing::new).map_err(|_| malformed());
        }
        let mut key = Zeroizing::new([0; 32]);
        getrandom::fill(key.as_mut_slice()).map_err(|_| KeyError::Randomness)?;
        let value = Value::new(STANDARD.encode(key.as_slice()).into_bytes()).map_err(|_| malformed())?;
        self.set(owner, &name, &value)?;
        Ok(key)
    }

    /// What there is of tenants, by tenant and name.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn list(&self) -> Result<Vec<Info>, StoreError> {
        let (_, entries) = self.load()?;
        let info = |((tenant, name), entry): (&(String, SecretName), &Entry)| Info {
            tenant: tenant.clone(),
            name: name.clone(),
            version: entry.version,
            set_at: entry.set_at,
            key: entry.key.clone(),
        };
        Ok(entries.iter().filter(|((tenant, _), _)| tenant != HOST).map(info).collect())
    }

    /// Keeps `value`, in place of the one that there is; returns its version.
    ///
    /// # Errors
    /// When the store cannot be written, or is full.
    pub fn set(&self, tenant: &str, name: &SecretName, value: &Value) -> Result<u64, StoreError> {
        self.put(tenant, name, value, false)
    }

    /// As [`Self::set`], for a secret that there is.
    ///
    /// # Errors
    /// When there is none, or the store cannot be written.
    pub fn replace(&self, tenant: &str, name: &SecretName, value: &Value) -> Result<u64, StoreError> {
        self.put(tenant, name, value, true)
    }

    fn put(&self, tenant: &str, name: &SecretName, value: &Value, existing: bool) -> Result<u64, StoreError> {
        if tenant.is_empty() || tenant.len() > 256 || tenant.chars().any(char::is_control) {
            return Err(StoreError::Tenant(tenant.to_owned()));
        }
        let _turn = self.turn()?;
        let (mut version, entries) = self.load()?;
        let mut entries = Entries::clone(&entries);
        let place = (tenant.to_owned(), name.clone());
        if existing && !entries.contains_key(&place) {
            return Err(StoreError::Missing(name.clone()));
        }
        if entries.len() >= MOST && !entries.contains_key(&place) {
            return Err(StoreError::Full);
        }
        let keys = self.keys.read_or_make()?;
        version += 1;
        let key = keys.first().ok_or(KeyError::Randomness)?;
        entries.insert(place, seal(key, tenant, name, version, now(), value)?);
        self.save(version, &entries)?;
        Ok(version)
    }

    /// Forgets a secret; false if there was none.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn remove(&self, tenant: &str, name: &SecretName) -> Result<bool, StoreError> {
        let _turn = self.turn()?;
        let (version, entries) = self.load()?;
        let mut entries = Entries::clone(&entries);
        let was = entries.remove(&(tenant.to_owned(), name.clone())).is_some();
        if was {
            self.save(version, &entries)?;
        }
        Ok(was)
    }

    /// Encrypts everything under a new operator key, and forgets the old one; returns the new one's id and how many secrets
    /// there are. A crash on the way loses nothing: both keys are there until all is encrypted anew.
    ///
    /// Where a program gives the key, the operator has it give the new one first and the old one after it.
    ///
    /// # Errors
    /// When a secret does not open, or the store or the key cannot be written.
    pub fn rotate_key(&self) -> Result<(String, usize), StoreError> {
        let _turn = self.turn()?;
        let (mut version, entries) = self.load()?;
        let mut keys = self.keys.read()?.unwrap_or_default();
        if self.keys.is_file() {
            keys.insert(0, Key::generate()?);
        }
        let Some(key) = keys.first() else { return Err(StoreError::SameKey) };
        if !self.keys.is_file() && entries.values().all(|entry| entry.key == key.id()) {
            return Err(StoreError::SameKey);
        }
        let mut sealed = Entries::new();
        for ((tenant, name), entry) in entries.iter() {
            let value = open(&keys, name, entry)?;
            version += 1;
            let entry = seal(key, tenant, name, version, entry.set_at, &value)?;
            sealed.insert((tenant.clone(), name.clone()), entry);
        }
        self.keys.write(&keys)?;
        self.save(version, &sealed)?;
        self.keys.write(keys.get(..1).unwrap_or_default())?;
        Ok((key.id(), sealed.keys().filter(|(tenant, _)| tenant != HOST).count()))
    }

    fn failed(&self) -> impl Fn(io::Error) -> StoreError {
        |source| StoreError::File { path: self.file.clone(), source }
    }

    /// Waits until nobody else changes the store.
    fn turn(&self) -> Result<fs::File, StoreError> {
        let path = self.file.with_extension("lock");
        fs::create_dir_all(path.parent().unwrap_or(Path::new("."))).map_err(self.failed())?;
        let options = fs::File::options().create(true).truncate(false).write(true).open(&path);
        let lock = options.and_then(|lock| lock.lock().map(|()| lock));
        lock.map_err(|source| StoreError::File { path, source })
    }

    /// The last version and the entries. They are read again only when the file is another.
    fn load(&self) -> Result<(u64, Arc<Entries>), StoreError> {
        let metadata = match fs::metadata(&self.file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((0, Arc::default())),
            metadata => metadata.map_err(self.failed())?,
        };
        let stamp = (metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec());
        let last = |entries: &Entries| entries.values().map(|entry| entry.version).max().unwrap_or(0);
        let mut read = self.read.lock();
        if let Some((of, entries)) = &*read
            && *of == stamp
        {
            return Ok((last(entries), entries.clone()));
        }
        if metadata.size() > LARGEST {
            return Err(StoreError::Malformed(self.file.clone()));
        }
        let bytes = fs::read(&self.file).map_err(self.failed())?;
        let (version, entries) = parse(&bytes).ok_or_else(|| StoreError::Malformed(self.file.clone()))?;
        let entries = Arc::new(entries);
        // A removed secret leaves no entry that would say its version.
        *read = (version == last(&entries)).then(|| (stamp, entries.clone()));
        Ok((version, entries))
    }

    fn save(&self, version: u64, entries: &Entries) -> Result<(), StoreError> {
        let file = File { schema: SCHEMA, version, secrets: entries.values().cloned().collect() };
        let bytes = serde_json::to_vec_pretty(&file).map_err(|error| self.failed()(error.into()))?;
        *self.read.lock() = None;
        witan_durable::replace(&self.file, &bytes, witan_durable::OWN).map_err(self.failed())
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("file", &self.file).finish_non_exhaustive()
    }
}

fn parse(bytes: &[u8]) -> Option<(u64, Entries)> {
    let file: File = serde_json::from_slice(bytes).ok()?;
    if file.schema != SCHEMA {
        return None;
    }
    let mut entries = Entries::new();
    for entry in file.secrets {
        let place = (entry.tenant.clone(), entry.name.parse().ok()?);
        if entry.version > file.version || entries.insert(place, entry).is_some() {
            return None;
        }
    }
    Some((file.version, entries))
}

/// What an entry is bound to. Lengths stand before texts, so that no two entries are bound to the same bytes.
fn bound(tenant: &str, name: &SecretName, version: u64) -> Vec<u8> {
    let mut bytes = b"witan secret 1".to_vec();
    for text in [tenant, name.as_str()] {
        bytes.extend((text.len() as u64).to_be_bytes());
        bytes.extend(text.as_bytes());
    }
    bytes.extend(version.to_be_bytes());
    bytes
}

fn seal(
    key: &Key,
    tenant: &str,
    name: &SecretName,
    version: u64,
    set_at: u64,
    value: &Value,
) -> Result<Entry, StoreError> {
    let mut nonce = [0; 24];
    getrandom::fill(&mut nonce).map_err(|_| KeyError::Randomness)?;
    let payload = Payload { msg: value.expose().as_bytes(), aad: &bound(tenant, name, version) };
    let cipher = XChaCha20Poly1305::new(key.bytes().into());
    let sealed = cipher.encrypt(&XNonce::from(nonce), payload).map_err(|_| KeyError::Randomness)?;
    Ok(Entry {
        tenant: tenant.to_owned(),
        name: name.to_string(),
        version,
        set_at,
        key: key.id(),
        nonce: STANDARD.encode(nonce),
        sealed: STANDARD.encode(sealed),
    })
}

fn open(keys: &[Key], name: &SecretName, entry: &Entry) -> Result<Value, StoreError> {
    let Some(key) = keys.iter().find(|key| key.id() == entry.key) else {
        return Err(StoreError::OtherKey {
            tenant: entry.tenant.clone(),
            name: name.clone(),
            found: entry.key.clone(),
        });
    };
    let opened = || {
        let nonce: [u8; 24] = STANDARD.decode(&entry.nonce).ok()?.try_into().ok()?;
        let sealed = STANDARD.decode(&entry.sealed).ok()?;
        let payload = Payload { msg: &sealed, aad: &bound(&entry.tenant, name, entry.version) };
        let value = XChaCha20Poly1305::new(key.bytes().into()).decrypt(&XNonce::from(nonce), payload).ok()?;
        Value::new(value).ok()
    };
    opened().ok_or_else(|| StoreError::Changed { tenant: entry.tenant.clone(), name: name.clone() })
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
