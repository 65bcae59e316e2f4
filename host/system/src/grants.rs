//! What a component may do beyond the baseline, as the operator granted it.
//!
//! The values are checked and normalised here, once, so that deciding compares and never parses: a host name that is
//! normalised in two places is sooner or later normalised in two ways.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::{fmt, time::Duration};

use serde::Serialize;

pub use crate::file::{Access, Protocol, Scheme};
use crate::name::{ComponentName, ToolName};
use crate::secrets::SecretGrant;
use crate::unit::Rate;

/// Everything that one component was granted. The default grants nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Grants {
    /// Files and folders.
    pub filesystem: Vec<FilesystemGrant>,
    /// HTTP requests to other machines.
    pub http: Vec<HttpGrant>,
    /// Connections to other machines.
    pub sockets: Vec<SocketGrant>,
    /// Environment variables that it sees, by name. That of a secret is empty until the host puts a placeholder there.
    pub environment: BTreeMap<String, String>,
    /// Settings that it reads through `wasi:config`, by key. That of a secret is empty until the host puts a placeholder there.
    pub config: BTreeMap<String, String>,
    /// Whether it may know the time of day.
    pub wall_clock: bool,
    /// Lines in the host's log.
    pub logging: Option<LoggingGrant>,
    /// A key-value store of its own.
    pub keyvalue: Option<KeyvalueGrant>,
    /// Tools that it may find and call.
    pub tools: Vec<ToolGrant>,
    /// Secrets that it may use.
    pub secrets: Vec<SecretGrant>,
}

impl Grants {
    /// Whether nothing is granted beyond the baseline.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Files that a component may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FilesystemGrant {
    /// Which files.
    pub files: Files,
    /// What it may do with them.
    pub access: Access,
    /// Bytes that one call tree may write there; `None` leaves it to the call tree's own limit. Always `None` with
    /// [`Access::Read`].
    pub max_bytes: Option<u64>,
}

/// Which files a grant means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Files {
    /// A file or folder of this machine.
    Path {
        /// Where it is: the path of the file resolved against the folder of `system.toml`.
        host: PathBuf,
        /// The absolute, normalised path under which the component sees it.
        guest: String,
    },
    /// The files that the task at hand was given, which its call context names.
    Task,
}

/// HTTP requests that a component may send. A request must match every field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HttpGrant {
    /// The scheme.
    pub scheme: Scheme,
    /// The host.
    pub host: HostPattern,
    /// The port.
    pub port: u16,
    /// The methods, in capitals; at least one.
    pub methods: Vec<String>,
    /// The path and what is below it. Begins with `/`; ends with `/` only if it is `/`. Percent-encoding is decoded
    /// where it encodes an unreserved character (RFC 3986, section 6.2.2.2), and in capitals elsewhere.
    pub path_prefix: String,
    /// Whether the host may resolve to an address of this machine or a private network.
    pub private: bool,
}

/// Connections that a component may open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SocketGrant {
    /// The transport.
    pub protocol: Protocol,
    /// The host.
    pub host: HostPattern,
    /// The port.
    pub port: u16,
    /// Whether the host may resolve to an address of this machine or a private network.
    pub private: bool,
}

/// Lines in the host's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LoggingGrant {
    /// How many; more are dropped and counted.
    pub rate: Rate,
}

impl Default for LoggingGrant {
    fn default() -> Self {
        Self { rate: Rate { count: 100, per: Duration::from_secs(1) } }
    }
}

/// A key-value store of a component's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyvalueGrant {
    /// Keys and values together, for one tenant, in bytes.
    pub max_bytes: u64,
}

impl Default for KeyvalueGrant {
    fn default() -> Self {
        Self { max_bytes: 1 << 20 }
    }
}

/// Tools that a component may find and call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ToolGrant {
    /// The component that offers them.
    pub component: ComponentName,
    /// The tool; `None` means all of that component.
    pub tool: Option<ToolName>,
}

