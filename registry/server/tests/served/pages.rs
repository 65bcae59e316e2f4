//! What people and tools read of the packages: pages, search, yanking.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use witan_registry_server::Digest;
use witan_test_registry::{Running, descriptor, refusal, start, start_with};

const HOSTILE: &str = "<script>alert(1)</script>\"'&";

fn component() -> Vec<u8> {
    wat::parse_str(
        r#"(component
            (import "wasi:http/outgoing-handler@0.2.0" (instance (export "handle" (func))))
            (core module $m (func (export "f")))
            (core instance $i (instantiate $m))
            (func $f (canon lift (core func $i "f")))
            (instance $e (export "add" (func $f)))
            (export "acme:sums/arithmetic@1.0.0" (instance $e)))"#,
    )
    .unwrap()
}

async fn publish(running: &Running, name: &str, version: &str, token: &str) -> Digest {
    let repository = format!("components/acme/{name}");
    let bytes = component();
    let mut manifest = running.push_parts(&repository, &bytes, token).await;
    manifest["layers"][0]["mediaType"] = json!("application/wasm");
    manifest["annotations"] = json!({ "org.opencontainers.image.description": format!("Adds. {HOSTILE}") });
    let answer = running.put_manifest(&repository, version, &manifest, token).await;
    assert_eq!(answer.status(), StatusCode::CREATED);
    Digest::of(manifest.to_string().as_bytes())
}

