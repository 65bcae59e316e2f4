//! wasi:sockets 0.3: TCP, UDP and name look-up, where they were granted.

use std::net::SocketAddr;

use wasmtime::{
    AsContextMut as _, Result,
    component::{Access, FutureReader, Resource, StreamReader},
};
use wasmtime_wasi::{
    p3::{
        bindings::sockets::{
            ip_name_lookup,
            types::{
                self, Duration, ErrorCode, HostTcpSocket, HostTcpSocketWithStore, HostUdpSocketWithStore, IpAddress,
                IpAddressFamily, IpSocketAddress, TcpSocket, UdpSocket,
            },
        },
        sockets::{SocketError, SocketResult},
    },
    sockets::WasiSockets,
};
use witan_capability::CallState;

use crate::{
    guard::{Refusal, guarded, guarded_concurrent},
    network::{Transport, unbound},
    stream::counted,
    view::{self, Guarded, View},
};

type Tcp = Resource<TcpSocket>;
type Udp = Resource<UdpSocket>;
type Outcome = FutureReader<Result<(), ErrorCode>>;

impl types::Host for View<'_> {
    fn convert_error_code(&mut self, error: SocketError) -> Result<ErrorCode> {
        error.downcast()
    }
}

fn inner<'a>(store: &'a mut Access<'_, CallState, Guarded>) -> Access<'a, CallState, WasiSockets> {
    Access::<_, WasiSockets>::new(store.as_context_mut(), view::sockets)
}

impl ip_name_lookup::Host for View<'_> {}

guarded_concurrent! {
    LOOKUP: "wasi:sockets/ip-name-lookup@0.3.0", ip_name_lookup::HostWithStore<CallState>, of WasiSockets, via view::sockets;
    ["resolve-addresses"] fn resolve_addresses(store, name: String) -> Result<Result<Vec<IpAddress>, ip_name_lookup::ErrorCode>> = custom (function) {
        let (name, _permit) = match store.with(|mut access| access.get().looking_up(function, &name)) {
            Ok(allowed) => allowed,
            Err(Refusal::Denied(_)) => return Ok(Err(ip_name_lookup::ErrorCode::AccessDenied)),
            Err(Refusal::Code(_)) => return Ok(Err(ip_name_lookup::ErrorCode::InvalidArgument)),
            Err(Refusal::Limit(limit)) => return Err(limit.into()),
        };
        let wasi = store.with_getter::<WasiSockets>(view::sockets);
        let found = ip_name_lookup::HostWithStore::resolve_addresses(&wasi, name.clone()).await?;
        store.with(|mut access| {
            for address in found.iter().flatten() {
                access.get().found(&name, (*address).into());
            }
        });
        Ok(found)
    };
}

