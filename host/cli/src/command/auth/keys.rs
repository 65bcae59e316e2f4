//! `witan auth key`.

use std::{collections::BTreeSet, time::Duration};

use clap::Subcommand;
use uuid::Uuid;
use witan_identity::{Directory, Key, Name, NewKey, Scope, Secret, TenantName, TrustLevel};

use super::{BY, all_pages, done, tenant, time};
use crate::{Global, output};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Make a key, and print its secret, which cannot be shown again.
    #[command(after_help = "Examples:
  witan auth key create ci --scope 'tasks:*'
  witan auth key create dashboards --scope metrics:read --trust privileged --expires 2160h
  witan auth key create worker --tenant acme --scope tasks:write --role batch")]
    Create {
        /// What the key is called, for you.
        name: String,
        /// Whose it is.
        #[arg(long, value_name = "TENANT", value_parser = tenant, default_value = "local")]
        tenant: TenantName,
        /// What it may ask for: `area:read`, `area:write`, `area:*` or `*`.
        #[arg(long = "scope", required = true, value_name = "SCOPE")]
        scopes: Vec<Scope>,
        /// What policies know it as.
        #[arg(long = "role", value_name = "ROLE")]
        roles: Vec<Name>,
        /// How far it is trusted: restricted, standard, elevated or privileged. What concerns the whole host needs
        /// privileged.
        #[arg(long, value_name = "LEVEL", default_value_t = TrustLevel::Standard)]
        trust: TrustLevel,
        /// How long it is good; for good without it.
        #[arg(long, value_name = "TIME", value_parser = crate::command::time)]
        expires: Option<Duration>,
    },
    /// List the keys, without their secrets.
    List {
        /// Those of one tenant.
        #[arg(long, value_name = "TENANT", value_parser = tenant)]
        tenant: Option<TenantName>,
    },
    /// Revoke a key: it is not good from the next request on.
    Revoke {
        /// Its id, as `list` shows it.
        id: Uuid,
    },
    /// Replace a key: make one like it, and end the former.
    #[command(after_help = "Example:
  witan auth key rotate 0198c5e0-… --overlap 24h       both are good for a day")]
    Rotate {
        /// Its id, as `list` shows it.
        id: Uuid,
        /// How long the former is good still.
        #[arg(long, value_name = "TIME", default_value = "0s", value_parser = crate::command::time)]
        overlap: Duration,
    },
}

pub(super) async fn run(command: Command, directory: &Directory, global: &Global) -> anyhow::Result<()> {
    match command {
        Command::Create { name, tenant, scopes, roles, trust, expires } => {
            let roles: BTreeSet<Name> = roles.into_iter().collect();
            let new = NewKey { tenant, name, scopes, roles, trust, time: expires };
            made(directory.create_key(&new, BY).await?, global);
        }
        Command::List { tenant } => {
            let keys = all_pages!(page => directory.keys(tenant.as_ref(), page), |key| key.id);
            list(&keys, global);
        }
        Command::Revoke { id } => {
            directory.revoke_key(None, id, BY).await?;
            done(global, &format!("the key {id} is revoked"));
        }
        Command::Rotate { id, overlap } => made(directory.rotate_key(None, id, overlap, BY).await?, global),
    }
    Ok(())
}

fn made((key, secret): (Key, Secret), global: &Global) {
    match global.json {
        true => output::json(&serde_json::json!({ "id": key.id, "secret": secret.expose() })),
        false => {
            output::note(&format!("key {}; its secret is not kept, and follows once", key.id));
            output::line(secret.expose());
        }
    }
}

fn list(keys: &[Key], global: &Global) {
    if global.json {
        let keys: Vec<_> = keys.iter().map(|key| witan_api::KeyView::from(key.clone())).collect();
        return output::json(&keys);
    }
    for key in keys {
        let scopes: Vec<String> = key.scopes.iter().map(ToString::to_string).collect();
        let ends = match (key.revoked, key.expires) {
            (Some(revoked), _) => format!("revoked {}", time(revoked)),
            (None, Some(expires)) if key.is_good() => format!("ends {}", time(expires)),
            (None, Some(expires)) => format!("ended {}", time(expires)),
            (None, None) => "never ends".to_owned(),
        };
        let (id, tenant, name, trust, scopes) = (key.id, &key.tenant, &key.name, key.trust, scopes.join(" "));
        output::line(&format!("{id} {tenant:12} {name:20} {:16} {trust} {scopes} {ends}", key.hint));
    }
}
