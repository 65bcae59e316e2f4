//! The keys of an issuer: JSON Web Key Sets.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};
use serde::Deserialize;
use serde_json::Value;

use crate::jwt::{Algorithm, Token, TokenError};

/// The largest set.
const LARGEST: usize = 256 << 10;
/// The most keys of a set.
const MOST: usize = 200;

/// Why bytes are no set of keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// There are too many.
    #[error("the key set is larger than 256 KiB or has more than {MOST} keys")]
    TooLarge,
    /// It has not the form of a set.
    #[error("it is no key set: {0}")]
    Malformed(String),
    /// None of its keys can be used.
    #[error("the key set has no key for RS256, ES256 or EdDSA")]
    Empty,
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    alg: Option<String>,
    #[serde(default, rename = "use")]
    purpose: Option<String>,
    #[serde(default)]
    crv: Option<String>,
    #[serde(default)]
    n: Option<String>,
    #[serde(default)]
    e: Option<String>,
    #[serde(default)]
    x: Option<String>,
    #[serde(default)]
    y: Option<String>,
}

#[derive(Debug, Clone)]
enum PublicKey {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// An uncompressed point.
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

impl PublicKey {
    fn algorithm(&self) -> Algorithm {
        match self {
            Self::Rsa { .. } => Algorithm::Rs256,
            Self::P256(_) => Algorithm::Es256,
            Self::Ed25519(_) => Algorithm::EdDsa,
        }
    }

    fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let verified = match self {
            Self::Rsa { n, e } => {
                RsaPublicKeyComponents { n, e }.verify(&signature::RSA_PKCS1_2048_8192_SHA256, message, signature)
            }
            Self::P256(point) => {
                UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
            }
            Self::Ed25519(key) => UnparsedPublicKey::new(&signature::ED25519, key).verify(message, signature),
        };
        verified.is_ok()
    }
}

/// The keys of an issuer that can be used here.
#[derive(Debug, Clone)]
pub struct KeySet(Vec<(Option<String>, PublicKey)>);

impl KeySet {
    /// Reads a JSON Web Key Set. Keys that are for something else are left out.
    ///
    /// # Errors
    /// When it is none, is too large, or has no key that can be used.
    pub fn parse(json: &[u8]) -> Result<Self, KeySetError> {
        if json.len() > LARGEST {
            return Err(KeySetError::TooLarge);
        }
        let set: Set = serde_json::from_slice(json).map_err(|error| KeySetError::Malformed(error.to_string()))?;
        if set.keys.len() > MOST {
            return Err(KeySetError::TooLarge);
        }
        let keys = set.keys.into_iter().filter_map(|key| serde_json::from_value(key).ok()).filter_map(usable);
        let keys: Vec<_> = keys.collect();
        if keys.is_empty() { Err(KeySetError::Empty) } else { Ok(Self(keys)) }
    }

    /// Whether there is a key that `token` may be signed by.
    #[must_use]
    pub fn has_key_for(&self, token: &Token<'_>) -> bool {
        self.key_for(token).is_some()
    }

    /// Whether the key that `token` names has signed it.
    ///
    /// # Errors
    /// When there is no such key, or it has not.
    pub fn verify(&self, token: &Token<'_>) -> Result<(), TokenError> {
        let key = self.key_for(token);
        let key = key.ok_or_else(|| TokenError::Key(crate::fetch::shown(token.kid().unwrap_or_default())))?;
        let (message, signature) = token.signed();
        if key.verify(message, signature) { Ok(()) } else { Err(TokenError::Signature) }
    }

    /// The one key of the token's algorithm and id. A token without an id is of the only key of its algorithm.
    fn key_for(&self, token: &Token<'_>) -> Option<&PublicKey> {
        let fits = |(kid, key): &&(Option<String>, PublicKey)| {
            key.algorithm() == token.algorithm() && (token.kid().is_none() || token.kid() == kid.as_deref())
        };
        let mut fitting = self.0.iter().filter(fits);
        let (first, second) = (fitting.next()?, fitting.next());
        if second.is_some() { None } else { Some(&first.1) }
    }
}

