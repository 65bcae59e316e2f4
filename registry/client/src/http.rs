//! Requests to one registry: bounded answers, and secrets that stay with it.
//!
//! A registry says by `WWW-Authenticate` where its access tokens come from. A client that believes this sends its secret to
//! whoever answered, so a realm must be on the registry's own host, or on one that the operator named. Redirects are not
//! followed by the HTTP client: only a blob's may be, and what is asked there carries no secret.

use std::collections::HashMap;
use std::net::IpAddr;
use std::str::FromStr as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use parking_lot::Mutex;
use reqwest::Response;
use serde::Deserialize;
use url::Url;
use witan_egress::{Outcome, Purpose};
use witan_registry_types::{Host, json};
use zeroize::Zeroizing;

use crate::settings::{Credentials, Settings};

/// The largest answer that says why something was refused, or that holds an access token.
const LARGEST_SMALL: u64 = 64 << 10;
/// Redirects of one blob.
const REDIRECTS: usize = 3;
/// Access tokens that are kept at once.
const KEPT: usize = 256;

/// Why a registry could not be asked, or what it answered cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The registry cannot be reached, or broke off.
    #[error("cannot reach `{url}`")]
    Unreachable {
        /// What was asked.
        url: Url,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The registry was too slow.
    #[error("`{url}` did not answer in time; try again, or allow more time")]
    Timeout {
        /// What was asked.
        url: Url,
    },
    /// The registry has nothing by this name, or says so.
    #[error("`{url}` does not exist: {message}")]
    NotFound {
        /// What was asked.
        url: Url,
        /// What it said.
        message: String,
    },
    /// The registry refused.
    #[error("`{url}` was refused with {status}: {message}")]
    Status {
        /// What was asked.
        url: Url,
        /// Its status.
        status: StatusCode,
        /// What it said.
        message: String,
    },
    /// The registry wants to know who asks, or does not take the secret that it was given.
    #[error("`{host}` does not let us: {}", unauthorized(*.known))]
    Unauthorized {
        /// The registry.
        host: Host,
        /// Whether there was a secret for it.
        known: bool,
    },
    /// The registry sends those who have a secret elsewhere.
    #[error(
        "`{host}` asks that its secret be sent to `{realm}`, which is another host: allow that host as a realm if it is the registry's"
    )]
    Realm {
        /// The registry.
        host: Host,
        /// Where it sends to.
        realm: String,
    },
    /// The registry answers where it must not by pointing elsewhere.
    #[error("`{url}` leads to `{to}`, which is not followed")]
    Redirect {
        /// What was asked.
        url: Url,
        /// Where it leads.
        to: String,
    },
    /// The answer is larger than anything that is read here.
    #[error("the answer of `{url}` is larger than {most} bytes")]
    TooLarge {
        /// What was asked.
        url: Url,
        /// How many bytes are read.
        most: u64,
    },
    /// The answer is compressed, so that its size says nothing.
    #[error("the answer of `{url}` has the encoding `{encoding}`, and must have none")]
    Encoded {
        /// What was asked.
        url: Url,
        /// Its encoding.
        encoding: String,
    },
    /// The answer is not what is answered to this.
    #[error("`{url}` answered with something else than it should: {reason}")]
    Answer {
        /// What was asked.
        url: Url,
        /// What is wrong with it.
        reason: String,
    },
    /// The HTTP client cannot be set up, or a part of a request is none.
    #[error("cannot ask the registry: {0}")]
    Own(String),
}

fn unauthorized(known: bool) -> &'static str {
    if known {
        "the token is wrong, has ended, or may not do this; make another one, or ask the registry's operator"
    } else {
        "it wants a token; set `WITAN_REGISTRY_TOKEN`, or put one into the file of tokens"
    }
}

impl RequestError {
    /// Whether the registry says that there is no such thing.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}

/// Enough of a text that a registry wrote, without what would move a terminal's cursor.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(200).map(|char| if char.is_control() { ' ' } else { char }).collect()
}

/// What is asked of the registry.
pub(crate) struct Ask<'a> {
    pub(crate) method: Method,
    /// What stands behind the host, from `/` on.
    pub(crate) path: &'a str,
    /// What an access token must allow, as Docker's clients write it; `None` where the secret itself is sent.
    pub(crate) scope: Option<&'a str>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<Bytes>,
}

