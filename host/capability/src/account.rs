//! The account of a call tree: one atomic tally that everything the tree uses is charged to.
//!
//! One account for the tree, not one for each store, because a guest that may call others could otherwise multiply
//! its limits by calling. Whatever exceeds a limit ends the tree: the account is cancelled, and every driver of one
//! of its stores drops that store.

use std::{
    any::Any,
    fmt,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde::Serialize;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use witan_system::Limits;

use crate::CallError;

/// Something a call tree may use only so much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    /// Bytes of linear memory, tables, buffered bodies and queued stream items, all stores together.
    Memory,
    /// Nanoseconds of processor time that guests ran.
    Cpu,
    /// Milliseconds since the tree began.
    Deadline,
    /// Calls that lie above one another.
    Depth,
    /// Handles open in one store.
    Handles,
    /// Bytes that cross from guest to host in one host call.
    CallBytes,
    /// Bytes written to disk.
    DiskBytes,
    /// Bytes of log lines and standard output.
    LogBytes,
    /// Sockets and outgoing connections opened.
    Sockets,
    /// Bytes sent to other machines.
    BytesOut,
}

impl Limit {
    /// All limits, in the order of the documentation.
    pub const ALL: [Self; 10] = [
        Self::Memory,
        Self::Cpu,
        Self::Deadline,
        Self::Depth,
        Self::Handles,
        Self::CallBytes,
        Self::DiskBytes,
        Self::LogBytes,
        Self::Sockets,
        Self::BytesOut,
    ];

    /// How much of it `limits` allow, in its unit.
    #[must_use]
    pub fn allowed(self, limits: &Limits) -> u64 {
        match self {
            Self::Memory => limits.memory,
            Self::Cpu => u64::try_from(limits.cpu.as_nanos()).unwrap_or(u64::MAX),
            Self::Deadline => u64::try_from(limits.deadline.as_millis()).unwrap_or(u64::MAX),
            Self::Depth => limits.depth.into(),
            Self::Handles => limits.handles.into(),
            Self::CallBytes => limits.call_bytes,
            Self::DiskBytes => limits.disk_bytes,
            Self::LogBytes => limits.log_bytes,
            Self::Sockets => limits.sockets,
            Self::BytesOut => limits.bytes_out,
        }
    }

    /// Its name in `system.toml`, under `[limits]`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Deadline => "deadline",
            Self::Depth => "depth",
            Self::Handles => "handles",
            Self::CallBytes => "call-bytes",
            Self::DiskBytes => "disk-bytes",
            Self::LogBytes => "log-bytes",
            Self::Sockets => "sockets",
            Self::BytesOut => "bytes-out",
        }
    }

    fn amount(self, value: u64) -> String {
        match self {
            Self::Memory | Self::CallBytes | Self::DiskBytes | Self::LogBytes | Self::BytesOut => {
                format!("{value} bytes")
            }
            Self::Cpu => format!("{:?} of processor time", Duration::from_nanos(value)),
            Self::Deadline => format!("{:?}", Duration::from_millis(value)),
            Self::Depth => format!("{value} nested calls"),
            Self::Handles => format!("{value} handles"),
            Self::Sockets => format!("{value} sockets"),
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A limit was reached, and the call tree ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitExceeded {
    /// The limit.
    pub limit: Limit,
    /// How much was allowed, in the unit of the limit.
    pub allowed: u64,
    /// The component whose own limit it is; none if it is that of the call tree.
    pub component: Option<Arc<str>>,
}

impl LimitExceeded {
    /// The setting that raises it.
    #[must_use]
    pub fn setting(&self) -> String {
        match &self.component {
            Some(component) => format!("components.{component}.limits.{}", self.limit),
            None => format!("limits.{}", self.limit),
        }
    }
}

impl fmt::Display for LimitExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the call used more than {}, its limit `{}`; raise `{}` in system.toml if it needs more",
            self.limit.amount(self.allowed),
            self.limit,
            self.setting()
        )
    }
}

impl std::error::Error for LimitExceeded {}

/// Usage that only grows, or grows and shrinks, and is charged as it happens. Memory and processor time are charged
/// by the engine, the others by capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meter {
    /// See [`Limit::Memory`]; given back when freed.
    Memory,
    /// See [`Limit::Cpu`].
    Cpu,
    /// See [`Limit::DiskBytes`].
    DiskBytes,
    /// See [`Limit::LogBytes`].
    LogBytes,
    /// See [`Limit::Sockets`].
    Sockets,
    /// See [`Limit::BytesOut`].
    BytesOut,
}

impl Meter {
    const COUNT: usize = 6;

