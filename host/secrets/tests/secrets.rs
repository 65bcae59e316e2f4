//! What is stored, fetched and swapped.

#![expect(clippy::panic, clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Json, Router,
    extract::{Path as At, State},
    http::{HeaderMap, StatusCode},
    routing::get,
};
use serde_json::json;
use witan_secrets::{
    Asker, KeyError, KeySource, RunKey, Secrets, SourceError, Store, StoreError, SwapError, Value, VaultError,
};
use witan_system::{OriginName, SecretName, System};

const CANARY: &str = "canary-0123456789";

fn value(text: &str) -> Value {
    Value::new(text.into()).unwrap()
}

fn name(text: &str) -> SecretName {
    text.parse().unwrap()
}

fn own(folder: &Path) -> KeySource {
    KeySource::Own(folder.join("secrets.key"))
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn what_is_stored_is_encrypted_and_comes_back_to_its_tenant_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path(), own(folder.path()));
    assert_eq!(store.get("local", &name("a")).unwrap(), None);
    assert_eq!(store.set("local", &name("a"), &value(CANARY)).unwrap(), 1);
    assert_eq!(store.set("other", &name("a"), &value("of-another-tenant")).unwrap(), 2);
    assert_eq!(store.get("local", &name("a")).unwrap(), Some(value(CANARY)));
    assert_eq!(store.get("third", &name("a")).unwrap(), None);
    for file in ["secrets.json", "secrets.key"] {
        let path = folder.path().join(file);
        assert_eq!(mode(&path), 0o600);
        assert!(!fs::read_to_string(path).unwrap().contains(CANARY));
    }
    assert!(matches!(store.replace("local", &name("b"), &value(CANARY)), Err(StoreError::Missing(_))));
    assert_eq!(store.replace("local", &name("a"), &value("the-next-value")).unwrap(), 3);
    // Another process sees it, and a removed secret's version is not used again.
    let other = Store::new(folder.path(), own(folder.path()));
    assert_eq!(other.get("local", &name("a")).unwrap(), Some(value("the-next-value")));
    assert!(other.remove("local", &name("a")).unwrap() && !other.remove("local", &name("a")).unwrap());
    assert_eq!(store.get("local", &name("a")).unwrap(), None);
    assert_eq!(store.set("local", &name("a"), &value(CANARY)).unwrap(), 4);
    let listed: Vec<_> = store.list().unwrap().into_iter().map(|info| (info.tenant, info.version)).collect();
    assert_eq!(listed, [("local".to_owned(), 4), ("other".to_owned(), 2)]);
}

#[test]
fn an_entry_opens_at_its_place_and_under_its_key_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path(), own(folder.path()));
    store.set("local", &name("a"), &value(CANARY)).unwrap();
    store.set("other", &name("b"), &value("of-another-tenant")).unwrap();
    let path = folder.path().join("secrets.json");
    let text = fs::read_to_string(&path).unwrap();
    let file: serde_json::Value = serde_json::from_str(&text).unwrap();
    let changed = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut file = file.clone();
        change(&mut file["secrets"][0]);
        fs::write(&path, file.to_string()).unwrap();
    };
    changed(&|entry| entry["tenant"] = "other".into());
    assert!(matches!(store.get("other", &name("a")), Err(StoreError::Changed { .. })));
    changed(&|entry| entry["name"] = "c".into());
    assert!(matches!(store.get("local", &name("c")), Err(StoreError::Changed { .. })));
    changed(&|entry| entry["version"] = 2.into());
    assert!(matches!(store.get("local", &name("a")), Err(StoreError::Changed { .. })));
    for sealed in ["", "AAAA", "no base64!"] {
        changed(&|entry| entry["sealed"] = sealed.into());
        assert!(matches!(store.get("local", &name("a")), Err(StoreError::Changed { .. })));
    }
    for wrong in ["", "{}", "[]", &text.replace("\"schema\": 1", "\"schema\": 2")] {
        fs::write(&path, wrong).unwrap();
        assert!(matches!(store.get("local", &name("a")), Err(StoreError::Malformed(_))), "{wrong}");
    }
    fs::write(&path, &text).unwrap();
    fs::write(folder.path().join("secrets.key"), "0".repeat(64)).unwrap();
    assert!(matches!(store.get("local", &name("a")), Err(StoreError::OtherKey { .. })));
}

