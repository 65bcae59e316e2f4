//! How many of something there are, in all and of each who has any.

use std::{borrow::Borrow, collections::HashMap, hash::Hash};

/// Counts by `K`. Whoever has none takes no room.
#[derive(Debug)]
pub(crate) struct Counts<K> {
    all: usize,
    by: HashMap<K, usize>,
}

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self { all: 0, by: HashMap::new() }
    }
}

impl<K: Eq + Hash> Counts<K> {
    pub(crate) fn all(&self) -> usize {
        self.all
    }

    pub(crate) fn of<Q: Eq + Hash + ?Sized>(&self, whose: &Q) -> usize
    where
        K: Borrow<Q>,
    {
        self.by.get(whose).copied().unwrap_or(0)
    }

    pub(crate) fn add(&mut self, whose: K) {
        self.all += 1;
        *self.by.entry(whose).or_default() += 1;
    }

    /// Takes back what [`Self::add`] counted.
    pub(crate) fn remove(&mut self, whose: &K) {
        self.all -= 1;
        if let Some(own) = self.by.get_mut(whose) {
            *own -= 1;
            if *own == 0 {
                self.by.remove(whose);
            }
        }
    }

    /// How many have any.
    #[cfg(test)]
    pub(crate) fn holders(&self) -> usize {
        self.by.len()
    }
}
