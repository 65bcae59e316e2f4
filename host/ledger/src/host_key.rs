//! The key that a host signs its checkpoints with, and those that it signed with before.
//!
//! Each key after the first is named in a statement that the one before it signed, so that whoever knows an old key can
//! verify a newer checkpoint. The list of public keys is no secret; `host.key` is.

use std::{fs, io, os::unix::fs::PermissionsExt as _, path::Path};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use witan_merkle_log::{KeyError, PublicKey, SigningKey, Witness};
use zeroize::Zeroizing;

use crate::{entry::now_ms, file, keys::Text};

const SECRET: &str = "host.key";
const LIST: &str = "host-keys.jsonl";
/// Rotations that are read.
const MOST: usize = 10_000;

/// Why the keys of a ledger cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HostKeyError {
    /// A file cannot be read or written.
    #[error("the keys of the ledger cannot be read or written")]
    Disk(#[source] io::Error),
    /// Others may read the key.
    #[error("`{0}` may be read by others: make its mode 0600, and replace the key with `witan audit rotate-key`")]
    Mode(std::path::PathBuf),
    /// The list does not hold.
    #[error("the list of the ledger's keys does not hold: {0}")]
    Chain(String),
    /// The key is not one of the list.
    #[error("the ledger is not signed with the key that was given, nor with one that followed it")]
    Foreign,
    /// The library failed.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// A public key, with the word of the one before it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Link {
    /// SubjectPublicKeyInfo in DER, in Base64.
    key: String,
    /// When, in milliseconds since the Unix epoch.
    time_ms: u64,
    /// How many entries the log had.
    size: u64,
    /// By the key before, in Base64; none for the first.
    signature: Option<String>,
}

impl Link {
    fn message(&self, origin: &str) -> String {
        format!("witan-ledger key\n{origin}\n{}\n{}\n{}\n", self.size, self.time_ms, self.key)
    }

    fn public(&self) -> Result<PublicKey, HostKeyError> {
        let der = BASE64_STANDARD.decode(&self.key).map_err(|_| chain("a key is not in Base64"))?;
        Ok(PublicKey::from_der(&der)?)
    }
}

fn chain(what: impl Into<String>) -> HostKeyError {
    HostKeyError::Chain(what.into())
}

/// The public keys of a ledger, the first one first.
#[derive(Clone, Debug)]
pub struct HostKeys {
    origin: String,
    links: Vec<Link>,
    keys: Vec<PublicKey>,
}

impl HostKeys {
    /// Checks a list: each key after the first is signed for by the one before it.
    pub(crate) fn new(links: Vec<Link>) -> Result<Self, HostKeyError> {
        if links.is_empty() || links.len() > MOST {
            return Err(chain(format!("it has {} keys", links.len())));
        }
        let keys: Vec<PublicKey> = links.iter().map(Link::public).collect::<Result<_, _>>()?;
        let id: String = keys[0].id()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        let origin = format!("witan-ledger-{id}");
        for (before, link) in keys.iter().zip(links.iter().skip(1)) {
            let signature = link.signature.as_deref().and_then(|text| BASE64_STANDARD.decode(text).ok());
            if !signature.is_some_and(|signature| before.verifies(link.message(&origin).as_bytes(), &signature)) {
                return Err(chain("a key is not signed for by the one before it"));
            }
        }
        Ok(Self { origin, links, keys })
    }

    /// The keys of the ledger in `folder`.
    ///
    /// # Errors
    /// When there are none, and when they do not hold.
    pub fn read(folder: &Path) -> Result<Self, HostKeyError> {
        let text = fs::read_to_string(folder.join(LIST)).map_err(HostKeyError::Disk)?;
        let links = text.lines().map(serde_json::from_str).collect::<Result<_, _>>();
        Self::new(links.map_err(|error| chain(error.to_string()))?)
    }

    /// The keys that are in `lines`, as [`Self::lines`] gives them.
    ///
    /// # Errors
    /// When they do not hold.
    pub fn from_lines(lines: &[String]) -> Result<Self, HostKeyError> {
        let links = lines.iter().map(|line| serde_json::from_str(line)).collect::<Result<_, _>>();
        Self::new(links.map_err(|error| chain(error.to_string()))?)
    }

