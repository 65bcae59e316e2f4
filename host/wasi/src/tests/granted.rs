//! Under the kernel's own policy: grants as an operator writes them.

use tokio::net::TcpListener;
use wasmtime_wasi::p2::bindings::{clocks::wall_clock, filesystem::types::ErrorCode, sockets::network};
use witan_capability::{CallContext, CallError, Privacy};
use witan_system::{Access, Grants, HostPattern, Protocol, SocketGrant};

use super::{
    Guest,
    filesystem::{disk, task, task_grant},
    folder, grant,
    sockets::code,
};

fn socket(host: &str, port: u16, private: bool) -> Grants {
    let host: HostPattern = host.parse().unwrap();
    Grants { sockets: vec![SocketGrant { protocol: Protocol::Tcp, host, port, private }], ..Grants::default() }
}

#[tokio::test]
async fn a_granted_name_is_connected_to() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    let mut guest = Guest::held(socket("localhost", address.port(), true), CallContext::local());
    guest.look_up("localhost").await.unwrap();
    let socket = guest.tcp();
    guest.connect(&socket, address).await.unwrap();
}

#[tokio::test]
async fn a_name_that_leads_into_the_private_network_is_refused_at_the_address() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    let mut guest = Guest::held(socket("localhost", address.port(), false), CallContext::local());
    guest.look_up("localhost").await.unwrap();
    let socket = guest.tcp();
    let refused = guest.connect(&socket, address).await.map_err(code);
    assert_eq!(refused.unwrap_err(), network::ErrorCode::AccessDenied);
}

#[tokio::test]
async fn an_address_without_its_name_another_port_and_another_name_are_refused() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    let mut guest = Guest::held(socket("localhost", address.port(), true), CallContext::local());
    let socket = guest.tcp();
    let refused = guest.connect(&socket, address).await.map_err(code);
    assert_eq!(refused.unwrap_err(), network::ErrorCode::AccessDenied, "no look-up led there");
    guest.look_up("localhost").await.unwrap();
    let other = (address.ip(), address.port().wrapping_add(1)).into();
    let refused = guest.connect(&socket, other).await.map_err(code);
    assert_eq!(refused.unwrap_err(), network::ErrorCode::AccessDenied);
    assert_eq!(guest.look_up("example.org").await.unwrap_err(), network::ErrorCode::AccessDenied);
}

#[tokio::test]
async fn a_local_only_call_reaches_no_one_whatever_the_grants_say() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    let context = CallContext::local().narrow_privacy(Privacy::LocalOnly);
    let mut guest = Guest::held(socket("127.0.0.1", address.port(), true), context);
    assert_eq!(guest.look_up("127.0.0.1").await.unwrap_err(), network::ErrorCode::AccessDenied);
    let socket = guest.tcp();
    let refused = guest.connect(&socket, address).await.map_err(code);
    assert_eq!(refused.unwrap_err(), network::ErrorCode::AccessDenied);
}

#[tokio::test]
async fn files_are_read_and_written_as_granted() {
    let (_disk, granted) = disk();
    let mut guest = Guest::held(folder(&granted, "/docs", Access::ReadWrite), CallContext::local());
    let root = guest.root();
    assert_eq!(guest.read(&root, "file").await.unwrap(), b"hello");
    guest.create(&root, "new").await.unwrap();
    let mut guest = Guest::held(folder(&granted, "/docs", Access::Read), CallContext::local());
    let root = guest.root();
    assert_eq!(guest.read(&root, "file").await.unwrap(), b"hello");
    assert_eq!(guest.create(&root, "newer").await.unwrap_err(), ErrorCode::NotPermitted);
}

#[tokio::test]
async fn a_task_reads_its_file() {
    let (_disk, granted) = disk();
    let mut guest = Guest::held(task_grant(), task(&[("/task/0/file", granted.join("file"))]));
    let root = guest.root();
    assert_eq!(guest.read(&root, "file").await.unwrap(), b"hello");
    assert!(guest.create(&root, "file").await.is_err());
}

#[tokio::test]
async fn one_granted_file_is_written() {
    let (_disk, granted) = disk();
    let filesystem = vec![grant(&granted.join("file"), "/docs/notes", Access::ReadWrite, None)];
    let mut guest = Guest::held(Grants { filesystem, ..Grants::default() }, CallContext::local());
    let root = guest.root();
    guest.create(&root, "notes").await.unwrap();
    assert_eq!(guest.read(&root, "file").await.unwrap_err(), ErrorCode::NoEntry);
}

#[test]
fn the_wall_clock_is_read_where_it_was_granted() {
    let mut guest = Guest::held(Grants { wall_clock: true, ..Grants::default() }, CallContext::local());
    assert!(wall_clock::Host::now(&mut guest.view()).is_ok());
    let mut guest = Guest::held(Grants::default(), CallContext::local());
    let error = wall_clock::Host::now(&mut guest.view()).unwrap_err();
    match CallError::from_engine("guest", &error) {
        CallError::Denied(denial) => assert!(denial.reason.contains("wall-clock = true"), "{denial}"),
        other => panic!("{other}"),
    }
}
