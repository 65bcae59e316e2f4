//! How often a client may ask.

use std::{
    net::IpAddr,
    num::NonZeroU32,
    sync::atomic::{AtomicU64, Ordering},
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock as _, MonotonicClock},
    middleware::NoOpMiddleware,
    state::keyed::HashMapStateStore,
};
use uuid::Uuid;

use crate::{Limits, Refusal};

/// Clients that are remembered before those who have not asked for a while are forgotten.
const REMEMBERED: u64 = 10_000;

type Keyed<K> = RateLimiter<K, HashMapStateStore<K>, MonotonicClock, NoOpMiddleware<std::time::Instant>>;

/// Who is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Who {
    /// Whoever has a token, wherever it asks from.
    Token(Uuid),
    /// Whoever has none, by address. Addresses of IPv6 are handed out by networks of 64 bits.
    Address(IpAddr),
}

impl Who {
    pub(crate) fn address(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(v6) => Self::Address(IpAddr::V6((v6.to_bits() >> 64 << 64).into())),
            v4 => Self::Address(v4),
        }
    }
}

/// Counts requests and wrong secrets.
pub(crate) struct Limiter {
    requests: Keyed<Who>,
    wrong: Keyed<Who>,
    asked: AtomicU64,
    clock: MonotonicClock,
}

fn limiter(quota: Quota) -> Keyed<Who> {
    RateLimiter::new(quota, HashMapStateStore::default(), MonotonicClock)
}

impl Limiter {
    pub(crate) fn new(limits: &Limits) -> Self {
        let least = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        let requests = Quota::per_second(least(limits.requests_per_second)).allow_burst(least(limits.request_burst));
        let wrong = Quota::per_minute(least(limits.wrong_secrets_per_minute));
        Self { requests: limiter(requests), wrong: limiter(wrong), asked: AtomicU64::new(0), clock: MonotonicClock }
    }

    /// Counts a request of `who`.
    pub(crate) fn request(&self, who: Who) -> Result<(), Refusal> {
        if self.asked.fetch_add(1, Ordering::Relaxed) % REMEMBERED == REMEMBERED - 1 {
            self.requests.retain_recent();
            self.wrong.retain_recent();
        }
        self.check(&self.requests, who)
    }

    /// Counts a wrong secret from `who`.
    pub(crate) fn wrong_secret(&self, who: Who) -> Result<(), Refusal> {
        self.check(&self.wrong, who)
    }

    fn check(&self, limiter: &Keyed<Who>, who: Who) -> Result<(), Refusal> {
        limiter.check_key(&who).map_err(|until| {
            let wait = until.wait_time_from(self.clock.now());
            Refusal::TooMany(wait.as_secs().saturating_add(1))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_s_haste_is_not_another_s() {
        let limiter = Limiter::new(&Limits { requests_per_second: 1, request_burst: 2, ..Limits::default() });
        let (hasty, other) = (Who::Token(Uuid::from_u128(1)), Who::Token(Uuid::from_u128(2)));
        assert!(limiter.request(hasty).is_ok());
        assert!(limiter.request(hasty).is_ok());
        assert!(matches!(limiter.request(hasty), Err(Refusal::TooMany(1..=2))));
        assert!(limiter.request(other).is_ok());
    }

    #[test]
    fn a_network_of_ipv6_is_one_client() {
        let of = |text: &str| Who::address(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
    }
}
