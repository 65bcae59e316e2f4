//! The endpoints of the OCI distribution specification.

use std::net::SocketAddr;

use axum::{
    body::Body,
    extract::{Request, State},
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts};

use crate::{
    Refusal, Registry, Repository, Route,
    limits::Who,
    tokens::{Action, Client, Credential, Verdict},
};

pub(crate) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// Where a request came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// Answers what is under `/v2`.
pub(crate) async fn serve(State(registry): State<Registry>, request: Request) -> Response {
    let head = request.method() == Method::HEAD;
    let mut response = registry.answer(request).await.unwrap_or_else(Refusal::into_response);
    if head {
        // The length of what is not sent stays.
        *response.body_mut() = Body::empty();
    }
    response.headers_mut().insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    response
}

impl Registry {
    async fn answer(&self, request: Request) -> Result<Response, Refusal> {
        let (parts, body) = request.into_parts();
        let client = self.identify(&parts).await?;
        let path = parts.uri.path();
        let route = Route::parse(path.strip_prefix("/v2/").or(path.strip_prefix("/v2")).unwrap_or(path))?;
        let action = match parts.method {
            Method::GET | Method::HEAD => Action::Pull,
            Method::DELETE if !matches!(route, Route::Upload(..)) => Action::Delete,
            _ => Action::Push,
        };
        match route.repository() {
            // Reading where an upload is belongs to pushing.
            Some(repository) if matches!(route, Route::Upload(..)) => self.allow(&client, Action::Push, repository)?,
            Some(repository) => self.allow(&client, action, repository)?,
            None if client.token.is_none() => return Err(self.unauthorized(None)),
            None => {}
        }
        self.operate(&client, route, parts, body).await
    }

    async fn operate(&self, client: &Client, route: Route, parts: Parts, body: Body) -> Result<Response, Refusal> {
        let method = parts.method.clone();
        match (route, method) {
            (Route::Base, Method::GET | Method::HEAD) => Ok(json(StatusCode::OK, "{}".to_owned())),
            (Route::Manifest(repository, reference), Method::GET | Method::HEAD) => {
                self.get_manifest(&repository, &reference, &parts).await
            }
            (Route::Manifest(repository, reference), Method::PUT) => {
                self.put_manifest(&repository, &reference, &parts, body).await
            }
            (Route::Manifest(repository, reference), Method::DELETE) => {
                self.delete_manifest(&repository, &reference).await
            }
            (Route::Blob(repository, digest), Method::GET | Method::HEAD) => {
                self.get_blob(client, &repository, &digest, &parts).await
            }
            (Route::Blob(repository, digest), Method::DELETE) => self.delete_blob(&repository, &digest).await,
            (Route::Uploads(repository), Method::POST) => self.post_upload(client, &repository, &parts, body).await,
            (Route::Upload(repository, id), Method::GET | Method::HEAD) => self.get_upload(&repository, id).await,
            (Route::Upload(repository, id), Method::PATCH) => self.patch_upload(&repository, id, &parts, body).await,
            (Route::Upload(repository, id), Method::PUT) => self.put_upload(&repository, id, &parts, body).await,
            (Route::Upload(repository, id), Method::DELETE) => self.delete_upload(&repository, id).await,
            (Route::Tags(repository), Method::GET | Method::HEAD) => self.get_tags(&repository, &parts).await,
            (Route::Referrers(repository, digest), Method::GET | Method::HEAD) => {
                self.get_referrers(&repository, &digest, &parts).await
            }
            (Route::Base | Route::Tags(_) | Route::Referrers(..), _) => Err(Refusal::MethodNotAllowed("GET, HEAD")),
            (Route::Manifest(..), _) => Err(Refusal::MethodNotAllowed("GET, HEAD, PUT, DELETE")),
            (Route::Blob(..), _) => Err(Refusal::MethodNotAllowed("GET, HEAD, DELETE")),
            (Route::Uploads(_), _) => Err(Refusal::MethodNotAllowed("POST")),
            (Route::Upload(..), _) => Err(Refusal::MethodNotAllowed("GET, HEAD, PATCH, PUT, DELETE")),
        }
    }

    /// Who asks, within the rate that it may ask at.
    pub(crate) async fn identify(&self, parts: &Parts) -> Result<Client, Refusal> {
        let limiter = &self.0.limiter;
        let address = Who::address(self.address(parts));
        let client = match parts.headers.get(header::AUTHORIZATION) {
            None => Client::anonymous(),
            Some(value) => {
                let credential = value.to_str().ok().and_then(Credential::parse);
                let client = match credential {
                    Some(credential) => self.0.minter.client(&self.0.database, credential).await?,
                    None => None,
                };
                match client {
                    Some(client) => client,
                    None => {
                        limiter.wrong_secret(address)?;
                        return Err(self.unauthorized(None));
                    }
                }
            }
        };
        limiter.request(client.token.map_or(address, Who::Token))?;
        Ok(client)
    }

    /// The address that a request came from.
    fn address(&self, parts: &Parts) -> std::net::IpAddr {
        // The last one was written by the proxy before us; those before it by whoever wanted to.
        let forwarded = || {
            let header = parts.headers.get_all("x-forwarded-for").iter().next_back()?.to_str().ok()?;
            header.rsplit(',').next()?.trim().parse().ok()
        };
        let peer = || parts.extensions.get::<Peer>().map(|peer| peer.0.ip());
        let proxied = if self.0.settings.trust_forwarded_for { forwarded() } else { None };
        proxied.or_else(peer).unwrap_or(std::net::Ipv4Addr::UNSPECIFIED.into())
    }

    /// Lets `client` go on if it may do `action` in `repository`.
    pub(crate) fn allow(&self, client: &Client, action: Action, repository: &Repository) -> Result<(), Refusal> {
        match self.policy().decide(client, action, repository) {
            Verdict::Allowed => Ok(()),
            Verdict::Unknown => {
                let action = if action == Action::Push { "pull,push" } else { action.word() };
                Err(self.unauthorized(Some(format!("repository:{repository}:{action}"))))
            }
            Verdict::Denied => Err(Refusal::Denied { action: action.word(), namespace: self.namespace(repository) }),
        }
    }

    /// The refusal that tells a client where to get a token, and what for.
    pub(crate) fn unauthorized(&self, scope: Option<String>) -> Refusal {
        let settings = &self.0.settings;
        let mut challenge = format!("Bearer realm=\"{}/token\",service=\"{}\"", settings.base(), settings.authority());
        if let Some(scope) = &scope {
            challenge.push_str(&format!(",scope=\"{scope}\""));
        }
        Refusal::Unauthorized { challenge, scope }
    }
}

/// The value of `name` in the query of a request.
pub(crate) fn query(parts: &Parts, name: &str) -> Option<String> {
    let query = parts.uri.query().unwrap_or_default();
    url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// The header `name`, where it is text.
pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// An answer of JSON.
pub(crate) fn json(status: StatusCode, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// An answer of headers alone. Values that are no header's are left out; ours all are.
pub(crate) fn headers<const N: usize>(status: StatusCode, headers: [(HeaderName, String); N]) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    insert(&mut response, headers);
    response
}

pub(crate) fn insert<const N: usize>(response: &mut Response, headers: [(HeaderName, String); N]) {
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(name, value);
        }
    }
}
