//! Instances that are kept between calls.

use std::sync::Arc;

use parking_lot::Mutex;
use witan_capability::{Account, Call, CallContext, Limits, Meter};
use witan_system::{Instances as Settings, Reuse};

use crate::{Session, version::Leased};

pub(crate) struct Instances {
    settings: Settings,
    kept: Mutex<Vec<Leased>>,
    shared: Mutex<Vec<Shared>>,
}

/// Calls that an instance serves at once before another is opened beside it: a store uses one core.
const TOGETHER: usize = 16;

/// An instance that serves several calls at once, of one tenant and principal, at one depth, and begun the same way.
struct Shared {
    session: Arc<Session>,
    context: CallContext,
    account: Arc<Account>,
    /// Half of what its account allows: beyond that it gets no new calls, so that those under way have the other half.
    half: Limits,
    calls: u32,
}

impl Shared {
    fn serves(&self, call: &Call) -> bool {
        let (own, other) = (&self.context, &call.context);
        own.tenant() == other.tenant()
            && own.principal() == other.principal()
            && own.trust() == other.trust()
            && own.depth() == other.depth()
            // What request policies ask: one call must not pass by what is known of another.
            && own.authority() == other.authority()
            && own.beginning() == other.beginning()
    }

    /// Calls under way: each holds the session, as does the pool.
    fn under_way(&self) -> usize {
        Arc::strong_count(&self.session).saturating_sub(1)
    }

    fn worn(&self, most: u32) -> bool {
        self.session.has_ended()
            || self.calls >= most
            || self.account.started().elapsed() > self.half.deadline
            || u128::from(self.account.used(Meter::Cpu)) > self.half.cpu.as_nanos()
            || self.account.used(Meter::Memory) > self.half.memory
    }
}

impl Instances {
    pub(crate) fn new(settings: Settings) -> Self {
        Self { settings, kept: Mutex::default(), shared: Mutex::default() }
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
        self.settings.reuse == Reuse::Serial && !call.context.local_only()
    }

    /// An instance that serves other calls beside `call`, opened by `open` if there is none with room. None where calls
    /// are not to share one, and when all that may be kept are busy.
    ///
    /// What a call may do that others may not, such as reading its task's files, would be theirs as well; calls that
    /// carry something of the kind get an instance of their own, as do those that are local-only.
    pub(crate) fn share(&self, call: &Call, open: impl FnOnce(CallContext, Limits) -> Opened) -> Option<Arc<Session>> {
        let (context, limits) = (&call.context, call.account.limits());
        let personal = context.local_only() || context.budget_micros().is_some() || !context.files().is_empty();
        if self.settings.reuse != Reuse::Concurrent || personal {
            return None;
        }
        let mut shared = self.shared.lock();
        shared.retain(|member| !member.worn(self.settings.calls));
        let full = shared.len() >= self.settings.keep as usize;
        let idlest = shared.iter_mut().filter(|member| member.serves(call)).min_by_key(|member| member.under_way());
        if let Some(member) = idlest
            && (full || member.under_way() < TOGETHER)
        {
            member.calls += 1;
            return Some(member.session.clone());
        }
        if full {
            let idle = shared.iter().position(|member| member.under_way() == 0)?;
            shared.swap_remove(idle);
        }
        let own = common(context);
        let whole = Limits {
            memory: limits.memory.saturating_mul(2),
            cpu: limits.cpu.saturating_mul(2),
            deadline: limits.deadline.saturating_mul(2),
            ..limits.clone()
        };
        let (session, account) = open(own.clone(), whole);
        let member = Shared { session, context: own, account, half: limits.clone(), calls: 1 };
        let session = member.session.clone();
        shared.push(member);
        Some(session)
    }

    /// Gives up the instances that serve several calls: they end with the calls that are under way.
    pub(crate) fn retire(&self) {
        self.shared.lock().clear();
    }
}

/// A session, and what it may use.
pub(crate) type Opened = (Arc<Session>, Arc<Account>);

/// What all calls of one tenant and principal at one depth, which began the same way, have in common. The depth stays, since components that
/// call one another in a circle would otherwise never reach its limit.
fn common(context: &CallContext) -> CallContext {
    let own = CallContext::trusted(context.principal(), context.tenant(), context.trust());
    let own = own.with_authority(context.authority().clone());
    let own = match context.beginning() {
        Some(beginning) => own.begun(beginning.clone()),
        None => own,
    };
    (0..context.depth()).fold(own, |context, _| context.child())
}
