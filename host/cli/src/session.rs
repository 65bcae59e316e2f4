//! Sessions at hosts that this user has logged in to, in a file that is theirs alone.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Read as _,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::PathBuf,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use url::Url;
use witan_api::{TokenRequest, TokenView};
use zeroize::Zeroizing;

use crate::{egress::is_loopback, registry::config_folder};

/// The largest file.
const LARGEST: u64 = 1 << 20;
/// An access token is refreshed so long before it ends, in seconds: a request takes a while.
const EARLY: u64 = 30;
/// How long a host may take to refresh a token.
const PATIENCE: Duration = Duration::from_secs(30);

/// The variable with an API key for whatever host is spoken to.
const KEY: &str = "WITAN_API_KEY";

/// A session at one host.
#[derive(Clone, Serialize, Deserialize)]
struct Kept {
    access: String,
    refresh: String,
    /// When the access token ends, in seconds since 1970.
    until: u64,
}

#[derive(Default, Serialize, Deserialize)]
struct Sessions {
    /// By the origin of the host.
    sessions: BTreeMap<String, Kept>,
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn path() -> anyhow::Result<PathBuf> {
    Ok(config_folder()?.join("sessions.json"))
}

/// How the sessions of a host are called in the file.
fn name(server: &Url) -> String {
    server.origin().ascii_serialization()
}

/// Holds the file for this process. A refresh token is good once: two commands that trade the same one would end the
/// session.
struct Held {
    _lock: File,
    sessions: Sessions,
}

impl Held {
    fn open() -> anyhow::Result<Self> {
        let (path, folder) = (path()?, config_folder()?);
        let failed = || format!("cannot use `{}`", path.display());
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).with_context(failed)?;
        let lock = folder.join("sessions.lock");
        let lock = File::options().create(true).truncate(false).write(true).mode(0o600).open(lock);
        let lock = lock.with_context(failed)?;
        lock.lock().with_context(failed)?;
        let sessions = match File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Sessions::default(),
            file => {
                let file = file.with_context(failed)?;
                let mode = file.metadata()?.mode() & 0o777;
                if mode & 0o077 != 0 {
                    bail!(
                        "`{}` has mode {mode:04o}: others may have read it; remove it, and log in again",
                        path.display()
                    );
                }
                let mut text = Zeroizing::new(String::new());
                file.take(LARGEST).read_to_string(&mut text).with_context(failed)?;
                // The error of the parser could show a token.
                serde_json::from_str(&text).ok().with_context(|| {
                    format!("`{}` is not what `witan auth login` writes; remove it, and log in again", path.display())
                })?
            }
        };
        Ok(Self { _lock: lock, sessions })
    }

    fn write(&self) -> anyhow::Result<()> {
        let path = path()?;
        let text = Zeroizing::new(serde_json::to_vec(&self.sessions)?);
        witan_durable::replace(&path, &text, 0o600).with_context(|| format!("cannot write `{}`", path.display()))
    }
}

impl From<TokenView> for Kept {
    fn from(tokens: TokenView) -> Self {
        Self {
            access: tokens.access_token,
            refresh: tokens.refresh_token,
            until: now().saturating_add(tokens.expires_in),
        }
    }
}

/// Keeps a session at `server`.
pub(crate) fn keep(server: &Url, tokens: TokenView) -> anyhow::Result<()> {
    if !is_private(server) {
        bail!("a session at `{server}` would be sent in the clear, and is not kept; write the address with `https`");
    }
    let mut held = Held::open()?;
    held.sessions.sessions.insert(name(server), tokens.into());
    held.write()
}

/// Forgets the session at `server`.
pub(crate) fn forget(server: &Url) -> anyhow::Result<()> {
    let mut held = Held::open()?;
    held.sessions.sessions.remove(&name(server));
    held.write()
}

/// Whether what is sent to `server` is kept from others on the way.
fn is_private(server: &Url) -> bool {
    server.scheme() == "https" || is_loopback(server)
}

/// What requests to `server` are sent with: the key in the environment, or the session there, which is refreshed where it is
/// about to end. None where there is neither.
pub(crate) async fn credential(http: &reqwest::Client, server: &Url) -> anyhow::Result<Option<Zeroizing<String>>> {
    if let Some(key) = std::env::var(KEY).ok().filter(|key| !key.is_empty()) {
        if !is_private(server) {
            bail!(
                "`{KEY}` is not sent to `{server}` in the clear; write the address with `https`, or unset the variable"
            );
        }
        return Ok(Some(Zeroizing::new(key)));
    }
    if !path()?.exists() {
        return Ok(None);
    }
    let mut held = Held::open()?;
    let Some(kept) = held.sessions.sessions.get(&name(server)).cloned() else { return Ok(None) };
    if kept.until > now().saturating_add(EARLY) {
        return Ok(Some(Zeroizing::new(kept.access)));
    }
    let request = TokenRequest::RefreshToken { refresh_token: kept.refresh };
    let url = server.join("v1/auth/token").with_context(|| format!("`{server}` is not the address of a host"))?;
    let answer = http.post(url).json(&request).timeout(PATIENCE).send().await;
    let answer = answer.with_context(|| format!("cannot reach `{server}` to refresh the session there"))?;
    if answer.status() == 401 {
        held.sessions.sessions.remove(&name(server));
        held.write()?;
        bail!("the session at `{server}` has ended; log in with `witan auth login --server {server}`");
    }
    let answer = answer.error_for_status().with_context(|| format!("cannot refresh the session at `{server}`"))?;
    let tokens: TokenView = answer.json().await.context("the host answered something else than it should")?;
    let kept = Kept::from(tokens);
    held.sessions.sessions.insert(name(server), kept.clone());
    held.write()?;
    Ok(Some(Zeroizing::new(kept.access)))
}
