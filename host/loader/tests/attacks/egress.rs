//! Data that must stay on this machine: a call that is local-only, with every grant there is, and every way out.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::mpsc::{Receiver, channel},
};

use witan_authorize::{Authorizer, Set, Sources};
use witan_capability::{Action, CallContext, Limits, Privacy};

use crate::{
    guest::{MEMORY, component, runs},
    host::{Host, call, service},
};

/// A server on this machine, as far from the guest as any other.
struct Server {
    port: u16,
    /// The port of each peer whose connection was accepted.
    peers: Receiver<u16>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, peers) = channel();
        std::thread::spawn(move || {
            while let Ok((mut stream, peer)) = listener.accept() {
                let _gone = sender.send(peer.port());
                let _gone = stream.read(&mut [0; 1024]);
                let _gone = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            }
        });
        Self { port, peers }
    }

    /// Connections since the last time. One of our own comes after all of them.
    fn accepted(&self) -> usize {
        let probe = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let own = probe.local_addr().unwrap().port();
        self.peers.iter().take_while(|peer| *peer != own).count()
    }
}

/// A way out: what it imports, its code, and what it asks of policy through which function.
struct Way {
    name: &'static str,
    imports: &'static str,
    module: String,
    function: &'static str,
    action: Action,
    connects: bool,
    /// Whether a grant can open it.
    grantable: bool,
}

/// The twelve numbers that an address of this machine is, as `ip-socket-address` is passed.
fn address(port: u16) -> String {
    let rest = "(i32.const 0) ".repeat(6);
    format!("(i32.const 0) (i32.const {port}) (i32.const 127) (i32.const 0) (i32.const 0) (i32.const 1) {rest}")
}

const ADDRESS: &str = "i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32";

const OLD_TCP: &str = "import wasi:sockets/tcp-create-socket@0.2.12; import wasi:sockets/instance-network@0.2.12;";
const OLD_UDP: &str = "import wasi:sockets/udp-create-socket@0.2.12; import wasi:sockets/instance-network@0.2.12;";
const NEW_SOCKETS: &str = "import wasi:sockets/types@0.3.0;";

/// Makes a socket, which nobody refuses: its handle is at 4.
const CREATED: &str = "(call $create (i32.const 0) (i32.const 0))
                    (if (i32.load8_u (i32.const 0)) (then (unreachable)))";

