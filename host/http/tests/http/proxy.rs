//! Requests through a proxy: the rules for addresses hold behind it.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use witan_egress::{Resolving, Tunnel};
use witan_http::{Proxy, Settings, basic};

use crate::host::{FETCHERS, Fetch, Host, Script, Server, Setup, grant_name};

/// A proxy that leads wherever it is asked to `to`, for who has the password, and keeps what it was asked for.
async fn proxy(to: SocketAddr) -> (Proxy, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let address = listener.local_addr().unwrap();
    let keeps = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let Ok(byte) = client.read_u8().await else { break };
                head.push(byte);
            }
            let head = String::from_utf8(head).unwrap();
            keeps.lock().unwrap().push(head.lines().next().unwrap_or_default().to_owned());
            if !head.contains(&format!("proxy-authorization: {}\r\n", basic("user:password"))) {
                let _gone = client.write_all(b"HTTP/1.1 407 No\r\ncontent-length: 0\r\n\r\n").await;
                continue;
            }
            let mut server = TcpStream::connect(to).await.unwrap();
            client.write_all(b"HTTP/1.1 200 Connected\r\nvia: test\r\n\r\n").await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut client, &mut server).await });
        }
    });
    let proxy = Proxy {
        tunnel: Tunnel::new(address.ip().to_string(), address.port(), Some(basic("user:password"))),
        bypass: Vec::new(),
        resolving: Resolving::Here,
    };
    (proxy, asked)
}

/// A host that may send to `name` on port 80, which looks up as `address`.
fn host(guest: &str, proxy: Proxy, name: &str, address: &'static str, private: bool) -> Host {
    let mut setup = Setup::grants(vec![grant_name(name, 80, private)]);
    setup.settings = Settings { proxy: Some(proxy), resolver: Script::new(&[&[address]]), ..Settings::default() };
    setup.start(guest).unwrap()
}

#[tokio::test]
async fn the_proxy_connects_to_the_address_that_was_checked() {
    for (guest, _) in FETCHERS {
        let server = Server::ok("through").await;
        let (proxy, asked) = proxy(server.address).await;
        let sent = host(guest, proxy.clone(), "name.test", "192.0.2.7", true).fetch(Fetch::get("name.test", "/")).await;
        assert_eq!(sent.unwrap().body, b"through", "{guest}");
        assert_eq!(*asked.lock().unwrap(), ["CONNECT 192.0.2.7:80 HTTP/1.1"]);
        assert!(server.requests()[0].contains("host: name.test\r\n"));
        assert!(!server.requests()[0].contains("proxy-authorization"));
        // An address that the grant does not cover is refused, whatever a proxy could reach.
        let refused = host(guest, proxy.clone(), "name.test", "10.0.0.1", false);
        let error = refused.fetch(Fetch::get("name.test", "/")).await.unwrap_err();
        assert_eq!(error, "ErrorCode::DestinationIpProhibited", "{guest}");
        // An address as the host is checked too, whoever looks names up.
        let by_proxy = Proxy { resolving: Resolving::ByProxy, ..proxy };
        let literal = host(guest, by_proxy.clone(), "name.test", "192.0.2.7", false);
        assert!(literal.fetch(Fetch::get("10.0.0.1", "/")).await.is_err());
        assert_eq!(asked.lock().unwrap().len(), 1);
        // Where only the proxy looks names up, it gets the name.
        let named = host(guest, by_proxy, "name.test", "10.0.0.1", false);
        assert_eq!(named.fetch(Fetch::get("name.test", "/")).await.unwrap().body, b"through");
        assert_eq!(asked.lock().unwrap()[1], "CONNECT name.test:80 HTTP/1.1");
    }
}

#[tokio::test]
async fn a_proxy_that_refuses_and_a_host_that_needs_none() {
    for (guest, _) in FETCHERS {
        let server = Server::ok("straight").await;
        let (proxy, asked) = proxy(server.address).await;
        let address: SocketAddr = proxy.tunnel.to_string().parse().unwrap();
        let tunnel = Tunnel::new(address.ip().to_string(), address.port(), None);
        let stranger = Proxy { tunnel, ..proxy.clone() };
        let error = host(guest, stranger, "name.test", "192.0.2.7", true).fetch(Fetch::get("name.test", "/")).await;
        assert_eq!(error.unwrap_err(), "ErrorCode::HttpRequestDenied", "{guest}");
        let mut setup = Setup::grants(vec![crate::host::grant(server.address)]);
        let bypass = vec!["127.0.0.1".parse().unwrap()];
        setup.settings = Settings { proxy: Some(Proxy { bypass, ..proxy }), ..Settings::default() };
        let straight = setup.start(guest).unwrap().fetch(Fetch::get(server.authority(), "/")).await;
        assert_eq!(straight.unwrap().body, b"straight");
        assert_eq!(asked.lock().unwrap().len(), 1);
    }
}
