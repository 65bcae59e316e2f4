//! What people already use: pushing and pulling with the crate that Rust's registry clients are made with.

use oci_client::{
    Client, Reference,
    client::{ClientConfig, ClientProtocol, Config, ImageLayer},
    manifest::{OciDescriptor, OciImageManifest},
    secrets::RegistryAuth,
};
use witan_test_registry::{Running, start, start_with, unique};

const WASM: &str = "application/wasm";
const CONFIG: &str = "application/vnd.wasm.config.v0+json";

fn client() -> Client {
    Client::new(ClientConfig { protocol: ClientProtocol::Http, ..ClientConfig::default() })
}

fn reference(running: &Running, rest: &str) -> Reference {
    format!("{}/{rest}", running.address).parse().unwrap()
}

fn basic(secret: &str) -> RegistryAuth {
    RegistryAuth::Basic("anyone".to_owned(), secret.to_owned())
}

async fn push(running: &Running, name: &str, bytes: &[u8], auth: &RegistryAuth) -> Result<(), String> {
    let layers = [ImageLayer::new(bytes.to_vec(), WASM.to_owned(), None)];
    let config = Config::new(b"{}".to_vec(), CONFIG.to_owned(), None);
    let pushed = client().push(&reference(running, name), &layers, config, auth, None).await;
    pushed.map(drop).map_err(|error| error.to_string())
}

async fn pull(running: &Running, name: &str, auth: &RegistryAuth) -> Result<Vec<u8>, String> {
    let pulled = client().pull(&reference(running, name), auth, vec![WASM]).await.map_err(|error| error.to_string())?;
    Ok(pulled.layers[0].data.to_vec())
}

#[tokio::test]
async fn what_was_pushed_is_pulled() {
    let running = start().await;
    let auth = basic(&running.token(&["acme:pull,push"]).await);
    let bytes = unique(3_000_000);
    push(&running, "components/acme/sums:1.0.0", &bytes, &auth).await.unwrap();
    assert_eq!(pull(&running, "components/acme/sums:1.0.0", &auth).await.unwrap(), bytes);
    let tags = client().list_tags(&reference(&running, "components/acme/sums"), &auth, None, None).await.unwrap();
    assert_eq!(tags.tags, ["1.0.0"]);
}

#[tokio::test]
async fn a_token_of_another_namespace_neither_pushes_nor_pulls() {
    let running = start().await;
    let (acme, other) = (running.token(&["acme:pull,push"]).await, running.token(&["other:pull,push"]).await);
    push(&running, "acme/sums:1.0.0", b"bytes", &basic(&acme)).await.unwrap();
    assert!(push(&running, "acme/sums:1.0.1", b"bytes", &basic(&other)).await.is_err());
    assert!(pull(&running, "acme/sums:1.0.0", &basic(&other)).await.is_err());
    assert!(pull(&running, "acme/sums:1.0.0", &RegistryAuth::Anonymous).await.is_err());
    assert!(pull(&running, "acme/sums:1.0.0", &basic("witan_wrong")).await.is_err());
    assert_eq!(pull(&running, "acme/sums:1.0.0", &basic(&acme)).await.unwrap(), b"bytes");
}

#[tokio::test]
async fn everyone_pulls_where_everyone_may() {
    let running = start_with(|settings| settings.anonymous_pull = true).await;
    let auth = basic(&running.token(&["acme:push"]).await);
    push(&running, "acme/sums:1.0.0", b"bytes", &auth).await.unwrap();
    assert_eq!(pull(&running, "acme/sums:1.0.0", &RegistryAuth::Anonymous).await.unwrap(), b"bytes");
    assert!(push(&running, "acme/sums:1.0.1", b"bytes", &RegistryAuth::Anonymous).await.is_err());
}

#[tokio::test]
async fn referrers_are_found() {
    let running = start().await;
    let auth = basic(&running.token(&["acme:pull,push"]).await);
    push(&running, "acme/sums:1.0.0", b"bytes", &auth).await.unwrap();
    let client = client();
    let subject = reference(&running, "acme/sums:1.0.0");
    let (_, digest) = client.pull_manifest(&subject, &auth).await.unwrap();
    let bundle = client.push_blob(&subject, b"a bundle".to_vec(), &sha256(b"a bundle").to_string()).await.unwrap();
    assert!(!bundle.is_empty());
    let descriptor = |kind: &str, bytes: &[u8]| OciDescriptor {
        media_type: kind.to_owned(),
        digest: sha256(bytes),
        size: bytes.len() as i64,
        ..OciDescriptor::default()
    };
    let manifest = OciImageManifest {
        media_type: Some(witan_test_registry::MANIFEST.to_owned()),
        artifact_type: Some("application/vnd.example.bundle".to_owned()),
        config: descriptor("application/vnd.oci.empty.v1+json", b"{}"),
        layers: vec![descriptor("application/vnd.example.bundle", b"a bundle")],
        subject: Some(OciDescriptor { digest: digest.clone(), ..descriptor(witan_test_registry::MANIFEST, b"") }),
        ..OciImageManifest::default()
    };
    client.push_manifest(&reference(&running, "acme/sums:signature"), &manifest.into()).await.unwrap();
    let by_digest = reference(&running, &format!("acme/sums@{digest}"));
    for (kind, count) in [(None, 1), (Some("application/vnd.example.bundle"), 1), (Some("application/other"), 0)] {
        let found = client.pull_referrers(&by_digest, kind).await.unwrap();
        assert_eq!(found.manifests.len(), count, "{kind:?}");
    }
}

fn sha256(bytes: &[u8]) -> String {
    witan_registry_server::Digest::of(bytes).to_string()
}
