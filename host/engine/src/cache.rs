//! Compiled code, kept on disk between runs.
//!
//! An entry is keyed by the component's bytes, the engine version and the settings that shape code: leave one out,
//! and the host runs machine code that was built for another host. It is authenticated with a key of this host,
//! because loading it is trusting it: whoever can write to the folder, but not read the key, can only make the host
//! compile again.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use crate::settings::CodeSettings;

/// Length of the key and of the tag before each entry.
const TAG: usize = blake3::OUT_LEN;

/// The cache could not be opened or written.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot use the cache of compiled code at `{path}`; remove it, or set `host.cache` to a folder that can be written"
)]
pub struct CacheError {
    /// What was opened or written.
    pub path: PathBuf,
    /// Why it failed.
    #[source]
    pub source: io::Error,
}

/// A folder of compiled code, and the key that vouches for it.
pub struct Cache {
    folder: PathBuf,
    secret: [u8; TAG],
}

/// Names an entry.
pub(crate) struct Key(blake3::Hash);

impl Cache {
    /// Opens the cache in `folder`, which is made if it is missing. The key is read from `secret`, a file that only
    /// this user can read, made on first use.
    ///
    /// # Errors
    /// When the folder or the key cannot be made or read.
    pub fn open(folder: impl Into<PathBuf>, secret: &Path) -> Result<Self, CacheError> {
        let folder = folder.into();
        fs::create_dir_all(&folder).map_err(|source| CacheError { path: folder.clone(), source })?;
        let key = read_or_make_secret(secret).map_err(|source| CacheError { path: secret.to_owned(), source })?;
        Ok(Self { folder, secret: key })
    }

    pub(crate) fn key(&self, bytes: &[u8], settings: &CodeSettings) -> Key {
        let mut hasher = blake3::Hasher::new_derive_key("witan compiled code 1");
        hasher.update(settings.version.as_bytes());
        hasher.update(&settings.memory.to_le_bytes());
        hasher.update(blake3::hash(bytes).as_bytes());
        Key(hasher.finalize())
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.folder.join(format!("{}.code", key.0.to_hex()))
    }

    /// The tag binds the code to its key, so that a genuine entry under another's name is refused as well.
    fn tag(&self, key: &Key, code: &[u8]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.secret);
        hasher.update(key.0.as_bytes());
        hasher.update(code);
        hasher.finalize()
    }

    /// The code under `key`, if there is any that this host wrote.
    pub(crate) fn load(&self, key: &Key) -> Option<Vec<u8>> {
        let mut entry = fs::read(self.path(key)).ok()?;
        if entry.len() < TAG {
            return None;
        }
        let code = entry.split_off(TAG);
        let tag: [u8; TAG] = entry.try_into().ok()?;
        // The comparison of two hashes takes the same time wherever they differ.
        if self.tag(key, &code) == blake3::Hash::from(tag) {
            Some(code)
        } else {
            tracing::warn!(entry = %self.path(key).display(), "a cache entry was not written by this host; compiling again");
            None
        }
    }

    /// Writes `code` under `key`, all or nothing.
    pub(crate) fn store(&self, key: &Key, code: &[u8]) -> Result<(), CacheError> {
        let path = self.path(key);
        let write = || -> io::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
            file.write_all(self.tag(key, code).as_bytes())?;
            file.write_all(code)?;
            file.as_file().sync_data()?;
            file.persist(&path)?;
            Ok(())
        };
        write().map_err(|source| CacheError { path, source })
    }
}

fn read_or_make_secret(path: &Path) -> io::Result<[u8; TAG]> {
    match read_secret(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => return other,
    }
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::create_dir_all(folder)?;
    let mut secret = [0; TAG];
    fs::File::open("/dev/urandom")?.read_exact(&mut secret)?;
    // Whole before it has its name, so that no other process ever reads half of it; its mode is 0600 from the start.
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(&secret)?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(secret),
        // Another process was quicker.
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => read_secret(path),
        Err(error) => Err(error.error),
    }
}

fn read_secret(path: &Path) -> io::Result<[u8; TAG]> {
    let mode = fs::metadata(path)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "others can read this key; make it your own with `chmod 600`",
        ));
    }
    let bytes = fs::read(path)?;
    bytes.try_into().map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not a key; remove it to have one made"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_that_start_together_share_one_key() {
        for _ in 0..50 {
            let folder = tempfile::tempdir().unwrap();
            let open = || Cache::open(folder.path().join("code"), &folder.path().join("key")).map(|cache| cache.secret);
            let secrets: Vec<_> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..4).map(|_| scope.spawn(open)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap().unwrap()).collect()
            });
            assert!(secrets.iter().all(|secret| *secret == secrets[0]));
        }
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (code, key) = (folder.path().join("code"), folder.path().join("key"));
        Cache::open(&code, &key).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(Cache::open(&code, &key).is_err());
    }
}
