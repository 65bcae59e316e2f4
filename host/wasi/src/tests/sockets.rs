use std::net::SocketAddr;

use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, UdpSocket as Peer},
};
use wasmtime::component::Resource;
use wasmtime_wasi::p2::{
    SocketError, SocketResult,
    bindings::sockets::{
        instance_network,
        ip_name_lookup::{self, HostResolveAddressStream},
        network::{ErrorCode, IpAddressFamily, Network},
        tcp::{HostTcpSocket, TcpSocket},
        tcp_create_socket,
        udp::{HostIncomingDatagramStream, HostOutgoingDatagramStream, HostUdpSocket, OutgoingDatagram},
        udp_create_socket,
    },
};
use wasmtime_wasi_io::{
    bindings::wasi::io::{poll::HostPollable, streams::HostOutputStream},
    streams::{DynInputStream, DynOutputStream},
};
use witan_capability::{Action, CallContext, CallError, Limits, Meter, Privacy, Request};
use witan_system::Grants;

use super::Guest;

pub(super) type Tcp = Resource<TcpSocket>;
pub(super) type Streams = (Resource<DynInputStream>, Resource<DynOutputStream>);

fn borrow<T>(handle: &Resource<T>) -> Resource<T> {
    Resource::new_borrow(handle.rep())
}

pub(super) fn code(error: SocketError) -> ErrorCode {
    error.downcast().unwrap()
}

fn guest(allow: fn(&Request<'_>) -> bool) -> Guest {
    Guest::with(Grants::default(), CallContext::local(), Limits::default(), allow)
}

impl Guest {
    pub(super) fn network(&mut self) -> Resource<Network> {
        instance_network::Host::instance_network(&mut self.view()).unwrap()
    }

    pub(super) fn tcp(&mut self) -> Tcp {
        tcp_create_socket::Host::create_tcp_socket(&mut self.view(), IpAddressFamily::Ipv4).unwrap()
    }

    pub(super) async fn connect(&mut self, socket: &Tcp, to: SocketAddr) -> SocketResult<Streams> {
        let network = self.network();
        HostTcpSocket::start_connect(&mut self.view(), borrow(socket), network, to.into())?;
        let pollable = HostTcpSocket::subscribe(&mut self.view(), borrow(socket)).map_err(SocketError::trap)?;
        HostPollable::block(&mut self.view(), pollable).await.map_err(SocketError::trap)?;
        HostTcpSocket::finish_connect(&mut self.view(), borrow(socket))
    }

    pub(super) async fn look_up(&mut self, name: &str) -> Result<Vec<std::net::IpAddr>, ErrorCode> {
        let network = self.network();
        let mut view = self.view();
        let lookup = ip_name_lookup::Host::resolve_addresses(&mut view, network, name.to_owned()).map_err(code)?;
        let pollable = HostResolveAddressStream::subscribe(&mut view, borrow(&lookup)).unwrap();
        HostPollable::block(&mut view, pollable).await.unwrap();
        let mut found = Vec::new();
        while let Some(address) = view.resolve_next_address(borrow(&lookup)).map_err(code)? {
            found.push(crate::p2::sockets::ip(address));
        }
        Ok(found)
    }
}

#[tokio::test]
async fn a_connection_is_decided_by_its_address_and_what_is_sent_is_charged() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    let mut guest = guest(|_| true);
    let socket = guest.tcp();
    let (_input, output) = guest.connect(&socket, address).await.unwrap();
    assert!(guest.asked().contains(&(Action::SocketConnect, address.to_string())));
    HostOutputStream::blocking_write_and_flush(&mut guest.view(), output, b"hello".to_vec()).await.unwrap();
    let mut received = [0; 5];
    server.accept().await.unwrap().0.read_exact(&mut received).await.unwrap();
    assert_eq!(&received, b"hello");
    let account = &guest.state.call().account;
    assert_eq!((account.used(Meter::BytesOut), account.used(Meter::Sockets)), (5, 1));
}

#[tokio::test]
async fn a_refused_address_is_access_denied_and_nothing_connects() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut guest = guest(|request| request.action != Action::SocketConnect);
    let socket = guest.tcp();
    let refused = guest.connect(&socket, server.local_addr().unwrap()).await.map_err(code);
    assert_eq!(refused.unwrap_err(), ErrorCode::AccessDenied);
    assert!(futures::poll!(std::pin::pin!(server.accept())).is_pending());
}

#[tokio::test]
async fn the_name_that_led_to_an_address_is_known_when_it_is_connected_to() {
    let mut guest = guest(|_| true);
    let found = guest.look_up("LOCALHOST.").await.unwrap();
    let v4 = found.iter().find(|address| address.is_ipv4()).unwrap();
    assert!(guest.asked().contains(&(Action::DnsLookup, "localhost:0".to_owned())));
    let socket = guest.tcp();
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let _refused = guest.connect(&socket, (*v4, closed.port()).into()).await;
    assert!(guest.asked().contains(&(Action::SocketConnect, format!("localhost ({closed})"))));
}

#[tokio::test]
async fn a_look_up_that_was_refused_asks_no_resolver() {
    let mut guest = guest(|request| request.action != Action::DnsLookup);
    assert_eq!(guest.look_up("localhost").await.unwrap_err(), ErrorCode::AccessDenied);
    assert_eq!(guest.look_up("not a name").await.unwrap_err(), ErrorCode::InvalidArgument);
}

