//! Registries that lie, one thing at a time. Each test first sees the same flow succeed with a server that does not.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Request, Response},
};
use futures::stream;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use witan_registry_client::{
    Client, Credentials, DiscoverError, FetchError, Progress, PublishError, RequestError, Settings,
};
use witan_registry_sign::{Signed, SigningKey};
use witan_registry_tuf::{HoldError, Signers, hold, sign_online, sign_root, sign_targets};
use witan_registry_types::{
    Artifact, BundleManifest, Descriptor, Digest, Host, ManifestError, Mapping, Referrers, media,
};

use crate::support::{host, package, settings, statements, unsigned};

const REPOSITORY: &str = "/v2/components/acme/sums";

/// What is answered to a path.
#[derive(Clone)]
struct Page {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Content,
}

#[derive(Clone)]
enum Content {
    Bytes(Vec<u8>),
    /// Bytes without end, and no length.
    Endless,
    /// Nothing ever.
    Silence,
}

fn page(kind: &str, bytes: impl Into<Vec<u8>>) -> Page {
    Page { status: 200, headers: vec![("content-type", kind.to_owned())], body: Content::Bytes(bytes.into()) }
}

fn status(status: u16) -> Page {
    Page { status, ..page("application/json", br#"{"errors":[{"code":"X","message":"it says no"}]}"#) }
}

/// A server of fixed answers, which remembers what it was asked and with which headers.
#[derive(Clone)]
struct Liar {
    address: SocketAddr,
    pages: Arc<Mutex<BTreeMap<String, Page>>>,
    asked: Arc<Mutex<Vec<(String, HeaderMap)>>>,
}

impl Liar {
    async fn start(pages: BTreeMap<String, Page>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let liar = Self { address, pages: Arc::new(Mutex::new(pages)), asked: Arc::default() };
        let router = Router::new().fallback(answer).with_state(liar.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        liar
    }

    fn set(&self, path: impl Into<String>, page: Page) {
        self.pages.lock().unwrap().insert(path.into(), page);
    }

    fn client(&self) -> Client {
        self.client_with(settings())
    }

    fn client_with(&self, settings: Settings) -> Client {
        Client::new(self.host(), Mapping::default(), settings).unwrap()
    }

    fn host(&self) -> Host {
        host(self.address)
    }

    /// The headers `authorization` that it was sent.
    fn secrets(&self) -> Vec<String> {
        let asked = self.asked.lock().unwrap();
        let secret = |headers: &HeaderMap| headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
        asked.iter().filter_map(|(_, headers)| secret(headers)).collect()
    }
}

async fn answer(State(liar): State<Liar>, request: Request<Body>) -> Response<Body> {
    let path = request.uri().path_and_query().unwrap().to_string();
    liar.asked.lock().unwrap().push((path.clone(), request.headers().clone()));
    let page = liar.pages.lock().unwrap().get(&path).cloned().unwrap_or_else(|| status(404));
    let mut response = Response::builder().status(page.status);
    for (name, value) in page.headers {
        response = response.header(name, value);
    }
    let body = match page.body {
        Content::Bytes(bytes) => Body::from(bytes),
        Content::Endless => {
            Body::from_stream(stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(&[b' '; 64 << 10]))))
        }
        Content::Silence => Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>()),
    };
    response.body(body).unwrap()
}

/// A version as an honest registry holds it: its pages, the digest of its manifest, and its parts.
struct Honest {
    pages: BTreeMap<String, Page>,
    digest: Digest,
    artifact: Artifact,
    bundle_manifest: Vec<u8>,
}

fn manifest_path(reference: impl std::fmt::Display) -> String {
    format!("{REPOSITORY}/manifests/{reference}")
}

fn blob_path(bytes: &[u8]) -> String {
    format!("{REPOSITORY}/blobs/{}", Digest::of(bytes))
}

fn list(entries: &[Value]) -> String {
    json!({ "schemaVersion": 2, "mediaType": media::INDEX, "manifests": entries }).to_string()
}

fn entry(manifest: &[u8], kind: &str) -> Value {
    let digest = Digest::of(manifest).to_string();
    json!({ "mediaType": media::MANIFEST, "digest": digest, "size": manifest.len(), "artifactType": kind })
}

