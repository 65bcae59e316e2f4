//! `witan auth tenant`.

use clap::Subcommand;
use witan_identity::{Directory, TenantName};

use super::{BY, done, tenant, time};
use crate::{Global, output};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Make a tenant.
    #[command(after_help = "Example:\n  witan auth tenant create acme")]
    Create {
        /// Its name.
        #[arg(value_parser = tenant)]
        name: TenantName,
    },
    /// List the tenants.
    List,
    /// Let nobody of a tenant in, from the next request on.
    Disable {
        /// Its name.
        #[arg(value_parser = tenant)]
        name: TenantName,
    },
    /// Let those of a tenant in again.
    Enable {
        /// Its name.
        #[arg(value_parser = tenant)]
        name: TenantName,
    },
}

pub(super) async fn run(command: Command, directory: &Directory, global: &Global) -> anyhow::Result<()> {
    match command {
        Command::Create { name } => {
            directory.create_tenant(&name, BY).await?;
            done(global, &format!("the tenant `{name}` was made"));
        }
        Command::List => {
            let tenants = directory.tenants().await?;
            if global.json {
                output::json(&tenants);
                return Ok(());
            }
            for tenant in tenants {
                let state = tenant.disabled.map_or_else(String::new, |since| format!("disabled {}", time(since)));
                output::line(format!("{:20} {state}", tenant.name.as_str()).trim_end());
            }
        }
        Command::Disable { name } => {
            directory.disable_tenant(&name, true, BY).await?;
            done(global, &format!("nobody of `{name}` is let in"));
        }
        Command::Enable { name } => {
            directory.disable_tenant(&name, false, BY).await?;
            done(global, &format!("those of `{name}` are let in"));
        }
    }
    Ok(())
}
