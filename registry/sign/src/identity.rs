//! Signing as somebody, without a key to keep: a token says who signs, and an authority certifies a key for it.
//!
//! What comes back is compared with what was asked for. An authority that certifies another key or another name makes
//! signatures that count for somebody else, and whoever signs is the first who can see that.

use std::fmt;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;
use witan_registry_types::json;
use zeroize::Zeroizing;

use crate::key::PublicKey;
use crate::sigstore;
use crate::statement::cut;
use crate::time::{from_unix_seconds, rfc3339};
use crate::trust::{Identity, Subject};

/// The largest token; those of CI environments have about 2 KiB.
const LARGEST: usize = 64 << 10;

/// Why a text is no identity token that can be signed with.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It is no signed JSON token.
    #[error("the identity token cannot be read: {0}")]
    Form(&'static str),
    /// It has ended.
    #[error("the identity token ended at {}; ask for another", rfc3339(*.0))]
    Ended(SystemTime),
    /// Nobody knows whom a certificate would name.
    #[error("the identity token of `{0}` names nobody: it has no e-mail address that was verified, and no workflow")]
    Nobody(String),
}

/// A token by which an OIDC issuer says who asks. Whoever has it is given certificates in that name: it is wiped when it is
/// dropped, and only [`IdentityToken::secret`] gives it away.
pub struct IdentityToken {
    secret: Zeroizing<String>,
    challenge: String,
    identity: Identity,
}

/// What a token says of its holder. Only the authority verifies that.
#[derive(Deserialize)]
struct Claims {
    iss: String,
    #[serde(default)]
    sub: String,
    #[serde(default)]
    exp: Option<u64>,
    #[serde(default)]
    email: Option<String>,
    /// Some issuers write a text.
    #[serde(default)]
    email_verified: Value,
    /// Who vouched, where the issuer only passes that on.
    #[serde(default)]
    federated_claims: Option<FederatedClaims>,
    /// The workflow, of GitHub Actions.
    #[serde(default)]
    job_workflow_ref: Option<String>,
    /// The pipeline, of GitLab.
    #[serde(default)]
    ci_config_ref_uri: Option<String>,
}

#[derive(Deserialize)]
struct FederatedClaims {
    #[serde(default)]
    connector_id: Option<String>,
}

impl IdentityToken {
    /// Reads a token, which must not have ended at `now`.
    pub fn parse(text: &str, now: SystemTime) -> Result<Self, TokenError> {
        let text = text.trim();
        if text.len() > LARGEST {
            return Err(TokenError::Form("it is too long"));
        }
        let parts: Vec<&str> = text.split('.').collect();
        let [_, payload, _] = parts.as_slice() else { return Err(TokenError::Form("it has not three parts")) };
        let payload = Zeroizing::new(
            URL_SAFE_NO_PAD.decode(payload).map_err(|_| TokenError::Form("its second part is not in Base64"))?,
        );
        let claims: Claims =
            json::parse(&payload, LARGEST).map_err(|_| TokenError::Form("it does not say who issued it"))?;
        if let Some(until) = claims.exp.map(from_unix_seconds).filter(|until| *until <= now) {
            return Err(TokenError::Ended(until));
        }
        let identity = claims.identity().ok_or_else(|| TokenError::Nobody(cut(&claims.iss)))?;
        // What the authority takes for the holder's name when it has its key's signature shown.
        let challenge = match &identity.subject {
            Subject::Email(email) => email.clone(),
            Subject::Uri(_) => claims.sub,
        };
        Ok(Self { secret: Zeroizing::new(text.to_owned()), challenge, identity })
    }

    /// Whom a certificate for this token must name.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What the key that is to be certified must sign.
    pub fn challenge(&self) -> &str {
        &self.challenge
    }

    /// The token itself, for the authority.
    pub fn secret(&self) -> &str {
        &self.secret
    }
}

impl fmt::Debug for IdentityToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdentityToken({})", self.identity)
    }
}

impl Claims {
    fn identity(&self) -> Option<Identity> {
        let passed_on = self.federated_claims.as_ref().and_then(|claims| claims.connector_id.clone());
        let issuer = passed_on.unwrap_or_else(|| self.iss.clone());
        let of_ci = || {
            let github = self.job_workflow_ref.as_ref().map(|workflow| format!("https://github.com/{workflow}"));
            let gitlab = || self.ci_config_ref_uri.as_ref().map(|config| format!("https://{config}"));
            github.or_else(gitlab)
        };
        let subject = match &self.email {
            Some(email) if self.email_verified == true || self.email_verified == "true" => {
                Subject::Email(email.clone())
            }
            Some(_) => return None,
            None if self.sub.contains("://") => Subject::Uri(self.sub.clone()),
            None => Subject::Uri(of_ci()?),
        };
        (!issuer.is_empty() && !subject.as_str().is_empty()).then_some(Identity { issuer, subject })
    }
}