impl<'a> Ask<'a> {
    pub(crate) fn get(path: &'a str, scope: Option<&'a str>) -> Self {
        Self::new(Method::GET, path, scope)
    }

    pub(crate) fn new(method: Method, path: &'a str, scope: Option<&'a str>) -> Self {
        Self { method, path, scope, headers: HeaderMap::new(), body: None }
    }

    pub(crate) fn header(mut self, name: HeaderName, value: &'static str) -> Self {
        self.headers.insert(name, HeaderValue::from_static(value));
        self
    }

    pub(crate) fn body(mut self, kind: &'static str, body: Bytes) -> Self {
        self.body = Some(body);
        self.header(header::CONTENT_TYPE, kind)
    }
}

/// A connection to one registry.
pub(crate) struct Http {
    client: reqwest::Client,
    pub(crate) host: Host,
    pub(crate) base: Url,
    pub(crate) settings: Settings,
    /// What the registry took before, by scope.
    authorizations: Mutex<HashMap<String, HeaderValue>>,
}

/// Whether `name` means this machine and no other.
fn is_loopback(name: &str) -> bool {
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || IpAddr::from_str(address).is_ok_and(|address| address.is_loopback())
}

/// The address of a registry: HTTP where nobody is between, and HTTPS everywhere else.
pub(crate) fn base(host: &Host) -> Result<Url, RequestError> {
    let scheme = if is_loopback(host.name()) { "http" } else { "https" };
    Url::parse(&format!("{scheme}://{host}/")).map_err(|error| RequestError::Own(format!("`{host}`: {error}")))
}

/// The host of a URL, with its port where that is not the usual one.
pub(crate) fn host_of(url: &Url) -> Option<Host> {
    let name = url.host_str()?;
    url.port().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}")).parse().ok()
}

impl Http {
    pub(crate) fn new(host: Host, settings: Settings) -> Result<Self, RequestError> {
        let client = settings
            .egress
            .client()
            .user_agent(concat!("witan/", env!("CARGO_PKG_VERSION")))
            .referer(false)
            // What is compressed has no size before it is read.
            .no_gzip()
            .no_brotli()
            .no_deflate()
            .no_zstd()
            .connect_timeout(settings.connect)
            .read_timeout(settings.idle)
            .timeout(settings.total)
            .build()
            .map_err(|error| RequestError::Own(error.to_string()))?;
        Ok(Self { client, base: base(&host)?, host, settings, authorizations: Mutex::default() })
    }

    pub(crate) fn url(&self, path: &str) -> Result<Url, RequestError> {
        let url = self.base.join(path).map_err(|error| RequestError::Own(format!("`{path}`: {error}")))?;
        // What a registry answers may have become a part of the path.
        if url.origin() == self.base.origin() {
            Ok(url)
        } else {
            Err(RequestError::Redirect { url: self.base.clone(), to: shown(path) })
        }
    }

    /// Sends `request`, which is for `url`.
    async fn exchange(&self, request: reqwest::RequestBuilder, url: &Url) -> Result<Response, RequestError> {
        let answer = request.send().await;
        self.settings.egress.sent(Purpose::Registry, url, Outcome::of(&answer));
        answer.map_err(|error| failed(url, error))
    }

    fn credentials(&self) -> Option<&Credentials> {
        self.settings.credentials.get(&self.host)
    }

