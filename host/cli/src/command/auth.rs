//! `witan auth`: keys, tenants, users and sessions of a host, and logging in to one.

mod keys;
mod login;
mod sessions;
mod tenants;
mod users;

use std::{process::ExitCode, sync::Arc};

use anyhow::{Context as _, anyhow};
use clap::{Args, Subcommand};
use witan_identity::{Directory, TenantName};
use witan_ledger::Ledger;
use witan_system::System;

use crate::{Global, ledger, output, source};

/// Who makes changes with these commands: whoever may read the state folder.
const BY: &str = "local";

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make, list, replace and revoke API keys. Works while the host runs and while it does not.
    #[command(subcommand)]
    Key(keys::Command),
    /// Make, list, disable and enable tenants.
    #[command(subcommand)]
    Tenant(tenants::Command),
    /// List users who have logged in, give them roles, disable and enable them.
    #[command(subcommand)]
    User(users::Command),
    /// List and revoke the sessions of users who have logged in.
    #[command(subcommand)]
    Session(sessions::Command),
    /// Log in to a host with the browser, and keep the session in a file that only you may read.
    #[command(after_help = "Examples:
  witan auth login --server https://witan.example       opens the provider's page
  witan task summarize README.md --server https://witan.example     then speaks to it as you")]
    Login(login::Login),
    /// End the session at a host, and forget it.
    Logout(login::Place),
    /// Say who you are to a host.
    Whoami(login::Place),
}

pub(crate) async fn run(arguments: Arguments, global: &Global) -> anyhow::Result<ExitCode> {
    match arguments.command {
        Command::Key(command) => {
            let here = here(global).await?;
            keys::run(command, &here.directory, global).await?;
            here.recorded()?;
        }
        Command::Tenant(command) => {
            let here = here(global).await?;
            tenants::run(command, &here.directory, global).await?;
            here.recorded()?;
        }
        Command::User(command) => {
            let here = here(global).await?;
            users::run(command, &here.directory, global).await?;
            here.recorded()?;
        }
        Command::Session(command) => {
            let here = here(global).await?;
            sessions::run(command, &here.directory, global).await?;
            here.recorded()?;
        }
        Command::Login(login) => login::login(&login, global).await?,
        Command::Logout(place) => login::logout(&place, global).await?,
        Command::Whoami(place) => login::whoami(&place, global).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The rows of the host of this folder's system, whether it runs or not, and where changes of them are written down.
struct Here {
    directory: Directory,
    ledger: Ledger,
}

async fn here(global: &Global) -> anyhow::Result<Here> {
    let system = System::load(&source::find(global)?)?;
    let state = &system.host.state;
    std::fs::create_dir_all(state).with_context(|| format!("cannot make the folder `{}`", state.display()))?;
    let ledger = ledger::open(&system)?;
    let database = crate::database::open(&system).await?;
    let observer = Arc::new(ledger::Identities(ledger.clone()));
    Ok(Here { directory: Directory::open(database, state, observer).await?, ledger })
}

impl Here {
    /// Waits until what was done is written down.
    fn recorded(self) -> anyhow::Result<()> {
        let written = tokio::task::block_in_place(|| self.ledger.settle());
        self.ledger.close();
        written.map_err(|why| anyhow!("it is done, and cannot be written down: {why}"))
    }
}

/// Reads the name of a tenant.
fn tenant(text: &str) -> Result<TenantName, String> {
    text.parse().map_err(|error: witan_system::NameError| error.to_string())
}

/// Seconds since 1970 as RFC 3339 writes them.
fn time(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).unwrap_or_default().to_string()
}

fn done(global: &Global, text: &str) {
    match global.json {
        true => output::json(&serde_json::json!({ "done": text })),
        false => output::line(text),
    }
}

/// Every page of a list.
macro_rules! all_pages {
    ($page:ident => $list:expr, $id:expr) => {{
        let mut all = Vec::new();
        let mut $page = witan_identity::Page::first(crate::command::auth::AT_ONCE);
        loop {
            let (mut found, more) = $list.await?;
            $page.after = found.last().map($id);
            all.append(&mut found);
            if !more {
                break all;
            }
        }
    }};
}
use all_pages;

/// Rows that are read at once.
const AT_ONCE: usize = 500;
