//! The bus.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use tokio::sync::broadcast::{self, error::RecvError};

use crate::{Event, What};

/// Events that one who listens may be behind, and that one who comes again can be given.
const KEPT: usize = 1_024;
/// Bits of an id below the time at which the bus began: a start of the host has no more events in a millisecond than these
/// count, so that ids of a later start are greater.
const WITHIN: u32 = 12;

/// Tells whoever listens what happens. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Bus(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    sender: broadcast::Sender<Arc<Event>>,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    next: u64,
    first: u64,
    events: VecDeque<Arc<Event>>,
}

/// Somebody who listens.
#[derive(Debug)]
pub struct Subscription {
    /// Whether events are missing between what it had and what it is given first.
    pub gap: bool,
    before: VecDeque<Arc<Event>>,
    receiver: broadcast::Receiver<Arc<Event>>,
}

/// Who listened was too slow, and has missed events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} events were missed by reading too slowly")]
pub struct CutOff(pub u64);

impl Default for Bus {
    fn default() -> Self {
        Self::new()
    }
}

impl Bus {
    /// A bus that nobody listens to yet.
    #[must_use]
    pub fn new() -> Self {
        let first = now_ms() << WITHIN;
        let kept = Kept { next: first, first, events: VecDeque::with_capacity(KEPT) };
        Self(Arc::new(Shared { sender: broadcast::Sender::new(KEPT), kept: Mutex::new(kept) }))
    }

    /// Tells `what` has happened to `tenant`, or to the host where there is none. Waits for nobody.
    pub fn publish(&self, tenant: Option<&str>, what: What) {
        let mut kept = self.0.kept.lock();
        let event = Event { id: kept.next, at_ms: now_ms(), tenant: tenant.map(str::to_owned), what };
        let event = Arc::new(event);
        kept.next += 1;
        if kept.events.len() == KEPT {
            kept.events.pop_front();
        }
        kept.events.push_back(event.clone());
        // Within the lock, so that who begins to listen gets each event once. There may be nobody.
        let _nobody = self.0.sender.send(event);
    }

    /// Listens from now on; with `after`, from the event after that one on, as far as it is kept.
    #[must_use]
    pub fn subscribe(&self, after: Option<u64>) -> Subscription {
        let kept = self.0.kept.lock();
        let receiver = self.0.sender.subscribe();
        let Some(after) = after else { return Subscription { gap: false, before: VecDeque::new(), receiver } };
        let oldest = kept.events.front().map_or(kept.next, |event| event.id);
        let before = kept.events.iter().filter(|event| event.id > after).cloned().collect();
        // What was told before this start of the host is not known, unless nothing was told since.
        let gap = after.saturating_add(1) < oldest.max(kept.first) || after >= kept.next;
        Subscription { gap, before, receiver }
    }
}

impl Subscription {
    /// Waits for the next event.
    ///
    /// # Errors
    /// When events were missed; what comes next is what came after those. The bus never ends before who listens does.
    pub async fn next(&mut self) -> Result<Arc<Event>, CutOff> {
        if let Some(event) = self.before.pop_front() {
            return Ok(event);
        }
        match self.receiver.recv().await {
            Ok(event) => Ok(event),
            Err(RecvError::Lagged(missed)) => Err(CutOff(missed)),
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PolicyReloaded;

    fn publish(bus: &Bus, number: u64) {
        bus.publish(Some("acme"), What::PolicyReloaded(PolicyReloaded { version: number.to_string() }));
    }

    #[tokio::test]
    async fn who_comes_again_is_given_what_was_missed_and_no_more() {
        let bus = Bus::new();
        let mut first = bus.subscribe(None);
        (0..3).for_each(|number| publish(&bus, number));
        let had = first.next().await.unwrap().id;
        let mut again = bus.subscribe(Some(had));
        assert!(!again.gap);
        publish(&bus, 3);
        for number in 1..4 {
            let (one, other) = (first.next().await.unwrap(), again.next().await.unwrap());
            assert_eq!(one, other);
            assert_eq!(one.what, What::PolicyReloaded(PolicyReloaded { version: number.to_string() }));
        }
    }

    #[tokio::test]
    async fn who_is_too_slow_is_cut_off_and_holds_up_nobody() {
        let bus = Bus::new();
        let mut slow = bus.subscribe(None);
        (0..KEPT as u64 + 10).for_each(|number| publish(&bus, number));
        assert_eq!(slow.next().await, Err(CutOff(10)));
        assert!(slow.next().await.is_ok());
    }

    #[tokio::test]
    async fn what_is_kept_no_longer_is_a_gap() {
        let bus = Bus::new();
        publish(&bus, 0);
        let first = bus.subscribe(Some(0)).before[0].id;
        (0..KEPT as u64).for_each(|number| publish(&bus, number));
        // The first was dropped: who had it misses nothing, who had none misses it.
        assert!(!bus.subscribe(Some(first)).gap);
        assert!(bus.subscribe(Some(first - 1)).gap);
        assert!(bus.subscribe(Some(0)).gap, "from a start before");
        assert!(bus.subscribe(Some(u64::MAX)).gap, "from nowhere");
        assert!(!bus.subscribe(None).gap);
    }
}
