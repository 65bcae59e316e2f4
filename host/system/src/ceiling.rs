//! What a component's author declares, under signature, that it may ever need.
//!
//! A ceiling is written in the words of grants, less what only an operator knows: a folder of this machine, the value of a
//! variable. So there is one comparison: grants are turned into the ceiling that they would need, and what that has beyond
//! the author's is named. The same comparison shows what a new version wants beyond the old one.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::file::{Access, Protocol, Scheme};
use crate::grants::{Files, Grants, HostName, HostPattern};
use crate::name::{ComponentName, ToolName};
use crate::path::is_below;
use crate::unit::format_bytes;

mod wire;

pub use wire::CeilingError;

/// What a component may ever need. The default needs nothing beyond the baseline.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "wire::Ceiling", into = "wire::Ceiling")]
pub struct Ceiling {
    /// Files and folders, by the paths under which the component sees them.
    pub filesystem: Vec<FilesystemCeiling>,
    /// HTTP requests to other machines.
    pub http: Vec<HttpCeiling>,
    /// Connections to other machines.
    pub sockets: Vec<SocketCeiling>,
    /// Environment variables.
    pub environment: Names,
    /// Settings that it reads through `wasi:config`.
    pub config: Names,
    /// Whether it may know the time of day.
    pub wall_clock: bool,
    /// Whether it writes lines to the host's log.
    pub logging: bool,
    /// A key-value store of its own.
    pub keyvalue: Option<KeyvalueCeiling>,
    /// Tools that it may find and call.
    pub tools: Vec<ToolCeiling>,
}

/// Some names, or any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Names {
    /// Any name: `*`.
    Any,
    /// These.
    Only(BTreeSet<String>),
}

impl Default for Names {
    fn default() -> Self {
        Self::Only(BTreeSet::new())
    }
}

/// Files that a component may need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesystemCeiling {
    /// The absolute path under which it sees them, and what is below; `None` means the files of the task at hand.
    pub guest: Option<String>,
    /// What it may do with them.
    pub access: Access,
    /// Bytes that one call tree may write there; `None` means any number.
    pub max_bytes: Option<u64>,
}

/// The machines that a ceiling means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostCeiling {
    /// Any name. Addresses are not names: they are within only where private machines are.
    Any,
    /// Those of a pattern.
    Pattern(HostPattern),
}

/// The ports that a ceiling means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortCeiling {
    /// Any.
    Any,
    /// This one.
    Exact(u16),
}

/// HTTP requests that a component may need to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpCeiling {
    /// The scheme.
    pub scheme: Scheme,
    /// The host.
    pub host: HostCeiling,
    /// The port.
    pub port: PortCeiling,
    /// The methods, in capitals.
    pub methods: Names,
    /// The path and what is below it, normalised.
    pub path_prefix: String,
    /// Whether the host may be of this machine or a private network.
    pub private: bool,
}

/// Connections that a component may need to open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketCeiling {
    /// The transport.
    pub protocol: Protocol,
    /// The host.
    pub host: HostCeiling,
    /// The port.
    pub port: PortCeiling,
    /// Whether the host may be of this machine or a private network.
    pub private: bool,
}

/// A key-value store that a component may need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyvalueCeiling {
    /// Keys and values together, for one tenant, in bytes; `None` means any number.
    pub max_bytes: Option<u64>,
}

/// Tools that a component may need. What an operator calls the component that offers them is seldom known to an author.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCeiling {
    /// The component that offers them; `None` means any.
    pub component: Option<ComponentName>,
    /// The tool; `None` means any.
    pub tool: Option<ToolName>,
}

