//! `witan secrets`: the secrets that the state folder keeps, encrypted.

use std::{
    io::{IsTerminal as _, Read as _},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use witan_secrets::{Info, Secrets, Value};
use witan_system::{SecretName, System, TenantName};
use zeroize::Zeroizing;

use crate::{Global, ledger, output, source};

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Keep a secret, in place of one of that name. It is read from standard input, or asked for.
    #[command(after_help = "Examples:
  witan secrets set weather                      asks for it
  witan secrets set weather < key.txt            without a terminal
  pass show weather | witan secrets set weather --tenant acme")]
    Set(Named),
    /// List the secrets, without what they are.
    List,
    /// Replace a secret that there is, or the operator key that all are encrypted under.
    #[command(after_help = "Examples:
  witan secrets rotate weather                   asks for the new one
  witan secrets rotate --operator-key            encrypts all secrets under a new key")]
    Rotate {
        /// The secret.
        #[arg(required_unless_present = "operator_key", conflicts_with = "operator_key")]
        name: Option<SecretName>,
        /// The tenant whose secret it is.
        #[arg(long, default_value = "local")]
        tenant: TenantName,
        /// Make a new operator key, and encrypt everything under it.
        #[arg(long)]
        operator_key: bool,
    },
    /// Forget a secret.
    #[command(after_help = "Example:\n  witan secrets rm weather")]
    Rm(Named),
}

#[derive(Args)]
struct Named {
    /// The secret: lower-case letters, digits and hyphens, as `[secrets]` in system.toml names it.
    name: SecretName,
    /// The tenant whose secret it is.
    #[arg(long, default_value = "local")]
    tenant: TenantName,
}

/// The longest secret that is read, with room for the end of its line; what is longer is refused, not cut.
const LONGEST: u64 = 16 << 10;

pub(crate) fn run(arguments: &Arguments, global: &Global) -> anyhow::Result<ExitCode> {
    let system = System::load(&source::find(global)?)?;
    let store = Secrets::store(&system);
    match &arguments.command {
        Command::Set(Named { name, tenant }) => {
            let value = value(name)?;
            told_of(&system, "secret-set", tenant, name)?;
            let version = store.set(tenant.as_str(), name, &value)?;
            told(global, name, tenant, version, "set");
            if !system.secrets.contains_key(name) {
                output::note(&format!("nothing uses it yet: add [secrets.{name}] to system.toml"));
            }
        }
        Command::Rotate { operator_key: true, .. } => {
            ledger::administration(&system, "secrets-key-rotated", "operator-key")?;
            let (key, count) = store.rotate_key()?;
            match global.json {
                true => output::json(&serde_json::json!({ "key": key, "secrets": count })),
                false => output::line(&format!(
                    "encrypted {} under the new operator key {key}",
                    output::counted(count, "secret")
                )),
            }
        }
        Command::Rotate { name: Some(name), tenant, .. } => {
            // Nobody is asked for what will be refused.
            if !store.list()?.iter().any(|info| info.name == *name && info.tenant == tenant.as_str()) {
                bail!("there is no secret `{name}` to replace; make it with `witan secrets set {name}`");
            }
            let value = value(name)?;
            told_of(&system, "secret-rotated", tenant, name)?;
            let version = store.replace(tenant.as_str(), name, &value)?;
            told(global, name, tenant, version, "replaced");
        }
        Command::Rotate { name: None, .. } => bail!("name the secret, or say `--operator-key`"),
        Command::Rm(Named { name, tenant }) => {
            told_of(&system, "secret-removed", tenant, name)?;
            if !store.remove(tenant.as_str(), name)? {
                bail!("there is no secret `{name}` of `{tenant}`: `witan secrets list` shows those that there are");
            }
            match global.json {
                true => output::json(&serde_json::json!({ "removed": name, "tenant": tenant })),
                false => output::line(&format!("removed the secret `{name}` of `{tenant}`")),
            }
        }
        Command::List => list(&store.list()?, global),
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes down what is about to be done to a secret, never what it is.
fn told_of(system: &System, action: &str, tenant: &TenantName, name: &SecretName) -> anyhow::Result<()> {
    ledger::administration(system, action, &format!("{tenant}/{name}"))
}

fn list(secrets: &[Info], global: &Global) {
    if global.json {
        return output::json(&secrets);
    }
    if secrets.is_empty() {
        return output::note("no secret is stored; keep one with `witan secrets set NAME`");
    }
    output::line(&format!("{:24} {:16} {:8} SET", "SECRET", "TENANT", "VERSION"));
    for info in secrets {
        let set = i64::try_from(info.set_at).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
        let set = set.map_or_else(|| "?".to_owned(), |time| time.to_string());
        output::line(&format!("{:24} {:16} {:<8} {set}", info.name.as_str(), info.tenant, info.version));
    }
}

fn told(global: &Global, name: &SecretName, tenant: &TenantName, version: u64, what: &str) {
    if global.json {
        return output::json(&serde_json::json!({ "secret": name, "tenant": tenant, "version": version }));
    }
    output::line(&format!("{what} the secret `{name}` of `{tenant}`, version {version}"));
}

/// The secret, from standard input or from a person. An argument would be seen by whoever lists processes.
fn value(name: &SecretName) -> anyhow::Result<Value> {
    let mut bytes = Zeroizing::new(Vec::new());
    if std::io::stdin().is_terminal() {
        let asked =
            rpassword::prompt_password(format!("the secret `{name}`: ")).context("cannot ask for the secret")?;
        bytes.extend_from_slice(Zeroizing::new(asked).as_bytes());
    } else {
        let stdin = std::io::stdin().lock().take(LONGEST);
        let mut stdin = stdin;
        stdin.read_to_end(&mut bytes).context("cannot read standard input")?;
    }
    Value::new(bytes.to_vec()).with_context(|| format!("this cannot be the secret `{name}`"))
}