impl Honest {
    fn new() -> Self {
        let mut artifact = unsigned(5_000);
        let digest = Digest::of(&artifact.manifest);
        let [statement, ..] = statements(digest);
        let bundle = Signed::with_key(&statement, &SigningKey::generate().unwrap()).unwrap().unlogged().unwrap();
        let subject = Descriptor::of(media::MANIFEST, &artifact.manifest);
        let bundle_manifest = BundleManifest::new(subject, &bundle, "urn:witan:release:v1").to_json();
        artifact.bundles.push(bundle.clone());
        let mut pages = BTreeMap::from([
            (manifest_path(digest), page(media::MANIFEST, artifact.manifest.clone())),
            (manifest_path("1.0.0"), page(media::MANIFEST, artifact.manifest.clone())),
            (manifest_path(Digest::of(&bundle_manifest)), page(media::MANIFEST, bundle_manifest.clone())),
            (referrers_path(&digest), page(media::INDEX, list(&[entry(&bundle_manifest, media::BUNDLE)]))),
        ]);
        for blob in [&artifact.config, &artifact.layer, &bundle] {
            pages.insert(blob_path(blob), page("application/octet-stream", blob.clone()));
        }
        Self { pages, digest, artifact, bundle_manifest }
    }

    /// A server of it, which was seen to serve it.
    async fn start(&self) -> Liar {
        let liar = Liar::start(self.pages.clone()).await;
        assert_eq!(self.fetch(&liar.client()).await.unwrap(), self.artifact);
        liar
    }

    async fn fetch(&self, client: &Client) -> Result<Artifact, FetchError> {
        client.fetch(&package(), &self.digest, &|_: Progress| {}).await
    }

    async fn refused(&self, liar: &Liar) -> FetchError {
        self.fetch(&liar.client()).await.unwrap_err()
    }
}

fn referrers_path(digest: &Digest) -> String {
    format!("{REPOSITORY}/referrers/{digest}")
}

fn fallback_path(digest: &Digest) -> String {
    manifest_path(format!("sha256-{}", digest.hex()))
}

#[tokio::test]
async fn bytes_that_are_not_those_of_their_digest_are_refused() {
    let honest = Honest::new();
    let liar = honest.start().await;
    let mut layer = honest.artifact.layer.clone();
    layer[7] ^= 1;
    liar.set(blob_path(&honest.artifact.layer), page("application/octet-stream", layer));
    let refused = honest.refused(&liar).await;
    assert!(matches!(refused, FetchError::Digest { what: "the component", .. }), "{refused:?}");

    let liar = honest.start().await;
    let mut config = honest.artifact.config.clone();
    config[3] ^= 1;
    liar.set(blob_path(&honest.artifact.config), page("application/octet-stream", config));
    assert!(matches!(honest.refused(&liar).await, FetchError::Digest { what: "the config", .. }));

    let liar = honest.start().await;
    liar.set(manifest_path(honest.digest), page(media::MANIFEST, unsigned(6_000).manifest));
    assert!(matches!(honest.refused(&liar).await, FetchError::Digest { what: "the manifest", .. }));

    let liar = honest.start().await;
    let bundle = &honest.artifact.bundles[0];
    let other: Vec<u8> = bundle.iter().rev().copied().collect();
    liar.set(blob_path(bundle), page("application/octet-stream", other));
    assert!(matches!(honest.refused(&liar).await, FetchError::Digest { what: "a signature", .. }));

    let liar = honest.start().await;
    let mut manifest = honest.bundle_manifest.clone();
    let last = manifest.len() - 1;
    manifest[last] = b' ';
    liar.set(manifest_path(Digest::of(&honest.bundle_manifest)), page(media::MANIFEST, manifest));
    assert!(matches!(honest.refused(&liar).await, FetchError::Digest { what: "the manifest of a signature", .. }));
}

