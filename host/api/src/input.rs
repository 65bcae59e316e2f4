//! What is read of a request before anybody is known, in one place for tests that send anything.

use std::net::{Ipv4Addr, SocketAddr};

use http::{HeaderMap, Request};
use witan_identity::Peer;

use crate::{Hosts, asks, auth, gate};

/// What the front makes of the headers of a request.
#[derive(Debug)]
pub struct Read<'a> {
    /// Whether it is for this host, and from no page of another origin.
    pub ours: bool,
    /// Who sends it, by what a proxy in front says.
    pub peer: Peer,
    /// What it weighs among the requests of its client; at least one.
    pub cost: u32,
    /// The cookie of a login; empty without one.
    pub cookie: &'a str,
}

/// Reads the headers of `request` as the front of a host does that is reached as `public`.
pub fn read<'a, B>(request: &'a Request<B>, public: &str) -> Read<'a> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080));
    let headers: &HeaderMap = request.headers();
    let _priority = asks::priority(headers);
    Read {
        ours: Hosts::of(address).check_with(request, Some(public)).is_ok(),
        peer: gate::peer(address, headers, true),
        cost: asks::cost(headers),
        cookie: auth::cookie(headers),
    }
}
