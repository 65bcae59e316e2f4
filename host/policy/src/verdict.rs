//! Grants against one request: a function of its arguments and nothing else.
//!
//! There is no cache in front of it. Grants are normalised when `system.toml` is read, so that a verdict compares
//! short strings, and a look-up under everything that a verdict depends on (grants, action, resource, privacy, the
//! task's files) costs more than the verdict; what is not kept cannot go stale when grants are narrowed.

use std::net::SocketAddr;

use witan_capability::{Action, CallContext, HostFunction, Request, Resource};
use witan_system::{
    Access, Files, FilesystemGrant, Grants, HostName, HostPattern, HttpGrant, Protocol, Scheme, SocketGrant, is_below,
    normalise_http_path,
};

use crate::address::is_public;

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// What stands against it.
    pub(crate) cause: String,
    /// The grant that would allow it, as a line of `system.toml`, if one would.
    pub(crate) remedy: Option<String>,
    /// Whether a trial, in which a person lets a component do what it was not granted, goes on.
    pub(crate) trial_may_allow: bool,
}

fn refuse(cause: impl Into<String>) -> Result<(), Refusal> {
    Err(Refusal { cause: cause.into(), remedy: None, trial_may_allow: false })
}

fn refuse_unless_granted(cause: impl Into<String>, remedy: impl Into<String>) -> Result<(), Refusal> {
    Err(Refusal { cause: cause.into(), remedy: Some(remedy.into()), trial_may_allow: true })
}

/// Whether `request` may go on.
pub(crate) fn verdict(request: &Request<'_>) -> Result<(), Refusal> {
    let Request { context, component, function, action, resource } = request;
    if context.local_only() && leaves_this_machine(*action, resource) {
        return refuse("the call is local-only, and this would leave the machine");
    }
    let grants = &component.grants;
    match (action, resource) {
        // A link exists only where the operator wrote one; the load refuses an import without it.
        (Action::Baseline | Action::Handle | Action::ComponentCall, _) => Ok(()),
        (Action::FileRead, Resource::Path { guest, .. }) => file(context, &grants.filesystem, guest, Access::Read),
        (Action::FileWrite, Resource::Path { guest, .. }) => {
            file(context, &grants.filesystem, guest, Access::ReadWrite)
        }
        (Action::HttpSend, Resource::Url { method, scheme, host, port, path }) => {
            http(&grants.http, method, scheme, host, *port, path)
        }
        (Action::DnsLookup, Resource::Host { name, port }) => lookup(grants, *function, name, *port),
        (Action::SocketConnect, Resource::Host { name, port }) => lookup(grants, *function, name, *port),
        (Action::SocketConnect | Action::HttpSend, Resource::Address { name, address }) => {
            connect(grants, *function, *name, *address)
        }
        (Action::SocketBind, _) => refuse("to be found by others is never granted; a mount serves HTTP"),
        (Action::EnvironmentRead, Resource::Key(key)) if grants.environment.contains_key(*key) => Ok(()),
        (Action::EnvironmentRead, Resource::Key(key)) => {
            refuse_unless_granted("the variable is not granted", format!("environment = {{ {key:?} = \"…\" }}"))
        }
        (Action::ConfigRead, Resource::Key(key)) if grants.config.contains_key(*key) => Ok(()),
        (Action::ConfigRead, Resource::Key(key)) => {
            refuse_unless_granted("the setting is not granted", format!("config = {{ {key:?} = \"…\" }}"))
        }
        (Action::SecretUse, Resource::Key(name)) => {
            match grants.secrets.iter().any(|grant| grant.secret.as_str() == *name) {
                true => Ok(()),
                false => refuse("the secret is not granted"),
            }
        }
        // A list of what was granted, which is empty where nothing was.
        (Action::EnvironmentRead | Action::ConfigRead, Resource::None) => Ok(()),
        (Action::WallClock, _) if grants.wall_clock => Ok(()),
        (Action::WallClock, _) => refuse_unless_granted("the time of day is not granted", "wall-clock = true"),
        (Action::Log, _) if grants.logging.is_some() => Ok(()),
        (Action::Log, _) => refuse_unless_granted("logging is not granted", "logging = {}"),
        (Action::KeyvalueRead | Action::KeyvalueWrite, _) if grants.keyvalue.is_some() => Ok(()),
        (Action::KeyvalueRead | Action::KeyvalueWrite, _) => {
            refuse_unless_granted("no key-value store is granted", "keyvalue = {}")
        }
        (Action::ToolCall, Resource::Tool(tool)) => self::tool(grants, tool),
        (Action::ToolCall, Resource::None) => Ok(()),
        _ => refuse("this kind of resource does not belong to this action, so that no grant can cover it"),
    }
}