#[test]
fn the_operator_key_is_replaced_without_losing_anything() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path(), own(folder.path()));
    for secret in ["a", "b"] {
        store.set("local", &name(secret), &value(CANARY)).unwrap();
    }
    let key = folder.path().join("secrets.key");
    let (old_key, old_store) =
        (fs::read_to_string(&key).unwrap(), fs::read(folder.path().join("secrets.json")).unwrap());
    let (id, count) = store.rotate_key().unwrap();
    assert_eq!(count, 2);
    assert!(store.list().unwrap().iter().all(|info| info.key == id));
    assert_eq!(store.get("local", &name("a")).unwrap(), Some(value(CANARY)));
    let new_key = fs::read_to_string(&key).unwrap();
    assert!(new_key.lines().count() == 1 && new_key != old_key);
    // The old key opens nothing any more, and a crash in the middle leaves both keys with the old store.
    fs::write(&key, &old_key).unwrap();
    assert!(matches!(store.get("local", &name("a")), Err(StoreError::OtherKey { .. })));
    fs::write(&key, format!("{new_key}{old_key}")).unwrap();
    fs::write(folder.path().join("secrets.json"), old_store).unwrap();
    assert_eq!(store.get("local", &name("b")).unwrap(), Some(value(CANARY)));
    assert_eq!(store.rotate_key().unwrap().1, 2);
}

#[test]
fn a_key_comes_from_a_file_that_nobody_else_reads_or_from_a_program() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    let store = Store::new(folder.path(), KeySource::File(file.clone()));
    // Only the host's own key is made: a wrong path must not become a new key.
    assert!(matches!(store.set("local", &name("a"), &value(CANARY)), Err(StoreError::Key(KeyError::Read { .. }))));
    fs::write(&file, format!("{}\n", "ab".repeat(32))).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(
        store.set("local", &name("a"), &value(CANARY)),
        Err(StoreError::Key(KeyError::Open { mode: 0o640, .. }))
    ));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    store.set("local", &name("a"), &value(CANARY)).unwrap();
    let program = |words: &[&str]| {
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        Store::new(folder.path(), KeySource::Command(words))
    };
    assert_eq!(program(&["cat", file.to_str().unwrap()]).get("local", &name("a")).unwrap(), Some(value(CANARY)));
    assert!(matches!(program(&["cat", file.to_str().unwrap()]).rotate_key(), Err(StoreError::SameKey)));
    let both = format!("echo {}; echo {}", "cd".repeat(32), "ab".repeat(32));
    assert_eq!(program(&["sh", "-c", &both]).rotate_key().unwrap().1, 1);
    let new = format!("echo {}", "cd".repeat(32));
    assert_eq!(program(&["sh", "-c", &new]).get("local", &name("a")).unwrap(), Some(value(CANARY)));
    for (words, like) in
        [(&["false"][..], "exit status"), (&["echo", "xy"], "64 hexadecimal"), (&["/none"], "did not print")]
    {
        let error = program(words).get("local", &name("a")).unwrap_err().to_string();
        assert!(error.contains(like), "{error}");
    }
}

