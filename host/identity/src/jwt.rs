//! Signed tokens: JSON Web Tokens in their compact form.
//!
//! Three algorithms are known, all of key pairs. What a token says of itself never chooses how it is verified beyond which of
//! these it is: a key is of one algorithm, and a token that names another is refused. So `none` and signatures by a shared
//! secret, with a public key for one, have no way in.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use serde::Deserialize;
use serde_json::{Map, Value};

/// The longest token.
const LONGEST: usize = 16 << 10;
/// The longest id of a key.
const LONGEST_KID: usize = 256;

/// Why a text is no token, or a token is not good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It has not the form of one.
    #[error("it has not the form of a signed token")]
    Malformed,
    /// It is longer than is taken.
    #[error("the token is longer than 16 KiB")]
    TooLong,
    /// It is signed in a way that is not taken.
    #[error("the token is signed by `{0}`; RS256, ES256 and EdDSA are taken")]
    Algorithm(String),
    /// It asks for what is not known here.
    #[error("the token has a critical header that is not known here")]
    Critical,
    /// Nobody has signed it whom it says.
    #[error("the signature of the token is not of its issuer")]
    Signature,
    /// The issuer has no such key.
    #[error("the issuer has no key `{0}` for it")]
    Key(String),
    /// It is of somebody who vouches for nobody here.
    #[error("the issuer `{0}` is not known here")]
    Issuer(String),
    /// It is for somebody else.
    #[error("the token is for another audience")]
    Audience,
    /// It has ended, or says not when it ends.
    #[error("the token has ended, or does not say when it ends")]
    Ended,
    /// It is not good yet.
    #[error("the token is not good yet")]
    Early,
    /// It lacks something.
    #[error("the token has no `{0}`, or not of its form")]
    Claim(String),
}

/// How a token is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// RSA PKCS#1 1.5 with SHA-256.
    Rs256,
    /// ECDSA over P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Rs256, Self::Es256, Self::EdDsa].into_iter().find(|algorithm| algorithm.name() == text)
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    crit: Option<Value>,
}

/// A token as it was sent: its parts, of which nothing is believed until its signature is verified.
#[derive(Debug, Clone)]
pub struct Token<'a> {
    algorithm: Algorithm,
    kid: Option<String>,
    signed: &'a str,
    signature: Vec<u8>,
    claims: Map<String, Value>,
}

impl<'a> Token<'a> {
    /// Reads the compact form.
    ///
    /// # Errors
    /// When it has not the form of a token that is signed by one of the algorithms.
    pub fn parse(text: &'a str) -> Result<Self, TokenError> {
        if text.len() > LONGEST {
            return Err(TokenError::TooLong);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        let part = |text: &str| BASE64.decode(text).map_err(|_| TokenError::Malformed);
        let header: Header = serde_json::from_slice(&part(header)?).map_err(|_| TokenError::Malformed)?;
        let algorithm = Algorithm::parse(&header.alg)
            .ok_or_else(|| TokenError::Algorithm(header.alg.chars().filter(|c| !c.is_control()).take(20).collect()))?;
        if header.crit.is_some() {
            return Err(TokenError::Critical);
        }
        if header.kid.as_ref().is_some_and(|kid| kid.len() > LONGEST_KID) {
            return Err(TokenError::Malformed);
        }
        let claims = serde_json::from_slice(&part(claims)?).map_err(|_| TokenError::Malformed)?;
        Ok(Self { algorithm, kid: header.kid, signed, signature: part(signature)?, claims })
    }

    /// How it says that it is signed.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// By which key it says that it is signed.
    #[must_use]
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// Who says that it is from them.
    pub(crate) fn issuer(&self) -> Option<&str> {
        self.claims.get("iss").and_then(Value::as_str)
    }

    /// What was signed, and the signature.
    pub(crate) fn signed(&self) -> (&[u8], &[u8]) {
        (self.signed.as_bytes(), &self.signature)
    }

    /// What it says, to whoever has verified the signature.
    pub(crate) fn into_claims(self) -> Claims {
        Claims(self.claims)
    }
}

/// What a token says that its issuer signed.
#[derive(Debug, Clone)]
pub(crate) struct Claims(Map<String, Value>);

impl Claims {
    /// Checks for whom and when the token is good: for one of `audiences`, between its `nbf` and its `exp`, give or take
    /// `skew` seconds.
    pub(crate) fn check(&self, audiences: &[String], now: i64, skew: i64) -> Result<(), TokenError> {
        if !self.audiences()?.iter().any(|audience| audiences.iter().any(|ours| ours == audience)) {
            return Err(TokenError::Audience);
        }
        if self.ends()?.saturating_add(skew) <= now {
            return Err(TokenError::Ended);
        }
        let begins = self.time("nbf")?.unwrap_or(i64::MIN);
        let issued = self.time("iat")?.unwrap_or(i64::MIN);
        if begins.max(issued).saturating_sub(skew) > now { Err(TokenError::Early) } else { Ok(()) }
    }

