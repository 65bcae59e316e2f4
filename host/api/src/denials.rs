//! Refusals for want of a scope, on their way into the ledger.
//!
//! To be refused costs a client nothing, and each entry costs the host room on its disk and a place in a queue that all
//! share. So the first few of a principal in a minute are written down each, and what follows is counted in one.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use witan_ledger::{Entry, HOST};

/// How long a principal's refusals are counted together.
pub(crate) const WINDOW: Duration = Duration::from_secs(60);
/// Refusals of a principal in that time that are written down each.
const EACH: u32 = 8;
/// Principals that are counted apart. Further ones are counted together.
const PRINCIPALS: usize = 1_024;

/// Whose refusals are counted together: a tenant and a principal.
pub(crate) type Of = (String, String);

#[derive(Debug)]
struct Counting {
    began: Instant,
    written: u32,
    untold: u64,
    /// What stands for those that are untold: the last of them.
    last: Option<Entry>,
}

/// What becomes of a refusal.
#[derive(Debug, PartialEq)]
pub(crate) enum Noted {
    /// It is written down, and those that follow are to be asked for after [`WINDOW`].
    First(Entry, Of),
    /// It is written down.
    Written(Entry),
    /// It is counted.
    Counted,
}

/// The refusals of the last minute.
#[derive(Debug, Default)]
pub(crate) struct Denials(Mutex<HashMap<Of, Counting>>);

impl Denials {
    pub(crate) fn note(&self, entry: Entry, now: Instant) -> Noted {
        let mut all = self.0.lock();
        let mut of = (entry.tenant.clone(), entry.principal.clone());
        if all.len() >= PRINCIPALS && !all.contains_key(&of) {
            of = (HOST.to_owned(), HOST.to_owned());
        }
        let Some(counting) = all.get_mut(&of) else {
            all.insert(of.clone(), Counting { began: now, written: 1, untold: 0, last: None });
            return Noted::First(entry, of);
        };
        if counting.written < EACH {
            counting.written += 1;
            return Noted::Written(entry);
        }
        counting.untold += 1;
        counting.last = Some(entry);
        Noted::Counted
    }

    /// What is to be written of those that were counted, at the end of a window.
    pub(crate) fn end(&self, of: &Of) -> Option<Entry> {
        let counting = self.0.lock().remove(of)?;
        counting.told(of)
    }

    /// The same of all of them.
    pub(crate) fn end_all(&self) -> Vec<Entry> {
        let all = std::mem::take(&mut *self.0.lock());
        all.into_iter().filter_map(|(of, counting)| counting.told(&of)).collect()
    }
}

impl Counting {
    fn told(self, (tenant, principal): &Of) -> Option<Entry> {
        let seconds = self.began.elapsed().as_secs().max(1);
        // Those that are counted together are not the last one's.
        Some(self.last?.by(tenant, principal).with("requests", self.untold).with("seconds", seconds))
    }
}

#[cfg(test)]
mod tests {
    use witan_ledger::Kind;

    use super::*;

    fn entry(principal: &str) -> Entry {
        Entry::new(Kind::Decision, "request", "POST /v1/keys").by("acme", principal).denied("why")
    }

    #[test]
    fn the_first_are_written_and_the_rest_is_counted_in_one() {
        let (denials, now) = (Denials::default(), Instant::now());
        let Noted::First(_, of) = denials.note(entry("a"), now) else { panic!("it is the first") };
        for _ in 1..EACH {
            assert!(matches!(denials.note(entry("a"), now), Noted::Written(_)));
        }
        for _ in 0..1_000 {
            assert_eq!(denials.note(entry("a"), now), Noted::Counted);
        }
        assert!(matches!(denials.note(entry("b"), now), Noted::First(..)), "another is counted apart");
        let told = denials.end(&of).unwrap();
        assert_eq!((told.principal.as_str(), told.details["requests"].as_str()), ("a", "1000"));
        assert!(matches!(denials.note(entry("a"), now), Noted::First(..)), "and then it begins anew");
        assert!(denials.end_all().is_empty());
    }

    #[test]
    fn many_principals_take_no_more_room_than_some() {
        let (denials, now) = (Denials::default(), Instant::now());
        for number in 0..2 * PRINCIPALS {
            denials.note(entry(&number.to_string()), now);
        }
        assert_eq!(denials.0.lock().len(), PRINCIPALS + 1);
        let told = denials.end_all();
        assert_eq!((told.len(), told[0].principal.as_str()), (1, HOST));
        assert_eq!(told[0].details["requests"], (PRINCIPALS as u32 - EACH).to_string());
    }
}