/// A server that speaks Vault's API for what is under `secret/data/`, for who has the token.
async fn vault(folder: &Path) -> (String, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let answer = |State(asked): State<Arc<AtomicUsize>>, At(path): At<String>, headers: HeaderMap| async move {
        asked.fetch_add(1, Ordering::Relaxed);
        if headers.get("x-vault-token").is_none_or(|token| token != "token-of-vault") {
            return (StatusCode::FORBIDDEN, Json(json!({ "errors": ["permission denied"] })));
        }
        let metadata = json!({ "version": 1, "created_time": "2026-01-01T00:00:00Z" });
        match path.as_str() {
            "secret/data/local/model" => {
                let data = json!({ "data": { "key": CANARY }, "metadata": metadata });
                (StatusCode::OK, Json(json!({ "request_id": "r", "lease_duration": 0, "data": data })))
            }
            "secret/data/large" => {
                (StatusCode::OK, Json(json!({ "data": { "data": { "value": "a".repeat(2 << 20) } } })))
            }
            "secret/data/redirect" => (StatusCode::TEMPORARY_REDIRECT, Json(json!({}))),
            _ => (StatusCode::NOT_FOUND, Json(json!({ "errors": [] }))),
        }
    };
    let router = Router::new().route("/v1/{*path}", get(answer)).with_state(asked.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    fs::write(folder.join("vault.token"), "token-of-vault\n").unwrap();
    (address, asked)
}

/// The secrets of a system whose component `agent` may use each of `sources`, as its settings are written.
fn secrets(folder: &Path, vault: &str, sources: &[(&str, &str)]) -> (Secrets, System) {
    let mut text = format!(
        "schema = 1\n[host.secrets.vault]\naddress = \"{vault}\"\ntoken-file = \"vault.token\"\n[components.agent]\nsource = \"a.wasm\"\n\
         [components.other]\nsource = \"b.wasm\"\n[components.agent.grants]\nsecrets = ["
    );
    for (name, _) in sources {
        text.push_str(&format!("{{ secret = \"{name}\", config = \"{name}\" }}, "));
    }
    text.push_str("]\n");
    for (name, source) in sources {
        text.push_str(&format!("[secrets.{name}]\norigins = [\"https://api.example\"]\n{source}\n"));
    }
    let mut system =
        System::parse(&text, &folder.join("system.toml")).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let secrets = Secrets::new(&system, RunKey::generate().unwrap(), &Default::default()).unwrap();
    secrets.place(&mut system);
    (secrets, system)
}

/// What a component sends to `origin` with `value` in the header `header`, and what becomes of it.
async fn send(
    (secrets, system): &(Secrets, System),
    component: &str,
    origin: &str,
    header: &'static str,
    value: &str,
) -> Result<String, SwapError> {
    let component_name = component.parse().unwrap();
    let asker = Asker {
        component,
        tenant: "local",
        grants: &system.components[&component_name].grants.secrets,
        origin: &origin.parse::<OriginName>().unwrap(),
    };
    let mut headers = HeaderMap::new();
    headers.insert("accept-encoding", "gzip".parse().unwrap());
    headers.insert(header, value.parse().unwrap());
    let scan = secrets.swap(asker, &mut headers, |_| true).await?;
    assert_eq!(scan.is_some(), !headers.contains_key("accept-encoding"));
    assert!(!format!("{headers:?}").contains(CANARY), "a header shows it");
    Ok(headers[header].to_str().unwrap().to_owned())
}

fn seen(system: &System, key: &str) -> String {
    system.components[&"agent".parse().unwrap()].grants.config[key].clone()
}

#[tokio::test]
async fn every_source_gives_its_secret_or_says_why_not() {
    let folder = tempfile::tempdir().unwrap();
    let (vault, asked) = vault(folder.path()).await;
    fs::write(folder.path().join("file"), format!("{CANARY}\n")).unwrap();
    fs::write(folder.path().join("large"), "a".repeat(20_000)).unwrap();
    let command = format!("command = [\"echo\", \"{CANARY}\"]");
    let all = secrets(
        folder.path(),
        &vault,
        &[
            ("stored", ""),
            ("file", "file = \"file\""),
            ("command", &command),
            ("vault", "vault = \"secret/data/{tenant}/model\"\nfield = \"key\""),
            ("environment", "environment = \"CARGO_PKG_NAME\""),
            ("no-file", "file = \"none\""),
            ("large", "file = \"large\""),
            ("no-variable", "environment = \"WITAN_TEST_NOT_SET\""),
            ("fails", "command = [\"false\"]"),
            ("no-program", "command = [\"/none\"]"),
            ("no-entry", "vault = \"secret/data/none\""),
            ("no-field", "vault = \"secret/data/local/model\"\nfield = \"other\""),
            ("too-long", "vault = \"secret/data/large\""),
            ("redirected", "vault = \"secret/data/redirect\""),
        ],
    );
    let ask = async |name: &str| {
        let value = format!("Bearer {}", seen(&all.1, name));
        send(&all, "agent", "https://api.example", "authorization", &value).await
    };
    let source = async |name: &str| match ask(name).await {
        Err(SwapError::Source { source, .. }) => source,
        other => panic!("{other:?}"),
    };
    assert!(matches!(source("stored").await, SourceError::NotSet { .. }));
    Secrets::store(&all.1).set("local", &"stored".parse().unwrap(), &value(CANARY)).unwrap();
    for name in ["stored", "file", "command", "vault"] {
        assert_eq!(ask(name).await.unwrap(), format!("Bearer {CANARY}"), "{name}");
    }
    assert_eq!(ask("environment").await.unwrap(), "Bearer witan-secrets");
    assert!(matches!(source("no-file").await, SourceError::File { .. }));
    assert!(matches!(source("large").await, SourceError::File { .. }));
    assert!(matches!(source("no-variable").await, SourceError::Environment(_)));
    assert!(matches!(source("fails").await, SourceError::Command { .. }));
    assert!(matches!(source("no-program").await, SourceError::Command { .. }));
    assert!(matches!(source("no-entry").await, SourceError::Vault(VaultError::Missing(_))));
    assert!(matches!(source("no-field").await, SourceError::Vault(VaultError::Field(_))));
    assert!(matches!(source("too-long").await, SourceError::Vault(VaultError::Malformed(_))));
    assert!(matches!(source("redirected").await, SourceError::Vault(VaultError::Status { status: 307, .. })));
    // What Vault gave is kept for a while, and what it refuses is not.
    let before = asked.load(Ordering::Relaxed);
    ask("vault").await.unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), before);
    fs::write(folder.path().join("vault.token"), "another-token").unwrap();
    assert!(matches!(source("no-entry").await, SourceError::Vault(VaultError::Refused(_))));
    fs::remove_file(folder.path().join("vault.token")).unwrap();
    assert!(matches!(source("no-entry").await, SourceError::Vault(VaultError::Token(_))));
}

