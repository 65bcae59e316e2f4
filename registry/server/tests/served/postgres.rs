//! The same registry over PostgreSQL: a server of its own.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tempfile::TempDir;
use witan_registry_server::{DatabaseSettings, Deletion, Digest};
use witan_test_registry::{MANIFEST, Running, descriptor, manifest, refusal, start_in};
use witan_test_tools::Postgres;

async fn start(postgres: &Postgres, folder: Arc<TempDir>) -> Running {
    start_in(folder, |settings| {
        settings.database = DatabaseSettings::Postgres(postgres.url());
        settings.deletion = Deletion::All;
        settings.limits.unreferenced = Duration::ZERO;
        settings.limits.untagged = Some(Duration::ZERO);
        settings.limits.namespace_bytes = 100_000;
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_works_over_postgresql() {
    let Some(postgres) = Postgres::or_skip() else { return };
    let running = start(&postgres, Arc::new(tempfile::tempdir().unwrap())).await;
    let token = running.token(&["acme:pull,push,delete"]).await;

    // Pushing and pulling, versions that stay, tags in the order of their bytes.
    let first = running.push("acme/sums", "1.0.0", b"first", &token).await;
    let second = running.push_parts("acme/sums", b"second", &token).await;
    let again = running.put_manifest("acme/sums", "1.0.0", &second, &token).await;
    assert_eq!(refusal(again).await.0, 409);
    for tag in ["b", "a", "B", "_x"] {
        assert_eq!(running.put_manifest("acme/sums", tag, &second, &token).await.status(), 201);
    }
    let tags: Value = running.get("/v2/acme/sums/tags/list", &token).send().await.unwrap().json().await.unwrap();
    assert_eq!(tags["tags"], json!(["1.0.0", "B", "_x", "a", "b"]));

    // Referrers, quotas.
    let mut referrer = running.push_parts("acme/sums", b"signature", &token).await;
    referrer["subject"] = descriptor(MANIFEST, manifest(b"first").to_string().as_bytes());
    let signature = Digest::of(referrer.to_string().as_bytes());
    running.put_manifest("acme/sums", &signature.to_string(), &referrer, &token).await;
    for (kind, count) in [("", 1), ("?artifactType=application/vnd.oci.empty.v1%2Bjson", 1), ("?artifactType=x", 0)] {
        let path = format!("/v2/acme/sums/referrers/{first}{kind}");
        let list: Value = running.get(&path, &token).send().await.unwrap().json().await.unwrap();
        assert_eq!(list["manifests"].as_array().unwrap().len(), count, "{kind}");
    }
    let large = vec![7; 100_000];
    let path = format!("/v2/acme/sums/blobs/uploads/?digest={}", Digest::of(&large));
    let answer = running.request(reqwest::Method::POST, &path, &token).body(large).send().await.unwrap();
    assert_eq!(refusal(answer).await.1, "DENIED");

    // Pages, search and yanking.
    for path in ["/api/packages?q=SUMS", "/search?q=sums"] {
        assert!(running.get(path, &token).send().await.unwrap().text().await.unwrap().contains("acme/sums"), "{path}");
    }
    let yank = running.request(reqwest::Method::PUT, "/api/yanks/acme/sums?version=1.0.0", &token);
    assert_eq!(yank.body(r#"{"reason":"wrong"}"#).send().await.unwrap().status(), 204);
    let page = running.get("/packages/acme/sums", &token).send().await.unwrap();
    assert!(page.text().await.unwrap().contains("Yanked on"));

    // Pushes at once, and what nothing needs is collected.
    let pushes: Vec<_> = (0..16_u8)
        .map(|number| {
            let url = running.url(&format!("/v2/acme/sums/blobs/uploads/?digest={}", Digest::of(&[number; 50])));
            let request = running.client.post(url).bearer_auth(&token).body(vec![number; 50]);
            async move { request.send().await.unwrap().status().as_u16() }
        })
        .collect();
    assert_eq!(witan_test_registry::all(pushes).await, [201; 16]);
    let collected = running.registry.collect().await.unwrap();
    assert_eq!((collected.manifests, collected.links, collected.files), (0, 16, 16));

    // A restart.
    let running = start(&postgres, running.stop().await).await;
    for reference in ["1.0.0".to_owned(), first.to_string(), signature.to_string()] {
        let path = format!("/v2/acme/sums/manifests/{reference}");
        assert_eq!(running.get(&path, &token).send().await.unwrap().status(), 200);
    }
    running.stop().await;
}
