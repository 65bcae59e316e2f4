//! `witan auth user`.

use clap::Subcommand;
use uuid::Uuid;
use witan_identity::{Directory, Name, TenantName};

use super::{BY, all_pages, done, tenant, time};
use crate::{Global, output};

#[derive(Subcommand)]
pub(super) enum Command {
    /// List those who have logged in.
    List {
        /// Those of one tenant.
        #[arg(long, value_name = "TENANT", value_parser = tenant)]
        tenant: Option<TenantName>,
    },
    /// Give a user these roles beside those of their claims, in place of those given before.
    #[command(after_help = "Examples:
  witan auth user roles 0198c5e0-… operator
  witan auth user roles 0198c5e0-…                none but those of their claims")]
    Roles {
        /// Their id, as `list` shows it.
        id: Uuid,
        /// The roles.
        roles: Vec<Name>,
    },
    /// Let a user in no more, from the next request on.
    Disable {
        /// Their id, as `list` shows it.
        id: Uuid,
    },
    /// Let a user in again.
    Enable {
        /// Their id, as `list` shows it.
        id: Uuid,
    },
}

pub(super) async fn run(command: Command, directory: &Directory, global: &Global) -> anyhow::Result<()> {
    match command {
        Command::List { tenant } => {
            let people = all_pages!(page => directory.people(tenant.as_ref(), page), |person| person.id);
            if global.json {
                let people: Vec<_> = people.iter().map(json).collect();
                output::json(&people);
                return Ok(());
            }
            for person in people {
                let state = person.disabled.map_or_else(String::new, |since| format!("disabled {}", time(since)));
                let (id, tenant, name) = (person.id, &person.tenant, &person.name);
                output::line(
                    format!("{id} {tenant:12} {:30} {name} {} {state}", person.principal(), person.email).trim_end(),
                );
            }
        }
        Command::Roles { id, roles } => {
            directory.give_roles(id, &roles.into_iter().collect(), BY).await?;
            done(global, &format!("the roles of the user {id} are set"));
        }
        Command::Disable { id } => {
            directory.disable_person(id, true, BY).await?;
            done(global, &format!("the user {id} is not let in"));
        }
        Command::Enable { id } => {
            directory.disable_person(id, false, BY).await?;
            done(global, &format!("the user {id} is let in"));
        }
    }
    Ok(())
}

fn json(person: &witan_identity::Person) -> serde_json::Value {
    serde_json::json!({
        "id": person.id,
        "principal": person.principal(),
        "tenant": person.tenant,
        "name": person.name,
        "email": person.email,
        "roles": person.roles,
        "created": time(person.created),
        "disabled": person.disabled.map(time),
    })
}
