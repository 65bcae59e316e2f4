//! As many requests at once as the host answers, and a bounded queue for the rest, in which tenants take turns.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// After which time whoever was shed may ask again.
const AGAIN: Duration = Duration::from_secs(1);

/// How much goes in at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateSettings {
    /// Requests that are answered at once. One tenant has at most seven eighths of it: the rest is for whoever comes next.
    pub at_once: usize,
    /// Requests that wait.
    pub queue: usize,
}

impl Default for GateSettings {
    fn default() -> Self {
        Self { at_once: 1_000, queue: 1_000 }
    }
}

/// What goes first within a tenant, and what is given up first when all cannot wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Can wait, and is given up first.
    Low,
    /// What it is unless somebody says otherwise.
    #[default]
    Normal,
    /// Goes first.
    High,
}

impl Priority {
    const COUNT: usize = 3;
    const FROM_HIGH: [Self; Self::COUNT] = [Self::High, Self::Normal, Self::Low];
}

/// The host has more to do than can wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{at_once} requests are being answered and {waiting} wait, the most that this host takes; try again later. \
     `host.requests.at-once` and `host.requests.queue` are the settings"
)]
pub struct Shed {
    /// Requests that are answered at once.
    pub at_once: usize,
    /// Requests that waited.
    pub waiting: usize,
}

impl Shed {
    /// After which time it may help to ask again.
    #[must_use]
    pub fn wait(&self) -> Duration {
        AGAIN
    }
}

/// Lets requests in. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Gate(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    settings: GateSettings,
    inside: usize,
    waiting: usize,
    /// Those with requests inside or waiting, and nobody else.
    tenants: HashMap<Arc<str>, Tenant>,
    /// Counts whom was let in and who came to wait, for the order of both.
    turn: u64,
}

#[derive(Debug, Default)]
struct Tenant {
    inside: usize,
    waiting: [VecDeque<Waiter>; Priority::COUNT],
    /// When it was last let in.
    served: u64,
}

#[derive(Debug)]
struct Waiter {
    number: u64,
    go: oneshot::Sender<Place>,
}

/// A request that was let in, until this is dropped.
#[derive(Debug)]
pub struct Place {
    gate: Gate,
    tenant: Arc<str>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let next = self.gate.0.lock().leave(&self.tenant);
        self.gate.admit(next);
    }
}

impl Gate {
    /// A gate with nobody inside.
    #[must_use]
    pub fn new(settings: GateSettings) -> Self {
        let tenants = HashMap::new();
        Self(Arc::new(Mutex::new(State { settings, inside: 0, waiting: 0, tenants, turn: 0 })))
    }

    /// Lets in as `settings` say from now on. Whoever is inside stays.
    pub fn replace(&self, settings: GateSettings) {
        self.0.lock().settings = settings;
    }

    /// How many are inside, and how many wait.
    #[must_use]
    pub fn load(&self) -> (usize, usize) {
        let state = self.0.lock();
        (state.inside, state.waiting)
    }

    /// Waits for the turn of a request of `tenant`. Dropping the future gives the turn up.
    ///
    /// # Errors
    /// When more wait than may, and those that are not of this tenant, or go before it, cannot be given up for it; or when
    /// it was given up itself.
    pub async fn enter(&self, tenant: &str, priority: Priority) -> Result<Place, Shed> {
        let (waiting, given_up) = {
            let mut state = self.0.lock();
            if state.may_enter(tenant) {
                let tenant = state.enter(tenant);
                return Ok(Place { gate: self.clone(), tenant });
            }
            let given_up = match state.waiting >= state.settings.queue {
                true => Some(state.give_up(tenant, priority)?),
                false => None,
            };
            let (number, turn) = state.wait(tenant, priority);
            (Waiting { gate: self, tenant, priority, number, turn }, given_up)
        };
        drop(given_up);
        waiting.turn().await
    }

    fn admit(&self, next: Vec<(Arc<str>, Waiter)>) {
        for (tenant, waiter) in next {
            // Whoever has gone away in this moment gives the place back by dropping it.
            let _gone = waiter.go.send(Place { gate: self.clone(), tenant });
        }
    }
}

/// A request that waits. When it is dropped, it waits no more.
struct Waiting<'a> {
    gate: &'a Gate,
    tenant: &'a str,
    priority: Priority,
    number: u64,
    turn: oneshot::Receiver<Place>,
}

impl Waiting<'_> {
    async fn turn(mut self) -> Result<Place, Shed> {
        (&mut self.turn).await.map_err(|_given_up| self.gate.0.lock().shed())
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let left = self.gate.0.lock().remove(self.tenant, self.priority, self.number);
        drop(left);
    }
}

impl State {
    fn shed(&self) -> Shed {
        Shed { at_once: self.settings.at_once, waiting: self.settings.queue }
    }

    /// The most that one tenant has inside.
    fn most(&self) -> usize {
        self.settings.at_once - self.settings.at_once / 8
    }