fn usable(jwk: Jwk) -> Option<(Option<String>, PublicKey)> {
    if jwk.purpose.as_deref().is_some_and(|purpose| purpose != "sig") {
        return None;
    }
    let bytes = |text: &Option<String>| BASE64.decode(text.as_deref()?).ok();
    let key = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => {
            // Some write the sign of the number too, which is none of it.
            let n: Vec<u8> = bytes(&jwk.n)?.into_iter().skip_while(|byte| *byte == 0).collect();
            PublicKey::Rsa { n, e: bytes(&jwk.e)? }
        }
        ("EC", Some("P-256")) => {
            let (x, y) = (bytes(&jwk.x)?, bytes(&jwk.y)?);
            if (x.len(), y.len()) != (32, 32) {
                return None;
            }
            PublicKey::P256([&[4], x.as_slice(), y.as_slice()].concat())
        }
        ("OKP", Some("Ed25519")) => PublicKey::Ed25519(bytes(&jwk.x).filter(|x| x.len() == 32)?),
        _ => return None,
    };
    // Ed25519 has a name of its own for the same algorithm.
    let named = jwk.alg.as_deref().map(|alg| if alg == "Ed25519" { "EdDSA" } else { alg });
    let is_of_its_algorithm = named.is_none_or(|alg| alg == key.algorithm().name());
    is_of_its_algorithm.then_some((jwk.kid, key))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn parse(keys: Value) -> Result<KeySet, KeySetError> {
        KeySet::parse(json!({ "keys": keys }).to_string().as_bytes())
    }

    fn ed25519(kid: &str) -> Value {
        json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": BASE64.encode([7; 32])})
    }

    fn token(header: Value) -> String {
        format!("{}.{}.{}", BASE64.encode(header.to_string()), BASE64.encode("{}"), BASE64.encode([0; 64]))
    }

    #[test]
    fn keys_for_something_else_are_left_out() {
        let wrong = json!([
            {"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"},
            {"kty": "EC", "crv": "P-384", "x": "", "y": ""},
            {"kty": "EC", "crv": "P-256", "x": BASE64.encode([1; 31]), "y": BASE64.encode([1; 32])},
            {"kty": "OKP", "crv": "Ed25519", "x": BASE64.encode([1; 31])},
            {"kty": "OKP", "crv": "Ed25519", "x": BASE64.encode([1; 32]), "use": "enc"},
            {"kty": "RSA", "n": "AQAB", "e": "AQAB", "alg": "RS384"},
            {"kty": "RSA", "n": "!", "e": "AQAB"},
            "a key",
        ]);
        assert_eq!(parse(wrong.clone()).unwrap_err(), KeySetError::Empty);
        let mut some = wrong;
        some.as_array_mut().unwrap().push(ed25519("a"));
        assert_eq!(parse(some).unwrap().0.len(), 1);
        let many = vec![ed25519("a"); MOST + 1];
        assert_eq!(parse(json!(many)).unwrap_err(), KeySetError::TooLarge);
        assert_eq!(KeySet::parse(&vec![b' '; LARGEST + 1]).unwrap_err(), KeySetError::TooLarge);
        assert!(matches!(KeySet::parse(b"[]"), Err(KeySetError::Malformed(_))));
    }

    #[test]
    fn a_token_is_of_one_key_of_its_algorithm() {
        let set = parse(json!([ed25519("a"), ed25519("b")])).unwrap();
        let has = |header: Value| set.has_key_for(&Token::parse(&token(header)).unwrap());
        assert!(has(json!({"alg": "EdDSA", "kid": "a"})));
        assert!(!has(json!({"alg": "EdDSA", "kid": "c"})));
        // Another algorithm than the key's, whatever the token says.
        assert!(!has(json!({"alg": "RS256", "kid": "a"})));
        // Which of two it is of cannot be told.
        assert!(!has(json!({"alg": "EdDSA"})));
        let one = parse(json!([ed25519("a")])).unwrap();
        let text = token(json!({"alg": "EdDSA"}));
        assert!(one.has_key_for(&Token::parse(&text).unwrap()));
        assert_eq!(one.verify(&Token::parse(&text).unwrap()), Err(TokenError::Signature));
        let twice = parse(json!([ed25519("a"), ed25519("a")])).unwrap();
        assert!(!twice.has_key_for(&Token::parse(&token(json!({"alg": "EdDSA", "kid": "a"}))).unwrap()));
    }

    proptest! {
        #[test]
        fn whatever_is_fetched_is_a_set_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _refused = KeySet::parse(&bytes);
        }
    }
}