impl fmt::Display for ToolGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.component, self.tool.as_ref().map_or("*", ToolName::as_str))
    }
}

/// Why a text names no host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a host name or an IP address")]
pub struct HostError(String);

/// The name or address of a machine, normalised: lower case, IDNA applied, no trailing dot; the many spellings of an
/// IPv4 address are one address, and an IPv4-mapped IPv6 address is the IPv4 address that it means.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(untagged)]
pub enum HostName {
    /// A name that has to be resolved.
    Name(String),
    /// An address.
    Address(IpAddr),
}

impl FromStr for HostName {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        let unbracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        if let Ok(address) = unbracketed.parse::<IpAddr>() {
            return Ok(Self::Address(address.to_canonical()));
        }
        match url::Host::parse(text) {
            Ok(url::Host::Ipv4(address)) => Ok(Self::Address(address.into())),
            Ok(url::Host::Ipv6(address)) => Ok(Self::Address(IpAddr::from(address).to_canonical())),
            Ok(url::Host::Domain(name)) => {
                let name = name.strip_suffix('.').unwrap_or(&name);
                let labels_are_sound = name.split('.').all(|label| (1..=63).contains(&label.len()));
                // `*` passes IDNA, and must not be mistaken for a pattern.
                if name.len() <= 253 && labels_are_sound && !name.contains('*') {
                    Ok(Self::Name(name.to_owned()))
                } else {
                    Err(HostError(text.to_owned()))
                }
            }
            Err(_) => Err(HostError(text.to_owned())),
        }
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// The machines that a grant means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPattern {
    /// Exactly this one.
    Exact(HostName),
    /// Every name below this domain, at any depth, and not the domain itself.
    Below(String),
}

impl HostPattern {
    /// Whether `host` is meant.
    pub fn matches(&self, host: &HostName) -> bool {
        match (self, host) {
            (Self::Exact(granted), host) => granted == host,
            (Self::Below(domain), HostName::Name(name)) => {
                name.strip_suffix(domain.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
            }
            (Self::Below(_), HostName::Address(_)) => false,
        }
    }

    /// The address, if this is one.
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Exact(HostName::Address(address)) => Some(*address),
            _ => None,
        }
    }
}

impl FromStr for HostPattern {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        match text.strip_prefix("*.") {
            None => Ok(Self::Exact(text.parse()?)),
            Some(domain) => match domain.parse()? {
                HostName::Name(domain) => Ok(Self::Below(domain)),
                HostName::Address(_) => Err(HostError(text.to_owned())),
            },
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => host.fmt(f),
            Self::Below(domain) => write!(f, "*.{domain}"),
        }
    }
}

impl Serialize for HostPattern {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> HostName {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn the_spellings_of_a_host_are_one_host() {
        assert_eq!(host("EXAMPLE.com."), host("example.com"));
        assert_eq!(host("bücher.example"), host("xn--bcher-kva.example"));
        for spelling in ["127.0.0.1", "127.1", "0x7f000001", "2130706433", "::ffff:127.0.0.1", "[::ffff:7f00:1]"] {
            assert_eq!(host(spelling), HostName::Address([127, 0, 0, 1].into()), "{spelling}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for bad in
            ["", ".", "a..b", "a b", "a/b", "a@b", "a:80", "*", "a.*.b", "*.", "*.1.2.3.4", "[::1", "%00", "a%2fb"]
        {
            assert!(bad.parse::<HostPattern>().is_err(), "{bad}");
        }
        assert!("a.".repeat(200).parse::<HostPattern>().is_err());
    }

    #[test]
    fn a_pattern_means_what_is_below_its_domain() {
        let pattern: HostPattern = "*.Example.com".parse().unwrap();
        assert!(pattern.matches(&host("a.example.com")) && pattern.matches(&host("a.b.example.com.")));
        for other in ["example.com", "aexample.com", "example.com.evil", "1.2.3.4"] {
            assert!(!pattern.matches(&host(other)), "{other}");
        }
    }
}