    /// Whether a request of `tenant` goes in at once: there is room, and none of its own waits.
    fn may_enter(&self, tenant: &str) -> bool {
        let own = self.tenants.get(tenant);
        let room = own.is_none_or(|own| own.inside < self.most() && own.waiting.iter().all(VecDeque::is_empty));
        // Those of others that wait are over their share, or there would be no room.
        room && self.inside < self.settings.at_once
    }

    fn enter(&mut self, tenant: &str) -> Arc<str> {
        self.inside += 1;
        self.turn += 1;
        let name = self.tenants.get_key_value(tenant).map_or_else(|| Arc::from(tenant), |(name, _)| name.clone());
        let tenant = self.tenants.entry(name.clone()).or_default();
        tenant.inside += 1;
        tenant.served = self.turn;
        name
    }

    fn wait(&mut self, tenant: &str, priority: Priority) -> (u64, oneshot::Receiver<Place>) {
        self.turn += 1;
        self.waiting += 1;
        let (go, turn) = oneshot::channel();
        let number = self.turn;
        if !self.tenants.contains_key(tenant) {
            self.tenants.insert(Arc::from(tenant), Tenant::default());
        }
        if let Some(queue) = self.tenants.get_mut(tenant).and_then(|tenant| tenant.waiting.get_mut(priority as usize)) {
            queue.push_back(Waiter { number, go });
        }
        (number, turn)
    }

    /// Gives up a waiting request for a new one of `tenant`: of the lowest priority that waits, of the tenant that has most
    /// waiting, the newest.
    fn give_up(&mut self, tenant: &str, priority: Priority) -> Result<Waiter, Shed> {
        let own = self.tenants.get(tenant).map_or(0, Tenant::waits);
        let lowest = |tenant: &Tenant| {
            let lowest = Priority::FROM_HIGH.into_iter().rev();
            lowest
                .into_iter()
                .find(|priority| tenant.waiting.get(*priority as usize).is_some_and(|queue| !queue.is_empty()))
        };
        let candidates = self.tenants.iter().filter_map(|(name, tenant)| Some((lowest(tenant)?, tenant.waits(), name)));
        let victim = candidates.max_by_key(|(lowest, waits, _)| (std::cmp::Reverse(*lowest), *waits));
        let Some((lowest, waits, name)) = victim else { return Err(self.shed()) };
        // A tenant that has more waiting than the other makes way; it does not push others out by calling itself urgent.
        let makes_way = if **name == *tenant {
            lowest < priority
        } else {
            lowest < priority || (lowest == priority && waits > own + 1)
        };
        if !makes_way {
            return Err(self.shed());
        }
        let name = name.clone();
        let queue = self.tenants.get_mut(&name).and_then(|tenant| tenant.waiting.get_mut(lowest as usize));
        let Some(given_up) = queue.and_then(VecDeque::pop_back) else { return Err(self.shed()) };
        self.waiting -= 1;
        self.forget(&name);
        Ok(given_up)
    }

    /// Takes one of `tenant` out, and says who goes in for it.
    fn leave(&mut self, tenant: &Arc<str>) -> Vec<(Arc<str>, Waiter)> {
        self.inside -= 1;
        if let Some(own) = self.tenants.get_mut(tenant) {
            own.inside -= 1;
        }
        self.forget(tenant);
        let mut next = Vec::new();
        while self.inside < self.settings.at_once {
            let Some((name, waiter)) = self.next() else { break };
            self.enter(&name);
            next.push((name, waiter));
        }
        next
    }

    /// Whose turn it is: that of the tenant with the fewest inside, of those the one that was let in longest ago; and of
    /// its own the first of the highest priority.
    fn next(&mut self) -> Option<(Arc<str>, Waiter)> {
        let most = self.most();
        let may = self.tenants.iter().filter(|(_, tenant)| tenant.waits() > 0 && tenant.inside < most);
        let (name, _) = may.min_by_key(|(_, tenant)| (tenant.inside, tenant.served))?;
        let name = name.clone();
        let tenant = self.tenants.get_mut(&name)?;
        let waiter = Priority::FROM_HIGH
            .into_iter()
            .find_map(|priority| tenant.waiting.get_mut(priority as usize).and_then(VecDeque::pop_front))?;
        self.waiting -= 1;
        Some((name, waiter))
    }

    fn remove(&mut self, tenant: &str, priority: Priority, number: u64) -> Option<Waiter> {
        let queue = self.tenants.get_mut(tenant)?.waiting.get_mut(priority as usize)?;
        let at = queue.binary_search_by_key(&number, |waiter| waiter.number).ok()?;
        let waiter = queue.remove(at);
        self.waiting -= 1;
        self.forget(tenant);
        waiter
    }

    /// Forgets a tenant that has nothing here.
    fn forget(&mut self, tenant: &str) {
        if self.tenants.get(tenant).is_some_and(|own| own.inside == 0 && own.waits() == 0) {
            self.tenants.remove(tenant);
        }
    }
}