/// Every way out that a component can import. `run` of each gives 0 if it got through.
fn ways(port: u16) -> Vec<Way> {
    let to = address(port);
    let any = "(i32.const 0) ".repeat(12);
    let bound_udp = format!(
        r#"(import "wasi:sockets/instance-network@0.2.12" "instance-network" (func $network (result i32)))
                (import "wasi:sockets/udp-create-socket@0.2.12" "create-udp-socket" (func $create (param i32 i32)))
                (import "wasi:sockets/udp@0.2.12" "[method]udp-socket.start-bind"
                    (func $bind (param i32 i32 {ADDRESS} i32)))
                (import "wasi:sockets/udp@0.2.12" "[method]udp-socket.finish-bind" (func $bound (param i32 i32)))
                (import "wasi:sockets/udp@0.2.12" "[method]udp-socket.stream" (func $stream (param i32 i32 {ADDRESS} i32)))"#
    );
    let bound = format!(
        "(call $bind (i32.load (i32.const 4)) (call $network) {any} (i32.const 16))
                    (if (i32.load8_u (i32.const 16)) (then (unreachable)))
                    (call $bound (i32.load (i32.const 4)) (i32.const 16))
                    (if (i32.load8_u (i32.const 16)) (then (unreachable)))"
    );
    vec![
        Way {
            name: "tcp, 0.2",
            imports: OLD_TCP,
            module: format!(
                r#"(import "wasi:sockets/instance-network@0.2.12" "instance-network" (func $network (result i32)))
                (import "wasi:sockets/tcp-create-socket@0.2.12" "create-tcp-socket" (func $create (param i32 i32)))
                (import "wasi:sockets/tcp@0.2.12" "[method]tcp-socket.start-connect"
                    (func $connect (param i32 i32 {ADDRESS} i32)))
                (import "wasi:sockets/tcp@0.2.12" "[method]tcp-socket.finish-connect" (func $finish (param i32 i32)))
                (import "wasi:sockets/tcp@0.2.12" "[method]tcp-socket.subscribe"
                    (func $subscribe (param i32) (result i32)))
                (import "wasi:io/poll@0.2.12" "[method]pollable.block" (func $block (param i32)))
                {MEMORY}
                (func (export "run") (result i32)
                    {CREATED}
                    (call $connect (i32.load (i32.const 4)) (call $network) {to} (i32.const 16))
                    (if (i32.load8_u (i32.const 16)) (then (return (i32.add (i32.load8_u (i32.const 17)) (i32.const 1)))))
                    (call $block (call $subscribe (i32.load (i32.const 4))))
                    (call $finish (i32.load (i32.const 4)) (i32.const 32))
                    (i32.load8_u (i32.const 32)))"#
            ),
            function: "wasi:sockets/tcp@0.2.12#[method]tcp-socket.start-connect",
            action: Action::SocketConnect,
            connects: true,
            grantable: true,
        },
        Way {
            name: "tcp, 0.3",
            imports: NEW_SOCKETS,
            module: format!(
                r#"(import "wasi:sockets/types@0.3.0" "[static]tcp-socket.create" (func $create (param i32 i32)))
                (import "wasi:sockets/types@0.3.0" "[method]tcp-socket.connect" (func $connect (param i32 {ADDRESS} i32)))
                {MEMORY}
                (func (export "run") (result i32)
                    {CREATED}
                    (call $connect (i32.load (i32.const 4)) {to} (i32.const 64))
                    (i32.load8_u (i32.const 64)))"#
            ),
            function: "wasi:sockets/types@0.3.0#[method]tcp-socket.connect",
            action: Action::SocketConnect,
            connects: true,
            grantable: true,
        },
        Way {
            name: "udp, 0.2",
            imports: OLD_UDP,
            module: format!(
                r#"{bound_udp}
                {MEMORY}
                (func (export "run") (result i32)
                    {CREATED}
                    {bound}
                    (call $stream (i32.load (i32.const 4)) (i32.const 1) {to} (i32.const 32))
                    (i32.load8_u (i32.const 32)))"#
            ),
            function: "wasi:sockets/udp@0.2.12#[method]udp-socket.stream",
            action: Action::SocketConnect,
            connects: false,
            grantable: true,
        },
        Way {
            name: "udp, 0.3",
            imports: NEW_SOCKETS,
            module: format!(
                r#"(import "wasi:sockets/types@0.3.0" "[static]udp-socket.create" (func $create (param i32 i32)))
                (import "wasi:sockets/types@0.3.0" "[method]udp-socket.connect" (func $connect (param i32 {ADDRESS} i32)))
                {MEMORY}
                (func (export "run") (result i32)
                    {CREATED}
                    (call $connect (i32.load (i32.const 4)) {to} (i32.const 64))
                    (i32.load8_u (i32.const 64)))"#
            ),
            function: "wasi:sockets/types@0.3.0#[method]udp-socket.connect",
            action: Action::SocketConnect,
            connects: false,
            grantable: true,
        },
        Way {
            name: "udp with an address for each datagram, 0.2",
            imports: OLD_UDP,
            module: format!(
                r#"{bound_udp}
                (import "wasi:sockets/udp@0.2.12" "[method]outgoing-datagram-stream.check-send"
                    (func $check (param i32 i32)))
                (import "wasi:sockets/udp@0.2.12" "[method]outgoing-datagram-stream.send"
                    (func $send (param i32 i32 i32 i32)))
                {MEMORY}
                (func (export "run") (result i32) (local $out i32)
                    {CREATED}
                    {bound}
                    (call $stream (i32.load (i32.const 4)) (i32.const 0) {any} (i32.const 32))
                    (if (i32.load8_u (i32.const 32)) (then (unreachable)))
                    (local.set $out (i32.load (i32.const 40)))
                    (call $check (local.get $out) (i32.const 64))
                    (if (i32.load8_u (i32.const 64)) (then (unreachable)))
                    (i32.store (i32.const 128) (i32.const 512))
                    (i32.store (i32.const 132) (i32.const 1))
                    (i32.store8 (i32.const 136) (i32.const 1))
                    (i32.store16 (i32.const 144) (i32.const {port}))
                    (i32.store8 (i32.const 146) (i32.const 127))
                    (i32.store8 (i32.const 149) (i32.const 1))
                    (call $send (local.get $out) (i32.const 128) (i32.const 1) (i32.const 64))
                    (i32.load8_u (i32.const 64)))"#
            ),
            function: "wasi:sockets/udp@0.2.12#[method]outgoing-datagram-stream.send",
            action: Action::SocketConnect,
            connects: false,
            grantable: true,
        },
        Way {
            name: "udp with an address for each datagram, 0.3",
            imports: NEW_SOCKETS,
            module: format!(
                r#"(import "wasi:sockets/types@0.3.0" "[static]udp-socket.create" (func $create (param i32 i32)))
                (import "wasi:sockets/types@0.3.0" "[method]udp-socket.bind" (func $bind (param i32 {ADDRESS} i32)))
                (import "wasi:sockets/types@0.3.0" "[method]udp-socket.send"
                    (func $send (param i32 i32 i32 i32 {ADDRESS} i32)))
                {MEMORY}
                (func (export "run") (result i32)
                    {CREATED}
                    (call $bind (i32.load (i32.const 4)) {any} (i32.const 64))
                    (if (i32.load8_u (i32.const 64)) (then (unreachable)))
                    (call $send (i32.load (i32.const 4)) (i32.const 512) (i32.const 1) (i32.const 1) {to} (i32.const 64))
                    (i32.load8_u (i32.const 64)))"#
            ),
            function: "wasi:sockets/types@0.3.0#[method]udp-socket.send",
            action: Action::SocketConnect,
            connects: false,
            grantable: true,
        },
        Way {
            name: "look-up, 0.2",
            imports: "import wasi:sockets/ip-name-lookup@0.2.12; import wasi:sockets/instance-network@0.2.12;",
            module: format!(
                r#"(import "wasi:sockets/instance-network@0.2.12" "instance-network" (func $network (result i32)))
                (import "wasi:sockets/ip-name-lookup@0.2.12" "resolve-addresses" (func $resolve (param i32 i32 i32 i32)))
                {MEMORY}
                (data (i32.const 512) "localhost")
                (func (export "run") (result i32)
                    (call $resolve (call $network) (i32.const 512) (i32.const 9) (i32.const 32))
                    (i32.load8_u (i32.const 32)))"#
            ),
            function: "wasi:sockets/ip-name-lookup@0.2.12#resolve-addresses",
            action: Action::DnsLookup,
            connects: false,
            grantable: true,
        },
        Way {
            name: "look-up, 0.3",
            imports: "import wasi:sockets/ip-name-lookup@0.3.0;",
            module: format!(
                r#"(import "wasi:sockets/ip-name-lookup@0.3.0" "resolve-addresses" (func $resolve (param i32 i32 i32)))
                {MEMORY}
                (data (i32.const 512) "localhost")
                (func (export "run") (result i32)
                    (call $resolve (i32.const 512) (i32.const 9) (i32.const 32))
                    (i32.load8_u (i32.const 32)))"#
            ),
            function: "wasi:sockets/ip-name-lookup@0.3.0#resolve-addresses",
            action: Action::DnsLookup,
            connects: false,
            grantable: true,
        },
        Way {
            name: "http, 0.2",
            imports: "import wasi:http/types@0.2.12; import wasi:http/outgoing-handler@0.2.12;",
            module: format!(
                r#"(import "wasi:http/types@0.2.12" "[constructor]fields" (func $fields (result i32)))
                (import "wasi:http/types@0.2.12" "[constructor]outgoing-request"
                    (func $request (param i32) (result i32)))
                (import "wasi:http/types@0.2.12" "[method]outgoing-request.set-scheme"
                    (func $scheme (param i32 i32 i32 i32 i32) (result i32)))
                (import "wasi:http/types@0.2.12" "[method]outgoing-request.set-authority"
                    (func $authority (param i32 i32 i32 i32) (result i32)))
                (import "wasi:http/types@0.2.12" "[method]outgoing-request.set-path-with-query"
                    (func $path (param i32 i32 i32 i32) (result i32)))
                (import "wasi:http/outgoing-handler@0.2.12" "handle" (func $handle (param i32 i32 i32 i32)))
                (import "wasi:http/types@0.2.12" "[method]future-incoming-response.subscribe"
                    (func $subscribe (param i32) (result i32)))
                (import "wasi:http/types@0.2.12" "[method]future-incoming-response.get" (func $get (param i32 i32)))
                (import "wasi:io/poll@0.2.12" "[method]pollable.block" (func $block (param i32)))
                {MEMORY}
                (data (i32.const 512) "127.0.0.1:{port:05} /")
                (func (export "run") (result i32) (local $to i32) (local $response i32)
                    (local.set $to (call $request (call $fields)))
                    (drop (call $scheme (local.get $to) (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 0)))
                    (drop (call $authority (local.get $to) (i32.const 1) (i32.const 512) (i32.const 15)))
                    (drop (call $path (local.get $to) (i32.const 1) (i32.const 528) (i32.const 1)))
                    (call $handle (local.get $to) (i32.const 0) (i32.const 0) (i32.const 64))
                    (if (i32.load8_u (i32.const 64))
                        (then (return (i32.add (i32.load8_u (i32.const 72)) (i32.const 100)))))
                    (local.set $response (i32.load (i32.const 72)))
                    (call $block (call $subscribe (local.get $response)))
                    (call $get (local.get $response) (i32.const 128))
                    (if (i32.load8_u (i32.const 144))
                        (then (return (i32.add (i32.load8_u (i32.const 152)) (i32.const 1)))))
                    (i32.const 0))"#
            ),
            function: "wasi:http/outgoing-handler@0.2.12#handle",
            action: Action::HttpSend,
            connects: true,
            grantable: true,
        },
        Way {
            name: "http, 0.3",
            imports: "import wasi:http/types@0.3.0; import wasi:http/client@0.3.0;",
            module: format!(
                r#"(import "wasi:http/types@0.3.0" "[constructor]fields" (func $fields (result i32)))
                (import "wasi:http/types@0.3.0" "[future-new-1][static]request.new" (func $trailers (result i64)))
                (import "wasi:http/types@0.3.0" "[static]request.new"
                    (func $request (param i32 i32 i32 i32 i32 i32 i32)))
                (import "wasi:http/types@0.3.0" "[method]request.set-scheme"
                    (func $scheme (param i32 i32 i32 i32 i32) (result i32)))
                (import "wasi:http/types@0.3.0" "[method]request.set-authority"
                    (func $authority (param i32 i32 i32 i32) (result i32)))
                (import "wasi:http/types@0.3.0" "[method]request.set-path-with-query"
                    (func $path (param i32 i32 i32 i32) (result i32)))
                (import "wasi:http/client@0.3.0" "send" (func $send (param i32 i32)))
                {MEMORY}
                (data (i32.const 512) "127.0.0.1:{port:05} /")
                (func (export "run") (result i32) (local $to i32)
                    (call $request (call $fields) (i32.const 0) (i32.const 0) (i32.wrap_i64 (call $trailers))
                        (i32.const 0) (i32.const 0) (i32.const 32))
                    (local.set $to (i32.load (i32.const 32)))
                    (drop (call $scheme (local.get $to) (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 0)))
                    (drop (call $authority (local.get $to) (i32.const 1) (i32.const 512) (i32.const 15)))
                    (drop (call $path (local.get $to) (i32.const 1) (i32.const 528) (i32.const 1)))
                    (call $send (local.get $to) (i32.const 64))
                    (i32.load8_u (i32.const 64)))"#
            ),
            function: "wasi:http/client@0.3.0#send",
            action: Action::HttpSend,
            connects: true,
            grantable: true,
        },
    ]
}

