//! A circuit breaker: a component that traps again and again is left alone for a while.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Traps in a row that open the breaker.
const TRAPS: u32 = 5;

/// How long it stays open at first; each further time twice as long.
const OPEN: Duration = Duration::from_secs(1);

/// How long it stays open at most.
const OPEN_MOST: Duration = Duration::from_secs(30);

#[derive(Default)]
pub(crate) struct Breaker(Mutex<State>);

#[derive(Default)]
struct State {
    traps: u32,
    opened: u32,
    until: Option<Instant>,
}

impl Breaker {
    /// Whether a call may pass. While open none may; when the time is over, one may, to try.
    pub(crate) fn admits(&self) -> bool {
        let mut state = self.0.lock();
        match state.until {
            Some(until) if Instant::now() < until => false,
            Some(_) => {
                // The next call waits as long again unless this one succeeds.
                state.open();
                true
            }
            None => true,
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.0.lock().until.is_some()
    }

    /// Notes how a call ended.
    pub(crate) fn record(&self, trapped: bool) {
        let mut state = self.0.lock();
        if !trapped {
            if state.traps > 0 || state.until.is_some() {
                *state = State::default();
            }
            return;
        }
        state.traps += 1;
        if state.traps == TRAPS {
            state.open();
        }
    }
}

impl State {
    fn open(&mut self) {
        let time = OPEN.saturating_mul(1 << self.opened.min(5)).min(OPEN_MOST);
        self.opened += 1;
        self.until = Some(Instant::now() + time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_after_traps_in_a_row_and_closes_on_success() {
        let breaker = Breaker::default();
        for _ in 1..TRAPS {
            breaker.record(true);
        }
        breaker.record(false);
        for _ in 1..TRAPS {
            breaker.record(true);
            assert!(breaker.admits());
        }
        breaker.record(true);
        assert!(!breaker.admits() && breaker.is_open());
        breaker.record(false);
        assert!(breaker.admits());
    }

    #[test]
    fn lets_one_call_try_when_the_time_is_over() {
        let breaker = Breaker::default();
        for _ in 0..TRAPS {
            breaker.record(true);
        }
        breaker.0.lock().until = Some(Instant::now());
        assert!(breaker.admits());
        assert!(!breaker.admits());
    }
}
