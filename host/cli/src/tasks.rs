//! The tasks of a host that serves: kept in its database, from one start to the next.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use parking_lot::RwLock;
use witan_callback::{Deliverer, Sender};
use witan_database::Database;
use witan_events::{ComponentLoaded, What};
use witan_loader::Running;
use witan_secrets::{Sealer, Secrets};
use witan_system::System;
use witan_tasks::{Paths, Retention, Settings, Store, Tasks};

/// How often tasks that are kept no longer are looked for.
const SWEEP: Duration = Duration::from_secs(60);

/// Opens the tasks of `system` in `database`.
pub(crate) async fn open(system: &System, database: Database) -> anyhow::Result<Store> {
    let store = Store::open(database, system.host.state.join("tasks")).await;
    store.context("cannot open the tasks in the database")
}

/// How `system` has tasks run.
pub(crate) fn settings(system: &System) -> Settings {
    let tasks = &system.host.tasks;
    let number = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    Settings {
        concurrency: number(tasks.concurrency),
        queue: number(tasks.queue),
        // Without credentials everybody is the one tenant `local`, and shares with nobody.
        shared: system.host.auth.is_some(),
        limits: system.limits.clone(),
        run_again: tasks.run_again.iter().map(|intent| intent.as_str().to_owned()).collect(),
        ..Settings::default()
    }
}

/// Has callbacks told, as `system` lets them be.
pub(crate) fn callbacks(tasks: &Tasks, store: Store, system: &System) -> anyhow::Result<Deliverer> {
    let hosts = system.host.tasks.callback_hosts.clone();
    let settings =
        witan_callback::Settings { is_public: witan_policy::is_public, hosts, egress: crate::egress::way(system)? };
    let sender = Sender::new(settings).context("cannot set up HTTP for callbacks")?;
    let sealer = Sealer::new(Secrets::store(system));
    let deliverer = Deliverer::new(store, sender, tasks.bus().clone(), sealer);
    tasks.deliver_by(deliverer.clone());
    Ok(deliverer)
}

/// Tells that the components of `running` serve from now on.
pub(crate) fn tell_loaded(tasks: &Tasks, running: &Running) {
    for (name, loaded) in running.components() {
        let digest = loaded.digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let loaded = ComponentLoaded { component: name.to_string(), digest };
        tasks.bus().publish(None, What::ComponentLoaded(loaded));
    }
}

/// Goes on with the tasks of the host before.
pub(crate) async fn recover(tasks: &Tasks, running: &Running) -> anyhow::Result<()> {
    match tasks.seal_stored().await {
        Ok(0) => {}
        Ok(number) => tracing::info!(tasks = number, "the secrets of callbacks that were stored open are sealed"),
        Err(error) => tracing::error!(
            error = &error as &dyn std::error::Error,
            "secrets of callbacks are stored open still, and are sealed at the next start"
        ),
    }
    let paths = Paths::Under(running.system.host.roots.clone());
    let number = tasks.recover(&paths).await.context("cannot go on with the tasks of the host before")?;
    if number > 0 {
        tracing::info!(tasks = number, "the host goes on with tasks that had not ended");
    }
    Ok(())
}

/// Deletes what is kept no longer, again and again, as the system that runs says.
pub(crate) async fn sweep(tasks: Tasks, current: Arc<RwLock<Arc<Running>>>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let retention = {
            let kept = &current.read().system.host.tasks;
            Retention { time: kept.keep, number: kept.keep_number.into() }
        };
        match tasks.sweep(&retention).await {
            Ok(0) => {}
            Ok(number) => tracing::debug!(tasks = number, "tasks are kept no longer"),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "cannot delete what is kept no longer");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn tenants_share_a_host_that_asks_for_credentials() {
        let shared = |text: &str| settings(&System::parse(text, Path::new("system.toml")).unwrap()).shared;
        assert!(!shared("schema = 1"));
        assert!(shared("schema = 1\n[host.auth]\n"));
    }
}
