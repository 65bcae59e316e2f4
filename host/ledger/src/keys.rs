//! The keys of people: a payload is sealed with the key of the person it is about, and is gone when that key is.
//!
//! The keys lie in one file, a line each, for this user alone. They do not keep out who can read the state folder; they
//! make it possible to forget.

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

/// A person's key.
pub(crate) struct Key {
    pub(crate) id: KeyId,
    pub(crate) tenant: String,
    pub(crate) person: String,
    pub(crate) secret: Zeroizing<[u8; 32]>,
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

/// A key as its line has it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    tenant: String,
    person: String,
    key: Text,
}

/// All keys, as the file last had them.
pub(crate) struct Keys {
    path: PathBuf,
    by_id: HashMap<KeyId, Arc<Key>>,
    by_person: HashMap<String, HashMap<String, KeyId>>,
    /// Which file was read, and how much of it.
    seen: Option<(u64, u64)>,
    /// Bytes of the lines in it that are whole.
    whole: u64,
}

impl Keys {
    /// The keys in `folder`.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        let path = folder.join("keys");
        let mut keys = Self { path, by_id: HashMap::new(), by_person: HashMap::new(), seen: None, whole: 0 };
        keys.refresh()?;
        Ok(keys)
    }

    /// Reads the file again where it changed.
    pub(crate) fn refresh(&mut self) -> io::Result<()> {
        let now = match fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            metadata => metadata.map(|metadata| Some((metadata.ino(), metadata.len())))?,
        };
        if now == self.seen {
            return Ok(());
        }
        let bytes = Zeroizing::new(file::read(&self.path)?.unwrap_or_default());
        self.by_id.clear();
        self.by_person.clear();
        // A line that breaks off was never used: a key is durable before anything is sealed with it.
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        for line in bytes[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let damaged = || io::Error::other(format!("`{}` has a line that is no key", self.path.display()));
            let line: Line = serde_json::from_slice(line).map_err(|_| damaged())?;
            let secret: [u8; 32] =
                line.key.bytes().and_then(|key| key.as_slice().try_into().ok()).ok_or_else(damaged)?;
            self.add(line.tenant, line.person, Zeroizing::new(secret));
        }
        (self.seen, self.whole) = (now, whole as u64);
        Ok(())
    }

    fn add(&mut self, tenant: String, person: String, secret: Zeroizing<[u8; 32]>) -> Arc<Key> {
        let key = Arc::new(Key { id: KeyId::of(&secret), tenant, person, secret });
        self.by_person.entry(key.tenant.clone()).or_default().insert(key.person.clone(), key.id);
        self.by_id.insert(key.id, key.clone());
        key
    }

    pub(crate) fn get(&self, id: KeyId) -> Option<&Arc<Key>> {
        self.by_id.get(&id)
    }

    pub(crate) fn ids(&self) -> std::collections::BTreeSet<KeyId> {
        self.by_id.keys().copied().collect()
    }

    pub(crate) fn of(&self, tenant: &str, person: &str) -> Option<Arc<Key>> {
        self.by_person.get(tenant)?.get(person).and_then(|id| self.by_id.get(id)).cloned()
    }

    /// Makes keys for those who have none, durably. Whoever calls this has the journal's turn.
    pub(crate) fn make<'a>(&mut self, people: impl IntoIterator<Item = (&'a str, &'a str)>) -> io::Result<()> {
        let mut lines = Zeroizing::new(Vec::new());
        let mut made = Vec::new();
        for (tenant, person) in people {
            if self.of(tenant, person).is_some() || made.iter().any(|(t, p, _)| *t == tenant && *p == person) {
                continue;
            }
            let mut secret = Zeroizing::new([0; 32]);
            rand::fill(&mut *secret).map_err(|_| io::Error::other("the system has no randomness to give"))?;
            let line = Line { tenant: tenant.to_owned(), person: person.to_owned(), key: Text::of(&*secret) };
            serde_json::to_writer(&mut *lines, &line)?;
            lines.push(b'\n');
            made.push((tenant, person, secret));
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
        for (tenant, person, secret) in made {
            self.add(tenant.to_owned(), person.to_owned(), secret);
        }
        let metadata = file.metadata()?;
        (self.seen, self.whole) = (Some((metadata.ino(), metadata.len())), metadata.len());
        Ok(())
    }

    /// The keys of a person, or of all of a tenant.
    pub(crate) fn held(&self, tenant: &str, person: Option<&str>) -> Vec<KeyId> {
        let of = |key: &&Arc<Key>| key.tenant == tenant && person.is_none_or(|person| key.person == person);
        let mut ids: Vec<KeyId> = self.by_id.values().filter(of).map(|key| key.id).collect();
        ids.sort_unstable();
        ids
    }

    /// Destroys keys: overwrites the file and puts another in its place without them.
    pub(crate) fn destroy(&mut self, ids: &[KeyId]) -> io::Result<()> {
        let mut lines = Zeroizing::new(Vec::new());
        for key in self.by_id.values().filter(|key| !ids.contains(&key.id)) {
            let (tenant, person) = (key.tenant.clone(), key.person.clone());
            let line = Line { tenant, person, key: Text::of(&*key.secret) };
            serde_json::to_writer(&mut *lines, &line)?;
            lines.push(b'\n');
        }
        let old = fs::OpenOptions::new().write(true).open(&self.path)?;
        witan_durable::replace(&self.path, &lines, witan_durable::OWN)?;
        // Nobody finds the old file any more; what the disk keeps of it is overwritten, as far as the disk does that.
        let length = old.metadata()?.len();
        io::copy(&mut io::Read::take(io::repeat(0), length), &mut &old)?;
        old.sync_all()?;
        self.seen = None;
        self.refresh()
    }
}
