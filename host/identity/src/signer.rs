//! Access tokens that this host signs.
//!
//! The keys are made by each process and live in its memory alone: there is none at rest that could be stolen, and when the
//! process ends, refresh tokens give new access tokens. A key signs for an hour, and is known for as long as what it
//! signed is good.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use parking_lot::Mutex;
use ring::{
    rand::SystemRandom,
    signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey},
};
use serde_json::json;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{Algorithm, IdentityError, Secret, Token, TokenError, now, seconds, secret};

/// What these tokens have as `iss` and `aud`. An issuer's is a URL of http, so that it is never this.
pub(crate) const ISSUER: &str = "urn:witan:host";

/// How long a key signs.
const SIGNS: Duration = Duration::from_secs(3_600);
/// How long a key is known after that: the longest that a token is good.
const KNOWN: Duration = Duration::from_secs(3_600);

struct Key {
    kid: String,
    pair: Ed25519KeyPair,
    made: Instant,
}

/// Signs access tokens, and knows them again.
#[derive(Default)]
pub(crate) struct Signer(Mutex<VecDeque<Key>>);

impl Signer {
    /// An access token of `principal` for the session `session`, which is good for `good`.
    pub(crate) fn sign(
        &self,
        principal: &str,
        tenant: &str,
        session: Uuid,
        good: Duration,
    ) -> Result<Secret, IdentityError> {
        let mut keys = self.0.lock();
        if keys.front().is_none_or(|key| key.made.elapsed() >= SIGNS) {
            keys.retain(|key| key.made.elapsed() < SIGNS + KNOWN);
            keys.push_front(Key::generate()?);
        }
        let key = keys.front().ok_or(IdentityError::Random)?;
        let header = json!({ "alg": Algorithm::EdDsa.name(), "kid": key.kid, "typ": "at+jwt" });
        let claims = json!({
            "iss": ISSUER, "aud": ISSUER, "sub": principal, "tenant": tenant, "sid": session.to_string(),
            "iat": now(), "exp": now().saturating_add(seconds(good)),
        });
        let mut text = format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()));
        let signature = key.pair.sign(text.as_bytes());
        text = format!("{text}.{}", BASE64.encode(signature));
        Ok(Secret::of(text))
    }

    /// The session that `token` is of and when it ends, if this host signed it and it has not ended.
    pub(crate) fn verify(&self, token: Token<'_>) -> Result<(Uuid, i64), TokenError> {
        let public = {
            let keys = self.0.lock();
            let kid = token.kid().unwrap_or_default();
            let key = keys.iter().find(|key| key.kid == kid && token.algorithm() == Algorithm::EdDsa);
            let key = key.ok_or_else(|| TokenError::Key("of this host".to_owned()))?;
            *key.pair.public_key()
        };
        let (message, signature) = token.signed();
        let verified = UnparsedPublicKey::new(&ED25519, public).verify(message, signature);
        verified.map_err(|_| TokenError::Signature)?;
        let claims = token.into_claims();
        claims.check(&[ISSUER.to_owned()], now(), 0)?;
        let session = claims.text("sid").and_then(|id| id.parse().ok());
        let session = session.ok_or_else(|| TokenError::Claim("sid".to_owned()))?;
        Ok((session, claims.ends()?))
    }
}

impl Key {
    fn generate() -> Result<Self, IdentityError> {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| IdentityError::Random)?;
        let document = Zeroizing::new(document.as_ref().to_vec());
        let pair = Ed25519KeyPair::from_pkcs8(&document).map_err(|_| IdentityError::Random)?;
        Ok(Self { kid: BASE64.encode(&secret::random()?[..12]), pair, made: Instant::now() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn session(signer: &Signer, text: &str) -> Result<Uuid, TokenError> {
        signer.verify(Token::parse(text)?).map(|(session, _)| session)
    }

    #[test]
    fn a_token_is_of_its_session_and_of_this_process() {
        let (signer, id) = (Signer::default(), Uuid::now_v7());
        let signed = signer.sign("acme/a", "acme", id, MINUTE).unwrap();
        assert_eq!(session(&signer, signed.expose()), Ok(id));
        let other = Signer::default();
        other.sign("acme/a", "acme", id, MINUTE).unwrap();
        assert!(matches!(session(&other, signed.expose()), Err(TokenError::Key(_))));
        let ended = signer.sign("acme/a", "acme", id, Duration::ZERO).unwrap();
        assert_eq!(session(&signer, ended.expose()), Err(TokenError::Ended));
    }

    #[test]
    fn a_token_that_was_changed_is_refused() {
        let signer = Signer::default();
        let signed = signer.sign("acme/a", "acme", Uuid::now_v7(), MINUTE).unwrap();
        let mut parts: Vec<&str> = signed.expose().split('.').collect();
        let claims = json!({"iss": ISSUER, "aud": ISSUER, "exp": i64::MAX, "sid": Uuid::nil()});
        let claims = BASE64.encode(claims.to_string());
        parts[1] = &claims;
        assert_eq!(session(&signer, &parts.join(".")), Err(TokenError::Signature));
    }
}
