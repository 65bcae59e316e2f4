//! The order of turns.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What one turn of weight 1 moves a clock on by. A multiple of most weights, so that shares come out even.
const TURN: u64 = 720_720;

/// Tenants with nothing waiting whose clocks are remembered at most. One is forgotten as soon as those that wait have caught up
/// with it, so that there are as many only where so many had a turn in one round.
const REMEMBERED: usize = 10_000;

/// A queue that is fair among tenants, and within each weighted by priority.
#[derive(Debug)]
pub struct Queue<T> {
    tenants: BTreeMap<String, Tenant<T>>,
    /// Tenants with something waiting, by their clocks: the first is next.
    order: BTreeSet<(u64, String)>,
    /// Tenants with nothing waiting whose clocks are ahead of `now`: one that comes again must not be before those that wait.
    ahead: BTreeSet<(u64, String)>,
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
    /// By weight, those that wait with it and their clock; with none that wait where the clock is ahead of `now`.
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
        let (tenants, order, ahead) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        Self { tenants, order, ahead, now: 0, len: 0, most, tickets: 0 }
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
        let comes = || Tenant { clock: now, now: 0, len: 0, lanes: BTreeMap::new() };
        let entry = self.tenants.entry(tenant.to_owned()).or_insert_with(comes);
        if entry.len == 0 {
            let place = (entry.clock, tenant.to_owned());
            self.ahead.remove(&place);
            self.order.insert(place);
        }
        entry.push(weight, number, item);
        self.len += 1;
        Ok(Ticket { tenant: tenant.to_owned(), weight, number })
    }

    /// Takes what is next.
    pub fn pop(&mut self) -> Option<T> {
        self.pop_of(|_| true)
    }

    /// Takes what is next of the tenants that `may` have a turn. The others save up nothing meanwhile.
    pub fn pop_of(&mut self, may: impl Fn(&str) -> bool) -> Option<T> {
        let (clock, name) = self.order.iter().find(|(_, name)| may(name))?.clone();
        self.pass_over((clock, name.clone()));
        self.order.remove(&(clock, name.clone()));
        self.now = clock;
        let tenant = self.tenants.get_mut(&name)?;
        let item = tenant.pop()?;
        tenant.clock = clock + TURN;
        let (place, waits) = ((tenant.clock, name), tenant.len > 0);
        self.len -= 1;
        if waits {
            self.order.insert(place);
        } else {
            self.ahead.insert(place);
        }
        self.forget();
        Some(item)
    }

    /// Takes what `ticket` is for out of the queue, if it waits still.
    pub fn remove(&mut self, ticket: &Ticket) -> Option<T> {
        let tenant = self.tenants.get_mut(&ticket.tenant)?;
        let item = tenant.remove(ticket)?;
        let (place, waits) = ((tenant.clock, ticket.tenant.clone()), tenant.len > 0);
        self.len -= 1;
        if !waits {
            self.order.remove(&place);
            self.ahead.insert(place);
        }
        self.forget();
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
        self.order.len()
    }

    /// Brings the clocks of those that are before `place` up to it.
    fn pass_over(&mut self, place: (u64, String)) {
        let passed: Vec<_> = self.order.range(..&place).filter(|(clock, _)| *clock < place.0).cloned().collect();
        for (clock, name) in passed {
            if let Some(tenant) = self.tenants.get_mut(&name) {
                tenant.clock = place.0;
            }
            self.order.remove(&(clock, name.clone()));
            self.order.insert((place.0, name));
        }
    }

    /// Forgets the clocks that say nothing any more, since `now` has come to them.
    fn forget(&mut self) {
        while let Some((clock, _)) = self.ahead.first()
            && (*clock <= self.now || self.ahead.len() > REMEMBERED)
        {
            let Some((_, name)) = self.ahead.pop_first() else { break };
            self.tenants.remove(&name);
        }
    }
}

impl<T> Tenant<T> {
    fn push(&mut self, weight: u32, number: u64, item: T) {
        let begin = self.now;
        let lane = self.lanes.entry(weight).or_insert_with(|| Lane { clock: begin, waiting: VecDeque::new() });
        lane.waiting.push_back((number, item));
        self.len += 1;
    }

    fn pop(&mut self) -> Option<T> {
        let waiting = self.lanes.iter_mut().filter(|(_, lane)| !lane.waiting.is_empty());
        // The heavier one where two are even: it is the one that was marked urgent.
        let (weight, lane) = waiting.min_by_key(|(weight, lane)| (lane.clock, u32::MAX - **weight))?;
        let (_, item) = lane.waiting.pop_front()?;
        self.now = lane.clock;
        lane.clock += (TURN / u64::from(*weight)).max(1);
        self.len -= 1;
        self.forget();
        Some(item)
    }

    fn remove(&mut self, ticket: &Ticket) -> Option<T> {
        let lane = self.lanes.get_mut(&ticket.weight)?;
        let at = lane.waiting.binary_search_by_key(&ticket.number, |(number, _)| *number).ok()?;
        let (_, item) = lane.waiting.remove(at)?;
        self.len -= 1;
        self.forget();
        Some(item)
    }

