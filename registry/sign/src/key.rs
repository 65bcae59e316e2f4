//! Keys: ECDSA on P-256, which every Sigstore client verifies.

use std::fmt;
use std::str::FromStr;

use pkcs8::der::pem::PemLabel;
use pkcs8::{EncryptedPrivateKeyInfoRef, LineEnding, PrivateKeyInfoRef, SecretDocument};
use witan_registry_types::{Digest, DigestError};
use zeroize::Zeroizing;

use crate::sigstore;

/// Why a text or some bytes are not a key that can be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// They are not a public key in one of the forms that are read.
    #[error("this is not a public key that can be verified with: {0}")]
    Public(String),
    /// They are not a private key in one of the forms that are read.
    #[error("this is not a PKCS#8 private key on the curve P-256: {0}")]
    Private(String),
    /// The key is encrypted, and no passphrase was given.
    #[error("the key is encrypted: give its passphrase")]
    PassphraseNeeded,
    /// The key cannot be decrypted.
    #[error("the passphrase is another, or the key file is damaged")]
    Passphrase,
    /// The machine gave no randomness, or the key cannot be encrypted.
    #[error("a key cannot be made: {0}")]
    Make(String),
}

/// What a key is called: the SHA-256 of its public half, as 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(Digest);

impl KeyId {
    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }
}

impl From<Digest> for KeyId {
    fn from(digest: Digest) -> Self {
        Self(digest)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.hex())
    }
}

impl FromStr for KeyId {
    type Err = DigestError;

    /// Reads 64 hexadecimal digits.
    fn from_str(hex: &str) -> Result<Self, DigestError> {
        format!("sha256:{hex}").parse().map(Self)
    }
}

/// The public half of a key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey {
    /// A `SubjectPublicKeyInfo`.
    der: Vec<u8>,
}

impl PublicKey {
    /// The key in a DER-encoded `SubjectPublicKeyInfo`.
    pub fn from_der(der: &[u8]) -> Result<Self, KeyError> {
        sigstore::check_public_key(der).map_err(KeyError::Public)?;
        Ok(Self { der: der.to_vec() })
    }

    /// The DER-encoded `SubjectPublicKeyInfo`.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The key as `-----BEGIN PUBLIC KEY-----`, as `cosign verify --key` reads it.
    pub fn to_pem(&self) -> String {
        sigstore::public_key_pem(&self.der)
    }

    /// What the key is called.
    pub fn id(&self) -> KeyId {
        KeyId(Digest::of(&self.der))
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    /// Reads `-----BEGIN PUBLIC KEY-----`.
    fn from_str(pem: &str) -> Result<Self, KeyError> {
        // A key of any kind has less; what is longer is not looked at.
        const LARGEST: usize = 16 << 10;
        if pem.len() > LARGEST {
            return Err(KeyError::Public(format!("it has more than {LARGEST} bytes")));
        }
        Self::from_der(&sigstore::public_key_der(pem).map_err(KeyError::Public)?)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.id())
    }
}

/// A key that signs. Its private half is wiped when it is dropped and is never shown: only [`SigningKey::to_pem`] gives
/// it away.
pub struct SigningKey {
    private: SecretDocument,
    pair: sigstore::KeyPair,
    public: PublicKey,
}

impl SigningKey {
    /// The largest key file.
    pub(crate) const LARGEST: usize = 16 << 10;

    /// A new key.
    pub fn generate() -> Result<Self, KeyError> {
        let private = sigstore::generate_key().map_err(KeyError::Make)?;
        Self::from_document(SecretDocument::try_from(private.as_slice()).map_err(|e| KeyError::Make(e.to_string()))?)
    }

