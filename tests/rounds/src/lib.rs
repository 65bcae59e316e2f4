//! How often a test repeats what it does.
//!
//! An ordinary run is bounded: it takes less than a minute, and is the same each time. `cargo xtask soak` sets
//! [`SECONDS`], and the same tests go on for that long, or [`ROUNDS`], and they are repeated that often, with other random
//! numbers each time.

pub mod kill;

use std::time::{Duration, Instant};

/// The environment variable that has tests go on: for how many seconds each.
pub const SECONDS: &str = "WITAN_SOAK_SECONDS";

/// The environment variable that has tests repeat what they do so often.
pub const ROUNDS: &str = "WITAN_SOAK_ROUNDS";

/// What a test that goes on writes before its name and the number of its rounds, parted by tabs.
pub const REPORT: &str = "soak";

/// The rounds of a test. When they are dropped, a test that goes on writes how many there were to standard output.
#[derive(Debug)]
pub struct Rounds {
    name: String,
    begun: usize,
    end: End,
    /// Whether this is no ordinary run.
    soak: bool,
}

/// When rounds end.
#[derive(Debug, Clone, Copy)]
enum End {
    After(usize),
    At(Instant),
}

/// So many rounds as `bound` says, as [`ROUNDS`] says where it is set, or those that fit into the time of [`SECONDS`] where
/// that is.
#[must_use]
pub fn rounds(name: &str, bound: usize) -> Rounds {
    Rounds::new(name, soak().unwrap_or(End::After(bound)), soak().is_some())
}

/// Random numbers: the same in every ordinary run, and others in one that goes on.
#[must_use]
pub fn random() -> fastrand::Rng {
    if soak().is_some() { fastrand::Rng::new() } else { fastrand::Rng::with_seed(0x5EED) }
}

fn soak() -> Option<End> {
    let set = |name| std::env::var(name).ok()?.parse::<u32>().ok();
    let seconds = set(SECONDS).map(|seconds| End::At(Instant::now() + Duration::from_secs(seconds.into())));
    seconds.or_else(|| set(ROUNDS).map(|rounds| End::After(rounds as usize)))
}

impl Rounds {
    fn new(name: &str, end: End, soak: bool) -> Self {
        Self { name: name.to_owned(), begun: 0, end, soak }
    }
}

impl Iterator for Rounds {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let goes_on = match self.end {
            End::At(end) => self.begun == 0 || Instant::now() < end,
            End::After(bound) => self.begun < bound,
        };
        goes_on.then(|| {
            self.begun += 1;
            self.begun - 1
        })
    }
}

impl Drop for Rounds {
    fn drop(&mut self) {
        if self.soak {
            println!("\n{REPORT}\t{}\t{}", self.name, self.begun);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_time_there_are_as_many_as_are_bounded() {
        assert!(Rounds::new("a", End::After(3), false).eq([0, 1, 2]));
        assert_eq!(Rounds::new("a", End::After(0), false).count(), 0);
    }

    #[test]
    fn with_a_time_there_is_one_at_least_and_no_bound() {
        let after = |time| End::At(Instant::now() + time);
        assert_eq!(Rounds::new("a", after(Duration::ZERO), false).count(), 1);
        assert!(Rounds::new("a", after(Duration::from_secs(3600)), false).take(100).count() == 100);
    }
}