/// Something that is wanted beyond a ceiling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excess {
    /// The capability, as grants call it.
    pub capability: &'static str,
    /// What is wanted.
    pub wanted: String,
    /// What the ceiling has of that capability.
    pub allowed: Vec<String>,
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` of `{}` is beyond the ceiling, which has ", self.capability, self.wanted)?;
        if self.allowed.is_empty() {
            f.write_str("nothing of it")
        } else {
            write!(f, "`{}`", self.allowed.join("`, `"))
        }
    }
}

impl Ceiling {
    /// The least ceiling that `grants` are within.
    pub fn of(grants: &Grants) -> Self {
        let filesystem = grants.filesystem.iter().map(|grant| {
            let guest = match &grant.files {
                Files::Path { guest, .. } => Some(guest.clone()),
                Files::Task => None,
            };
            FilesystemCeiling { guest, access: grant.access, max_bytes: grant.max_bytes }
        });
        let http = grants.http.iter().map(|grant| HttpCeiling {
            scheme: grant.scheme,
            host: HostCeiling::Pattern(grant.host.clone()),
            port: PortCeiling::Exact(grant.port),
            methods: Names::Only(grant.methods.iter().cloned().collect()),
            path_prefix: grant.path_prefix.clone(),
            private: grant.private,
        });
        let sockets = grants.sockets.iter().map(|grant| SocketCeiling {
            protocol: grant.protocol,
            host: HostCeiling::Pattern(grant.host.clone()),
            port: PortCeiling::Exact(grant.port),
            private: grant.private,
        });
        let tools = grants.tools.iter();
        let tools =
            tools.map(|grant| ToolCeiling { component: Some(grant.component.clone()), tool: grant.tool.clone() });
        Self {
            filesystem: filesystem.collect(),
            http: http.collect(),
            sockets: sockets.collect(),
            environment: Names::Only(grants.environment.keys().cloned().collect()),
            config: Names::Only(grants.config.keys().cloned().collect()),
            wall_clock: grants.wall_clock,
            logging: grants.logging.is_some(),
            keyvalue: grants.keyvalue.as_ref().map(|grant| KeyvalueCeiling { max_bytes: Some(grant.max_bytes) }),
            tools: tools.collect(),
        }
    }

    /// What `wanted` has beyond this ceiling, in the order of the capabilities; nothing if it is within.
    ///
    /// An entry is within where one entry of the ceiling covers it; HTTP methods, and names, are looked at one by one. What
    /// only several entries together would cover counts as beyond: the answer may ask for a wider ceiling, and never
    /// lets through what is not covered.
    pub fn excess(&self, wanted: &Self) -> Vec<Excess> {
        let mut found = Vec::new();
        let mut list = |capability, wanted: Vec<String>, allowed: Vec<String>| {
            found.extend(wanted.into_iter().map(|wanted| Excess { capability, wanted, allowed: allowed.clone() }));
        };
        list("filesystem", beyond(&self.filesystem, &wanted.filesystem), texts(&self.filesystem));
        let http = wanted.http.iter().filter_map(|entry| self.http_beyond(entry)).collect();
        list("http", http, texts(&self.http));
        list("sockets", beyond(&self.sockets, &wanted.sockets), texts(&self.sockets));
        list("environment", self.environment.beyond(&wanted.environment), self.environment.texts());
        list("config", self.config.beyond(&wanted.config), self.config.texts());
        let flag = |has: bool, wants: bool| if wants && !has { vec!["true".to_owned()] } else { Vec::new() };
        list("wall-clock", flag(self.wall_clock, wanted.wall_clock), Vec::new());
        list("logging", flag(self.logging, wanted.logging), Vec::new());
        let keyvalue = |ceiling: &Self| ceiling.keyvalue.iter().cloned().collect::<Vec<_>>();
        list("keyvalue", beyond(&keyvalue(self), &keyvalue(wanted)), texts(&keyvalue(self)));
        list("tools", beyond(&self.tools, &wanted.tools), texts(&self.tools));
        found
    }

    /// What `grants` have beyond this ceiling.
    pub fn excess_of_grants(&self, grants: &Grants) -> Vec<Excess> {
        self.excess(&Self::of(grants))
    }

    /// Whether it has anything of `capability`, by the name of its grant.
    pub fn has(&self, capability: &str) -> bool {
        let any = |names: &Names| *names != Names::default();
        match capability {
            "filesystem" => !self.filesystem.is_empty(),
            "http" => !self.http.is_empty(),
            "sockets" => !self.sockets.is_empty(),
            "environment" => any(&self.environment),
            "config" => any(&self.config),
            "wall-clock" => self.wall_clock,
            "logging" => self.logging,
            "keyvalue" => self.keyvalue.is_some(),
            "tools" => !self.tools.is_empty(),
            _ => false,
        }
    }

    /// Whether nothing is needed beyond the baseline.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn http_beyond(&self, wanted: &HttpCeiling) -> Option<String> {
        let covering = || self.http.iter().filter(|entry| entry.covers_place(wanted));
        let left = match &wanted.methods {
            Names::Any if covering().any(|entry| entry.methods == Names::Any) => return None,
            Names::Any => Names::Any,
            Names::Only(methods) => {
                let left = methods.iter().filter(|method| !covering().any(|entry| entry.methods.contains(method)));
                Names::Only(left.cloned().collect())
            }
        };
        (left != Names::default()).then(|| HttpCeiling { methods: left, ..wanted.clone() }.to_string())
    }
}

/// Whether one entry covers another of its kind.
trait Covers: fmt::Display {
    fn covers(&self, wanted: &Self) -> bool;
}

fn beyond<T: Covers>(has: &[T], wanted: &[T]) -> Vec<String> {
    let left = wanted.iter().filter(|wanted| !has.iter().any(|entry| entry.covers(wanted)));
    left.map(ToString::to_string).collect()
}

fn texts<T: fmt::Display>(entries: &[T]) -> Vec<String> {
    entries.iter().map(ToString::to_string).collect()
}

/// `None` means any number.
fn within(wanted: Option<u64>, limit: Option<u64>) -> bool {
    limit.is_none_or(|limit| wanted.is_some_and(|wanted| wanted <= limit))
}

impl Names {
    fn contains(&self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Only(names) => names.contains(name),
        }
    }

    fn beyond(&self, wanted: &Self) -> Vec<String> {
        match (self, wanted) {
            (Self::Any, _) => Vec::new(),
            (Self::Only(_), Self::Any) => vec!["*".to_owned()],
            (Self::Only(has), Self::Only(wanted)) => wanted.difference(has).cloned().collect(),
        }
    }

    fn texts(&self) -> Vec<String> {
        match self {
            Self::Any => vec!["*".to_owned()],
            Self::Only(names) => names.iter().cloned().collect(),
        }
    }
}

impl Covers for FilesystemCeiling {
    fn covers(&self, wanted: &Self) -> bool {
        let place = match (&self.guest, &wanted.guest) {
            (None, None) => true,
            (Some(guest), Some(wanted)) => is_below(wanted, guest),
            _ => false,
        };
        let bytes = wanted.access == Access::Read || within(wanted.max_bytes, self.max_bytes);
        place && wanted.access <= self.access && bytes
    }
}

impl HostCeiling {
    fn covers(&self, wanted: &Self, private: bool) -> bool {
        match (self, wanted) {
            (Self::Any, Self::Pattern(HostPattern::Exact(HostName::Address(_)))) => private,
            (Self::Any, _) => true,
            (Self::Pattern(_), Self::Any) => false,
            (Self::Pattern(has), Self::Pattern(HostPattern::Exact(host))) => has.matches(host),
            (Self::Pattern(HostPattern::Below(has)), Self::Pattern(HostPattern::Below(wanted))) => {
                wanted == has || wanted.strip_suffix(has.as_str()).is_some_and(|rest| rest.ends_with('.'))
            }
            (Self::Pattern(HostPattern::Exact(_)), Self::Pattern(HostPattern::Below(_))) => false,
        }
    }
}

impl PortCeiling {
    fn covers(self, wanted: Self) -> bool {
        self == Self::Any || self == wanted
    }
}

impl HttpCeiling {
    fn covers_place(&self, wanted: &Self) -> bool {
        self.scheme == wanted.scheme
            && self.host.covers(&wanted.host, self.private)
            && self.port.covers(wanted.port)
            && is_below(&wanted.path_prefix, &self.path_prefix)
            && (self.private || !wanted.private)
    }
}

impl Covers for SocketCeiling {
    fn covers(&self, wanted: &Self) -> bool {
        self.protocol == wanted.protocol
            && self.host.covers(&wanted.host, self.private)
            && self.port.covers(wanted.port)
            && (self.private || !wanted.private)
    }
}

impl Covers for KeyvalueCeiling {
    fn covers(&self, wanted: &Self) -> bool {
        within(wanted.max_bytes, self.max_bytes)
    }
}

impl Covers for ToolCeiling {
    fn covers(&self, wanted: &Self) -> bool {
        self.component.as_ref().is_none_or(|component| wanted.component.as_ref() == Some(component))
            && self.tool.as_ref().is_none_or(|tool| wanted.tool.as_ref() == Some(tool))
    }
}

impl fmt::Display for FilesystemCeiling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let access = if self.access == Access::Read { "read" } else { "read and write" };
        match &self.guest {
            Some(guest) => write!(f, "{access} {guest}")?,
            None => write!(f, "{access} the files of the task")?,
        }
        self.max_bytes.map_or(Ok(()), |bytes| write!(f, ", up to {}", format_bytes(bytes)))
    }
}

impl fmt::Display for HostCeiling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Pattern(pattern) => pattern.fmt(f),
        }
    }
}

impl fmt::Display for PortCeiling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(port) => port.fmt(f),
        }
    }
}

fn private_text(private: bool) -> &'static str {
    if private { ", private ones too" } else { "" }
}

impl fmt::Display for HttpCeiling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.scheme == Scheme::Https { "https" } else { "http" };
        let Self { host, port, path_prefix, private, .. } = self;
        let methods = self.methods.texts().join(", ");
        write!(f, "{methods} {scheme}://{host}:{port}{path_prefix}{}", private_text(*private))
    }
}

impl fmt::Display for SocketCeiling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = if self.protocol == Protocol::Tcp { "tcp" } else { "udp" };
        let Self { host, port, private, .. } = self;
        write!(f, "{protocol} {host}:{port}{}", private_text(*private))
    }
}

impl fmt::Display for KeyvalueCeiling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.max_bytes {
            None => f.write_str("any size"),
            Some(bytes) => write!(f, "up to {}", format_bytes(bytes)),
        }
    }
}

impl fmt::Display for ToolCeiling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let component = self.component.as_ref().map_or("*", ComponentName::as_str);
        write!(f, "{component}.{}", self.tool.as_ref().map_or("*", ToolName::as_str))
    }
}

#[cfg(test)]
mod tests;
