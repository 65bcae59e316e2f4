//! Instances that are kept between calls.

use parking_lot::Mutex;
use witan_capability::Call;
use witan_system::{Instances as Settings, Reuse};

use crate::version::Leased;

pub(crate) struct Instances {
    settings: Settings,
    kept: Mutex<Vec<Leased>>,
}

impl Instances {
    pub(crate) fn new(settings: Settings) -> Self {
        Self { settings, kept: Mutex::default() }
    }

    /// A kept instance that may serve `call`. A local-only call gets none: what an instance remembers could leave
    /// with a later call.
    pub(crate) fn take(&self, call: &Call) -> Option<Leased> {
        if !self.may_keep(call) {
            return None;
        }
        let mut kept = self.kept.lock();
        let at = kept.iter().rposition(|leased| leased.tenant() == call.context.tenant())?;
        Some(kept.swap_remove(at))
    }

    /// Keeps an instance for the next call, unless it still holds handles: a file of one task, or an output that is
    /// charged to one call, is not another's.
    pub(crate) fn keep(&self, mut leased: Leased) {
        leased.calls += 1;
        let state = leased.store.data();
        if !self.may_keep(state.call()) || leased.calls >= self.settings.calls || !state.table.is_empty() {
            return;
        }
        leased.store.data_mut().park();
        let mut kept = self.kept.lock();
        if kept.len() < self.settings.keep as usize {
            kept.push(leased);
        }
    }

    fn may_keep(&self, call: &Call) -> bool {
        self.settings.reuse != Reuse::Fresh && !call.context.local_only()
    }
}
