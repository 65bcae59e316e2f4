//! A signature from its signer through the log to whoever verifies it, and to the page that shows it.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, prelude::BASE64_STANDARD as BASE64};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use witan_registry_server::Digest;
use witan_registry_sign::{
    Attestation, InclusionProof, LogEntry, PublicKey, Release, Rule, Signed, SigningKey, Statement, TrustPolicy,
    TrustRoot, TrustedKey, TrustedLog, evaluate, trusted_root,
};
use witan_test_registry::{MANIFEST, Running, descriptor, start_with};

const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const REPOSITORY: &str = "components/acme/sums";

fn bytes32(hex: &Value) -> [u8; 32] {
    *format!("sha256:{}", hex.as_str().unwrap()).parse::<Digest>().unwrap().as_bytes()
}

/// Has the registry's log witness `body`.
async fn witness(running: &Running, body: &[u8], token: &str) -> LogEntry {
    let request = running.request(Method::POST, "/api/v1/log/entries", token).body(body.to_vec());
    let answer: Value = request.send().await.unwrap().json().await.unwrap();
    let (_, entry) = answer.as_object().unwrap().iter().next().unwrap();
    let proof = &entry["verification"]["inclusionProof"];
    let seconds = entry["integratedTime"].as_u64().unwrap();
    LogEntry {
        log: entry["logID"].as_str().unwrap().parse().unwrap(),
        index: entry["logIndex"].as_u64().unwrap(),
        time: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
        promise: BASE64.decode(entry["verification"]["signedEntryTimestamp"].as_str().unwrap()).unwrap(),
        proof: InclusionProof {
            index: proof["logIndex"].as_u64().unwrap(),
            size: proof["treeSize"].as_u64().unwrap(),
            root: bytes32(&proof["rootHash"]),
            hashes: proof["hashes"].as_array().unwrap().iter().map(bytes32).collect(),
            checkpoint: proof["checkpoint"].as_str().unwrap().to_owned(),
        },
        body: BASE64.decode(entry["body"].as_str().unwrap()).unwrap(),
    }
}

/// What trusts the registry's log, made of what it says of itself.
async fn root_of(running: &Running) -> TrustRoot {
    let pem = running.get("/api/v1/log/publicKey", "").send().await.unwrap().text().await.unwrap();
    let der: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let key = PublicKey::from_der(&BASE64.decode(der).unwrap()).unwrap();
    let since = SystemTime::now() - Duration::from_secs(3600);
    let log = TrustedLog { host: "registry.test".to_owned(), key, since };
    TrustRoot::parse(&trusted_root(&[log]), SystemTime::now()).unwrap()
}

fn release(digest: Digest) -> Statement {
    let ceiling = serde_json::from_value(json!({ "http": [{ "host": "api.example.com" }] })).unwrap();
    Statement {
        package: "acme:sums@1.0.0".parse().unwrap(),
        digest,
        attestation: Attestation::Release,
        predicate: Release::new(ceiling, Digest::of(b"wit")).to_predicate(),
    }
}

async fn attach(running: &Running, bundle: &[u8], token: &str) {
    running.push_blob(REPOSITORY, bundle, token).await;
    let path = format!("/v2/{REPOSITORY}/manifests/1.0.0");
    let subject = running.get(&path, token).send().await.unwrap().bytes().await.unwrap();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": BUNDLE,
        "config": descriptor("application/vnd.oci.empty.v1+json", b"{}"),
        "layers": [descriptor(BUNDLE, bundle)],
        "subject": descriptor(MANIFEST, &subject),
    });
    let name = Digest::of(manifest.to_string().as_bytes()).to_string();
    assert_eq!(running.put_manifest(REPOSITORY, &name, &manifest, token).await.status(), StatusCode::CREATED);
}

async fn page(running: &Running) -> String {
    running.get(&format!("/packages/{REPOSITORY}"), "").send().await.unwrap().text().await.unwrap()
}

#[tokio::test]
async fn what_this_log_witnessed_is_verified_and_shown() {
    let running = start_with(|settings| settings.anonymous_pull = true).await;
    let token = running.token(&["acme:pull,push"]).await;
    let digest = running.push(REPOSITORY, "1.0.0", b"bytes", &token).await;
    let key = SigningKey::generate().unwrap();
    let statement = release(digest);
    let signed = Signed::with_key(&statement, &key).unwrap();
    // A log of some size, so that the proof is not empty.
    for number in 0..3_u8 {
        let other = Signed::with_key(&release(Digest::of(&[number])), &key).unwrap();
        witness(&running, &other.entry_body().unwrap(), &token).await;
    }
    let entry = witness(&running, &signed.entry_body().unwrap(), &token).await;
    assert_eq!(entry.index, 3);
    let bundle = signed.logged(&entry).unwrap();

    let rule = Rule {
        packages: "acme:*".parse().unwrap(),
        keys: vec![TrustedKey { key: key.public().clone(), not_after: None }],
        identities: Vec::new(),
        threshold: 1,
        require: BTreeSet::from([Attestation::Release]),
        allow_unlogged: false,
    };
    let policy = TrustPolicy::new(vec![rule], TrustPolicy::MAX_AGE).unwrap();
    let root = root_of(&running).await;
    let check = |bundle: &[u8]| evaluate(&policy, &root, &statement.package, &digest, &[bundle], SystemTime::now());
    check(&bundle).unwrap();
    let mut forged = entry.clone();
    forged.promise[10] ^= 1;
    assert!(check(&signed.logged(&forged).unwrap()).is_err());
    let mut misplaced = entry;
    misplaced.proof.hashes.swap(0, 1);
    assert!(check(&signed.logged(&misplaced).unwrap()).is_err());

    assert!(page(&running).await.contains("It has no signature here."));
    attach(&running, &bundle, &token).await;
    let shown = page(&running).await;
    for part in [format!("the key sha256:{}", key.id()), "entry 3".to_owned(), "api.example.com".to_owned()] {
        assert!(shown.contains(&part), "no `{part}` in {shown}");
    }
    assert!(!shown.contains("does not hold"));
}

#[tokio::test]
async fn a_signature_that_does_not_hold_is_shown_as_none() {
    let running = start_with(|settings| settings.anonymous_pull = true).await;
    let token = running.token(&["acme:pull,push"]).await;
    running.push(REPOSITORY, "1.0.0", b"bytes", &token).await;
    let key = SigningKey::generate().unwrap();
    let other = Signed::with_key(&release(Digest::of(b"other")), &key).unwrap();
    let entry = witness(&running, &other.entry_body().unwrap(), &token).await;
    attach(&running, &other.logged(&entry).unwrap(), &token).await;
    attach(&running, b"not a bundle", &token).await;
    let shown = page(&running).await;
    assert!(shown.contains("does not hold: it is about something else"), "{shown}");
    // Nor is what it claims.
    assert!(!shown.contains("api.example.com"));
}
