//! Which way callbacks go, and who sees what of them.

use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use http::{Request, StatusCode};
use http_body_util::Full;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;
use url::Url;
use uuid::Uuid;
use witan_egress::{Egress, Proxy, Resolver, Resolving, TunnelError};
use witan_task_store::Delivery;

use super::{Reach, Unreached};
use crate::{Callback, CallbackError, SendError, Sender, Settings, tests::world};

/// What the proxy is told in `Proxy-Authorization`.
const CREDENTIALS: &str = "Basic eDp5";
const LED: &str = "200 Connected";
/// What a proxy does that takes a connection and says nothing.
const SILENCE: &str = "";

type Seen = Arc<Mutex<Vec<String>>>;

/// Nobody behind a proxy is on this machine, or on its network.
fn public(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(address) if !address.is_loopback() && !address.is_private()) || address.is_ipv6()
}

/// Finds these addresses for each name, or knows none.
struct Finds(&'static [&'static str]);

#[async_trait]
impl Resolver for Finds {
    async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        let found: Vec<_> = self.0.iter().map(|address| address.parse().unwrap()).collect();
        if found.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(found) }
    }
}

async fn head(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8(head).unwrap())
}

/// Takes a callback, and keeps its head after `called`.
async fn take(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    called: &str,
    seen: &Mutex<Vec<String>>,
) -> io::Result<()> {
    let head = head(&mut stream).await?;
    assert_eq!(stream.read_u8().await?, b'{');
    seen.lock().unwrap().push(format!("{called} {head}"));
    stream.write_all(b"HTTP/1.1 204 Taken\r\n\r\n").await?;
    stream.flush().await
}

/// A receiver over TLS that is `told.test`, by the word of the authority that is given too.
async fn receiver() -> (SocketAddr, Seen, String) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["told.test".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let config = config.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, seen) = (listener.local_addr().unwrap(), Seen::default());
    let keeps = seen.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, keeps) = (acceptor.clone(), keeps.clone());
            tokio::spawn(async move {
                let stream = acceptor.accept(stream).await?;
                let called = stream.get_ref().1.server_name().unwrap_or_default().to_owned();
                take(stream, &called, &keeps).await
            });
        }
    });
    (address, seen, authority.pem())
}

/// A receiver without TLS.
async fn plain() -> (SocketAddr, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, seen) = (listener.local_addr().unwrap(), Seen::default());
    let keeps = seen.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _gone = take(stream, "plain", &keeps).await;
        }
    });
    (address, seen)
}

/// A proxy that answers CONNECT with the next of `answers` and then with the last, and leads to `to` whatever it is asked for.
async fn proxy(to: SocketAddr, answers: &[&'static str]) -> (SocketAddr, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, asked) = (listener.local_addr().unwrap(), Seen::default());
    let (keeps, mut answers, mut silent) = (asked.clone(), VecDeque::from(answers.to_vec()), Vec::new());
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let head = head(&mut client).await?;
            keeps.lock().unwrap().push(head);
            let answer = if answers.len() > 1 { answers.pop_front().unwrap() } else { answers[0] };
            if answer == SILENCE {
                silent.push(client);
                continue;
            }
            client.write_all(format!("HTTP/1.1 {answer}\r\n\r\n").as_bytes()).await?;
            if answer == LED {
                let mut server = TcpStream::connect(to).await?;
                tokio::spawn(async move { copy_bidirectional(&mut client, &mut server).await });
            }
        }
        io::Result::Ok(())
    });
    (address, asked)
}

/// The way through the proxy at `address`, but to `straight`.
fn through(address: SocketAddr, resolving: Resolving, straight: &'static str, authorities: &str) -> Egress {
    let url = format!("http://{address}").parse().unwrap();
    let bypass = Box::new(move |host: &str| host == straight);
    let proxy = Proxy { url, authorization: Some(CREDENTIALS.to_owned()), bypass, resolving };
    Egress::new(Some(proxy), Some(authorities.as_bytes())).unwrap()
}