guarded! {
    TCP: "wasi:sockets/types@0.3.0", types::HostTcpSocket, via sockets;
    ["[method]tcp-socket.bind"] async fn bind(&mut self, socket: Tcp, local_address: IpSocketAddress) -> SocketResult<()> = binding(Transport::Tcp, local_address.into());
    ["[static]tcp-socket.create"] sync fn create(&mut self, address_family: IpAddressFamily) -> SocketResult<Tcp> = socket();
    ["[method]tcp-socket.get-local-address"] sync fn get_local_address(&mut self, socket: Tcp) -> SocketResult<IpSocketAddress> = using_socket();
    ["[method]tcp-socket.get-remote-address"] sync fn get_remote_address(&mut self, socket: Tcp) -> SocketResult<IpSocketAddress> = using_socket();
    ["[method]tcp-socket.get-is-listening"] sync fn get_is_listening(&mut self, socket: Tcp) -> Result<bool> = using_socket();
    ["[method]tcp-socket.get-address-family"] sync fn get_address_family(&mut self, socket: Tcp) -> Result<IpAddressFamily> = using_socket();
    ["[method]tcp-socket.set-listen-backlog-size"] sync fn set_listen_backlog_size(&mut self, socket: Tcp, value: u64) -> SocketResult<()> = using_socket();
    ["[method]tcp-socket.get-keep-alive-enabled"] sync fn get_keep_alive_enabled(&mut self, socket: Tcp) -> SocketResult<bool> = using_socket();
    ["[method]tcp-socket.set-keep-alive-enabled"] sync fn set_keep_alive_enabled(&mut self, socket: Tcp, value: bool) -> SocketResult<()> = using_socket();
    ["[method]tcp-socket.get-keep-alive-idle-time"] sync fn get_keep_alive_idle_time(&mut self, socket: Tcp) -> SocketResult<Duration> = using_socket();
    ["[method]tcp-socket.set-keep-alive-idle-time"] sync fn set_keep_alive_idle_time(&mut self, socket: Tcp, value: Duration) -> SocketResult<()> = using_socket();
    ["[method]tcp-socket.get-keep-alive-interval"] sync fn get_keep_alive_interval(&mut self, socket: Tcp) -> SocketResult<Duration> = using_socket();
    ["[method]tcp-socket.set-keep-alive-interval"] sync fn set_keep_alive_interval(&mut self, socket: Tcp, value: Duration) -> SocketResult<()> = using_socket();
    ["[method]tcp-socket.get-keep-alive-count"] sync fn get_keep_alive_count(&mut self, socket: Tcp) -> SocketResult<u32> = using_socket();
    ["[method]tcp-socket.set-keep-alive-count"] sync fn set_keep_alive_count(&mut self, socket: Tcp, value: u32) -> SocketResult<()> = using_socket();
    ["[method]tcp-socket.get-hop-limit"] sync fn get_hop_limit(&mut self, socket: Tcp) -> SocketResult<u8> = using_socket();
    ["[method]tcp-socket.set-hop-limit"] sync fn set_hop_limit(&mut self, socket: Tcp, value: u8) -> SocketResult<()> = using_socket();
    ["[method]tcp-socket.get-receive-buffer-size"] sync fn get_receive_buffer_size(&mut self, socket: Tcp) -> SocketResult<u64> = using_socket();
    ["[method]tcp-socket.set-receive-buffer-size"] sync fn set_receive_buffer_size(&mut self, socket: Tcp, value: u64) -> SocketResult<()> = using_socket();
    ["[method]tcp-socket.get-send-buffer-size"] sync fn get_send_buffer_size(&mut self, socket: Tcp) -> SocketResult<u64> = using_socket();
    ["[method]tcp-socket.set-send-buffer-size"] sync fn set_send_buffer_size(&mut self, socket: Tcp, value: u64) -> SocketResult<()> = using_socket();
    also {
        fn drop(&mut self, socket: Tcp) -> Result<()> {
            HostTcpSocket::drop(&mut self.sockets(), socket)
        }
    }
}

guarded_concurrent! {
    TCP_CONCURRENT: "wasi:sockets/types@0.3.0", types::HostTcpSocketWithStore<CallState>, of WasiSockets, via view::sockets;
    ["[method]tcp-socket.connect"] fn connect(store, socket: Tcp, remote_address: IpSocketAddress) -> SocketResult<()> = connecting(Transport::Tcp, remote_address.into());
    ["[method]tcp-socket.listen"] fn listen(store, socket: Tcp) -> SocketResult<StreamReader<Tcp>> = awaiting (function) {
        let mut view = store.get();
        let local = HostTcpSocket::get_local_address(&mut view.sockets(), Resource::new_borrow(socket.rep()));
        let _permit = view.listening(function, local.map_or_else(|_| unbound(), Into::into))?;
        HostTcpSocketWithStore::listen(inner(&mut store), socket).await
    };
    ["[method]tcp-socket.send"] fn send(store, socket: Tcp, data: StreamReader<u8>) -> Result<Outcome> = accessing (function) {
        let view = store.get();
        let _permit = view.using_socket(function)?;
        let charge = view.sending();
        let data = counted(&mut store, data, charge)?;
        HostTcpSocketWithStore::send(inner(&mut store), socket, data)
    };
    ["[method]tcp-socket.receive"] fn receive(store, socket: Tcp) -> Result<(StreamReader<u8>, Outcome)> = accessing (function) {
        let _permit = store.get().using_socket(function)?;
        HostTcpSocketWithStore::receive(inner(&mut store), socket)
    };
}

