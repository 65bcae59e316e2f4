//! Clients that do not wait when they are told to.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

/// Refusals in a row that are told at once: those who were many at the same time are not those who do not listen.
const AT_ONCE: u32 = 8;
/// How much later each further one is told.
const STEP: Duration = Duration::from_millis(10);
/// The latest that one is told.
const LONGEST: Duration = Duration::from_secs(1);

/// How often requests on a connection were refused for their rate since the last that was not.
///
/// To refuse costs little, and a client that asks again at once has the host do nothing else. It is told later each time,
/// while nothing is held for it but its connection.
#[derive(Debug, Default)]
pub(crate) struct Refusals(AtomicU32);

impl Refusals {
    /// A request was let through.
    pub(crate) fn forget(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// A request was refused: waits until that is to be told.
    pub(crate) async fn delay(&self) {
        let before = self.0.fetch_add(1, Ordering::Relaxed);
        if let Some(delay) = delay(before) {
            tokio::time::sleep(delay).await;
        }
    }
}

/// How much later a refusal is told that comes after `before` others.
fn delay(before: u32) -> Option<Duration> {
    let steps = before.checked_sub(AT_ONCE)?.saturating_add(1);
    Some(STEP.saturating_mul(steps).min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_again_at_once_is_told_later_each_time_up_to_a_bound() {
        assert_eq!([0, 7, 8, 9].map(delay), [None, None, Some(STEP), Some(STEP * 2)]);
        assert_eq!([107, 108, u32::MAX].map(delay), [Some(LONGEST); 3]);
    }

    #[tokio::test]
    async fn who_was_let_through_begins_anew() {
        let refusals = Refusals::default();
        for _ in 0..AT_ONCE {
            refusals.delay().await;
        }
        assert!(delay(refusals.0.load(Ordering::Relaxed)).is_some());
        refusals.forget();
        assert_eq!(delay(refusals.0.load(Ordering::Relaxed)), None);
    }
}
