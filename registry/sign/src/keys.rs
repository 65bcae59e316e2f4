//! The folder in which an operator's keys lie.
//!
//! A key is one file, `NAME.key`: its private half, encrypted or not, and its public half, so that an encrypted key can be
//! listed. It is written whole or not at all, and one that others can read is refused rather than used: whoever could read
//! it can sign.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};
use witan_registry_types::Name;
use zeroize::Zeroizing;

use crate::key::{KeyError, KeyId, PublicKey, SigningKey};

/// Why a key cannot be had from its folder, or put there.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// A file cannot be read or written.
    #[error("cannot use `{}`", .0.display())]
    Io(PathBuf, #[source] io::Error),
    /// Others may read the key, or could have.
    #[error("`{}` has mode {mode:04o}: make it 0600, and replace the key if others may have read it", .file.display())]
    Mode {
        /// The key file.
        file: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Others may put their own keys into the folder.
    #[error("`{}` has mode {mode:04o}, so that others may write there: make it 0700", .folder.display())]
    FolderMode {
        /// The folder.
        folder: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It is a link or something else that is not a plain file.
    #[error("`{}` is not a plain file", .0.display())]
    NotAFile(PathBuf),
    /// The name is taken.
    #[error("there is a key `{0}` already: choose another name, or rotate it")]
    Exists(Name),
    /// There is no such key.
    #[error("there is no key `{0}`: `witan keys list` shows those that there are")]
    Missing(Name),
    /// The key cannot be read.
    #[error("the key in `{}` cannot be used", .0.display())]
    Key(PathBuf, #[source] KeyError),
    /// The two halves in the file are of different keys.
    #[error("`{}` holds the halves of two different keys: replace it", .0.display())]
    Damaged(PathBuf),
}

/// A key in the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInfo {
    /// What the operator calls it.
    pub name: Name,
    /// Its public half.
    pub public: PublicKey,
    /// Whether a passphrase is needed.
    pub encrypted: bool,
    /// The keys that it replaced, the latest last.
    pub replaced: Vec<KeyId>,
}

/// A folder of keys.
#[derive(Debug, Clone)]
pub struct KeyFolder {
    folder: PathBuf,
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> KeysError {
    let path = path.to_owned();
    |error| KeysError::Io(path, error)
}

impl KeyFolder {
    /// The keys in `folder`, which is made if it is not there.
    pub fn open(folder: &Path) -> Result<Self, KeysError> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(at(folder))?;
        let mode = fs::metadata(folder).map_err(at(folder))?.permissions().mode() & 0o7777;
        if mode & 0o022 != 0 {
            return Err(KeysError::FolderMode { folder: folder.to_owned(), mode });
        }
        Ok(Self { folder: folder.to_owned() })
    }

    fn private(&self, name: &Name) -> PathBuf {
        self.folder.join(format!("{name}.key"))
    }

    /// Makes a key and keeps it as `name`; with a passphrase, encrypted.
    pub fn generate(&self, name: &Name, passphrase: Option<&str>) -> Result<SigningKey, KeysError> {
        let private = self.private(name);
        let (key, file) = self.new_key(name, passphrase)?;
        file.persist_noclobber(&private).map_err(|error| match error.error.kind() {
            io::ErrorKind::AlreadyExists => KeysError::Exists(name.clone()),
            _ => KeysError::Io(private, error.error),
        })?;
        self.sync()?;
        Ok(key)
    }

    /// Makes a new key in the place of the one called `name`, and gives back the new one. The old one stays beside it as
    /// `NAME.ID.old`, so that a mistake can be undone; remove it when the rules name the new one.
    pub fn rotate(&self, name: &Name, passphrase: Option<&str>) -> Result<SigningKey, KeysError> {
        let private = self.private(name);
        let old = self.read(name)?.public(&private)?;
        let (key, file) = self.new_key(name, passphrase)?;
        let kept = self.folder.join(format!("{name}.{}.old", old.id()));
        // A second name for the old one first: at no moment is there no key of this name, nor is one lost.
        match fs::hard_link(&private, &kept) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(KeysError::Io(kept, error)),
            _ => file.persist(&private).map_err(|error| KeysError::Io(private, error.error))?,
        };
        self.sync()?;
        Ok(key)
    }

    /// The key called `name`. One that is encrypted needs its passphrase.
    pub fn load(&self, name: &Name, passphrase: Option<&str>) -> Result<SigningKey, KeysError> {
        let path = self.private(name);
        let text = self.read(name)?;
        let key =
            SigningKey::from_pem(text.private(), passphrase).map_err(|error| KeysError::Key(path.clone(), error))?;
        // What was listed and exported is what signs.
        if text.public(&path)? == *key.public() { Ok(key) } else { Err(KeysError::Damaged(path)) }
    }

    /// The public half of the key called `name`, in PEM, for those who verify.
    pub fn export(&self, name: &Name) -> Result<String, KeysError> {
        self.read(name)?.public(&self.private(name)).map(|key| key.to_pem())
    }

    /// All keys, by name.
    pub fn list(&self) -> Result<Vec<KeyInfo>, KeysError> {
        let mut names = Vec::new();
        let mut old: Vec<(std::time::SystemTime, String)> = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(at(&self.folder))? {
            let entry = entry.map_err(at(&self.folder))?;
            let file = entry.file_name().into_string().unwrap_or_default();
            match file.rsplit_once('.') {
                Some((name, "key")) => names.extend(name.parse::<Name>().ok()),
                Some((name, "old")) => {
                    let changed =
                        entry.metadata().and_then(|metadata| metadata.modified()).map_err(at(&entry.path()))?;
                    old.push((changed, name.to_owned()));
                }
                _ => {}
            }
        }
        names.sort();
        old.sort();
        names.into_iter().map(|name| self.info(name, &old)).collect()
    }

    fn info(&self, name: Name, old: &[(std::time::SystemTime, String)]) -> Result<KeyInfo, KeysError> {
        let text = self.read(&name)?;
        let public = text.public(&self.private(&name))?;
        let encrypted = text.private().starts_with("-----BEGIN ENCRYPTED");
        let replaced =
            old.iter().filter_map(|(_, file)| file.strip_prefix(name.as_str())?.strip_prefix('.')?.parse().ok());
        Ok(KeyInfo { public, encrypted, replaced: replaced.collect(), name })
    }

    /// A new key, in a file that has no name yet and is safe on the disk. Its mode is 0600.
    fn new_key(&self, name: &Name, passphrase: Option<&str>) -> Result<(SigningKey, NamedTempFile), KeysError> {
        let made = |error| KeysError::Key(self.private(name), error);
        let key = SigningKey::generate().map_err(made)?;
        let private = key.to_pem(passphrase).map_err(made)?;
        let mut file = Builder::new().prefix(".new-").tempfile_in(&self.folder).map_err(at(&self.folder))?;
        let written =
            file.write_all(private.as_bytes()).and_then(|()| file.write_all(key.public().to_pem().as_bytes()));
        written.and_then(|()| file.as_file().sync_all()).map_err(at(file.path()))?;
        Ok((key, file))
    }

    /// The names are in the folder, which is a file of its own to the disk.
    fn sync(&self) -> Result<(), KeysError> {
        File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(at(&self.folder))
    }

    /// The file of a key, if nobody else may read it.
    fn read(&self, name: &Name) -> Result<KeyText, KeysError> {
        let path = self.private(name);
        let missing = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => KeysError::Missing(name.clone()),
            // What O_NOFOLLOW answers for a link.
            _ if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
                KeysError::NotAFile(path.clone())
            }
            _ => KeysError::Io(path.clone(), error),
        };
        // The file that was looked at is the one that is read: no link, and no second look by name. Without NONBLOCK a
        // pipe in its place would wait for a writer.
        let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits();
        let flags = i32::try_from(flags).unwrap_or_default();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(&path).map_err(missing)?;
        let metadata = file.metadata().map_err(at(&path))?;
        if !metadata.is_file() {
            return Err(KeysError::NotAFile(path));
        }
        let mode = metadata.mode() & 0o7777;
        if mode & 0o177 != 0 {
            return Err(KeysError::Mode { file: path, mode });
        }
        // Its whole length at once: a text that grows leaves copies behind that nobody wipes.
        let mut text = Zeroizing::new(String::with_capacity(SigningKey::LARGEST + 1));
        file.take(SigningKey::LARGEST as u64 + 1).read_to_string(&mut text).map_err(at(&path))?;
        Ok(KeyText(text))
    }
}

