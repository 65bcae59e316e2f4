//! `witan keys`: the keys that this user signs with.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::Serialize;
use witan_registry_sign::KeyInfo;
use witan_registry_types::Name;

use crate::{Global, output, registry::KeysArgument};

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a key.
    #[command(after_help = "Examples:
  witan keys generate release                          asks for a passphrase
  witan keys generate ci --passphrase-file secret      without a terminal
  witan keys generate ci --no-passphrase               a plain file that only you may read")]
    Generate(New),
    /// List the keys: their names, what each is called by its public half, and what it replaced.
    List(KeysArgument),
    /// Make a new key in the place of one. The old one is kept beside it until you remove it.
    #[command(after_help = "Example:
  witan keys rotate release
Then name both keys in the trust policy, the old one with `not-after`, until nothing new is signed with it.")]
    Rotate(New),
    /// Print the public half of a key, as trust policies and `cosign verify --key` read it.
    #[command(after_help = "Example:
  witan keys export release > release.pub")]
    Export {
        /// The key.
        name: Name,
        #[command(flatten)]
        keys: KeysArgument,
    },
}

#[derive(Args)]
struct New {
    /// What the key is called: lower-case letters, digits and hyphens.
    name: Name,
    /// Do not encrypt the key. Whoever can read the file can then sign as you.
    #[arg(long, conflicts_with = "passphrase_file")]
    no_passphrase: bool,
    #[command(flatten)]
    keys: KeysArgument,
}

/// A key as programs read it.
#[derive(Serialize)]
struct Key {
    name: String,
    id: String,
    encrypted: bool,
    public: String,
    replaced: Vec<String>,
}

impl From<KeyInfo> for Key {
    fn from(info: KeyInfo) -> Self {
        Self {
            name: info.name.to_string(),
            id: info.public.id().to_string(),
            encrypted: info.encrypted,
            public: info.public.to_pem(),
            replaced: info.replaced.iter().map(ToString::to_string).collect(),
        }
    }
}

pub(crate) fn run(arguments: &Arguments, global: &Global) -> anyhow::Result<ExitCode> {
    match &arguments.command {
        Command::Generate(new) => {
            let folder = new.keys.folder()?;
            let key = folder.generate(&new.name, passphrase(new)?.as_deref())?;
            made(new, &key.public().clone(), "made", global);
        }
        Command::Rotate(new) => {
            let folder = new.keys.folder()?;
            let key = folder.rotate(&new.name, passphrase(new)?.as_deref())?;
            made(new, &key.public().clone(), "replaced", global);
        }
        Command::List(keys) => {
            let keys: Vec<Key> = keys.folder()?.list()?.into_iter().map(Key::from).collect();
            if global.json {
                output::json(&keys);
            } else if keys.is_empty() {
                output::note("there is no key yet; make one with `witan keys generate NAME`");
            }
            for key in keys.iter().filter(|_| !global.json) {
                let kind = if key.encrypted { "encrypted" } else { "plain" };
                output::line(&format!("{:20} {} {kind}", key.name, key.id));
                for replaced in &key.replaced {
                    output::line(&format!("{:20} {replaced} replaced", ""));
                }
            }
        }
        Command::Export { name, keys } => {
            let info = keys.folder()?.list()?.into_iter().find(|info| info.name == *name);
            let Some(info) = info else {
                anyhow::bail!("there is no key `{name}`: `witan keys list` shows those that there are")
            };
            match global.json {
                true => output::json(&Key::from(info)),
                false => output::line(info.public.to_pem().trim_end()),
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn passphrase(new: &New) -> anyhow::Result<Option<String>> {
    if new.no_passphrase { Ok(None) } else { new.keys.new_passphrase(&new.name).map(Some) }
}

fn made(new: &New, public: &witan_registry_sign::PublicKey, what: &str, global: &Global) {
    if global.json {
        output::json(&serde_json::json!({
            "name": new.name.as_str(),
            "id": public.id().to_string(),
            "encrypted": !new.no_passphrase,
            "public": public.to_pem(),
        }));
    } else {
        output::line(&format!("{what} the key `{}`, {}", new.name, public.id()));
    }
}