async fn text(running: &Running, path: &str) -> (u16, String) {
    let answer = running.get(path, "").send().await.unwrap();
    let policy = answer.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'; style-src 'self';"), "{policy}");
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test]
async fn a_package_s_page_says_what_it_is() {
    let running = start_with(|settings| settings.anonymous_pull = true).await;
    let token = running.token(&["acme:push"]).await;
    publish(&running, "sums", "1.2.0", &token).await;
    publish(&running, "sums", "1.10.0", &token).await;
    let (status, page) = text(&running, "/packages/components/acme/sums").await;
    assert_eq!(status, 200);
    for part in [
        "acme:sums",
        "Version 1.10.0",
        "sends HTTP requests to other machines",
        "acme:sums/arithmetic@1.0.0",
        "It has no signature here.",
        "export acme:sums/arithmetic@1.0.0;",
    ] {
        assert!(page.contains(part), "no `{part}` in {page}");
    }
    // What an author wrote is text.
    assert!(!page.contains("<script") && page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    assert!(page.find("1.10.0</a>").unwrap() < page.find("1.2.0</a>").unwrap());
    let (_, page) = text(&running, "/packages/components/acme/sums?version=1.2.0").await;
    assert!(page.contains("Version 1.2.0"));
    assert_eq!(text(&running, "/packages/components/acme/sums?version=9.9.9").await.0, 404);
    assert_eq!(text(&running, "/packages/components/acme/none").await.0, 404);
    assert_eq!(text(&running, "/packages/..%2f..%2fetc").await.0, 400);
}

#[tokio::test]
async fn packages_are_found_by_name_and_description() {
    let running = start_with(|settings| settings.anonymous_pull = true).await;
    let token = running.token(&["acme:push"]).await;
    publish(&running, "sums", "1.0.0", &token).await;
    running.push("acme/other", "1.0.0", b"bytes", &token).await;
    let names = async |words: &str| {
        let request = running.client.get(running.url("/api/packages")).query(&[("q", words)]);
        let body: Value = request.send().await.unwrap().json().await.unwrap();
        let packages = body["packages"].as_array().unwrap().clone();
        packages.iter().map(|package| package["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names("").await, ["acme/other", "acme:sums"]);
    assert_eq!(names("acme:sums").await, ["acme:sums"]);
    assert_eq!(names("ADDS").await, ["acme:sums"]);
    assert_eq!(names("%").await, [""; 0]);
    assert_eq!(names("s_ms").await, [""; 0]);
    let hostile = running.client.get(running.url("/search")).query(&[("q", HOSTILE)]).send().await.unwrap();
    let page = hostile.text().await.unwrap();
    assert!(!page.contains("<script") && page.contains("&lt;script&gt;"), "{page}");
}

#[tokio::test]
async fn only_who_may_pull_sees_a_package() {
    let running = start().await;
    let (acme, other) = (running.token(&["acme:pull,push"]).await, running.token(&["other:pull,push"]).await);
    publish(&running, "sums", "1.0.0", &acme).await;
    running.push("other/x", "1.0.0", b"bytes", &other).await;
    for (token, expected) in [(&acme, "acme:sums"), (&other, "other/x")] {
        let body: Value = running.get("/api/packages", token).send().await.unwrap().json().await.unwrap();
        let packages = body["packages"].as_array().unwrap();
        assert_eq!((packages.len(), packages[0]["name"].as_str().unwrap()), (1, expected));
    }
    let path = "/packages/components/acme/sums";
    let answer = running.get(path, "").send().await.unwrap();
    assert_eq!(answer.status(), 401);
    assert!(answer.headers()["www-authenticate"].to_str().unwrap().starts_with("Basic "));
    assert_eq!(running.get(path, &other).send().await.unwrap().status(), 403);
    let browser = running.client.get(running.url(path)).basic_auth("me", Some(&acme)).send().await.unwrap();
    assert_eq!(browser.status(), 200);
}

#[tokio::test]
async fn a_yanked_version_is_said_to_be_and_stays_there() {
    let running = start_with(|settings| settings.anonymous_pull = true).await;
    let token = running.token(&["acme:push"]).await;
    publish(&running, "sums", "1.0.0", &token).await;
    publish(&running, "sums", "1.1.0", &token).await;
    let yank = |method: Method, token: &str, reason: &str| {
        let request = running.request(method, "/api/yanks/components/acme/sums?version=1.1.0", token);
        request.body(json!({ "reason": reason }).to_string()).send()
    };
    let other = running.token(&["other:push"]).await;
    assert_eq!(yank(Method::PUT, &other, "why not").await.unwrap().status(), 403);
    assert_eq!(yank(Method::PUT, &token, " ").await.unwrap().status(), 400);
    assert_eq!(yank(Method::PUT, &token, &format!("wrong {HOSTILE}")).await.unwrap().status(), 204);
    let path = "/api/packages/components/acme/sums";
    let body: Value = running.get(path, "").send().await.unwrap().json().await.unwrap();
    assert_eq!(body["versions"][0]["version"], "1.1.0");
    assert!(body["versions"][0]["yanked"]["reason"].as_str().unwrap().starts_with("wrong"));
    assert_eq!(body["versions"][1]["yanked"], Value::Null);
    let yanks: Value =
        running.get("/api/yanks/components/acme/sums", &token).send().await.unwrap().json().await.unwrap();
    assert!(yanks["yanked"]["1.1.0"]["reason"].as_str().unwrap().starts_with("wrong"));
    assert_eq!(yanks["yanked"].as_object().unwrap().len(), 1);
    // The page offers the other; a lock file that names the yanked one is still served.
    let (_, page) = text(&running, "/packages/components/acme/sums").await;
    assert!(page.contains("Version 1.0.0") && page.contains("yanked: wrong") && !page.contains("<script"));
    let pull = running.get("/v2/components/acme/sums/manifests/1.1.0", "").send().await.unwrap();
    assert_eq!(pull.status(), 200);
    assert_eq!(yank(Method::DELETE, &token, "").await.unwrap().status(), 204);
    let body: Value = running.get(path, "").send().await.unwrap().json().await.unwrap();
    assert_eq!(body["versions"][0]["yanked"], Value::Null);
    let missing = running.request(Method::PUT, "/api/yanks/components/acme/sums?version=7.0.0", &token);
    assert_eq!(refusal(missing.body(r#"{"reason":"x"}"#).send().await.unwrap()).await.0, 404);
}

#[tokio::test]
async fn downloads_are_counted() {
    let running = start_with(|settings| settings.anonymous_pull = true).await;
    let token = running.token(&["acme:push"]).await;
    publish(&running, "sums", "1.0.0", &token).await;
    for _ in 0..3 {
        running.get("/v2/components/acme/sums/manifests/1.0.0", "").send().await.unwrap();
    }
    // Written down when the registry stops, if not before.
    let running = witan_test_registry::start_in(running.stop().await, |settings| settings.anonymous_pull = true).await;
    let body: Value = running.get("/api/packages", "").send().await.unwrap().json().await.unwrap();
    assert_eq!(body["packages"][0]["downloads"], 3);
}

#[tokio::test]
async fn a_hostile_component_has_a_page_without_its_interfaces() {
    let running = start_with(|settings| {
        settings.anonymous_pull = true;
        settings.limits.drain = Duration::from_secs(1);
    })
    .await;
    let token = running.token(&["acme:push"]).await;
    for (number, bytes) in [&b"\0asm\x0d\0\x01\0"[..], b"\0asm\x0d\0\x01\0\x07\xff\xff", b"text"].iter().enumerate() {
        let repository = format!("components/acme/hostile{number}");
        let mut manifest = running.push_parts(&repository, bytes, &token).await;
        manifest["layers"] = json!([descriptor("application/wasm", bytes)]);
        assert_eq!(running.put_manifest(&repository, "1.0.0", &manifest, &token).await.status(), 201);
        assert_eq!(text(&running, &format!("/packages/{repository}")).await.0, 200);
    }
}
