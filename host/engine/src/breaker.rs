//! A circuit breaker: a component that traps again and again is left alone for a while.

use std::time::Instant;

use parking_lot::Mutex;
use witan_system::Breaker as Settings;

pub(crate) struct Breaker {
    settings: Settings,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    traps: u32,
    opened: u32,
    until: Option<Instant>,
}

impl Breaker {
    pub(crate) fn new(settings: Settings) -> Self {
        Self { settings, state: Mutex::default() }
    }

    /// Whether a call may pass. While open none may; when the time is over, one may, to try.
    pub(crate) fn admits(&self) -> bool {
        let mut state = self.state.lock();
        match state.until {
            Some(until) if Instant::now() < until => false,
            Some(_) => {
                // The next call waits as long again unless this one succeeds.
                state.open(&self.settings);
                true
            }
            None => true,
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.state.lock().until.is_some()
    }

    /// Notes how a call ended.
    pub(crate) fn record(&self, trapped: bool) {
        let mut state = self.state.lock();
        if !trapped {
            if state.traps > 0 || state.until.is_some() {
                *state = State::default();
            }
            return;
        }
        state.traps += 1;
        if state.traps == self.settings.traps {
            state.open(&self.settings);
        }
    }
}

impl State {
    fn open(&mut self, settings: &Settings) {
        let time = settings.time.saturating_mul(1 << self.opened.min(30)).min(settings.longest);
        self.opened += 1;
        self.until = Some(Instant::now() + time);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn opens_after_traps_in_a_row_and_closes_on_success() {
        let breaker = Breaker::new(Settings::default());
        for _ in 1..Settings::default().traps {
            breaker.record(true);
        }
        breaker.record(false);
        for _ in 1..Settings::default().traps {
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
        let breaker = Breaker::new(Settings::default());
        for _ in 0..Settings::default().traps {
            breaker.record(true);
        }
        breaker.state.lock().until = Some(Instant::now());
        assert!(breaker.admits());
        assert!(!breaker.admits());
    }

    #[test]
    fn opens_after_as_many_traps_and_for_as_long_as_is_set() {
        let (time, longest) = (Duration::from_secs(100), Duration::from_secs(250));
        let breaker = Breaker::new(Settings { traps: 1, time, longest });
        breaker.record(true);
        for expected in [time, 2 * time, longest, longest] {
            let mut state = breaker.state.lock();
            let left = state.until.unwrap().duration_since(Instant::now());
            assert!(left <= expected && left > expected - time / 2, "{left:?} of {expected:?}");
            state.until = Some(Instant::now());
            drop(state);
            assert!(breaker.admits() && !breaker.admits());
        }
        breaker.record(false);
        assert!(!breaker.is_open());
    }
}