    /// Asks, and gives what is answered with a status of success or of redirection.
    pub(crate) async fn send(&self, ask: Ask<'_>) -> Result<Response, RequestError> {
        let url = self.url(ask.path)?;
        let response = self.attempt(&ask, &url, self.authorization(&ask)).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return checked(response, url).await;
        }
        let unauthorized =
            || RequestError::Unauthorized { host: self.host.clone(), known: self.credentials().is_some() };
        let authorization = self.authorize(&ask, response.headers()).await?.ok_or_else(unauthorized)?;
        let response = self.attempt(&ask, &url, Some(authorization.clone())).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            return Err(unauthorized());
        }
        self.keep(ask.scope.unwrap_or_default(), authorization);
        checked(response, url).await
    }

    fn keep(&self, scope: &str, authorization: HeaderValue) {
        let mut kept = self.authorizations.lock();
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(scope.to_owned(), authorization);
    }

    /// What is sent at first: what worked before, or the secret itself where no access token is made for such requests.
    fn authorization(&self, ask: &Ask<'_>) -> Option<HeaderValue> {
        let known = self.authorizations.lock().get(ask.scope.unwrap_or_default()).cloned();
        known.or_else(|| self.credentials().filter(|_| ask.scope.is_none()).and_then(|known| basic(known).ok()))
    }

    async fn attempt(
        &self,
        ask: &Ask<'_>,
        url: &Url,
        authorization: Option<HeaderValue>,
    ) -> Result<Response, RequestError> {
        let mut request = self.client.request(ask.method.clone(), url.clone()).headers(ask.headers.clone());
        if let Some(authorization) = authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        if let Some(body) = &ask.body {
            request = request.body(body.clone());
        }
        self.exchange(request, url).await
    }

    /// What the challenge asks for, if we have it.
    async fn authorize(&self, ask: &Ask<'_>, headers: &HeaderMap) -> Result<Option<HeaderValue>, RequestError> {
        let challenges = headers.get_all(header::WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        for challenge in challenges {
            let (kind, parameters) = challenge.split_once(' ').unwrap_or((challenge, ""));
            if kind.eq_ignore_ascii_case("basic") {
                // The registry itself asks, and knows that secret anyway.
                return self.credentials().map(basic).transpose();
            }
            if kind.eq_ignore_ascii_case("bearer")
                && let Some(scope) = ask.scope
            {
                return self.access_token(parameters, scope).await.map(Some);
            }
        }
        Ok(None)
    }

    /// Trades the secret for an access token. The scope is ours: the registry's could be for more than we are about to do.
    async fn access_token(&self, parameters: &str, scope: &str) -> Result<HeaderValue, RequestError> {
        let named = parameter(parameters, "realm").unwrap_or_default();
        let realm = || RequestError::Realm { host: self.host.clone(), realm: shown(&named) };
        let mut url = Url::parse(&named).map_err(|_| realm())?;
        if !self.is_realm(&url) {
            return Err(realm());
        }
        if let Some(service) = parameter(parameters, "service") {
            url.query_pairs_mut().append_pair("service", &service);
        }
        url.query_pairs_mut().append_pair("scope", scope);
        let mut request = self.client.get(url.clone());
        if let Some(credentials) = self.credentials() {
            request = request.header(header::AUTHORIZATION, basic(credentials)?);
        }
        let response = self.exchange(request, &url).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            return Err(RequestError::Unauthorized { host: self.host.clone(), known: self.credentials().is_some() });
        }
        let response = checked(response, url.clone()).await?;
        whole(&url, &response)?;
        let bytes = Zeroizing::new(read(response, &url, LARGEST_SMALL).await?);
        #[derive(Deserialize)]
        struct Answer {
            token: Option<String>,
            access_token: Option<String>,
        }
        let other = |reason: String| RequestError::Answer { url: url.clone(), reason };
        let size = usize::try_from(LARGEST_SMALL).unwrap_or(usize::MAX);
        let answer: Answer = json::parse(&bytes, size).map_err(|error| other(error.to_string()))?;
        let token = answer.token.or(answer.access_token).ok_or_else(|| other("it has no token".to_owned()))?;
        let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| other("no token".to_owned()))?;
        value.set_sensitive(true);
        Ok(value)
    }

    fn is_realm(&self, url: &Url) -> bool {
        if !url.username().is_empty() || url.password().is_some() {
            return false;
        }
        let ours = url.origin() == self.base.origin();
        let allowed = host_of(url).is_some_and(|host| self.settings.realms.contains(&host));
        let safe = url.scheme() == "https"
            || (url.scheme() == "http" && is_loopback(self.host.name()) && url.host_str().is_some_and(is_loopback));
        ours || (allowed && safe)
    }

    /// Reads what may lie elsewhere, such as in a store of objects: a blob, whose digest the caller checks. What is asked
    /// elsewhere has no authorization.
    pub(crate) async fn send_anywhere(&self, ask: Ask<'_>) -> Result<(Url, Response), RequestError> {
        let mut url = self.url(ask.path)?;
        let mut response = self.send(ask).await?;
        for _ in 0..REDIRECTS {
            if !response.status().is_redirection() {
                whole(&url, &response)?;
                return Ok((url, response));
            }
            let to = location(&response, &url)?;
            let refused = || RequestError::Redirect { url: url.clone(), to: shown(to.as_str()) };
            let here = is_loopback(self.host.name()) && to.host_str().is_some_and(is_loopback);
            if to.scheme() != "https" && !(to.scheme() == "http" && here) {
                return Err(refused());
            }
            if !to.username().is_empty() || to.password().is_some() {
                return Err(refused());
            }
            let next = self.exchange(self.client.get(to.clone()), &to).await?;
            response = checked(next, to.clone()).await?;
            url = to;
        }
        let to = location(&response, &url).map_or_else(|_| "nowhere".to_owned(), |to| shown(to.as_str()));
        Err(RequestError::Redirect { url, to })
    }

    /// Asks, and gives the answer of the registry itself with its bytes, `most` at most.
    pub(crate) async fn read(&self, ask: Ask<'_>, most: u64) -> Result<Read, RequestError> {
        let url = self.url(ask.path)?;
        let response = self.send(ask).await?;
        whole(&url, &response)?;
        let (status, headers) = (response.status(), response.headers().clone());
        Ok(Read { bytes: read(response, &url, most).await?, url, status, headers })
    }
}