impl Tenant {
    fn waits(&self) -> usize {
        self.waiting.iter().map(VecDeque::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::{future::Future, pin::Pin, task::Poll};

    use super::*;

    type Entering<'a> = Pin<Box<dyn Future<Output = Result<Place, Shed>> + 'a>>;

    fn gate(at_once: usize, queue: usize) -> Gate {
        Gate::new(GateSettings { at_once, queue })
    }

    /// Asks once whether it is in.
    async fn now(entering: &mut Entering<'_>) -> Option<Result<Place, Shed>> {
        std::future::poll_fn(|context| match entering.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }

    fn enter<'a>(gate: &'a Gate, tenant: &'a str, priority: Priority) -> Entering<'a> {
        Box::pin(gate.enter(tenant, priority))
    }

    /// Starts `count` requests that wait.
    async fn waiting<'a>(gate: &'a Gate, tenant: &'a str, priority: Priority, count: usize) -> Vec<Entering<'a>> {
        let mut all = Vec::new();
        for _ in 0..count {
            let mut entering = enter(gate, tenant, priority);
            assert!(now(&mut entering).await.is_none(), "{tenant} should wait");
            all.push(entering);
        }
        all
    }

    #[tokio::test]
    async fn behind_a_flood_another_tenant_goes_next() {
        let gate = gate(1, 1_000);
        let inside = gate.enter("flood", Priority::Normal).await.unwrap();
        let mut flood = waiting(&gate, "flood", Priority::High, 500).await;
        let mut other = waiting(&gate, "other", Priority::Low, 3).await;
        drop(inside);
        // They take turns, however many of the one wait and however urgent it says that they are.
        for (turn, expected) in ["other", "flood", "other", "flood", "other", "flood"].into_iter().enumerate() {
            let queue = if expected == "other" { &mut other } else { &mut flood };
            let place = now(&mut queue[0]).await.unwrap_or_else(|| panic!("turn {turn} is that of {expected}"));
            drop(queue.remove(0));
            drop(place);
        }
        assert_eq!(gate.load(), (1, 496));
    }

    #[tokio::test]
    async fn a_flood_takes_what_is_idle_and_leaves_room_for_the_next() {
        let gate = gate(16, 10);
        let mut places = Vec::new();
        for _ in 0..14 {
            places.push(now(&mut enter(&gate, "flood", Priority::Normal)).await.unwrap().unwrap());
        }
        let _waits = waiting(&gate, "flood", Priority::High, 10).await;
        for tenant in ["a", "b"] {
            places.push(now(&mut enter(&gate, tenant, Priority::Low)).await.unwrap().unwrap());
        }
        assert_eq!(gate.load(), (16, 10));
    }

    #[tokio::test]
    async fn when_all_cannot_wait_the_lowest_and_the_most_greedy_make_way() {
        let gate = gate(1, 4);
        let _inside = gate.enter("flood", Priority::Normal).await.unwrap();
        let mut low = waiting(&gate, "flood", Priority::Low, 1).await;
        let mut flood = waiting(&gate, "flood", Priority::Normal, 3).await;
        // Its own newcomer takes the place of what it said can wait, and after that finds none.
        let mut own = waiting(&gate, "flood", Priority::Normal, 1).await;
        assert!(now(&mut low[0]).await.unwrap().is_err());
        assert!(now(&mut enter(&gate, "flood", Priority::Normal)).await.unwrap().is_err());
        // Another's takes the place of the newest of the flood.
        let _other = waiting(&gate, "other", Priority::Normal, 1).await;
        assert!(now(&mut own[0]).await.unwrap().is_err());
        assert!(now(&mut flood[0]).await.is_none());
        assert!(
            now(&mut enter(&gate, "third", Priority::Low)).await.unwrap().is_err(),
            "what can wait pushes nobody out"
        );
        assert_eq!(gate.load(), (1, 4));
    }

    #[tokio::test]
    async fn whoever_goes_away_leaves_nothing_behind() {
        let gate = gate(1, 10);
        let inside = gate.enter("a", Priority::Normal).await.unwrap();
        let gone = waiting(&gate, "b", Priority::Normal, 5).await;
        let mut stays = waiting(&gate, "c", Priority::Normal, 1).await;
        drop(gone);
        assert_eq!(gate.load(), (1, 1));
        drop(inside);
        drop(now(&mut stays[0]).await.unwrap().unwrap());
        assert_eq!(gate.load(), (0, 0));
        assert!(gate.0.lock().tenants.is_empty());
    }

    #[tokio::test]
    async fn a_place_for_somebody_who_has_just_gone_goes_to_the_next() {
        let gate = gate(1, 10);
        let inside = gate.enter("a", Priority::Normal).await.unwrap();
        let gone = waiting(&gate, "b", Priority::Normal, 1).await;
        let mut next = waiting(&gate, "c", Priority::Normal, 1).await;
        // `b` is let in, and goes away before it learns of it.
        drop(inside);
        drop(gone);
        assert!(now(&mut next[0]).await.unwrap().is_ok());
    }
}
