//! The key of this machine, which signs what is built here and is trusted for local files alone.
//!
//! It says that nobody changed a component since it was built, and nothing of who wrote it. No registry, no log and no
//! other machine knows it.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use witan_registry_component::{Component, ComponentError};
use witan_registry_sign::{
    Attestation, KeyFolder, KeyId, KeysError, PackagePattern, PublicKey, Release, Rule, SignError, Signed, SigningKey,
    Statement, TrustPolicy, TrustRoot, TrustedKey, evaluate, trusted_root,
};
use witan_registry_types::{Digest, Name, NameError, Package};
use witan_system::Ceiling;

use crate::refused::in_full;
use crate::{FileError, file};

/// What the name of a component's file is followed by in the name of its signature's.
pub const BUNDLE_SUFFIX: &str = ".sigstore.json";

/// The largest signature file.
pub(crate) const LARGEST_BUNDLE: u64 = 1 << 20;

/// Why the key of this machine cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DevelopmentError {
    /// There is no folder to keep it in.
    #[error("no folder is known for the development key; set `HOME`, `XDG_STATE_HOME` or `WITAN_DEVELOPMENT`")]
    NoFolder,
    /// It cannot be read or made.
    #[error("cannot use the development key")]
    Key(#[from] KeysError),
    /// What is to be signed is no component.
    #[error("cannot sign `{}`", .0.display())]
    Component(PathBuf, #[source] ComponentError),
    /// It cannot sign.
    #[error("cannot sign")]
    Sign(#[from] SignError),
    /// A name of ours is none; a fault of this program.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The key of this machine.
#[derive(Debug, Clone)]
pub struct Development {
    keys: KeyFolder,
}

impl Development {
    /// The folder of the key: `$WITAN_DEVELOPMENT`, else `witan/development` below `$XDG_STATE_HOME` or `~/.local/state`.
    pub fn folder() -> Result<PathBuf, DevelopmentError> {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Some(folder) = set("WITAN_DEVELOPMENT") {
            return Ok(folder);
        }
        let state = set("XDG_STATE_HOME").or_else(|| set("HOME").map(|home| home.join(".local/state")));
        state.map(|state| state.join("witan/development")).ok_or(DevelopmentError::NoFolder)
    }

    /// The key in `folder`, which is made when something is signed.
    pub fn at(folder: &Path) -> Result<Self, DevelopmentError> {
        Ok(Self { keys: KeyFolder::open(folder)? })
    }

    /// Its public half, if it has been made.
    pub fn public(&self) -> Result<Option<PublicKey>, DevelopmentError> {
        let name = name()?;
        let found = self.keys.list()?.into_iter().find(|info| info.name == name);
        Ok(found.map(|info| info.public))
    }

    /// The key's name for others, such as a stamp of what it signed; made with the key on first use.
    pub fn id(&self) -> Result<KeyId, DevelopmentError> {
        match self.public()? {
            Some(key) => Ok(key.id()),
            None => Ok(self.key()?.id()),
        }
    }

    /// Signs the component in `wasm`, whose bytes are `bytes` and which has just been built, and puts the signature beside
    /// it. One that is there and counts for the same ceiling is left.
    pub fn sign(&self, wasm: &Path, bytes: &[u8], ceiling: &Ceiling) -> Result<(), DevelopmentError> {
        let component = Component::read(bytes).map_err(|error| DevelopmentError::Component(wasm.to_owned(), error))?;
        let release = Release::new(ceiling.clone(), component.wit_digest());
        let key = self.key()?;
        let path = bundle_path(wasm);
        let digest = Digest::of(bytes);
        let stands = file::read(&path, LARGEST_BUNDLE)?
            .is_some_and(|bundle| verify(key.public(), &digest, bundle.as_bytes()).is_ok_and(|found| found == release));
        if stands {
            return Ok(());
        }
        let predicate = release.to_predicate();
        let statement = Statement { package: package()?, digest, attestation: Attestation::Release, predicate };
        let bundle = Signed::with_key(&statement, &key)?.unlogged()?;
        Ok(file::replace(&path, &String::from_utf8_lossy(&bundle))?)
    }

    fn key(&self) -> Result<SigningKey, DevelopmentError> {
        let name = name()?;
        match self.keys.load(&name, None) {
            Err(KeysError::Missing(_)) => match self.keys.generate(&name, None) {
                // Another process was quicker.
                Err(KeysError::Exists(_)) => Ok(self.keys.load(&name, None)?),
                made => Ok(made?),
            },
            found => Ok(found?),
        }
    }
}

/// Where the signature of the component in `wasm` lies.
pub fn bundle_path(wasm: &Path) -> PathBuf {
    let mut path = wasm.as_os_str().to_owned();
    path.push(BUNDLE_SUFFIX);
    path.into()
}

/// What `bundle` says of the bytes with `digest`, if this machine's `key` signed it.
pub(crate) fn verify(key: &PublicKey, digest: &Digest, bundle: &[u8]) -> Result<Release, String> {
    let rule = Rule {
        packages: PackagePattern::All,
        keys: vec![TrustedKey { key: key.clone(), not_after: None }],
        identities: Vec::new(),
        threshold: 1,
        require: [Attestation::Release].into(),
        allow_unlogged: true,
    };
    let now = SystemTime::now();
    let policy = TrustPolicy::new(vec![rule], TrustPolicy::MAX_AGE).map_err(|error| error.to_string())?;
    let root = TrustRoot::parse(&trusted_root(&[]), now).map_err(|error| error.to_string())?;
    let package = package().map_err(|error| error.to_string())?;
    match evaluate(&policy, &root, &package, digest, &[bundle.to_vec()], now) {
        Ok(verified) => Ok(verified.release),
        Err(refusal) => Err(match refusal.rejected().first() {
            Some(rejected) => in_full(&rejected.reason),
            None => refusal.to_string(),
        }),
    }
}

/// What local components are called in their statements: a file has no name that a signature could bind.
fn package() -> Result<Package, NameError> {
    "local:component@0.0.0".parse()
}

/// What the key is called in its folder.
fn name() -> Result<Name, NameError> {
    "development".parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

    #[test]
    fn what_this_machine_built_counts_and_nothing_else_does() {
        let folder = tempfile::tempdir().unwrap();
        let wasm = folder.path().join("a.wasm");
        let own = Development::at(&folder.path().join("keys")).unwrap();
        assert!(own.public().unwrap().is_none());
        own.sign(&wasm, EMPTY, &Ceiling::default()).unwrap();
        let key = own.public().unwrap().unwrap();
        let bundle = std::fs::read(bundle_path(&wasm)).unwrap();
        assert!(verify(&key, &Digest::of(EMPTY), &bundle).unwrap().ceiling.is_empty());
        let error = verify(&key, &Digest::of(b"changed"), &bundle).unwrap_err();
        assert!(error.contains("the statement is about sha256:"), "{error}");

        let other = Development::at(&folder.path().join("others")).unwrap();
        other.sign(&folder.path().join("b.wasm"), EMPTY, &Ceiling::default()).unwrap();
        let error = verify(&other.public().unwrap().unwrap(), &Digest::of(EMPTY), &bundle).unwrap_err();
        assert!(error.contains("is not trusted"), "{error}");
    }

    #[test]
    fn a_signature_that_stands_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let wasm = folder.path().join("a.wasm");
        let own = Development::at(folder.path()).unwrap();
        own.sign(&wasm, EMPTY, &Ceiling::default()).unwrap();
        let first = std::fs::read(bundle_path(&wasm)).unwrap();
        own.sign(&wasm, EMPTY, &Ceiling::default()).unwrap();
        assert_eq!(std::fs::read(bundle_path(&wasm)).unwrap(), first);
        own.sign(&wasm, EMPTY, &Ceiling { wall_clock: true, ..Ceiling::default() }).unwrap();
        assert_ne!(std::fs::read(bundle_path(&wasm)).unwrap(), first);
    }
}