/// An answer that was read.
pub(crate) struct Read {
    pub(crate) url: Url,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Vec<u8>,
}

impl Read {
    /// The header `name`, where it is text.
    pub(crate) fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(crate) fn other(&self, reason: impl Into<String>) -> RequestError {
        RequestError::Answer { url: self.url.clone(), reason: reason.into() }
    }

    /// Reads the answer as JSON.
    pub(crate) fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, RequestError> {
        json::parse(&self.bytes, self.bytes.len()).map_err(|error| self.other(error.to_string()))
    }

    /// The path of the next page, if the answer names one.
    pub(crate) fn next(&self) -> Result<Option<String>, RequestError> {
        let Some(link) = self.header(&header::LINK) else { return Ok(None) };
        let other = || self.other("its `Link` names no further page of this registry");
        let (target, rest) = link.strip_prefix('<').and_then(|link| link.split_once('>')).ok_or_else(other)?;
        if !rest.contains("rel=\"next\"") && !rest.contains("rel=next") {
            return Ok(None);
        }
        let next = self.url.join(target).map_err(|_| other())?;
        // Another path could be asked for anything, with our secret.
        if next.origin() != self.url.origin() || next.path() != self.url.path() || next == self.url {
            return Err(other());
        }
        Ok(Some(format!("{}?{}", next.path(), next.query().unwrap_or_default())))
    }
}

