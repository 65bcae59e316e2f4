//! wasi:sockets 0.2: TCP, UDP and name look-up, where they were granted.

use wasmtime::{Result, component::Resource};
use wasmtime_wasi::p2::{
    SocketError, SocketResult,
    bindings::sockets::{
        instance_network, ip_name_lookup,
        network::{self, ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress, Network},
        tcp::{self, HostTcpSocket, ShutdownType, TcpSocket},
        tcp_create_socket,
        udp::{
            self, HostOutgoingDatagramStream, IncomingDatagram, IncomingDatagramStream, OutgoingDatagram,
            OutgoingDatagramStream, UdpSocket,
        },
        udp_create_socket,
    },
};
use wasmtime_wasi_io::{
    poll::DynPollable,
    streams::{DynInputStream, DynOutputStream},
};

use crate::{
    guard::guarded,
    network::{Transport, unbound},
    stream::charged,
    view::View,
};

type Tcp = Resource<TcpSocket>;
type Udp = Resource<UdpSocket>;
type Net = Resource<Network>;
type Incoming = Resource<IncomingDatagramStream>;
type Outgoing = Resource<OutgoingDatagramStream>;
type Input = Resource<DynInputStream>;
type Output = Resource<DynOutputStream>;
type Lookup = Resource<ip_name_lookup::ResolveAddressStream>;

guarded! {
    NETWORK: "wasi:sockets/network@0.2.12", network::Host, via sockets;
    also {
        fn convert_error_code(&mut self, error: SocketError) -> Result<ErrorCode> {
            error.downcast()
        }

        // Behind a feature gate of WASI that stays shut, so that it is never linked.
        fn network_error_code(&mut self, error: Resource<wasmtime::Error>) -> Result<Option<ErrorCode>> {
            network::Host::network_error_code(&mut self.sockets(), error)
        }
    }
}

impl network::HostNetwork for View<'_> {
    fn drop(&mut self, network: Net) -> Result<()> {
        network::HostNetwork::drop(&mut self.sockets(), network)
    }
}

guarded! {
    INSTANCE_NETWORK: "wasi:sockets/instance-network@0.2.12", instance_network::Host, via sockets;
    ["instance-network"] sync fn instance_network(&mut self) -> Result<Net> = using_socket();
}

guarded! {
    LOOKUP: "wasi:sockets/ip-name-lookup@0.2.12", ip_name_lookup::Host, via sockets;
    ["resolve-addresses"] sync fn resolve_addresses(&mut self, network: Net, name: String) -> SocketResult<Lookup> = custom (function) {
        let (name, _permit) = self.looking_up(function, &name)?;
        let lookup = ip_name_lookup::Host::resolve_addresses(&mut self.sockets(), network, name.clone())?;
        self.lookup_began(lookup.rep(), name);
        Ok(lookup)
    };
}

guarded! {
    ADDRESSES: "wasi:sockets/ip-name-lookup@0.2.12", ip_name_lookup::HostResolveAddressStream, via sockets;
    ["[method]resolve-address-stream.resolve-next-address"] sync fn resolve_next_address(&mut self, this: Lookup) -> SocketResult<Option<IpAddress>> = custom (function) {
        let _permit = self.using_socket(function)?;
        let lookup = this.rep();
        let next = ip_name_lookup::HostResolveAddressStream::resolve_next_address(&mut self.sockets(), this)?;
        if let Some(address) = next {
            self.lookup_found(lookup, ip(address));
        }
        Ok(next)
    };
    ["[method]resolve-address-stream.subscribe"] sync fn subscribe(&mut self, this: Lookup) -> Result<Resource<DynPollable>> = using_socket();
    also {
        fn drop(&mut self, this: Lookup) -> Result<()> {
            self.lookup_ended(this.rep());
            ip_name_lookup::HostResolveAddressStream::drop(&mut self.sockets(), this)
        }
    }
}

pub(crate) fn ip(address: IpAddress) -> std::net::IpAddr {
    match address {
        IpAddress::Ipv4((a, b, c, d)) => [a, b, c, d].into(),
        IpAddress::Ipv6((a, b, c, d, e, f, g, h)) => [a, b, c, d, e, f, g, h].into(),
    }
}

guarded! {
    TCP_CREATE: "wasi:sockets/tcp-create-socket@0.2.12", tcp_create_socket::Host, via sockets;
    ["create-tcp-socket"] sync fn create_tcp_socket(&mut self, family: IpAddressFamily) -> SocketResult<Tcp> = socket();
}

guarded! {
    UDP_CREATE: "wasi:sockets/udp-create-socket@0.2.12", udp_create_socket::Host, via sockets;
    ["create-udp-socket"] async fn create_udp_socket(&mut self, family: IpAddressFamily) -> SocketResult<Udp> = socket();
}

impl tcp::Host for View<'_> {}

