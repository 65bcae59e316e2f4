//! How often a test repeats what it does.
//!
//! An ordinary run is bounded: it takes less than a minute, and is the same each time. `cargo xtask soak` sets
//! [`SECONDS`], and the same tests go on for that long, with other random numbers each time.

use std::time::{Duration, Instant};

/// The environment variable that has tests go on: for how many seconds each.
pub const SECONDS: &str = "WITAN_SOAK_SECONDS";

/// What a test that goes on writes before its name and the number of its rounds, parted by tabs.
pub const REPORT: &str = "soak";

/// The rounds of a test. When they are dropped, a test that goes on writes how many there were to standard output.
#[derive(Debug)]
pub struct Rounds {
    name: String,
    begun: usize,
    bound: usize,
    until: Option<Instant>,
}

/// So many rounds as `bound` says, or those that fit into the time of [`SECONDS`], where it is set.
#[must_use]
pub fn rounds(name: &str, bound: usize) -> Rounds {
    Rounds::new(name, bound, seconds())
}

/// Random numbers: the same in every ordinary run, and others in one that goes on.
#[must_use]
pub fn random() -> fastrand::Rng {
    if seconds().is_some() { fastrand::Rng::new() } else { fastrand::Rng::with_seed(0x5EED) }
}

fn seconds() -> Option<Duration> {
    std::env::var(SECONDS).ok()?.parse().ok().map(Duration::from_secs)
}

impl Rounds {
    fn new(name: &str, bound: usize, time: Option<Duration>) -> Self {
        Self { name: name.to_owned(), begun: 0, bound, until: time.map(|time| Instant::now() + time) }
    }
}

impl Iterator for Rounds {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let goes_on = match self.until {
            Some(until) => self.begun == 0 || Instant::now() < until,
            None => self.begun < self.bound,
        };
        goes_on.then(|| {
            self.begun += 1;
            self.begun - 1
        })
    }
}

impl Drop for Rounds {
    fn drop(&mut self) {
        if self.until.is_some() {
            println!("\n{REPORT}\t{}\t{}", self.name, self.begun);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_time_there_are_as_many_as_are_bounded() {
        assert!(Rounds::new("a", 3, None).eq([0, 1, 2]));
        assert_eq!(Rounds::new("a", 0, None).count(), 0);
    }

    #[test]
    fn with_a_time_there_is_one_at_least_and_the_bound_is_nothing() {
        assert_eq!(Rounds::new("a", 0, Some(Duration::ZERO)).count(), 1);
        assert!(Rounds::new("a", 1, Some(Duration::from_secs(3600))).take(100).count() == 100);
    }
}
