//! Asks issuers, within bounds of size and time.

use std::time::Duration;

use reqwest::{Client, RequestBuilder, header};
use serde::Deserialize;
use url::Url;
use witan_egress::{Egress, Outcome, Purpose};

use crate::IdentityError;

/// The largest answer of an issuer.
const LARGEST: usize = 256 << 10;
/// How long an issuer may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why an issuer's answer cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// It cannot be reached.
    #[error("cannot reach `{url}`")]
    Unreachable {
        /// Where it should be.
        url: String,
        /// What happened.
        source: reqwest::Error,
    },
    /// It answers with something else than was asked for.
    #[error("`{url}` answers {status}")]
    Status {
        /// Where.
        url: String,
        /// With what.
        status: u16,
    },
    /// It answers with more than is taken.
    #[error("`{0}` answers with more than 256 KiB")]
    TooLarge(String),
    /// It answers with what is not what was asked for.
    #[error("`{url}` answers with what cannot be read: {why}")]
    Unreadable {
        /// Where.
        url: String,
        /// What is wrong.
        why: String,
    },
}

/// A client that follows no redirection: keys are where the issuer says, and secrets go nowhere else.
#[derive(Clone)]
pub(crate) struct Http {
    pub(crate) client: Client,
    egress: Egress,
}

impl Http {
    /// One whose requests leave by `egress`.
    pub(crate) fn new(egress: Egress) -> Result<Self, IdentityError> {
        let builder = egress.client().timeout(PATIENCE).connect_timeout(PATIENCE / 2);
        Ok(Self { client: builder.build().map_err(IdentityError::Http)?, egress })
    }

    fn sent(&self, url: &str, answer: &Result<reqwest::Response, reqwest::Error>) {
        if let Ok(url) = Url::parse(url) {
            self.egress.sent(Purpose::Issuer, &url, Outcome::of(answer));
        }
    }
}

/// Sends `request`, and reads the whole answer where it is a good one.
pub(crate) async fn fetch(http: &Http, url: &str, request: RequestBuilder) -> Result<Vec<u8>, FetchError> {
    let unreachable = |source: reqwest::Error| FetchError::Unreachable { url: url.to_owned(), source };
    let request = request.header(header::ACCEPT, "application/json");
    let answer = request.send().await;
    http.sent(url, &answer);
    let mut response = answer.map_err(unreachable)?;
    if !response.status().is_success() {
        return Err(FetchError::Status { url: url.to_owned(), status: response.status().as_u16() });
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if body.len() + chunk.len() > LARGEST {
            return Err(FetchError::TooLarge(url.to_owned()));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// What an OpenID Connect provider says of itself.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Discovery {
    pub(crate) issuer: String,
    pub(crate) jwks_uri: String,
    #[serde(default)]
    pub(crate) authorization_endpoint: String,
    #[serde(default)]
    pub(crate) token_endpoint: String,
    #[serde(default)]
    pub(crate) token_endpoint_auth_methods_supported: Vec<String>,
}

/// Asks the issuer at `issuer` for its discovery document.
pub(crate) async fn discover(http: &Http, issuer: &str) -> Result<Discovery, FetchError> {
    let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
    let body = fetch(http, &url, http.client.get(&url)).await?;
    let unreadable = |why: String| FetchError::Unreadable { url: url.clone(), why };
    let found: Discovery = serde_json::from_slice(&body).map_err(|error| unreadable(error.to_string()))?;
    if found.issuer != issuer {
        return Err(unreadable(format!("it is of the issuer `{}`", shown(&found.issuer))));
    }
    Ok(found)
}

/// A URL that an issuer names, where secrets may be sent there: over TLS, or within this machine.
pub(crate) fn endpoint(text: &str) -> Result<Url, FetchError> {
    let unreadable = || FetchError::Unreadable {
        url: shown(text),
        why: "an endpoint is reached over https, or within this machine".to_owned(),
    };
    let url = Url::parse(text).map_err(|_| unreadable())?;
    let local = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    if url.scheme() == "https" || (url.scheme() == "http" && local) { Ok(url) } else { Err(unreadable()) }
}

/// As much of what an issuer wrote as an error shows.
pub(crate) fn shown(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(200).collect()
}
