//! Decides by the active set, and asks a candidate in its shadow.

use std::{
    collections::VecDeque,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use utoipa::ToSchema;

use crate::{Decision, Principal, Request, Set};

/// Differences between the active set and its shadow that are kept; of more, the oldest go.
pub const MOST_DIFFERENCES: usize = 1_000;

/// The set that decides.
#[derive(Debug)]
pub struct Active {
    /// The policies.
    pub set: Arc<Set>,
    /// Their number.
    pub version: u64,
}

/// Is told of decisions and of changes of the policies; what counts or keeps a ledger is one. It must not block.
pub trait Observer: Send + Sync + 'static {
    /// Something was decided, for a client or for a component, and took so long.
    fn evaluated(&self, _decision: &Decision, _took: Duration) {}

    /// The candidate would have decided otherwise.
    fn differed(&self, _would: Would) {}

    /// A request of a client was decided.
    fn decided(&self, request: &Request<'_>, decision: &Decision);

    /// Other policies decide from now on, or a candidate is asked.
    fn changed(&self, change: &Change);
}

/// How a candidate differs from what was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Would {
    /// It would have allowed what was denied.
    Allow,
    /// It would have denied what was allowed.
    Deny,
    /// It would have allowed it too, under other obligations.
    Oblige,
}

impl Would {
    /// As metrics have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Oblige => "oblige",
        }
    }
}

/// A change of the policies: the event `policy.reloaded`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What happened.
    pub kind: ChangeKind,
    /// The version that decides from now on.
    pub version: u64,
    /// What names its texts; for a candidate, the candidate's.
    pub digest: String,
    /// Who did it.
    pub by: Principal,
    /// When, in milliseconds since the Unix epoch.
    pub time_ms: u64,
}

/// What happened to the policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// They were loaded from where they are kept.
    Reloaded,
    /// A former version was put in their place.
    RolledBack,
    /// A candidate is asked in their shadow.
    ShadowBegun,
    /// It is not any more.
    ShadowEnded,
}

/// Decides requests. Every method takes `&self`, and deciding takes no lock.
pub struct Authorizer {
    active: ArcSwap<Active>,
    shadow: ArcSwapOption<Shadow>,
    observer: OnceLock<Arc<dyn Observer>>,
    changes: watch::Sender<()>,
}

impl std::fmt::Debug for Authorizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authorizer").field("active", &self.active.load()).finish_non_exhaustive()
    }
}

impl Authorizer {
    /// Decides by `set` from the start.
    #[must_use]
    pub fn new(set: Set, version: u64) -> Arc<Self> {
        Arc::new(Self {
            active: ArcSwap::from_pointee(Active { set: Arc::new(set), version }),
            shadow: ArcSwapOption::empty(),
            observer: OnceLock::new(),
            changes: watch::Sender::new(()),
        })
    }

    /// Tells `observer` of everything from now on. The first stays.
    pub fn observe(&self, observer: Arc<dyn Observer>) {
        let _first = self.observer.set(observer);
    }

    /// Decides `request`, of which the observer is told no more than the outcome: the kernel writes its decisions down itself.
    pub fn decide(&self, request: &Request<'_>) -> Decision {
        let observer = self.observer.get().map(|observer| (observer, Instant::now()));
        let active = self.active.load();
        let decision = active.set.decide(request, active.version);
        if let Some((observer, since)) = &observer {
            observer.evaluated(&decision, since.elapsed());
        }
        let would = self.shadow.load().as_ref().and_then(|shadow| shadow.compare(request, &decision));
        if let Some(((observer, _), would)) = observer.zip(would) {
            observer.differed(would);
        }
        decision
    }

    /// Decides a client's `request`, and tells the observer.
    pub fn authorize(&self, request: &Request<'_>) -> Decision {
        let decision = self.decide(request);
        if let Some(observer) = self.observer.get() {
            observer.decided(request, &decision);
        }
        decision
    }

    /// What decides now.
    #[must_use]
    pub fn active(&self) -> Arc<Active> {
        self.active.load_full()
    }

    /// Changes each time that something else decides from then on.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// The candidate that is asked beside it.
    #[must_use]
    pub fn shadow(&self) -> Option<Arc<Shadow>> {
        self.shadow.load_full()
    }

