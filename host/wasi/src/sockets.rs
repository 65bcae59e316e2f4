//! Sockets, which lead off this machine, and so need a grant for each host.

use wasmtime::component::Linker;
use wasmtime_wasi::{p2 as wasip2, p3 as wasip3};
use witan_capability::{CallState, Capability, HostFunction};
use witan_system::Grants;

use crate::{
    p2, p3,
    view::{Guarded, view},
};

/// wasi:sockets, 0.2 and 0.3.
pub struct Sockets;

const TABLES: &[&[HostFunction]] = &[
    p2::sockets::NETWORK,
    p2::sockets::INSTANCE_NETWORK,
    p2::sockets::LOOKUP,
    p2::sockets::ADDRESSES,
    p2::sockets::TCP_CREATE,
    p2::sockets::UDP_CREATE,
    p2::sockets::TCP,
    p2::sockets::UDP,
    p2::sockets::INCOMING,
    p2::sockets::OUTGOING,
    p3::sockets::LOOKUP,
    p3::sockets::TCP,
    p3::sockets::TCP_CONCURRENT,
    p3::sockets::UDP,
    p3::sockets::UDP_CONCURRENT,
];

impl Capability for Sockets {
    fn name(&self) -> &'static str {
        "sockets"
    }

    fn serves(&self, interface: &str) -> bool {
        let network = crate::serves("wasi:sockets/network@0.2.12", interface);
        network || TABLES.concat().iter().any(|function| crate::serves(function.interface, interface))
    }

    fn granted(&self, grants: &Grants) -> bool {
        !grants.sockets.is_empty()
    }

    fn remedy(&self) -> &'static str {
        "sockets = [{ host = \"example.org\", port = 443 }]"
    }

    fn add_to_linker(&self, linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
        {
            use wasip2::bindings::sockets::{
                instance_network, ip_name_lookup, network, tcp, tcp_create_socket, udp, udp_create_socket,
            };
            network::add_to_linker::<_, Guarded>(linker, &network::LinkOptions::default(), view)?;
            instance_network::add_to_linker::<_, Guarded>(linker, view)?;
            ip_name_lookup::add_to_linker::<_, Guarded>(linker, view)?;
            tcp_create_socket::add_to_linker::<_, Guarded>(linker, view)?;
            udp_create_socket::add_to_linker::<_, Guarded>(linker, view)?;
            tcp::add_to_linker::<_, Guarded>(linker, view)?;
            udp::add_to_linker::<_, Guarded>(linker, view)?;
        }
        use wasip3::bindings::sockets::{ip_name_lookup, types};
        types::add_to_linker::<_, Guarded>(linker, view)?;
        ip_name_lookup::add_to_linker::<_, Guarded>(linker, view)
    }

    fn functions(&self) -> Vec<HostFunction> {
        TABLES.concat()
    }
}
