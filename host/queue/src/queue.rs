//! The order of turns.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What one turn of weight 1 moves a clock on by. A multiple of most weights, so that shares come out even.
const TURN: u64 = 720_720;

/// A queue that is fair among tenants, and within each weighted by priority.
#[derive(Debug)]
pub struct Queue<T> {
    tenants: BTreeMap<String, Tenant<T>>,
    /// Tenants by their clocks: the first is next.
    order: BTreeSet<(u64, String)>,
    /// The clock of the tenant that had the last turn: one that comes begins here, and has saved up nothing.
    now: u64,
    len: usize,
    most: usize,
    tickets: u64,
}

#[derive(Debug)]
struct Tenant<T> {
    clock: u64,
    now: u64,
    len: usize,
    /// By weight, those that wait with it and their clock.
    lanes: BTreeMap<u32, Lane<T>>,
}

#[derive(Debug)]
struct Lane<T> {
    clock: u64,
    waiting: VecDeque<(u64, T)>,
}

/// What finds something in the queue again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    tenant: String,
    weight: u32,
    number: u64,
}

/// The queue is full; what was to be pushed comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full<T>(pub T);

impl<T> Queue<T> {
    /// A queue in which at most `most` wait.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { tenants: BTreeMap::new(), order: BTreeSet::new(), now: 0, len: 0, most, tickets: 0 }
    }

    /// Adds `item` of `tenant`. Its share of the tenant's turns is `weight` to the weights of the others; 0 counts as 1.
    ///
    /// # Errors
    /// When the queue is full.
    pub fn push(&mut self, tenant: &str, weight: u32, item: T) -> Result<Ticket, Full<T>> {
        if self.len >= self.most {
            return Err(Full(item));
        }
        let weight = weight.max(1);
        self.tickets += 1;
        let number = self.tickets;
        let now = self.now;
        let entry = self.tenants.entry(tenant.to_owned()).or_insert_with(|| {
            self.order.insert((now, tenant.to_owned()));
            Tenant { clock: now, now: 0, len: 0, lanes: BTreeMap::new() }
        });
        let begin = entry.now;
        let lane = entry.lanes.entry(weight).or_insert_with(|| Lane { clock: begin, waiting: VecDeque::new() });
        lane.waiting.push_back((number, item));
        entry.len += 1;
        self.len += 1;
        Ok(Ticket { tenant: tenant.to_owned(), weight, number })
    }

    /// Takes what is next.
    pub fn pop(&mut self) -> Option<T> {
        let (clock, name) = self.order.pop_first()?;
        self.now = clock;
        let tenant = self.tenants.get_mut(&name)?;
        let item = tenant.pop()?;
        self.len -= 1;
        if tenant.len == 0 {
            self.tenants.remove(&name);
        } else {
            tenant.clock = clock + TURN;
            self.order.insert((tenant.clock, name));
        }
        Some(item)
    }

    /// Takes what `ticket` is for out of the queue, if it waits still.
    pub fn remove(&mut self, ticket: &Ticket) -> Option<T> {
        let tenant = self.tenants.get_mut(&ticket.tenant)?;
        let lane = tenant.lanes.get_mut(&ticket.weight)?;
        let at = lane.waiting.binary_search_by_key(&ticket.number, |(number, _)| *number).ok()?;
        let (_, item) = lane.waiting.remove(at)?;
        if lane.waiting.is_empty() {
            tenant.lanes.remove(&ticket.weight);
        }
        tenant.len -= 1;
        self.len -= 1;
        if tenant.len == 0 {
            self.order.remove(&(tenant.clock, ticket.tenant.clone()));
            self.tenants.remove(&ticket.tenant);
        }
        Some(item)
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many of `tenant` wait.
    #[must_use]
    pub fn len_of(&self, tenant: &str) -> usize {
        self.tenants.get(tenant).map_or(0, |tenant| tenant.len)
    }

    /// How many tenants have something waiting.
    #[must_use]
    pub fn tenants(&self) -> usize {
        self.tenants.len()
    }
}