fn sender(hosts: &[&str], finds: &'static [&'static str], egress: Egress) -> Sender {
    let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
    Sender::new(Settings { is_public: public, hosts, egress }).unwrap().resolving_by(Arc::new(Finds(finds)))
}

async fn send(sender: &Sender, url: &str) -> Result<(), SendError> {
    let callback = Callback { url: url.to_owned(), secret: None, events: Vec::new() };
    let (tenant, body) = ("acme".to_owned(), String::new());
    let (id, task) = (Uuid::now_v7(), Uuid::now_v7());
    let delivery = Delivery { id, tenant, task, body, attempts: 0, created_ms: 0, due_ms: 0 };
    sender.send(&callback, &delivery, "{}").await.map(|_| ())
}

fn unreached(sent: Result<(), SendError>) -> Unreached {
    match sent {
        Err(error @ SendError::Unreachable(_)) => {
            assert!(error.retryable());
            // What a client is told says nothing of the network of this host.
            assert_eq!(error.to_string(), "the callback cannot be reached");
            let SendError::Unreachable(why) = error else { unreachable!() };
            assert!(!format!("{why} {why:?}").contains("eDp5"));
            why
        }
        other => panic!("{other:?}"),
    }
}

/// The first lines of what was asked for.
fn lines(seen: &Seen) -> Vec<String> {
    seen.lock().unwrap().iter().map(|head| head.lines().next().unwrap_or_default().to_owned()).collect()
}

#[tokio::test]
async fn the_proxy_is_told_the_address_and_the_callback_its_name() {
    let (to, seen, authority) = receiver().await;
    let (address, asked) = proxy(to, &[LED]).await;
    let finds = &["10.0.0.1", "127.0.0.1", "::ffff:192.0.2.7"];
    let egress = through(address, Resolving::Here, "", &authority);
    send(&sender(&[], finds, egress), "https://told.test:8443/hook?a=%20b#c").await.unwrap();
    let (asked, told) = (asked.lock().unwrap().clone(), seen.lock().unwrap().clone());
    assert_eq!(
        asked,
        [format!(
            "CONNECT 192.0.2.7:8443 HTTP/1.1\r\nhost: 192.0.2.7:8443\r\nproxy-authorization: {CREDENTIALS}\r\n\r\n"
        )]
    );
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("told.test POST /hook?a=%20b HTTP/1.1\r\n"), "{told:?}");
    assert!(told[0].contains("\r\nhost: told.test:8443\r\n") && told[0].contains("\r\nwebhook-id: "), "{told:?}");
    assert!(!told[0].contains("proxy-authorization"), "{told:?}");
}

#[tokio::test]
async fn behind_a_proxy_too_it_must_be_who_its_certificate_says() {
    let (to, seen, authority) = receiver().await;
    let (address, asked) = proxy(to, &[LED]).await;
    let (_, _, other) = receiver().await;
    let wrong = through(address, Resolving::Here, "", &other);
    let error = unreached(send(&sender(&[], &["192.0.2.7"], wrong), "https://told.test/").await);
    assert!(matches!(error, Unreached::Tls(_)), "{error:?}");
    let right = through(address, Resolving::Here, "", &authority);
    let error = unreached(send(&sender(&[], &["192.0.2.7"], right), "https://other.test/").await);
    assert!(matches!(error, Unreached::Tls(_)), "{error:?}");
    assert_eq!(lines(&asked), ["CONNECT 192.0.2.7:443 HTTP/1.1"; 2]);
    assert_eq!(lines(&seen), [] as [&str; 0]);
}

