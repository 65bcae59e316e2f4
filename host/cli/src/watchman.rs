//! What a running host does about components that it should no longer run: yanked, revoked, put aside by an operator.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use parking_lot::RwLock;
use tokio::sync::mpsc;
use witan_admission::{Cause, Held, Refused};
use witan_loader::{Loaded, Running};
use witan_policy::GrantPolicy;
use witan_registry_types::Package;
use witan_system::{Component, ComponentName, Source, System};

use crate::{registry::StoreArgument, supply};

/// How often the quarantine is looked at: an operator who stops a component wants it stopped.
const LOOK: Duration = Duration::from_millis(500);

/// Stops what should no longer run, and has loaded again what may run again.
pub(crate) struct Watchman {
    pub(crate) current: Arc<RwLock<Arc<Running>>>,
    pub(crate) policy: Arc<GrantPolicy>,
    pub(crate) state: PathBuf,
    /// Told when the system is to be loaded again.
    pub(crate) reload: mpsc::Sender<()>,
}

impl Watchman {
    /// Looks at the quarantine all the time, and asks registries and rules anew each refresh period.
    pub(crate) async fn run(self) {
        let mut looked = None;
        let mut asked = tokio::time::Instant::now();
        loop {
            let changed = modified(supply::quarantine(&self.state).path());
            if changed != looked {
                looked = changed;
                // A file that cannot be read says nothing of what runs; the next load refuses everything.
                match supply::quarantine(&self.state).list() {
                    Ok(list) => {
                        self.look().await;
                        self.take_back(&list);
                    }
                    Err(error) => tracing::error!(%error, "cannot look into the quarantine"),
                }
            }
            let system = self.running().system.clone();
            if asked.elapsed() >= system.trust.refresh {
                self.ask(&system).await;
                asked = tokio::time::Instant::now();
            }
            tokio::time::sleep(LOOK.min(system.trust.refresh)).await;
        }
    }

    fn running(&self) -> Arc<Running> {
        self.current.read().clone()
    }

    /// Stops what is in quarantine.
    async fn look(&self) {
        let running = self.running();
        let quarantine = supply::quarantine(&self.state);
        let mut stopped = false;
        for (name, loaded, component) in parts(&running) {
            match quarantine.holds(&component.source, Some(loaded.admitted.digest())) {
                Ok(Some(held)) => stopped |= self.stop(name, loaded, &held),
                Ok(None) => {}
                Err(error) => tracing::error!(%error, "cannot look into the quarantine"),
            }
        }
        if stopped {
            self.write_down().await;
        }
    }

    /// Waits until what was done is on the disk, once all of it is done: whoever hears of it finds it in the ledger.
    async fn write_down(&self) {
        let policy = self.policy.clone();
        match tokio::task::spawn_blocking(move || policy.log().settle()).await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => tracing::error!(why, "that a component was stopped is not in the ledger yet"),
            Err(error) => tracing::error!(%error, "that a component was stopped may not be in the ledger yet"),
        }
    }

    /// Has the system loaded again where something of it does not run, and is in quarantine no longer. What then fails its
    /// checks is listed anew, and not tried again.
    fn take_back(&self, list: &[Held]) {
        let running = self.running();
        let let_go = |(name, component): &(&ComponentName, &Component)| {
            let runs = running.component(name).is_some_and(|loaded| !loaded.service.is_stopped());
            let source = component.source.to_string();
            !runs && list.iter().all(|held| held.source != source)
        };
        if let Some((name, _)) = running.system.components.iter().find(let_go) {
            tracing::info!(component = %name, "it was let go from quarantine; the system is loaded again");
            // One pending load is as good as many.
            let _pending = self.reload.try_send(());
        }
    }

    /// Stops it, and says whether it ran.
    fn stop(&self, name: &ComponentName, loaded: &Loaded, held: &Held) -> bool {
        if loaded.service.is_stopped() {
            return false;
        }
        let reason = format!("it is in quarantine ({}): {}", held.cause, held.reason);
        let digest = loaded.admitted.digest();
        self.policy.log().record_load(name.as_str(), &held.source, Some(digest), false, reason.clone());
        loaded.service.stop(reason);
        tracing::error!(component = %name, cause = %held.cause, reason = held.reason, "component.quarantined");
        true
    }

    /// Asks whether what runs was yanked, whether it would still be let in, and whether the logs go on as they were.
    async fn ask(&self, system: &System) {
        let running = self.running();
        let mut found = Vec::new();
        let mut heard = true;
        if let Err(error) = supply::refresh_metadata(system, &self.state).await {
            heard = false;
            tracing::error!(error = format!("{error:#}"), "cannot refresh what a registry is held to");
        }
        // What is stopped already waits for an operator, whose word it would be to say it anew.
        for (name, loaded, component) in parts(&running).filter(|(_, loaded, _)| !loaded.service.is_stopped()) {
            let Source::Registry(package) = &component.source else { continue };
            match supply::yanked(system, &self.state, package).await {
                Ok(Some(reason)) => found.push((name, loaded, component, Cause::Yanked, reason)),
                Ok(None) => {}
                Err(error) => {
                    heard = false;
                    tracing::warn!(component = %name, error = format!("{error:#}"), "cannot ask whether it was yanked");
                }
            }
            if let Some(reason) = self.revoked(system, package, loaded) {
                found.push((name, loaded, component, Cause::Revoked, reason));
            }
        }
        for (name, loaded, component, cause, reason) in found {
            let held = Held::new(name, &component.source, cause, reason).of(*loaded.admitted.digest());
            if let Err(error) = supply::quarantine(&self.state).add(held.clone()) {
                tracing::error!(component = %name, %error, "cannot write the quarantine");
            }
            self.stop(name, loaded, &held);
        }
        match supply::follow_logs(system, &self.state).await {
            Ok(()) if heard => supply::hear(&self.state),
            Ok(()) => {}
            Err(error) => tracing::error!(error = format!("{error:#}"), "a log does not go on as it was"),
        }
    }

    /// Why the signatures of a package that runs would not suffice today.
    fn revoked(&self, system: &System, package: &Package, loaded: &Loaded) -> Option<String> {
        // Rules of the system's file are read anew, as those of all systems are.
        let system = System::load(system.origin.file()).unwrap_or_else(|_| system.clone());
        let again = || -> anyhow::Result<Option<Refused>> {
            let digest = loaded.admitted.digest();
            let Some(artifact) = StoreArgument::usual().open()?.get(package, digest)? else { return Ok(None) };
            let trust = supply::trust(&system, &self.state)?;
            Ok(witan_admission::verify(&trust, package, digest, &artifact, SystemTime::now()).err())
        };
        match again() {
            // An older trusted root is no word against what it let in; it keeps new loads out.
            Ok(Some(Refused::Signature(refusal))) if !refusal.is_of_age() => Some(refusal.to_string()),
            Ok(_) => None,
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "cannot verify again what runs");
                None
            }
        }
    }
}

/// The components of a system that run, with what the system says of each.
fn parts(running: &Running) -> impl Iterator<Item = (&ComponentName, &Loaded, &Component)> {
    running.components().iter().filter_map(|(name, loaded)| Some((name, loaded, running.system.components.get(name)?)))
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|about| about.modified()).ok()
}
