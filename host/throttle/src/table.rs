//! The buckets of one dimension: as many as there are clients who asked lately, and never more than its bound.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, RandomState},
};

use crate::bucket::FullAt;

/// Clients of one dimension that have buckets of their own. Beyond that, newcomers share one.
pub(crate) const CLIENTS: usize = 65_536;

/// How often a full table is searched for who may be forgotten, in nanoseconds.
const SWEEP: u64 = 50_000_000;

/// Buckets of a client: for the rate by second and the one by minute.
pub(crate) type Buckets = [FullAt; 2];

/// Who a client is, as a number: two keyed hashes, so that nobody finds two names that are one, and a long name takes no
/// more room than a short one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Who(u64, u64);

/// Makes numbers of names.
#[derive(Clone, Debug, Default)]
pub(crate) struct Naming(RandomState, RandomState);

impl Naming {
    pub(crate) fn of(&self, name: &impl Hash) -> Who {
        Who(self.0.hash_one(name), self.1.hash_one(name))
    }
}

#[derive(Debug)]
pub(crate) struct Table {
    most: usize,
    clients: HashMap<Who, Buckets>,
    /// The bucket of all who found no room.
    others: Buckets,
    swept: u64,
}

impl Table {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, clients: HashMap::new(), others: [0; 2], swept: 0 }
    }

    /// The buckets of `who`, or those of all who found no room.
    pub(crate) fn get(&self, who: Who) -> Buckets {
        match self.clients.get(&who) {
            Some(buckets) => *buckets,
            None if self.clients.len() < self.most => [0; 2],
            None => self.others,
        }
    }

    /// Makes room for a newcomer, if there is any to make, by forgetting clients whose buckets are full: to forget those
    /// changes nothing.
    pub(crate) fn make_room(&mut self, who: Who, now: u64) {
        let full = self.clients.len() >= self.most && !self.clients.contains_key(&who);
        if full && now.saturating_sub(self.swept) >= SWEEP {
            self.swept = now;
            self.clients.retain(|_, buckets| buckets.iter().any(|full_at| *full_at > now));
        }
    }

    pub(crate) fn set(&mut self, who: Who, buckets: Buckets) {
        if let Some(own) = self.clients.get_mut(&who) {
            *own = buckets;
        } else if self.clients.len() < self.most {
            self.clients.insert(who, buckets);
        } else {
            self.others = buckets;
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.clients.len()
    }
}
