//! The OCI distribution specification, and every refusal in it, each beside the same flow without its cause.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use witan_registry_server::{Deletion, Digest, Namespace};
use witan_test_registry::{INDEX, MANIFEST, all, descriptor, manifest, refusal, start, start_in, start_with, unique};

const PUSH: &[&str] = &["acme:pull,push"];

#[tokio::test]
async fn who_is_unknown_is_told_where_to_get_a_token() {
    let running = start().await;
    let answer = running.get("/v2/", "").send().await.unwrap();
    assert_eq!(answer.status(), 401);
    let challenge = answer.headers()["www-authenticate"].to_str().unwrap().to_owned();
    assert_eq!(challenge, format!("Bearer realm=\"{}\",service=\"{}\"", running.url("/token"), running.address));
    let answer = running.get("/v2/acme/sums/tags/list", "").send().await.unwrap();
    let challenge = answer.headers()["www-authenticate"].to_str().unwrap();
    assert!(challenge.ends_with(",scope=\"repository:acme/sums:pull\""), "{challenge}");

    let token = running.token(PUSH).await;
    let path = "/token?service=x&scope=repository:acme/sums:pull";
    let answer = running.client.get(running.url(path)).basic_auth("anyone", Some(&token)).send().await.unwrap();
    let body: Value = answer.json().await.unwrap();
    let access = body["token"].as_str().unwrap().to_owned();
    assert_eq!(running.get("/v2/", &access).send().await.unwrap().status(), 200);
    running.push("acme/sums", "1.0.0", b"bytes", &token).await;
    assert_eq!(running.get("/v2/acme/sums/tags/list", &access).send().await.unwrap().status(), 200);
    // It was asked for one repository and for reading.
    let begin = running.request(Method::POST, "/v2/acme/sums/blobs/uploads/", &access).send().await.unwrap();
    assert_eq!(begin.status(), 401);
    assert_eq!(running.get("/v2/acme/other/tags/list", &access).send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn a_revoked_token_ends_at_once() {
    let running = start().await;
    let (id, secret) = running.registry.create_token("a", &["acme:pull".parse().unwrap()], None).await.unwrap();
    let path = "/token?scope=repository:acme/sums:pull";
    let answer = running.client.get(running.url(path)).basic_auth("", Some(&secret)).send().await.unwrap();
    let access = answer.json::<Value>().await.unwrap()["token"].as_str().unwrap().to_owned();
    for token in [&secret, &access] {
        assert_eq!(running.get("/v2/", token).send().await.unwrap().status(), 200);
    }
    assert!(running.registry.revoke_token(id).await.unwrap());
    for token in [&secret, &access] {
        assert_eq!(running.get("/v2/", token).send().await.unwrap().status(), 401);
    }
    let (_, ended) = running.registry.create_token("b", &["acme:pull".parse().unwrap()], Some(1)).await.unwrap();
    assert_eq!(running.get("/v2/", &ended).send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn another_namespace_s_token_may_nothing() {
    let running = start().await;
    let (acme, other) = (running.token(PUSH).await, running.token(&["other:pull,push,delete"]).await);
    let digest = running.push("acme/sums", "1.0.0", b"bytes", &acme).await;
    let blob = Digest::of(b"bytes");
    for (method, path) in [
        (Method::GET, "/v2/acme/sums/manifests/1.0.0".to_owned()),
        (Method::HEAD, format!("/v2/acme/sums/manifests/{digest}")),
        (Method::PUT, "/v2/acme/sums/manifests/1.0.1".to_owned()),
        (Method::DELETE, "/v2/acme/sums/manifests/1.0.0".to_owned()),
        (Method::GET, format!("/v2/acme/sums/blobs/{blob}")),
        (Method::DELETE, format!("/v2/acme/sums/blobs/{blob}")),
        (Method::POST, "/v2/acme/sums/blobs/uploads/".to_owned()),
        (Method::GET, "/v2/acme/sums/tags/list".to_owned()),
        (Method::GET, format!("/v2/acme/sums/referrers/{digest}")),
        (Method::GET, "/v2/acme/missing/tags/list".to_owned()),
    ] {
        let answer = running.request(method.clone(), &path, &other).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{method} {path}");
    }
    // Nor by mounting what it may not read.
    let mount = format!("/v2/other/x/blobs/uploads/?mount={blob}&from=acme/sums");
    let answer = running.request(Method::POST, &mount, &other).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    let answer = running.get(&format!("/v2/other/x/blobs/{blob}"), &other).send().await.unwrap();
    assert_eq!(refusal(answer).await, (404, "BLOB_UNKNOWN".to_owned()));
    let both = running.token(&["acme:pull", "other:pull,push"]).await;
    let answer = running.request(Method::POST, &mount, &both).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn blobs_are_uploaded_in_parts() {
    let running = start().await;
    let token = running.token(PUSH).await;
    let begin = running.request(Method::POST, "/v2/acme/sums/blobs/uploads/", &token).send().await.unwrap();
    assert_eq!(begin.status(), StatusCode::ACCEPTED);
    let at = begin.headers()["location"].to_str().unwrap().to_owned();
    let part = |range: &str, bytes: &'static str| {
        let request = running.request(Method::PATCH, &at, &token).body(bytes);
        if range.is_empty() { request } else { request.header("content-range", range) }
    };
    let answer = part("0-4", "hello").send().await.unwrap();
    assert_eq!((answer.status(), answer.headers()["range"].to_str().unwrap()), (StatusCode::ACCEPTED, "0-4"));
    assert_eq!(part("", ", ").send().await.unwrap().headers()["range"], "0-6");
    for (range, bytes, status) in [("5-6", "xx", 416), ("8-9", "xx", 416), ("7-9", "xx", 400), ("x", "xx", 400)] {
        assert_eq!(part(range, bytes).send().await.unwrap().status(), status, "{range}");
    }
    let answer = running.get(&at, &token).send().await.unwrap();
    assert_eq!((answer.status(), answer.headers()["range"].to_str().unwrap()), (StatusCode::NO_CONTENT, "0-6"));
    let digest = Digest::of(b"hello, world");
    let end = running.request(Method::PUT, &format!("{at}?digest={digest}"), &token).body("world");
    assert_eq!(end.send().await.unwrap().status(), StatusCode::CREATED);
    let answer = running.get(&format!("/v2/acme/sums/blobs/{digest}"), &token).send().await.unwrap();
    assert_eq!(answer.headers()["docker-content-digest"], digest.to_string());
    assert_eq!(answer.bytes().await.unwrap(), "hello, world");
    assert_eq!(refusal(running.get(&at, &token).send().await.unwrap()).await.0, 404);
}

#[tokio::test]
async fn an_upload_outlives_the_process() {
    let running = start().await;
    let token = running.token(PUSH).await;
    let begin = running.request(Method::POST, "/v2/acme/sums/blobs/uploads/", &token).send().await.unwrap();
    let at = begin.headers()["location"].to_str().unwrap().to_owned();
    running.request(Method::PATCH, &at, &token).body("hello, ").send().await.unwrap();
    let running = start_in(running.stop().await, |_| {}).await;
    let digest = Digest::of(b"hello, world");
    let end = running.request(Method::PUT, &format!("{at}?digest={digest}"), &token).body("world");
    assert_eq!(end.send().await.unwrap().status(), StatusCode::CREATED);
}

#[tokio::test]
async fn an_upload_that_is_deleted_is_gone() {
    let running = start().await;
    let (token, other) = (running.token(PUSH).await, running.token(&["other:push"]).await);
    let begin = running.request(Method::POST, "/v2/acme/sums/blobs/uploads/", &token).send().await.unwrap();
    let at = begin.headers()["location"].to_str().unwrap().to_owned();
    // Nor is it anybody else's: neither by its address nor by its id.
    let id = at.rsplit('/').next().unwrap();
    assert_eq!(running.get(&at, &other).send().await.unwrap().status(), 403);
    let elsewhere = running.get(&format!("/v2/acme/other/blobs/uploads/{id}"), &token).send().await.unwrap();
    assert_eq!(elsewhere.status(), 404);
    assert_eq!(running.request(Method::DELETE, &at, &token).send().await.unwrap().status(), StatusCode::NO_CONTENT);
    assert_eq!(running.get(&at, &token).send().await.unwrap().status(), 404);
    assert_eq!(std::fs::read_dir(running.folder.path().join("data/uploads")).unwrap().count(), 0);
}

#[tokio::test]
async fn bytes_are_what_their_digest_says() {
    let running = start().await;
    let token = running.token(PUSH).await;
    let hex = Digest::of(b"bytes").hex();
    let push = async |digest: &str| {
        let path = format!("/v2/acme/sums/blobs/uploads/?digest={digest}");
        running.request(Method::POST, &path, &token).body("bytes").send().await.unwrap()
    };
    for digest in [
        Digest::of(b"other").to_string(),
        format!("sha512:{hex}{hex}"),
        format!("SHA256:{hex}"),
        format!("sha256:{}", hex.to_uppercase()),
        format!("sha256:{}", &hex[..63]),
        "sha256:../../../../etc/passwd".to_owned(),
        String::new(),
    ] {
        assert_eq!(refusal(push(&digest).await).await, (400, "DIGEST_INVALID".to_owned()), "{digest}");
    }
    assert_eq!(push(&format!("sha256:{hex}")).await.status(), StatusCode::CREATED);
    for digest in [format!("sha512:{hex}{hex}"), format!("sha256:{}", hex.to_uppercase()), "sha256:..".to_owned()] {
        let answer = running.get(&format!("/v2/acme/sums/blobs/{digest}"), &token).send().await.unwrap();
        assert_eq!(refusal(answer).await, (400, "DIGEST_INVALID".to_owned()), "{digest}");
    }
}

#[tokio::test]
async fn parts_of_blobs_are_given() {
    let running = start().await;
    let token = running.token(PUSH).await;
    let digest = running.push_blob("acme/sums", b"0123456789", &token).await;
    let get = async |range: &str| {
        let request = running.get(&format!("/v2/acme/sums/blobs/{digest}"), &token).header("range", range);
        let answer = request.send().await.unwrap();
        let range = answer.headers().get("content-range").map(|value| value.to_str().unwrap().to_owned());
        (answer.status().as_u16(), range.unwrap_or_default(), answer.text().await.unwrap())
    };
    assert_eq!(get("bytes=2-4").await, (206, "bytes 2-4/10".to_owned(), "234".to_owned()));
    assert_eq!(get("bytes=8-").await, (206, "bytes 8-9/10".to_owned(), "89".to_owned()));
    assert_eq!(get("bytes=-3").await, (206, "bytes 7-9/10".to_owned(), "789".to_owned()));
    assert_eq!(get("bytes=0-1,4-5").await.0, 200);
    let (status, range, _) = get("bytes=10-").await;
    assert_eq!((status, range.as_str()), (416, "bytes */10"));
    let head = running.request(Method::HEAD, &format!("/v2/acme/sums/blobs/{digest}"), &token).send().await.unwrap();
    assert_eq!(head.headers()["content-length"], "10");
}

#[tokio::test]
async fn a_manifest_names_what_is_there() {
    let running = start().await;
    let token = running.token(PUSH).await;
    let good = running.push_parts("acme/sums", b"bytes", &token).await;
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut manifest = good.clone();
        change(&mut manifest);
        manifest
    };
    for (bad, code) in [
        (changed(&|manifest| manifest["layers"][0]["size"] = json!(6)), "SIZE_INVALID"),
        (changed(&|manifest| manifest["layers"][0] = descriptor("a/b", b"missing")), "MANIFEST_BLOB_UNKNOWN"),
        (changed(&|manifest| manifest["manifests"] = json!([])), "MANIFEST_INVALID"),
        (changed(&|manifest| manifest["schemaVersion"] = json!(1)), "MANIFEST_INVALID"),
        (changed(&|manifest| manifest["layers"][0]["digest"] = json!("sha256:../../x")), "DIGEST_INVALID"),
        (json!("text"), "MANIFEST_INVALID"),
    ] {
        let answer = running.put_manifest("acme/sums", "1.0.0", &bad, &token).await;
        assert_eq!(refusal(answer).await.1, code, "{bad}");
    }
    let request = running.request(Method::PUT, "/v2/acme/sums/manifests/1.0.0", &token);
    let answer = request.header("content-type", INDEX).body(good.to_string()).send().await.unwrap();
    assert_eq!(refusal(answer).await.1, "MANIFEST_INVALID");
    let wrong = Digest::of(b"other");
    let answer = running.put_manifest("acme/sums", &wrong.to_string(), &good, &token).await;
    assert_eq!(refusal(answer).await.1, "DIGEST_INVALID");
    // A blob of another repository is not here.
    let answer = running.put_manifest("acme/other", "1.0.0", &good, &token).await;
    assert_eq!(refusal(answer).await.1, "MANIFEST_BLOB_UNKNOWN");
    // Nothing of these is served.
    assert_eq!(running.get("/v2/acme/sums/manifests/1.0.0", &token).send().await.unwrap().status(), 404);

    assert_eq!(running.put_manifest("acme/sums", "1.0.0", &good, &token).await.status(), StatusCode::CREATED);
    let answer = running.get("/v2/acme/sums/manifests/1.0.0", &token).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], MANIFEST);
    assert_eq!(answer.text().await.unwrap(), good.to_string());
}

#[tokio::test]
async fn what_is_too_large_is_refused() {
    let running = start_with(|settings| {
        settings.limits.manifest_bytes = 2000;
        settings.limits.blob_bytes = 100;
    })
    .await;
    let token = running.token(PUSH).await;
    running.push("acme/sums", "1.0.0", &[7; 100], &token).await;
    let mut large = manifest(&[7; 100]);
    large["annotations"] = json!({ "a": "x".repeat(2000) });
    let answer = running.put_manifest("acme/sums", "1.0.1", &large, &token).await;
    assert_eq!(refusal(answer).await, (413, "SIZE_INVALID".to_owned()));
    let digest = Digest::of(&[7; 101]);
    let path = format!("/v2/acme/sums/blobs/uploads/?digest={digest}");
    let answer = running.request(Method::POST, &path, &token).body(vec![7; 101]).send().await.unwrap();
    assert_eq!(refusal(answer).await, (413, "SIZE_INVALID".to_owned()));
    // Nor without a length that says so.
    let parts = futures::stream::iter((0..3).map(|_| Ok::<_, std::io::Error>(vec![7_u8; 40])));
    let body = reqwest::Body::wrap_stream(parts);
    let answer = running.request(Method::POST, &path, &token).body(body).send().await.unwrap();
    assert_eq!(refusal(answer).await, (413, "SIZE_INVALID".to_owned()));
    let long = format!("/v2/{}/tags/list", "a".repeat(40_000));
    assert!(running.get(&long, &token).send().await.is_ok_and(|answer| answer.status().is_client_error()));
}

#[tokio::test]
async fn nothing_leaves_the_registry_s_folder() {
    let running = start().await;
    let token = running.token(&["*:pull,push,delete"]).await;
    for path in [
        "/v2/acme/%2e%2e/manifests/latest",
        "/v2/acme%2fsums/manifests/latest",
        "/v2/acme/sums/manifests/%2e%2e",
        "/v2/acme/sums/blobs/sha256:..%2f..%2flog.key",
        "/v2/acme/sums/blobs/uploads/..%2f..%2flog.key",
        "/log/tile/..%2f..%2flog.key",
        "/log/tile/0/..%2f..%2f..%2flog.key",
    ] {
        let answer = running.get(path, &token).send().await.unwrap();
        assert!(matches!(answer.status().as_u16(), 400 | 404), "{path}: {}", answer.status());
    }
}

#[tokio::test]
async fn a_released_version_stays_what_it_is() {
    let running = start_with(|settings| settings.deletion = Deletion::All).await;
    let token = running.token(&["acme:pull,push,delete"]).await;
    let first = running.push("acme/sums", "1.0.0", b"first", &token).await;
    running.push("acme/sums", "latest", b"first", &token).await;
    let second = running.push_parts("acme/sums", b"second", &token).await;
    let overwrite = async |tag: &str| running.put_manifest("acme/sums", tag, &second, &token).await;
    assert_eq!(refusal(overwrite("1.0.0").await).await, (409, "DENIED".to_owned()));
    assert_eq!(overwrite("latest").await.status(), StatusCode::CREATED);
    // The same again is nothing new.
    running.push("acme/sums", "1.0.0", b"first", &token).await;
    // Nor does deleting it make room for another.
    let delete = running.request(Method::DELETE, "/v2/acme/sums/manifests/1.0.0", &token).send().await.unwrap();
    assert_eq!(delete.status(), StatusCode::ACCEPTED);
    assert_eq!(refusal(overwrite("1.0.0").await).await, (409, "DENIED".to_owned()));
    assert_eq!(running.push("acme/sums", "1.0.0", b"first", &token).await, first);
}

#[tokio::test]
async fn deleting_is_a_matter_of_policy() {
    for (policy, tag, release) in
        [(Deletion::Refused, 405, 405), (Deletion::Unreleased, 202, 405), (Deletion::All, 202, 202)]
    {
        let running = start_with(|settings| settings.deletion = policy).await;
        let token = running.token(&["acme:pull,push,delete"]).await;
        let digest = running.push("acme/sums", "1.0.0", b"first", &token).await;
        running.push("acme/sums", "latest", b"second", &token).await;
        let delete = async |what: &str| {
            let path = format!("/v2/acme/sums/{what}");
            running.request(Method::DELETE, &path, &token).send().await.unwrap().status().as_u16()
        };
        assert_eq!(delete("manifests/latest").await, tag, "{policy:?}");
        let layer = format!("blobs/{}", Digest::of(b"first"));
        assert_eq!(delete(&layer).await, 405, "{policy:?}: a manifest names it");
        assert_eq!(delete("manifests/1.0.0").await, release, "{policy:?}");
        if policy == Deletion::All {
            assert_eq!(delete(&format!("manifests/{digest}")).await, 202);
            assert_eq!(delete(&layer).await, 202);
            assert_eq!(delete(&layer).await, 404);
        }
        let pusher = running.token(PUSH).await;
        let answer = running.request(Method::DELETE, "/v2/acme/sums/manifests/1.0.0", &pusher).send().await.unwrap();
        assert_eq!(answer.status(), 403);
    }
}

#[tokio::test]
async fn tags_come_in_pages() {
    let running = start().await;
    let token = running.token(PUSH).await;
    let manifest = running.push_parts("acme/sums", b"bytes", &token).await;
    for tag in ["b", "a", "B", "_x", "1.0.0"] {
        running.put_manifest("acme/sums", tag, &manifest, &token).await;
    }
    let mut next = "/v2/acme/sums/tags/list?n=2".to_owned();
    let mut tags: Vec<String> = Vec::new();
    loop {
        let answer = running.get(&next, &token).send().await.unwrap();
        let link = answer.headers().get("link").map(|link| link.to_str().unwrap().to_owned());
        let page: Value = answer.json().await.unwrap();
        tags.extend(page["tags"].as_array().unwrap().iter().map(|tag| tag.as_str().unwrap().to_owned()));
        let Some(link) = link else { break };
        next = link.strip_prefix('<').unwrap().split('>').next().unwrap().to_owned();
    }
    assert_eq!(tags, ["1.0.0", "B", "_x", "a", "b"]);
    assert_eq!(refusal(running.get("/v2/acme/none/tags/list", &token).send().await.unwrap()).await.1, "NAME_UNKNOWN");
    assert_eq!(running.get("/v2/acme/sums/tags/list?n=-1", &token).send().await.unwrap().status(), 400);
}

#[tokio::test]
async fn referrers_are_listed_by_type() {
    let running = start().await;
    let token = running.token(PUSH).await;
    // A referrer may come before what it is about.
    let subject = manifest(b"subject");
    let digest = Digest::of(subject.to_string().as_bytes());
    for (number, kind) in [(0, "a/one"), (1, "a/one"), (2, "a/two")] {
        let mut referrer = running.push_parts("acme/sums", b"bundle", &token).await;
        referrer["artifactType"] = json!(kind);
        referrer["subject"] = descriptor(MANIFEST, subject.to_string().as_bytes());
        referrer["annotations"] = json!({ "number": number.to_string() });
        let name = Digest::of(referrer.to_string().as_bytes());
        let answer = running.put_manifest("acme/sums", &name.to_string(), &referrer, &token).await;
        assert_eq!(answer.status(), StatusCode::CREATED);
        assert_eq!(answer.headers()["oci-subject"], digest.to_string());
    }
    let list = async |query: &str| {
        let answer = running.get(&format!("/v2/acme/sums/referrers/{digest}{query}"), &token).send().await.unwrap();
        assert_eq!(answer.headers()["content-type"], INDEX);
        let filtered = answer.headers().contains_key("oci-filters-applied");
        (answer.json::<Value>().await.unwrap()["manifests"].as_array().unwrap().len(), filtered)
    };
    assert_eq!(list("").await, (3, false));
    assert_eq!(list("?artifactType=a/one").await, (2, true));
    assert_eq!(list("?artifactType=a/three").await, (0, true));
}

#[tokio::test]
async fn a_namespace_holds_what_its_quota_allows() {
    let running = start_with(|settings| settings.limits.namespace_bytes = 1000).await;
    let token = running.token(&["acme:pull,push", "other:push"]).await;
    running.push_blob("acme/one", &[1; 600], &token).await;
    let push = async |repository: &str, bytes: &[u8]| {
        let path = format!("/v2/{repository}/blobs/uploads/?digest={}", Digest::of(bytes));
        running.request(Method::POST, &path, &token).body(bytes.to_vec()).send().await.unwrap()
    };
    assert_eq!(refusal(push("components/acme/two", &[2; 600]).await).await, (403, "DENIED".to_owned()));
    assert_eq!(push("other/two", &[2; 600]).await.status(), StatusCode::CREATED);
    // Uploads under way count as well.
    let begin = running.request(Method::POST, "/v2/acme/one/blobs/uploads/", &token).send().await.unwrap();
    let at = begin.headers()["location"].to_str().unwrap().to_owned();
    let part = |size: usize| running.request(Method::PATCH, &at, &token).body(vec![3; size]).send();
    assert_eq!(part(300).await.unwrap().status(), StatusCode::ACCEPTED);
    assert_eq!(refusal(part(300).await.unwrap()).await.1, "DENIED");
    assert_eq!(refusal(push("acme/one", &[4; 200]).await).await.1, "DENIED");
    running.request(Method::DELETE, &at, &token).send().await.unwrap();
    assert_eq!(push("acme/one", &[4; 200]).await.status(), StatusCode::CREATED);
    running.registry.set_quota(&Namespace::parse("acme").unwrap(), Some(2000)).await.unwrap();
    assert_eq!(push("acme/one", &[2; 600]).await.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn who_asks_too_often_waits() {
    let running = start_with(|settings| {
        settings.limits.requests_per_second = 1;
        settings.limits.request_burst = 5;
        settings.limits.wrong_secrets_per_minute = 3;
    })
    .await;
    let token = running.token(PUSH).await;
    let ask = async |token: &str| running.get("/v2/", token).send().await.unwrap();
    for _ in 0..5 {
        assert_eq!(ask(&token).await.status(), 200);
    }
    let answer = ask(&token).await;
    assert!(answer.headers()["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
    assert_eq!(refusal(answer).await, (429, "TOOMANYREQUESTS".to_owned()));
    // Another token is another client, and guessing is bounded more narrowly.
    assert_eq!(ask(&running.token(PUSH).await).await.status(), 200);
    for status in [401, 401, 401, 429] {
        assert_eq!(ask("witan_guess").await.status(), status);
    }
}

#[tokio::test]
async fn pushes_at_once_all_arrive() {
    let running = start().await;
    let token = running.token(PUSH).await;
    let shared = unique(300_000);
    let pushes = (0..24).map(|number| {
        let (client, base, token, shared) = (running.client.clone(), running.url(""), token.clone(), shared.clone());
        async move {
            // Half of them the same bytes, at the same time.
            let bytes = if number % 2 == 0 { shared } else { unique(100_000 + number) };
            let path = format!("{base}/v2/acme/sums/blobs/uploads/?digest={}", Digest::of(&bytes));
            let answer = client.post(path).bearer_auth(&token).body(bytes.clone()).send().await.unwrap();
            (answer.status(), bytes)
        }
    });
    for (status, bytes) in all(pushes.collect()).await {
        assert_eq!(status, StatusCode::CREATED);
        let path = format!("/v2/acme/sums/blobs/{}", Digest::of(&bytes));
        assert_eq!(running.get(&path, &token).send().await.unwrap().bytes().await.unwrap(), bytes);
    }
    // One of several that release one version at once wins, and all are told the truth.
    let mut manifests = Vec::new();
    for number in 0..6_u8 {
        manifests.push(running.push_parts("acme/sums", &[number; 10], &token).await);
    }
    let releases = manifests.into_iter().map(|manifest| {
        let request = running.request(Method::PUT, "/v2/acme/sums/manifests/9.9.9", &token);
        let request = request.header("content-type", MANIFEST).body(manifest.to_string());
        async move { (request.send().await.unwrap().status().as_u16(), manifest.to_string()) }
    });
    let released = all(releases.collect()).await;
    let won: Vec<_> = released.iter().filter(|(status, _)| *status == 201).collect();
    assert_eq!(won.len(), 1, "{released:?}");
    let answer = running.get("/v2/acme/sums/manifests/9.9.9", &token).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), won[0].1);
}

#[tokio::test]
async fn only_what_nothing_needs_is_collected() {
    let running = start_with(|settings| {
        settings.deletion = Deletion::All;
        settings.limits.unreferenced = Duration::ZERO;
        settings.limits.untagged = Some(Duration::ZERO);
        settings.limits.upload_idle = Duration::ZERO;
        settings.limits.collect_every = Duration::from_secs(3600);
    })
    .await;
    let token = running.token(&["acme:pull,push,delete"]).await;
    let kept = running.push("acme/sums", "1.0.0", b"kept", &token).await;
    let mut referrer = running.push_parts("acme/sums", b"signature", &token).await;
    referrer["subject"] = descriptor(MANIFEST, manifest(b"kept").to_string().as_bytes());
    let signature = Digest::of(referrer.to_string().as_bytes());
    running.put_manifest("acme/sums", &signature.to_string(), &referrer, &token).await;
    running.push("acme/sums", "latest", b"old", &token).await;
    running.push("acme/sums", "latest", b"new", &token).await;
    let loose = running.push_blob("acme/sums", b"loose", &token).await;
    // A request that is just sending.
    let begin = running.request(Method::POST, "/v2/acme/sums/blobs/uploads/", &token).send().await.unwrap();
    let at = begin.headers()["location"].to_str().unwrap().to_owned();
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Vec<u8>, std::io::Error>>(1);
    let body = futures::stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) });
    let sending = running.request(Method::PATCH, &at, &token).body(reqwest::Body::wrap_stream(body)).send();
    let sending = tokio::spawn(sending);
    sender.send(Ok(b"under ".to_vec())).await.unwrap();
    // A part out of order is refused, and as one of two at once as soon as the other has begun.
    loop {
        let request = running.request(Method::PATCH, &at, &token).header("content-range", "90-90").body("x");
        match request.send().await.unwrap().status().as_u16() {
            409 => break,
            status => assert_eq!(status, 416),
        }
    }

    let collected = running.registry.collect().await.unwrap();
    assert_eq!((collected.uploads, collected.manifests), (0, 1), "{collected:?}");
    let status = async |path: String| running.get(&path, &token).send().await.unwrap().status().as_u16();
    for digest in [&kept, &signature] {
        assert_eq!(status(format!("/v2/acme/sums/manifests/{digest}")).await, 200);
    }
    for (bytes, expected) in [("kept", 200), ("signature", 200), ("new", 200), ("old", 404)] {
        let digest = Digest::of(bytes.as_bytes());
        assert_eq!(status(format!("/v2/acme/sums/blobs/{digest}")).await, expected, "{bytes}");
    }
    assert_eq!(status(format!("/v2/acme/sums/blobs/{loose}")).await, 404);
    sender.send(Ok(b"way".to_vec())).await.unwrap();
    drop(sender);
    assert_eq!(sending.await.unwrap().unwrap().status(), StatusCode::ACCEPTED);
    let digest = Digest::of(b"under way");
    let end = running.request(Method::PUT, &format!("{at}?digest={digest}"), &token).send().await.unwrap();
    assert_eq!(end.status(), StatusCode::CREATED);
    // What is left on disk is what is named.
    let files = walk(&running.folder.path().join("data/blobs"));
    assert!(!files.contains(&Digest::of(b"old").hex()) && !files.contains(&loose.hex()));
    assert!(files.contains(&Digest::of(b"kept").hex()));
}

fn walk(folder: &std::path::Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            names.extend(walk(&entry.path()));
        } else {
            names.push(entry.file_name().into_string().unwrap());
        }
    }
    names
}

#[tokio::test]
async fn other_machines_are_not_served_without_tls() {
    let running = start().await;
    let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let error = running.registry.serve(listener, std::future::ready(())).await.unwrap_err().to_string();
    assert!(error.contains("unencrypted"), "{error}");
}

#[tokio::test]
async fn wkg_finds_the_registry() {
    let running = start().await;
    let answer = running.get("/.well-known/wasm-pkg/registry.json", "").send().await.unwrap();
    let body: Value = answer.json().await.unwrap();
    let oci = json!({ "registry": running.address.to_string(), "namespacePrefix": "components/" });
    assert_eq!(body, json!({ "preferredProtocol": "oci", "oci": oci }));
}