    fn limit(self) -> Limit {
        match self {
            Self::Memory => Limit::Memory,
            Self::Cpu => Limit::Cpu,
            Self::DiskBytes => Limit::DiskBytes,
            Self::LogBytes => Limit::LogBytes,
            Self::Sockets => Limit::Sockets,
            Self::BytesOut => Limit::BytesOut,
        }
    }
}

/// The running tally of one call tree. Shared by all its stores.
#[derive(Debug)]
pub struct Account {
    limits: Limits,
    started: Instant,
    deadline: Instant,
    used: [AtomicU64; Meter::COUNT],
    memory_peak: AtomicU64,
    ended: OnceLock<CallError>,
    token: CancellationToken,
    shared: Mutex<Vec<Arc<dyn Any + Send + Sync>>>,
    above: Option<Above>,
}

/// The account that another is part of, and whose narrower limits made it one.
#[derive(Debug)]
struct Above {
    account: Arc<Account>,
    component: Arc<str>,
}

/// Counted here because this is the one place that every way off this machine passes.
static EGRESS: AtomicU64 = AtomicU64::new(0);

/// Bytes that components of this process have sent to other machines, since it began.
#[must_use]
pub fn egress_bytes() -> u64 {
    EGRESS.load(Ordering::Relaxed)
}

impl Account {
    /// Opens an account that may use `limits`, from now on.
    #[must_use]
    pub fn open(limits: Limits) -> Arc<Self> {
        Arc::new(Self::with(limits, CancellationToken::new(), None))
    }

    /// Opens an account within this one, for a call of `component`, whose own `limits` are narrower: what it is charged
    /// is charged to both, and what ends the one ends the other.
    #[must_use]
    pub fn open_within(self: &Arc<Self>, component: Arc<str>, limits: Limits) -> Arc<Self> {
        let above = Above { account: self.clone(), component };
        Arc::new(Self::with(limits, self.token.child_token(), Some(above)))
    }

    fn with(limits: Limits, token: CancellationToken, above: Option<Above>) -> Self {
        let started = Instant::now();
        Self {
            deadline: started + limits.deadline,
            limits,
            started,
            used: Default::default(),
            memory_peak: AtomicU64::new(0),
            ended: OnceLock::new(),
            token,
            shared: Mutex::default(),
            above,
        }
    }

    fn parent(&self) -> Option<&Arc<Self>> {
        self.above.as_ref().map(|above| &above.account)
    }

