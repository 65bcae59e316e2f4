//! Where a request goes, read once and normalised.
//!
//! What policy is asked about, what is looked up, what is connected to and what is written into the request all come
//! from the same value: two readings of one URL are how a check is passed by one and answered for by the other.

use http::uri::{PathAndQuery, Scheme, Uri};
use http::{HeaderValue, Method, Request};
use witan_capability::Resource;
use witan_system::{HostName, OriginName, normalise_http_path};

/// The target of a request.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    method: Method,
    tls: bool,
    host: HostName,
    /// The host as policy sees it: lower case, without brackets.
    host_text: String,
    port: u16,
    path: String,
    query: Option<String>,
}

/// Why a request has no target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Invalid {
    /// The method asks for a tunnel, which would carry what nothing here can read.
    Method,
    /// Neither `http` nor `https`.
    Scheme,
    /// The authority or the path names no place, or names it in a way that servers read differently.
    Uri,
}

impl Target {
    /// Reads the parts of a request as the guest set them. Without a scheme, `https` is meant; without a path, `/`.
    pub(crate) fn read(
        method: Method,
        scheme: Option<&Scheme>,
        authority: Option<&str>,
        path_with_query: Option<&str>,
    ) -> Result<Self, Invalid> {
        if method == Method::CONNECT {
            return Err(Invalid::Method);
        }
        let tls = match scheme.map(Scheme::as_str) {
            None | Some("https") => true,
            Some("http") => false,
            Some(_) => return Err(Invalid::Scheme),
        };
        let (host, port) = split_authority(authority.ok_or(Invalid::Uri)?).ok_or(Invalid::Uri)?;
        let host: HostName = host.parse().map_err(|_| Invalid::Uri)?;
        let (path, query) = match path_with_query.unwrap_or_default().split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (path_with_query.unwrap_or_default(), None),
        };
        let path = normalise_http_path(if path.is_empty() { "/" } else { path }).map_err(|_| Invalid::Uri)?;
        let default_port = if tls { 443 } else { 80 };
        Ok(Self { method, tls, host_text: host.to_string(), host, port: port.unwrap_or(default_port), path, query })
    }

    /// What policy is asked about.
    pub(crate) fn resource(&self) -> Resource<'_> {
        Resource::Url {
            method: self.method.as_str(),
            scheme: if self.tls { "https" } else { "http" },
            host: &self.host_text,
            port: self.port,
            path: &self.path,
        }
    }

    /// Whether the request goes over TLS.
    pub(crate) fn method(&self) -> &str {
        self.method.as_str()
    }

    pub(crate) fn tls(&self) -> bool {
        self.tls
    }

    /// The machine.
    pub(crate) fn host(&self) -> &HostName {
        &self.host
    }

    /// The machine, as text.
    pub(crate) fn host_text(&self) -> &str {
        &self.host_text
    }

    /// The port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Scheme, host and port.
    pub(crate) fn origin(&self) -> OriginName {
        let scheme = if self.tls { witan_system::Scheme::Https } else { witan_system::Scheme::Http };
        OriginName { scheme, host: self.host.clone(), port: self.port }
    }

    /// Writes the target into `request`, in place of whatever stood there. False if it does not fit, which input that
    /// was read by [`Self::read`] cannot cause.
    pub(crate) fn address<B>(&self, request: &mut Request<B>) -> bool {
        let path_and_query = match &self.query {
            Some(query) => PathAndQuery::try_from(format!("{}?{query}", self.path)),
            None => PathAndQuery::try_from(self.path.as_str()),
        };
        let (Ok(path_and_query), Ok(host)) = (path_and_query, HeaderValue::try_from(self.authority())) else {
            return false;
        };
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = Uri::from(path_and_query);
        request.headers_mut().insert(http::header::HOST, host);
        true
    }

    fn authority(&self) -> String {
        let host = match &self.host {
            HostName::Address(address) if address.is_ipv6() => format!("[{address}]"),
            _ => self.host_text.clone(),
        };
        let default_port = if self.tls { 443 } else { 80 };
        if self.port == default_port { host } else { format!("{host}:{}", self.port) }
    }
}

/// Host and port. `None` for user information, an empty or odd port, or anything after it: a password does not belong
/// into a URL, and what one parser takes for it another takes for the host.
fn split_authority(authority: &str) -> Option<(&str, Option<u16>)> {
    if authority.contains(['@', '/', '\\', '?', '#', '%']) {
        return None;
    }
    let end = if authority.starts_with('[') {
        authority.find(']')? + 1
    } else {
        authority.find(':').unwrap_or(authority.len())
    };
    let (host, rest) = authority.split_at(end);
    if rest.is_empty() {
        return Some((host, None));
    }
    let digits = rest.strip_prefix(':').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    let port: u16 = digits.parse().ok()?;
    (port != 0).then_some((host, Some(port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(authority: &str, path: &str) -> Result<Target, Invalid> {
        Target::read(Method::GET, Some(&Scheme::HTTPS), Some(authority), Some(path))
    }

    fn url(authority: &str, path: &str) -> String {
        read(authority, path).unwrap().resource().to_string()
    }

    #[test]
    fn spellings_of_a_target_are_one_target() {
        assert_eq!(url("EXAMPLE.com.", "/%76%31?q"), "GET https://example.com:443/v1");
        assert_eq!(url("127.1:8443", ""), "GET https://127.0.0.1:8443/");
        assert_eq!(url("[::ffff:127.0.0.1]", "?q"), "GET https://127.0.0.1:443/");
        assert_eq!(url("[::1]:80", "/"), "GET https://::1:80/");
    }

    #[test]
    fn what_is_sent_is_what_was_read() {
        let mut request = Request::builder().uri("http://other/elsewhere").header("host", "other").body(()).unwrap();
        assert!(read("Example.COM:8443", "/%61?x=%2e%2e").unwrap().address(&mut request));
        assert_eq!(request.uri(), "/a?x=%2e%2e");
        assert_eq!(request.headers()["host"], "example.com:8443");
        assert!(read("[::1]", "/").unwrap().address(&mut request));
        assert_eq!(request.headers()["host"], "[::1]");
    }

    #[test]
    fn what_parsers_read_differently_is_refused() {
        for authority in [
            "", "a@b", "a:b@c", "a:", "a:x", "a:+80", "a:0", "a:65536", "a:80:81", "[::1", "[::1]x", "a b", "a%2fb",
            "a\\b", "*", "a..b",
        ] {
            assert_eq!(read(authority, "/").err(), Some(Invalid::Uri), "{authority}");
        }
        for path in ["/a/../b", "/a/%2e%2e/b", "/a\\..\\b", "/a/..%2fb", "/a/..;/b", "/a b", "/%", "a"] {
            assert_eq!(read("a", path).err(), Some(Invalid::Uri), "{path}");
        }
    }

    #[test]
    fn tunnels_and_other_schemes_are_refused() {
        let scheme: Scheme = "ftp".parse().unwrap();
        assert_eq!(Target::read(Method::GET, Some(&scheme), Some("a"), None).err(), Some(Invalid::Scheme));
        assert_eq!(Target::read(Method::CONNECT, None, Some("a"), None).err(), Some(Invalid::Method));
        assert_eq!(Target::read(Method::GET, None, None, None).err(), Some(Invalid::Uri));
    }
}