fn basic(credentials: &Credentials) -> Result<HeaderValue, RequestError> {
    let plain = Zeroizing::new(format!("{}:{}", credentials.user, credentials.secret.as_str()));
    let encoded = Zeroizing::new(format!("Basic {}", BASE64.encode(plain.as_bytes())));
    let mut value = HeaderValue::from_str(&encoded).map_err(|error| RequestError::Own(error.to_string()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// A parameter of a challenge. Its value may be quoted, and hold commas.
fn parameter(parameters: &str, name: &str) -> Option<String> {
    let mut rest = parameters.trim_start_matches([' ', ',']);
    while let Some((key, value)) = rest.split_once('=') {
        let (value, behind) = match value.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => value.split_once(',').unwrap_or((value, "")),
        };
        if key.trim().eq_ignore_ascii_case(name) {
            return Some(value.to_owned());
        }
        rest = behind.trim_start_matches([' ', ',']);
    }
    None
}

fn failed(url: &Url, error: reqwest::Error) -> RequestError {
    // The URL is said once, by us, and without what the error would add of it.
    let error = error.without_url();
    if error.is_timeout() {
        RequestError::Timeout { url: url.clone() }
    } else {
        RequestError::Unreachable { url: url.clone(), source: error }
    }
}

/// Where a redirection leads.
fn location(response: &Response, url: &Url) -> Result<Url, RequestError> {
    let to = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
    let to = to.and_then(|to| url.join(to).ok());
    to.ok_or_else(|| RequestError::Answer { url: url.clone(), reason: "it leads nowhere".to_owned() })
}

/// Refuses an answer of redirection.
fn whole(url: &Url, response: &Response) -> Result<(), RequestError> {
    if response.status().is_redirection() {
        let to = location(response, url)?;
        return Err(RequestError::Redirect { url: url.clone(), to: shown(to.as_str()) });
    }
    Ok(())
}

/// Refuses an answer that says no.
async fn checked(response: Response, url: Url) -> Result<Response, RequestError> {
    let status = response.status();
    if status.is_success() || status.is_redirection() {
        if let Some(encoding) = response.headers().get(header::CONTENT_ENCODING)
            && encoding.as_bytes() != b"identity"
        {
            let encoding = shown(&String::from_utf8_lossy(encoding.as_bytes()));
            return Err(RequestError::Encoded { url, encoding });
        }
        return Ok(response);
    }
    // What it says of itself is of use to whoever reads the error, and no more than that.
    let text = read(response, &url, LARGEST_SMALL).await.unwrap_or_default();
    let value: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    // Registries answer with a list, and Sigstore's services with one.
    let said = value.pointer("/errors/0/message").or_else(|| value.get("message"));
    let said = said.and_then(serde_json::Value::as_str).unwrap_or("it does not say why");
    let message = shown(said);
    match status {
        StatusCode::NOT_FOUND => Err(RequestError::NotFound { url, message }),
        status => Err(RequestError::Status { url, status, message }),
    }
}

/// Reads the bytes of an answer, `most` at most.
pub(crate) async fn read(response: Response, url: &Url, most: u64) -> Result<Vec<u8>, RequestError> {
    let mut bytes = Vec::new();
    stream(response, url, most, |chunk| bytes.extend_from_slice(chunk)).await?;
    Ok(bytes)
}

/// Gives the parts of an answer to `take` as they come, `most` bytes at most. What it says of its length is not believed.
pub(crate) async fn stream(
    mut response: Response,
    url: &Url,
    most: u64,
    mut take: impl FnMut(&[u8]),
) -> Result<u64, RequestError> {
    let too_large = || RequestError::TooLarge { url: url.clone(), most };
    if response.content_length().is_some_and(|length| length > most) {
        return Err(too_large());
    }
    let mut count = 0_u64;
    while let Some(chunk) = response.chunk().await.map_err(|error| failed(url, error))? {
        count = count.saturating_add(chunk.len() as u64);
        if count > most {
            return Err(too_large());
        }
        take(&chunk);
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http(host: &str) -> Http {
        Http::new(host.parse().unwrap(), Settings::default()).unwrap()
    }

    #[test]
    fn only_this_machine_is_asked_in_the_clear() {
        for host in ["127.0.0.1:5000", "127.8.9.1", "localhost:80", "[::1]:5000"] {
            assert_eq!(base(&host.parse().unwrap()).unwrap().scheme(), "http", "{host}");
        }
        for host in ["registry.example", "10.0.0.1:5000", "localhost.example", "127.0.0.1.example", "[::2]:5000"] {
            assert_eq!(base(&host.parse().unwrap()).unwrap().scheme(), "https", "{host}");
        }
    }

    #[test]
    fn a_realm_is_the_registry_s_own_or_was_allowed() {
        let mut http = http("registry.example");
        http.settings.realms.insert("auth.example".parse().unwrap());
        let is_realm = |url: &str| http.is_realm(&Url::parse(url).unwrap());
        for good in ["https://registry.example/token", "https://auth.example/token", "https://registry.example:443/x"] {
            assert!(is_realm(good), "{good}");
        }
        for bad in [
            "http://registry.example/token",
            "http://auth.example/token",
            "https://registry.example:8443/token",
            "https://evil.example/token",
            "https://registry.example.evil.example/token",
            "https://registry.example@evil.example/",
            "https://user:pass@registry.example/token",
            "http://127.0.0.1/token",
            "ftp://registry.example/token",
        ] {
            assert!(!is_realm(bad), "{bad}");
        }
    }

    #[test]
    fn the_parameters_of_a_challenge_are_read() {
        let challenge = r#"realm="https://a.example/token?x=1,2", service=a.example,scope="repository:a/b:pull,push""#;
        assert_eq!(parameter(challenge, "realm").unwrap(), "https://a.example/token?x=1,2");
        assert_eq!(parameter(challenge, "service").unwrap(), "a.example");
        assert_eq!(parameter(challenge, "scope").unwrap(), "repository:a/b:pull,push");
        assert_eq!(parameter(challenge, "other"), None);
        assert_eq!(parameter("realm=\"unended", "realm"), None);
        assert_eq!(parameter("", "realm"), None);
    }

    #[test]
    fn a_path_stays_with_the_registry() {
        let http = http("registry.example");
        assert!(http.url("/v2/a/tags/list?n=1").is_ok());
        for bad in ["https://evil.example/", "//evil.example/x", "\\\\evil.example/x"] {
            assert!(http.url(bad).is_err(), "{bad}");
        }
    }
}