#[tokio::test]
async fn a_proxy_that_refuses_is_said_and_tried_again() {
    let (to, seen, authority) = receiver().await;
    let (address, asked) = proxy(to, &["407 Who", "403 No", "403 No", "403 No", LED]).await;
    let sender = sender(&[], &["192.0.2.7", "192.0.2.8"], through(address, Resolving::Here, "", &authority));
    let error = unreached(send(&sender, "https://told.test/").await);
    assert!(matches!(&error, Unreached::Proxy(TunnelError::Credentials { .. })), "{error:?}");
    assert!(error.to_string().contains(&address.to_string()), "{error}");
    // Who it does not know, it does not lead to another address either.
    assert_eq!(lines(&asked), ["CONNECT 192.0.2.7:443 HTTP/1.1"]);
    let error = unreached(send(&sender, "https://told.test/").await);
    assert!(matches!(&error, Unreached::Proxy(TunnelError::Refused { status: 403, .. })), "{error:?}");
    assert_eq!(lines(&asked)[1..], ["CONNECT 192.0.2.7:443 HTTP/1.1", "CONNECT 192.0.2.8:443 HTTP/1.1"]);
    assert_eq!(lines(&seen), [] as [&str; 0]);
    send(&sender, "https://told.test/").await.unwrap();
    assert_eq!(lines(&seen), ["told.test POST / HTTP/1.1"]);
}

#[tokio::test]
async fn a_proxy_reaches_no_address_that_this_host_may_not() {
    let (to, seen, authority) = receiver().await;
    let (address, asked) = proxy(to, &[LED]).await;
    for resolving in [Resolving::Here, Resolving::ByProxy] {
        let way = || through(address, resolving, "", &authority);
        let error = unreached(send(&sender(&[], &["10.0.0.1", "127.0.0.1"], way()), "https://told.test/").await);
        assert!(matches!(error, Unreached::Private), "{error:?}");
        let refused = send(&sender(&[], &[], way()), "https://10.0.0.1/").await.unwrap_err();
        assert!(matches!(refused, SendError::Refused(CallbackError::Private(_))), "{refused:?}");
        // A name that is not known here would be the proxy's to look up, and nobody checked where it leads.
        let error = unreached(send(&sender(&[], &[], way()), "https://told.test/").await);
        assert!(matches!(error, Unreached::Name(_)), "{error:?}");
    }
    assert_eq!((lines(&asked), lines(&seen)), (Vec::new(), Vec::new()));
}

#[tokio::test]
async fn a_name_that_the_operator_has_named_may_be_the_proxys_to_look_up() {
    let (to, seen, authority) = receiver().await;
    let (address, asked) = proxy(to, &[LED]).await;
    let by_proxy = sender(&["told.test"], &[], through(address, Resolving::ByProxy, "", &authority));
    send(&by_proxy, "https://told.test/").await.unwrap();
    assert_eq!(lines(&asked), ["CONNECT told.test:443 HTTP/1.1"]);
    assert_eq!(lines(&seen), ["told.test POST / HTTP/1.1"]);
    let here = sender(&["told.test"], &["10.0.0.1"], through(address, Resolving::Here, "", &authority));
    send(&here, "https://told.test/").await.unwrap();
    assert_eq!(lines(&asked)[1..], ["CONNECT 10.0.0.1:443 HTTP/1.1"]);
}

#[tokio::test]
async fn what_is_on_this_machine_or_needs_no_proxy_is_told_straight() {
    let (to, seen, authority) = receiver().await;
    let (address, asked) = proxy(to, &[LED]).await;
    let port = to.port();
    let told = format!("https://told.test:{port}/");
    for egress in [
        Egress::new(None, Some(authority.as_bytes())).unwrap(),
        through(address, Resolving::Here, "", &authority),
        through(address, Resolving::ByProxy, "told.test", &authority),
    ] {
        send(&sender(&["told.test"], &["127.0.0.1"], egress), &told).await.unwrap();
    }
    assert_eq!(lines(&seen), ["told.test POST / HTTP/1.1"; 3]);
    // The certificate is for another name, by which it is known that it was asked.
    let local = sender(&["localhost"], &["127.0.0.1"], through(address, Resolving::ByProxy, "", &authority));
    let error = unreached(send(&local, &format!("https://localhost:{port}/")).await);
    assert!(matches!(error, Unreached::Tls(_)), "{error:?}");
    assert_eq!(lines(&asked), [] as [&str; 0]);
}