/// The ways in which others come to a guest: a socket at an address of its own, or that listens.
fn doors(port: u16) -> Vec<Way> {
    let at = address(port);
    let old = |name, protocol: &'static str, call: &str, parameters: String, arguments: String, function| Way {
        name,
        imports: if protocol == "tcp" { OLD_TCP } else { OLD_UDP },
        module: format!(
            r#"(import "wasi:sockets/instance-network@0.2.12" "instance-network" (func $network (result i32)))
            (import "wasi:sockets/{protocol}-create-socket@0.2.12" "create-{protocol}-socket" (func $create (param i32 i32)))
            (import "wasi:sockets/{protocol}@0.2.12" "[method]{protocol}-socket.{call}" (func $call (param {parameters})))
            {MEMORY}
            (func (export "run") (result i32)
                {CREATED}
                (call $call (i32.load (i32.const 4)) {arguments} (i32.const 16))
                (i32.load8_u (i32.const 16)))"#
        ),
        function,
        action: Action::SocketBind,
        connects: false,
        grantable: false,
    };
    let new = |name, protocol: &'static str, call: &str, parameters: String, arguments: String, function| Way {
        name,
        imports: NEW_SOCKETS,
        module: format!(
            r#"(import "wasi:sockets/types@0.3.0" "[static]{protocol}-socket.create" (func $create (param i32 i32)))
            (import "wasi:sockets/types@0.3.0" "[method]{protocol}-socket.{call}" (func $call (param {parameters})))
            {MEMORY}
            (func (export "run") (result i32)
                {CREATED}
                (call $call (i32.load (i32.const 4)) {arguments} (i32.const 64))
                (i32.load8_u (i32.const 64)))"#
        ),
        function,
        action: Action::SocketBind,
        connects: false,
        grantable: false,
    };
    let bind_old = || (format!("i32 i32 {ADDRESS} i32"), format!("(call $network) {at}"));
    let bind_new = || (format!("i32 {ADDRESS} i32"), at.clone());
    let listen = || ("i32 i32".to_owned(), String::new());
    let (old_bind, new_bind) = (bind_old(), bind_new());
    let (old_udp, new_udp) = (bind_old(), bind_new());
    let (old_listen, new_listen) = (listen(), listen());
    vec![
        old(
            "tcp at an address, 0.2",
            "tcp",
            "start-bind",
            old_bind.0,
            old_bind.1,
            "wasi:sockets/tcp@0.2.12#[method]tcp-socket.start-bind",
        ),
        new(
            "tcp at an address, 0.3",
            "tcp",
            "bind",
            new_bind.0,
            new_bind.1,
            "wasi:sockets/types@0.3.0#[method]tcp-socket.bind",
        ),
        old(
            "udp at an address, 0.2",
            "udp",
            "start-bind",
            old_udp.0,
            old_udp.1,
            "wasi:sockets/udp@0.2.12#[method]udp-socket.start-bind",
        ),
        new(
            "udp at an address, 0.3",
            "udp",
            "bind",
            new_udp.0,
            new_udp.1,
            "wasi:sockets/types@0.3.0#[method]udp-socket.bind",
        ),
        old(
            "listening, 0.2",
            "tcp",
            "start-listen",
            old_listen.0,
            old_listen.1,
            "wasi:sockets/tcp@0.2.12#[method]tcp-socket.start-listen",
        ),
        new(
            "listening, 0.3",
            "tcp",
            "listen",
            new_listen.0,
            new_listen.1,
            "wasi:sockets/types@0.3.0#[method]tcp-socket.listen",
        ),
    ]
}

