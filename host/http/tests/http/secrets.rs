//! Secrets in requests: swapped where they go, refused elsewhere, and covered in what comes back.

use std::{fs, net::SocketAddr, sync::Arc};

use witan_http::Settings;
use witan_secrets::{RunKey, Secrets};
use witan_system::{SecretGrant, System};

use crate::host::{Answer, FETCHERS, Fetch, Host, Server, Setup, grant};

const CANARY: &str = "canary-0123456789";

/// A host whose guest, which has the name `guest`, may send to `servers`, and has a secret for the first alone.
fn host(guest: &str, folder: &std::path::Path, servers: &[SocketAddr], granted: bool) -> (Host, String) {
    fs::write(folder.join("key"), CANARY).unwrap();
    let text = format!(
        "schema = 1\n[secrets.key]\norigins = [\"http://{}\"]\nheaders = [\"x-api-key\"]\nfile = \"key\"\n",
        servers[0]
    );
    let system = System::parse(&text, &folder.join("system.toml")).unwrap();
    let secrets = Arc::new(Secrets::new(&system, RunKey::generate().unwrap(), &Default::default()).unwrap());
    let placeholder = secrets.placeholder(guest, &"key".parse().unwrap());
    let mut setup = Setup::grants(servers.iter().copied().map(grant).collect());
    if granted {
        setup.secrets =
            vec![SecretGrant { secret: "key".parse().unwrap(), environment: None, config: Some("key".into()) }];
    }
    setup.settings = Settings { secrets: Some(secrets), ..Settings::default() };
    (setup.start(guest).unwrap(), placeholder)
}

/// A server that answers with the secret in a header and, cut in two, in its body.
async fn echo() -> Server {
    let (one, two) = CANARY.split_at(7);
    let head = format!("HTTP/1.1 200 OK\r\nx-echo: <{CANARY}>\r\ntransfer-encoding: chunked\r\n\r\n");
    let body = format!("8\r\n>{one}\r\nb\r\n{two}<\r\n5\r\ncanar\r\n0\r\n\r\n");
    Server::start(Answer::Bytes(format!("{head}{body}").into_bytes())).await
}

#[tokio::test]
async fn a_placeholder_is_swapped_at_its_origin_and_what_comes_back_is_covered() {
    for (guest, _) in FETCHERS {
        let folder = tempfile::tempdir().unwrap();
        let server = echo().await;
        let (host, placeholder) = host(guest, folder.path(), &[server.address], true);
        let url = format!("/?q={placeholder}");
        let fetch = Fetch::get(server.authority(), &url).header("x-api-key", &placeholder).post(placeholder.clone());
        let fetched = host.fetch(fetch).await.unwrap();
        let request = server.requests().remove(0);
        assert!(request.contains(&format!("x-api-key: {CANARY}\r\n")), "{request}");
        assert_eq!(request.matches(CANARY).count(), 1, "once, in the named header: {request}");
        assert_eq!(request.matches(&placeholder).count(), 2, "in URL and body it is what it is: {request}");
        let stars = "*".repeat(CANARY.len());
        assert_eq!(String::from_utf8(fetched.body).unwrap(), format!(">{stars}<canar"), "{guest}");
        assert!(fetched.headers.contains(&("x-echo".to_owned(), format!("<{stars}>").into_bytes())));
        // Its use is an effect, and in the log of decisions; the secret is not.
        let entries = host.logged();
        assert!(entries.iter().any(|entry| entry.contains("SecretUse")), "{entries:?}");
        assert!(entries.iter().all(|entry| !entry.contains(CANARY)));
    }
}

#[tokio::test]
async fn a_placeholder_leaves_for_no_other_origin_and_in_no_other_header() {
    for (guest, _) in FETCHERS {
        let folder = tempfile::tempdir().unwrap();
        let (server, other) = (Server::ok("").await, Server::ok("").await);
        let (with, placeholder) = host(guest, folder.path(), &[server.address, other.address], true);
        let denied = async |host: &Host, fetch: Fetch| {
            let error = host.fetch(fetch).await.unwrap_err();
            assert_eq!(error, "ErrorCode::HttpRequestDenied", "{guest}");
        };
        denied(&with, Fetch::get(other.authority(), "/").header("x-api-key", &placeholder)).await;
        denied(&with, Fetch::get(server.authority(), "/").header("x-other", &placeholder)).await;
        let (without, placeholder) = host(guest, folder.path(), &[server.address], false);
        denied(&without, Fetch::get(server.authority(), "/").header("x-api-key", &placeholder)).await;
        assert_eq!((server.hits(), other.hits()), (0, 0));
        // What has no placeholder is nobody's business.
        with.fetch(Fetch::get(other.authority(), "/").header("x-api-key", "their own")).await.unwrap();
        assert_eq!(other.hits(), 1);
    }
}

#[tokio::test]
async fn a_redirect_takes_no_secret_along() {
    for (guest, _) in FETCHERS {
        let folder = tempfile::tempdir().unwrap();
        let other = Server::ok("").await;
        let moved = format!("HTTP/1.1 307 Moved\r\nlocation: http://{}/\r\ncontent-length: 0\r\n\r\n", other.address);
        let server = Server::start(Answer::Bytes(moved.into_bytes())).await;
        let (host, placeholder) = host(guest, folder.path(), &[server.address, other.address], true);
        let fetch = Fetch::get(server.authority(), "/").header("x-api-key", &placeholder);
        assert_eq!(host.fetch(fetch).await.unwrap().status, 307);
        let followed = Fetch::get(other.authority(), "/").header("x-api-key", &placeholder);
        assert_eq!(host.fetch(followed).await.unwrap_err(), "ErrorCode::HttpRequestDenied");
        assert_eq!((server.hits(), other.hits()), (1, 0));
    }
}