fn leaves_this_machine(action: Action, resource: &Resource<'_>) -> bool {
    let leads_off = matches!(resource, Resource::Url { .. } | Resource::Host { .. } | Resource::Address { .. });
    action.is_egress() || (action == Action::Handle && leads_off)
}

/// Where the folders of several grants lie in one another, every one of them must allow it: through which of them a
/// guest came says nothing about what it reaches.
fn file(context: &CallContext, grants: &[FilesystemGrant], guest: &str, needed: Access) -> Result<(), Refusal> {
    if !is_plain(guest) {
        return refuse("the path is not absolute, or has `.` or `..` in it");
    }
    let covers = |grant: &&FilesystemGrant| match &grant.files {
        Files::Path { guest: granted, .. } => is_below(guest, granted),
        Files::Task => context.files().iter().any(|file| is_below(guest, &file.guest)),
    };
    let least = grants.iter().filter(covers).map(|grant| grant.access).min();
    if least.is_some_and(|access| access >= needed) {
        return Ok(());
    }
    let cause = match least {
        Some(_) => "the filesystem grant that covers it is for reading",
        None => "no filesystem grant covers it",
    };
    let access = if needed == Access::Read { "read" } else { "read-write" };
    let remedy = format!("filesystem = [{{ path = \"…\", guest = {guest:?}, access = \"{access}\" }}]");
    refuse_unless_granted(cause, remedy)
}

/// Whether a guest path is in the form in which grants are compared.
fn is_plain(guest: &str) -> bool {
    let Some(rest) = guest.strip_prefix('/') else { return false };
    rest.is_empty() || !rest.split('/').any(|part| matches!(part, "" | "." | ".."))
}

fn http(grants: &[HttpGrant], method: &str, scheme: &str, host: &str, port: u16, path: &str) -> Result<(), Refusal> {
    let Some(host) = host_name(host) else { return refuse("the host is malformed") };
    let scheme = match scheme {
        "https" => Scheme::Https,
        "http" => Scheme::Http,
        _ => return refuse("the scheme is neither https nor http"),
    };
    let path = match normalise_http_path(path) {
        Ok(path) => path,
        Err(error) => return refuse(error.to_string()),
    };
    let to_host = |grant: &&HttpGrant| grant.scheme == scheme && grant.port == port && grant.host.matches(&host);
    let of_method = |grant: &&HttpGrant| grant.methods.iter().any(|granted| granted == method);
    if grants.iter().filter(to_host).filter(of_method).any(|grant| is_below(&path, &grant.path_prefix)) {
        return Ok(());
    }
    let cause = match grants.iter().find(to_host) {
        None => "no http grant covers this scheme, host and port",
        Some(_) if !grants.iter().filter(to_host).any(|grant| of_method(&grant)) => {
            "the http grant for this host does not cover the method"
        }
        Some(_) => "the http grant for this host does not cover the path",
    };
    let scheme = if scheme == Scheme::Https { "https" } else { "http" };
    let remedy = format!(
        "http = [{{ scheme = \"{scheme}\", host = \"{host}\", port = {port}, methods = [{method:?}], path-prefix = {path:?} }}]"
    );
    refuse_unless_granted(cause, remedy)
}

/// The part of a grant that says which machine is meant.
struct Peer<'a> {
    host: &'a HostPattern,
    port: u16,
    private: bool,
}