    /// The keys as others verify them: a line of JSON each.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.links.iter().filter_map(|link| serde_json::to_string(link).ok()).collect()
    }

    /// What the log calls itself, and its signatures: it is made of the first key.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// All keys, the first one first.
    #[must_use]
    pub fn all(&self) -> &[PublicKey] {
        &self.keys
    }

    /// The key that is signed with now.
    #[must_use]
    pub fn current(&self) -> &PublicKey {
        &self.keys[self.keys.len() - 1]
    }

    pub(crate) fn links(&self) -> &[Link] {
        &self.links
    }

    /// The keys from `pinned` on, or all where nothing is pinned.
    ///
    /// # Errors
    /// When it is none of them.
    pub(crate) fn from(&self, pinned: Option<&PublicKey>) -> Result<&[PublicKey], HostKeyError> {
        let Some(pinned) = pinned else { return Ok(&self.keys) };
        let place = self.keys.iter().position(|key| key.id() == pinned.id()).ok_or(HostKeyError::Foreign)?;
        Ok(&self.keys[place..])
    }

    /// The time that one of `keys` binds `checkpoint` to, in seconds since 1970.
    pub(crate) fn time_of(&self, keys: &[PublicKey], checkpoint: &witan_merkle_log::Checkpoint) -> Option<u64> {
        let witnesses = keys.iter().filter_map(|key| key.witness(&self.origin));
        witnesses.filter_map(|witness: Witness| witness.on(checkpoint)).map(|signature| signature.time()).max()
    }
}

/// The secret key, with the public ones.
pub(crate) struct HostKey {
    pkcs8: Zeroizing<Vec<u8>>,
    pub(crate) public: HostKeys,
}

/// `host.key`: one file, so that a crash leaves no key without its place in the list.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Secret {
    /// PKCS #8 in DER, in Base64.
    secret: Text,
    keys: Vec<Link>,
}

impl HostKey {
    /// The key in `folder`, made where there is none.
    pub(crate) fn open(folder: &Path) -> Result<Self, HostKeyError> {
        let path = folder.join(SECRET);
        let Some(json) = file::read(&path).map_err(HostKeyError::Disk)?.map(Zeroizing::new) else {
            return Self::make(folder, None);
        };
        if fs::metadata(&path).map_err(HostKeyError::Disk)?.permissions().mode() & 0o077 != 0 {
            return Err(HostKeyError::Mode(path));
        }
        let secret: Secret = serde_json::from_slice(&json).map_err(|_| chain("`host.key` is not what it was"))?;
        let pkcs8 = secret.secret.bytes().ok_or_else(|| chain("`host.key` is not what it was"))?;
        let key = Self { pkcs8, public: HostKeys::new(secret.keys)? };
        if key.signing()?.public()?.id() != key.public.current().id() {
            return Err(chain("the key in `host.key` is not the newest of its list"));
        }
        let list = key.public.lines().join("\n") + "\n";
        if file::read(&folder.join(LIST)).map_err(HostKeyError::Disk)?.as_deref() != Some(list.as_bytes()) {
            witan_durable::replace(&folder.join(LIST), list.as_bytes(), witan_durable::OWN)
                .map_err(HostKeyError::Disk)?;
        }
        Ok(key)
    }

    pub(crate) fn signing(&self) -> Result<SigningKey, HostKeyError> {
        Ok(SigningKey::from_pkcs8(&self.pkcs8)?)
    }

    /// Puts a new key in the place of this one, which signs for it. The log has `size` entries.
    pub(crate) fn rotate(&self, folder: &Path, size: u64) -> Result<Self, HostKeyError> {
        Self::make(folder, Some((self, size)))
    }

    fn make(folder: &Path, before: Option<(&Self, u64)>) -> Result<Self, HostKeyError> {
        let key = SigningKey::generate_ed25519()?;
        let secret = Text::of(&Zeroizing::new(key.to_pkcs8()?));
        let mut link = Link {
            key: BASE64_STANDARD.encode(key.public()?.der()),
            time_ms: now_ms(),
            size: before.map_or(0, |(_, size)| size),
            signature: None,
        };
        let mut keys = Vec::new();
        if let Some((before, _)) = before {
            let signature = before.signing()?.sign(link.message(before.public.origin()).as_bytes())?;
            link.signature = Some(BASE64_STANDARD.encode(signature));
            keys.extend(before.public.links.iter().cloned());
        }
        keys.push(link);
        let json =
            Zeroizing::new(serde_json::to_vec(&Secret { secret, keys }).map_err(|error| chain(error.to_string()))?);
        witan_durable::replace(&folder.join(SECRET), &json, witan_durable::OWN).map_err(HostKeyError::Disk)?;
        Self::open(folder)
    }
}
