//! What a component may do, in plain words.
//!
//! For the operator who asks before starting a system, so that it says what follows from a setting and not what the
//! setting is called.

use std::fmt;
use std::path::Path;

use serde::Serialize;

use crate::grants::{Files, FilesystemGrant, Grants, HttpGrant, SocketGrant, ToolGrant};
use crate::name::ComponentName;
use crate::system::{CompileIn, Component, LinkMode, Reuse, System};
use crate::unit::{format_bytes, format_duration};
use crate::{Access, Protocol, Scheme};

/// What one component may do, as sentences without their subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The component.
    pub component: ComponentName,
    /// What it is called for: intents, mounts, and the components that call it.
    pub serves: Vec<String>,
    /// What it may do beyond the baseline; empty where there is nothing.
    pub may: Vec<String>,
    /// The components that it can call, which do what they are granted themselves.
    pub calls: Vec<String>,
    /// What a call of it may use.
    pub limits: Vec<String>,
    /// What the operator should know about how it runs.
    pub notes: Vec<String>,
}

impl System {
    /// What the component `name` may do. `None` if there is no such component.
    pub fn explain(&self, name: &ComponentName) -> Option<Explanation> {
        let component = self.components.get(name)?;
        Some(Explanation {
            component: name.clone(),
            serves: self.serves(name),
            may: component.grants.in_words(self.folder()).into_iter().chain(self.secrets_of(component)).collect(),
            calls: calls(component),
            limits: limits(component),
            notes: self.notes(name, component),
        })
    }

    fn secrets_of(&self, component: &Component) -> Vec<String> {
        let grants = component.grants.secrets.iter();
        let words = grants.filter_map(|grant| {
            let secret = self.secrets.get(&grant.secret)?;
            let origins: Vec<String> = secret.origins.iter().map(|origin| quoted(&origin.to_string())).collect();
            let headers: Vec<String> = secret.headers.iter().map(|header| quoted(header)).collect();
            Some(format!(
                "send the secret {}, which it never sees, to {} in {}",
                quoted(grant.secret.as_str()),
                origins.join(", "),
                headers.join(", ")
            ))
        });
        words.collect()
    }

    fn serves(&self, name: &ComponentName) -> Vec<String> {
        let intents = self.intents.iter().filter(|(_, server)| *server == name);
        let intents = intents.map(|(intent, _)| format!("the intent {}", quoted(intent.as_str())));
        let mounts = self.mounts.iter().filter(|mount| mount.component == *name);
        let mounts = mounts.map(|mount| format!("HTTP requests to {} and below", quoted(&mount.path)));
        let links = self.components.iter().flat_map(|(caller, component)| {
            component.links.iter().filter(|(_, link)| link.component == *name).map(move |(interface, _)| {
                format!("calls of {} from {}", quoted(interface.as_str()), quoted(caller.as_str()))
            })
        });
        let tools = self.components.iter().flat_map(|(caller, component)| {
            let tools = component.grants.tools.iter().filter(|grant| grant.component == *name);
            tools.map(move |grant| {
                let tool = grant
                    .tool
                    .as_ref()
                    .map_or("every tool".to_owned(), |tool| format!("the tool {}", quoted(tool.as_str())));
                format!("calls of {tool} from {}", quoted(caller.as_str()))
            })
        });
        intents.chain(mounts).chain(links).chain(tools).collect()
    }

    fn notes(&self, name: &ComponentName, component: &Component) -> Vec<String> {
        let mut notes = Vec::new();
        let fused_with = self.components.iter().flat_map(|(caller, component)| {
            component.links.values().filter_map(move |link| {
                match (link.mode, caller == name, link.component == *name) {
                    (LinkMode::Fused, true, _) => Some(&link.component),
                    (LinkMode::Fused, _, true) => Some(caller),
                    _ => None,
                }
            })
        });
        for other in fused_with {
            notes.push(format!("it is fused with {}: they share limits, fate and one span", quoted(other.as_str())));
        }
        match component.instances.reuse {
            Reuse::Fresh => {}
            Reuse::Serial => {
                notes.push("what a call leaves in its memory, the next call of the same tenant sees".to_owned());
            }
            Reuse::Concurrent => notes.push(
                "calls of the same tenant and principal share its memory, limits and fate: a trap in one ends them all"
                    .to_owned(),
            ),
        }
        if component.compile == CompileIn::Host {
            notes.push(
                "it is compiled in the host itself: its compilation is held to no memory and time limits".to_owned(),
            );
        }
        if component.digest.is_none() {
            notes.push("its bytes are not pinned: whoever can write the file can replace the component".to_owned());
        }
        notes
    }
}