#[tokio::test]
async fn a_vault_that_is_gone_gives_nothing_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("vault.token"), "token-of-vault").unwrap();
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let all = secrets(folder.path(), &format!("http://{gone}"), &[("a", "vault = \"secret/data/a\"")]);
    let error = send(&all, "agent", "https://api.example", "authorization", &seen(&all.1, "a")).await.unwrap_err();
    assert!(
        matches!(error, SwapError::Source { source: SourceError::Vault(VaultError::Unreachable { .. }), .. }),
        "{error}"
    );
    assert!(!error.to_string().contains("token-of-vault"));
}

#[tokio::test]
async fn a_placeholder_is_swapped_where_its_secret_goes_and_stops_the_request_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), CANARY).unwrap();
    let all = secrets(
        folder.path(),
        "http://127.0.0.1:1",
        &[("a", "file = \"file\"\nheaders = [\"x-api-key\", \"authorization\"]")],
    );
    let placeholder = seen(&all.1, "a");
    assert!(placeholder.starts_with("witan-secret-") && placeholder.len() == 45);
    let ask = async |component: &str, origin: &str, header: &'static str, value: &str| {
        send(&all, component, origin, header, value).await
    };
    let good = ask("agent", "https://api.example", "x-api-key", &format!("a {placeholder} b {placeholder}")).await;
    assert_eq!(good.unwrap(), format!("a {CANARY} b {CANARY}"));
    assert_eq!(ask("agent", "https://api.example", "x-api-key", "nothing of it").await.unwrap(), "nothing of it");
    for origin in ["http://api.example:443", "https://api.example:8443", "https://api.example.evil", "https://example"]
    {
        let error = ask("agent", origin, "x-api-key", &placeholder).await.unwrap_err();
        assert!(matches!(error, SwapError::Elsewhere { .. }), "{error}");
    }
    let error = ask("agent", "https://api.example", "x-other", &placeholder).await.unwrap_err();
    assert!(matches!(error, SwapError::Header { .. }), "{error}");
    // Without the grant, or with a placeholder of another run, there is nothing to be had.
    for (component, value) in [("other", placeholder.as_str()), ("agent", &format!("witan-secret-{}", "0".repeat(32)))]
    {
        let error = ask(component, "https://api.example", "x-api-key", value).await.unwrap_err();
        assert!(matches!(error, SwapError::NotGranted { .. }), "{error}");
        assert!(!error.to_string().contains(CANARY));
    }
    let mixed = format!("{placeholder} witan-secret-{}", "0".repeat(32));
    assert!(matches!(
        ask("agent", "https://api.example", "x-api-key", &mixed).await,
        Err(SwapError::NotGranted { .. })
    ));
    let origin = "https://api.example".parse().unwrap();
    let asker = || Asker {
        component: "agent",
        tenant: "local",
        grants: &all.1.components[&"agent".parse().unwrap()].grants.secrets,
        origin: &origin,
    };
    // Each header that has one, wherever it stands among the others and of its name.
    let mut headers = HeaderMap::new();
    for (name, value) in
        [("x-api-key", "first"), ("accept", "*/*"), ("authorization", &placeholder), ("x-api-key", &placeholder)]
    {
        headers.append(name, value.parse().unwrap());
    }
    assert!(all.0.swap(asker(), &mut headers, |_| true).await.unwrap().is_some());
    let keys: Vec<_> = headers.get_all("x-api-key").iter().collect();
    assert_eq!(keys, ["first", CANARY]);
    assert!(headers["accept"] == "*/*" && headers["authorization"] == CANARY);
    // Policy is asked, and its word holds.
    let mut headers = HeaderMap::new();
    headers.insert("x-api-key", placeholder.parse().unwrap());
    let refused = all.0.swap(asker(), &mut headers, |_| false).await.unwrap_err();
    assert!(matches!(refused, SwapError::Policy(_)) && headers["x-api-key"] == placeholder);
    // Another run has other placeholders.
    let again = Secrets::new(&all.1, RunKey::generate().unwrap(), &Default::default()).unwrap();
    assert_ne!(again.placeholder("agent", &name("a")), placeholder);
    assert_ne!(all.0.placeholder("other", &name("a")), placeholder);
}

