//! Which tenant's turn it is, and what is being tried.

use std::collections::{HashMap, HashSet};

use tokio::task::{Id, JoinSet};
use uuid::Uuid;

/// Tries at once, and those of one tenant: a server that takes what it is sent and never answers holds up its own tenant alone.
const AT_ONCE: usize = 32;
const OF_ONE: usize = 8;

/// What is being tried.
#[derive(Debug, Default)]
pub(crate) struct Tries {
    running: JoinSet<()>,
    /// What each tries, and whose it is.
    whose: HashMap<Id, (Uuid, String)>,
    /// Those that failed within the host: each is tried again once the host starts anew.
    failed: HashSet<Uuid>,
    /// When each tenant that has something to be delivered had its last turn.
    served: HashMap<String, u64>,
    turns: u64,
}

impl Tries {
    pub(crate) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Tries `delivery` of `tenant` by `work`.
    pub(crate) fn spawn(&mut self, delivery: Uuid, tenant: &str, work: impl Future<Output = ()> + Send + 'static) {
        self.turns += 1;
        self.served.insert(tenant.to_owned(), self.turns);
        let running = self.running.spawn(work);
        self.whose.insert(running.id(), (delivery, tenant.to_owned()));
    }

    /// Waits for the end of one.
    pub(crate) async fn ended(&mut self) {
        let Some(ended) = self.running.join_next_with_id().await else { return };
        let (id, failed) = match ended {
            Ok((id, ())) => (id, false),
            Err(error) => (error.id(), true),
        };
        if let Some((delivery, _)) = self.whose.remove(&id)
            && failed
        {
            self.failed.insert(delivery);
        }
    }

    /// Whose turn it is of `tenants`, by its place there: of those with the fewest tries now, the one that has waited longest.
    /// None where there is no room.
    pub(crate) fn next(&self, tenants: &[String]) -> Option<usize> {
        if self.running.len() >= AT_ONCE {
            return None;
        }
        let mut now: HashMap<&str, usize> = HashMap::new();
        for (_, tenant) in self.whose.values() {
            *now.entry(tenant).or_default() += 1;
        }
        let tries = |tenant: &String| now.get(tenant.as_str()).copied().unwrap_or(0);
        let with_room = tenants.iter().enumerate().filter(|(_, tenant)| tries(tenant) < OF_ONE);
        let next = with_room.min_by_key(|(_, tenant)| (tries(tenant), self.served.get(*tenant).copied().unwrap_or(0)));
        next.map(|(at, _)| at)
    }

    /// Whether `delivery` is being tried, or must not be tried again by this host.
    pub(crate) fn knows(&self, delivery: Uuid) -> bool {
        self.failed.contains(&delivery) || self.whose.values().any(|(tried, _)| *tried == delivery)
    }

    /// How many of `tenant` there are at most that it knows.
    pub(crate) fn known_of(&self, tenant: &str) -> usize {
        self.failed.len() + self.whose.values().filter(|(_, of)| of == tenant).count()
    }

    /// Forgets the turns of those that are not among `tenants`.
    pub(crate) fn forget_all_but(&mut self, tenants: &[(String, u64)]) {
        let tenants: HashSet<&str> = tenants.iter().map(|(tenant, _)| tenant.as_str()).collect();
        self.served.retain(|tenant, _| tenants.contains(tenant.as_str()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenants(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[tokio::test]
    async fn the_one_with_the_fewest_is_next_and_nobody_has_all() {
        let mut tries = Tries::default();
        let never = std::future::pending;
        for _ in 0..OF_ONE {
            assert_eq!(tries.next(&tenants(&["a"])), Some(0));
            tries.spawn(Uuid::now_v7(), "a", never());
        }
        assert_eq!(tries.next(&tenants(&["a"])), None);
        let all = tenants(&["a", "b", "c"]);
        let mut turns = Vec::new();
        for _ in 0..4 {
            let next = tries.next(&all).unwrap();
            tries.spawn(Uuid::now_v7(), &all[next], never());
            turns.push(next);
        }
        assert_eq!(turns, [1, 2, 1, 2]);
        for number in 0..AT_ONCE - OF_ONE - 4 {
            tries.spawn(Uuid::now_v7(), &number.to_string(), never());
        }
        assert_eq!(tries.next(&tenants(&["new"])), None);
    }

    #[tokio::test]
    async fn who_had_a_turn_is_after_those_that_wait() {
        let mut tries = Tries::default();
        let all = tenants(&["a", "b", "c"]);
        let mut turns = Vec::new();
        for _ in 0..6 {
            let next = tries.next(&all).unwrap();
            tries.spawn(Uuid::now_v7(), &all[next], async {});
            tries.ended().await;
            turns.push(next);
        }
        assert_eq!(turns, [0, 1, 2, 0, 1, 2]);
        tries.forget_all_but(&[("b".to_owned(), 0)]);
        assert_eq!(tries.served.len(), 1);
    }

    #[tokio::test]
    async fn what_failed_within_the_host_is_not_tried_again_and_holds_no_place() {
        let mut tries = Tries::default();
        let (fine, failed) = (Uuid::now_v7(), Uuid::now_v7());
        tries.spawn(fine, "a", async {});
        tries.spawn(failed, "a", async { panic!("as asked") });
        assert!(tries.knows(fine) && tries.knows(failed) && tries.known_of("a") == 2);
        tries.ended().await;
        tries.ended().await;
        assert!(tries.is_empty() && tries.knows(failed) && !tries.knows(fine));
    }
}