/// What a key file says.
struct KeyText(Zeroizing<String>);

impl KeyText {
    const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----";

    fn split(&self) -> (&str, &str) {
        self.0.split_at(self.0.find(Self::PUBLIC).unwrap_or(self.0.len()))
    }

    fn private(&self) -> &str {
        self.split().0
    }

    fn public(&self, file: &Path) -> Result<PublicKey, KeysError> {
        self.split().1.parse().map_err(|error| KeysError::Key(file.to_owned(), error))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_key_is_kept_under_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let keys = KeyFolder::open(&folder.path().join("keys")).unwrap();
        assert_eq!(keys.list().unwrap(), []);
        let key = keys.generate(&name("release"), None).unwrap();
        assert_eq!(keys.load(&name("release"), None).unwrap().id(), key.id());
        assert_eq!(keys.export(&name("release")).unwrap().parse::<PublicKey>().unwrap(), *key.public());
        let file = folder.path().join("keys/release.key");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
        assert!(matches!(keys.generate(&name("release"), None), Err(KeysError::Exists(_))));
        assert!(matches!(keys.load(&name("other"), None), Err(KeysError::Missing(_))));
        let left: Vec<_> = fs::read_dir(folder.path().join("keys")).unwrap().collect();
        assert_eq!(left.len(), 1);
    }

