//! Bad credentials, counted by address, so that nobody tries one after another.
//!
//! A key has 256 random bits and is not guessed; what is bounded is what trying costs this host and fills in its records.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// Bad credentials that an address may send within the time.
const MOST: u32 = 20;
/// The time.
const TIME: Duration = Duration::from_secs(60);
/// Addresses that are counted at once.
const ADDRESSES: usize = 10_000;

/// Counts bad credentials.
#[derive(Default)]
pub(crate) struct Attempts(Mutex<HashMap<IpAddr, (u32, Instant)>>);

impl Attempts {
    /// Whether `address` may try; if not, how long it must wait.
    pub(crate) fn check(&self, address: IpAddr) -> Result<(), Duration> {
        match self.0.lock().get(&network(address)) {
            Some((count, since)) if *count >= MOST => {
                let left = TIME.saturating_sub(since.elapsed());
                if left.is_zero() { Ok(()) } else { Err(left) }
            }
            _ => Ok(()),
        }
    }

    /// Counts a bad credential from `address`.
    pub(crate) fn failed(&self, address: IpAddr) {
        let mut counted = self.0.lock();
        if counted.len() >= ADDRESSES {
            counted.retain(|_, (_, since)| since.elapsed() < TIME);
        }
        if counted.len() >= ADDRESSES {
            // Whoever has so many addresses is not held by this; the map is.
            let any = counted.keys().next().copied();
            any.and_then(|any| counted.remove(&any));
        }
        let now = Instant::now();
        let (count, since) = counted.entry(network(address)).or_insert((0, now));
        if since.elapsed() >= TIME {
            (*count, *since) = (0, now);
        }
        *count = count.saturating_add(1);
    }
}

/// What one client has: an address, or of IPv6 a network of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_try_so_often() {
        let attempts = Attempts::default();
        let [one, other]: [IpAddr; 2] = ["2001:db8::1", "2001:db8:0:1::1"].map(|text| text.parse().unwrap());
        for _ in 0..MOST {
            assert_eq!(attempts.check(one), Ok(()));
            attempts.failed(one);
        }
        let left = attempts.check("2001:db8::2".parse().unwrap()).unwrap_err();
        assert!(left <= TIME && !left.is_zero());
        assert_eq!(attempts.check(other), Ok(()));
    }

    #[test]
    fn addresses_are_bounded() {
        let attempts = Attempts::default();
        for number in 0..u32::try_from(ADDRESSES).unwrap() + 100 {
            attempts.failed(IpAddr::V4(number.into()));
        }
        assert_eq!(attempts.0.lock().len(), ADDRESSES);
    }
}
