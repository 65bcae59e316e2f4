//! An authority that certifies a key for minutes, of the shape of Fulcio's second version, and where a CI environment gives
//! out the tokens that it wants.
//!
//! A token lets whoever has it sign in its holder's name. It goes to the one host that was named, in a body that follows no
//! redirect, and what a server repeats of it is not shown.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use serde::Deserialize;
use serde_json::json;
use url::Url;
use witan_registry_sign::{Certificate, CertificateError, IdentityToken, KeyError, SigningKey, TokenError};
use witan_registry_types::Host;
use zeroize::Zeroizing;

use crate::http::{Ask, Http, RequestError, host_of, shown};
use crate::settings::Settings;

/// A chain of a few certificates, or a token.
const LARGEST: u64 = 256 << 10;

/// Who tokens for signing are for.
const AUDIENCE: &str = "sigstore";

/// Why a key was not certified.
#[derive(Debug, thiserror::Error)]
pub enum CertifyError {
    /// The authority could not be asked, or refused.
    #[error("the certificate authority gave no certificate")]
    Request(#[from] RequestError),
    /// The key could not show that it is held.
    #[error("the key cannot sign")]
    Key(#[from] KeyError),
    /// What the authority answered is not what it was asked for.
    #[error("the certificate authority `{authority}` cannot be signed with")]
    Certificate {
        /// Which one.
        authority: Host,
        /// Why.
        #[source]
        source: CertificateError,
    },
}

/// Why a CI environment gave no token.
#[derive(Debug, thiserror::Error)]
pub enum AmbientError {
    /// Its service could not be asked, or refused.
    #[error("the CI environment gave no identity token")]
    Request(#[from] RequestError),
    /// It names a service that tokens are not taken from.
    #[error("`{0}` is no address of a service that gives out identity tokens")]
    Address(String),
    /// What it gave is none.
    #[error("what the CI environment gave is of no use")]
    Token(#[from] TokenError),
}

/// A certificate authority.
pub struct CertificateAuthority {
    http: Http,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    #[serde(default)]
    signed_certificate_embedded_sct: Option<Certified>,
}

#[derive(Deserialize)]
struct Certified {
    chain: Chain,
}

#[derive(Deserialize)]
struct Chain {
    certificates: Vec<String>,
}

impl CertificateAuthority {
    /// The authority at `host`. It is asked over HTTPS; over HTTP where it is this machine. Of `settings`, the times hold.
    pub fn new(host: Host, settings: Settings) -> Result<Self, RequestError> {
        // It is told who asks by the token, and needs no other secret.
        let settings = Settings { credentials: Default::default(), ..settings };
        Ok(Self { http: Http::new(host, settings)? })
    }

    /// Has the authority certify `key` for whom `token` names, and refuses what it certifies instead.
    pub async fn certify(&self, token: &IdentityToken, key: &SigningKey) -> Result<Certificate, CertifyError> {
        let proof = key.sign(token.challenge().as_bytes())?;
        let request = Zeroizing::new(
            json!({
                "credentials": { "oidcIdentityToken": token.secret() },
                "publicKeyRequest": {
                    "publicKey": { "algorithm": "ECDSA", "content": key.public().to_pem() },
                    "proofOfPossession": BASE64.encode(proof),
                },
            })
            .to_string(),
        );
        let body = Bytes::copy_from_slice(request.as_bytes());
        let ask = Ask::new(Method::POST, "/api/v2/signingCert", Some("")).body("application/json", body);
        let refused = "it does not take the identity token, which may be for another or have ended";
        let answer = self.http.read(ask, LARGEST).await;
        let answer = answer.map_err(|error| without(error, token.secret(), &self.http.base, refused))?;
        let Answer { signed_certificate_embedded_sct: certified } = answer.json()?;
        // Where the promise of the certificate log comes beside the certificate, no bundle has a place for it.
        let certified = certified.ok_or_else(|| answer.other("it has no certificate with a promise inside"))?;
        let [leaf, ..] = certified.chain.certificates.as_slice() else {
            return Err(answer.other("it has no certificate").into());
        };
        Certificate::for_token(leaf, key.public(), token)
            .map_err(|source| CertifyError::Certificate { authority: self.http.host.clone(), source })
    }
}

/// The error without the secret, should the server have repeated it. Where the server at `url` does not let us, `refused` is
/// why: there is no token of a registry to make anew.
fn without(error: RequestError, secret: &str, url: &Url, refused: &str) -> RequestError {
    // Messages are cut, and the secret in one may be.
    let begin = secret.get(..16).unwrap_or(secret);
    let clean = |message: String| if message.contains(begin) { "it does not say why".to_owned() } else { message };
    match error {
        RequestError::Status { url, status, message } => RequestError::Status { url, status, message: clean(message) },
        RequestError::NotFound { url, message } => RequestError::NotFound { url, message: clean(message) },
        RequestError::Unauthorized { .. } => {
            RequestError::Status { url: url.clone(), status: StatusCode::UNAUTHORIZED, message: refused.to_owned() }
        }
        other => other,
    }
}

/// The token that GitHub Actions gives to a job that may have one: `address` and `secret` are its
/// `ACTIONS_ID_TOKEN_REQUEST_URL` and `ACTIONS_ID_TOKEN_REQUEST_TOKEN`.
pub async fn github_token(address: &str, secret: &str, settings: Settings) -> Result<Zeroizing<String>, AmbientError> {
    let refused = || AmbientError::Address(shown(address));
    let mut url = Url::parse(address).map_err(|_| refused())?;
    let host = host_of(&url).ok_or_else(refused)?;
    let http = Http::new(host, Settings { credentials: Default::default(), ..settings })?;
    if url.origin() != http.base.origin() || !url.username().is_empty() || url.password().is_some() {
        return Err(refused());
    }
    url.query_pairs_mut().append_pair("audience", AUDIENCE);
    let path = format!("{}?{}", url.path(), url.query().unwrap_or_default());
    let mut ask = Ask::get(&path, Some(""));
    let bearer = Zeroizing::new(format!("Bearer {secret}"));
    let mut bearer = HeaderValue::from_str(&bearer).map_err(|_| RequestError::Own("the secret is none".to_owned()))?;
    bearer.set_sensitive(true);
    ask.headers.insert(header::AUTHORIZATION, bearer);
    let answer = http.read(ask, LARGEST).await;
    let answer = answer.map_err(|error| without(error, secret, &http.base, "it does not take the job's secret"))?;
    #[derive(Deserialize)]
    struct Token {
        value: String,
    }
    let Token { value } = answer.json()?;
    Ok(Zeroizing::new(value))
}