guarded! {
    UDP: "wasi:sockets/types@0.3.0", types::HostUdpSocket, via sockets;
    ["[method]udp-socket.bind"] async fn bind(&mut self, socket: Udp, local_address: IpSocketAddress) -> SocketResult<()> = binding(Transport::Udp, local_address.into());
    ["[method]udp-socket.connect"] async fn connect(&mut self, socket: Udp, remote_address: IpSocketAddress) -> SocketResult<()> = connecting(Transport::Udp, remote_address.into());
    ["[static]udp-socket.create"] async fn create(&mut self, address_family: IpAddressFamily) -> SocketResult<Udp> = socket();
    ["[method]udp-socket.disconnect"] sync fn disconnect(&mut self, socket: Udp) -> SocketResult<()> = using_socket();
    ["[method]udp-socket.get-local-address"] sync fn get_local_address(&mut self, socket: Udp) -> SocketResult<IpSocketAddress> = using_socket();
    ["[method]udp-socket.get-remote-address"] sync fn get_remote_address(&mut self, socket: Udp) -> SocketResult<IpSocketAddress> = using_socket();
    ["[method]udp-socket.get-address-family"] sync fn get_address_family(&mut self, socket: Udp) -> Result<IpAddressFamily> = using_socket();
    ["[method]udp-socket.get-unicast-hop-limit"] sync fn get_unicast_hop_limit(&mut self, socket: Udp) -> SocketResult<u8> = using_socket();
    ["[method]udp-socket.set-unicast-hop-limit"] sync fn set_unicast_hop_limit(&mut self, socket: Udp, value: u8) -> SocketResult<()> = using_socket();
    ["[method]udp-socket.get-receive-buffer-size"] sync fn get_receive_buffer_size(&mut self, socket: Udp) -> SocketResult<u64> = using_socket();
    ["[method]udp-socket.set-receive-buffer-size"] sync fn set_receive_buffer_size(&mut self, socket: Udp, value: u64) -> SocketResult<()> = using_socket();
    ["[method]udp-socket.get-send-buffer-size"] sync fn get_send_buffer_size(&mut self, socket: Udp) -> SocketResult<u64> = using_socket();
    ["[method]udp-socket.set-send-buffer-size"] sync fn set_send_buffer_size(&mut self, socket: Udp, value: u64) -> SocketResult<()> = using_socket();
    also {
        fn drop(&mut self, socket: Udp) -> Result<()> {
            types::HostUdpSocket::drop(&mut self.sockets(), socket)
        }
    }
}

guarded_concurrent! {
    UDP_CONCURRENT: "wasi:sockets/types@0.3.0", types::HostUdpSocketWithStore<CallState>, of WasiSockets, via view::sockets;
    ["[method]udp-socket.send"] fn send(store, socket: Udp, data: Vec<u8>, remote: Option<IpSocketAddress>) -> SocketResult<()> = custom (function) {
        let _permit = store.with(|mut access| {
            let view = access.get();
            let permit = view.maybe_connecting(function, remote.map(SocketAddr::from))?;
            view.sent(data.len() as u64)?;
            Ok::<_, Refusal>(permit)
        })?;
        HostUdpSocketWithStore::send(&store.with_getter::<WasiSockets>(view::sockets), socket, data, remote).await
    };
    ["[method]udp-socket.receive"] fn receive(store, socket: Udp) -> SocketResult<(Vec<u8>, IpSocketAddress)> = using_socket();
}
