//! The request policies of a host that serves.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use witan_authorize::{Change, ChangeKind, Decision, Observer, Policies, Request};
use witan_database::Database;
use witan_events::{PolicyReloaded, What};
use witan_system::System;
use witan_tasks::Tasks;
use witan_telemetry::Metrics;

use crate::host;

/// The policies that decide each request, whose versions `database` keeps.
pub(crate) async fn open(system: &System, database: Database) -> anyhow::Result<Policies> {
    let opened = Policies::open(host::policy_settings(system), database).await;
    opened.context("the policies that decide requests do not hold")
}

/// Counts what `policies` decide in `metrics`, and tells those who listen to the events of `tasks` when others decide.
pub(crate) fn observe(policies: &Policies, metrics: &Arc<Metrics>, tasks: &Tasks) {
    policies.authorizer().observe(Arc::new(Watch { metrics: metrics.clone(), tasks: tasks.clone() }));
}

struct Watch {
    metrics: Arc<Metrics>,
    tasks: Tasks,
}

impl Observer for Watch {
    fn evaluated(&self, decision: &Decision, took: Duration) {
        self.metrics.policy_decided(decision.allow, took);
    }

    fn decided(&self, _request: &Request<'_>, _decision: &Decision) {}

    fn changed(&self, change: &Change) {
        if matches!(change.kind, ChangeKind::Reloaded | ChangeKind::RolledBack) {
            let reloaded = PolicyReloaded { version: change.version.to_string() };
            self.tasks.bus().publish(None, What::PolicyReloaded(reloaded));
        }
    }
}
