//! The decision log: every denial and every effect, who asked, what for, and why it was answered so.
//!
//! Deciding must never wait for a disk, nor for the thread that writes to one. The newest entries are kept in memory, and
//! each is given to the ledger, which keeps all of them. What the ledger does not take is not allowed: an effect that
//! nobody could account for must not happen.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use uuid::Uuid;
use witan_capability::{Action, CallContext, DecisionId, HostFunction, Privacy, Request};
use witan_ledger::{HOST, Kind, Ledger, Refused, Verdict};

/// Entries that the ring holds: some minutes of a busy host, in about a megabyte.
const RING: usize = 4_096;
/// A longer resource is cut: a guest chooses its length, and the log keeps many.
const LONGEST_RESOURCE: usize = 512;

/// One decision.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Identifies it; errors and spans carry the same.
    pub decision: DecisionId,
    /// When, in milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// The component that asked.
    pub component: Arc<str>,
    /// The digest of its bytes, where it is known.
    pub digest: Option<Digest>,
    /// For whom, and in which task and trace.
    pub context: CallContext,
    /// The host function.
    pub function: HostFunction,
    /// What was asked.
    pub action: Action,
    /// To what; cut where it is long.
    pub resource: String,
    /// Whether it was allowed.
    pub allowed: bool,
    /// Why it was refused, or would have been but for a trial.
    pub reason: Option<String>,
}

