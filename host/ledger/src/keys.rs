//! The keys of people: a payload is sealed with the key of the person it is about, and is gone when that key is.
//!
//! The keys lie in one file, a line each, for this user alone. They do not keep out who can read the state folder; they
//! make it possible to forget. A line does not have the name of the person but a hash of it with the ledger's pepper: what
//! the settings keep out of entries is not in this file either.

use std::{
    collections::HashMap,
    fmt, fs,
    io::{self, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use aws_lc_rs::rand;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize as _, Zeroizing};

use crate::file;

/// Names a key without telling it: a part of its hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct KeyId(pub(crate) [u8; 16]);

impl KeyId {
    fn of(secret: &[u8; 32]) -> Self {
        let hash: [u8; 32] = Sha256::new_with_prefix(b"witan-ledger key\n").chain_update(secret).finalize().into();
        let mut id = [0; 16];
        id.copy_from_slice(&hash[..16]);
        Self(id)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for KeyId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let error = || "the name of a key has 32 hexadecimal digits".to_owned();
        let digits: Vec<u8> = text
            .chars()
            .map(|char| char.to_digit(16).and_then(|digit| u8::try_from(digit).ok()).ok_or_else(error))
            .collect::<Result<_, _>>()?;
        let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
        if digits.len() != 32 {
            return Err(error());
        }
        bytes.try_into().map(Self).map_err(|_| error())
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for KeyId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// Hashes names, so that a key can be found for a name and no name for a key, but by trying names with the pepper.
#[derive(Clone)]
pub(crate) struct Namer(Zeroizing<[u8; 32]>);

impl Namer {
    pub(crate) fn new(pepper: Zeroizing<[u8; 32]>) -> Self {
        Self(pepper)
    }

    /// Whose the key of `person` of `tenant` is.
    pub(crate) fn owner(&self, tenant: &str, person: &str) -> Owner {
        Owner { tenant: self.tenant(tenant), person: self.tag("person", &[tenant, person]) }
    }

    /// What the keys of everyone in `tenant` have in common.
    pub(crate) fn tenant(&self, tenant: &str) -> Tag {
        self.tag("tenant", &[tenant])
    }

    fn tag(&self, what: &str, names: &[&str]) -> Tag {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        for part in [&["witan-ledger owner", what], names].concat() {
            hasher.update(&(part.len() as u64).to_be_bytes()).update(part.as_bytes());
        }
        let mut tag = [0; 16];
        hasher.finalize_xof().fill(&mut tag);
        KeyId(tag)
    }
}

/// A hash of a name, as long as that of a key.
pub(crate) type Tag = KeyId;

/// Whose a key is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Owner {
    tenant: Tag,
    person: Tag,
}

/// A person's key.
pub(crate) struct Key {
    pub(crate) id: KeyId,
    whose: Whose,
    pub(crate) secret: Zeroizing<[u8; 32]>,
}

enum Whose {
    Owner(Owner),
    /// As files had it before names were hashed.
    Named {
        tenant: String,
        person: String,
    },
}

/// A secret on its way to or from a file, in Base64.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Text(String);

impl Text {
    pub(crate) fn of(secret: &[u8]) -> Self {
        Self(BASE64_STANDARD.encode(secret))
    }

    pub(crate) fn bytes(&self) -> Option<Zeroizing<Vec<u8>>> {
        BASE64_STANDARD.decode(&self.0).ok().map(Zeroizing::new)
    }
}

impl Drop for Text {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// A key as its line has it: with whose it is, or with the names in the place of that.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    of: Option<Owner>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    person: Option<String>,
    key: Text,
}

impl Line {
    fn of(key: &Key) -> Self {
        let (of, tenant, person) = match &key.whose {
            Whose::Owner(owner) => (Some(*owner), None, None),
            Whose::Named { tenant, person } => (None, Some(tenant.clone()), Some(person.clone())),
        };
        Self { of, tenant, person, key: Text::of(&*key.secret) }
    }

    fn key(self) -> Option<Key> {
        let whose = match (self.of, self.tenant, self.person) {
            (Some(owner), None, None) => Whose::Owner(owner),
            (None, Some(tenant), Some(person)) => Whose::Named { tenant, person },
            _ => return None,
        };
        let secret: [u8; 32] = self.key.bytes()?.as_slice().try_into().ok()?;
        Some(Key { id: KeyId::of(&secret), whose, secret: Zeroizing::new(secret) })
    }
}

/// A file that was read, and how much of it. It stays open: no other gets its number as long as it is.
struct Read {
    file: fs::File,
    length: u64,
}

impl Read {
    /// What the file at `path` has; nothing if there is no file.
    fn at(path: &Path) -> io::Result<Option<(Self, Zeroizing<Vec<u8>>)>> {
        loop {
            let mut file = match fs::File::open(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                file => file?,
            };
            let mut bytes = Zeroizing::new(Vec::new());
            let length = io::Read::read_to_end(&mut file, &mut bytes)? as u64;
            let read = Self { file, length };
            // One that was replaced meanwhile may have been overwritten before it was read.
            if read.length_now(path)?.is_some() {
                return Ok(Some((read, bytes)));
            }
        }
    }

    /// Whether `path` has what was read, and nothing else.
    fn is_all_of(&self, path: &Path) -> io::Result<bool> {
        Ok(self.length_now(path)? == Some(self.length))
    }

    /// How long the file is now; none if it is not at `path` any more.
    fn length_now(&self, path: &Path) -> io::Result<Option<u64>> {
        let now = match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            now => now?,
        };
        Ok((now.ino() == self.file.metadata()?.ino()).then_some(now.len()))
    }
}

/// All keys, as the file last had them.
pub(crate) struct Keys {
    path: PathBuf,
    by_id: HashMap<KeyId, Arc<Key>>,
    by_owner: HashMap<Owner, KeyId>,
    /// What was read.
    seen: Option<Read>,
    /// Bytes of the lines in it that are whole.
    whole: u64,
}

impl Keys {
    /// The keys in `folder`.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        let path = folder.join("keys");
        let mut keys = Self { path, by_id: HashMap::new(), by_owner: HashMap::new(), seen: None, whole: 0 };
        keys.refresh()?;
        Ok(keys)
    }

    /// Reads the file again where it changed.
    pub(crate) fn refresh(&mut self) -> io::Result<()> {
        if let Some(seen) = &self.seen
            && seen.is_all_of(&self.path)?
        {
            return Ok(());
        }
        let (read, bytes) = Read::at(&self.path)?.unzip();
        let bytes = bytes.unwrap_or_default();
        self.by_id.clear();
        self.by_owner.clear();
        // A line that breaks off was never used: a key is durable before anything is sealed with it.
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        for line in bytes[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let damaged = || io::Error::other(format!("`{}` has a line that is no key", self.path.display()));
            let line: Line = serde_json::from_slice(line).map_err(|_| damaged())?;
            let key = line.key().ok_or_else(damaged)?;
            self.add(key);
        }
        (self.seen, self.whole) = (read, whole as u64);
        Ok(())
    }

    fn add(&mut self, key: Key) {
        if let Whose::Owner(owner) = key.whose {
            self.by_owner.insert(owner, key.id);
        }
        self.by_id.insert(key.id, Arc::new(key));
    }

    pub(crate) fn get(&self, id: KeyId) -> Option<&Arc<Key>> {
        self.by_id.get(&id)
    }

    pub(crate) fn ids(&self) -> std::collections::BTreeSet<KeyId> {
        self.by_id.keys().copied().collect()
    }

    pub(crate) fn of(&self, owner: &Owner) -> Option<Arc<Key>> {
        self.by_owner.get(owner).and_then(|id| self.by_id.get(id)).cloned()
    }

    /// Makes keys for those who have none, durably. Whoever calls this has the journal's turn.
    pub(crate) fn make<'a>(&mut self, owners: impl IntoIterator<Item = &'a Owner>) -> io::Result<()> {
        let mut lines = Zeroizing::new(Vec::new());
        let mut made = HashMap::new();
        for owner in owners {
            if self.by_owner.contains_key(owner) || made.contains_key(owner) {
                continue;
            }
            let mut secret = Zeroizing::new([0; 32]);
            rand::fill(&mut *secret).map_err(|_| io::Error::other("the system has no randomness to give"))?;
            let key = Key { id: KeyId::of(&secret), whose: Whose::Owner(*owner), secret };
            serde_json::to_writer(&mut *lines, &Line::of(&key))?;
            lines.push(b'\n');
            made.insert(*owner, key);
        }
        if made.is_empty() {
            return Ok(());
        }
        let fresh = self.seen.is_none();
        let mut file = file::appended(&self.path)?;
        // Behind a line that breaks off, a new one would not be read.
        file.set_len(self.whole)?;
        if let Err(error) = file.write_all(&lines).and_then(|()| file.sync_data()) {
            file.set_len(self.whole)?;
            return Err(error);
        }
        if fresh {
            witan_durable::synchronize(witan_durable::folder(&self.path))?;
        }
        for key in made.into_values() {
            self.add(key);
        }
        let length = file.metadata()?.len();
        (self.seen, self.whole) = (Some(Read { file, length }), length);
        Ok(())
    }

    /// The keys of `person`, or of everyone in `tenant`.
    pub(crate) fn held(&self, namer: &Namer, tenant: &str, person: Option<&str>) -> Vec<KeyId> {
        let (of, everyone) = (person.map(|person| namer.owner(tenant, person)), namer.tenant(tenant));
        let is = |owner: &Owner| of.map_or(owner.tenant == everyone, |of| *owner == of);
        let mut ids: Vec<KeyId> = self.by_owner.iter().filter(|(owner, _)| is(owner)).map(|(_, id)| *id).collect();
        ids.sort_unstable();
        ids
    }

    /// Whether keys are found by hashes, for which the pepper is needed that they were made with.
    pub(crate) fn is_hashed(&self) -> bool {
        !self.by_owner.is_empty()
    }

    /// Puts in order what was left: a file that was never finished, and names that are not hashed yet. Whoever calls this has
    /// the journal's turn.
    pub(crate) fn mend(&mut self, namer: &Namer) -> io::Result<()> {
        self.clear()?;
        self.refresh()?;
        if self.by_id.len() == self.by_owner.len() {
            return Ok(());
        }
        let hashed = |key: &Arc<Key>| {
            let whose = match &key.whose {
                Whose::Owner(owner) => *owner,
                Whose::Named { tenant, person } => namer.owner(tenant, person),
            };
            Key { id: key.id, whose: Whose::Owner(whose), secret: key.secret.clone() }
        };
        let keys: Vec<Key> = self.by_id.values().map(hashed).collect();
        self.rewrite(&keys.iter().collect::<Vec<_>>())
    }

    /// Destroys keys. Whoever calls this has the journal's turn.
    pub(crate) fn destroy(&mut self, ids: &[KeyId]) -> io::Result<()> {
        let kept: Vec<Arc<Key>> = self.by_id.values().filter(|key| !ids.contains(&key.id)).cloned().collect();
        self.rewrite(&kept.iter().map(|key| &**key).collect::<Vec<_>>())
    }

    /// Removes what a process left that was killed while it put a new file in the place of this one: it has keys that may be
    /// destroyed by now. Whoever calls this has the journal's turn, so nobody is putting one there.
    pub(crate) fn clear(&self) -> io::Result<()> {
        let path = self.unfinished();
        match fs::OpenOptions::new().write(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            left => overwrite(&left?)?,
        }
        fs::remove_file(path)?;
        witan_durable::synchronize(witan_durable::folder(&self.path))
    }

    /// Where a new file is written before it is put in the place of the one that there is. It is known by its name.
    fn unfinished(&self) -> PathBuf {
        self.path.with_file_name(format!("{}keys", witan_durable::UNFINISHED))
    }

    /// Puts a file with these keys alone in the place of the one that there is, which is overwritten.
    fn rewrite(&mut self, keys: &[&Key]) -> io::Result<()> {
        let mut lines = Zeroizing::new(Vec::new());
        for key in keys {
            serde_json::to_writer(&mut *lines, &Line::of(key))?;
            lines.push(b'\n');
        }
        self.clear()?;
        let old = fs::OpenOptions::new().write(true).open(&self.path)?;
        let unfinished = self.unfinished();
        let mut new = file::appended(&unfinished)?;
        new.write_all(&lines).and_then(|()| new.sync_all())?;
        fs::rename(unfinished, &self.path)?;
        witan_durable::synchronize(witan_durable::folder(&self.path))?;
        // Nobody finds the old file any more.
        overwrite(&old)?;
        self.seen = None;
        self.refresh()
    }
}

/// Overwrites what the disk keeps of a file, as far as the disk does that.
fn overwrite(mut file: &fs::File) -> io::Result<()> {
    let length = file.metadata()?.len();
    io::copy(&mut io::Read::take(io::repeat(0), length), &mut file)?;
    file.sync_all()
}
