//! Instances that are kept between calls.

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use witan_capability::Call;

use crate::version::Leased;

/// How a component's instances are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reuse {
    /// Each call gets a fresh instance, discarded afterwards.
    #[default]
    Fresh,
    /// An instance serves one call after another, all of the same tenant.
    Serial,
}

/// Instances of one version kept at most. Each holds its memory.
const KEPT: usize = 64;

/// Calls that one instance serves at most, so that what a guest leaks does not grow without end.
const CALLS: u32 = 10_000;

pub(crate) struct Instances {
    reuse: Reuse,
    kept: Mutex<Vec<Leased>>,
}

impl Instances {
    pub(crate) fn new(reuse: Reuse) -> Self {
        Self { reuse, kept: Mutex::default() }
    }

    /// A kept instance that may serve `call`. A local-only call gets none: what an instance remembers could leave
    /// with a later call.
    pub(crate) fn take(&self, call: &Call) -> Option<Leased> {
        if self.reuse == Reuse::Fresh || call.context.local_only() {
            return None;
        }
        let mut kept = self.kept.lock();
        let at = kept.iter().rposition(|leased| leased.tenant() == call.context.tenant())?;
        Some(kept.swap_remove(at))
    }

    pub(crate) fn keep(&self, mut leased: Leased) {
        if self.reuse == Reuse::Fresh || leased.store.data().call().context.local_only() || leased.calls >= CALLS {
            return;
        }
        leased.calls += 1;
        leased.store.data_mut().park();
        let mut kept = self.kept.lock();
        if kept.len() < KEPT {
            kept.push(leased);
        }
    }
}
