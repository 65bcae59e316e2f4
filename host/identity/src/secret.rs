//! Secrets: random, recognisable, shown once, kept as hashes.

use std::fmt;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::IdentityError;

/// What an API key begins with, so that one that leaked is found by those who look for such.
pub(crate) const KEY: &str = "witan_sk_";
/// What a refresh token begins with.
pub(crate) const REFRESH: &str = "witan_rt_";
/// What the code begins with that a login ends with on the command line.
pub(crate) const CODE: &str = "witan_lc_";

/// Letters of a secret that are kept beside its hash, so that its owner knows it again: the prefix and 24 bits.
const HINT: usize = 4;

/// The longest text that is looked up as a secret.
const LONGEST: usize = 128;

/// A secret. It is not kept, and cannot be shown again.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// A new one of 256 random bits that begins with `prefix`.
    pub(crate) fn generate(prefix: &str) -> Result<Self, IdentityError> {
        let random = random()?;
        Ok(Self(Zeroizing::new(format!("{prefix}{}", BASE64.encode(*random)))))
    }

    /// A text that is a secret.
    pub(crate) fn of(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The secret itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// How the secret is kept.
    pub(crate) fn hash(&self) -> String {
        hash(&self.0)
    }

    /// What of it may be shown.
    pub(crate) fn hint(&self, prefix: &str) -> String {
        self.0.chars().take(prefix.len() + HINT).collect()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// 256 random bits.
pub(crate) fn random() -> Result<Zeroizing<[u8; 32]>, IdentityError> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *bytes).map_err(|_| IdentityError::Random)?;
    Ok(bytes)
}

/// How the secret `text` is kept. It has 256 random bits, so that a hash without salt and stretching says nothing of it.
pub(crate) fn hash(text: &str) -> String {
    digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Whether `text` may be a secret that begins with `prefix`.
pub(crate) fn is_secret(text: &str, prefix: &str) -> bool {
    text.len() <= LONGEST && text.starts_with(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_random_recognisable_and_hidden() {
        let (one, other) = (Secret::generate(KEY).unwrap(), Secret::generate(KEY).unwrap());
        assert_ne!(one.expose(), other.expose());
        assert!(is_secret(one.expose(), KEY) && !is_secret(one.expose(), REFRESH));
        assert_eq!(one.expose().len(), KEY.len() + 43);
        assert_eq!(one.hint(KEY).len(), KEY.len() + HINT);
        assert!(!format!("{one:?}").contains(one.expose()));
        assert_eq!(one.hash(), hash(one.expose()));
        assert_eq!(one.hash().len(), 64);
        assert!(!is_secret(&format!("{KEY}{}", "a".repeat(LONGEST)), KEY));
    }
}