#[tokio::test]
async fn a_placeholder_is_a_password_too() {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), CANARY).unwrap();
    let all = secrets(folder.path(), "http://127.0.0.1:1", &[("a", "file = \"file\"")]);
    let placeholder = seen(&all.1, "a");
    let ask = async |component: &str, origin: &str, header: &'static str, value: &str| {
        send(&all, component, origin, header, value).await
    };
    let origin = "https://api.example";
    for user in ["", "me", "ann", "user", "someone"] {
        let encoded = STANDARD.encode(format!("{user}:{placeholder}"));
        let expected = format!("Basic {}", STANDARD.encode(format!("{user}:{CANARY}")));
        for value in [format!("Basic {encoded}"), format!("basic  {}", encoded.trim_end_matches('='))] {
            assert_eq!(ask("agent", origin, "authorization", &value).await.unwrap(), expected, "{value}");
        }
    }
    let value = format!("Basic {}", STANDARD.encode(format!("user:{placeholder}")));
    // It goes no further than it would as it is.
    let elsewhere = ask("agent", "https://example", "authorization", &value).await.unwrap_err();
    assert!(matches!(elsewhere, SwapError::Elsewhere { .. }), "{elsewhere}");
    let header = ask("agent", origin, "x-other", &value).await.unwrap_err();
    assert!(matches!(header, SwapError::Header { .. }), "{header}");
    let other = ask("other", origin, "authorization", &value).await.unwrap_err();
    assert!(matches!(other, SwapError::NotGranted { .. }), "{other}");
    // What is no credential, or has no placeholder, is the guest's.
    let asker = Asker {
        component: "agent",
        tenant: "local",
        grants: &all.1.components[&"agent".parse().unwrap()].grants.secrets,
        origin: &origin.parse().unwrap(),
    };
    for own in ["Basic dXNlcjpwYXNz", "Basic ====", "Basic ", "Basic", "Bas"] {
        let mut headers = HeaderMap::from_iter([(http::header::AUTHORIZATION, own.parse().unwrap())]);
        assert!(all.0.swap(asker, &mut headers, |_| true).await.unwrap().is_none());
        assert_eq!(headers[http::header::AUTHORIZATION], own);
    }
}