#[tokio::test]
async fn to_be_found_by_others_needs_leave_of_its_own() {
    let mut guest = guest(|request| request.action != Action::SocketBind);
    for (address, allowed) in [("127.0.0.1:0", false), ("0.0.0.0:8080", false), ("0.0.0.0:0", true)] {
        let (socket, network) = (guest.tcp(), guest.network());
        let address: SocketAddr = address.parse().unwrap();
        let bound = HostTcpSocket::start_bind(&mut guest.view(), borrow(&socket), network, address.into()).await;
        assert_eq!(bound.is_ok(), allowed, "{address}");
        if allowed {
            HostTcpSocket::finish_bind(&mut guest.view(), borrow(&socket)).unwrap();
            let listening = guest.view().start_listen(socket).await.map_err(code);
            assert_eq!(listening.unwrap_err(), ErrorCode::AccessDenied);
        }
    }
}

#[tokio::test]
async fn a_local_only_call_reaches_no_one() {
    let context = CallContext::local().narrow_privacy(Privacy::LocalOnly);
    let mut guest = Guest::with(Grants::default(), context, Limits::default(), |request| {
        !(request.context.local_only() && request.action.is_egress())
    });
    assert_eq!(guest.look_up("localhost").await.unwrap_err(), ErrorCode::AccessDenied);
    let socket = guest.tcp();
    let refused = guest.connect(&socket, "127.0.0.1:80".parse().unwrap()).await.map_err(code);
    assert_eq!(refused.unwrap_err(), ErrorCode::AccessDenied);
}

pub(super) async fn udp(guest: &mut Guest) -> Resource<wasmtime_wasi::p2::UdpSocket> {
    let network = guest.network();
    let mut view = guest.view();
    let socket = udp_create_socket::Host::create_udp_socket(&mut view, IpAddressFamily::Ipv4).await.unwrap();
    let any: SocketAddr = "0.0.0.0:0".parse().unwrap();
    HostUdpSocket::start_bind(&mut view, borrow(&socket), network, any.into()).await.unwrap();
    HostUdpSocket::finish_bind(&mut view, borrow(&socket)).unwrap();
    socket
}

#[tokio::test]
async fn each_receiver_of_a_datagram_is_decided_and_strangers_are_not_heard() {
    let (friend, stranger) = (Peer::bind("127.0.0.1:0").await.unwrap(), Peer::bind("127.0.0.1:0").await.unwrap());
    let mut guest = guest(|_| true);
    let socket = udp(&mut guest).await;
    let (incoming, outgoing) = HostUdpSocket::stream(&mut guest.view(), borrow(&socket), None).await.unwrap();
    let datagram =
        |to: &Peer| OutgoingDatagram { data: b"hi".to_vec(), remote_address: Some(to.local_addr().unwrap().into()) };
    guest.view().check_send(borrow(&outgoing)).unwrap();
    let sent = HostOutgoingDatagramStream::send(&mut guest.view(), borrow(&outgoing), vec![datagram(&friend)]);
    assert_eq!(sent.unwrap(), 1);
    assert!(guest.asked().contains(&(Action::SocketConnect, friend.local_addr().unwrap().to_string())));
    assert_eq!(guest.state.call().account.used(Meter::BytesOut), 2);

    let mut buffer = [0; 9];
    let (_, from) = friend.recv_from(&mut buffer).await.unwrap();
    stranger.send_to(b"stranger", from).await.unwrap();
    friend.send_to(b"friend", from).await.unwrap();
    let pollable = HostIncomingDatagramStream::subscribe(&mut guest.view(), borrow(&incoming)).unwrap();
    HostPollable::block(&mut guest.view(), pollable).await.unwrap();
    let received = HostIncomingDatagramStream::receive(&mut guest.view(), incoming, 9).unwrap();
    assert_eq!(received.iter().map(|datagram| &datagram.data[..]).collect::<Vec<_>>(), [b"friend"]);
}

#[tokio::test]
async fn leave_for_tcp_is_no_leave_for_udp() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    let mut guest =
        guest(|request| request.action != Action::SocketConnect || !request.function.interface.contains("udp"));
    let socket = guest.tcp();
    guest.connect(&socket, address).await.unwrap();
    let socket = udp(&mut guest).await;
    let stream = HostUdpSocket::stream(&mut guest.view(), socket, Some(address.into())).await.map_err(code);
    assert_eq!(stream.unwrap_err(), ErrorCode::AccessDenied);
}

#[tokio::test]
async fn sockets_and_bytes_are_limited() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let limits = Limits { sockets: 1, bytes_out: 4, ..Limits::default() };
    let mut guest = Guest::with(Grants::default(), CallContext::local(), limits.clone(), |_| true);
    let socket = guest.tcp();
    let (_input, output) = guest.connect(&socket, server.local_addr().unwrap()).await.unwrap();
    let sent = HostOutputStream::blocking_write_and_flush(&mut guest.view(), output, b"hello".to_vec()).await;
    assert!(matches!(sent, Err(wasmtime_wasi_io::streams::StreamError::Trap(_))));
    assert!(matches!(guest.state.call().account.ended(), Some(CallError::Limit(_))));

    let mut guest = Guest::with(Grants::default(), CallContext::local(), limits, |_| true);
    guest.tcp();
    let second = tcp_create_socket::Host::create_tcp_socket(&mut guest.view(), IpAddressFamily::Ipv4);
    let error = second.unwrap_err().downcast().unwrap_err();
    assert!(matches!(CallError::from_engine("guest", &error), CallError::Limit(_)));
}