    /// As [`Queue::forget`], of its lanes.
    fn forget(&mut self) {
        let now = self.now;
        self.lanes.retain(|_, lane| !lane.waiting.is_empty() || lane.clock > now);
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
    fn a_tenant_that_keeps_one_waiting_has_its_turns_and_no_more() {
        for (many, one) in [("a", "b"), ("b", "a")] {
            let mut queue = Queue::new(1_000);
            for _ in 0..500 {
                queue.push(many, 4, "many").unwrap();
            }
            queue.push(one, 4, "one").unwrap();
            let mut turns = 0;
            for _ in 0..200 {
                if queue.pop() == Some("one") {
                    turns += 1;
                    queue.push(one, 4, "one").unwrap();
                }
            }
            assert_eq!(turns, 100, "of `{one}` beside `{many}`");
        }
    }

    #[test]
    fn a_lane_that_keeps_one_waiting_has_its_turns_and_no_more() {
        let mut queue = Queue::new(1_000);
        for _ in 0..500 {
            queue.push("a", 16, "high").unwrap();
        }
        queue.push("a", 1, "low").unwrap();
        let mut turns = 0;
        for _ in 0..170 {
            if queue.pop() == Some("low") {
                turns += 1;
                queue.push("a", 1, "low").unwrap();
            }
        }
        assert_eq!(turns, 10);
    }

    #[test]
    fn who_may_not_have_a_turn_saves_up_none() {
        let mut queue = Queue::new(1_000);
        for _ in 0..100 {
            queue.push("a", 1, "a").unwrap();
            queue.push("b", 1, "b").unwrap();
        }
        assert!((0..50).all(|_| queue.pop_of(|tenant| tenant == "b") == Some("b")));
        let next: Vec<_> = (0..20).filter_map(|_| queue.pop()).collect();
        assert_eq!(next.iter().filter(|item| **item == "a").count(), 11, "it is next, and then they take turns");
        assert_eq!(queue.pop_of(|_| false), None);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut queue = Queue::new(10);
        queue.push("waits", 1, 0).unwrap();
        for number in 0..20_000 {
            // It had no turn yet, and is before the one that waits.
            queue.push(&number.to_string(), 1, 1).unwrap();
            queue.pop_of(|tenant| tenant != "waits").unwrap();
        }
        assert!(queue.ahead.len() <= REMEMBERED && queue.tenants.len() <= REMEMBERED + 1);
        assert_eq!(queue.pop(), Some(0));
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
            prop_assert_eq!((queue.tenants(), queue.tenants.len()), (0, queue.ahead.len()));
            // Once the others have gone by, nothing is remembered of it.
            for _ in 0..1_000 {
                queue.push("another", 1, (9, 1, 0)).unwrap();
                queue.pop();
            }
            prop_assert_eq!(queue.tenants.keys().collect::<Vec<_>>(), ["another"]);
        }

        /// Who has something waiting at any time has as many turns as any other, whatever the others push, take out and push
        /// again, and each lane of it that has something waiting at any time has its share of these.
        #[test]
        fn nobody_starves(
            waiting in prop_oneof![Just(1_usize), 2..50_usize],
            own in prop_oneof![Just(1), Just(4), Just(16), 1..100_u32],
            mut others in proptest::collection::vec(step(), 0..20),
            steps in proptest::collection::vec(step(), 1..400),
        ) {
            // The tenant 0 is the one that is looked at; of its lanes, `own`.
            let mut queue = Queue::new(10_000);
            let mut tickets = Vec::new();
            let mut lanes: BTreeMap<u32, u64> = BTreeMap::new();
            let mut turns: BTreeMap<u8, u64> = BTreeMap::new();
            for _ in 0..waiting {
                queue.push("0", own, (0, own)).unwrap();
            }
            for step in &steps {
                match step {
                    Step::Push(0, weight) if *weight == own => {}
                    Step::Push(tenant, weight) => {
                        tickets.push(queue.push(&tenant.to_string(), *weight, (*tenant, *weight)).unwrap());
                        // Whoever has come once comes again after each turn, so that its queue runs empty again and again.
                        if others.len() < 20 {
                            others.push(step.clone());
                        }
                    }
                    Step::Remove(at) if !tickets.is_empty() => {
                        queue.remove(&tickets.swap_remove(at % tickets.len()));
                    }
                    Step::Remove(_) => {}
                    Step::Pop => {
                        let (tenant, weight) = queue.pop().unwrap();
                        *turns.entry(tenant).or_default() += 1;
                        if tenant == 0 {
                            *lanes.entry(weight).or_default() += 1;
                        }
                        let again = others.iter().any(|other| matches!(other, Step::Push(of, with) if (*of, *with) == (tenant, weight)));
                        if again || (tenant, weight) == (0, own) {
                            queue.push(&tenant.to_string(), weight, (tenant, weight)).unwrap();
                        }
                        let mine = turns.get(&0).copied().unwrap_or(0);
                        prop_assert!(turns.values().all(|turns| *turns <= mine + 1), "of {turns:?}");
                        let of_lane = lanes.get(&own).copied().unwrap_or(0) * (TURN / u64::from(own));
                        let fair = |(weight, turns): (&u32, &u64)| (turns - 1) * (TURN / u64::from(*weight)) <= of_lane;
                        prop_assert!(lanes.iter().all(fair), "beside {own}: {lanes:?}");
                    }
                }
            }
        }
    }
}
