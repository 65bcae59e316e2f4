//! The registry's log, as it is and as one that lies would show it.

use std::sync::{Arc, Mutex};

use axum::{Router, extract::State, http::Uri, response::IntoResponse as _};
use base64::{Engine as _, prelude::BASE64_STANDARD as BASE64};
use witan_merkle_log::{Log as MerkleLog, SigningKey as LogKey};
use witan_registry_client::{Client, ConsistencyError, LogPin};
use witan_registry_sign::{
    Attestation, Checkpoint, Log as _, PublicKey, Rule, Signed, SigningKey, TrustPolicy, TrustRoot, TrustedKey,
    evaluate,
};
use witan_registry_types::{Digest, Mapping};
use witan_test_registry::start;

use crate::support::{artifact, client, host, package, settings, statements};

#[tokio::test]
async fn what_the_log_witnessed_verifies_with_the_root_that_it_gave() {
    let running = start().await;
    let client = client(&running, &["acme:pull,push"]).await;
    let key = SigningKey::generate().unwrap();
    let digest = Digest::of(b"manifest");
    let mut bundles = Vec::new();
    for statement in statements(digest) {
        bundles.push(Signed::with_key(&statement, &key).unwrap().witnessed(&client.log()).await.unwrap());
    }
    let pin = client.log().introduce().await.unwrap();
    assert_eq!(pin.host, "registry.test");
    let root = pin.trusted_root();
    assert_eq!(LogPin::of_trusted_root(&root).unwrap(), std::slice::from_ref(&pin));
    let now = std::time::SystemTime::now();
    let root = TrustRoot::parse(&root, now).unwrap();
    let rule = Rule {
        packages: "acme:*".parse().unwrap(),
        keys: vec![TrustedKey { key: key.public().clone(), not_after: None }],
        identities: Vec::new(),
        threshold: 1,
        require: Attestation::ALL.into(),
        allow_unlogged: false,
    };
    let policy = TrustPolicy::new(vec![rule], TrustPolicy::MAX_AGE).unwrap();
    let bundles: Vec<&[u8]> = bundles.iter().map(Vec::as_slice).collect();
    let verified = evaluate(&policy, &root, &package(), &digest, &bundles, now).unwrap();
    // What the signatures show of the log is what the log still continues.
    let current = client.log().checkpoint(&pin, None).await.unwrap();
    assert_eq!((current.size, verified.checkpoints.len()), (3, 3));
    for shown in &verified.checkpoints {
        client.log().consistent(shown, &current).await.unwrap();
    }
    let key = LogPin { key: SigningKey::generate().unwrap().public().clone(), ..pin.clone() };
    assert!(client.log().checkpoint(&key, None).await.is_err());
    let name = LogPin { host: "other.test".to_owned(), ..pin };
    assert!(client.log().checkpoint(&name, None).await.is_err());
}

#[tokio::test]
async fn an_entry_that_the_log_has_is_given_again() {
    let running = start().await;
    let client = client(&running, &["acme:pull,push"]).await;
    let key = SigningKey::generate().unwrap();
    let [statement, ..] = statements(Digest::of(b"manifest"));
    let proposal = Signed::with_key(&statement, &key).unwrap().proposal().unwrap();
    let first = client.log().witness(&proposal).await.unwrap();
    let again = client.log().witness(&proposal).await.unwrap();
    assert_eq!((first.index, &first.body), (again.index, &again.body));
    assert_eq!(client.log().checkpoint(&client.log().introduce().await.unwrap(), None).await.unwrap().size, 1);
}

#[tokio::test]
async fn whoever_may_not_push_has_nothing_witnessed() {
    let running = start().await;
    let reader = client(&running, &["acme:pull"]).await;
    let [statement, ..] = statements(Digest::of(b"manifest"));
    let signed = Signed::with_key(&statement, &SigningKey::generate().unwrap()).unwrap();
    let proposal = signed.proposal().unwrap();
    assert!(reader.log().witness(&proposal).await.is_err());
    let owner = client(&running, &["acme:push"]).await;
    assert!(owner.log().witness(&proposal).await.is_ok());
}

