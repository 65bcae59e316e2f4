//! Pages for people. They need no script, load nothing from elsewhere, and escape whatever an author wrote.

use axum::{
    Router,
    extract::{Path, Request, State},
    response::{IntoResponse as _, Response},
    routing::get,
};
use http::{HeaderValue, Method, StatusCode, header, request::Parts};
use maud::{DOCTYPE, Markup, html};
use serde::Deserialize;
use serde_json::json;

use crate::names;
use crate::{
    Refusal, Registry, Repository, body,
    catalog::{Details, Signed, Version},
    component::{Description, Interface, in_words},
    oci,
    tokens::{Action, Client},
};

const STYLE: &str = "
    body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
    table { border-collapse: collapse; width: 100%; }
    th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #8884; vertical-align: top; }
    code, pre { font: 14px/1.4 ui-monospace, monospace; overflow-wrap: anywhere; }
    pre { background: #8881; padding: 1rem; overflow-x: auto; white-space: pre-wrap; }
    .yanked { color: #b00; }
    @media (prefers-color-scheme: dark) { body { background: #111; color: #ddd; } a { color: #8bf; } }
";

/// The longest reason for yanking, in bytes.
const REASON: usize = 1_000;

pub(crate) fn router() -> Router<Registry> {
    Router::new()
        .route("/", get(search))
        .route("/search", get(search))
        .route("/packages/{*repository}", get(package))
        .route("/api/packages", get(search_json))
        .route("/api/packages/{*repository}", get(package_json))
        .route("/api/yanks/{*repository}", get(yanks).put(yank).delete(yank))
        .route("/style.css", get(style))
}

async fn style() -> Response {
    let mut response = Response::new(STYLE.into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/css; charset=utf-8"));
    response
}

fn page(status: StatusCode, title: &str, content: &Markup) -> Response {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width";
                title { (title) }
                link rel="stylesheet" href="/style.css";
            }
            body {
                header { a href="/" { "All packages" } }
                h1 { (title) }
                (content)
            }
        }
    };
    let mut response = Response::new(page.into_string().into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response
}

/// A refusal, as a page. A browser is asked for a secret itself, since it can fetch no token.
fn refused(registry: &Registry, refusal: Refusal) -> Response {
    let refusal = match refusal {
        Refusal::Unauthorized { .. } => registry.basic(),
        other => other,
    };
    let content = html! { p { (refusal.to_string()) } };
    let (status, mut headers) = (refusal.status(), refusal.into_response().headers().clone());
    let mut response = page(status, "Not this way", &content);
    headers.remove(header::CONTENT_TYPE);
    response.headers_mut().extend(headers);
    response
}

fn link(repository: &str, version: Option<&str>) -> String {
    let version = version.map(|version| format!("?version={version}")).unwrap_or_default();
    format!("/packages/{repository}{version}")
}

impl Registry {
    async fn reader(&self, request: Request) -> Result<(Client, Parts), Refusal> {
        let (parts, _) = request.into_parts();
        let client = self.identify(&parts).await?;
        if client.token.is_none() && !self.0.settings.anonymous_pull {
            return Err(self.unauthorized(None));
        }
        Ok((client, parts))
    }

    async fn readable(&self, request: Request, repository: &str) -> Result<(Parts, Repository), Refusal> {
        let (client, parts) = self.reader(request).await?;
        let repository = names::repository(repository)?;
        self.allow(&client, Action::Pull, &repository)?;
        Ok((parts, repository))
    }

    async fn search_page(&self, request: Request) -> Result<Response, Refusal> {
        let (client, parts) = self.reader(request).await?;
        let words = oci::query(&parts, "q").unwrap_or_default();
        let after = oci::query(&parts, "after").unwrap_or_default();
        let (found, next) = self.search(&client, &words, &after).await?;
        let next = next.map(|after| {
            let query = url::form_urlencoded::Serializer::new(String::new())
                .append_pair("q", &words)
                .append_pair("after", &after)
                .finish();
            format!("/search?{query}")
        });
        let content = html! {
            form action="/search" method="get" {
                label { "Search " input type="search" name="q" value=(words); }
                " " button { "Search" }
            }
            @if found.is_empty() { p { "There is nothing here by that name." } } @else {
                table {
                    tr { th { "Package" } th { "Versions" } th { "Downloads" } }
                    @for package in &found {
                        tr {
                            td { a href=(link(&package.repository, None)) { (package.name) } }
                            td { (package.versions) }
                            td { (package.downloads) }
                        }
                    }
                }
            }
            @if let Some(next) = next { p { a href=(next) { "More" } } }
        };
        Ok(page(StatusCode::OK, "Packages", &content))
    }

    async fn package_page(&self, request: Request, repository: &str) -> Result<Response, Refusal> {
        let (parts, repository) = self.readable(request, repository).await?;
        let versions = self.versions(&repository).await?;
        let asked = oci::query(&parts, "version");
        let shown = match &asked {
            Some(asked) => versions.iter().find(|version| version.version == *asked),
            // What was yanked is not what is offered.
            None => versions.iter().find(|version| version.yanked.is_none()).or(versions.first()),
        };
        let Some(shown) = shown else {
            return Err(match asked {
                Some(reference) => Refusal::ManifestUnknown { repository, reference },
                None => Refusal::NameUnknown(repository),
            });
        };
        let details = self.details(&repository, &names::tag(&shown.version)?).await?;
        let description = match &details.layer {
            Some((digest, size)) => Some(self.0.descriptions.of(&self.0.blobs, digest, *size).await),
            None => None,
        };
        let content = html! {
            (version_part(&repository, shown, &details))
            (signed_part(&repository, &details.signed))
            @match description.as_deref() {
                Some(Ok(description)) => (description_part(description)),
                Some(Err(reason)) => p { "What it imports and exports is not shown: " (reason) "." },
                None => p { "It is not a component: it has no single layer of WebAssembly." },
            }
            (versions_part(&repository, &versions))
        };
        Ok(page(StatusCode::OK, &self.package_name(&repository), &content))
    }

    async fn yank_version(&self, request: Request, repository: &str) -> Result<Response, Refusal> {
        let (parts, body) = request.into_parts();
        let client = self.identify(&parts).await?;
        let repository = names::repository(repository)?;
        self.allow(&client, Action::Push, &repository)?;
        let version = oci::query(&parts, "version").ok_or_else(|| Refusal::Invalid("name a `version`".to_owned()))?;
        let version = names::tag(&version)?;
        let reason = if parts.method == Method::DELETE {
            None
        } else {
            let stall = self.0.settings.limits.stall_time;
            let bytes = body::all(body, &parts.headers, "a reason", 4 * REASON as u64, stall).await?;
            let Reason { reason } =
                serde_json::from_slice(&bytes).map_err(|error| Refusal::Invalid(error.to_string()))?;
            if reason.trim().is_empty() || reason.len() > REASON {
                return Err(Refusal::Invalid(format!("say why, in {REASON} bytes at most")));
            }
            Some(reason)
        };
        self.yank(&repository, &version, reason.as_deref()).await?;
        Ok(oci::headers(StatusCode::NO_CONTENT, []))
    }
}

#[derive(Deserialize)]
struct Reason {
    reason: String,
}

fn version_part(repository: &Repository, shown: &Version, details: &Details) -> Markup {
    html! {
        h2 { "Version " (shown.version) }
        @if let Some(yanked) = &shown.yanked {
            p class="yanked" { "Yanked on " (yanked.at) ": " (yanked.reason) }
        }
        p { "Released " (shown.released) ", downloaded " (shown.downloads) " times." }
        p { code { (repository) "@" (shown.digest) } }
        @if !details.annotations.is_empty() {
            table {
                @for (key, value) in &details.annotations { tr { td { code { (key) } } td { (value) } } }
            }
        }
    }
}

fn signed_part(repository: &Repository, signed: &[Signed]) -> Markup {
    let is_sbom = |signed: &Signed| signed.predicate.starts_with("https://cyclonedx.org/bom");
    html! {
        h2 { "Signed by" }
        @if signed.is_empty() { p { "Nobody. It has no signature here." } } @else {
            p {
                "What follows is what the signatures show. Whether these signers may speak for this package is for the \
                 trust policy of whoever runs it."
            }
            table {
                tr { th { "What" } th { "Signer" } th { "Log" } th {} }
                @for signed in signed {
                    tr {
                        td { code { (signed.predicate) } }
                        td {
                            @match &signed.signer {
                                Ok(signer) => (signer),
                                Err(reason) => span class="yanked" { "does not hold: " (reason) },
                            }
                        }
                        td {
                            @if let Some(index) = signed.logged {
                                a href={ "/api/v1/log/entries?logIndex=" (index) } { "entry " (index) }
                            } @else { "not in this log" }
                        }
                        td {
                            a href={ "/v2/" (repository) "/blobs/" (signed.bundle) } {
                                @if is_sbom(signed) { "SBOM" } @else { "bundle" }
                            }
                        }
                    }
                }
            }
        }
        @for ceiling in signed.iter().filter(|signed| signed.signer.is_ok()).filter_map(|signed| signed.ceiling.as_ref()) {
            h2 { "Ceiling" }
            p { "What its author says that it may ever need:" }
            pre { (ceiling) }
        }
    }
}

fn description_part(description: &Description) -> Markup {
    html! {
        h2 { "Imports" }
        @if description.imports.is_empty() { p { "Nothing: it only computes." } } @else {
            table {
                @for import in &description.imports {
                    tr { td { code { (import.name) } } td { (in_words(&import.name)) } }
                }
            }
        }
        h2 { "Exports" }
        @for export in &description.exports { (interface_part(export)) }
        details { summary { "WIT" } pre { (description.wit) } }
    }
}

fn interface_part(interface: &Interface) -> Markup {
    html! {
        h3 { code { (interface.name) } }
        @if !interface.docs.is_empty() { p { (interface.docs) } }
        @if !interface.functions.is_empty() {
            table {
                @for (name, docs) in &interface.functions { tr { td { code { (name) } } td { (docs) } } }
            }
        }
    }
}

fn versions_part(repository: &Repository, versions: &[Version]) -> Markup {
    html! {
        h2 { "Versions" }
        table {
            tr { th { "Version" } th { "Released" } th { "Downloads" } th {} }
            @for version in versions {
                tr {
                    td { a href=(link(repository.as_str(), Some(&version.version))) { (version.version) } }
                    td { (version.released) }
                    td { (version.downloads) }
                    td { @if let Some(yanked) = &version.yanked { span class="yanked" { "yanked: " (yanked.reason) } } }
                }
            }
        }
    }
}

async fn search(State(registry): State<Registry>, request: Request) -> Response {
    registry.search_page(request).await.unwrap_or_else(|refusal| refused(&registry, refusal))
}

async fn package(State(registry): State<Registry>, Path(repository): Path<String>, request: Request) -> Response {
    registry.package_page(request, &repository).await.unwrap_or_else(|refusal| refused(&registry, refusal))
}

async fn search_json(State(registry): State<Registry>, request: Request) -> Response {
    let answer = async {
        let (client, parts) = registry.reader(request).await?;
        let words = oci::query(&parts, "q").unwrap_or_default();
        let after = oci::query(&parts, "after").unwrap_or_default();
        let (packages, next) = registry.search(&client, &words, &after).await?;
        Ok(oci::json(StatusCode::OK, json!({ "packages": packages, "next": next }).to_string()))
    };
    answer.await.unwrap_or_else(Refusal::into_response)
}

async fn package_json(State(registry): State<Registry>, Path(repository): Path<String>, request: Request) -> Response {
    let answer = async {
        let (_, repository) = registry.readable(request, &repository).await?;
        let versions = registry.versions(&repository).await?;
        let name = registry.package_name(&repository);
        let body = json!({ "name": name, "repository": repository.as_str(), "versions": versions });
        Ok(oci::json(StatusCode::OK, body.to_string()))
    };
    answer.await.unwrap_or_else(Refusal::into_response)
}

/// Which versions of a package are yanked: all of them, where a list of versions may be cut short.
async fn yanks(State(registry): State<Registry>, Path(repository): Path<String>, request: Request) -> Response {
    let answer = async {
        let (_, repository) = registry.readable(request, &repository).await?;
        let yanked = registry.yanks(&repository).await?;
        Ok(oci::json(StatusCode::OK, json!({ "yanked": yanked }).to_string()))
    };
    answer.await.unwrap_or_else(Refusal::into_response)
}

async fn yank(State(registry): State<Registry>, Path(repository): Path<String>, request: Request) -> Response {
    registry.yank_version(request, &repository).await.unwrap_or_else(Refusal::into_response)
}
