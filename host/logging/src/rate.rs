//! A token bucket: as many lines at once as the rate allows in one period, and then as they come back.

use std::time::Instant;

use witan_system::Rate;

/// What is left of a component's rate.
pub(crate) struct Bucket {
    /// None until the first line, when the rate is known: then it is full.
    tokens: Option<f64>,
    at: Instant,
    dropped: u64,
}

/// What becomes of a line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Passage {
    /// It is logged, after `dropped` others were not.
    Passes { dropped: u64 },
    /// It is not.
    Dropped,
}

impl Bucket {
    pub(crate) fn full(now: Instant) -> Self {
        Self { tokens: None, at: now, dropped: 0 }
    }

    pub(crate) fn take(&mut self, rate: &Rate, now: Instant) -> Passage {
        let most = f64::from(rate.count);
        let back =
            now.saturating_duration_since(self.at).as_secs_f64() / rate.per.as_secs_f64().max(f64::EPSILON) * most;
        let tokens = self.tokens.map_or(most, |tokens| (tokens + back).min(most));
        self.at = now;
        if tokens < 1.0 {
            self.tokens = Some(tokens);
            self.dropped += 1;
            return Passage::Dropped;
        }
        self.tokens = Some(tokens - 1.0);
        Passage::Passes { dropped: std::mem::take(&mut self.dropped) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_passes_and_the_rest_is_counted() {
        let (rate, start) = (Rate { count: 2, per: Duration::from_secs(1) }, Instant::now());
        let mut bucket = Bucket::full(start);
        let mut take = |after: u64| bucket.take(&rate, start + Duration::from_millis(after));
        assert_eq!(take(0), Passage::Passes { dropped: 0 });
        assert_eq!(take(0), Passage::Passes { dropped: 0 });
        assert_eq!(take(0), Passage::Dropped);
        assert_eq!(take(100), Passage::Dropped);
        assert_eq!(take(600), Passage::Passes { dropped: 2 });
        assert_eq!(take(600), Passage::Dropped);
        assert_eq!(take(100_000), Passage::Passes { dropped: 1 });
        assert_eq!(take(100_000), Passage::Passes { dropped: 0 });
        assert_eq!(take(100_000), Passage::Dropped, "what was not used does not pile up");
    }
}
