//! The same registry over PostgreSQL: a server of its own, on a socket in a temporary folder.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use witan_registry_server::{DatabaseSettings, Deletion, Digest};
use witan_test_registry::{MANIFEST, Running, descriptor, manifest, refusal, start_in};

/// A PostgreSQL server that ends with the test.
struct Postgres {
    programs: PathBuf,
    child: Child,
    folder: TempDir,
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let mut stop = as_user(&self.programs.join("pg_ctl"));
        stop.args(["stop", "--mode=immediate", "-D"]).arg(self.folder.path().join("pg"));
        let _stopped = stop.stdout(Stdio::null()).stderr(Stdio::null()).current_dir(self.folder.path()).status();
        let _ended = self.child.wait();
    }
}

/// The newest PostgreSQL of this machine, where Debian and others put it.
fn programs() -> Option<PathBuf> {
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = debian.map(|entry| entry.path().join("bin")).collect();
    folders.sort();
    folders.extend(["/usr/bin", "/usr/local/bin"].map(PathBuf::from));
    folders.into_iter().rev().find(|folder| folder.join("initdb").exists() && folder.join("postgres").exists())
}

/// A command that does not run as root, as which PostgreSQL refuses to.
fn as_user(program: &Path) -> Command {
    let root = fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    if root {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    }
}

fn start_postgres() -> Option<Postgres> {
    let programs = programs()?;
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let data = folder.path().join("pg");
    let made = as_user(&programs.join("initdb"))
        .args(["--auth=trust", "--username=witan", "--no-sync", "--encoding=UTF8", "-D"])
        .arg(&data)
        .stdout(Stdio::null())
        .current_dir(folder.path())
        .status()
        .unwrap();
    assert!(made.success());
    let mut server = as_user(&programs.join("postgres"));
    server.arg("-D").arg(&data).args(["-c", "listen_addresses=", "-k"]).arg(folder.path());
    server.stdout(Stdio::null()).stderr(Stdio::null()).current_dir(folder.path());
    let child = server.spawn().unwrap();
    Some(Postgres { programs, child, folder })
}

impl Postgres {
    fn url(&self) -> String {
        format!("postgres://witan@localhost/postgres?host={}", self.folder.path().display())
    }

    async fn ready(&self) {
        let socket = self.folder.path().join(".s.PGSQL.5432");
        let connected = async {
            while tokio::net::UnixStream::connect(&socket).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), connected).await.unwrap();
    }
}

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
    let Some(postgres) = start_postgres() else {
        eprintln!("SKIPPED: the registry over PostgreSQL; install `postgresql` to check it");
        return;
    };
    postgres.ready().await;
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
