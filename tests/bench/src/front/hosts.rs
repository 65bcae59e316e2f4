//! The hosts that are measured.

use std::{fs, net::SocketAddr, path::Path, process::Command};

use anyhow::{Context as _, ensure};
use axum::{Router, http::StatusCode};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::client::Client;
use crate::{
    Setting,
    process::{Server, system_in},
};

/// Tenants, each with a key of its own.
pub(crate) const TENANTS: [&str; 4] = ["north", "east", "south", "west"];

/// A host with the default system and a component that waits, in a folder of its own.
pub(crate) struct Host {
    pub(crate) server: Server,
    /// A key of each of [`TENANTS`]; none where the host asks for none.
    keys: Vec<String>,
    folder: TempDir,
}

impl Host {
    /// One for a single user: nobody is asked who they are, and nothing is traced.
    pub(crate) fn alone(setting: &Setting) -> anyhow::Result<Self> {
        Self::start(setting, "", false)
    }

    /// One for several tenants, which holds clients to rates, and traces for `collector`. `more` is added to its settings.
    pub(crate) fn guarded(setting: &Setting, collector: SocketAddr, more: &str) -> anyhow::Result<Self> {
        let settings =
            format!("[host.auth]\n[host.telemetry]\notlp = \"http://{collector}\"\nsample = \"10%\"\n{more}");
        Self::start(setting, &settings, true)
    }

    fn start(setting: &Setting, settings: &str, tenants: bool) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let ran = folder.path().join("ran");
        fs::create_dir(&ran)?;
        let recorder = setting.root.join("tests/programs/build/recorder.wasm");
        let settings = format!(
            "{settings}\n[components.recorder]\nsource = \"{}\"\ngrants.filesystem = [{{ path = \"{}\", guest = \"/ran\", \
             access = \"read-write\" }}]\n",
            recorder.display(),
            ran.display()
        );
        let system = system_in(folder.path(), setting, "wait = \"recorder\"", &settings)?;
        let mut keys = Vec::new();
        for tenant in TENANTS.iter().filter(|_| tenants) {
            witan(setting, &system, &["auth", "tenant", "create", tenant])?;
            let key = ["auth", "key", "create", "bench", "--tenant", tenant, "--scope", "tasks:*"];
            let key = witan(setting, &system, &key)?;
            keys.push(key["secret"].as_str().context("the key has no secret")?.to_owned());
        }
        Ok(Self { server: serve(setting, folder.path())?, keys, folder })
    }

    /// Ends it and starts it anew on the same data, after `between`.
    pub(crate) async fn again(
        self,
        setting: &Setting,
        between: impl AsyncFnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let Self { server, keys, folder } = self;
        drop(server);
        between(folder.path()).await?;
        Ok(Self { server: serve(setting, folder.path())?, keys, folder })
    }

    /// A connection of the tenant of that number.
    pub(crate) async fn client(&self, tenant: usize) -> anyhow::Result<Client> {
        Client::connect(&self.server.address, self.keys.get(tenant).map(String::as_str)).await
    }

    /// The key of the tenant of that number; empty where the host asks for none.
    pub(crate) fn key(&self, tenant: usize) -> &str {
        self.keys.get(tenant).map_or("", String::as_str)
    }

    /// Where its data is.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

fn serve(setting: &Setting, folder: &Path) -> anyhow::Result<Server> {
    let system = folder.join("system.toml").display().to_string();
    Server::start(&setting.witan, &["--system", &system, "up", "--listen", "127.0.0.1:0"])
}

fn witan(setting: &Setting, system: &str, line: &[&str]) -> anyhow::Result<Value> {
    let output = Command::new(&setting.witan).args(["--system", system]).args(line).arg("--json").output()?;
    ensure!(output.status.success(), "{line:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// A collector of traces that takes everything and keeps nothing, as long as the runtime lives.
pub(crate) async fn collector() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let router = Router::new().fallback(|_: axum::body::Bytes| async { StatusCode::OK });
    drop(tokio::spawn(async move { axum::serve(listener, router).await }));
    Ok(address)
}
