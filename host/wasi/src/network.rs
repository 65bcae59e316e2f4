//! Which addresses a store may use, and which name led to each.
//!
//! A guest looks a name up and connects to an address, so that the grant, which names a host, must be found again from
//! the address. wasmtime checks each address once more where it is used; that check only knows what was decided here.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::{Mutex, MutexGuard, PoisonError},
};

use wasmtime_wasi::sockets::SocketAddrUse;
use witan_capability::{Action, HostFunction, Meter, Permit, Resource};
use witan_system::HostName;

use crate::{guard::Refusal, view::View};

/// Addresses and names that are remembered for one store. What goes beyond has no name, and is decided without.
const REMEMBERED: usize = 1024;

/// What a store knows of the network.
#[derive(Default)]
pub(crate) struct Network(Mutex<Known>);

#[derive(Default)]
struct Known {
    names: HashMap<IpAddr, String>,
    remotes: HashSet<(Transport, IpAddr, u16)>,
    locals: HashSet<(Transport, IpAddr, u16)>,
    listening: bool,
    /// The names behind look-ups that are under way, by their number in the table.
    lookups: HashMap<u32, String>,
}

/// What a grant for one is no grant for the other.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Transport {
    Tcp,
    Udp,
}

fn key(transport: Transport, address: SocketAddr) -> (Transport, IpAddr, u16) {
    (transport, address.ip().to_canonical(), address.port())
}

impl Network {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether what wasmtime is about to do with `address` was decided before.
    pub(crate) fn permits(&self, address: SocketAddr, used_for: SocketAddrUse) -> bool {
        let known = self.known();
        let (tcp, udp) = (key(Transport::Tcp, address), key(Transport::Udp, address));
        match used_for {
            SocketAddrUse::TcpConnect => known.remotes.contains(&tcp),
            SocketAddrUse::UdpSend => known.remotes.contains(&udp),
            // Whoever was let bind an address hears who speaks to it; everyone else hears who was spoken to.
            SocketAddrUse::UdpReceive => {
                known.remotes.contains(&udp) || known.locals.iter().any(|(transport, ..)| *transport == Transport::Udp)
            }
            // Any free port of one's own: what every connection starts from.
            SocketAddrUse::TcpBind => is_free(address) || known.locals.contains(&tcp),
            SocketAddrUse::UdpBind => is_free(address) || known.locals.contains(&udp),
            SocketAddrUse::TcpListen | SocketAddrUse::TcpAccept => known.listening,
        }
    }
}

/// The local address of a socket that has none yet.
pub(crate) fn unbound() -> SocketAddr {
    (std::net::Ipv4Addr::UNSPECIFIED, 0).into()
}

fn is_free(address: SocketAddr) -> bool {
    address.port() == 0 && address.ip().to_canonical().is_unspecified()
}

impl View<'_> {
    /// Enters the making of a socket.
    pub(crate) fn socket(&self, function: HostFunction) -> Result<Permit, Refusal> {
        let permit = self.using_socket(function)?;
        self.wasi.call.account.charge(Meter::Sockets, 1)?;
        Ok(permit)
    }

    /// Enters a function that uses a socket which leads to addresses that were decided.
    pub(crate) fn using_socket(&self, function: HostFunction) -> Result<Permit, Refusal> {
        self.wasi.enter(function, Action::Handle, &Resource::None)
    }

    /// Enters a function that connects to an address or sends to it.
    pub(crate) fn connecting(
        &self,
        function: HostFunction,
        transport: Transport,
        address: SocketAddr,
    ) -> Result<Permit, Refusal> {
        let name = self.wasi.network.known().names.get(&address.ip().to_canonical()).cloned();
        let resource = Resource::Address { name: name.as_deref(), address };
        let known = self.wasi.network.known().remotes.contains(&key(transport, address));
        let action = if known { Action::Handle } else { Action::SocketConnect };
        let permit = self.wasi.enter(function, action, &resource)?;
        let mut known = self.wasi.network.known();
        if known.remotes.len() >= REMEMBERED {
            known.remotes.clear();
        }
        known.remotes.insert(key(transport, address));
        Ok(permit)
    }

    /// Enters a function that sends a datagram, to an address or to where the socket is connected.
    pub(crate) fn maybe_connecting(
        &self,
        function: HostFunction,
        address: Option<SocketAddr>,
    ) -> Result<Permit, Refusal> {
        match address {
            Some(address) => self.connecting(function, Transport::Udp, address),
            None => self.using_socket(function),
        }
    }

    /// Enters a function that binds a socket. Any free port without an address of its own is no more than what every
    /// connection does.
    pub(crate) fn binding(
        &self,
        function: HostFunction,
        transport: Transport,
        address: SocketAddr,
    ) -> Result<Permit, Refusal> {
        if is_free(address) {
            return self.using_socket(function);
        }
        let permit = self.wasi.enter(function, Action::SocketBind, &Resource::Address { name: None, address })?;
        let mut known = self.wasi.network.known();
        if known.locals.len() >= REMEMBERED {
            known.locals.clear();
        }
        known.locals.insert(key(transport, address));
        Ok(permit)
    }

    /// Enters a function that lets others connect to a socket.
    pub(crate) fn listening(&self, function: HostFunction, address: SocketAddr) -> Result<Permit, Refusal> {
        let permit = self.wasi.enter(function, Action::SocketBind, &Resource::Address { name: None, address })?;
        self.wasi.network.known().listening = true;
        Ok(permit)
    }

    /// Enters a look-up, and says how the name is written for the resolver.
    pub(crate) fn looking_up(&self, function: HostFunction, name: &str) -> Result<(String, Permit), Refusal> {
        let host: HostName =
            name.parse().map_err(|_| Refusal::Code(std::io::Error::from(std::io::ErrorKind::InvalidInput)))?;
        let name = host.to_string();
        let permit = self.wasi.enter(function, Action::DnsLookup, &Resource::Host { name: &name, port: 0 })?;
        Ok((name, permit))
    }

    /// Remembers that a look-up under way is for `name`.
    pub(crate) fn lookup_began(&self, lookup: u32, name: String) {
        self.wasi.network.known().lookups.insert(lookup, name);
    }

    /// Forgets a look-up that the guest has dropped.
    pub(crate) fn lookup_ended(&self, lookup: u32) {
        self.wasi.network.known().lookups.remove(&lookup);
    }

    /// Remembers what the look-up led to.
    pub(crate) fn lookup_found(&self, lookup: u32, address: IpAddr) {
        let name = self.wasi.network.known().lookups.get(&lookup).cloned();
        if let Some(name) = name {
            self.found(&name, address);
        }
    }

    /// Remembers that `name` led to `address`.
    pub(crate) fn found(&self, name: &str, address: IpAddr) {
        let mut known = self.wasi.network.known();
        if known.names.len() < REMEMBERED {
            known.names.insert(address.to_canonical(), name.to_owned());
        }
    }

    /// Charges bytes that leave this machine.
    pub(crate) fn sent(&self, bytes: u64) -> Result<(), Refusal> {
        Ok(self.wasi.call.account.charge(Meter::BytesOut, bytes)?)
    }

    /// What charges the writes of a stream that leads off this machine.
    pub(crate) fn sending(&self) -> crate::stream::Charge {
        let account = self.wasi.call.account.clone();
        std::sync::Arc::new(move |bytes| Ok(account.charge(Meter::BytesOut, bytes)?))
    }
}
