//! The bus.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{Event, What};

/// The tenant of whoever runs the host, who is told what happens to the host.
pub const OPERATOR: &str = "local";

/// Events of a tenant that one who listens may be behind, and that one who comes again can be given.
const KEPT: usize = 1_024;
/// Events of all tenants. Beyond it the tenant that has most of them keeps fewer.
const MOST: usize = 65_536;
/// Bits of an id below the time at which the bus began: a start of the host has no more events in a millisecond than these
/// count, so that ids of a later start are greater.
const WITHIN: u32 = 12;

/// Tells whoever listens what happens. Cloning is cheap.
///
/// Each tenant has numbers of its own: how much others do can neither be seen nor makes anybody miss something.
#[derive(Clone, Debug)]
pub struct Bus(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// The first number of each tenant.
    first: u64,
    channels: Mutex<Channels>,
}

#[derive(Debug, Default)]
struct Channels {
    of: HashMap<String, Arc<Channel>>,
    /// Events that are kept of all.
    kept: usize,
}

#[derive(Debug)]
struct Channel {
    kept: Mutex<Kept>,
    /// The number of the next event.
    next: watch::Sender<u64>,
}

#[derive(Debug)]
struct Kept {
    next: u64,
    events: VecDeque<Arc<Event>>,
}

/// Somebody who listens.
#[derive(Debug)]
pub struct Subscription {
    /// Whether events are missing between what it had and what it is given first.
    pub gap: bool,
    channel: Arc<Channel>,
    /// The number of the event that is wanted next.
    wanted: u64,
    changed: watch::Receiver<u64>,
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
        Self(Arc::new(Shared { first: now_ms() << WITHIN, channels: Mutex::default() }))
    }

    /// Tells `what` has happened to `tenant`, or to the host where there is none. Waits for nobody.
    pub fn publish(&self, tenant: Option<&str>, what: What) {
        let mut channels = self.0.channels.lock();
        let channel = channels.channel(tenant.unwrap_or(OPERATOR), self.0.first);
        let mut kept = channel.kept.lock();
        let event = Event { id: kept.next, at_ms: now_ms(), tenant: tenant.map(str::to_owned), what };
        kept.next += 1;
        kept.events.push_back(Arc::new(event));
        let next = kept.next;
        if kept.events.len() > KEPT {
            kept.events.pop_front();
        } else {
            channels.kept += 1;
        }
        drop(kept);
        if channels.kept > MOST {
            channels.drop_one();
        }
        channel.next.send_replace(next);
    }

    /// Listens to what happens to `tenant` from now on, and to the host where that is [`OPERATOR`]; with `after`, from the event
    /// after that one on, as far as it is kept.
    #[must_use]
    pub fn subscribe(&self, tenant: &str, after: Option<u64>) -> Subscription {
        let first = self.0.first;
        let channel = self.0.channels.lock().channel(tenant, first);
        let changed = channel.next.subscribe();
        let kept = channel.kept.lock();
        let oldest = kept.events.front().map_or(kept.next, |event| event.id);
        let (gap, wanted) = match after {
            None => (false, kept.next),
            // What was told before this start of the host is not known, unless nothing was told since.
            Some(after) => {
                let missed = after.saturating_add(1) < oldest.max(first) || after >= kept.next;
                (missed, after.saturating_add(1).clamp(oldest, kept.next))
            }
        };
        drop(kept);
        Subscription { gap, channel, wanted, changed }
    }
}

impl Channels {
    fn channel(&mut self, tenant: &str, first: u64) -> Arc<Channel> {
        if let Some(channel) = self.of.get(tenant) {
            return channel.clone();
        }
        let kept = Mutex::new(Kept { next: first, events: VecDeque::new() });
        let channel = Arc::new(Channel { kept, next: watch::Sender::new(first) });
        self.of.insert(tenant.to_owned(), channel.clone());
        channel
    }

    /// Drops the oldest event of the tenant that has most.
    fn drop_one(&mut self) {
        let most = self.of.values().max_by_key(|channel| channel.kept.lock().events.len());
        if most.is_some_and(|channel| channel.kept.lock().events.pop_front().is_some()) {
            self.kept -= 1;
        }
    }
}