guarded! {
    TCP: "wasi:sockets/tcp@0.2.12", tcp::HostTcpSocket, via sockets;
    ["[method]tcp-socket.start-bind"] async fn start_bind(&mut self, this: Tcp, network: Net, local_address: IpSocketAddress) -> SocketResult<()> = binding(Transport::Tcp, local_address.into());
    ["[method]tcp-socket.finish-bind"] sync fn finish_bind(&mut self, this: Tcp) -> SocketResult<()> = using_socket();
    ["[method]tcp-socket.start-connect"] sync fn start_connect(&mut self, this: Tcp, network: Net, remote_address: IpSocketAddress) -> SocketResult<()> = connecting(Transport::Tcp, remote_address.into());
    ["[method]tcp-socket.finish-connect"] sync fn finish_connect(&mut self, this: Tcp) -> SocketResult<(Input, Output)> = custom (function) {
        let _permit = self.using_socket(function)?;
        let (input, output) = HostTcpSocket::finish_connect(&mut self.sockets(), this)?;
        let charge = self.sending();
        charged(self.table, &output, charge).map_err(SocketError::trap)?;
        Ok((input, output))
    };
    ["[method]tcp-socket.start-listen"] async fn start_listen(&mut self, this: Tcp) -> SocketResult<()> = custom (function) {
        let local = HostTcpSocket::local_address(&mut self.sockets(), Resource::new_borrow(this.rep()));
        let _permit = self.listening(function, local.map_or_else(|_| unbound(), Into::into))?;
        HostTcpSocket::start_listen(&mut self.sockets(), this).await
    };
    ["[method]tcp-socket.finish-listen"] sync fn finish_listen(&mut self, this: Tcp) -> SocketResult<()> = using_socket();
    ["[method]tcp-socket.accept"] sync fn accept(&mut self, this: Tcp) -> SocketResult<(Tcp, Input, Output)> = custom (function) {
        let _permit = self.socket(function)?;
        let (socket, input, output) = HostTcpSocket::accept(&mut self.sockets(), this)?;
        let charge = self.sending();
        charged(self.table, &output, charge).map_err(SocketError::trap)?;
        Ok((socket, input, output))
    };
    ["[method]tcp-socket.local-address"] sync fn local_address(&mut self, this: Tcp) -> SocketResult<IpSocketAddress> = using_socket();
    ["[method]tcp-socket.remote-address"] sync fn remote_address(&mut self, this: Tcp) -> SocketResult<IpSocketAddress> = using_socket();
    ["[method]tcp-socket.is-listening"] sync fn is_listening(&mut self, this: Tcp) -> Result<bool> = using_socket();
    ["[method]tcp-socket.address-family"] sync fn address_family(&mut self, this: Tcp) -> Result<IpAddressFamily> = using_socket();
    ["[method]tcp-socket.set-listen-backlog-size"] sync fn set_listen_backlog_size(&mut self, this: Tcp, value: u64) -> SocketResult<()> = using_socket();
    ["[method]tcp-socket.keep-alive-enabled"] sync fn keep_alive_enabled(&mut self, this: Tcp) -> SocketResult<bool> = using_socket();
    ["[method]tcp-socket.set-keep-alive-enabled"] sync fn set_keep_alive_enabled(&mut self, this: Tcp, value: bool) -> SocketResult<()> = using_socket();
    ["[method]tcp-socket.keep-alive-idle-time"] sync fn keep_alive_idle_time(&mut self, this: Tcp) -> SocketResult<u64> = using_socket();
    ["[method]tcp-socket.set-keep-alive-idle-time"] sync fn set_keep_alive_idle_time(&mut self, this: Tcp, value: u64) -> SocketResult<()> = using_socket();
    ["[method]tcp-socket.keep-alive-interval"] sync fn keep_alive_interval(&mut self, this: Tcp) -> SocketResult<u64> = using_socket();
    ["[method]tcp-socket.set-keep-alive-interval"] sync fn set_keep_alive_interval(&mut self, this: Tcp, value: u64) -> SocketResult<()> = using_socket();
    ["[method]tcp-socket.keep-alive-count"] sync fn keep_alive_count(&mut self, this: Tcp) -> SocketResult<u32> = using_socket();
    ["[method]tcp-socket.set-keep-alive-count"] sync fn set_keep_alive_count(&mut self, this: Tcp, value: u32) -> SocketResult<()> = using_socket();
    ["[method]tcp-socket.hop-limit"] sync fn hop_limit(&mut self, this: Tcp) -> SocketResult<u8> = using_socket();
    ["[method]tcp-socket.set-hop-limit"] sync fn set_hop_limit(&mut self, this: Tcp, value: u8) -> SocketResult<()> = using_socket();
    ["[method]tcp-socket.receive-buffer-size"] sync fn receive_buffer_size(&mut self, this: Tcp) -> SocketResult<u64> = using_socket();
    ["[method]tcp-socket.set-receive-buffer-size"] sync fn set_receive_buffer_size(&mut self, this: Tcp, value: u64) -> SocketResult<()> = using_socket();
    ["[method]tcp-socket.send-buffer-size"] sync fn send_buffer_size(&mut self, this: Tcp) -> SocketResult<u64> = using_socket();
    ["[method]tcp-socket.set-send-buffer-size"] sync fn set_send_buffer_size(&mut self, this: Tcp, value: u64) -> SocketResult<()> = using_socket();
    ["[method]tcp-socket.subscribe"] sync fn subscribe(&mut self, this: Tcp) -> Result<Resource<DynPollable>> = using_socket();
    ["[method]tcp-socket.shutdown"] sync fn shutdown(&mut self, this: Tcp, shutdown_type: ShutdownType) -> SocketResult<()> = using_socket();
    also {
        fn drop(&mut self, this: Tcp) -> Result<()> {
            HostTcpSocket::drop(&mut self.sockets(), this)
        }
    }
}

