//! A token bucket, kept as the one moment at which it will be full again (the generic cell rate algorithm).

use std::time::Duration;

/// How fast a bucket fills, and how much it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    /// Nanoseconds in which one token comes.
    interval: u64,
    /// Tokens in a full bucket.
    pub(crate) burst: u32,
}

/// A bucket: when it will be full, in nanoseconds of the throttle's clock. 0 is full.
pub(crate) type FullAt = u64;

/// What taking from a bucket would leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) full_at: FullAt,
    pub(crate) remaining: u32,
}

/// Why nothing can be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Empty {
    /// There will be enough after this time.
    For(Duration),
    /// There will never be: more is asked for than a full bucket holds.
    Always,
}

impl Rate {
    /// `count` tokens in each `window`, at most `burst` at once. Zeros are ones.
    pub(crate) fn new(count: u32, window: Duration, burst: u32) -> Self {
        let window = u64::try_from(window.as_nanos()).unwrap_or(u64::MAX);
        Self { interval: (window / u64::from(count.max(1))).max(1), burst: burst.max(1) }
    }

    fn whole(self) -> u64 {
        self.interval.saturating_mul(u64::from(self.burst))
    }

    /// What taking `cost` tokens from the bucket at `now` would leave.
    pub(crate) fn take(self, bucket: FullAt, now: u64, cost: u32) -> Result<Taken, Empty> {
        if cost > self.burst {
            return Err(Empty::Always);
        }
        let full_at = bucket.max(now).saturating_add(self.interval.saturating_mul(u64::from(cost)));
        let missing = full_at - now;
        match missing.checked_sub(self.whole()) {
            Some(over) if over > 0 => Err(Empty::For(Duration::from_nanos(over))),
            _ => Ok(Taken { full_at, remaining: self.remaining(full_at, now) }),
        }
    }

    /// Tokens in the bucket at `now`.
    pub(crate) fn remaining(self, bucket: FullAt, now: u64) -> u32 {
        let missing = bucket.saturating_sub(now).div_ceil(self.interval);
        u32::try_from(u64::from(self.burst).saturating_sub(missing)).unwrap_or(u32::MAX)
    }

    /// How long until the bucket is full.
    pub(crate) fn until_full(bucket: FullAt, now: u64) -> Duration {
        Duration::from_nanos(bucket.saturating_sub(now))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let rate = Rate::new(10, Duration::from_secs(1), 3);
        let mut bucket = 0;
        for left in [2, 1, 0] {
            let taken = rate.take(bucket, SECOND, 1).unwrap();
            assert_eq!(taken.remaining, left);
            bucket = taken.full_at;
        }
        let Err(Empty::For(wait)) = rate.take(bucket, SECOND, 1) else { panic!("the bucket is empty") };
        assert_eq!(wait, Duration::from_millis(100));
        let later = SECOND + u64::try_from(wait.as_nanos()).unwrap();
        assert!(rate.take(bucket, later, 1).is_ok() && rate.take(bucket, later - 1, 1).is_err());
        assert_eq!(rate.take(bucket, SECOND, 4), Err(Empty::Always));
    }

    proptest! {
        /// Whatever is asked and when: in no stretch of time does more pass than the burst and what came in that time.
        #[test]
        fn no_more_passes_than_the_burst_and_the_rate(
            count in 1_u32..1_000,
            burst in 1_u32..100,
            asked in proptest::collection::vec((0_u64..200_000_000, 1_u32..5), 1..300),
        ) {
            let rate = Rate::new(count, Duration::from_secs(1), burst);
            let (mut now, mut bucket, mut passed) = (SECOND, 0, 0_u64);
            for (pause, cost) in asked {
                now += pause;
                match rate.take(bucket, now, cost) {
                    Ok(taken) => {
                        bucket = taken.full_at;
                        passed += u64::from(cost);
                        prop_assert_eq!(taken.remaining, rate.remaining(bucket, now));
                    }
                    Err(Empty::For(wait)) => {
                        let then = now + u64::try_from(wait.as_nanos()).unwrap();
                        prop_assert!(rate.take(bucket, then, cost).is_ok(), "who waits as told is let through");
                    }
                    Err(Empty::Always) => prop_assert!(cost > burst),
                }
                let came = u128::from(now - SECOND) * u128::from(count) / u128::from(SECOND);
                // The interval is rounded down to whole nanoseconds, which lets a little more through in a long time.
                let slack = 1 + came / 100_000;
                prop_assert!(u128::from(passed) <= u128::from(burst) + came + slack);
            }
        }
    }
}