/// A host whose request policy permits everything.
fn permissive() -> Host {
    let host = Host::new();
    let rules = "permit (principal, action, resource);".to_owned();
    let sources = Sources { policies: [("all.cedar".to_owned(), rules)].into(), entities: None };
    host.policy.ask(Authorizer::new(Set::new(&sources).unwrap(), 1));
    host
}

fn grants(port: u16) -> String {
    format!(
        r#"grants.http = [{{ scheme = "http", host = "127.0.0.1", port = {port} }}]
        grants.sockets = [
            {{ host = "127.0.0.1", port = {port} }}, {{ protocol = "udp", host = "127.0.0.1", port = {port} }},
            {{ host = "localhost", port = {port}, private = true }},
        ]"#
    )
}

/// With every grant that there is and a policy that permits everything.
#[tokio::test]
async fn what_is_local_only_leaves_by_no_way() {
    let host = permissive();
    let server = Server::start();
    let _udp = UdpSocket::bind(("127.0.0.1", server.port));
    for way in ways(server.port).into_iter().chain(doors(server.port)) {
        let exports = "export run: async func() -> u32;";
        let bytes = component(&format!("{} {exports}", way.imports), &way.module);
        let guest = host.guest(&bytes, &grants(server.port)).await;
        let open = guest.call("run").await;
        let newest = host.policy.log().newest(1);
        assert_eq!(open == Ok(0), way.grantable, "{} works where it can be allowed: {open:?}, {newest:?}", way.name);
        assert_eq!(server.accepted(), usize::from(way.connects), "{}", way.name);

        let refused = guest.call_local_only("run").await;
        assert!(matches!(refused, Ok(1..)), "{}: {refused:?}", way.name);
        assert_eq!(server.accepted(), 0, "{}", way.name);
        let newest = host.policy.log().newest(1).remove(0);
        assert!(
            !newest.allowed && newest.reason.as_deref().unwrap_or_default().contains("local-only"),
            "{}: {newest:?}",
            way.name
        );
        assert_eq!((newest.action, newest.function.to_string().as_str()), (way.action, way.function), "{}", way.name);
        assert!(newest.action.is_egress(), "{}", way.name);
    }
}

