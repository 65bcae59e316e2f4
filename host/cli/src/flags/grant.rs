//! One flag, one grant.

use std::path::{Component, Path};

use url::Url;
use witan_system::{
    Access, Files, FilesystemGrant, HostPattern, HttpGrant, Protocol, Scheme, SocketGrant, normalise_guest_path,
    normalise_http_path,
};

/// `HOST[::GUEST][:ro|:rw]`.
pub(super) fn directory(text: &str) -> Result<FilesystemGrant, String> {
    let (rest, access) = match text.rsplit_once(':') {
        Some((rest, "ro")) => (rest, Access::Read),
        Some((rest, "rw")) => (rest, Access::ReadWrite),
        _ => (text, Access::Read),
    };
    let (host, guest) = match rest.split_once("::") {
        Some((host, guest)) => (host, guest.to_owned()),
        None => (rest, guest_of(rest)?),
    };
    let guest = normalise_guest_path(&guest)
        .ok_or_else(|| format!("`{guest}` is not an absolute path without `.` and `..`; write one such as `/docs`"))?;
    let host = std::path::absolute(host).map_err(|error| format!("`{host}` is no path: {error}"))?;
    Ok(FilesystemGrant { files: Files::Path { host, guest }, access, max_bytes: None })
}

/// Where the component sees `host` if nothing else is said: at the same place, from here or from the root.
fn guest_of(host: &str) -> Result<String, String> {
    let mut guest = String::new();
    for part in Path::new(host).components() {
        match part {
            Component::Normal(part) => guest.extend(["/", &part.to_string_lossy()]),
            Component::ParentDir => {
                return Err(format!("`{host}` leads up; say where the component sees it: `{host}::/NAME`"));
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    Ok(if guest.is_empty() { "/".to_owned() } else { guest })
}

/// `[METHOD,…=]URL`.
pub(super) fn http(text: &str) -> Result<HttpGrant, String> {
    let is_methods =
        |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_uppercase() || b"-,".contains(&b));
    let (methods, url) = match text.split_once('=').filter(|(methods, _)| is_methods(methods)) {
        Some((methods, url)) => (methods, url),
        None => ("GET,HEAD", text),
    };
    let malformed = |why: &dyn std::fmt::Display| {
        format!("`{url}` is no URL to grant: {why}; write one such as `https://api.example.com/v1`")
    };
    let parsed = Url::parse(url).map_err(|error| malformed(&error))?;
    let scheme = match parsed.scheme() {
        "https" => Scheme::Https,
        "http" => Scheme::Http,
        _ => return Err(malformed(&"its scheme is neither https nor http")),
    };
    let extras = [parsed.username(), parsed.query().unwrap_or(""), parsed.fragment().unwrap_or("")];
    if extras.iter().any(|extra| !extra.is_empty()) || parsed.password().is_some() || url.contains(['?', '#']) {
        return Err(malformed(&"it has a user, a query or a fragment, which no grant has"));
    }
    let host: HostPattern = parsed.host_str().unwrap_or("").parse().map_err(|error| malformed(&error))?;
    let path = normalise_http_path(written_path(url)).map_err(|error| malformed(&error))?;
    Ok(HttpGrant {
        scheme,
        host,
        port: parsed.port_or_known_default().unwrap_or(0),
        methods: methods.split(',').map(str::to_owned).collect(),
        path_prefix: path,
        private: false,
    })
}

/// The path as it was written: parsing a URL resolves `..` away, which must be refused instead.
fn written_path(url: &str) -> &str {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    rest.find('/').map_or("/", |at| &rest[at..])
}

/// `[tcp:|udp:]HOST:PORT`.
pub(super) fn socket(text: &str) -> Result<SocketGrant, String> {
    let (protocol, rest) = match text.split_once(':') {
        Some(("udp", rest)) => (Protocol::Udp, rest),
        Some(("tcp", rest)) => (Protocol::Tcp, rest),
        _ => (Protocol::Tcp, text),
    };
    let (host, port) = rest.rsplit_once(':').ok_or_else(|| format!("`{text}` names no port; write HOST:PORT"))?;
    let host: HostPattern = host.parse().map_err(|error| format!("{error}"))?;
    match port.parse() {
        Ok(port) if port > 0 => Ok(SocketGrant { protocol, host, port, private: false }),
        _ => Err(format!("`{port}` is no port; write one from 1 to 65535")),
    }
}

/// `NAME=VALUE`, or the name of a variable of this process.
pub(super) fn environment(text: &str) -> Result<(String, String), String> {
    if let Ok(pair) = pair(text) {
        return Ok(pair);
    }
    let value =
        std::env::var(text).map_err(|error| format!("cannot take `{text}` from here: {error}; write NAME=VALUE"))?;
    Ok((text.to_owned(), value))
}

/// `KEY=VALUE`.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("`{text}` is not of the form KEY=VALUE"))?;
    Ok((key.to_owned(), value.to_owned()))
}

/// A size, in bytes.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    witan_system::parse_bytes(text).ok_or_else(|| format!("`{text}` is no size; write one such as `64MiB`"))
}

/// A size, as it was written.
pub(super) fn size(text: &str) -> Result<String, String> {
    bytes(text).map(|_| text.to_owned())
}

/// A time, as it was written.
pub(super) fn time(text: &str) -> Result<String, String> {
    let parsed = witan_system::parse_duration(text);
    parsed
        .map(|_| text.to_owned())
        .ok_or_else(|| format!("`{text}` is no time; write one such as `500ms`, `30s` or `2m`"))
}
