//! TLS: what is spoken, whose certificates are taken, and certificates that change under way.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc, time::Duration};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use witan_api::{Settings, Tls, TlsError, TlsFiles};

use crate::world::{Answer, World, task};

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Issuer {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate for `name` and its key, both in PEM form.
fn issue(issuer: &Issuer, name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    (params.signed_by(&key, issuer).unwrap().pem(), key.serialize_pem())
}

/// Puts a certificate of `issuer` into `folder`, at once.
fn put(folder: &Path, issuer: &Issuer) -> TlsFiles {
    let (certificate, key) = issue(issuer, "localhost");
    let files = TlsFiles { certificate: folder.join("certificate.pem"), key: folder.join("key.pem"), client_ca: None };
    for (path, text) in [(&files.certificate, certificate), (&files.key, key)] {
        let new = folder.join("new");
        fs::write(&new, text).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(new, path).unwrap();
    }
    files
}

/// A client that takes certificates of `issuer` alone, and shows `identity`.
fn client(issuer: &Issuer, identity: Option<(String, String)>) -> reqwest::Client {
    let authority = reqwest::Certificate::from_pem(issuer.pem().as_bytes()).unwrap();
    let mut builder = reqwest::Client::builder().tls_certs_only([authority]).pool_max_idle_per_host(0);
    if let Some((certificate, key)) = identity {
        let identity = reqwest::Identity::from_pem(format!("{certificate}{key}").as_bytes()).unwrap();
        builder = builder.identity(identity);
    }
    builder.build().unwrap()
}

async fn ready(client: &reqwest::Client, world: &World) -> Result<u16, reqwest::Error> {
    let url = format!("https://localhost:{}/healthz", world.address.port());
    Ok(client.get(url).send().await?.status().as_u16())
}

#[tokio::test]
async fn clients_speak_tls_and_nothing_else() {
    let (folder, issuer) = (tempfile::tempdir().unwrap(), authority());
    let tls = Arc::new(Tls::load(put(folder.path(), &issuer)).unwrap());
    let world = World::over_tls(Settings::default(), tls).await;
    let client = client(&issuer, None);
    assert_eq!(ready(&client, &world).await.unwrap(), 200);
    let url = format!("https://localhost:{}/v1/tasks?wait=30", world.address.port());
    let answer = client.post(url).json(&task("over TLS")).send().await.unwrap();
    assert!(Answer::of(answer).await.text.contains("over TLS"));
    // In the clear there is no answer, and another authority's certificate is not taken.
    assert!(!world.raw(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await.contains("200"));
    assert!(ready(&self::client(&authority(), None), &world).await.is_err());
    // A page of this host is one that came over TLS.
    for (scheme, status) in [("https", 200), ("http", 403)] {
        let url = format!("https://localhost:{}/healthz", world.address.port());
        let origin = format!("{scheme}://localhost:{}", world.address.port());
        assert_eq!(client.get(url).header("origin", origin).send().await.unwrap().status(), status);
    }
}

#[tokio::test]
async fn a_client_that_does_not_greet_is_let_go() {
    let (folder, issuer) = (tempfile::tempdir().unwrap(), authority());
    let tls = Arc::new(Tls::load(put(folder.path(), &issuer)).unwrap());
    let settings = Settings { header_time: Duration::from_millis(100), ..Settings::default() };
    let world = World::over_tls(settings, tls).await;
    let mut silent = TcpStream::connect(world.address).await.unwrap();
    let mut answer = Vec::new();
    let _reset = silent.read_to_end(&mut answer).await;
    assert!(answer.is_empty());
    let _gone = silent.write_all(b"late").await;
}

#[tokio::test]
async fn certificates_are_read_again_and_connections_go_on() {
    let (folder, first, second) = (tempfile::tempdir().unwrap(), authority(), authority());
    let files = put(folder.path(), &first);
    let tls = Arc::new(Tls::load(files.clone()).unwrap());
    let world = World::over_tls(Settings::default(), tls.clone()).await;
    let authority = reqwest::Certificate::from_pem(first.pem().as_bytes()).unwrap();
    let keeps = reqwest::Client::builder().tls_certs_only([authority]).build().unwrap();
    assert_eq!(ready(&keeps, &world).await.unwrap(), 200);
    assert!(!tls.reload().unwrap());
    // What cannot be used changes nothing, and is said once.
    fs::write(&files.certificate, "no certificate").unwrap();
    assert!(matches!(tls.reload(), Err(TlsError::File { .. })));
    assert!(!tls.reload().unwrap());
    assert_eq!(ready(&client(&first, None), &world).await.unwrap(), 200);
    put(folder.path(), &second);
    assert!(tls.reload().unwrap());
    assert_eq!(ready(&client(&second, None), &world).await.unwrap(), 200);
    assert!(ready(&client(&first, None), &world).await.is_err());
    assert_eq!(ready(&keeps, &world).await.unwrap(), 200, "the connection that was open");
}

#[tokio::test]
async fn a_host_reads_changed_certificates_by_itself() {
    let (folder, first, second) = (tempfile::tempdir().unwrap(), authority(), authority());
    let tls = Arc::new(Tls::load(put(folder.path(), &first)).unwrap());
    let world = World::over_tls(Settings::default(), tls).await;
    put(folder.path(), &second);
    let client = client(&second, None);
    while ready(&client, &world).await.is_err() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_client_may_show_a_certificate_of_the_named_authorities_alone() {
    let (folder, issuer, clients) = (tempfile::tempdir().unwrap(), authority(), authority());
    let mut files = put(folder.path(), &issuer);
    let ca = folder.path().join("clients.pem");
    fs::write(&ca, clients.pem()).unwrap();
    files.client_ca = Some(ca);
    let world = World::over_tls(Settings::default(), Arc::new(Tls::load(files).unwrap())).await;
    assert_eq!(ready(&client(&issuer, None), &world).await.unwrap(), 200);
    assert_eq!(ready(&client(&issuer, Some(issue(&clients, "service.test"))), &world).await.unwrap(), 200);
    assert!(ready(&client(&issuer, Some(issue(&authority(), "service.test"))), &world).await.is_err());
}

#[test]
fn what_cannot_be_used_says_why() {
    let (folder, issuer) = (tempfile::tempdir().unwrap(), authority());
    let files = put(folder.path(), &issuer);
    let load = |files: &TlsFiles| Tls::load(files.clone()).unwrap_err();
    let missing = TlsFiles { certificate: folder.path().join("none"), ..files.clone() };
    assert!(matches!(load(&missing), TlsError::File { what: "certificate", .. }));
    let swapped = TlsFiles { key: files.certificate.clone(), ..files.clone() };
    assert!(matches!(load(&swapped), TlsError::File { what: "private key", .. }));
    fs::set_permissions(&files.key, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(load(&files), TlsError::Open { mode: 0o644, .. }));
    fs::write(&files.key, issue(&issuer, "localhost").1).unwrap();
    fs::set_permissions(&files.key, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(matches!(load(&files), TlsError::Unusable { .. }));
}
