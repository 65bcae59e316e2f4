//! How the host's own requests leave this machine: to registries, issuers, Vault, collectors, witnesses and callbacks.
//!
//! One place decides by which proxy and by whose authority: a client that is built elsewhere would go around both, or take a
//! proxy from an environment that nobody checked. Requests of components leave by a connector of their own, which checks
//! each address; it shares with callbacks, whose addresses are checked too, how a proxy is asked for one: [`Tunnel`].

mod observer;
mod resolve;
mod tunnel;

use std::{env, fmt, sync::Arc};

use reqwest::{
    Certificate, ClientBuilder,
    header::{HeaderValue, InvalidHeaderValue},
    redirect::Policy,
};
use rustls::{
    ClientConfig,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use rustls_platform_verifier::Verifier;
use url::{Host, Url};

pub use observer::{Cause, Observer, Outcome, Purpose, Sent};
pub use resolve::{Resolver, SystemResolver};
pub use tunnel::{Resolving, Tunnel, TunnelError};

/// The way out. The default is the straight one, with the authorities of this machine.
#[derive(Clone, Default)]
pub struct Egress {
    proxy: Option<reqwest::Proxy>,
    checked: Option<(Tunnel, Arc<Proxy>)>,
    authorities: Vec<Authority>,
    observer: Option<Arc<dyn Observer>>,
}

/// An authority as each of those who speak TLS takes it.
#[derive(Clone)]
struct Authority {
    der: CertificateDer<'static>,
    certificate: Certificate,
}

/// A proxy, and what is reached without it.
pub struct Proxy {
    /// Where it is, such as `http://proxy.example:3128`.
    pub url: Url,
    /// What `Proxy-Authorization` says to it, a secret.
    pub authorization: Option<String>,
    /// Whether a host, by its name or address, is reached without it.
    pub bypass: Box<dyn Fn(&str) -> bool + Send + Sync>,
    /// Who looks up names whose addresses are checked. Those that the operator named are the proxy's to look up.
    pub resolving: Resolving,
}

/// Why there is no way out.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// What the proxy is told cannot stand in a header.
    #[error("the credentials of the proxy cannot be sent")]
    Authorization(#[from] InvalidHeaderValue),
    /// What the environment names is no proxy. It may hold a password, and is not shown.
    #[error("`HTTPS_PROXY` or `ALL_PROXY` names no proxy; write it as `http://proxy.example:3128`")]
    Proxy,
    /// The URL of the proxy has no host and port.
    #[error("the proxy is no `http://HOST:PORT`")]
    Url,
    /// The additional authorities are no certificates.
    #[error("the additional authorities cannot be read: {0}")]
    Authorities(String),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up; check the authorities of this machine and those that are named besides")]
    Tls(#[from] rustls::Error),
}

impl Egress {
    /// The way through `proxy`, where there is one, to servers that the certificates in `authorities` (PEM) vouch for besides
    /// those that this machine knows.
    ///
    /// # Errors
    /// When the proxy, its credentials or the certificates are none.
    pub fn new(proxy: Option<Proxy>, authorities: Option<&[u8]>) -> Result<Self, EgressError> {
        let authorities = match authorities {
            None => Vec::new(),
            Some(pem) => certificates(pem)?,
        };
        let checked = proxy.map(|proxy| Ok::<_, EgressError>((tunnel(&proxy)?, Arc::new(proxy)))).transpose()?;
        let proxy = checked.as_ref().map(|(_, proxy)| through(proxy.clone())).transpose()?;
        Ok(Self { proxy, checked, authorities, observer: None })
    }

    /// The way of a command that no system says anything to: as `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` have it, in capitals
    /// or not. What goes over TLS goes through the proxy, and what does not stays on this machine.
    ///
    /// # Errors
    /// When the proxy is none.
    pub fn of_environment() -> Result<Self, EgressError> {
        Self::of_variables(|name| env::var(name).ok())
    }

    fn of_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, EgressError> {
        let set = |name: &&str| variable(name).filter(|value| !value.is_empty());
        let proxy = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"].iter().find_map(set);
        let bypass = ["NO_PROXY", "no_proxy"].iter().find_map(set);
        let proxy = proxy.map(|url| {
            let proxy = reqwest::Proxy::https(url).map_err(|_| EgressError::Proxy)?;
            Ok::<_, EgressError>(proxy.no_proxy(bypass.as_deref().and_then(reqwest::NoProxy::from_string)))
        });
        Ok(Self { proxy: proxy.transpose()?, ..Self::default() })
    }

    /// The same way, to servers that the certificates in `authorities` (PEM) vouch for besides.
    ///
    /// # Errors
    /// When these are none.
    pub fn trusting(mut self, authorities: &[u8]) -> Result<Self, EgressError> {
        self.authorities.extend(certificates(authorities)?);
        Ok(self)
    }

    /// The same way, on which `observer` is told of each request.
    #[must_use]
    pub fn observed(self, observer: Arc<dyn Observer>) -> Self {
        Self { observer: Some(observer), ..self }
    }

    /// A client on this way, which follows no redirection.
    pub fn client(&self) -> ClientBuilder {
        let straight = self.straight();
        match &self.proxy {
            Some(proxy) => straight.proxy(proxy.clone()),
            None => straight,
        }
    }

    fn straight(&self) -> ClientBuilder {
        let builder = reqwest::Client::builder().no_proxy().redirect(Policy::none());
        match self.authorities.is_empty() {
            true => builder,
            false => builder.tls_certs_merge(self.authorities.iter().map(|authority| authority.certificate.clone())),
        }
    }

    /// The proxy that leads to `host` for who connects by itself, to addresses that it checks; none where the way is the
    /// straight one. That of an environment is for clients alone.
    #[must_use]
    pub fn tunnel(&self, host: &str) -> Option<(&Tunnel, Resolving)> {
        let (tunnel, proxy) = self.checked.as_ref().filter(|(_, proxy)| !(proxy.bypass)(host))?;
        Some((tunnel, proxy.resolving))
    }

    /// TLS for who connects by itself: HTTP/1.1, to servers that the same authorities vouch for as for clients.
    ///
    /// # Errors
    /// When there are no authorities, or one is none.
    pub fn tls(&self) -> Result<ClientConfig, EgressError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let more = self.authorities.iter().map(|authority| authority.der.clone());
        let verifier = Verifier::new_with_extra_roots(more, provider.clone())?;
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let config = config.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = config.with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    /// Tells that a request for `url` was made, and what came of it.
    pub fn sent(&self, purpose: Purpose, url: &Url, outcome: Outcome) {
        self.tell(purpose, url, outcome, None);
    }

    /// The same of one that was made for the task `cause`.
    pub fn sent_for(&self, cause: Cause<'_>, purpose: Purpose, url: &Url, outcome: Outcome) {
        self.tell(purpose, url, outcome, Some(cause));
    }

    fn tell(&self, purpose: Purpose, url: &Url, outcome: Outcome, cause: Option<Cause<'_>>) {
        if let (Some(observer), Some(host)) = (&self.observer, url.host_str()) {
            let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
            observer.observe(&Sent { purpose, host: &host, outcome, cause });
        }
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<Authority>, EgressError> {
    let read = |der: Result<CertificateDer<'static>, _>| {
        let der = der.map_err(|error: rustls::pki_types::pem::Error| EgressError::Authorities(error.to_string()))?;
        let certificate = Certificate::from_der(&der);
        Ok(Authority { certificate: certificate.map_err(|error| EgressError::Authorities(error.to_string()))?, der })
    };
    let read: Vec<_> = CertificateDer::pem_slice_iter(pem).map(read).collect::<Result<_, EgressError>>()?;
    if read.is_empty() {
        return Err(EgressError::Authorities("there is no certificate".to_owned()));
    }
    Ok(read)
}

/// The proxy as who connects by itself has it.
fn tunnel(proxy: &Proxy) -> Result<Tunnel, EgressError> {
    let host = match proxy.url.host() {
        Some(Host::Domain(name)) => name.to_owned(),
        Some(Host::Ipv4(address)) => address.to_string(),
        Some(Host::Ipv6(address)) => address.to_string(),
        None => return Err(EgressError::Url),
    };
    let port = proxy.url.port_or_known_default().ok_or(EgressError::Url)?;
    Ok(Tunnel::new(host, port, proxy.authorization.clone()))
}

/// The proxy as the client of HTTP has it.
fn through(proxy: Arc<Proxy>) -> Result<reqwest::Proxy, EgressError> {
    let authorization = proxy.authorization.as_deref().map(HeaderValue::from_str).transpose()?;
    let way = reqwest::Proxy::custom(move |target| {
        let host = target.host_str().unwrap_or_default();
        (!(proxy.bypass)(host)).then(|| proxy.url.clone())
    });
    Ok(match authorization {
        None => way,
        Some(mut value) => {
            value.set_sensitive(true);
            way.custom_http_auth(value)
        }
    })
}

impl fmt::Debug for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { proxy, authorities, .. } = self;
        f.debug_struct("Egress").field("proxy", &proxy.is_some()).field("authorities", &authorities.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpListener,
        sync::{Mutex, mpsc},
    };

    use super::*;

    /// A server that answers each request with `text`, and tells what it was asked.
    fn server(text: &'static str) -> (Url, mpsc::Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let (mut head, mut byte) = (Vec::new(), [0]);
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
                    head.extend_from_slice(&byte);
                }
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len());
                let _gone = stream.write_all(answer.as_bytes());
                let _nobody_asks = tell.send(String::from_utf8(head).unwrap());
            }
        });
        (url, told)
    }

    async fn get(client: ClientBuilder, url: &str) -> String {
        client.build().unwrap().get(url).send().await.unwrap().text().await.unwrap()
    }

    #[tokio::test]
    async fn requests_go_through_the_proxy_but_where_they_need_not() {
        let ((proxy, asked), (direct, _)) = (server("the proxy"), server("itself"));
        let bypass = Box::new(|host: &str| host == "127.0.0.1");
        let (url, resolving) = (proxy.to_string(), Resolving::ByProxy);
        let proxy = Proxy { url: proxy, authorization: Some("Basic eDp5".into()), bypass, resolving };
        let egress = Egress::new(Some(proxy), None).unwrap();
        assert_eq!(get(egress.client(), "http://somewhere.test/path").await, "the proxy");
        let head = asked.recv().unwrap();
        assert!(head.starts_with("GET http://somewhere.test/path "), "{head}");
        assert!(head.contains("proxy-authorization: Basic eDp5\r\n"), "{head}");
        assert_eq!(get(egress.client(), direct.as_str()).await, "itself");
        // Who connects by itself goes the same way.
        let (tunnel, resolving) = egress.tunnel("somewhere.test").unwrap();
        assert_eq!((format!("http://{tunnel}/"), resolving), (url, Resolving::ByProxy));
        assert!(egress.tunnel("127.0.0.1").is_none() && Egress::default().tunnel("somewhere.test").is_none());
        assert!(!format!("{egress:?}").contains("eDp5"));
    }

    #[tokio::test]
    async fn the_environment_names_a_proxy_for_what_goes_over_tls() {
        let ((proxy, asked), (direct, _)) = (server("the proxy"), server("itself"));
        let with_password = proxy.as_str().replace("http://", "http://user:password@");
        let of = |variables: &'static [&'static str], bypass: &'static str| {
            let url = with_password.clone();
            Egress::of_variables(move |name| match name {
                "no_proxy" => Some(bypass.to_owned()),
                name => variables.contains(&name).then(|| url.clone()),
            })
            .unwrap()
        };
        for variables in [&["https_proxy"][..], &["ALL_PROXY"]] {
            let egress = of(variables, "other.test");
            assert!(!format!("{egress:?}").contains("password"));
            // The proxy does not lead on.
            assert!(egress.client().build().unwrap().get("https://somewhere.test/").send().await.is_err());
            let head = asked.recv().unwrap();
            assert!(head.starts_with("CONNECT somewhere.test:443 "), "{head}");
            assert!(head.to_ascii_lowercase().contains("proxy-authorization: basic dxnlcjpwyxnzd29yza=="), "{head}");
            assert_eq!(get(egress.client(), direct.as_str()).await, "itself");
        }
        for egress in [of(&["HTTPS_PROXY"], "test"), of(&[], "")] {
            assert!(egress.client().build().unwrap().get("https://somewhere.test/").send().await.is_err());
        }
        assert!(asked.try_recv().is_err(), "it was not to be asked");
        let wrong = Egress::of_variables(|name| (name == "HTTPS_PROXY").then(|| "http://a:secret@[".to_owned()));
        let wrong = wrong.unwrap_err();
        assert!(matches!(wrong, EgressError::Proxy) && !wrong.to_string().contains("secret"));
    }

    #[test]
    fn what_is_no_certificate_is_no_authority() {
        for text in [&b""[..], b"no certificate", b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"] {
            assert!(matches!(Egress::new(None, Some(text)), Err(EgressError::Authorities(_))));
            assert!(matches!(Egress::default().trusting(text), Err(EgressError::Authorities(_))));
        }
        let bypass = Box::new(|_: &str| false);
        let url = "http://proxy.test".parse().unwrap();
        let wrong = Proxy { url, authorization: Some("a\nb".to_owned()), bypass, resolving: Resolving::Here };
        assert!(matches!(Egress::new(Some(wrong), None), Err(EgressError::Authorization(_))));
    }

    #[test]
    fn who_observes_is_told_of_each_request_by_host() {
        #[derive(Default)]
        struct Keeps(Mutex<Vec<String>>);
        impl Observer for Keeps {
            fn observe(&self, sent: &Sent<'_>) {
                self.0.lock().unwrap().push(format!("{} {} {}", sent.purpose.name(), sent.host, sent.outcome));
            }
        }
        let keeps = Arc::new(Keeps::default());
        let egress = Egress::default().observed(keeps.clone());
        let url = |text: &str| text.parse().unwrap();
        egress.sent(Purpose::Issuer, &url("https://user:word@corp.test/keys?x=secret"), Outcome::Answered(200));
        egress.sent(Purpose::Callback, &url("http://127.0.0.1:81/"), Outcome::Unreachable);
        let told = keeps.0.lock().unwrap().clone();
        assert_eq!(told, ["issuer corp.test answered 200", "callback 127.0.0.1:81 unreachable"]);
    }
}
