//! TUF metadata as a registry serves them: once operators have signed, signed anew, and read by a stock client.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use witan_registry_server::{MetadataError, SignedMetadata, Signing, sign_metadata};
use witan_registry_sign::SigningKey;
use witan_test_registry::{Running, refusal, start, start_in, start_with};

const REPOSITORY: &str = "components/acme/sums";

fn data(folder: &Arc<TempDir>) -> PathBuf {
    folder.path().join("data")
}

fn sign(folder: &Arc<TempDir>, key: &SigningKey) -> SignedMetadata {
    try_to_sign(folder, key, false).unwrap()
}

fn try_to_sign(folder: &Arc<TempDir>, key: &SigningKey, replaced: bool) -> Result<SignedMetadata, MetadataError> {
    let signing = Signing {
        keys: vec![SigningKey::from_pem(&key.to_pem(None).unwrap(), None).unwrap()],
        drop: BTreeSet::new(),
        replaced,
        threshold: None,
        lifetime: Duration::from_secs(3600),
        trusted_root: None,
    };
    sign_metadata(&data(folder), &signing, SystemTime::now())
}

/// The registry's timestamp, when it has signed one that is not of `before`.
async fn timestamp(running: &Running, before: u64) -> Value {
    let began = Instant::now();
    loop {
        let answer = running.get("/tuf/timestamp.json", "").send().await.unwrap();
        if answer.status() == StatusCode::OK {
            let timestamp: Value = answer.json().await.unwrap();
            if version(&timestamp) != before {
                return timestamp;
            }
        }
        assert!(began.elapsed() < Duration::from_secs(60), "nothing is signed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn version(metadata: &Value) -> u64 {
    metadata["signed"]["version"].as_u64().unwrap()
}

async fn json_at(running: &Running, path: &str) -> Value {
    running.get(path, "").send().await.unwrap().json().await.unwrap()
}

async fn yank(running: &Running, token: &str) {
    let request = running.request(Method::PUT, &format!("/api/yanks/{REPOSITORY}?version=1.0.0"), token);
    let answer = request.body(json!({ "reason": "adds wrongly" }).to_string()).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
}

/// Where the target is served that says what of `acme` is yanked.
async fn yanks_path(running: &Running, timestamp: &Value) -> String {
    let yanks = json_at(running, &format!("/tuf/{}.yanks.json", version(timestamp))).await;
    let digest = yanks["signed"]["targets"]["yanks/acme.json"]["hashes"]["sha256"].as_str().unwrap().to_owned();
    format!("/tuf/targets/yanks/{digest}.acme.json")
}

#[tokio::test]
async fn nothing_is_served_before_operators_have_signed_and_everything_after() {
    let running = start().await;
    for path in ["/tuf/timestamp.json", "/tuf/1.root.json", "/tuf/registry.pub", "/tuf/../log.key"] {
        assert_eq!(running.get(path, "").send().await.unwrap().status(), StatusCode::NOT_FOUND, "{path}");
    }
    sign(&running.folder, &SigningKey::generate().unwrap());
    let timestamp = timestamp(&running, 0).await;
    let at = version(&timestamp);
    for path in [format!("{at}.snapshot.json"), format!("{at}.yanks.json"), "1.targets.json".to_owned()] {
        assert!(json_at(&running, &format!("/tuf/{path}")).await["signed"].is_object(), "{path}");
    }
    let targets = json_at(&running, "/tuf/1.targets.json").await;
    let digest = targets["signed"]["targets"]["trusted_root.json"]["hashes"]["sha256"].as_str().unwrap().to_owned();
    let trusted = json_at(&running, &format!("/tuf/targets/{digest}.trusted_root.json")).await;
    assert_eq!(trusted["tlogs"][0]["baseUrl"], "https://registry.test");
    assert_eq!(running.get("/tuf/registry.pub", "").send().await.unwrap().status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_is_yanked_in_a_namespace_is_for_those_who_may_pull_there() {
    let running = start().await;
    let (author, other) = (running.token(&["acme:pull,push"]).await, running.token(&["other:pull"]).await);
    running.push(REPOSITORY, "1.0.0", b"layer", &author).await;
    sign(&running.folder, &SigningKey::generate().unwrap());
    let before = version(&timestamp(&running, 0).await);
    yank(&running, &author).await;
    // Whoever yanked can rely on it: it is signed when the answer comes.
    let after = json_at(&running, "/tuf/timestamp.json").await;
    assert!(version(&after) > before);
    let path = yanks_path(&running, &after).await;
    let yanks: Value = running.get(&path, &author).send().await.unwrap().json().await.unwrap();
    assert_eq!(yanks["acme:sums"]["1.0.0"]["reason"], "adds wrongly");
    assert_eq!(refusal(running.get(&path, "").send().await.unwrap()).await.0, 401);
    assert_eq!(refusal(running.get(&path, &other).send().await.unwrap()).await.0, 403);
}

#[tokio::test]
async fn a_registry_goes_on_above_what_it_has_signed() {
    let running = start().await;
    let key = SigningKey::generate().unwrap();
    sign(&running.folder, &key);
    let first = version(&timestamp(&running, 0).await);
    let folder = running.stop().await;
    let running = start_in(folder, |_| {}).await;
    let second = version(&timestamp(&running, first).await);
    assert!(second > first);
    // Operators sign other targets while it serves.
    sign(&running.folder, &key);
    let third = timestamp(&running, second).await;
    let snapshot = json_at(&running, &format!("/tuf/{}.snapshot.json", version(&third))).await;
    assert_eq!(snapshot["signed"]["meta"]["targets.json"]["version"], 2);
    // What the timestamp before named is still there, and what that before named is not.
    for (at, there) in [(second, StatusCode::OK), (first, StatusCode::NOT_FOUND)] {
        for role in ["snapshot", "yanks"] {
            let path = format!("/tuf/{at}.{role}.json");
            assert_eq!(running.get(&path, "").send().await.unwrap().status(), there, "{path}");
        }
    }
    // Another key of its own is one that operators have to sign first.
    let folder = running.stop().await;
    std::fs::remove_dir_all(data(&folder).join("keys")).unwrap();
    let running = start_in(folder, |_| {}).await;
    let refused = try_to_sign(&running.folder, &key, false).unwrap_err();
    assert!(matches!(refused, MetadataError::Replaced { what: "the registry's own key" }), "{refused}");
    let signed = try_to_sign(&running.folder, &key, true).unwrap();
    assert!(signed.root_is_new && signed.root_version == 2);
    let fourth = timestamp(&running, version(&third)).await;
    assert!(version(&fourth) > version(&third));
}

#[tokio::test]
async fn operators_do_not_sign_what_somebody_put_in_their_way() {
    let running = start().await;
    let (ours, thief) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
    let signed = sign(&running.folder, &ours);
    let tuf = data(&running.folder).join("tuf");
    // The log has another key, and nobody has said so.
    let (path, log) = (tuf.join("trusted_root.json"), std::fs::read(tuf.join("trusted_root.json")).unwrap());
    std::fs::write(&path, b"{\"tlogs\":[]}").unwrap();
    let refused = try_to_sign(&running.folder, &ours, false).unwrap_err();
    assert!(matches!(refused, MetadataError::Replaced { what: "the trusted root" }), "{refused}");
    assert!(refused.to_string().contains("--replaced"));
    assert_eq!(try_to_sign(&running.folder, &ours, true).unwrap().targets_version, 2);
    std::fs::write(&path, log).unwrap();
    // Root and targets that another signed lie in the place of ours.
    let other = start().await;
    sign(&other.folder, &thief);
    for (name, what) in [("1.root.json", "root"), ("2.targets.json", "list of targets")] {
        let kept = std::fs::read(tuf.join(name)).unwrap();
        let planted = data(&other.folder).join("tuf").join(name.replace('2', "1"));
        std::fs::copy(planted, tuf.join(name)).unwrap();
        let refused = try_to_sign(&running.folder, &ours, true).unwrap_err();
        assert!(refused.to_string().contains(&format!("the {what} that is there follows from nothing")), "{refused}");
        std::fs::write(tuf.join(name), kept).unwrap();
    }
    let again = try_to_sign(&running.folder, &ours, true).unwrap();
    assert_eq!((again.targets_version, again.root), (3, signed.root));
}

const STOCK: &str = "
import sys
from tuf.ngclient import Updater
base, folder = sys.argv[1:]
root = open(folder + '/root.json', 'rb').read()
updater = Updater(folder + '/metadata', base, folder, base + 'targets/', bootstrap=root)
updater.refresh()
for name in ('trusted_root.json', 'yanks/acme.json'):
    print(open(updater.download_target(updater.get_targetinfo(name))).read())
";

fn python(folder: &Path, base: &str) -> Option<std::process::Output> {
    let knows = Command::new("python3").args(["-c", "import tuf.ngclient, cryptography"]).output();
    knows.ok().filter(|output| output.status.success())?;
    std::fs::create_dir(folder.join("metadata")).unwrap();
    Some(Command::new("python3").args(["-c", STOCK, base, folder.to_str().unwrap()]).output().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stock_client_reads_what_was_signed() {
    let running = start_with(|settings| settings.anonymous_pull = true).await;
    let author = running.token(&["acme:pull,push"]).await;
    running.push(REPOSITORY, "1.0.0", b"layer", &author).await;
    yank(&running, &author).await;
    let signed = sign(&running.folder, &SigningKey::generate().unwrap());
    timestamp(&running, 0).await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(&signed.root, folder.path().join("root.json")).unwrap();
    let Some(output) = python(folder.path(), &running.url("/tuf/")) else {
        eprintln!("SKIPPED: TUF metadata read by python-tuf; install `python3-tuf` to check it");
        return;
    };
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{err}");
    assert!(out.contains("registry.test") && out.contains("adds wrongly"), "{out}");
}