    /// What the tree may use.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// When the tree began.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.started
    }

    /// When the tree must have ended.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// How much of `meter` is in use, or was used.
    #[must_use]
    pub fn used(&self, meter: Meter) -> u64 {
        self.used[meter as usize].load(Ordering::Relaxed)
    }

    /// The most memory that was in use at once, in bytes.
    #[must_use]
    pub fn memory_peak(&self) -> u64 {
        self.memory_peak.load(Ordering::Relaxed)
    }

    /// Charges `amount` to `meter`.
    ///
    /// # Errors
    /// When that exceeds the limit; the tree then ends, and nothing was charged.
    pub fn charge(&self, meter: Meter, amount: u64) -> Result<(), LimitExceeded> {
        let allowed = meter.limit().allowed(&self.limits);
        let charged = self.used[meter as usize].fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(amount).filter(|sum| *sum <= allowed)
        });
        match charged {
            Ok(before) => {
                if let Some(Err(error)) = self.parent().map(|parent| parent.charge(meter, amount)) {
                    self.used[meter as usize].fetch_sub(amount, Ordering::Relaxed);
                    return Err(error);
                }
                if meter == Meter::BytesOut && self.parent().is_none() {
                    EGRESS.fetch_add(amount, Ordering::Relaxed);
                }
                if meter == Meter::Memory {
                    self.memory_peak.fetch_max(before.saturating_add(amount), Ordering::Relaxed);
                }
                Ok(())
            }
            Err(_) => Err(self.exceed(meter.limit())),
        }
    }

    /// Gives back `amount` that was charged to `meter` and is free again.
    pub fn release(&self, meter: Meter, amount: u64) {
        self.used[meter as usize].fetch_sub(amount, Ordering::Relaxed);
        if let Some(parent) = self.parent() {
            parent.release(meter, amount);
        }
    }

    /// What a capability keeps for the whole tree, of type `S`, made by `make` on first use: such as what was written
    /// under a grant, which a guest must not multiply by calling.
    pub fn shared<S: Any + Send + Sync>(&self, make: impl FnOnce() -> S) -> Arc<S> {
        if let Some(parent) = self.parent() {
            return parent.shared(make);
        }
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = shared.iter().find_map(|kept| kept.clone().downcast::<S>().ok()) {
            return found;
        }
        let made = Arc::new(make());
        shared.push(made.clone());
        made
    }

    /// Ends the tree because `limit` was exceeded.
    pub fn exceed(&self, limit: Limit) -> LimitExceeded {
        let component = self.above.as_ref().map(|above| above.component.clone());
        let error = LimitExceeded { limit, allowed: limit.allowed(&self.limits), component };
        self.end(error.clone().into());
        error
    }

    /// Ends the tree for this reason; the first reason stays.
    pub fn end(&self, reason: CallError) {
        let _first = self.ended.set(reason.clone());
        match self.parent() {
            // Its token has this one's below it.
            Some(parent) => parent.end(reason),
            None => self.token.cancel(),
        }
    }

    /// Why the tree ended, if it did before its work was done.
    #[must_use]
    pub fn ended(&self) -> Option<&CallError> {
        self.ended.get().or_else(|| self.parent()?.ended())
    }

    /// Resolves when the tree has ended before its work was done.
    pub fn when_ended(&self) -> WaitForCancellationFutureOwned {
        self.token.clone().cancelled_owned()
    }

    /// Checks that the tree may go on.
    ///
    /// # Errors
    /// The reason for which it ended, or its deadline, if that has passed.
    pub fn check(&self) -> Result<(), CallError> {
        if let Some(reason) = self.ended() {
            return Err(reason.clone());
        }
        if Instant::now() >= self.deadline {
            return Err(self.exceed(Limit::Deadline).into());
        }
        self.parent().map_or(Ok(()), |parent| parent.check())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_exceeds_a_limit_ends_the_tree_and_is_not_charged() {
        let account = Account::open(Limits { memory: 100, ..Limits::default() });
        account.charge(Meter::Memory, 60).unwrap();
        account.release(Meter::Memory, 30);
        account.charge(Meter::Memory, 70).unwrap();
        let error = account.charge(Meter::Memory, 1).unwrap_err();
        assert_eq!(error, LimitExceeded { limit: Limit::Memory, allowed: 100, component: None });
        assert_eq!(account.used(Meter::Memory), 100);
        assert_eq!(account.ended(), Some(&CallError::Limit(error)));
        assert!(account.check().is_err());
    }

    #[test]
    fn what_is_shared_is_made_once() {
        let account = Account::open(Limits::default());
        account.shared(|| AtomicU64::new(1)).fetch_add(1, Ordering::Relaxed);
        assert_eq!(account.shared(|| AtomicU64::new(1)).load(Ordering::Relaxed), 2);
        assert_eq!(*account.shared(|| "other"), "other");
    }

    #[test]
    fn an_account_within_another_charges_both_and_ends_both() {
        let tree = Account::open(Limits { memory: 100, ..Limits::default() });
        let narrow = tree.open_within("small".into(), Limits { memory: 50, ..Limits::default() });
        narrow.charge(Meter::Memory, 40).unwrap();
        assert_eq!(tree.used(Meter::Memory), 40);
        narrow.release(Meter::Memory, 10);
        assert_eq!((tree.used(Meter::Memory), narrow.used(Meter::Memory)), (30, 30));
        tree.charge(Meter::Memory, 60).unwrap();
        let error = narrow.charge(Meter::Memory, 15).unwrap_err();
        assert_eq!((error.component, narrow.used(Meter::Memory)), (None, 30), "the tree's own limit was met first");

        let tree = Account::open(Limits::default());
        let narrow = tree.open_within("small".into(), Limits { memory: 50, ..Limits::default() });
        let error = narrow.charge(Meter::Memory, 51).unwrap_err();
        assert_eq!(error.setting(), "components.small.limits.memory");
        assert_eq!(tree.ended(), Some(&CallError::Limit(error)));
        assert!(narrow.check().is_err() && tree.used(Meter::Memory) == 0);
    }

    #[test]
    fn the_first_reason_stays() {
        let account = Account::open(Limits::default());
        account.end(CallError::Cancelled);
        account.exceed(Limit::Cpu);
        assert_eq!(account.ended(), Some(&CallError::Cancelled));
    }

    #[test]
    fn an_overflowing_charge_is_refused() {
        let account = Account::open(Limits { bytes_out: u64::MAX, ..Limits::default() });
        account.charge(Meter::BytesOut, u64::MAX).unwrap();
        assert!(account.charge(Meter::BytesOut, 1).is_err());
    }

    #[test]
    fn the_message_names_limit_and_setting() {
        let error = LimitExceeded { limit: Limit::Memory, allowed: 1024, component: None };
        let text = error.to_string();
        assert!(text.contains("`memory`") && text.contains("`limits.memory`") && text.contains("1024 bytes"), "{text}");
    }
}