impl<T> Tenant<T> {
    fn pop(&mut self) -> Option<T> {
        // The heavier one where two are even: it is the one that was marked urgent.
        let (weight, lane) = self.lanes.iter_mut().min_by_key(|(weight, lane)| (lane.clock, u32::MAX - **weight))?;
        let weight = *weight;
        let (_, item) = lane.waiting.pop_front()?;
        self.now = lane.clock;
        lane.clock += TURN / u64::from(weight);
        if lane.waiting.is_empty() {
            self.lanes.remove(&weight);
        }
        self.len -= 1;
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn popped(queue: &mut Queue<&'static str>) -> Vec<&'static str> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn a_tenant_that_floods_delays_another_by_one_turn() {
        let mut queue = Queue::new(1_000);
        for _ in 0..500 {
            queue.push("flood", 4, "f").unwrap();
        }
        assert_eq!(queue.pop(), Some("f"));
        queue.push("quiet", 4, "q").unwrap();
        assert!(popped(&mut queue).iter().position(|item| *item == "q").unwrap() <= 1);
    }

    #[test]
    fn weights_share_the_turns_of_a_tenant() {
        let mut queue = Queue::new(1_000);
        for _ in 0..300 {
            queue.push("a", 1, "low").unwrap();
            queue.push("a", 4, "normal").unwrap();
            queue.push("a", 16, "high").unwrap();
        }
        let first: Vec<_> = (0..210).filter_map(|_| queue.pop()).collect();
        let count = |name| first.iter().filter(|item| **item == name).count();
        assert_eq!((count("high"), count("normal"), count("low")), (160, 40, 10));
    }

    #[test]
    fn one_that_comes_late_has_saved_up_nothing() {
        let mut queue = Queue::new(1_000);
        for _ in 0..100 {
            queue.push("early", 1, "e").unwrap();
        }
        for _ in 0..50 {
            queue.pop();
        }
        for _ in 0..50 {
            queue.push("late", 1, "l").unwrap();
        }
        let next: Vec<_> = (0..20).filter_map(|_| queue.pop()).collect();
        assert_eq!(next.iter().filter(|item| **item == "l").count(), 10);
    }

    #[test]
    fn what_is_taken_out_is_not_popped() {
        let mut queue = Queue::new(3);
        let first = queue.push("a", 1, "1").unwrap();
        queue.push("a", 1, "2").unwrap();
        let other = queue.push("b", 1, "3").unwrap();
        assert_eq!(queue.push("c", 1, "4"), Err(Full("4")));
        assert_eq!((queue.remove(&first), queue.remove(&first), queue.remove(&other)), (Some("1"), None, Some("3")));
        assert_eq!((queue.len(), queue.len_of("a"), queue.tenants()), (1, 1, 1));
        assert_eq!(popped(&mut queue), ["2"]);
        assert!(queue.is_empty());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(u8, u32),
        Pop,
        Remove(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..5_u8, prop_oneof![Just(1), Just(4), Just(16), 1..100_u32]).prop_map(|(tenant, weight)| Step::Push(tenant, weight)),
            3 => Just(Step::Pop),
            1 => any::<usize>().prop_map(Step::Remove),
        ]
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_doubled_and_a_lane_is_first_in_first_out(steps in proptest::collection::vec(step(), 1..400)) {
            let mut queue = Queue::new(50);
            let mut waiting: Vec<(Ticket, (u8, u32, usize))> = Vec::new();
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Push(tenant, weight) => match queue.push(&tenant.to_string(), weight, (tenant, weight, number)) {
                        Ok(ticket) => waiting.push((ticket, (tenant, weight, number))),
                        Err(Full(_)) => prop_assert_eq!(waiting.len(), 50),
                    },
                    Step::Pop => match queue.pop() {
                        Some(item) => {
                            let same = |other: &&(Ticket, (u8, u32, usize))| (other.1.0, other.1.1) == (item.0, item.1);
                            prop_assert_eq!(waiting.iter().find(same).map(|(_, item)| *item), Some(item));
                            waiting.retain(|(_, other)| *other != item);
                        }
                        None => prop_assert!(waiting.is_empty()),
                    },
                    Step::Remove(at) if !waiting.is_empty() => {
                        let (ticket, item) = waiting.remove(at % waiting.len());
                        prop_assert_eq!(queue.remove(&ticket), Some(item));
                    }
                    Step::Remove(_) => {}
                }
                prop_assert_eq!(queue.len(), waiting.len());
            }
            prop_assert_eq!(std::iter::from_fn(|| queue.pop()).count(), waiting.len());
            prop_assert_eq!((queue.tenants(), queue.order.len()), (0, 0));
        }

        /// Whatever the others push, and go on pushing: the last waits for at most one turn of each other tenant for each of
        /// its own, and has one of these in as many turns as the weights say.
        #[test]
        fn nobody_starves(others in 1..8_usize, weights in proptest::collection::vec(1..100_u32, 1..5)) {
            let mut queue = Queue::new(10_000);
            let push = |queue: &mut Queue<bool>| {
                for other in 0..others {
                    queue.push(&other.to_string(), 16, false).unwrap();
                }
                for weight in &weights {
                    queue.push("own", *weight, false).unwrap();
                }
            };
            for _ in 0..3 {
                push(&mut queue);
            }
            queue.push("own", 1, true).unwrap();
            let own: u64 = weights.iter().map(|weight| u64::from(*weight)).sum::<u64>() + 1;
            // Of its own lane, those that wait before it; of the others, as many as weigh as much.
            let before = 4 * (own + weights.len() as u64 + 1);
            let most = before * (others as u64 + 1) + 1;
            let mut turns = 0;
            while queue.pop() != Some(true) {
                turns += 1;
                prop_assert!(turns <= most, "it has not had its turn in {most}");
                push(&mut queue);
                // What is pushed meanwhile must not fill the queue.
                if queue.len() > 9_000 { break; }
            }
        }
    }
}