impl Subscription {
    /// Waits for the next event.
    ///
    /// # Errors
    /// When events were missed; what comes next is what came after those. The bus never ends before who listens does.
    pub async fn next(&mut self) -> Result<Arc<Event>, CutOff> {
        loop {
            // Before it looks: what is told meanwhile is a change then.
            self.changed.borrow_and_update();
            if let Some(next) = self.kept() {
                return next;
            }
            // The channel, which is held here, has the sender.
            let _open = self.changed.changed().await;
        }
    }

    /// What is there already.
    fn kept(&mut self) -> Option<Result<Arc<Event>, CutOff>> {
        let kept = self.channel.kept.lock();
        let oldest = kept.events.front().map_or(kept.next, |event| event.id);
        let missed = oldest.saturating_sub(self.wanted);
        if missed > 0 {
            self.wanted = oldest;
            return Some(Err(CutOff(missed)));
        }
        let event = kept.events.get(usize::try_from(self.wanted - oldest).ok()?)?.clone();
        self.wanted += 1;
        Some(Ok(event))
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
        let mut first = bus.subscribe("acme", None);
        (0..3).for_each(|number| publish(&bus, number));
        let had = first.next().await.unwrap().id;
        let mut again = bus.subscribe("acme", Some(had));
        assert!(!again.gap);
        publish(&bus, 3);
        for number in 1..4 {
            let (one, other) = (first.next().await.unwrap(), again.next().await.unwrap());
            assert_eq!(one, other);
            assert_eq!(one.what, What::PolicyReloaded(PolicyReloaded { version: number.to_string() }));
        }
    }

    #[tokio::test]
    async fn what_others_do_changes_nothing_for_a_tenant() {
        let bus = Bus::new();
        let mut quiet = bus.subscribe("globex", None);
        let what = || What::PolicyReloaded(PolicyReloaded { version: "1".to_owned() });
        bus.publish(Some("globex"), what());
        (0..10 * KEPT as u64).for_each(|number| publish(&bus, number));
        bus.publish(Some("globex"), what());
        let (first, second) = (quiet.next().await.unwrap(), quiet.next().await.unwrap());
        assert_eq!(second.id, first.id + 1);
        assert!(!bus.subscribe("globex", Some(first.id)).gap);
        // The host's are its operator's.
        let (mut operator, mut other) = (bus.subscribe(OPERATOR, None), bus.subscribe("acme", None));
        bus.publish(None, what());
        publish(&bus, 1);
        assert_eq!(operator.next().await.unwrap().tenant, None);
        assert_eq!(other.next().await.unwrap().tenant.as_deref(), Some("acme"));
    }

    #[test]
    fn where_all_tenants_have_too_much_the_one_with_most_keeps_less() {
        let bus = Bus::new();
        let what = || What::PolicyReloaded(PolicyReloaded { version: "1".to_owned() });
        bus.publish(Some("small"), what());
        for tenant in 0..MOST / KEPT + 3 {
            (0..KEPT).for_each(|_| bus.publish(Some(&tenant.to_string()), what()));
        }
        let channels = bus.0.channels.lock();
        let kept = |channel: &Arc<Channel>| channel.kept.lock().events.len();
        assert_eq!((channels.kept, channels.of.values().map(kept).sum()), (MOST, MOST));
        assert_eq!(kept(&channels.of["small"]), 1);
    }

    #[tokio::test]
    async fn who_is_too_slow_is_cut_off_and_holds_up_nobody() {
        let bus = Bus::new();
        let mut slow = bus.subscribe("acme", None);
        (0..KEPT as u64 + 10).for_each(|number| publish(&bus, number));
        assert_eq!(slow.next().await, Err(CutOff(10)));
        assert!(slow.next().await.is_ok());
    }

    #[tokio::test]
    async fn what_is_kept_no_longer_is_a_gap() {
        let bus = Bus::new();
        publish(&bus, 0);
        let first = bus.0.first;
        (0..KEPT as u64).for_each(|number| publish(&bus, number));
        // The first was dropped: who had it misses nothing, who had none misses it.
        assert!(!bus.subscribe("acme", Some(first)).gap);
        assert!(bus.subscribe("acme", Some(first - 1)).gap);
        assert!(bus.subscribe("acme", Some(0)).gap, "from a start before");
        assert!(bus.subscribe("acme", Some(u64::MAX)).gap, "from nowhere");
        assert!(!bus.subscribe("acme", None).gap);
    }
}