impl udp::Host for View<'_> {}

guarded! {
    UDP: "wasi:sockets/udp@0.2.12", udp::HostUdpSocket, via sockets;
    ["[method]udp-socket.start-bind"] async fn start_bind(&mut self, this: Udp, network: Net, local_address: IpSocketAddress) -> SocketResult<()> = binding(Transport::Udp, local_address.into());
    ["[method]udp-socket.finish-bind"] sync fn finish_bind(&mut self, this: Udp) -> SocketResult<()> = using_socket();
    ["[method]udp-socket.stream"] async fn stream(&mut self, this: Udp, remote_address: Option<IpSocketAddress>) -> SocketResult<(Incoming, Outgoing)> = maybe_connecting(remote_address.map(Into::into));
    ["[method]udp-socket.local-address"] sync fn local_address(&mut self, this: Udp) -> SocketResult<IpSocketAddress> = using_socket();
    ["[method]udp-socket.remote-address"] sync fn remote_address(&mut self, this: Udp) -> SocketResult<IpSocketAddress> = using_socket();
    ["[method]udp-socket.address-family"] sync fn address_family(&mut self, this: Udp) -> Result<IpAddressFamily> = using_socket();
    ["[method]udp-socket.unicast-hop-limit"] sync fn unicast_hop_limit(&mut self, this: Udp) -> SocketResult<u8> = using_socket();
    ["[method]udp-socket.set-unicast-hop-limit"] sync fn set_unicast_hop_limit(&mut self, this: Udp, value: u8) -> SocketResult<()> = using_socket();
    ["[method]udp-socket.receive-buffer-size"] sync fn receive_buffer_size(&mut self, this: Udp) -> SocketResult<u64> = using_socket();
    ["[method]udp-socket.set-receive-buffer-size"] sync fn set_receive_buffer_size(&mut self, this: Udp, value: u64) -> SocketResult<()> = using_socket();
    ["[method]udp-socket.send-buffer-size"] sync fn send_buffer_size(&mut self, this: Udp) -> SocketResult<u64> = using_socket();
    ["[method]udp-socket.set-send-buffer-size"] sync fn set_send_buffer_size(&mut self, this: Udp, value: u64) -> SocketResult<()> = using_socket();
    ["[method]udp-socket.subscribe"] sync fn subscribe(&mut self, this: Udp) -> Result<Resource<DynPollable>> = using_socket();
    also {
        fn drop(&mut self, this: Udp) -> Result<()> {
            udp::HostUdpSocket::drop(&mut self.sockets(), this)
        }
    }
}

guarded! {
    INCOMING: "wasi:sockets/udp@0.2.12", udp::HostIncomingDatagramStream, via sockets;
    ["[method]incoming-datagram-stream.receive"] sync fn receive(&mut self, this: Incoming, max_results: u64) -> SocketResult<Vec<IncomingDatagram>> = using_socket();
    ["[method]incoming-datagram-stream.subscribe"] sync fn subscribe(&mut self, this: Incoming) -> Result<Resource<DynPollable>> = using_socket();
    also {
        fn drop(&mut self, this: Incoming) -> Result<()> {
            udp::HostIncomingDatagramStream::drop(&mut self.sockets(), this)
        }
    }
}

guarded! {
    OUTGOING: "wasi:sockets/udp@0.2.12", udp::HostOutgoingDatagramStream, via sockets;
    ["[method]outgoing-datagram-stream.check-send"] sync fn check_send(&mut self, this: Outgoing) -> SocketResult<u64> = using_socket();
    ["[method]outgoing-datagram-stream.send"] sync fn send(&mut self, this: Outgoing, datagrams: Vec<OutgoingDatagram>) -> SocketResult<u64> = custom (function) {
        let mut _permit = self.using_socket(function)?;
        for datagram in &datagrams {
            _permit = self.maybe_connecting(function, datagram.remote_address.map(Into::into))?;
            self.sent(datagram.data.len() as u64)?;
        }
        HostOutgoingDatagramStream::send(&mut self.sockets(), this, datagrams)
    };
    ["[method]outgoing-datagram-stream.subscribe"] sync fn subscribe(&mut self, this: Outgoing) -> Result<Resource<DynPollable>> = using_socket();
    also {
        async fn drop(&mut self, this: Outgoing) -> Result<()> {
            HostOutgoingDatagramStream::drop(&mut self.sockets(), this).await
        }
    }
}
