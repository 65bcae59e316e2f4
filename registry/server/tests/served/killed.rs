//! A registry that is killed at any moment loses nothing that it acknowledged, and serves nothing that is not whole.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Duration,
};

use fastrand::Rng;
use reqwest::{Client, StatusCode};
use serde_json::Value;
use tokio::net::TcpListener;
use witan_registry_server::{Digest, Registry, Settings};
use witan_rounds::{kill, random, rounds};
use witan_test_registry::{MANIFEST, manifest};

/// What a push was told.
struct Pushed {
    tag: String,
    layer: Vec<u8>,
    acknowledged: bool,
}

/// Serves a registry at an address that it prints.
async fn serve(folder: PathBuf) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut settings = Settings::new(folder, format!("http://{address}").parse().unwrap());
    settings.log_host = Some("registry.test".to_owned());
    println!("{SERVING}{address}");
    // Whoever started it ends it by closing its input, if not otherwise.
    let closed = tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
    witan_registry_server::serve(settings, listener, async { drop(closed.await) }).await.unwrap();
}

const SERVING: &str = "serving http://";

fn start(folder: &Path) -> (Child, String) {
    let mut command = kill::child("killed::what_was_acknowledged_survives_and_nothing_half_is_served", folder).unwrap();
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let address = lines.find_map(|line| Some(line.split_once(SERVING)?.1.to_owned())).unwrap();
    (child, format!("http://{address}"))
}

/// Pushes one version after another until the registry is gone.
async fn push_until_gone(base: String, token: String, name: String, mut random: Rng) -> Vec<Pushed> {
    let client = Client::new();
    let mut pushed = Vec::new();
    for number in 0.. {
        let layer: Vec<u8> = (0..random.usize(1..200_000)).map(|_| random.u8(..)).collect();
        let tag = format!("{number}.0.0-{name}");
        let acknowledged = push(&client, &base, &token, &tag, &layer).await;
        let gone = acknowledged.is_none();
        pushed.push(Pushed { tag, layer, acknowledged: acknowledged == Some(true) });
        if gone {
            break;
        }
    }
    pushed
}

/// Whether the push was acknowledged; nothing where the registry is gone.
async fn push(client: &Client, base: &str, token: &str, tag: &str, layer: &[u8]) -> Option<bool> {
    for blob in [b"{}", layer] {
        let url = format!("{base}/v2/acme/sums/blobs/uploads/?digest={}", Digest::of(blob));
        let answer = client.post(url).bearer_auth(token).body(blob.to_vec()).send().await.ok()?;
        assert_eq!(answer.status(), StatusCode::CREATED);
    }
    let url = format!("{base}/v2/acme/sums/manifests/{tag}");
    let request = client.put(url).bearer_auth(token).header("content-type", MANIFEST);
    let answer = request.body(manifest(layer).to_string()).send().await.ok()?;
    assert_eq!(answer.status(), StatusCode::CREATED);
    Some(true)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_and_nothing_half_is_served() {
    if let Some(folder) = kill::work() {
        return serve(folder).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut settings = Settings::new(data.clone(), "http://127.0.0.1:1".parse().unwrap());
    settings.log_host = Some("registry.test".to_owned());
    let registry = Registry::open(settings).await.unwrap();
    let (_, token) = registry.create_token("test", &["acme:pull,push".parse().unwrap()], None).await.unwrap();
    drop(registry);

    let (mut random, mut kills) = (random(), 0);
    let mut pushed: Vec<Pushed> = Vec::new();
    for _ in rounds("kill a registry that is pushed to", 25) {
        let (mut child, base) = start(&data);
        let pushers: Vec<_> = (0..3)
            .map(|number| {
                let name = format!("k{kills}n{number}");
                tokio::spawn(push_until_gone(base.clone(), token.clone(), name, random.fork()))
            })
            .collect();
        tokio::time::sleep(Duration::from_micros(random.u64(1..400_000))).await;
        kill::kill(&mut child).unwrap();
        kills += 1;
        for pusher in pushers {
            pushed.extend(pusher.await.unwrap());
        }
    }

    let (mut child, base) = start(&data);
    let client = Client::new();
    let get = async |path: String| {
        client.get(format!("{base}/v2/acme/sums/{path}")).bearer_auth(&token).send().await.unwrap()
    };
    let mut there = 0;
    for Pushed { tag, layer, acknowledged } in &pushed {
        let answer = get(format!("manifests/{tag}")).await;
        if answer.status() == StatusCode::NOT_FOUND {
            assert!(!acknowledged, "{tag} was acknowledged and is gone");
            continue;
        }
        // Acknowledged or not, what is served is whole, and so is what it names.
        let text = answer.text().await.unwrap();
        assert_eq!(text, manifest(layer).to_string());
        let named: Value = serde_json::from_str(&text).unwrap();
        let digest = named["layers"][0]["digest"].as_str().unwrap();
        assert_eq!(get(format!("blobs/{digest}")).await.bytes().await.unwrap(), layer.as_slice());
        there += 1;
    }
    assert!(kills > 5 && there > 5, "{kills} kills and {there} versions prove nothing");
    kill::kill(&mut child).unwrap();
    println!("{kills} kills, {} pushes, {there} versions there", pushed.len());
}