/// Why a certificate is not the one that was asked for.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// It is none.
    #[error("the authority's answer is no certificate: {0}")]
    Form(String),
    /// It is for another key.
    #[error("the authority certified another key than it was asked to")]
    OtherKey,
    /// It names nobody.
    #[error("the authority's certificate names nobody, or does not say who vouched")]
    Nobody,
    /// It names somebody else.
    #[error("the authority's certificate is of {found}, and the token of {expected}")]
    OtherIdentity {
        /// Whom it names.
        found: Identity,
        /// Whom the token names.
        expected: Identity,
    },
}

/// A certificate for a key, in a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    der: Vec<u8>,
    identity: Identity,
}

impl Certificate {
    /// Reads the certificate (PEM) that an authority gave for `key` and `token`, and refuses any other. Whether the
    /// authority is a trusted one is seen when the signature is verified.
    pub fn for_token(pem: &str, key: &PublicKey, token: &IdentityToken) -> Result<Self, CertificateError> {
        let read = sigstore::read_certificate(pem).map_err(CertificateError::Form)?;
        if read.key != key.der() {
            return Err(CertificateError::OtherKey);
        }
        let identity = read.identity.ok_or(CertificateError::Nobody)?;
        if identity != token.identity {
            return Err(CertificateError::OtherIdentity { found: identity, expected: token.identity.clone() });
        }
        Ok(Self { der: read.der, identity })
    }

    /// The certificate in DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Whom it names.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    const NOW: Duration = Duration::from_secs(1_735_732_800);

    fn token(claims: &Value) -> Result<IdentityToken, TokenError> {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}.c2ln", part(&json!({ "alg": "none" })), part(claims));
        IdentityToken::parse(&text, SystemTime::UNIX_EPOCH + NOW)
    }

    #[test]
    fn a_token_names_whom_a_certificate_will_name() {
        let uri = |text: &str| Subject::Uri(text.to_owned());
        let email = || Subject::Email("author@acme.example".to_owned());
        let address = json!({ "iss": "https://a.example", "sub": "7", "email": "author@acme.example" });
        let with = |base: &Value, more: Value| {
            let mut claims = base.clone();
            claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            claims
        };
        let workflow = "acme/tool/.github/workflows/release.yml@refs/tags/v1";
        let cases = [
            (with(&address, json!({ "email_verified": true })), "https://a.example", email(), "author@acme.example"),
            (with(&address, json!({ "email_verified": "true" })), "https://a.example", email(), "author@acme.example"),
            (
                with(
                    &address,
                    json!({ "email_verified": true, "federated_claims": { "connector_id": "https://b.example" } }),
                ),
                "https://b.example",
                email(),
                "author@acme.example",
            ),
            (
                json!({ "iss": "https://ci.example", "sub": "repo:acme/tool:ref:x", "job_workflow_ref": workflow }),
                "https://ci.example",
                uri(&format!("https://github.com/{workflow}")),
                "repo:acme/tool:ref:x",
            ),
            (
                json!({ "iss": "https://gitlab.example", "sub": "project_path:a", "ci_config_ref_uri": "gitlab.example/a//b@c" }),
                "https://gitlab.example",
                uri("https://gitlab.example/a//b@c"),
                "project_path:a",
            ),
            (
                json!({ "iss": "https://s.example", "sub": "spiffe://a/b" }),
                "https://s.example",
                uri("spiffe://a/b"),
                "spiffe://a/b",
            ),
        ];
        for (claims, issuer, subject, challenge) in cases {
            let token = token(&claims).unwrap();
            assert_eq!(*token.identity(), Identity { issuer: issuer.to_owned(), subject }, "{claims}");
            assert_eq!(token.challenge(), challenge);
            assert!(!format!("{token:?}").contains(token.secret()));
        }
    }

    #[test]
    fn what_names_nobody_is_refused() {
        for claims in [
            json!({ "iss": "https://a.example", "sub": "7" }),
            json!({ "iss": "https://a.example", "email": "author@acme.example" }),
            json!({ "iss": "https://a.example", "email": "author@acme.example", "email_verified": false }),
            json!({ "iss": "", "email": "author@acme.example", "email_verified": true }),
        ] {
            assert!(matches!(token(&claims), Err(TokenError::Nobody(_))), "{claims}");
        }
        assert!(matches!(token(&json!({ "sub": "7" })), Err(TokenError::Form(_))));
        for text in ["", "a.b", "a.b.c.d", "a.!!.c", &format!("a.{}.c", "a".repeat(LARGEST))] {
            assert!(matches!(IdentityToken::parse(text, SystemTime::UNIX_EPOCH), Err(TokenError::Form(_))));
        }
    }

    #[test]
    fn a_token_counts_until_it_ends() {
        let claims = |until: Duration| {
            json!({
                "iss": "https://a.example", "email": "a@a.example", "email_verified": true, "exp": until.as_secs(),
            })
        };
        assert!(token(&claims(NOW + Duration::from_secs(1))).is_ok());
        assert!(matches!(token(&claims(NOW)), Err(TokenError::Ended(_))));
    }
}
