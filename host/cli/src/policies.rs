//! The request policies of a host that serves.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use witan_authorize::{
    Action, Change, ChangeKind, Decision, Observer, Policies, Request, Risk, Set, Settings, Sources, Would,
};
use witan_database::Database;
use witan_events::{PolicyReloaded, What};
use witan_ledger::{Entry, Kind, Ledger};
use witan_system::System;
use witan_tasks::Tasks;
use witan_telemetry::Metrics;

use crate::host;

/// The policies that decide each request, whose versions `database` keeps.
pub(crate) async fn open(system: &System, database: Database) -> anyhow::Result<Policies> {
    let opened = Policies::open(host::policy_settings(system), database).await;
    opened.context("the policies that decide requests do not hold")
}

/// A set of policies in files that `system` names.
pub(crate) struct InFiles {
    /// The setting that names it.
    pub(crate) key: &'static str,
    /// Where it stands.
    pub(crate) folder: PathBuf,
    /// Whether it can be loaded.
    pub(crate) loaded: anyhow::Result<Set>,
    /// The command that says all that is wrong with it.
    pub(crate) remedy: String,
}

/// Every set of policies in files that `system` names.
pub(crate) fn in_files(system: &System) -> Vec<InFiles> {
    let Settings { folder, entities, shadow, .. } = host::policy_settings(system);
    let set = |key, folder: PathBuf| {
        let read = Sources::read(&folder, entities.as_deref()).map_err(anyhow::Error::new);
        let loaded = read.and_then(|sources| Ok(Set::new(&sources)?));
        let entities = entities.as_ref().map_or_else(String::new, |file| format!(" --entities {}", file.display()));
        let remedy = format!("witan policy check {}{entities}", folder.display());
        InFiles { key, folder, loaded, remedy }
    };
    let both = [("host.policy.folder", folder), ("host.policy.shadow", shadow)];
    both.into_iter().filter_map(|(key, folder)| Some(set(key, folder?))).collect()
}

/// Counts what `policies` decide in `metrics`, writes it into `ledger`, and tells those who listen to the events of `tasks`
/// when others decide.
pub(crate) fn observe(policies: &Policies, metrics: &Arc<Metrics>, tasks: &Tasks, ledger: &Ledger) {
    let watch = Watch { metrics: metrics.clone(), tasks: tasks.clone(), ledger: ledger.clone() };
    policies.authorizer().observe(Arc::new(watch));
}

struct Watch {
    metrics: Arc<Metrics>,
    tasks: Tasks,
    ledger: Ledger,
}

impl Watch {
    fn write(&self, entry: Entry) {
        if let Err(error) = self.ledger.append(entry) {
            tracing::error!(%error, "what was decided by policies, or about them, is not in the ledger");
        }
    }
}

impl Observer for Watch {
    fn evaluated(&self, decision: &Decision, took: Duration) {
        self.metrics.policy_decided(decision.allow, took);
    }

    fn differed(&self, would: Would) {
        self.metrics.policy_shadow_differed(would.name());
    }

    fn decided(&self, request: &Request<'_>, decision: &Decision) {
        if decision.allow && !is_written(request.action) {
            return;
        }
        let mut entry = Entry::new(Kind::Decision, request.action.name(), request.resource.to_string())
            .by(&*request.principal.tenant, &*request.principal.name)
            .with("policies", decision.version);
        (entry.id, entry.decision_id) = (decision.id, Some(decision.id));
        if !decision.determining.is_empty() {
            entry = entry.with("rules", decision.determining.join(", "));
        }
        self.write(if decision.allow { entry } else { entry.denied(decision.reason.as_str()) });
    }

    fn changed(&self, change: &Change) {
        let action = match change.kind {
            ChangeKind::Reloaded => "policies-reload",
            ChangeKind::RolledBack => "policies-rollback",
            ChangeKind::ShadowBegun => "policies-shadow-begin",
            ChangeKind::ShadowEnded => "policies-shadow-end",
        };
        let entry = Entry::new(Kind::Administration, action, change.digest.as_str())
            .by(&*change.by.tenant, &*change.by.name)
            .with("version", change.version);
        self.write(entry);
        if matches!(change.kind, ChangeKind::Reloaded | ChangeKind::RolledBack) {
            let reloaded = PolicyReloaded { version: change.version.to_string() };
            self.tasks.bus().publish(None, What::PolicyReloaded(reloaded));
        }
    }
}

/// Whether that it was allowed is written down: what changes something is, and neither what only reads nor requests for
/// mounts, of which a busy host has thousands a second.
fn is_written(action: Action) -> bool {
    action.risk() != Risk::Low && action != Action::MountCall
}