    /// When the token ends, in seconds since 1970.
    pub(crate) fn ends(&self) -> Result<i64, TokenError> {
        self.time("exp")?.ok_or(TokenError::Ended)
    }

    /// Whom the token is for.
    pub(crate) fn audiences(&self) -> Result<Vec<&str>, TokenError> {
        let wrong = || TokenError::Claim("aud".to_owned());
        match self.0.get("aud") {
            Some(Value::String(one)) => Ok(vec![one]),
            Some(Value::Array(all)) => all.iter().map(|one| one.as_str().ok_or_else(wrong)).collect(),
            _ => Err(TokenError::Audience),
        }
    }

    /// A time, which may have a fraction of a second.
    fn time(&self, name: &str) -> Result<Option<i64>, TokenError> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        let seconds = value.as_i64().or_else(|| {
            // A float casts to the nearest integer that there is.
            value.as_f64().map(|seconds| seconds as i64)
        });
        seconds.map(Some).ok_or_else(|| TokenError::Claim(name.to_owned()))
    }

    /// The text `name`, unless it is absent or empty.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    /// The texts of `name`: a list, or one text with several words.
    pub(crate) fn texts(&self, name: &str) -> Vec<&str> {
        match self.0.get(name) {
            Some(Value::String(words)) => words.split_whitespace().collect(),
            Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn token(header: &Value, claims: &Value) -> String {
        let part = |value: &Value| BASE64.encode(value.to_string());
        format!("{}.{}.{}", part(header), part(claims), BASE64.encode("signature"))
    }

    fn claims(value: Value) -> Claims {
        let text = token(&json!({"alg": "EdDSA"}), &value);
        Token::parse(&text).unwrap().into_claims()
    }

    #[test]
    fn three_algorithms_are_taken_and_no_other() {
        for name in ["RS256", "ES256", "EdDSA"] {
            let text = token(&json!({"alg": name, "kid": "a", "typ": "JWT"}), &json!({"iss": "me"}));
            let token = Token::parse(&text).unwrap();
            assert_eq!((token.algorithm().name(), token.kid(), token.issuer()), (name, Some("a"), Some("me")));
        }
        for name in ["none", "None", "HS256", "RS384", "PS256", "ES384", "rs256", ""] {
            let text = token(&json!({"alg": name}), &json!({}));
            assert_eq!(Token::parse(&text).unwrap_err(), TokenError::Algorithm(name.to_owned()));
        }
        let critical = token(&json!({"alg": "RS256", "crit": ["b64"], "b64": false}), &json!({}));
        assert_eq!(Token::parse(&critical).unwrap_err(), TokenError::Critical);
        for text in ["", ".", "..", "a.b.c", &format!("{}.x", token(&json!({"alg": "RS256"}), &json!({})))] {
            assert_eq!(Token::parse(text).unwrap_err(), TokenError::Malformed, "{text}");
        }
        assert_eq!(Token::parse(&"a".repeat(LONGEST + 1)).unwrap_err(), TokenError::TooLong);
    }

    #[test]
    fn a_token_is_for_its_audience_and_its_time() {
        let ours = ["us".to_owned()];
        let check = |value: Value| claims(value).check(&ours, 1_000, 10);
        assert_eq!(check(json!({"aud": "us", "exp": 1_001})), Ok(()));
        assert_eq!(check(json!({"aud": ["them", "us"], "exp": 1_001.5, "nbf": 990, "iat": 1})), Ok(()));
        // Clocks differ.
        assert_eq!(check(json!({"aud": "us", "exp": 991, "nbf": 1_010})), Ok(()));
        for (value, error) in [
            (json!({"aud": "us", "exp": 990}), TokenError::Ended),
            (json!({"aud": "us"}), TokenError::Ended),
            (json!({"aud": "us", "exp": "soon"}), TokenError::Claim("exp".to_owned())),
            (json!({"aud": "us", "exp": 2_000, "nbf": 1_011}), TokenError::Early),
            (json!({"aud": "us", "exp": 2_000, "iat": 1_011}), TokenError::Early),
            (json!({"aud": "them", "exp": 2_000}), TokenError::Audience),
            (json!({"aud": [], "exp": 2_000}), TokenError::Audience),
            (json!({"exp": 2_000}), TokenError::Audience),
            (json!({"aud": ["us", 1], "exp": 2_000}), TokenError::Claim("aud".to_owned())),
        ] {
            assert_eq!(check(value.clone()), Err(error), "{value}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_sent_is_a_token_or_an_error(text in "\\PC{0,200}") {
            let _refused = Token::parse(&text);
        }

        #[test]
        fn what_has_the_form_is_read(header in "\\PC{0,40}", body in "\\PC{0,80}", signature in "[a-zA-Z0-9_-]{0,40}") {
            let text = format!("{}.{}.{signature}", BASE64.encode(header), BASE64.encode(body));
            let _refused = Token::parse(&text);
        }
    }
}
