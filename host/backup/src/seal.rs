//! An encrypted backup: the archive in chunks, each sealed by itself.
//!
//! First stands a line that says the form, then which key it was sealed under, then a random start of nonces. A chunk is 64 KiB
//! of the archive, sealed with XChaCha20-Poly1305; its nonce has its number and whether it is the last, and what stands before
//! all chunks is authenticated with each. So that none can be changed, left out, moved or taken from another backup, and the
//! end cannot be cut off, without the key; and neither side holds more than two chunks.

use std::io::{self, Read, Write};

use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::{Aead as _, Payload},
};
use zeroize::Zeroizing;

use crate::BackupError;

/// What an encrypted backup begins with; the number is the version of the form.
const FORM: &[u8] = b"witan-backup-encrypted 1\n";
/// What every version of it begins with.
const START: &[u8] = b"witan-backup-encrypted ";
const ID: usize = 8;
const PREFIX: usize = 19;
const HEAD: usize = FORM.len() + ID + PREFIX;
/// How much is sealed at once, and what that adds.
const CHUNK: usize = 64 << 10;
const TAG: usize = 16;

/// A key that backups are encrypted under.
#[derive(Clone)]
pub struct Key(Zeroizing<[u8; 32]>);

impl Key {
    /// The key of these bytes, which nobody can guess: a passphrase is none.
    #[must_use]
    pub fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    /// What tells it from others, and says nothing of it.
    #[must_use]
    pub fn id(&self) -> String {
        self.short().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn short(&self) -> [u8; ID] {
        let mut id = [0; ID];
        id.copy_from_slice(&blake3::derive_key("witan backup key id 1", self.0.as_slice())[..ID]);
        id
    }

    /// What seals backups; the same key may do other work elsewhere.
    fn cipher(&self) -> XChaCha20Poly1305 {
        let own = Zeroizing::new(blake3::derive_key("witan backup encryption 1", self.0.as_slice()));
        XChaCha20Poly1305::new((&*own).into())
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({})", self.id())
    }
}

/// What both sides know of a backup: under what, and in which order.
struct Sequence {
    cipher: XChaCha20Poly1305,
    head: [u8; HEAD],
    next: u32,
}

impl Sequence {
    fn nonce(&mut self, last: bool) -> io::Result<XNonce> {
        let mut nonce = [0; 24];
        nonce[..PREFIX].copy_from_slice(&self.head[FORM.len() + ID..]);
        nonce[PREFIX..PREFIX + 4].copy_from_slice(&self.next.to_be_bytes());
        nonce[23] = u8::from(last);
        self.next = self.next.checked_add(1).ok_or_else(|| io::Error::other("a backup of more than 256 TiB"))?;
        Ok(XNonce::from(nonce))
    }
}

/// Encrypts what is written.
pub(crate) struct Sealing<W> {
    sequence: Sequence,
    chunk: Zeroizing<Vec<u8>>,
    to: W,
}

impl<W: Write> Sealing<W> {
    pub(crate) fn new(key: &Key, mut to: W) -> io::Result<Self> {
        let mut head = [0; HEAD];
        head[..FORM.len()].copy_from_slice(FORM);
        head[FORM.len()..FORM.len() + ID].copy_from_slice(&key.short());
        getrandom::fill(&mut head[FORM.len() + ID..]).map_err(|error| io::Error::other(error.to_string()))?;
        to.write_all(&head)?;
        let sequence = Sequence { cipher: key.cipher(), head, next: 0 };
        Ok(Self { sequence, chunk: Zeroizing::new(Vec::with_capacity(CHUNK)), to })
    }

    fn seal(&mut self, last: bool) -> io::Result<()> {
        let nonce = self.sequence.nonce(last)?;
        let payload = Payload { msg: &self.chunk, aad: &self.sequence.head };
        let sealed = self.sequence.cipher.encrypt(&nonce, payload);
        self.to.write_all(&sealed.map_err(|_| io::Error::other("a chunk cannot be encrypted"))?)?;
        self.chunk.clear();
        Ok(())
    }

