//! Which handler answers which path.

use axum::{
    Router,
    extract::{Request, State},
    response::{IntoResponse as _, Response},
    routing::{any, get},
};
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use serde_json::json;

use crate::{
    Refusal, Registry, metadata, oci, pages,
    tokens::{Client, now, timestamp},
    transparency,
};

/// What holds for every answer: nothing here is a page that others may frame or that loads anything from elsewhere.
const ALWAYS: [(HeaderName, &str); 4] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

pub(crate) fn router(registry: Registry) -> Router {
    Router::new()
        .route("/v2", any(oci::serve))
        .route("/v2/", any(oci::serve))
        .route("/v2/{*path}", any(oci::serve))
        .route("/token", any(token))
        .route("/.well-known/wasm-pkg/registry.json", get(well_known))
        .merge(transparency::router())
        .merge(metadata::router())
        .merge(pages::router())
        .route("/healthz", get(|| async { "ok\n" }))
        .fallback(|| async { Refusal::NoSuchPath })
        .layer(axum::middleware::map_response(always))
        .with_state(registry)
}

async fn always(mut response: Response) -> Response {
    for (name, value) in ALWAYS {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

/// Tells `wkg` which repositories hold which packages.
async fn well_known(State(registry): State<Registry>) -> Response {
    let settings = &registry.0.settings;
    let oci = json!({ "registry": settings.authority(), "namespacePrefix": settings.namespace_prefix });
    oci::json(StatusCode::OK, json!({ "preferredProtocol": "oci", "oci": oci }).to_string())
}

/// Trades a secret for an access token, as Docker's clients ask for one.
async fn token(State(registry): State<Registry>, request: Request) -> Response {
    registry.token(request).await.unwrap_or_else(Refusal::into_response)
}

impl Registry {
    async fn token(&self, request: Request) -> Result<Response, Refusal> {
        let (parts, body) = request.into_parts();
        // Some clients send a form first, and ask with `GET` when that is not taken.
        if parts.method != Method::GET {
            drop(body);
            return Err(Refusal::MethodNotAllowed("GET"));
        }
        let client: Client = self.identify(&parts).await?;
        if client.token.is_none() && !self.0.settings.anonymous_pull {
            return Err(self.basic());
        }
        let asked = parts.uri.query().unwrap_or_default();
        let scopes: Vec<String> = url::form_urlencoded::parse(asked.as_bytes())
            .filter(|(key, _)| key == "scope")
            .map(|(_, value)| value.into_owned())
            .collect();
        let seconds = i64::try_from(self.0.settings.limits.access_token.as_secs()).unwrap_or(i64::MAX);
        let scopes = scopes.iter().map(String::as_str);
        let access = self.0.minter.access(&client, scopes, &self.policy(), seconds)?;
        let body =
            json!({ "token": access, "access_token": access, "expires_in": seconds, "issued_at": timestamp(now()) });
        let mut response = oci::json(StatusCode::OK, body.to_string());
        oci::insert(&mut response, [(header::CACHE_CONTROL, "no-store".to_owned())]);
        Ok(response)
    }

    /// The refusal that asks for a secret itself.
    pub(crate) fn basic(&self) -> Refusal {
        let challenge = format!("Basic realm=\"{}\"", self.0.settings.authority());
        Refusal::Unauthorized { challenge, scope: None }
    }
}
