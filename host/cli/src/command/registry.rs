//! `witan registry`: runs a registry, tends to its tokens and quotas, and gets to know another.

mod metadata;
mod settings;

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use tokio::net::TcpListener;
use uuid::Uuid;
use witan_registry_server::{Administration, Namespace, Registry, Scope};
use witan_system::parse_bytes;
use witan_telemetry::LogSettings;

use self::settings::{At, Serve};
use witan_registry_types::Registry as Place;

use crate::{
    Global, output,
    registry::{client, keep_token, place, secret},
};

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

impl Arguments {
    /// Whether it serves, and logs as what serves does.
    pub(crate) fn serves(&self) -> bool {
        matches!(self.command, Command::Serve(_))
    }
}

#[derive(Subcommand)]
enum Command {
    /// Run a registry.
    #[command(after_help = "Examples:
  witan registry serve --data registry                    on 127.0.0.1:5000, for this machine
  witan registry serve --settings /etc/witan/registry.toml

docs/running-a-registry.md has the settings; a flag holds before the file.")]
    Serve(Box<Serve>),
    /// Make, list and revoke the tokens of a registry in a folder of this machine, also while it is served.
    #[command(subcommand)]
    Token(Token),
    /// Say how much a namespace may hold.
    #[command(after_help = "Examples:
  witan registry quota acme 50GiB --data registry
  witan registry quota acme --data registry       what others may hold")]
    Quota {
        /// The namespace.
        namespace: String,
        /// How much, such as `50GiB`; without it, what the settings say for all.
        bytes: Option<String>,
        #[command(flatten)]
        at: At,
    },
    /// Sign the TUF metadata of a registry, as its operators do.
    #[command(subcommand)]
    Metadata(metadata::Command),
    /// Remove what nothing needs now. A registry that is served does that by itself, and must be stopped for this.
    Gc {
        #[command(flatten)]
        at: At,
    },
    /// Keep a token for a registry, in a file that only you may read.
    #[command(after_help = "Examples:
  witan registry login registry.example.org                    asks for the token
  witan registry login registry.example.org < token")]
    Login {
        /// The registry.
        #[arg(value_parser = place)]
        registry: Place,
        /// The user, where the registry has users.
        #[arg(long)]
        user: Option<String>,
    },
    /// Ask a registry for its root or its log's key once, and print what trusts it: compare the keys with what its operator
    /// published elsewhere, then keep the file.
    #[command(after_help = "Examples:
  witan registry trust registry.example.org --tuf --out root.json       what `trust.tuf` pins
  witan registry trust registry.example.org --out trusted_root.json     for a registry without TUF metadata: `trust.root`")]
    Trust {
        /// The registry.
        #[arg(value_parser = place)]
        registry: Place,
        /// Take the registry's TUF root, by which it is held to whatever it says later.
        #[arg(long)]
        tuf: bool,
        /// Write it to this file, which must not be there yet.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

#[derive(Subcommand)]
enum Token {
    /// Make a token, and print its secret, which cannot be shown again.
    #[command(after_help = "Examples:
  witan registry token create ci --scope acme:pull,push --data registry
  witan registry token create mirror --scope '*:pull' --expires 2160h --data registry")]
    Create {
        /// What the token is called, for you.
        name: String,
        /// A namespace, or `*`, and what may be done there: `pull`, `push`, `delete`, `admin`.
        #[arg(long = "scope", required = true, value_name = "NAMESPACE:ACTIONS")]
        scopes: Vec<Scope>,
        /// How long it is good; for good without it.
        #[arg(long, value_name = "TIME", value_parser = super::time)]
        expires: Option<Duration>,
        #[command(flatten)]
        at: At,
    },
    /// List the tokens, without their secrets.
    List {
        #[command(flatten)]
        at: At,
    },
    /// End a token at once.
    Revoke {
        /// Its id, as `list` shows it.
        id: Uuid,
        #[command(flatten)]
        at: At,
    },
}

pub(crate) async fn run(arguments: Arguments, global: &Global) -> anyhow::Result<ExitCode> {
    match arguments.command {
        Command::Serve(arguments) => serve(&arguments, global).await?,
        Command::Token(token) => self::token(token, global).await?,
        Command::Quota { namespace, bytes, at } => {
            let bytes =
                bytes.map(|text| parse_bytes(&text).with_context(|| format!("`{text}` is no size; write `50GiB`")));
            let namespace = Namespace::parse(&namespace)?;
            Administration::open(&at.settings()?).await?.set_quota(&namespace, bytes.transpose()?).await?;
            done(global, "the quota is set");
        }
        Command::Gc { at } => {
            let collected = Registry::open(at.settings()?).await?.collect().await?;
            let (uploads, manifests, links, files) =
                (collected.uploads, collected.manifests, collected.links, collected.files);
            match global.json {
                true => output::json(&serde_json::json!({
                    "uploads": uploads, "manifests": manifests, "blobs": links, "files": files,
                })),
                false => output::line(&format!(
                    "removed {uploads} uploads, {manifests} manifests, {links} blobs of repositories, {files} files"
                )),
            }
        }
        Command::Login { registry, user } => {
            let token = secret(&format!("Token for `{}`: ", registry.host))?;
            if token.is_empty() {
                bail!("there is no token; paste it, or give it on standard input");
            }
            let path = keep_token(&registry.host, user, token)?;
            done(global, &format!("the token for `{}` is kept in `{}`", registry.host, path.display()));
        }
        Command::Metadata(command) => metadata::run(command, global)?,
        Command::Trust { registry, tuf: true, out } => metadata::trust(&registry, out.as_deref(), global).await?,
        Command::Trust { registry, tuf: false, out } => trust(&registry, out.as_deref(), global).await?,
    }
    Ok(ExitCode::SUCCESS)
}

fn done(global: &Global, text: &str) {
    match global.json {
        true => output::json(&serde_json::json!({ "done": text })),
        false => output::line(text),
    }
}

async fn serve(arguments: &Serve, global: &Global) -> anyhow::Result<()> {
    crate::telemetry::logs(&LogSettings { filter: global.log.clone(), ..LogSettings::default() })?;
    let file = arguments.at.file()?;
    let listen = arguments.listen(&file);
    let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on `{listen}`"))?;
    let address = listener.local_addr().context("cannot tell where the registry listens")?;
    let settings = arguments.settings(file, address)?;
    let public = settings.public_url.clone();
    let registry = Registry::open(settings).await?;
    let stopped = super::stopped();
    match global.json {
        true => output::json(&serde_json::json!({
            "url": format!("http://{address}"), "publicUrl": public, "pid": std::process::id(),
        })),
        false => output::line(&format!("a registry serves on http://{address} as {public}; stop with Ctrl-C")),
    }
    registry.serve(listener, stopped).await?;
    Ok(())
}

async fn token(token: Token, global: &Global) -> anyhow::Result<()> {
    match token {
        Token::Create { name, scopes, expires, at } => {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let expires = expires.map(|time| i64::try_from(now.saturating_add(time).as_secs()).unwrap_or(i64::MAX));
            let administration = Administration::open(&at.settings()?).await?;
            let (id, secret) = administration.create_token(&name, &scopes, expires).await?;
            match global.json {
                true => output::json(&serde_json::json!({ "id": id, "secret": secret })),
                false => {
                    output::note(&format!("token {id}; its secret is not kept, and follows once"));
                    output::line(&secret);
                }
            }
        }
        Token::List { at } => {
            let tokens = Administration::open(&at.settings()?).await?.tokens().await?;
            let time = |seconds: i64| jiff::Timestamp::from_second(seconds).unwrap_or_default().to_string();
            let scopes = |token: &witan_registry_server::Token| -> Vec<String> {
                token.scopes.iter().map(ToString::to_string).collect()
            };
            if global.json {
                let tokens: Vec<_> = tokens
                    .iter()
                    .map(|token| {
                        serde_json::json!({
                            "id": token.id,
                            "name": token.name,
                            "scopes": scopes(token),
                            "created": time(token.created),
                            "expires": token.expires.map(time),
                        })
                    })
                    .collect();
                output::json(&tokens);
                return Ok(());
            }
            for token in &tokens {
                let ends = token.expires.map_or_else(|| "never ends".to_owned(), |at| format!("ends {}", time(at)));
                output::line(&format!("{} {:20} {} {ends}", token.id, token.name, scopes(token).join(" ")));
            }
        }
        Token::Revoke { id, at } => {
            if !Administration::open(&at.settings()?).await?.revoke_token(id).await? {
                bail!("there is no token `{id}`: `witan registry token list` shows those that there are");
            }
            done(global, &format!("the token {id} is revoked"));
        }
    }
    Ok(())
}

/// Writes what is to be pinned to a file that is not there yet, or prints it.
fn pin_to(out: Option<&Path>, root: &[u8]) -> anyhow::Result<()> {
    let Some(path) = out else {
        output::line(&String::from_utf8_lossy(root));
        return Ok(());
    };
    // What was pinned is replaced by whoever pinned it, and not by asking again.
    let file = std::fs::File::create_new(path);
    let written = file.and_then(|mut file| file.write_all(root).and_then(|()| file.sync_all()));
    written.with_context(|| format!("cannot write `{}`, or it is there already", path.display()))
}

async fn trust(registry: &Place, out: Option<&Path>, global: &Global) -> anyhow::Result<()> {
    let pin = client(registry, global).await?.log().introduce().await?;
    let root = pin.trusted_root();
    let key = pin.key.id();
    pin_to(out, &root)?;
    if let (Some(path), true) = (out, global.json) {
        output::json(&serde_json::json!({ "log": pin.origin(), "key": key.to_string(), "file": path }));
    } else {
        output::note(&format!(
            "the log `{}` has the key {key}: compare it with what its operator published",
            pin.origin()
        ));
    }
    Ok(())
}
