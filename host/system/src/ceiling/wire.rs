//! The form of a ceiling in a release statement, and in the file that an author keeps.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    FilesystemCeiling, HostCeiling, HttpCeiling, KeyvalueCeiling, Names, PortCeiling, SocketCeiling, ToolCeiling,
};
use crate::file::{Access, Protocol, Scheme};
use crate::grants::HostError;
use crate::name::NameError;
use crate::path::{PathError, normalise_guest_path, normalise_http_path};
use crate::unit::{format_bytes, parse_bytes};

/// Entries of one list.
const MOST: usize = 256;

/// Why a text is not a ceiling.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CeilingError {
    /// A host is not one.
    #[error("{0}: write a host, `*.` and a domain, or `*` for any")]
    Host(#[from] HostError),
    /// A port is not one.
    #[error("`{0}` is not a port: write a number from 1 to 65535, or \"*\" for any")]
    Port(String),
    /// A method is not one.
    #[error("`{0}` is not a method: write it in capitals, or \"*\" for any")]
    Method(String),
    /// A path prefix is not one.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A path of the component's own is not one.
    #[error("`{0}` is not an absolute path without `.` and `..`")]
    Guest(String),
    /// A folder is named by its path or is that of the task.
    #[error("an entry of `filesystem` must have either `guest` or `task = true`")]
    Filesystem,
    /// A size is not one.
    #[error("`{0}` is not a size such as \"64MiB\"")]
    Bytes(String),
    /// A tool is not named as one.
    #[error("`{0}` names no tool: write `component.tool`, with `*` for any")]
    Tool(String),
    /// A component or a tool has no name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// `*` beside other names, or a name that is none.
    #[error("the names of `{0}` must be names, or \"*\" alone")]
    Names(&'static str),
    /// A list is too long.
    #[error("`{0}` has more than {MOST} entries")]
    TooMany(&'static str),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
#[derive(Default)]
pub(super) struct Ceiling {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    filesystem: Vec<Filesystem>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    http: Vec<Http>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sockets: Vec<Socket>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    environment: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    config: Vec<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    wall_clock: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    logging: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    keyvalue: Option<Keyvalue>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<String>,
}

#[derive(Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Filesystem {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    guest: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    task: bool,
    #[serde(default)]
    access: Access,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_bytes: Option<String>,
}

#[derive(Serialize, Deserialize, PartialEq)]
#[serde(untagged)]
enum Port {
    Number(u16),
    Text(String),
}

#[derive(Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Http {
    #[serde(default)]
    scheme: Scheme,
    host: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    port: Option<Port>,
    #[serde(default = "reading")]
    methods: Vec<String>,
    #[serde(default = "root")]
    path_prefix: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    private: bool,
}

fn reading() -> Vec<String> {
    vec!["GET".to_owned(), "HEAD".to_owned()]
}

fn root() -> String {
    "/".to_owned()
}

#[derive(Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Socket {
    #[serde(default)]
    protocol: Protocol,
    host: String,
    port: Port,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    private: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Keyvalue {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_bytes: Option<String>,
}

impl TryFrom<Ceiling> for super::Ceiling {
    type Error = CeilingError;
    fn try_from(from: Ceiling) -> Result<Self, CeilingError> {
        Ok(Self {
            filesystem: list("filesystem", from.filesystem, filesystem)?,
            http: list("http", from.http, http)?,
            sockets: list("sockets", from.sockets, socket)?,
            environment: names("environment", from.environment)?,
            config: names("config", from.config)?,
            wall_clock: from.wall_clock,
            logging: from.logging,
            keyvalue: from.keyvalue.map(keyvalue).transpose()?,
            tools: list("tools", from.tools, tool)?,
        })
    }
}

/// Reads each entry, and puts them into one order: the same ceiling is then the same bytes, and has the same hash.
fn list<T, U: ToString + PartialEq>(
    what: &'static str,
    from: Vec<T>,
    read: impl Fn(T) -> Result<U, CeilingError>,
) -> Result<Vec<U>, CeilingError> {
    if from.len() > MOST {
        return Err(CeilingError::TooMany(what));
    }
    let mut entries = from.into_iter().map(read).collect::<Result<Vec<U>, _>>()?;
    entries.sort_by_cached_key(U::to_string);
    entries.dedup();
    Ok(entries)
}

fn names(what: &'static str, from: Vec<String>) -> Result<Names, CeilingError> {
    if from.len() > MOST {
        return Err(CeilingError::TooMany(what));
    }
    if from.iter().any(|name| name == "*") {
        return if from.len() == 1 { Ok(Names::Any) } else { Err(CeilingError::Names(what)) };
    }
    let sound = |name: &String| !name.is_empty() && name.len() <= 256 && !name.contains(['=', '\0', '*']);
    if !from.iter().all(sound) {
        return Err(CeilingError::Names(what));
    }
    Ok(Names::Only(from.into_iter().collect()))
}

fn bytes(from: Option<String>) -> Result<Option<u64>, CeilingError> {
    from.map(|text| parse_bytes(&text).ok_or(CeilingError::Bytes(text))).transpose()
}

fn filesystem(from: Filesystem) -> Result<FilesystemCeiling, CeilingError> {
    let guest = match (from.guest, from.task) {
        (Some(guest), false) => Some(normalise_guest_path(&guest).ok_or(CeilingError::Guest(guest))?),
        (None, true) => None,
        _ => return Err(CeilingError::Filesystem),
    };
    Ok(FilesystemCeiling { guest, access: from.access, max_bytes: bytes(from.max_bytes)? })
}

fn host(from: &str) -> Result<HostCeiling, CeilingError> {
    Ok(if from == "*" { HostCeiling::Any } else { HostCeiling::Pattern(from.parse()?) })
}

fn port(from: Port) -> Result<PortCeiling, CeilingError> {
    match from {
        Port::Text(text) if text == "*" => Ok(PortCeiling::Any),
        Port::Text(text) => Err(CeilingError::Port(text)),
        Port::Number(0) => Err(CeilingError::Port("0".to_owned())),
        Port::Number(number) => Ok(PortCeiling::Exact(number)),
    }
}

fn http(from: Http) -> Result<HttpCeiling, CeilingError> {
    let usual = if from.scheme == Scheme::Https { 443 } else { 80 };
    let methods = names("methods", from.methods)?;
    if let Names::Only(methods) = &methods {
        let sound = |method: &&String| !method.bytes().all(|b| b.is_ascii_uppercase() || b == b'-');
        if let Some(bad) = methods.iter().find(sound) {
            return Err(CeilingError::Method(bad.clone()));
        }
        if methods.is_empty() {
            return Err(CeilingError::Names("methods"));
        }
    }
    let path = normalise_http_path(&from.path_prefix)?;
    let trimmed = path.trim_end_matches('/');
    Ok(HttpCeiling {
        scheme: from.scheme,
        host: host(&from.host)?,
        port: from.port.map_or(Ok(PortCeiling::Exact(usual)), port)?,
        methods,
        path_prefix: if trimmed.is_empty() { root() } else { trimmed.to_owned() },
        private: from.private,
    })
}

fn socket(from: Socket) -> Result<SocketCeiling, CeilingError> {
    let Socket { protocol, private, .. } = from;
    Ok(SocketCeiling { protocol, host: host(&from.host)?, port: port(from.port)?, private })
}

fn keyvalue(from: Keyvalue) -> Result<KeyvalueCeiling, CeilingError> {
    Ok(KeyvalueCeiling { max_bytes: bytes(from.max_bytes)? })
}

fn tool(from: String) -> Result<ToolCeiling, CeilingError> {
    let Some((component, tool)) = from.split_once('.') else { return Err(CeilingError::Tool(from)) };
    let component = if component == "*" { None } else { Some(component.parse()?) };
    Ok(ToolCeiling { component, tool: if tool == "*" { None } else { Some(tool.parse()?) } })
}

impl From<super::Ceiling> for Ceiling {
    fn from(from: super::Ceiling) -> Self {
        let texts = |names: Names| match names {
            Names::Any => vec!["*".to_owned()],
            Names::Only(names) => BTreeSet::into_iter(names).collect(),
        };
        let port = |port: PortCeiling| match port {
            PortCeiling::Any => Port::Text("*".to_owned()),
            PortCeiling::Exact(number) => Port::Number(number),
        };
        let filesystem = |entry: FilesystemCeiling| Filesystem {
            task: entry.guest.is_none(),
            guest: entry.guest,
            access: entry.access,
            max_bytes: entry.max_bytes.map(format_bytes),
        };
        let http = |entry: HttpCeiling| Http {
            scheme: entry.scheme,
            host: entry.host.to_string(),
            port: Some(port(entry.port)),
            methods: texts(entry.methods),
            path_prefix: entry.path_prefix,
            private: entry.private,
        };
        let socket = |entry: SocketCeiling| Socket {
            protocol: entry.protocol,
            host: entry.host.to_string(),
            port: port(entry.port),
            private: entry.private,
        };
        Self {
            filesystem: from.filesystem.into_iter().map(filesystem).collect(),
            http: from.http.into_iter().map(http).collect(),
            sockets: from.sockets.into_iter().map(socket).collect(),
            environment: texts(from.environment),
            config: texts(from.config),
            wall_clock: from.wall_clock,
            logging: from.logging,
            keyvalue: from.keyvalue.map(|entry| Keyvalue { max_bytes: entry.max_bytes.map(format_bytes) }),
            tools: from.tools.iter().map(ToString::to_string).collect(),
        }
    }
}