#[tokio::test]
async fn without_tls_the_proxy_does_not_see_the_request_either() {
    let (to, seen) = plain().await;
    let (_, _, authority) = receiver().await;
    let (address, asked) = proxy(to, &[LED]).await;
    let sender = sender(&["told.test"], &["10.0.0.1"], through(address, Resolving::Here, "", &authority));
    send(&sender, "http://told.test/hook").await.unwrap();
    assert_eq!(lines(&asked), ["CONNECT 10.0.0.1:80 HTTP/1.1"]);
    let told = seen.lock().unwrap().clone();
    assert!(told[0].starts_with("plain POST /hook HTTP/1.1\r\nhost: told.test\r\n"), "{told:?}");
    assert!(!told[0].contains("proxy-authorization"), "{told:?}");
}

#[tokio::test]
async fn an_address_that_is_not_reached_does_not_keep_the_next_from_it() {
    let (to, seen, authority) = receiver().await;
    let straight = Egress::new(None, Some(authority.as_bytes())).unwrap();
    // Nobody listens at the first.
    let told = sender(&["told.test"], &["127.0.0.2", "127.0.0.1"], straight.clone());
    send(&told, &format!("https://told.test:{}/", to.port())).await.unwrap();
    assert_eq!(lines(&seen), ["told.test POST / HTTP/1.1"]);
    let nobody = sender(&["told.test"], &["127.0.0.2"], straight);
    let error = unreached(send(&nobody, &format!("https://told.test:{}/", to.port())).await);
    assert!(matches!(error, Unreached::Connection(_)), "{error:?}");
}

#[tokio::test]
async fn a_proxy_that_says_nothing_is_waited_for_so_long_and_leaves_time_for_the_next_address() {
    let (to, _, authority) = receiver().await;
    for (answers, seconds, reached) in [(&[SILENCE, LED][..], 8, true), (&[SILENCE], 1, false)] {
        let (address, asked) = proxy(to, answers).await;
        let egress = through(address, Resolving::Here, "", &authority);
        let settings = sender(&[], &[], egress).settings().clone();
        let reach = Reach::new(&settings).unwrap().resolving_by(Arc::new(Finds(&["192.0.2.7", "192.0.2.8"])));
        let reach = Reach { time: Duration::from_secs(seconds), ..reach };
        let url = Url::parse("https://told.test/").unwrap();
        let request = Request::post("/").body(Full::from("{")).unwrap();
        let answer = reach.ask(&settings, &url, false, request).await;
        match reached {
            true => assert_eq!(answer.unwrap(), StatusCode::NO_CONTENT),
            false => assert!(matches!(answer, Err(Unreached::Time)), "{answer:?}"),
        }
        assert_eq!(lines(&asked), ["CONNECT 192.0.2.7:443 HTTP/1.1", "CONNECT 192.0.2.8:443 HTTP/1.1"]);
    }
}

#[tokio::test]
async fn what_a_proxy_refused_is_delivered_once_it_leads_on() {
    let (to, seen, authority) = receiver().await;
    let (address, asked) = proxy(to, &["407 Who", "403 No", LED]).await;
    let sender = sender(&[], &["192.0.2.7"], through(address, Resolving::Here, "", &authority));
    let world = world().await;
    let id = world.deliver(&Callback { url: "https://told.test/".to_owned(), secret: None, events: Vec::new() }).await;
    let running = world.start_by(sender, Duration::from_millis(5));
    world.until_nothing_is_left().await;
    running.abort();
    assert_eq!(lines(&asked), ["CONNECT 192.0.2.7:443 HTTP/1.1"; 3]);
    let told = seen.lock().unwrap().clone();
    assert!(told.len() == 1 && told[0].contains(&format!("\r\nwebhook-id: {id}\r\n")), "{told:?}");
}