/// Every interface that components can import, how many functions it has, and which of them lead off this machine.
///
/// This fails when a function is added: say in the file whether it is a way out, and if it is, try it above.
#[test]
fn every_function_is_a_way_out_that_is_tried_or_none() {
    let host = Host::new();
    let mut found: BTreeMap<&str, (usize, BTreeSet<&str>)> = BTreeMap::new();
    let functions = host.loader.capabilities.iter().flat_map(|capability| capability.functions());
    for function in functions.chain(witan_forward::functions()) {
        found.entry(function.interface).or_default().0 += 1;
    }
    for way in ways(1).iter().chain(&doors(1)) {
        let (interface, name) = way.function.split_once('#').unwrap();
        found.get_mut(interface).expect("it is linked").1.insert(name);
    }
    let line = |(interface, (count, out)): (&&str, &(usize, BTreeSet<&str>))| {
        let out: String = out.iter().map(|name| format!("\n    out: {name}")).collect();
        format!("{interface}: {count}{out}\n")
    };
    let found: String = found.iter().map(line).collect();
    let listed = include_str!("ways-out.txt");
    assert_eq!(found, listed, "host/loader/tests/attacks/ways-out.txt should be:\n{found}");
}

#[tokio::test]
async fn what_was_not_granted_leaves_by_no_way_either() {
    let host = Host::new();
    let (granted, other) = (Server::start(), Server::start());
    for way in ways(other.port).into_iter().filter(|way| way.connects) {
        let bytes = component(&format!("{} export run: async func() -> u32;", way.imports), &way.module);
        let guest = host.guest(&bytes, &grants(granted.port)).await;
        assert!(matches!(guest.call("run").await, Ok(1..)), "{}", way.name);
        let newest = host.policy.log().newest(1).remove(0);
        assert!(
            !newest.allowed && newest.reason.as_deref().unwrap_or_default().contains(&other.port.to_string()),
            "{}: {newest:?}",
            way.name
        );
    }
    assert_eq!(other.accepted(), 0);
}