#[tokio::test]
async fn a_log_that_grows_continues_what_was_kept() {
    let running = start().await;
    let client = client(&running, &["acme:pull,push"]).await;
    let pin = client.log().introduce().await.unwrap();
    let mut kept = client.log().checkpoint(&pin, None).await.unwrap();
    assert_eq!(kept.size, 0);
    for round in 1..4 {
        artifact(10, &client).await;
        kept = client.log().checkpoint(&pin, Some(&kept)).await.unwrap();
        assert_eq!(kept.size, 3 * round);
    }
}

/// A log that shows one of several histories, all signed with its key: what its owner could do.
struct Liar {
    pin: LogPin,
    logs: Vec<MerkleLog>,
    shown: Arc<Mutex<MerkleLog>>,
    client: Client,
    _folder: tempfile::TempDir,
}

impl Liar {
    /// Each history is its entries.
    async fn start(histories: &[&[&str]]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = LogKey::generate_ecdsa().unwrap();
        let pkcs8 = key.to_pkcs8().unwrap();
        let public = key.public().unwrap();
        let pin = LogPin { host: "registry.test".to_owned(), key: PublicKey::from_der(public.der()).unwrap() };
        let mut logs = Vec::new();
        for (number, entries) in histories.iter().enumerate() {
            let settings = witan_merkle_log::Settings {
                origin: pin.origin(),
                signer: pin.host.clone(),
                key: LogKey::from_pkcs8(&pkcs8).unwrap(),
                previous: Vec::new(),
                witnesses: Vec::new(),
            };
            let log = MerkleLog::open(&folder.path().join(number.to_string()), settings).unwrap();
            for entry in *entries {
                log.append(entry.as_bytes().to_vec()).await.unwrap();
            }
            logs.push(log);
        }
        let shown = Arc::new(Mutex::new(logs[0].clone()));
        let router = Router::new().fallback(answer).with_state(shown.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = Client::new(host(listener.local_addr().unwrap()), Mapping::default(), settings()).unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { pin, logs, shown, client, _folder: folder }
    }

    async fn show(&self, history: usize, kept: Option<&Checkpoint>) -> Result<Checkpoint, ConsistencyError> {
        *self.shown.lock().unwrap() = self.logs[history].clone();
        self.client.log().checkpoint(&self.pin, kept).await
    }
}

async fn answer(State(log): State<Arc<Mutex<MerkleLog>>>, uri: Uri) -> axum::response::Response {
    let log = log.lock().unwrap().clone();
    if uri.path() == "/log/checkpoint" {
        return log.checkpoint().note().to_owned().into_response();
    }
    let numbers = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('=')?.1.parse().ok());
    let [old, new] = numbers.collect::<Vec<u64>>()[..] else { return "".into_response() };
    let hashes: Vec<String> = log
        .consistency(old, new)
        .unwrap_or_default()
        .iter()
        .map(|hash| Digest::from_bytes(BASE64.decode(hash.to_string()).unwrap().try_into().unwrap()).hex())
        .collect();
    serde_json::json!({ "hashes": hashes }).to_string().into_response()
}

#[tokio::test]
async fn a_log_that_forgot_entries_is_refused() {
    let liar = Liar::start(&[&["a", "b"], &["a", "b", "c"]]).await;
    let kept = liar.show(0, None).await.unwrap();
    let kept = liar.show(1, Some(&kept)).await.unwrap();
    let refused = liar.show(0, Some(&kept)).await.unwrap_err();
    assert!(matches!(refused, ConsistencyError::Shrunk { kept: 3, found: 2, .. }), "{refused:?}");
}

#[tokio::test]
async fn a_log_that_shows_another_history_is_refused() {
    let liar = Liar::start(&[&["a", "b"], &["a", "x", "c"], &["a", "x"], &["a", "b", "c", "d", "e"]]).await;
    let kept = liar.show(0, None).await.unwrap();
    liar.show(3, Some(&kept)).await.unwrap();
    let rewritten = liar.show(1, Some(&kept)).await.unwrap_err();
    assert!(matches!(rewritten, ConsistencyError::Split { size: 2, .. }), "{rewritten:?}");
    let split = liar.show(2, Some(&kept)).await.unwrap_err();
    assert!(matches!(split, ConsistencyError::Split { size: 2, .. }), "{split:?}");
    let other = Checkpoint { origin: "other.test - 1".to_owned(), ..kept };
    assert!(matches!(liar.show(0, Some(&other)).await, Err(ConsistencyError::OtherLog { .. })));
}