    /// Seals what is left. Without it, a backup has no end, and is none.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.seal(true)?;
        self.to.flush()
    }
}

impl<W: Write> Write for Sealing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.chunk.len() == CHUNK {
            self.seal(false)?;
        }
        let taken = bytes.len().min(CHUNK - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    /// Chunks are whole: what is not, waits.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A backup, whether it is encrypted or not. To read it is to decrypt it.
pub struct Opened<R>(Form<R>);

enum Form<R> {
    Plain(io::Chain<io::Cursor<Vec<u8>>, R>),
    Sealed(Box<Sealed<R>>),
}

struct Sealed<R> {
    sequence: Sequence,
    from: R,
    /// The chunk after the one that is read: where there is none, that one is the last.
    ahead: Vec<u8>,
    chunk: Zeroizing<Vec<u8>>,
    at: usize,
    ended: bool,
}

/// Opens `backup`: one that is encrypted with the one of `keys` that it was encrypted under, and one that is not where there
/// are none. Who names a key expects an encrypted one, and could be given anything otherwise.
///
/// # Errors
/// When it cannot be read, is encrypted otherwise than that, or of a newer form.
pub fn open<R: Read>(mut backup: R, keys: &[Key]) -> Result<Opened<R>, BackupError> {
    let unreadable = |error: io::Error| BackupError::Malformed(error.to_string());
    let start = some(&mut backup, START.len()).map_err(unreadable)?;
    if start != START {
        return match keys {
            [] => Ok(Opened(Form::Plain(io::Cursor::new(start).chain(backup)))),
            _ => Err(BackupError::InTheClear),
        };
    }
    let rest = some(&mut backup, HEAD - START.len()).map_err(unreadable)?;
    let head: [u8; HEAD] =
        [start, rest].concat().try_into().map_err(|_| BackupError::Damaged("its head".to_owned()))?;
    if !head.starts_with(FORM) {
        let found = String::from_utf8_lossy(&head[START.len()..FORM.len() - 1]).into_owned();
        return Err(BackupError::Malformed(format!("it is encrypted in the form {found:?}, which is not known here")));
    }
    let id = &head[FORM.len()..FORM.len() + ID];
    let needed = || id.iter().map(|byte| format!("{byte:02x}")).collect();
    let key = match keys.iter().find(|key| key.short() == id) {
        Some(key) => key,
        None if keys.is_empty() => return Err(BackupError::Encrypted(needed())),
        None => return Err(BackupError::OtherKey(needed())),
    };
    let sequence = Sequence { cipher: key.cipher(), head, next: 0 };
    let ahead = some(&mut backup, CHUNK + TAG).map_err(unreadable)?;
    let chunk = Zeroizing::new(Vec::new());
    Ok(Opened(Form::Sealed(Box::new(Sealed { sequence, from: backup, ahead, chunk, at: 0, ended: false }))))
}

/// The next `most` bytes, or as many as there are.
fn some(from: &mut impl Read, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(most as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

impl<R: Read> Sealed<R> {
    /// Opens the next chunk, if there is one.
    fn advance(&mut self) -> io::Result<()> {
        let sealed = std::mem::replace(&mut self.ahead, some(&mut self.from, CHUNK + TAG)?);
        let last = self.ahead.is_empty();
        let nonce = self.sequence.nonce(last)?;
        let opened = self.sequence.cipher.decrypt(&nonce, Payload { msg: &sealed, aad: &self.sequence.head });
        // The marker of what is damaged, whoever passes it on.
        let opened = opened.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it was changed or cut off"))?;
        (self.chunk, self.at, self.ended) = (Zeroizing::new(opened), 0, last);
        Ok(())
    }
}

impl<R: Read> Read for Opened<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let sealed = match &mut self.0 {
            Form::Plain(plain) => return plain.read(buffer),
            Form::Sealed(sealed) => sealed,
        };
        while sealed.at == sealed.chunk.len() && !sealed.ended {
            sealed.advance()?;
        }
        let mut left = &sealed.chunk[sealed.at..];
        let read = left.read(buffer)?;
        sealed.at += read;
        Ok(read)
    }
}
