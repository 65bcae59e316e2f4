//! `witan auth session`.

use clap::Subcommand;
use uuid::Uuid;
use witan_identity::{Directory, TenantName};

use super::{BY, all_pages, done, tenant, time};
use crate::{Global, output};

#[derive(Subcommand)]
pub(super) enum Command {
    /// List sessions, also those that ended within 30 days.
    List {
        /// Those of one tenant.
        #[arg(long, value_name = "TENANT", value_parser = tenant)]
        tenant: Option<TenantName>,
        /// Those of one principal, such as `corp/alice`.
        #[arg(long, value_name = "PRINCIPAL")]
        principal: Option<String>,
    },
    /// End a session, from the next request on.
    Revoke {
        /// Its id, as `list` shows it.
        id: Uuid,
    },
}

pub(super) async fn run(command: Command, directory: &Directory, global: &Global) -> anyhow::Result<()> {
    match command {
        Command::List { tenant, principal } => {
            let sessions = all_pages!(page => directory.sessions(tenant.as_ref(), principal.as_deref(), page), |session| session.id);
            if global.json {
                let sessions: Vec<_> = sessions.iter().map(json).collect();
                output::json(&sessions);
                return Ok(());
            }
            for session in sessions {
                let state = match session.revoked {
                    Some(revoked) => format!("revoked {}", time(revoked)),
                    None if session.is_good() => format!("ends {}", time(session.idle.min(session.expires))),
                    None => "ended".to_owned(),
                };
                let (id, tenant, principal) = (session.id, &session.tenant, &session.principal);
                output::line(&format!("{id} {tenant:12} {principal:30} {} {state}", session.address));
            }
        }
        Command::Revoke { id } => {
            directory.revoke_session(None, None, id, BY).await?;
            done(global, &format!("the session {id} has ended"));
        }
    }
    Ok(())
}

fn json(session: &witan_identity::Session) -> serde_json::Value {
    serde_json::json!({
        "id": session.id,
        "principal": session.principal,
        "tenant": session.tenant,
        "active": session.is_good(),
        "agent": session.agent,
        "address": session.address,
        "created": time(session.created),
        "used": time(session.used),
        "idle": time(session.idle),
        "expires": time(session.expires),
        "revoked": session.revoked.map(time),
    })
}
