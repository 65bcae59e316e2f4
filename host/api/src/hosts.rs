//! By which names clients may call this host, and which pages may call it.
//!
//! A page on the web can have a browser send requests here, and can have its own name resolve to this machine. What it
//! cannot do is forge `Host` and `Origin`, so that these two tell its requests from those of this machine's user.

use std::net::SocketAddr;

use http::{HeaderMap, Request, Uri, header};
use witan_tasks::{Code, TaskError};

/// The names of a host that listens on one address.
#[derive(Debug)]
pub struct Hosts(Vec<String>);

impl Hosts {
    /// The names that mean this machine where it listens on `address`.
    #[must_use]
    pub fn of(address: SocketAddr) -> Self {
        let port = address.port();
        let ip = match address {
            SocketAddr::V4(address) => address.ip().to_string(),
            SocketAddr::V6(address) => format!("[{}]", address.ip()),
        };
        let mut names = Vec::new();
        for name in ["localhost", "127.0.0.1", "[::1]", &ip] {
            names.push(format!("{name}:{port}"));
            if port == 80 {
                names.push(name.to_owned());
            }
        }
        Self(names)
    }

    /// Checks that the request is meant for this host, and comes from no page of another origin.
    ///
    /// # Errors
    /// When it is for another host, names none or two, or comes from such a page.
    pub fn check<B>(&self, request: &Request<B>) -> Result<(), TaskError> {
        self.check_with(request, None)
    }

    /// As [`Self::check`], where clients reach this host as `public` too, an origin such as `https://witan.example`.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn check_with<B>(&self, request: &Request<B>, public: Option<&str>) -> Result<(), TaskError> {
        self.check_host(request.uri(), request.headers(), public)?;
        self.check_origin(request.headers(), public)
    }

    fn check_host(&self, uri: &Uri, headers: &HeaderMap, public: Option<&str>) -> Result<(), TaskError> {
        let mut given = headers.get_all(header::HOST).iter();
        let (host, second) = (given.next(), given.next());
        if second.is_some() || (host.is_none() && uri.authority().is_none()) {
            return Err(TaskError::invalid("Host", "the request must have one `Host` header"));
        }
        let host = host.map(|host| host.as_bytes());
        let target = uri.authority().map(|authority| authority.as_str().as_bytes());
        if [host, target].into_iter().flatten().all(|name| self.is_ours(name) || is_public(name, public)) {
            return Ok(());
        }
        let message = format!(
            "the request is not meant for this host, which is called {}; `host.auth.public-url` gives it another name",
            self.0.join(", ")
        );
        Err(TaskError::new(Code::HostNotAllowed, message).at("Host"))
    }

    fn check_origin(&self, headers: &HeaderMap, public: Option<&str>) -> Result<(), TaskError> {
        let ours = |origin: &[u8]| {
            let is_public = public.is_some_and(|public| public.as_bytes().eq_ignore_ascii_case(origin));
            is_public || origin.strip_prefix(b"http://").is_some_and(|name| self.is_ours(name))
        };
        if headers.get_all(header::ORIGIN).iter().all(|origin| ours(origin.as_bytes())) {
            return Ok(());
        }
        let message = "the request comes from a page of another origin, and only this host's own pages may call it";
        Err(TaskError::new(Code::OriginNotAllowed, message).at("Origin"))
    }

    fn is_ours(&self, name: &[u8]) -> bool {
        self.0.iter().any(|ours| ours.as_bytes().eq_ignore_ascii_case(name))
    }
}

/// Whether `name` is the host of the origin `public`.
fn is_public(name: &[u8], public: Option<&str>) -> bool {
    let host = public.and_then(|public| public.split_once("://")).map(|(_, host)| host);
    host.is_some_and(|host| host.as_bytes().eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(uri: &str, headers: &[(&str, &str)]) -> Result<(), Code> {
        let mut request = Request::get(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let hosts = Hosts::of("127.0.0.1:8080".parse().unwrap());
        hosts.check(&request.body(()).unwrap()).map_err(|error| error.code)
    }

    #[test]
    fn this_machine_calls_by_its_own_names() {
        for host in ["127.0.0.1:8080", "localhost:8080", "LocalHost:8080", "[::1]:8080"] {
            assert_eq!(check("/", &[("host", host)]), Ok(()), "{host}");
            assert_eq!(check(&format!("http://{host}/"), &[]), Ok(()), "{host}");
            assert_eq!(check("/", &[("host", host), ("origin", &format!("http://{host}"))]), Ok(()), "{host}");
        }
    }

    #[test]
    fn another_name_that_resolves_here_is_refused() {
        for host in
            ["evil.example:8080", "evil.example", "localhost", "localhost:80", "localhost.evil.example:8080", ""]
        {
            assert_eq!(check("/", &[("host", host)]), Err(Code::HostNotAllowed), "{host}");
        }
        assert_eq!(check("http://evil.example/", &[("host", "localhost:8080")]), Err(Code::HostNotAllowed));
        assert_eq!(check("http://localhost:8080/", &[("host", "evil.example")]), Err(Code::HostNotAllowed));
    }

    #[test]
    fn a_request_names_one_host() {
        assert_eq!(check("/", &[]), Err(Code::InvalidRequest));
        let twice = [("host", "localhost:8080"), ("host", "localhost:8080")];
        assert_eq!(check("/", &twice), Err(Code::InvalidRequest));
    }

    #[test]
    fn a_page_of_another_origin_is_refused() {
        for origin in ["http://evil.example", "null", "https://localhost:8080", "http://localhost:81", "file://", ""] {
            let headers = [("host", "localhost:8080"), ("origin", origin)];
            assert_eq!(check("/", &headers), Err(Code::OriginNotAllowed), "{origin}");
        }
        let both = [("host", "localhost:8080"), ("origin", "http://localhost:8080"), ("origin", "http://evil.example")];
        assert_eq!(check("/", &both), Err(Code::OriginNotAllowed));
    }

    #[test]
    fn a_host_has_the_name_that_clients_reach_it_by() {
        let hosts = Hosts::of("127.0.0.1:8080".parse().unwrap());
        let check = |host: &str, origin: &str| {
            let request = Request::get("/").header("host", host).header("origin", origin).body(()).unwrap();
            hosts.check_with(&request, Some("https://witan.example")).map_err(|error| error.code)
        };
        assert_eq!(check("Witan.example", "https://witan.example"), Ok(()));
        assert_eq!(check("localhost:8080", "http://localhost:8080"), Ok(()));
        assert_eq!(check("witan.example:8080", "https://witan.example"), Err(Code::HostNotAllowed));
        assert_eq!(check("witan.example", "http://witan.example"), Err(Code::OriginNotAllowed));
    }

    #[test]
    fn port_80_need_not_be_named() {
        let hosts = Hosts::of("127.0.0.1:80".parse().unwrap());
        assert!(hosts.check(&Request::get("/").header("host", "localhost").body(()).unwrap()).is_ok());
    }
}
