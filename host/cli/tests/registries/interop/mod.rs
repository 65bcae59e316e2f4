//! With what people already use: clients and verifiers of others, against our registry and against Debian's.
//!
//! Each check is made in both registries. Where a tool is not there, it is skipped and says so (see `tests/tools`).

mod clients;
mod cosign;
mod identity;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use base64::{Engine as _, prelude::BASE64_STANDARD as BASE64};
use serde_json::{Value, json};
use witan_registry_client::{Client, Credentials, Settings};
use witan_registry_types::{Artifact, ComponentManifest, Digest, Host, Mapping, media};
use witan_test_tools::{DockerRegistry, Found, Tool};

use crate::{Home, LOCK, SUMS, Said, Served};

/// A test of each of these functions in each registry.
macro_rules! in_both {
    ($($check:ident),* $(,)?) => {
        mod in_ours {
            $(#[test] fn $check() { super::$check(super::Place::Ours); })*
        }
        mod in_docker_s {
            $(#[test] fn $check() { super::$check(super::Place::DockerS); })*
        }
    };
}
use in_both;

/// Which registry is meant.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Ours,
    DockerS,
}

/// An author with a key, and the registries of this test.
struct World {
    home: Home,
    /// Ours: it has the log, whatever registry holds the version.
    ours: Served,
    token: String,
    docker_s: Option<DockerRegistry>,
    /// The registry in which things are published: its host.
    host: String,
}

impl World {
    /// None where the registry cannot be had, which is noted.
    fn new(place: Place) -> Option<Self> {
        let docker_s = match place {
            Place::Ours => None,
            Place::DockerS => Some(Tool::DockerRegistry.or_skip()?),
        };
        let home = Home::new();
        let ours = Served::start(&home);
        home.key("release");
        home.component("sums.wasm", SUMS);
        home.file("Cargo.lock", LOCK);
        let (_, token) = ours.token(&home, "acme:pull,push");
        home.run_with_input(&["registry", "login", &ours.host], &format!("{token}\n")).well();
        docker_login(&home, &ours.host, &token);
        home.run(&["registry", "trust", &ours.host, "--out", "trusted_root.json"]).well();
        let docker_s = docker_s.map(|found| DockerRegistry::start(&found, &home.path("docker-registry")).unwrap());
        let host = docker_s.as_ref().map_or(&*ours.host, DockerRegistry::host).to_owned();
        Some(Self { home, ours, token, docker_s, host })
    }

    /// The repository that a version is published to.
    fn repository(&self) -> String {
        format!("{}/components/acme/sums", self.host)
    }

    /// Publishes a version of `sums`, signed with `release` and witnessed by our log; gives the digest of its manifest.
    fn publish(&self, version: &str) -> String {
        let package = format!("acme:sums@{version}");
        let said = self.home.run(&[
            "publish",
            "sums.wasm",
            "--package",
            &package,
            "--registry",
            &self.host,
            "--transparency-log",
            &self.ours.host,
            "--key",
            "release",
            "--lock",
            "Cargo.lock",
            "--json",
        ]);
        let published = said.well().json();
        assert_eq!(published["repository"], self.repository());
        published["digest"].as_str().unwrap().to_owned()
    }

    /// Signs a version of `sums` into the folder `signed`, without publishing it.
    fn sign(&self, version: &str, more: &[&str]) -> Version {
        let package = format!("acme:sums@{version}");
        let base = ["sign", "sums.wasm", "--package", &package, "--lock", "Cargo.lock", "--out", "signed"];
        self.home.run(&[&base[..], more].concat()).well();
        Version::read(&self.home.path("signed"))
    }

    fn tool(&self, found: &Found, arguments: &[&str]) -> Said {
        tool(&self.home, found, arguments)
    }

    /// Puts a version into the registry as it is, with these signatures, whatever they are worth.
    fn push(&self, version: &str, artifact: &Artifact) {
        let host: Host = self.host.parse().unwrap();
        let mut settings = Settings::default();
        settings.credentials.insert(self.ours.host.parse().unwrap(), Credentials::new("anyone", &*self.token));
        let client = Client::new(host, Mapping::default(), settings).unwrap();
        let package = format!("acme:sums@{version}").parse().unwrap();
        wait(client.publish(&package, artifact)).unwrap();
    }

    /// What lies in our store of a version that was fetched.
    fn fetched(&self, digest: &str) -> PathBuf {
        self.home.path(".local/share/witan/components/sha256").join(digest.trim_start_matches("sha256:"))
    }

    /// A system that runs `sums` of this registry, and trusts `key`.
    fn system(&self, key: &str, more: &str) {
        self.home.file(
            "system.toml",
            format!(
                "schema = 1\n[registries]\nacme = \"{}\"\n[trust]\nroot = \"trusted_root.json\"\n[[trust.rules]]\n\
                 packages = \"acme:*\"\nkeys = [{{ key = \"\"\"{key}\"\"\" }}]\n{more}\n\
                 [components.sums]\nsource = \"acme:sums@1.0.0\"\n",
                self.host
            ),
        );
    }

    /// The public half of a key.
    fn key(&self, name: &str) -> PathBuf {
        let pem = self.home.run(&["keys", "export", name]).well().out;
        self.home.file(&format!("{name}.pub"), pem)
    }

    /// What `sums` makes of 5 and 3.
    fn call(&self) -> Said {
        self.home.run(&["call", "sums", "acme:sums/add@1.0.0#add", "5", "3"])
    }
}

/// Runs a tool of others, with the home of this test and nothing else of the machine's.
fn tool(home: &Home, found: &Found, arguments: &[&str]) -> Said {
    let mut command = found.command();
    command.args(arguments).current_dir(home.path("")).env("HOME", home.path("")).stdin(Stdio::null());
    for name in
        ["DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR", "XDG_CACHE_HOME"]
    {
        command.env_remove(name);
    }
    command.env("COSIGN_PASSWORD", "");
    Said::of(&command.output().unwrap())
}

/// Keeps a token where tools of others look for one.
fn docker_login(home: &Home, host: &str, token: &str) {
    let auth = BASE64.encode(format!("anyone:{token}"));
    home.file(".docker/config.json", json!({ "auths": { host: { "auth": auth } } }).to_string());
}

/// The parts of a version, as `witan sign` wrote them.
struct Version {
    artifact: Artifact,
    digest: String,
}

impl Version {
    fn read(folder: &Path) -> Self {
        let read = |name: &str| fs::read(folder.join(name)).unwrap();
        let bundles = ["release", "provenance", "sbom"].map(|name| read(&format!("{name}.sigstore.json"))).to_vec();
        let manifest = read("manifest.json");
        let digest = Digest::of(&manifest).to_string();
        let artifact = Artifact { manifest, config: read("config.json"), layer: read("component.wasm"), bundles };
        Self { artifact, digest }
    }

    /// Writes it as an image layout, which tools of others copy from.
    fn layout(&self, home: &Home, tag: &str) {
        let Artifact { manifest, config, layer, .. } = &self.artifact;
        for bytes in [manifest, config, layer] {
            home.file(&format!("layout/blobs/sha256/{}", Digest::of(bytes).hex()), bytes);
        }
        let entry = json!({
            "mediaType": media::MANIFEST,
            "digest": self.digest,
            "size": manifest.len(),
            "annotations": { "org.opencontainers.image.ref.name": tag },
        });
        home.file("layout/oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
        home.file("layout/index.json", json!({ "schemaVersion": 2, "manifests": [entry] }).to_string());
    }

    /// The statement that a bundle signs.
    fn statement(&self, number: usize) -> Vec<u8> {
        let bundle: Value = serde_json::from_slice(&self.artifact.bundles[number]).unwrap();
        BASE64.decode(bundle["dsseEnvelope"]["payload"].as_str().unwrap()).unwrap()
    }
}

/// The digest of the layer that a manifest names.
fn layer_of(manifest: &[u8]) -> String {
    ComponentManifest::parse(manifest, media::MANIFEST).unwrap().layer.digest.to_string()
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}
