//! Seals what clients entrust to the host and what lies elsewhere than in the store, such as in the rows of its database.
//!
//! It is sealed with a data key that is made at first use and lies in the store, under the operator key: who replaces that
//! need not touch the rows.

use std::{fmt, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::{Aead as _, Payload},
};
use parking_lot::Mutex;
use zeroize::Zeroizing;

use crate::{
    KeyError, Store, StoreError,
    store::{DATA_KEY, HOST},
};

/// What sealed text begins with.
const PREFIX: &str = "sealed:1:";
const NONCE: usize = 24;

type DataKey = Arc<Zeroizing<[u8; 32]>>;

/// Why something could not be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// There is no key.
    #[error("there is no key to seal or open it with")]
    Store(#[from] StoreError),
    /// It was changed, is of something else, or was sealed by another host.
    #[error(
        "it does not open: it was changed, or sealed with a key that is not in `secrets.json`; restore that file and the \
         operator key from a backup"
    )]
    Changed,
    /// The host ends.
    #[error("the host ends")]
    Ended,
}

/// Seals text, bound to what it is of. Cloning is cheap.
#[derive(Clone)]
pub struct Sealer(Arc<Shared>);

struct Shared {
    store: Store,
    key: Mutex<Option<DataKey>>,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sealer").field(&self.0.store).finish()
    }
}

impl Sealer {
    /// One whose key lies in `store`. Nothing is read yet.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self(Arc::new(Shared { store, key: Mutex::default() }))
    }

    /// Whether `text` has the form of what [`Self::seal`] makes.
    #[must_use]
    pub fn is_sealed(text: &str) -> bool {
        text.starts_with(PREFIX)
    }

    /// Seals `text`, so that it opens as that of `of` alone.
    ///
    /// # Errors
    /// When there is no operator key, or the data key cannot be stored.
    pub async fn seal(&self, of: &[u8], text: &str) -> Result<String, SealError> {
        let key = self.key().await?;
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).map_err(|_| StoreError::Key(KeyError::Randomness))?;
        let payload = Payload { msg: text.as_bytes(), aad: &bound(of) };
        let sealed = XChaCha20Poly1305::new((&**key).into()).encrypt(&XNonce::from(nonce), payload);
        let sealed = sealed.map_err(|_| SealError::Changed)?;
        Ok(format!("{PREFIX}{}", STANDARD.encode([nonce.as_slice(), &sealed].concat())))
    }

    /// Opens what was sealed of `of`.
    ///
    /// # Errors
    /// When it was not, or its key is not here.
    pub async fn open(&self, of: &[u8], sealed: &str) -> Result<Zeroizing<String>, SealError> {
        let key = self.key().await?;
        let opened = || {
            let bytes = STANDARD.decode(sealed.strip_prefix(PREFIX)?).ok()?;
            let (nonce, sealed) = bytes.split_first_chunk::<NONCE>()?;
            let payload = Payload { msg: sealed, aad: &bound(of) };
            let text = XChaCha20Poly1305::new((&**key).into()).decrypt(&XNonce::from(*nonce), payload).ok()?;
            String::from_utf8(text).ok().map(Zeroizing::new)
        };
        opened().ok_or(SealError::Changed)
    }

    async fn key(&self) -> Result<DataKey, SealError> {
        if let Some(key) = &*self.0.key.lock() {
            return Ok(key.clone());
        }
        let shared = self.0.clone();
        // A program may be asked for the operator key, and a person by that.
        let read = tokio::task::spawn_blocking(move || {
            let mut key = shared.key.lock();
            if key.is_none() {
                *key = Some(Arc::new(shared.store.data_key(HOST, DATA_KEY)?));
            }
            key.clone().ok_or(SealError::Ended)
        });
        read.await.map_err(|_| SealError::Ended)?
    }
}

/// What something is bound to.
fn bound(of: &[u8]) -> Vec<u8> {
    [b"witan sealed 1".as_slice(), of].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KeySource;

    #[tokio::test]
    async fn what_is_sealed_opens_as_what_it_is_of_and_outlives_the_operator_key() {
        let folder = tempfile::tempdir().unwrap();
        let store = || Store::new(folder.path(), KeySource::Own(folder.path().join("secrets.key")));
        let sealer = Sealer::new(store());
        let sealed = sealer.seal(b"a", "the secret").await.unwrap();
        assert!(Sealer::is_sealed(&sealed) && !sealed.contains("secret"));
        assert_ne!(sealed, sealer.seal(b"a", "the secret").await.unwrap());
        assert_eq!(*sealer.open(b"a", &sealed).await.unwrap(), "the secret");
        for (of, text) in [(b"b", sealed.clone()), (b"a", sealed.replacen("sealed:1:", "sealed:1:AAAA", 1))] {
            assert!(matches!(sealer.open(of, &text).await, Err(SealError::Changed)), "{text}");
        }
        // It is no secret of a tenant's, and is kept when the key is replaced.
        assert!(store().list().unwrap().is_empty());
        assert_eq!(store().rotate_key().unwrap().1, 0);
        assert_eq!(*Sealer::new(store()).open(b"a", &sealed).await.unwrap(), "the secret");
    }
}