const STORE: &str = "wasi:keyvalue/store@0.2.0-draft";

/// Keeps a value under a key, and looks whether there is one: 1 if there is, 0 if not, 2 for an error.
fn keeps() -> Vec<u8> {
    component(
        &format!("import {STORE}; export put: func() -> u32; export look: func() -> u32;"),
        &format!(
            r#"(import "{STORE}" "open" (func $open (param i32 i32 i32)))
            (import "{STORE}" "[method]bucket.set" (func $set (param i32 i32 i32 i32 i32 i32)))
            (import "{STORE}" "[method]bucket.get" (func $get (param i32 i32 i32 i32)))
            {MEMORY}
            (data (i32.const 512) "secret")
            (func $bucket (result i32)
                (call $open (i32.const 0) (i32.const 0) (i32.const 16))
                (if (i32.load8_u (i32.const 16)) (then (unreachable)))
                (i32.load (i32.const 20)))
            (func (export "put") (result i32)
                (call $set (call $bucket) (i32.const 512) (i32.const 6) (i32.const 512) (i32.const 6) (i32.const 32))
                (i32.load8_u (i32.const 32)))
            (func (export "look") (result i32)
                (call $get (call $bucket) (i32.const 512) (i32.const 6) (i32.const 64))
                (if (i32.load8_u (i32.const 64)) (then (return (i32.const 2))))
                (i32.load8_u (i32.const 68)))"#
        ),
    )
}