    /// Reads `-----BEGIN PRIVATE KEY-----`, or with its passphrase `-----BEGIN ENCRYPTED PRIVATE KEY-----`.
    pub fn from_pem(pem: &str, passphrase: Option<&str>) -> Result<Self, KeyError> {
        let private = |error: &dyn fmt::Display| KeyError::Private(error.to_string());
        if pem.len() > Self::LARGEST {
            return Err(KeyError::Private(format!("it has more than {} bytes", Self::LARGEST)));
        }
        let (label, document) = SecretDocument::from_pem(pem).map_err(|error| private(&error))?;
        if EncryptedPrivateKeyInfoRef::validate_pem_label(label).is_ok() {
            let passphrase = passphrase.ok_or(KeyError::PassphraseNeeded)?;
            let encrypted =
                EncryptedPrivateKeyInfoRef::try_from(document.as_bytes()).map_err(|error| private(&error))?;
            return Self::from_document(encrypted.decrypt(passphrase).map_err(|_| KeyError::Passphrase)?);
        }
        PrivateKeyInfoRef::validate_pem_label(label).map_err(|error| private(&error))?;
        Self::from_document(document)
    }

    fn from_document(private: SecretDocument) -> Result<Self, KeyError> {
        let pair = sigstore::KeyPair::from_pkcs8(private.as_bytes()).map_err(KeyError::Private)?;
        let public = PublicKey::from_der(&pair.public_key().map_err(KeyError::Private)?)?;
        Ok(Self { private, pair, public })
    }

    /// The private key as PKCS#8 in PEM. With a passphrase it is encrypted (PBES2: scrypt and AES-256).
    pub fn to_pem(&self, passphrase: Option<&str>) -> Result<Zeroizing<String>, KeyError> {
        let make = |error: &dyn fmt::Display| KeyError::Make(error.to_string());
        let Some(passphrase) = passphrase else {
            let label = PrivateKeyInfoRef::PEM_LABEL;
            return self.private.to_pem(label, LineEnding::LF).map_err(|error| make(&error));
        };
        let info = PrivateKeyInfoRef::try_from(self.private.as_bytes()).map_err(|error| make(&error))?;
        let encrypted = info.encrypt(passphrase).map_err(|error| make(&error))?;
        encrypted.to_pem(EncryptedPrivateKeyInfoRef::PEM_LABEL, LineEnding::LF).map_err(|error| make(&error))
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// What the key is called.
    pub fn id(&self) -> KeyId {
        self.public.id()
    }

    /// An ECDSA signature over the SHA-256 of `message`, DER-encoded.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.pair.sign(message).map_err(KeyError::Make)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_was_written() {
        let key = SigningKey::generate().unwrap();
        let again = SigningKey::from_pem(&key.to_pem(None).unwrap(), None).unwrap();
        assert_eq!(again.public(), key.public());
        assert_eq!(key.public().to_pem().parse::<PublicKey>().unwrap(), *key.public());
        let pem = key.public().to_pem();
        assert!(
            pem.starts_with("-----BEGIN PUBLIC KEY-----\n") && pem.ends_with("-----END PUBLIC KEY-----\n"),
            "{pem:?}"
        );
        assert!(!pem.contains('\r'));
    }

    #[test]
    fn an_encrypted_key_needs_its_passphrase() {
        let key = SigningKey::generate().unwrap();
        let pem = key.to_pem(Some("correct horse")).unwrap();
        assert!(pem.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"));
        assert_eq!(SigningKey::from_pem(&pem, Some("correct horse")).unwrap().id(), key.id());
        assert!(matches!(SigningKey::from_pem(&pem, None), Err(KeyError::PassphraseNeeded)));
        assert!(matches!(SigningKey::from_pem(&pem, Some("another")), Err(KeyError::Passphrase)));
    }

    #[test]
    fn what_is_shown_of_a_key_is_its_name() {
        let key = SigningKey::generate().unwrap();
        assert_eq!(format!("{key:?}"), format!("SigningKey({})", key.id()));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let public = SigningKey::generate().unwrap().public().to_pem();
        for pem in ["", "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n", &public] {
            assert!(SigningKey::from_pem(pem, None).is_err(), "{pem}");
        }
        let private = SigningKey::generate().unwrap().to_pem(None).unwrap();
        for pem in ["", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", &private] {
            assert!(pem.parse::<PublicKey>().is_err());
        }
    }
}