impl Grants {
    /// What the grants allow, a sentence without its subject for each; empty where they allow nothing. Paths below
    /// `folder` are shown relative to it.
    pub fn in_words(&self, folder: &Path) -> Vec<String> {
        let mut may: Vec<String> = self.filesystem.iter().map(|grant| filesystem(grant, folder)).collect();
        may.extend(self.http.iter().map(http));
        may.extend(self.sockets.iter().map(socket));
        may.extend(self.environment.keys().map(|name| format!("see the environment variable {}", quoted(name))));
        may.extend(self.config.keys().map(|key| format!("read the setting {}", quoted(key))));
        may.extend(self.wall_clock.then(|| "know the time of day".to_owned()));
        may.extend(self.logging.as_ref().map(|grant| format!("write log lines, {} at most", grant.rate)));
        may.extend(self.keyvalue.as_ref().map(|grant| {
            format!("keep {} of keys and values of its own for each tenant", format_bytes(grant.max_bytes))
        }));
        may.extend(self.tools.iter().map(tool));
        may
    }
}

fn filesystem(grant: &FilesystemGrant, folder: &Path) -> String {
    let verb = match grant.access {
        Access::Read => "read and list",
        Access::ReadWrite => "read, list, write, create and remove",
    };
    let what = match &grant.files {
        Files::Task => "the files that its task was given".to_owned(),
        Files::Path { host, guest } => {
            let place = host.strip_prefix(folder).map_or_else(|_| host.clone(), |rest| Path::new(".").join(rest));
            format!("{} ({} on this machine)", quoted(guest), quoted(&place.display().to_string()))
        }
    };
    let most = grant.max_bytes.map(|bytes| format!(", {} in one call", format_bytes(bytes)));
    format!("{verb} {what}{}", most.unwrap_or_default())
}

fn http(grant: &HttpGrant) -> String {
    let scheme = match grant.scheme {
        Scheme::Https => "https",
        Scheme::Http => "http",
    };
    let target = format!("{scheme}://{}:{}{}", bracketed(&grant.host), grant.port, grant.path_prefix);
    let below = if grant.path_prefix == "/" { "" } else { " and below" };
    format!("send {} to {}{below}{}", grant.methods.join(", "), quoted(&target), private(grant.private))
}

fn socket(grant: &SocketGrant) -> String {
    let transport = match grant.protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
    };
    let target = format!("{}:{}", bracketed(&grant.host), grant.port);
    format!("connect to {} over {transport}{}", quoted(&target), private(grant.private))
}

fn bracketed(host: &crate::HostPattern) -> String {
    if host.address().is_some_and(|address| address.is_ipv6()) { format!("[{host}]") } else { host.to_string() }
}

fn private(private: bool) -> &'static str {
    if private { ", also where it lies on this machine or in a private network" } else { "" }
}

fn tool(grant: &ToolGrant) -> String {
    match &grant.tool {
        Some(_) => format!("find and call the tool {}", quoted(&grant.to_string())),
        None => format!("find and call every tool of {}", quoted(grant.component.as_str())),
    }
}

fn calls(component: &Component) -> Vec<String> {
    let links = component.links.iter().map(|(interface, link)| {
        let mode = match link.mode {
            LinkMode::Isolated => "isolated",
            LinkMode::Fused => "fused",
        };
        format!("{} through {}, {mode}", quoted(link.component.as_str()), quoted(interface.as_str()))
    });
    let tools = component.grants.tools.iter();
    links.chain(tools.map(|grant| format!("{} through the tools broker", quoted(grant.component.as_str())))).collect()
}

fn limits(component: &Component) -> Vec<String> {
    let limits = &component.limits;
    let call = &limits.call;
    vec![
        format!("{} of memory", format_bytes(call.memory)),
        format!("{} of processor time, {} until the answer", format_duration(call.cpu), format_duration(call.deadline)),
        format!(
            "calls nested {} deep, {} handles, {} in one host call",
            call.depth,
            call.handles,
            format_bytes(call.call_bytes)
        ),
        format!("{} written to disk, {} to the log", format_bytes(call.disk_bytes), format_bytes(call.log_bytes)),
        format!("{} connections, {} sent", call.sockets, format_bytes(call.bytes_out)),
        format!("{} calls at once, {} waiting", limits.concurrency, limits.queue),
    ]
}

/// A text from the file, with what a terminal would act on made visible.
fn quoted(text: &str) -> String {
    format!("`{}`", text.escape_debug())
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.component)?;
        section(f, "serves", &self.serves, "nothing: no intent, mount, link or tool grant leads to it")?;
        section(
            f,
            "may",
            &self.may,
            "do nothing beyond the baseline: no files, no network, no environment, no time of day",
        )?;
        section(f, "calls", &self.calls, "nobody")?;
        section(f, "a call uses at most", &self.limits, "nothing")?;
        section(f, "note", &self.notes, "")
    }
}

fn section(f: &mut fmt::Formatter<'_>, title: &str, lines: &[String], otherwise: &str) -> fmt::Result {
    if lines.is_empty() && otherwise.is_empty() {
        return Ok(());
    }
    writeln!(f, "  {title}:")?;
    if lines.is_empty() {
        writeln!(f, "    {otherwise}")?;
    }
    lines.iter().try_for_each(|line| writeln!(f, "    {line}"))
}