#[tokio::test]
async fn a_size_that_is_a_lie_is_refused() {
    let honest = Honest::new();
    let path = blob_path(&honest.artifact.layer);
    for bytes in [&honest.artifact.layer[1..], &[&honest.artifact.layer[..], b"x"].concat(), b""] {
        let liar = honest.start().await;
        liar.set(&path, page("application/octet-stream", bytes));
        let refused = honest.refused(&liar).await;
        assert!(matches!(refused, FetchError::Size { what: "the component", stated: 5_000, .. }), "{refused:?}");
    }
    let liar = honest.start().await;
    liar.set(path, Page { body: Content::Endless, ..page("application/octet-stream", "") });
    assert!(matches!(honest.refused(&liar).await, FetchError::Size { what: "the component", found: 5_001, .. }));
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_an_error() {
    let honest = Honest::new();
    honest.start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::new(host(listener.local_addr().unwrap()), Mapping::default(), settings()).unwrap();
    let manifest = honest.artifact.manifest.clone();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        let _read = stream.read(&mut request).await.unwrap();
        let kind = media::MANIFEST;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n", manifest.len());
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&manifest[..50]).await.unwrap();
    });
    let refused = honest.fetch(&client).await.unwrap_err();
    assert!(matches!(refused, FetchError::Request(RequestError::Unreachable { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_huge_manifest_is_not_read() {
    let honest = Honest::new();
    let liar = honest.start().await;
    let endless = Page { body: Content::Endless, ..page(media::MANIFEST, "") };
    liar.set(manifest_path(honest.digest), endless.clone());
    liar.set(manifest_path("1.0.0"), endless);
    let refused = honest.refused(&liar).await;
    assert!(
        matches!(refused, FetchError::Request(RequestError::TooLarge { most, .. }) if most == 4 << 20),
        "{refused:?}"
    );
    assert!(matches!(liar.client().resolve(&package()).await, Err(FetchError::Request(RequestError::TooLarge { .. }))));
    // One that says so beforehand as well.
    let huge = vec![b' '; (4 << 20) + 1];
    liar.set(manifest_path(honest.digest), page(media::MANIFEST, huge));
    assert!(matches!(honest.refused(&liar).await, FetchError::Request(RequestError::TooLarge { .. })));
}

#[tokio::test]
async fn a_component_larger_than_is_allowed_is_not_asked_for() {
    let honest = Honest::new();
    let liar = honest.start().await;
    liar.asked.lock().unwrap().clear();
    let client = liar.client_with(Settings { layer_bytes: 4_999, ..settings() });
    let refused = honest.fetch(&client).await.unwrap_err();
    assert!(matches!(refused, FetchError::LayerTooLarge { size: 5_000, most: 4_999 }), "{refused:?}");
    let layer = blob_path(&honest.artifact.layer);
    assert!(liar.asked.lock().unwrap().iter().all(|(path, _)| *path != layer));
}

#[tokio::test]
async fn referrers_without_end_are_refused() {
    let honest = Honest::new();
    let liar = honest.start().await;
    let many: Vec<Value> = (0..200_u32).map(|number| entry(&number.to_be_bytes(), media::BUNDLE)).collect();
    let others: Vec<Value> = (200..400_u32).map(|number| entry(&number.to_be_bytes(), media::BUNDLE)).collect();
    let path = referrers_path(&honest.digest);
    let next = |to: String| ("link", format!("<{to}>; rel=\"next\""));
    let paged = |entries: &[Value], to: String| {
        let mut page = page(media::INDEX, list(entries));
        page.headers.push(next(to));
        page
    };
    liar.set(&path, paged(&many, format!("{path}?last=1")));
    liar.set(format!("{path}?last=1"), page(media::INDEX, list(&others)));
    let most = Referrers::MOST;
    let refused = honest.refused(&liar).await;
    assert!(matches!(refused, FetchError::TooManyReferrers { most: found, .. } if found == most), "{refused:?}");
    // Pages without end that have nothing new.
    liar.set(&path, paged(&[], format!("{path}?last=1")));
    liar.set(format!("{path}?last=1"), paged(&[], format!("{path}?last=2")));
    liar.set(format!("{path}?last=2"), paged(&[], format!("{path}?last=1")));
    assert!(matches!(honest.refused(&liar).await, FetchError::TooManyReferrers { .. }));
    // In one list.
    liar.set(&path, page(media::INDEX, list(&[many, others].concat())));
    assert!(matches!(honest.refused(&liar).await, FetchError::Referrers { .. }));
}

#[tokio::test]
async fn the_next_page_stays_with_the_list() {
    let honest = Honest::new();
    let other = honest.start().await;
    let liar = honest.start().await;
    let path = referrers_path(&honest.digest);
    let elsewhere = format!("http://{}{path}", other.address);
    for to in [elsewhere.as_str(), "/v2/components/acme/sums/tags/list", "/", path.as_str(), "//evil.example/"] {
        let mut page = honest.pages[&path].clone();
        page.headers.push(("link", format!("<{to}>; rel=\"next\"")));
        liar.set(&path, page);
        let refused = honest.refused(&liar).await;
        assert!(matches!(refused, FetchError::Request(RequestError::Answer { .. })), "{to}: {refused:?}");
    }
}

#[tokio::test]
async fn a_failure_is_not_taken_for_the_absence_of_signatures() {
    let honest = Honest::new();
    for path in [referrers_path(&honest.digest), fallback_path(&honest.digest)] {
        for code in [400, 401, 403, 429, 500, 502, 503] {
            let liar = honest.start().await;
            liar.set(&path, status(code));
            let refused = honest.refused(&liar).await;
            let said =
                matches!(refused, FetchError::Request(RequestError::Status { .. } | RequestError::Unauthorized { .. }));
            assert!(said, "{code}: {refused:?}");
        }
        for (kind, body) in [
            (media::INDEX, ""),
            (media::INDEX, "[]"),
            (media::INDEX, "{}"),
            (media::INDEX, "<html>"),
            ("text/html", "{}"),
            ("application/json", r#"{"schemaVersion":2,"manifests":[]}"#),
        ] {
            let liar = honest.start().await;
            liar.set(&path, page(kind, body));
            let refused = honest.refused(&liar).await;
            assert!(matches!(refused, FetchError::Referrers { .. }), "{kind} {body}: {refused:?}");
        }
        let liar = honest.start().await;
        liar.set(&path, Page { body: Content::Silence, ..page(media::INDEX, "") });
        let client = liar.client_with(Settings { idle: Duration::from_millis(300), ..settings() });
        let refused = honest.fetch(&client).await.unwrap_err();
        assert!(matches!(refused, FetchError::Request(RequestError::Timeout { .. })), "{refused:?}");
    }
    // A bundle that is listed and cannot be had is missing, and not absent.
    let liar = honest.start().await;
    liar.set(manifest_path(Digest::of(&honest.bundle_manifest)), status(404));
    assert!(matches!(honest.refused(&liar).await, FetchError::Request(RequestError::NotFound { .. })));
}

#[tokio::test]
async fn a_trickle_ends_at_the_total_time() {
    let honest = Honest::new();
    honest.start().await;
    let settings = Settings { total: Duration::from_millis(500), ..settings() };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _read = stream.read(&mut [0; 4096]).await.unwrap();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {}\r\n\r\n", media::MANIFEST);
        let mut sent = stream.write_all(head.as_bytes()).await;
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        while sent.is_ok() {
            ticks.tick().await;
            sent = stream.write_all(b" ").await;
        }
    });
    let client = Client::new(host(address), Mapping::default(), settings).unwrap();
    let refused = honest.fetch(&client).await.unwrap_err();
    assert!(matches!(refused, FetchError::Request(RequestError::Timeout { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_registry_without_a_list_of_referrers_has_the_fallback_tag() {
    let honest = Honest::new();
    let liar = honest.start().await;
    liar.set(referrers_path(&honest.digest), status(404));
    assert_eq!(honest.fetch(&liar.client()).await.unwrap().bundles, Vec::<Vec<u8>>::new());
    for kind in [media::BUNDLE, "application/wrong", ""] {
        liar.set(fallback_path(&honest.digest), page(media::INDEX, list(&[entry(&honest.bundle_manifest, kind)])));
        assert_eq!(honest.fetch(&liar.client()).await.unwrap(), honest.artifact, "{kind}");
    }
    // It is looked at where there is a list as well.
    liar.set(referrers_path(&honest.digest), page(media::INDEX, list(&[])));
    assert_eq!(honest.fetch(&liar.client()).await.unwrap(), honest.artifact);
}

#[tokio::test]
async fn what_is_no_signature_of_this_version_is_passed_over() {
    let honest = Honest::new();
    let liar = honest.start().await;
    let stranger = unsigned(10).manifest;
    let bundle = &honest.artifact.bundles[0];
    let elsewhere = Descriptor::of(media::MANIFEST, b"another version");
    let copied = BundleManifest::new(elsewhere, bundle, "urn:witan:release:v1").to_json();
    for manifest in [&stranger, &copied] {
        liar.set(manifest_path(Digest::of(manifest)), page(media::MANIFEST, manifest.clone()));
    }
    let entries = [&stranger, &copied, &honest.bundle_manifest].map(|manifest| entry(manifest, media::BUNDLE));
    liar.set(referrers_path(&honest.digest), page(media::INDEX, list(&entries)));
    assert_eq!(honest.fetch(&liar.client()).await.unwrap(), honest.artifact);
}

/// A registry that wants a token from `realm`.
fn guarded(honest: &Honest, realm: &str) -> Page {
    let mut page = status(401);
    let challenge = format!("Bearer realm=\"{realm}\",service=\"x\",scope=\"repository:everything:push\"");
    page.headers.push(("www-authenticate", challenge));
    assert!(honest.pages.contains_key(&manifest_path(honest.digest)));
    page
}

fn with_secret(liar: &Liar) -> Settings {
    let mut settings = settings();
    settings.credentials.insert(liar.host(), Credentials::new("anyone", "the-secret"));
    settings
}

#[tokio::test]
async fn a_secret_is_sent_to_no_other_realm() {
    let honest = Honest::new();
    let (liar, thief) = (honest.start().await, Liar::start(BTreeMap::new()).await);
    // The same flow with a realm of its own: the access token is asked for with the secret, and for what we want alone.
    let token = format!("/token?service=x&scope={}", "repository%3Acomponents%2Facme%2Fsums%3Apull");
    liar.set(&token, page("application/json", r#"{"token":"access"}"#));
    liar.set(manifest_path(honest.digest), guarded(&honest, &format!("http://{}/token", liar.address)));
    let refused = honest.fetch(&liar.client_with(with_secret(&liar))).await.unwrap_err();
    assert!(matches!(refused, FetchError::Request(RequestError::Unauthorized { known: true, .. })), "{refused:?}");
    assert_eq!(liar.secrets(), ["Basic YW55b25lOnRoZS1zZWNyZXQ=", "Bearer access"]);

    liar.asked.lock().unwrap().clear();
    for realm in [
        format!("http://{}/token", thief.address),
        format!("http://{}@{}/token", liar.address, thief.address),
        "https://evil.example/token".to_owned(),
        "not a url".to_owned(),
        String::new(),
    ] {
        liar.set(manifest_path(honest.digest), guarded(&honest, &realm));
        let refused = honest.fetch(&liar.client_with(with_secret(&liar))).await.unwrap_err();
        assert!(matches!(refused, FetchError::Request(RequestError::Realm { .. })), "{realm}: {refused:?}");
    }
    assert!(thief.asked.lock().unwrap().is_empty());
    assert_eq!(liar.secrets(), Vec::<String>::new());

    // Unless the operator named it.
    thief.set(&token, page("application/json", r#"{"token":"access"}"#));
    liar.set(manifest_path(honest.digest), guarded(&honest, &format!("http://{}/token", thief.address)));
    let mut settings = with_secret(&liar);
    settings.realms.insert(thief.host());
    let refused = honest.fetch(&liar.client_with(settings)).await.unwrap_err();
    assert!(matches!(refused, FetchError::Request(RequestError::Unauthorized { .. })), "{refused:?}");
    assert_eq!(thief.secrets(), ["Basic YW55b25lOnRoZS1zZWNyZXQ="]);
}

#[tokio::test]
async fn a_realm_that_redirects_gets_nothing() {
    let honest = Honest::new();
    let (liar, thief) = (honest.start().await, Liar::start(BTreeMap::new()).await);
    let mut page = status(307);
    page.headers.push(("location", format!("http://{}/token", thief.address)));
    liar.set("/token?service=x&scope=repository%3Acomponents%2Facme%2Fsums%3Apull", page);
    liar.set(manifest_path(honest.digest), guarded(&honest, &format!("http://{}/token", liar.address)));
    let refused = honest.fetch(&liar.client_with(with_secret(&liar))).await.unwrap_err();
    assert!(matches!(refused, FetchError::Request(RequestError::Redirect { .. })), "{refused:?}");
    assert!(thief.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_secret_does_not_follow_a_redirect() {
    let honest = Honest::new();
    let (liar, other) = (honest.start().await, honest.start().await);
    other.asked.lock().unwrap().clear();
    let layer = blob_path(&honest.artifact.layer);
    let mut basic = status(401);
    basic.headers.push(("www-authenticate", "Basic realm=\"x\"".to_owned()));
    let to =
        |path: &str| Page { headers: vec![("location", format!("http://{}{path}", other.address))], ..status(307) };
    // A blob may lie elsewhere, and is had without a secret. Its bytes are checked all the same.
    liar.set(&layer, to(&layer));
    assert_eq!(honest.fetch(&liar.client_with(with_secret(&liar))).await.unwrap(), honest.artifact);
    assert_eq!(other.asked.lock().unwrap().len(), 1);
    assert_eq!(other.secrets(), Vec::<String>::new());
    other.set(&layer, basic);
    let refused = honest.fetch(&liar.client_with(with_secret(&liar))).await.unwrap_err();
    assert!(matches!(refused, FetchError::Request(RequestError::Status { .. })), "{refused:?}");
    assert_eq!(other.secrets(), Vec::<String>::new());
    other.set(&layer, page("application/octet-stream", "other bytes"));
    assert!(matches!(honest.refused(&liar).await, FetchError::Size { .. }));
    other.set(&layer, to(&layer));
    assert!(matches!(honest.refused(&liar).await, FetchError::Request(RequestError::Redirect { .. })));
    // Nothing else may.
    for path in [manifest_path(honest.digest), referrers_path(&honest.digest), fallback_path(&honest.digest)] {
        let liar = honest.start().await;
        liar.set(&path, to(&path));
        assert!(matches!(honest.refused(&liar).await, FetchError::Request(RequestError::Redirect { .. })), "{path}");
    }
    liar.set(&layer, Page { headers: vec![("location", "file:///etc/passwd".to_owned())], ..status(307) });
    assert!(matches!(honest.refused(&liar).await, FetchError::Request(RequestError::Redirect { .. })));
}

#[tokio::test]
async fn the_type_of_an_answer_is_that_of_what_it_is() {
    let honest = Honest::new();
    for kind in [media::INDEX, "application/json", "", "application/vnd.docker.distribution.manifest.v2+json"] {
        let liar = honest.start().await;
        liar.set(manifest_path(honest.digest), page(kind, honest.artifact.manifest.clone()));
        let refused = honest.refused(&liar).await;
        let typed = matches!(&refused, FetchError::Manifest { source: ManifestError::MediaType { .. }, .. });
        assert!(typed, "{kind}: {refused:?}");
    }
    let liar = honest.start().await;
    let mut encoded = page(media::MANIFEST, honest.artifact.manifest.clone());
    encoded.headers.push(("content-encoding", "gzip".to_owned()));
    liar.set(manifest_path(honest.digest), encoded);
    assert!(matches!(honest.refused(&liar).await, FetchError::Request(RequestError::Encoded { .. })));
}

#[tokio::test]
async fn a_manifest_of_another_form_is_refused_though_its_digest_is_right() {
    let honest = Honest::new();
    honest.start().await;
    let sound = String::from_utf8(honest.artifact.manifest.clone()).unwrap();
    for (from, to) in [
        ("\"layers\"", "\"manifests\":[],\"layers\""),
        (
            "\"layers\":[",
            "\"layers\":[{\"mediaType\":\"application/wasm\",\"digest\":\"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\",\"size\":4},",
        ),
        ("application/wasm\"", "application/wasm+gzip\""),
        ("application/wasm\"", "application/vnd.oci.image.layer.v1.tar+gzip\""),
        ("\"size\":5000", "\"size\":5000,\"annotations\":{\"org.opencontainers.image.title\":\"../../../bin/sh\"}"),
        ("\"size\":5000", "\"size\":5000,\"urls\":[\"https://elsewhere.example\"]"),
        ("\"sha256:", "\"SHA256:"),
        ("\"sha256:", "\"sha512:"),
        ("\"sha256:", "\"sha256:../"),
    ] {
        let text = sound.replace(from, to);
        assert_ne!(text, sound);
        let digest = Digest::of(text.as_bytes());
        let liar = Liar::start(BTreeMap::from([(manifest_path(digest), page(media::MANIFEST, text))])).await;
        let refused = liar.client().fetch(&package(), &digest, &|_: Progress| {}).await.unwrap_err();
        assert!(matches!(refused, FetchError::Manifest { .. }), "{to}: {refused:?}");
    }
}

#[tokio::test]
async fn a_header_that_names_another_digest_is_refused() {
    let honest = Honest::new();
    let hex = honest.digest.hex();
    let header = |value: String| {
        let mut page = page(media::MANIFEST, honest.artifact.manifest.clone());
        page.headers.push(("docker-content-digest", value));
        page
    };
    let liar = honest.start().await;
    liar.set(manifest_path("1.0.0"), header(honest.digest.to_string()));
    liar.set(manifest_path(honest.digest), header(honest.digest.to_string()));
    assert_eq!(liar.client().resolve(&package()).await.unwrap(), honest.digest);
    assert_eq!(honest.fetch(&liar.client()).await.unwrap(), honest.artifact);
    for said in [
        Digest::of(b"other").to_string(),
        format!("sha512:{hex}{hex}"),
        format!("sha256:{}", hex.to_uppercase()),
        format!("SHA256:{hex}"),
        hex.clone(),
        "sha256:../../etc/passwd".to_owned(),
        String::new(),
    ] {
        liar.set(manifest_path("1.0.0"), header(said.clone()));
        liar.set(manifest_path(honest.digest), header(said.clone()));
        let resolved = liar.client().resolve(&package()).await.unwrap_err();
        assert!(matches!(resolved, FetchError::SaidDigest { .. }), "{said}: {resolved:?}");
        let refused = honest.refused(&liar).await;
        assert!(matches!(refused, FetchError::SaidDigest { .. }), "{said}: {refused:?}");
    }
}

#[tokio::test]
async fn a_poisoned_well_known_file_leads_nowhere() {
    let path = "/.well-known/wasm-pkg/registry.json";
    let liar = Liar::start(BTreeMap::new()).await;
    let well_known = |registry: &str, prefix: &str| {
        let oci = json!({ "registry": registry, "namespacePrefix": prefix });
        page("application/json", json!({ "preferredProtocol": "oci", "oci": oci }).to_string())
    };
    liar.set(path, well_known(&liar.host().to_string(), "components/"));
    let mut settings = with_secret(&liar);
    let found = Client::discover(liar.host(), settings.clone()).await.unwrap();
    assert_eq!(found.repository(&package().name).as_str(), "components/acme/sums");
    assert_eq!(liar.secrets(), Vec::<String>::new());

    liar.set(path, well_known("evil.example", "components/"));
    let refused = Client::discover(liar.host(), settings.clone()).await.err().unwrap();
    assert!(matches!(refused, DiscoverError::OtherHost { .. }), "{refused:?}");
    settings.registries.insert("evil.example".parse().unwrap());
    assert_eq!(Client::discover(liar.host(), settings.clone()).await.unwrap().host().as_str(), "evil.example");
    settings.registries.clear();
    for (registry, prefix) in
        [("user@evil.example", ""), ("evil.example/x", ""), (liar.host().as_str(), "../"), (liar.host().as_str(), "A/")]
    {
        liar.set(path, well_known(registry, prefix));
        let refused = Client::discover(liar.host(), settings.clone()).await.err().unwrap();
        assert!(matches!(refused, DiscoverError::Name { .. }), "{registry} {prefix}: {refused:?}");
    }
    liar.set(path, page("application/json", r#"{"preferredProtocol":"warg"}"#));
    let refused = Client::discover(liar.host(), settings.clone()).await.err().unwrap();
    assert!(matches!(refused, DiscoverError::Protocol { .. }), "{refused:?}");
    liar.set(path, Page { body: Content::Endless, ..page("application/json", "") });
    let refused = Client::discover(liar.host(), settings.clone()).await.err().unwrap();
    assert!(matches!(refused, DiscoverError::Request(RequestError::TooLarge { .. })), "{refused:?}");
    let to = Page { headers: vec![("location", "https://evil.example/".to_owned())], ..status(302) };
    liar.set(path, to);
    let refused = Client::discover(liar.host(), settings).await.err().unwrap();
    assert!(matches!(refused, DiscoverError::Request(RequestError::Redirect { .. })), "{refused:?}");
}

#[tokio::test]
async fn versions_without_end_are_refused() {
    let liar = Liar::start(BTreeMap::new()).await;
    let path = format!("{REPOSITORY}/tags/list?n=1000");
    let tags = r#"{"tags":["1.0.0","0.9.0","latest","1.10.0","sha256-00","v1.0.0"]}"#;
    liar.set(&path, page("application/json", tags));
    let versions = liar.client().versions(&package().name).await.unwrap();
    let versions: Vec<String> = versions.iter().map(ToString::to_string).collect();
    assert_eq!(versions, ["1.10.0", "1.0.0", "0.9.0"]);
    for number in 0..200 {
        let at = if number == 0 { path.clone() } else { format!("{REPOSITORY}/tags/list?last={number}") };
        let mut page = page("application/json", tags);
        page.headers.push(("link", format!("<{REPOSITORY}/tags/list?last={}>; rel=\"next\"", number + 1)));
        liar.set(at, page);
    }
    assert!(matches!(liar.client().versions(&package().name).await, Err(FetchError::Endless(_))));
}

/// A registry that takes a publication; what it answers to an upload and to a manifest is up to it.
async fn taking(artifact: &Artifact, location: &str, manifest: Page) -> Liar {
    let liar = Liar::start(BTreeMap::new()).await;
    let uploads = format!("{REPOSITORY}/blobs/uploads/");
    liar.set(uploads, Page { status: 202, headers: vec![("location", location.to_owned())], ..status(202) });
    let made = Page { status: 201, headers: Vec::new(), body: Content::Bytes(Vec::new()) };
    for blob in [&artifact.config, &artifact.layer] {
        let digest = Digest::of(blob).to_string().replace(':', "%3A");
        liar.set(format!("/upload/1?digest={digest}"), made.clone());
    }
    // A manifest is asked for before it is put; both have this path.
    liar.set(manifest_path("1.0.0"), manifest);
    liar
}

#[tokio::test]
async fn what_the_registry_says_that_it_took_is_compared() {
    let artifact = unsigned(100);
    let digest = Digest::of(&artifact.manifest);
    let made = |said: Option<&str>| {
        let headers = said.map(|said| ("docker-content-digest", said.to_owned())).into_iter().collect();
        Page { status: 201, headers, body: Content::Bytes(artifact.manifest.clone()) }
    };
    let there = taking(&artifact, "/upload/1", made(Some(&digest.to_string()))).await;
    assert!(there.client().publish(&package(), &artifact).await.unwrap().was_there);
    let liar = taking(&artifact, "/upload/1", made(Some(&Digest::of(b"other").to_string()))).await;
    let refused = liar.client().publish(&package(), &artifact).await.unwrap_err();
    assert!(matches!(refused, PublishError::Existing(_)), "{refused:?}");
}

#[tokio::test]
async fn bytes_and_secrets_are_not_uploaded_elsewhere() {
    let artifact = unsigned(100);
    let made = Page { status: 201, headers: Vec::new(), body: Content::Bytes(artifact.manifest.clone()) };
    let honest = taking(&artifact, "/upload/1", made.clone()).await;
    honest.client_with(with_secret(&honest)).publish(&package(), &artifact).await.unwrap();
    let thief = Liar::start(BTreeMap::new()).await;
    let liar = taking(&artifact, &format!("http://{}/upload/1", thief.address), made).await;
    let refused = liar.client_with(with_secret(&liar)).publish(&package(), &artifact).await.unwrap_err();
    assert!(matches!(refused, PublishError::Request(RequestError::Redirect { .. })), "{refused:?}");
    assert!(thief.asked.lock().unwrap().is_empty());
}

/// The files of TUF metadata that one operator and a registry signed.
fn metadata() -> BTreeMap<String, Vec<u8>> {
    let (operator, own) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
    let signers =
        Signers { operators: [operator.public().clone()].into(), threshold: 1, registry: own.public().clone() };
    let expires = SystemTime::now() + Duration::from_secs(3600);
    let root = sign_root(&signers, None, expires, &[&operator]).unwrap();
    let (targets, path) = sign_targets(&root, 1, expires, b"{}", &[&operator]).unwrap();
    let online = sign_online(&root, &targets, 1, expires, &BTreeMap::new(), &own).unwrap();
    let files = [
        ("/tuf/1.root.json".to_owned(), root.bytes),
        ("/tuf/1.targets.json".to_owned(), targets.bytes),
        (format!("/tuf/targets/{path}"), b"{}".to_vec()),
        ("/tuf/1.yanks.json".to_owned(), online.yanks.bytes),
        ("/tuf/1.snapshot.json".to_owned(), online.snapshot.bytes),
        ("/tuf/timestamp.json".to_owned(), online.timestamp.bytes),
    ];
    files.into()
}

#[tokio::test]
async fn metadata_without_end_or_answer_are_no_metadata() {
    let files = metadata();
    let json = |bytes: &Vec<u8>| page("application/json", bytes.clone());
    let liar = Liar::start(files.iter().map(|(path, bytes)| (path.clone(), json(bytes))).collect()).await;
    let pinned = liar.client().first_root().await.unwrap();
    let ask = || hold(&pinned, None, liar.client(), &[], SystemTime::now());
    ask().await.unwrap();
    for path in files.keys().map(String::as_str).filter(|path| *path != "/tuf/1.root.json").chain(["/tuf/2.root.json"])
    {
        let endless = Page { body: Content::Endless, ..page("application/json", "") };
        let elsewhere = Page { headers: vec![("location", "/tuf/other".to_owned())], ..status(302) };
        for (page, said) in [(endless, "larger than"), (status(503), "503"), (elsewhere, "is not followed")] {
            liar.set(path, page);
            let error = ask().await.unwrap_err();
            assert!(matches!(&error, HoldError::Fetch(text) if text.contains(said)), "{path}: {error}");
        }
        liar.set(path, files.get(path).map_or_else(|| status(404), json));
        ask().await.unwrap();
    }
}
