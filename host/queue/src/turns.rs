//! Places that many wait for.

use std::{collections::HashMap, fmt, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::{Queue, queue::Ticket};

/// Places, and the queue for them. Cloning is cheap.
#[derive(Clone)]
pub struct Turns(Arc<Mutex<Places>>);

struct Places {
    free: usize,
    taken: usize,
    closed: bool,
    /// The most that one tenant has.
    share: usize,
    /// How many each has that has any.
    held: HashMap<Arc<str>, usize>,
    queue: Queue<Waiter>,
}

struct Waiter {
    tenant: Arc<str>,
    go: oneshot::Sender<Turn>,
}

/// A place, which is given back when this is dropped.
pub struct Turn {
    turns: Turns,
    tenant: Arc<str>,
}

/// Leaves the queue when it is dropped.
struct Waiting<'a> {
    turns: &'a Turns,
    ticket: Ticket,
}

impl Turns {
    /// So many places, of which one tenant has `share` at most and one at least, and room for `most` who wait for one.
    #[must_use]
    pub fn new(places: usize, share: usize, most: usize) -> Self {
        Self(Arc::new(Mutex::new(Places {
            free: places,
            taken: 0,
            closed: false,
            share: share.max(1),
            held: HashMap::new(),
            queue: Queue::new(most),
        })))
    }

    /// Waits for the turn of `tenant` with `weight`; none if the queue is full. Dropping the future leaves the queue.
    pub async fn take(&self, tenant: &str, weight: u32) -> Option<Turn> {
        let (go, mut receiver) = oneshot::channel();
        let ticket = {
            let mut places = self.0.lock();
            let tenant: Arc<str> = tenant.into();
            // Those that wait while a place is free have their share.
            if places.free > 0 && places.may(&tenant) && !places.closed {
                places.begin(&tenant);
                return Some(Turn { turns: self.clone(), tenant });
            }
            places.queue.push(&tenant.clone(), weight, Waiter { tenant, go }).ok()?
        };
        let waiting = Waiting { turns: self, ticket };
        let turn = (&mut receiver).await.ok();
        drop(waiting);
        turn
    }

    /// Gives no turn from now on: who waits goes on waiting.
    pub fn close(&self) {
        self.0.lock().closed = true;
    }

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.lock().queue.len()
    }

    /// How many of `tenant` wait.
    #[must_use]
    pub fn waiting_of(&self, tenant: &str) -> usize {
        self.0.lock().queue.len_of(tenant)
    }

    /// How many have their turn.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.0.lock().taken
    }
}

impl Places {
    fn may(&self, tenant: &str) -> bool {
        self.held.get(tenant).is_none_or(|held| *held < self.share)
    }

    fn begin(&mut self, tenant: &Arc<str>) {
        self.free -= 1;
        self.taken += 1;
        *self.held.entry(tenant.clone()).or_default() += 1;
    }

    fn end(&mut self, tenant: &str) {
        self.free += 1;
        self.taken -= 1;
        if let Some(held) = self.held.get_mut(tenant) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(tenant);
            }
        }
    }

    /// Whose turn is next, if there is one.
    fn next(&mut self) -> Option<Waiter> {
        if self.closed || self.free == 0 {
            return None;
        }
        let (held, share) = (&self.held, self.share);
        let next = self.queue.pop_of(|tenant| held.get(tenant).is_none_or(|held| *held < share))?;
        self.begin(&next.tenant);
        Some(next)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let next = {
            let mut places = self.turns.0.lock();
            places.end(&self.tenant);
            places.next()
        };
        if let Some(Waiter { tenant, go }) = next {
            // Who has just gone gives it back by dropping it, and the one after has it.
            let _gone = go.send(Turn { turns: self.turns.clone(), tenant });
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let left = self.turns.0.lock().queue.remove(&self.ticket);
        drop(left);
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn").finish_non_exhaustive()
    }
}

impl fmt::Debug for Turns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places = self.0.lock();
        f.debug_struct("Turns").field("taken", &places.taken).field("waiting", &places.queue.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn wait_for(turns: &Turns, waiting: usize) {
        while turns.waiting() != waiting {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn places_go_to_who_is_next() {
        let turns = Turns::new(1, 1, 10);
        let first = turns.take("flood", 4).await.unwrap();
        let mut tasks = Vec::new();
        let (told, mut order) = tokio::sync::mpsc::unbounded_channel();
        for (number, tenant) in ["flood", "flood", "flood", "quiet"].into_iter().enumerate() {
            let (waits, tell) = (turns.clone(), told.clone());
            tasks.push(tokio::spawn(async move {
                let _turn = waits.take(tenant, 4).await.unwrap();
                tell.send(tenant).unwrap();
            }));
            wait_for(&turns, number + 1).await;
        }
        assert_eq!((turns.taken(), turns.waiting_of("flood")), (1, 3));
        drop(first);
        for task in tasks {
            task.await.unwrap();
        }
        let order: Vec<_> = std::iter::from_fn(|| order.try_recv().ok()).collect();
        assert_eq!(order, ["flood", "quiet", "flood", "flood"]);
        assert_eq!((turns.taken(), turns.waiting()), (0, 0));
    }

    #[tokio::test]
    async fn one_tenant_has_its_share_and_the_rest_is_for_others() {
        let turns = Turns::new(3, 2, 10);
        let held = [turns.take("a", 1).await.unwrap(), turns.take("a", 1).await.unwrap()];
        let waits = turns.clone();
        let third = tokio::spawn(async move { waits.take("a", 1).await.unwrap() });
        wait_for(&turns, 1).await;
        // One place is free, and it is for others, whoever waits.
        let other = turns.take("b", 1).await.unwrap();
        assert_eq!((turns.taken(), turns.waiting_of("a")), (3, 1));
        drop(other);
        assert_eq!((turns.taken(), turns.waiting_of("a")), (2, 1));
        drop(held);
        let third = third.await.unwrap();
        assert_eq!(turns.taken(), 1);
        drop(third);
        assert!(turns.0.lock().held.is_empty());
    }

    #[tokio::test]
    async fn who_goes_away_holds_up_nobody() {
        let turns = Turns::new(1, 1, 1);
        let first = turns.take("a", 1).await.unwrap();
        let waits = turns.clone();
        let gone = tokio::spawn(async move { waits.take("a", 1).await });
        wait_for(&turns, 1).await;
        assert!(turns.take("a", 1).await.is_none(), "the queue is full");
        gone.abort();
        wait_for(&turns, 0).await;
        drop(first);
        assert!(turns.take("a", 1).await.is_some());
    }

    #[tokio::test]
    async fn once_closed_nobody_has_a_turn() {
        let turns = Turns::new(2, 2, 1);
        let first = turns.take("a", 1).await.unwrap();
        turns.close();
        drop(first);
        assert!(tokio::time::timeout(Duration::from_millis(1), turns.take("a", 1)).await.is_err());
        assert_eq!((turns.taken(), turns.waiting()), (0, 0));
    }
}
