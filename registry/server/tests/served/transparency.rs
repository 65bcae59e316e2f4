//! The transparency log over HTTP: what is witnessed is proven, and what is no signature is not witnessed.

use base64::{Engine as _, prelude::BASE64_STANDARD as BASE64};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use witan_merkle_log::{Checkpoint, Hash, PublicKey, SigningKey, verify_consistency, verify_inclusion};
use witan_test_registry::{Running, all, refusal, start, start_in};

const PUSH: &[&str] = &["acme:push"];

/// An envelope that a new key signed, as a client proposes it.
fn proposal(payload: &str) -> Value {
    let key = SigningKey::generate_ecdsa().unwrap();
    let kind = "application/vnd.in-toto+json";
    let message = format!("DSSEv1 {} {kind} {} {payload}", kind.len(), payload.len());
    let signature = BASE64.encode(key.sign(message.as_bytes()).unwrap());
    let envelope = json!({
        "payloadType": kind,
        "payload": BASE64.encode(payload),
        "signatures": [{ "sig": signature }],
    });
    let content = json!({
        "envelope": envelope.to_string(),
        "verifiers": [BASE64.encode(key.public().unwrap().pem())],
    });
    json!({ "apiVersion": "0.0.1", "kind": "dsse", "spec": { "proposedContent": content } })
}

async fn propose(running: &Running, proposal: &Value, token: &str) -> reqwest::Response {
    let request = running.request(Method::POST, "/api/v1/log/entries", token);
    request.header("content-type", "application/json").body(proposal.to_string()).send().await.unwrap()
}

async fn key(running: &Running) -> PublicKey {
    let pem = running.get("/api/v1/log/publicKey", "").send().await.unwrap().text().await.unwrap();
    let der: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    PublicKey::from_der(&BASE64.decode(der).unwrap()).unwrap()
}

async fn origin(running: &Running) -> String {
    let info: Value = running.get("/api/v1/log", "").send().await.unwrap().json().await.unwrap();
    format!("registry.test - {}", info["treeID"].as_str().unwrap())
}

fn hash(value: &Value) -> Hash {
    let text = value.as_str().unwrap();
    let bytes: Vec<u8> = (0..64).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect();
    Hash(bytes.try_into().unwrap())
}

/// Verifies everything that an answer says of its one entry, and gives its index and checkpoint.
fn verified(answer: &Value, key: &PublicKey, origin: &str) -> (u64, Checkpoint) {
    let (_, entry) = answer.as_object().unwrap().iter().next().unwrap();
    let body = BASE64.decode(entry["body"].as_str().unwrap()).unwrap();
    let promised = format!(
        r#"{{"body":{},"integratedTime":{},"logID":{},"logIndex":{}}}"#,
        entry["body"], entry["integratedTime"], entry["logID"], entry["logIndex"]
    );
    let promise = entry["verification"]["signedEntryTimestamp"].as_str().unwrap();
    assert!(key.verifies(promised.as_bytes(), &BASE64.decode(promise).unwrap()));
    let proof = &entry["verification"]["inclusionProof"];
    let checkpoint = Checkpoint::parse(proof["checkpoint"].as_str().unwrap(), origin, key).unwrap();
    assert_eq!((checkpoint.size(), checkpoint.root()), (proof["treeSize"].as_u64().unwrap(), hash(&proof["rootHash"])));
    let hashes: Vec<Hash> = proof["hashes"].as_array().unwrap().iter().map(hash).collect();
    let index = entry["logIndex"].as_u64().unwrap();
    verify_inclusion(&Hash::leaf(&body), index, checkpoint.size(), &hashes, &checkpoint.root()).unwrap();
    (index, checkpoint)
}

