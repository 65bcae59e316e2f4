//! A registry that really listens, and the requests that tests send it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop at what it did not expect")]

use std::{future::Future, net::SocketAddr, sync::Arc};

use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use uuid::Uuid;
use witan_registry_server::{Digest, Registry, Scope, Settings};

/// The media type of an image manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The media type of an image index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A registry that listens on this machine until it is dropped.
pub struct Running {
    /// What is served.
    pub registry: Registry,
    /// Where it listens.
    pub address: SocketAddr,
    /// What requests are sent with.
    pub client: Client,
    /// Where it keeps everything.
    pub folder: Arc<TempDir>,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<()>,
}

/// A registry with the usual settings.
pub async fn start() -> Running {
    start_with(|_| {}).await
}

/// A registry with settings that `change` changes.
pub async fn start_with(change: impl FnOnce(&mut Settings)) -> Running {
    start_in(Arc::new(tempfile::tempdir().unwrap()), change).await
}

/// A registry in a folder that may hold one already.
pub async fn start_in(folder: Arc<TempDir>, change: impl FnOnce(&mut Settings)) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let url = format!("http://{address}").parse().unwrap();
    let mut settings = Settings::new(folder.path().join("data"), url);
    // The port is another at each start, and a log keeps its name.
    settings.log_host = Some("registry.test".to_owned());
    change(&mut settings);
    let registry = Registry::open(settings).await.unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn({
        let registry = registry.clone();
        async move { registry.serve(listener, async { drop(stopped.await) }).await.unwrap() }
    });
    Running { registry, address, client: Client::new(), folder, stop: Some(stop), serving }
}

impl Running {
    /// Stops it, and gives what it kept.
    pub async fn stop(mut self) -> Arc<TempDir> {
        drop(self.stop.take());
        (&mut self.serving).await.unwrap();
        self.folder.clone()
    }

    /// A token's secret.
    pub async fn token(&self, scopes: &[&str]) -> String {
        let scopes: Vec<Scope> = scopes.iter().map(|scope| scope.parse().unwrap()).collect();
        self.registry.create_token("test", &scopes, None).await.unwrap().1
    }

    /// The URL of `path`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A request with `token`, or without one where it is empty.
    pub fn request(&self, method: Method, path: &str, token: &str) -> RequestBuilder {
        let request = self.client.request(method, self.url(path));
        if token.is_empty() { request } else { request.bearer_auth(token) }
    }

    /// A request to read `path`.
    pub fn get(&self, path: &str, token: &str) -> RequestBuilder {
        self.request(Method::GET, path, token)
    }

    /// Pushes a blob in one request.
    pub async fn push_blob(&self, repository: &str, bytes: &[u8], token: &str) -> Digest {
        let digest = Digest::of(bytes);
        let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        let answer = self.request(Method::POST, &path, token).body(bytes.to_vec()).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::CREATED, "{}", answer.text().await.unwrap());
        digest
    }

    /// Pushes a manifest.
    pub async fn put_manifest(&self, repository: &str, reference: &str, manifest: &Value, token: &str) -> Response {
        let kind = manifest["mediaType"].as_str().unwrap_or(MANIFEST).to_owned();
        let request = self.request(Method::PUT, &format!("/v2/{repository}/manifests/{reference}"), token);
        request.header("content-type", kind).body(manifest.to_string()).send().await.unwrap()
    }

    /// Pushes a config, a layer and the manifest that names them.
    pub async fn push(&self, repository: &str, tag: &str, layer: &[u8], token: &str) -> Digest {
        let manifest = self.push_parts(repository, layer, token).await;
        let answer = self.put_manifest(repository, tag, &manifest, token).await;
        assert_eq!(answer.status(), StatusCode::CREATED, "{}", answer.text().await.unwrap());
        Digest::of(manifest.to_string().as_bytes())
    }

    /// Pushes a config and a layer, and gives a manifest that names them.
    pub async fn push_parts(&self, repository: &str, layer: &[u8], token: &str) -> Value {
        self.push_blob(repository, b"{}", token).await;
        self.push_blob(repository, layer, token).await;
        manifest(layer)
    }
}

/// A manifest of the empty config and one layer.
pub fn manifest(layer: &[u8]) -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor("application/vnd.oci.empty.v1+json", b"{}"),
        "layers": [descriptor("application/octet-stream", layer)],
    })
}

/// What names `bytes` in a manifest.
pub fn descriptor(kind: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": kind, "digest": Digest::of(bytes).to_string(), "size": bytes.len() })
}

/// The status and the code of an answer that should be a refusal.
pub async fn refusal(answer: Response) -> (u16, String) {
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap();
    let body: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{status}: not a refusal: {text}"));
    let error = &body["errors"][0];
    assert!(!error["message"].as_str().unwrap().is_empty());
    (status, error["code"].as_str().unwrap().to_owned())
}

/// Bytes that no other call gives.
pub fn unique(length: usize) -> Vec<u8> {
    let mut bytes = Uuid::now_v7().to_string().into_bytes();
    bytes.resize(length.max(bytes.len()), b'.');
    bytes
}

/// Runs many at once and waits for all.
pub async fn all<T: Send + 'static>(futures: Vec<impl Future<Output = T> + Send + 'static>) -> Vec<T> {
    let tasks: Vec<_> = futures.into_iter().map(tokio::spawn).collect();
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await.unwrap());
    }
    results
}