/// The digest of a component's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Digest {
    /// Of the bytes that run.
    Blake3([u8; 32]),
    /// As whoever let it in or turned it away knows it.
    Named(String),
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => f.write_str(name),
            Self::Blake3(bytes) => {
                f.write_str("blake3:")?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

impl Entry {
    /// The same, as the ledger keeps it.
    fn written(&self) -> witan_ledger::Entry {
        let mut entry = witan_ledger::Entry::new(Kind::Decision, self.action.name(), self.resource.as_str());
        if self.action == Action::ComponentLoad {
            (entry.kind, entry.tenant, entry.principal) = (Kind::Load, HOST.to_owned(), HOST.to_owned());
        } else {
            entry.tenant = self.context.tenant().to_owned();
            entry.principal = self.context.principal().to_owned();
            if self.action.is_egress() {
                entry.kind = Kind::Egress;
            }
            entry.trace_id = Some(self.context.trace().to_string());
        }
        (entry.id, entry.decision_id) = (self.decision.0, Some(self.decision.0));
        entry.time_ms = self.time_ms;
        entry.component = Some(self.component.to_string());
        entry.digest = self.digest.as_ref().map(Digest::to_string);
        entry.decision = if self.allowed { Verdict::Allow } else { Verdict::Deny };
        entry.reason.clone_from(&self.reason);
        entry.task = self.context.task();
        if self.context.privacy() == Privacy::LocalOnly {
            entry.details.insert("privacy".to_owned(), "local-only".to_owned());
        }
        entry.with("function", self.function)
    }
}

/// Keeps the newest decisions in memory, and gives all of them to the ledger where there is one.
#[derive(Debug)]
pub struct DecisionLog {
    ids: Ids,
    ledger: Option<Ledger>,
    newest: Mutex<VecDeque<Arc<Entry>>>,
    dropped: AtomicU64,
}

impl DecisionLog {
    /// A log in memory only.
    pub fn in_memory() -> Self {
        Self { ids: Ids::new(), ledger: None, newest: Mutex::default(), dropped: AtomicU64::new(0) }
    }

    /// A log that gives each decision to `ledger`.
    pub fn to_ledger(ledger: Ledger) -> Self {
        Self { ledger: Some(ledger), ..Self::in_memory() }
    }

    /// Writes a decision down and names it. Where the ledger does not take it, an error says why: an effect is
    /// then nowhere, and a denial in memory alone.
    pub(crate) fn record(
        &self,
        request: &Request<'_>,
        allowed: bool,
        reason: Option<String>,
    ) -> (DecisionId, Result<(), Refused>) {
        self.write(|decision, time_ms| Entry {
            decision,
            time_ms,
            component: Arc::clone(&request.component.name),
            digest: Some(Digest::Blake3(request.component.digest)),
            context: request.context.clone(),
            function: request.function,
            action: request.action,
            resource: cut(request.resource.to_string()),
            allowed,
            reason: reason.map(cut),
        })
    }

    /// Writes down whether the component called `name` was let in from `source`, and on whose word or why not. `digest` is
    /// of the bytes, as far as there are any.
    pub fn record_load(
        &self,
        name: &str,
        source: &str,
        digest: Option<&dyn fmt::Display>,
        allowed: bool,
        reason: String,
    ) -> DecisionId {
        let source = cut(source.to_owned());
        let digest = digest.map(|digest| Digest::Named(digest.to_string()));
        let (decision, taken) = self.write(|decision, time_ms| Entry {
            decision,
            time_ms,
            component: name.into(),
            resource: digest.as_ref().map_or_else(|| source.clone(), |digest| format!("{source}@{digest}")),
            digest,
            context: CallContext::local(),
            function: HostFunction::new("witan:host/loader", "load"),
            action: Action::ComponentLoad,
            allowed,
            reason: Some(cut(reason)),
        });
        if let Err(error) = taken {
            tracing::error!(%decision, component = name, %error, "the load of a component is not in the ledger");
        }
        decision
    }

    fn write(&self, entry: impl FnOnce(DecisionId, u64) -> Entry) -> (DecisionId, Result<(), Refused>) {
        let (decision, time_ms) = self.ids.next();
        let entry = Arc::new(entry(decision, time_ms));
        let taken = self.ledger.as_ref().map_or(Ok(()), |ledger| ledger.append(entry.written()));
        if taken.is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            // What is not written down was not allowed, and is refused under an id of its own.
            if entry.allowed {
                return (decision, taken);
            }
        }
        let mut newest = self.newest.lock();
        let oldest = if newest.len() == RING { newest.pop_front() } else { None };
        newest.push_back(entry);
        drop(newest);
        // Freed outside the lock.
        drop(oldest);
        (decision, taken)
    }

    /// Waits until everything is durable.
    ///
    /// # Errors
    /// Why it is not, in words.
    pub fn settle(&self) -> Result<(), String> {
        self.ledger.as_ref().map_or(Ok(()), Ledger::settle)
    }

    /// The ledger that keeps the decisions.
    pub fn ledger(&self) -> Option<&Ledger> {
        self.ledger.as_ref()
    }

    /// The newest decisions, newest first, `most` at most.
    pub fn newest(&self, most: usize) -> Vec<Arc<Entry>> {
        self.newest.lock().iter().rev().take(most).cloned().collect()
    }

    /// The decision `id`, while memory holds it.
    pub fn find(&self, id: DecisionId) -> Option<Arc<Entry>> {
        self.newest.lock().iter().rev().find(|entry| entry.decision == id).cloned()
    }

    /// Decisions that the ledger did not take, since the start.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// Cuts a text that a guest may have chosen.
fn cut(mut text: String) -> String {
    if text.len() > LONGEST_RESOURCE {
        text.truncate(text.floor_char_boundary(LONGEST_RESOURCE));
        text.push('…');
    }
    text
}

/// Makes ids in the form of a UUID of version 7: the time, a number of this process, and a counter. Asking the system
/// for randomness each time would take longer than deciding.
#[derive(Debug)]
struct Ids {
    process: u32,
    next: AtomicU64,
}

impl Ids {
    fn new() -> Self {
        let [.., a, b, c, d] = *Uuid::new_v7(uuid::Timestamp::now(uuid::NoContext)).as_bytes();
        Self { process: u32::from_be_bytes([a, b, c, d]), next: AtomicU64::new(0) }
    }

    /// A new id, and the time in it in milliseconds since the Unix epoch.
    fn next(&self) -> (DecisionId, u64) {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time_ms = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX);
        let counter = self.next.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let process = self.process.to_be_bytes();
        // The first byte and the third lose bits to the version and the variant: keep the counter out of them.
        let [_, _, _, c, d, e, f, g] = counter;
        let [p, q, r, s] = process;
        let random = [p, q, r, s, 0, c, d, e, f, g];
        (DecisionId(uuid::Builder::from_unix_timestamp_millis(time_ms, &random).into_uuid()), time_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_different_and_of_version_7() {
        let ids = Ids::new();
        let (first, second) = (ids.next().0, ids.next().0);
        assert_ne!(first, second);
        assert_eq!(first.0.get_version_num(), 7);
    }
}