    /// Puts `active` in the place of what decides. Requests that are being decided finish where they are.
    pub(crate) fn replace(&self, active: Active) {
        self.active.store(Arc::new(active));
        self.changes.send_replace(());
    }

    pub(crate) fn replace_shadow(&self, shadow: Option<Shadow>) {
        self.shadow.store(shadow.map(Arc::new));
    }

    pub(crate) fn tell(&self, change: &Change) {
        tracing::info!(kind = ?change.kind, version = change.version, digest = change.digest, by = %change.by, "policy.reloaded");
        if let Some(observer) = self.observer.get() {
            observer.changed(change);
        }
    }
}

/// A candidate that is asked whatever the active set is asked, and never obeyed.
#[derive(Debug)]
pub struct Shadow {
    set: Set,
    origin: String,
    since_ms: u64,
    asked: AtomicU64,
    would_allow: AtomicU64,
    would_deny: AtomicU64,
    would_oblige: AtomicU64,
    newest: Mutex<VecDeque<Difference>>,
}

/// A request on which a candidate and the active set differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Difference {
    /// When, in milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// The decision that holds.
    pub decision: String,
    /// Who asked.
    pub principal: String,
    /// For what.
    pub action: String,
    /// To what.
    pub resource: String,
    /// What was decided.
    pub allowed: bool,
    /// By which rules.
    pub by: Vec<String>,
    /// What the candidate would have decided.
    pub would_allow: bool,
    /// By which rules.
    pub would_by: Vec<String>,
}

/// How a candidate does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShadowView {
    /// Where it came from.
    pub origin: String,
    /// What names its texts.
    pub digest: String,
    /// Since when it is asked, in milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// What it was asked.
    pub asked: u64,
    /// What it would have allowed and the active set did not.
    pub would_allow: u64,
    /// What it would have denied and the active set did not.
    pub would_deny: u64,
    /// What both allow, under other obligations.
    pub would_oblige: u64,
    /// The newest differences, newest first.
    pub differences: Vec<Difference>,
}

impl Shadow {
    pub(crate) fn new(set: Set, origin: impl Into<String>) -> Self {
        Self {
            set,
            origin: origin.into(),
            since_ms: now_ms(),
            asked: AtomicU64::new(0),
            would_allow: AtomicU64::new(0),
            would_deny: AtomicU64::new(0),
            would_oblige: AtomicU64::new(0),
            newest: Mutex::default(),
        }
    }

    /// How it differs from `decision`, if it does.
    fn compare(&self, request: &Request<'_>, decision: &Decision) -> Option<Would> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let would = self.set.decide(request, 0);
        let (how, counter) = match (decision.allow, would.allow) {
            (false, true) => (Would::Allow, &self.would_allow),
            (true, false) => (Would::Deny, &self.would_deny),
            _ if decision.obligations != would.obligations => (Would::Oblige, &self.would_oblige),
            _ => return None,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let names = |rules: &[Arc<str>]| rules.iter().map(ToString::to_string).collect();
        let difference = Difference {
            time_ms: now_ms(),
            decision: decision.id.to_string(),
            principal: cut(request.principal.to_string()),
            action: request.action.name().to_owned(),
            resource: cut(request.resource.to_string()),
            allowed: decision.allow,
            by: names(&decision.determining),
            would_allow: would.allow,
            would_by: names(&would.determining),
        };
        let mut newest = self.newest.lock();
        if newest.len() == MOST_DIFFERENCES {
            newest.pop_front();
        }
        newest.push_back(difference);
        Some(how)
    }

    /// What names its texts.
    #[must_use]
    pub fn digest(&self) -> &str {
        self.set.digest()
    }

    /// How it does, with the newest `most` differences.
    #[must_use]
    pub fn view(&self, most: usize) -> ShadowView {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ShadowView {
            origin: self.origin.clone(),
            digest: self.set.digest().to_owned(),
            since_ms: self.since_ms,
            asked: count(&self.asked),
            would_allow: count(&self.would_allow),
            would_deny: count(&self.would_deny),
            would_oblige: count(&self.would_oblige),
            differences: self.newest.lock().iter().rev().take(most).cloned().collect(),
        }
    }
}

/// A client chooses the length of what it names, and the ring keeps many.
fn cut(mut text: String) -> String {
    const LONGEST: usize = 256;
    if text.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
