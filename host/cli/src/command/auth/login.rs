//! `witan auth login`, `logout` and `whoami`.

use std::{io::IsTerminal as _, time::Duration};

use anyhow::{Context as _, bail};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use clap::Args;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};
use url::Url;
use witan_api::{TokenRequest, TokenView, Whoami};
use zeroize::Zeroizing;

use super::done;
use crate::{Global, client::Client, egress::CaArgument, output, session};

/// How long somebody may take to log in.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long the browser may take to send its request, and how much of it is read.
const REQUEST: Duration = Duration::from_secs(10);
const LONGEST: u64 = 16 << 10;

#[derive(Args)]
pub(super) struct Place {
    /// The host.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    server: Url,
    #[command(flatten)]
    ca: CaArgument,
}

impl Place {
    fn client(&self) -> anyhow::Result<Client> {
        Client::new(self.server.clone(), &self.ca)
    }
}

#[derive(Args)]
pub(super) struct Login {
    #[command(flatten)]
    place: Place,
    /// Print the address to open, and leave opening it to you.
    #[arg(long)]
    no_browser: bool,
}

pub(super) async fn login(arguments: &Login, global: &Global) -> anyhow::Result<()> {
    let server = &arguments.place.server;
    let listener = TcpListener::bind("127.0.0.1:0").await.context("cannot listen for the browser")?;
    let redirect = format!("http://{}/done", listener.local_addr()?);
    let (verifier, state) = (random()?, random()?);
    let mut url = server.join("v1/auth/login").with_context(|| format!("`{server}` is not the address of a host"))?;
    url.query_pairs_mut()
        .append_pair("redirect", &redirect)
        .append_pair("challenge", &BASE64.encode(Sha256::digest(verifier.as_bytes())))
        .append_pair("state", &state);
    if arguments.no_browser || !open(&url) {
        output::note("open this address with a browser on this machine:");
        output::line(url.as_str());
    } else {
        output::note(&format!("the browser opens {url}"));
    }
    let code = tokio::time::timeout(PATIENCE, wait(&listener, &state));
    let code = code.await.context("nobody logged in within ten minutes; begin again")??;
    let request = TokenRequest::AuthorizationCode { code, code_verifier: verifier.to_string() };
    let tokens: TokenView = arguments.place.client()?.anonymous().post("v1/auth/token", &request).await?;
    session::keep(server, tokens)?;
    let me: Whoami = arguments.place.client()?.get("v1/auth/me").await?;
    match global.json {
        true => output::json(&me),
        false => output::line(&format!("logged in as {}, of the tenant `{}`", me.principal, me.tenant)),
    }
    Ok(())
}

pub(super) async fn logout(place: &Place, global: &Global) -> anyhow::Result<()> {
    let ended: anyhow::Result<Value> = place.client()?.post("v1/auth/logout", &serde_json::json!({})).await;
    // Forgotten in any case: who logs out does not want it kept.
    session::forget(&place.server)?;
    ended.context("the session is forgotten here, and may go on at the host until it ends by itself")?;
    done(global, &format!("logged out of {}", place.server));
    Ok(())
}

pub(super) async fn whoami(place: &Place, global: &Global) -> anyhow::Result<()> {
    let me: Whoami = place.client()?.get("v1/auth/me").await?;
    if global.json {
        output::json(&me);
        return Ok(());
    }
    for (name, value) in [
        ("principal", me.principal),
        ("kind", me.kind),
        ("tenant", me.tenant),
        ("roles", me.roles.join(", ")),
        ("trust", me.trust),
        ("scopes", me.scopes.join(" ")),
    ] {
        output::line(format!("{name:11} {value}").trim_end());
    }
    Ok(())
}

fn random() -> anyhow::Result<Zeroizing<String>> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *bytes).ok().context("the system has no random numbers to give")?;
    Ok(Zeroizing::new(BASE64.encode(*bytes)))
}

/// Opens `url` with the user's browser, where there is somebody to see it.
fn open(url: &Url) -> bool {
    if !std::io::stderr().is_terminal() {
        return false;
    }
    let opened = std::process::Command::new("xdg-open")
        .arg(url.as_str())
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status();
    opened.is_ok_and(|status| status.success())
}

/// The code that the browser brings back to `listener` with our `state`. What else comes is told that it is wrong here.
async fn wait(listener: &TcpListener, state: &str) -> anyhow::Result<String> {
    loop {
        let (mut stream, _) = listener.accept().await.context("cannot listen for the browser")?;
        let Ok(Some(target)) = tokio::time::timeout(REQUEST, target(&mut stream)).await else { continue };
        let url = Url::parse("http://127.0.0.1").and_then(|base| base.join(&target));
        let query = |name: &str| {
            let url = url.as_ref().ok().filter(|url| url.path() == "/done")?;
            url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
        };
        let ours = query("state").is_some_and(|given| given == state);
        match (ours, query("code")) {
            (true, Some(code)) => {
                answer(
                    &mut stream,
                    "200 OK",
                    "The command that waited says whether you are logged in; this page may be closed.",
                )
                .await;
                return Ok(code);
            }
            (true, None) => {
                answer(&mut stream, "400 Bad Request", "The login has failed.").await;
                bail!("the host sent the browser back without a code");
            }
            (false, _) => answer(&mut stream, "404 Not Found", "This is not the login that is waited for.").await,
        }
    }
}

/// What a request on `stream` asks for; its headers are read, and say nothing here.
async fn target(stream: &mut TcpStream) -> Option<String> {
    let mut lines = BufReader::new(stream.take(LONGEST)).lines();
    let first = lines.next_line().await.ok()??;
    while !lines.next_line().await.ok()??.is_empty() {}
    let mut words = first.split(' ');
    (words.next() == Some("GET")).then(|| words.next().map(str::to_owned))?
}

async fn answer(stream: &mut TcpStream, status: &str, text: &str) {
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\ncache-control: no-store\r\n\
         connection: close\r\n\r\n{text}",
        text.len()
    );
    let _gone = stream.write_all(answer.as_bytes()).await;
    let _gone = stream.shutdown().await;
}