/// The machines that `function` may reach. Grants for HTTP allow no raw connection: through one, a guest could send
/// any method to any path.
fn peers(grants: &Grants, function: HostFunction) -> impl Iterator<Item = Peer<'_>> {
    let through_http = through_http(function);
    let http = grants.http.iter().filter(move |_| through_http);
    let sockets = grants.sockets.iter().filter(move |grant| !through_http && may_use(grant, function));
    let http = http.map(|grant| Peer { host: &grant.host, port: grant.port, private: grant.private });
    let sockets = sockets.map(|grant| Peer { host: &grant.host, port: grant.port, private: grant.private });
    http.chain(sockets)
}

fn through_http(function: HostFunction) -> bool {
    function.interface.starts_with("wasi:http/")
}

/// Whether the grant's transport is that of `function`. A look-up serves both.
fn may_use(grant: &SocketGrant, function: HostFunction) -> bool {
    let is_lookup = function.interface.contains("ip-name-lookup");
    is_lookup || grant.protocol == protocol(function)
}

fn protocol(function: HostFunction) -> Protocol {
    let udp = function.interface.contains("udp") || function.name.contains("udp");
    if udp { Protocol::Udp } else { Protocol::Tcp }
}

fn lookup(grants: &Grants, function: HostFunction, name: &str, port: u16) -> Result<(), Refusal> {
    let Some(host) = host_name(name) else { return refuse("the host is malformed") };
    if peers(grants, function).any(|peer| peer.host.matches(&host) && (port == 0 || peer.port == port)) {
        return Ok(());
    }
    let kind = if through_http(function) { "http" } else { "sockets" };
    refuse_unless_granted("no grant names this host", format!("{kind} = [{{ host = \"{host}\", port = {port} }}]"))
}

fn connect(grants: &Grants, function: HostFunction, name: Option<&str>, address: SocketAddr) -> Result<(), Refusal> {
    let ip = address.ip().to_canonical();
    let named = match name.map(host_name) {
        Some(None) => return refuse("the host is malformed"),
        Some(Some(host)) => host,
        None => HostName::Address(ip),
    };
    let mut cause = "no grant names this host and port";
    for peer in peers(grants, function).filter(|peer| peer.port == address.port()) {
        let literal = peer.host.address() == Some(ip);
        let granted = literal || peer.host.matches(&named);
        if granted && (literal || peer.private || is_public(ip)) {
            return Ok(());
        }
        if granted {
            cause =
                "it is an address of this machine or of a private network, and the grant does not say `private = true`";
        }
    }
    let kind = if through_http(function) { "http" } else { "sockets" };
    let private = if is_public(ip) { "" } else { ", private = true" };
    let remedy = Some(format!("{kind} = [{{ host = \"{named}\", port = {}{private} }}]", address.port()));
    Err(Refusal { cause: cause.to_owned(), remedy, trial_may_allow: is_public(ip) })
}

fn tool(grants: &Grants, tool: &str) -> Result<(), Refusal> {
    let granted = tool.split_once('.').is_some_and(|(component, name)| {
        let all_or_this =
            |granted: Option<&witan_system::ToolName>| granted.is_none_or(|granted| granted.as_str() == name);
        grants.tools.iter().any(|grant| grant.component.as_str() == component && all_or_this(grant.tool.as_ref()))
    });
    if granted {
        return Ok(());
    }
    refuse_unless_granted("the tool is not granted", format!("tools = [{tool:?}]"))
}

/// Parses a host. Names that are in normal form already, which is nearly all, skip IDNA.
fn host_name(text: &str) -> Option<HostName> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    let last = text.rsplit('.').next().unwrap_or_default();
    let normal = text.len() <= 253
        && text.bytes().all(plain)
        && last.starts_with(|c: char| c.is_ascii_lowercase())
        && text.split('.').all(|label| (1..=63).contains(&label.len()) && !label.starts_with("xn--"));
    if normal { Some(HostName::Name(text.to_owned())) } else { text.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_way_to_a_host_name_gives_what_the_long_way_gives() {
        for text in
            ["example.com", "a-b.c1", "localhost", "127.0.0.1", "0x7f.1", "x.0x1", "xn--bcher-kva.de", "A.b", "a."]
        {
            assert_eq!(host_name(text), text.parse().ok(), "{text}");
        }
    }
}
