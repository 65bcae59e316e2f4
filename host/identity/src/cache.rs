//! Credentials that were looked up a moment ago.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::{client::Who, now};

/// Credentials that are kept at once.
const MOST: usize = 10_000;

/// How long one is believed without a look. What another process of this machine changes is seen at once all the same; this
/// bounds what a host elsewhere changes in the same PostgreSQL database.
const BELIEVED: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(crate) struct Cache(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    /// The stamp of the rows that the entries are of.
    stamp: u64,
    entries: HashMap<[u8; 32], Entry>,
}

struct Entry {
    who: Arc<Who>,
    until: i64,
    looked: Instant,
}

impl Cache {
    /// Whose credential has the digest `digest`, if that was looked up in the rows of `stamp` and is good.
    pub(crate) fn get(&self, stamp: u64, digest: &[u8; 32]) -> Option<Arc<Who>> {
        let mut kept = self.0.lock();
        kept.at(stamp);
        let entry = kept.entries.get(digest)?;
        let believed = entry.looked.elapsed() < BELIEVED && entry.until > now();
        believed.then(|| entry.who.clone())
    }

    /// Keeps what was found in rows that had the stamp `stamp` before they were read.
    pub(crate) fn put(&self, stamp: u64, digest: [u8; 32], who: Arc<Who>, until: i64) {
        let mut kept = self.0.lock();
        kept.at(stamp);
        if kept.stamp != stamp {
            return;
        }
        if kept.entries.len() >= MOST {
            kept.entries.retain(|_, entry| entry.looked.elapsed() < BELIEVED);
        }
        if kept.entries.len() < MOST {
            kept.entries.insert(digest, Entry { who, until, looked: Instant::now() });
        }
    }

    /// Forgets everything: what was said of credentials has changed.
    pub(crate) fn clear(&self) {
        self.0.lock().entries.clear();
    }
}

impl Entries {
    /// Forgets what is of older rows than those of `stamp`.
    fn at(&mut self, stamp: u64) {
        if stamp > self.stamp {
            self.stamp = stamp;
            self.entries.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::Client;

    #[test]
    fn what_was_found_in_older_rows_is_not_believed() {
        let cache = Cache::default();
        let who = Client::local(Ipv4Addr::LOCALHOST.into()).who;
        cache.put(1, [1; 32], who.clone(), i64::MAX);
        assert!(cache.get(1, &[1; 32]).is_some());
        assert!(cache.get(1, &[2; 32]).is_none());
        assert!(cache.get(2, &[1; 32]).is_none());
        // Found before the rows changed, and kept after that.
        cache.put(1, [1; 32], who.clone(), i64::MAX);
        assert!(cache.get(2, &[1; 32]).is_none());
        cache.put(2, [1; 32], who, now());
        assert!(cache.get(2, &[1; 32]).is_none(), "it has ended");
    }
}
