//! Who has connections, and how many at once.
//!
//! A connection costs its client nothing, and is there before anybody knows who that is: without shares, one client that
//! holds all of them shuts everybody else out, the operator too.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use parking_lot::Mutex;
use witan_throttle::network;

use crate::{Settings, counts::Counts};

/// The share of one address is all places divided by this.
const EACH: usize = 4;
/// That of this machine, whose processes are one address together.
const HERE: usize = 2;
/// Places that nobody but this machine gets are all divided by this: its operator is let in when others hold the rest.
const RESERVED: usize = 16;

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Full {
    #[error("{0} connections are open, the most that are for whoever is not on this machine")]
    Others(usize),
    #[error("{0} connections are open, the most that this host takes")]
    Host(usize),
    #[error("{0} connections from this address are open, the most that one has")]
    Address(usize),
}

/// The places of a host. Cloning is cheap.
#[derive(Clone, Debug)]
pub(crate) struct Places(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    most: usize,
    /// Whether each address has a share. Behind a proxy, all connections are the proxy's.
    shares: bool,
    /// By address.
    taken: Mutex<Counts<IpAddr>>,
}

/// The place of a connection, until this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Places,
    of: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.0.taken.lock().remove(&self.of);
    }
}

impl Places {
    pub(crate) fn new(settings: &Settings) -> Self {
        let (most, shares) = (settings.connections, !settings.behind_proxy);
        Self(Arc::new(Shared { most, shares, taken: Mutex::default() }))
    }

    /// A place for a connection from `address`.
    ///
    /// # Errors
    /// When those that it may have are taken.
    pub(crate) fn take(&self, address: IpAddr) -> Result<Place, Full> {
        let Shared { most, shares, taken } = &*self.0;
        let here = address.to_canonical().is_loopback();
        let of = if here { Ipv4Addr::LOCALHOST.into() } else { network(address) };
        let mut taken = taken.lock();
        let others = most - most / RESERVED;
        if taken.all() >= *most {
            return Err(Full::Host(*most));
        }
        if taken.all() >= others && !here {
            return Err(Full::Others(others));
        }
        let each = (most / if here { HERE } else { EACH }).max(1);
        if *shares && taken.of(&of) >= each {
            return Err(Full::Address(each));
        }
        taken.add(of);
        drop(taken);
        Ok(Place { places: self.clone(), of })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(behind_proxy: bool) -> Places {
        Places::new(&Settings { connections: 32, behind_proxy, ..Settings::default() })
    }

    fn take(places: &Places, address: &str) -> Result<Place, Full> {
        places.take(address.parse().unwrap())
    }

    fn taken(places: &Places, address: &str) -> Vec<Place> {
        std::iter::from_fn(|| take(places, address).ok()).collect()
    }

    #[test]
    fn an_address_has_its_share_and_gives_it_back() {
        let places = places(false);
        let mut held = taken(&places, "192.0.2.1");
        assert_eq!(held.len(), 8);
        assert_eq!(take(&places, "::ffff:192.0.2.1").unwrap_err(), Full::Address(8));
        held.pop();
        held.push(take(&places, "192.0.2.1").unwrap());
        // What one client has of IPv6 is a /64.
        let _others = ["2001:db8::1", "2001:db8:0:0:ffff::"].map(|address| take(&places, address).unwrap());
        assert_eq!(places.0.taken.lock().holders(), 2);
        drop(held);
        assert_eq!(places.0.taken.lock().holders(), 1);
    }

    #[test]
    fn some_places_are_for_this_machine_alone() {
        let places = places(false);
        let held: Vec<_> = (1..=4).flat_map(|last| taken(&places, &format!("192.0.2.{last}"))).collect();
        assert_eq!(held.len(), 30);
        assert_eq!(take(&places, "198.51.100.1").unwrap_err(), Full::Others(30));
        let own = [take(&places, "127.0.0.1").unwrap(), take(&places, "::1").unwrap()];
        assert_eq!(take(&places, "127.0.0.1").unwrap_err(), Full::Host(32));
        drop((held, own));
        assert_eq!(places.0.taken.lock().all(), 0);
    }

    #[test]
    fn this_machine_is_one_address_with_a_larger_share() {
        let places = places(false);
        let held = taken(&places, "127.0.0.1");
        assert_eq!((held.len(), take(&places, "127.9.9.9").unwrap_err()), (16, Full::Address(16)));
        assert!(take(&places, "192.0.2.1").is_ok());
    }

    #[test]
    fn a_proxy_has_all() {
        let places = places(true);
        let held = taken(&places, "192.0.2.1");
        assert_eq!((held.len(), take(&places, "192.0.2.2").unwrap_err()), (30, Full::Others(30)));
    }
}
