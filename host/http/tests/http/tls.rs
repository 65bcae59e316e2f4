//! Requests over TLS.

use std::{net::SocketAddr, sync::Arc};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;
use witan_http::Settings;
use witan_system::Scheme;

use crate::host::{FETCHERS, Fetch, Script, Setup, grant_name, plain};

// Made for these tests: an authority, and a certificate of it for `secure.test`.
const AUTHORITY: &[u8] = include_bytes!("../tls/authority.der");
const CERTIFICATE: &[u8] = include_bytes!("../tls/certificate.der");
const KEY: &[u8] = include_bytes!("../tls/key.der");

/// A server that ends connections as TLS has it, or breaks them off once it has answered.
async fn start(answer: Vec<u8>, orderly: bool) -> SocketAddr {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(KEY));
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![CertificateDer::from(CERTIFICATE)], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let _head = stream.read(&mut [0; 4096]).await;
            let _gone = stream.write_all(&answer).await;
            if orderly {
                let _gone = stream.shutdown().await;
            }
        }
    });
    address
}

async fn fetch(guest: &str, name: &str, roots: Vec<CertificateDer<'static>>) -> Result<Vec<u8>, String> {
    fetch_from(start(plain("secure"), true).await, guest, name, roots).await
}

async fn fetch_from(
    server: SocketAddr,
    guest: &str,
    name: &str,
    roots: Vec<CertificateDer<'static>>,
) -> Result<Vec<u8>, String> {
    let port = server.port();
    let mut granted = grant_name(name, port, true);
    granted.scheme = Scheme::Https;
    let mut setup = Setup::grants(vec![granted]);
    setup.settings = Settings { resolver: Script::new(&[&["127.0.0.1"]]), roots, ..Settings::default() };
    let host = setup.start(guest).unwrap();
    let mut fetch = Fetch::get(format!("{name}:{port}"), "/");
    fetch.scheme = None;
    host.fetch(fetch).await.map(|fetched| fetched.body)
}

#[tokio::test]
async fn a_certificate_of_a_trusted_authority_for_the_granted_name_is_taken() {
    for (guest, _) in FETCHERS {
        let roots = vec![CertificateDer::from(AUTHORITY)];
        assert_eq!(fetch(guest, "secure.test", roots).await.unwrap(), b"secure", "{guest}");
    }
}

#[tokio::test]
async fn a_response_that_came_whole_counts_however_the_connection_ends() {
    for (guest, _) in FETCHERS {
        let fetch = async |answer: Vec<u8>| {
            let roots = vec![CertificateDer::from(AUTHORITY)];
            fetch_from(start(answer, false).await, guest, "secure.test", roots).await
        };
        assert_eq!(fetch(plain("secure")).await.unwrap(), b"secure", "{guest}");
        // Of this, nobody can say whether it is whole.
        let cut = fetch(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nsecu".to_vec()).await;
        assert_eq!(cut.unwrap_err(), "ErrorCode::HttpResponseIncomplete", "{guest}");
    }
}

#[tokio::test]
async fn a_certificate_of_another_name_or_authority_is_refused() {
    for (guest, _) in FETCHERS {
        let roots = vec![CertificateDer::from(AUTHORITY)];
        for (name, roots) in [("other.test", roots), ("secure.test", Vec::new())] {
            assert_eq!(
                fetch(guest, name, roots).await.unwrap_err(),
                "ErrorCode::TlsCertificateError",
                "{guest} {name}"
            );
        }
    }
}