    #[test]
    fn an_encrypted_key_is_listed_without_its_passphrase() {
        let folder = tempfile::tempdir().unwrap();
        let keys = KeyFolder::open(folder.path()).unwrap();
        let key = keys.generate(&name("release"), Some("correct horse")).unwrap();
        let [info] = keys.list().unwrap().try_into().unwrap();
        assert_eq!((info.encrypted, &info.public), (true, key.public()));
        assert!(matches!(keys.load(&name("release"), None), Err(KeysError::Key(_, KeyError::PassphraseNeeded))));
        assert!(keys.load(&name("release"), Some("correct horse")).is_ok());
        let stored = fs::read_to_string(folder.path().join("release.key")).unwrap();
        assert!(stored.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"));
    }

    #[test]
    fn a_key_that_was_replaced_is_kept_beside_the_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let keys = KeyFolder::open(folder.path()).unwrap();
        assert!(matches!(keys.rotate(&name("release"), None), Err(KeysError::Missing(_))));
        let old = keys.generate(&name("release"), None).unwrap();
        let new = keys.rotate(&name("release"), None).unwrap();
        assert_ne!(old.id(), new.id());
        assert_eq!(keys.load(&name("release"), None).unwrap().id(), new.id());
        let [info] = keys.list().unwrap().try_into().unwrap();
        assert_eq!((info.public.id(), info.replaced), (new.id(), vec![old.id()]));
        // A mistake is undone by naming the old file as a key again.
        fs::rename(folder.path().join(format!("release.{}.old", old.id())), folder.path().join("undone.key")).unwrap();
        assert_eq!(keys.load(&name("undone"), None).unwrap().id(), old.id());
    }

    #[test]
    fn a_key_that_others_could_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let keys = KeyFolder::open(folder.path()).unwrap();
        keys.generate(&name("release"), None).unwrap();
        let file = folder.path().join("release.key");
        for mode in [0o640, 0o604, 0o644, 0o660, 0o700] {
            set_mode(&file, mode);
            let refused = keys.load(&name("release"), None);
            assert!(matches!(refused, Err(KeysError::Mode { mode: found, .. }) if found == mode), "{mode:o}");
        }
        set_mode(&file, 0o600);
        assert!(keys.load(&name("release"), None).is_ok());
        set_mode(folder.path(), 0o777);
        assert!(matches!(KeyFolder::open(folder.path()), Err(KeysError::FolderMode { .. })));
    }

    #[test]
    fn the_halves_in_a_file_must_be_of_one_key() {
        let folder = tempfile::tempdir().unwrap();
        let keys = KeyFolder::open(folder.path()).unwrap();
        let one = keys.generate(&name("one"), None).unwrap();
        let other = SigningKey::generate().unwrap();
        let file = folder.path().join("one.key");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text.replace(&one.public().to_pem(), &other.public().to_pem())).unwrap();
        assert!(matches!(keys.load(&name("one"), None), Err(KeysError::Damaged(_))));
        fs::write(&file, "").unwrap();
        assert!(matches!(keys.load(&name("one"), None), Err(KeysError::Key(..))));
    }

    #[test]
    fn a_link_is_no_key() {
        let folder = tempfile::tempdir().unwrap();
        let keys = KeyFolder::open(folder.path()).unwrap();
        keys.generate(&name("release"), None).unwrap();
        symlink(folder.path().join("release.key"), folder.path().join("link.key")).unwrap();
        assert!(matches!(keys.load(&name("link"), None), Err(KeysError::NotAFile(_))));
        fs::create_dir(folder.path().join("folder.key")).unwrap();
        assert!(matches!(keys.load(&name("folder"), None), Err(KeysError::NotAFile(_))));
    }
}