#[tokio::test]
async fn what_is_witnessed_is_proven_then_and_later() {
    let running = start().await;
    let token = running.token(PUSH).await;
    let (key, origin) = (key(&running).await, origin(&running).await);
    let proposals: Vec<Value> = (0..20).map(|number| proposal(&format!("{{\"number\":{number}}}"))).collect();
    let first = propose(&running, &proposals[0], &token).await;
    assert_eq!(first.status(), StatusCode::CREATED);
    let location = first.headers()["location"].to_str().unwrap().to_owned();
    let (index, early) = verified(&first.json().await.unwrap(), &key, &origin);
    assert_eq!(index, 0);
    let further = proposals[1..].iter().map(|proposal| {
        let request = running.request(Method::POST, "/api/v1/log/entries", &token).body(proposal.to_string());
        async move { request.send().await.unwrap().json::<Value>().await.unwrap() }
    });
    let mut indexes: Vec<u64> =
        all(further.collect()).await.iter().map(|answer| verified(answer, &key, &origin).0).collect();
    indexes.sort_unstable();
    assert_eq!(indexes, (1..20).collect::<Vec<u64>>());

    // After a restart too, and the log goes on.
    let running = start_in(running.stop().await, |_| {}).await;
    let again: Value = running.get(&location, "").send().await.unwrap().json().await.unwrap();
    let (index, late) = verified(&again, &key, &origin);
    assert_eq!((index, late.size()), (0, 20));
    let proof = format!("/api/v1/log/proof?firstSize={}&lastSize={}", early.size(), late.size());
    let proof: Value = running.get(&proof, "").send().await.unwrap().json().await.unwrap();
    let hashes: Vec<Hash> = proof["hashes"].as_array().unwrap().iter().map(hash).collect();
    verify_consistency(early.size(), late.size(), &hashes, &early.root(), &late.root()).unwrap();
    assert!(
        running.get("/api/v1/log/proof?firstSize=1&lastSize=21", "").send().await.unwrap().status().is_client_error()
    );

    // The same, as C2SP has it.
    let note = running.get("/log/checkpoint", "").send().await.unwrap().text().await.unwrap();
    assert_eq!(Checkpoint::parse(&note, &origin, &key).unwrap().root(), late.root());
    let tile = running.get("/log/tile/0/000.p/20", "").send().await.unwrap().bytes().await.unwrap();
    assert_eq!(tile.len(), 20 * Hash::SIZE);
    for path in ["/log/tile/0/000", "/log/tile/0/000.p/21", "/log/tile/0/0", "/log/tile/entries/001", "/log/cosigned"] {
        assert_eq!(running.get(path, "").send().await.unwrap().status(), 404, "{path}");
    }
}

#[tokio::test]
async fn an_entry_is_logged_once() {
    let running = start().await;
    let token = running.token(PUSH).await;
    let proposal = proposal("{}");
    let first = propose(&running, &proposal, &token).await;
    let location = first.headers()["location"].clone();
    let again = propose(&running, &proposal, &token).await;
    assert_eq!((again.status(), &again.headers()["location"]), (StatusCode::CONFLICT, &location));
    let found = running.get(location.to_str().unwrap(), "").send().await.unwrap();
    assert_eq!(found.status(), StatusCode::OK);
    let digest = witan_registry_server::Digest::of(b"{}");
    let body = json!({ "hash": digest.to_string() }).to_string();
    let found = running.request(Method::POST, "/api/v1/index/retrieve", "").body(body).send().await.unwrap();
    let found: Vec<String> = found.json().await.unwrap();
    assert!(location.to_str().unwrap().ends_with(&found[0]));
}

#[tokio::test]
async fn what_is_no_signature_is_not_witnessed() {
    let running = start().await;
    let token = running.token(PUSH).await;
    let changed = |path: &str, value: Value| {
        let mut proposal = proposal("{}");
        *proposal.pointer_mut(path).unwrap() = value;
        proposal
    };
    let other = proposal("{ }")["spec"]["proposedContent"]["envelope"].clone();
    let mut twice: Value =
        serde_json::from_str(proposal("{}")["spec"]["proposedContent"]["envelope"].as_str().unwrap()).unwrap();
    twice["signatures"] = json!([twice["signatures"][0], twice["signatures"][0]]);
    for (bad, reason) in [
        (changed("/spec/proposedContent/envelope", other), "not one of its verifier"),
        (changed("/spec/proposedContent/envelope", json!(twice.to_string())), "exactly one signature"),
        (changed("/spec/proposedContent/verifiers", json!([])), "one verifier"),
        (changed("/spec/proposedContent/verifiers/0", json!("eA==")), "neither a key nor"),
        (changed("/kind", json!("intoto")), "are logged"),
        (changed("/apiVersion", json!("0.0.2")), "are logged"),
        (json!({}), "invalid"),
    ] {
        let answer = propose(&running, &bad, &token).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
        let text = answer.text().await.unwrap();
        assert!(text.contains(reason), "{text}: {reason}");
    }
    for token in [String::new(), running.token(&["acme:pull"]).await] {
        assert_eq!(refusal(propose(&running, &proposal("{}"), &token).await).await.0, 401);
    }
    assert_eq!(propose(&running, &proposal("{}"), &token).await.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn a_body_may_be_sent_as_it_is_logged() {
    let running = start().await;
    let token = running.token(PUSH).await;
    let key = SigningKey::generate_ecdsa().unwrap().public().unwrap();
    let hash = json!({ "algorithm": "sha256", "value": "0".repeat(64) });
    let signatures = json!([{ "signature": "c2ln", "verifier": BASE64.encode(key.pem()) }]);
    let spec = json!({ "envelopeHash": hash, "payloadHash": hash, "signatures": signatures });
    let body = json!({ "apiVersion": "0.0.1", "kind": "dsse", "spec": spec });
    let answer: Value = propose(&running, &body, &token).await.json().await.unwrap();
    let (_, entry) = answer.as_object().unwrap().iter().next().unwrap();
    assert_eq!(BASE64.decode(entry["body"].as_str().unwrap()).unwrap(), body.to_string().as_bytes());
    let mut more = body;
    more["spec"]["more"] = json!(1);
    assert_eq!(propose(&running, &more, &token).await.status(), StatusCode::BAD_REQUEST);
}
