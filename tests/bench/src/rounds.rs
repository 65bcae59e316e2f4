//! Rounds of measuring.

use std::time::Duration;

/// The best of `ROUNDS` rounds for each of several things that are measured in turn.
pub(crate) struct Best<const N: usize>([Duration; N]);

impl<const N: usize> Best<N> {
    /// Nothing was measured yet.
    pub(crate) fn new() -> Self {
        Self([Duration::MAX; N])
    }

    /// Notes one round.
    pub(crate) fn note(&mut self, round: [Duration; N]) {
        for (best, now) in self.0.iter_mut().zip(round) {
            *best = now.min(*best);
        }
    }

    /// The best of each.
    pub(crate) fn all(&self) -> [Duration; N] {
        self.0
    }
}

/// How many times `b` fits into `a`.
pub(crate) fn ratio(a: Duration, b: Duration) -> f64 {
    a.as_secs_f64() / b.as_secs_f64()
}

/// A time as people read it.
pub(crate) fn time(time: Duration) -> String {
    match time.as_nanos() {
        0..1_000 => format!("{} ns", time.as_nanos()),
        1_000..1_000_000 => format!("{:.1} µs", time.as_secs_f64() * 1e6),
        _ => format!("{:.1} ms", time.as_secs_f64() * 1e3),
    }
}