#[tokio::test]
async fn what_a_local_only_call_keeps_is_not_carried_off_by_a_later_one() {
    let host = Host::new();
    let guest = host.guest(&keeps(), "grants.keyvalue = {}").await;
    assert_eq!(guest.call("put").await, Ok(0));
    assert_eq!(guest.call("look").await, Ok(1), "what anybody wrote, anybody reads");
    assert_eq!(guest.call_local_only("put").await, Ok(0));
    assert_eq!(guest.call_local_only("look").await, Ok(1));
    let carried = guest.call("look").await;
    assert_ne!(carried, Ok(1), "the label stands against it");
}

#[tokio::test]
async fn what_a_local_only_call_leaves_in_memory_is_not_there_for_a_later_one() {
    let host = Host::new();
    let counts = runs(
        r#"(global $n (mut i32) (i32.const 0))
        (func (export "run") (result i32)
            (global.set $n (i32.add (global.get $n) (i32.const 1))) (global.get $n))"#,
    );
    let guest = host.guest(&counts, "instances.reuse = \"serial\"").await;
    // The health check has left an instance of the host's own.
    let first = guest.call("run").await.unwrap();
    assert_eq!(guest.call("run").await, Ok(first + 1), "an instance is kept");
    assert_eq!(guest.call_local_only("run").await, Ok(1), "but not given to what is local-only");
    assert_eq!(guest.call_local_only("run").await, Ok(1), "and not kept from it");
    assert_eq!(guest.call("run").await, Ok(first + 2));
}

/// Asks the component that it is linked to for its health, which that makes an egress of.
#[tokio::test]
async fn a_link_does_not_wash_the_label_off() {
    let host = Host::new();
    let server = Server::start();
    let port = server.port;
    let tcp = ways(port).remove(1);
    let health = "witan:component/health@0.1.0-draft";
    let egress = component(
        &format!("{} export {health};", tcp.imports),
        &format!(
            r#"{} (func (export "{health}#check") (result i32)
                (i32.store8 (i32.const 200) (call $run))
                (i32.store (i32.const 204) (i32.const 512)) (i32.store (i32.const 208) (i32.const 0))
                (i32.const 200))"#,
            tcp.module.replace("(export \"run\")", "$run")
        ),
    );
    host.put("well", &egress);
    host.put("asks", &crate::loads::asks());
    let system = format!(
        "[components.asks]\nsource = \"asks.wasm\"\n\
         links.\"witan:component/health-sync\" = {{ component = \"well\" }}\n\
         [components.well]\nsource = \"well.wasm\"\n{}",
        grants(port)
    );
    let running = host.load(&system).await.unwrap_or_else(|error| panic!("{error}"));
    // The health check has been out already.
    assert_eq!(server.accepted(), 1);
    for (privacy, answer) in [(Privacy::Standard, 10), (Privacy::LocalOnly, 11)] {
        let context = CallContext::local().narrow_privacy(privacy);
        let account = host.loader.engine.open_account(Limits::default());
        assert_eq!(call(service(&running, "asks"), &context, &account, "run").await, Ok(answer), "{privacy:?}");
    }
    assert_eq!(server.accepted(), 1);
}
