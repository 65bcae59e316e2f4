//! Record mode: what a run asked for, and the least grants that would have sufficed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;

use parking_lot::Mutex;
use witan_capability::{Action, Request, Resource};
use witan_system::{
    Access, Files, FilesystemGrant, Grants, HostName, HostPattern, HttpGrant, Protocol, Scheme, SocketGrant, ToolGrant,
    is_below, normalise_http_path,
};

use crate::address::is_public;

/// What is kept for one component; a guest that asks for more different things than this needs no suggestion.
const MOST: usize = 10_000;

/// What components asked for, whether they got it or not.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    needs: Mutex<BTreeMap<String, Needs>>,
}

/// What one component asked for.
#[derive(Debug, Default, Clone)]
struct Needs {
    /// By guest path.
    files: BTreeMap<String, Access>,
    task_files: bool,
    urls: BTreeSet<(Scheme, String, u16, String, String)>,
    /// Whether the host was seen at an address that is not public.
    connections: BTreeMap<(Protocol, String, u16), bool>,
    /// The same for the hosts of `urls`.
    http_connections: BTreeMap<(String, u16), bool>,
    environment: BTreeSet<String>,
    config: BTreeSet<String>,
    wall_clock: bool,
    logging: bool,
    keyvalue: bool,
    tools: BTreeSet<String>,
    /// The grants that it has, for the values that a request does not tell.
    granted: Grants,
}

impl Recorder {
    /// Notes what `request` would need.
    pub(crate) fn note(&self, request: &Request<'_>) {
        let mut all = self.needs.lock();
        let needs = all.entry(request.component.name.to_string()).or_default();
        if needs.granted.is_empty() {
            needs.granted = Grants::clone(&request.component.grants);
        }
        if needs.count() < MOST {
            needs.note(request);
        }
    }

    /// For each component that asked for anything, the least grants that cover it.
    pub(crate) fn suggestions(&self) -> BTreeMap<String, Grants> {
        self.needs.lock().iter().map(|(name, needs)| (name.clone(), needs.grants())).collect()
    }
}

impl Needs {
    fn count(&self) -> usize {
        self.files.len()
            + self.urls.len()
            + self.connections.len()
            + self.environment.len()
            + self.config.len()
            + self.tools.len()
    }

    fn note(&mut self, request: &Request<'_>) {
        match (request.action, &request.resource) {
            (Action::FileRead, Resource::Path { guest, .. }) => self.file(request, guest, Access::Read),
            (Action::FileWrite, Resource::Path { guest, .. }) => self.file(request, guest, Access::ReadWrite),
            (Action::HttpSend, Resource::Url { method, scheme, host, port, path }) => {
                let scheme = if *scheme == "http" { Scheme::Http } else { Scheme::Https };
                let path = normalise_http_path(path).unwrap_or_else(|_| "/".to_owned());
                self.urls.insert((scheme, (*host).to_owned(), *port, (*method).to_owned(), path));
            }
            (Action::SocketConnect | Action::HttpSend, Resource::Address { name, address }) => {
                self.connection(request, *name, *address)
            }
            (Action::EnvironmentRead, Resource::Key(key)) => drop(self.environment.insert((*key).to_owned())),
            (Action::ConfigRead, Resource::Key(key)) => drop(self.config.insert((*key).to_owned())),
            (Action::WallClock, _) => self.wall_clock = true,
            (Action::Log, _) => self.logging = true,
            (Action::KeyvalueRead | Action::KeyvalueWrite, _) => self.keyvalue = true,
            (Action::ToolCall, Resource::Tool(tool)) => drop(self.tools.insert((*tool).to_owned())),
            // Look-ups and bindings come with the connection that they are for.
            _ => {}
        }
    }

    fn file(&mut self, request: &Request<'_>, guest: &str, access: Access) {
        if request.context.files().iter().any(|file| is_below(guest, &file.guest)) {
            self.task_files = true;
            return;
        }
        let known = self.files.entry(guest.to_owned()).or_insert(access);
        *known = access.max(*known);
    }

    fn connection(&mut self, request: &Request<'_>, name: Option<&str>, address: SocketAddr) {
        let private = !is_public(address.ip());
        if request.function.interface.starts_with("wasi:http/") {
            // The request itself is noted with its method and path; here only where the host lies is learnt.
            let host = name.unwrap_or_default().to_owned();
            *self.http_connections.entry((host, address.port())).or_default() |= private;
            return;
        }
        let udp = request.function.interface.contains("udp") || request.function.name.contains("udp");
        let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
        let host = name.map_or_else(|| address.ip().to_canonical().to_string(), str::to_owned);
        *self.connections.entry((protocol, host, address.port())).or_default() |= private;
    }

    fn grants(&self) -> Grants {
        let value =
            |known: &BTreeMap<String, String>, key: &String| (key.clone(), known.get(key).cloned().unwrap_or_default());
        Grants {
            filesystem: self.filesystem(),
            http: self.http(),
            sockets: self.sockets(),
            environment: self.environment.iter().map(|key| value(&self.granted.environment, key)).collect(),
            config: self.config.iter().map(|key| value(&self.granted.config, key)).collect(),
            wall_clock: self.wall_clock,
            logging: self.logging.then(|| self.granted.logging.clone().unwrap_or_default()),
            keyvalue: self.keyvalue.then(|| self.granted.keyvalue.clone().unwrap_or_default()),
            tools: self.tools.iter().filter_map(|tool| tool_grant(tool)).collect(),
            secrets: self.granted.secrets.clone(),
        }
    }

    /// One grant for each granted folder: the folder within it that all files asked for have in common. What lies in
    /// no granted folder stays apart, for the reader to say where it is.
    fn filesystem(&self) -> Vec<FilesystemGrant> {
        let mut common: BTreeMap<Option<usize>, (String, Access)> = BTreeMap::new();
        for (guest, access) in &self.files {
            let (folder, most) = common.entry(self.granted_folder(guest)).or_insert_with(|| (guest.clone(), *access));
            *folder = common_folder(folder, guest);
            *most = (*most).max(*access);
        }
        let task =
            self.task_files.then_some(FilesystemGrant { files: Files::Task, access: Access::Read, max_bytes: None });
        let of_paths = common.into_iter().map(|(granted, (guest, access))| {
            let host = self.host_path(granted, &guest);
            FilesystemGrant { files: Files::Path { host, guest }, access, max_bytes: None }
        });
        task.into_iter().chain(of_paths).collect()
    }

    fn granted_folder(&self, guest: &str) -> Option<usize> {
        self.granted
            .filesystem
            .iter()
            .position(|grant| matches!(&grant.files, Files::Path { guest: granted, .. } if is_below(guest, granted)))
    }

    /// Where `guest` lies on this machine.
    fn host_path(&self, granted: Option<usize>, guest: &str) -> PathBuf {
        let grant = granted.and_then(|index| self.granted.filesystem.get(index)).map(|grant| &grant.files);
        let Some(Files::Path { host, guest: folder }) = grant else { return PathBuf::from(format!(".{guest}")) };
        let below = guest.strip_prefix(folder.trim_end_matches('/')).unwrap_or_default().trim_start_matches('/');
        if below.is_empty() { host.clone() } else { host.join(below) }
    }

    /// One grant for each origin: the methods that were used, and the folder that all paths have in common.
    fn http(&self) -> Vec<HttpGrant> {
        let mut origins: BTreeMap<(Scheme, &str, u16), (BTreeSet<&str>, String)> = BTreeMap::new();
        for (scheme, host, port, method, path) in &self.urls {
            let (methods, prefix) =
                origins.entry((*scheme, host, *port)).or_insert_with(|| (BTreeSet::new(), path.clone()));
            methods.insert(method);
            *prefix = common_folder(prefix, path);
        }
        let grant =
            |((scheme, host, port), (methods, path_prefix)): ((Scheme, &str, u16), (BTreeSet<&str>, String))| {
                let pattern: HostPattern = host.parse().ok()?;
                let seen_private = self.http_connections.get(&(host.to_owned(), port)).copied();
                let private = seen_private.unwrap_or_default() && pattern.address().is_none();
                let methods = methods.into_iter().map(str::to_owned).collect();
                Some(HttpGrant { scheme, host: pattern, port, methods, path_prefix, private })
            };
        origins.into_iter().filter_map(grant).collect()
    }

    fn sockets(&self) -> Vec<SocketGrant> {
        let grant = |((protocol, host, port), private): (&(Protocol, String, u16), &bool)| {
            let host = HostPattern::Exact(host.parse::<HostName>().ok()?);
            let private = *private && host.address().is_none();
            Some(SocketGrant { protocol: *protocol, host, port: *port, private })
        };
        self.connections.iter().filter_map(grant).collect()
    }
}

fn tool_grant(tool: &str) -> Option<ToolGrant> {
    let (component, tool) = tool.split_once('.')?;
    Some(ToolGrant { component: component.parse().ok()?, tool: Some(tool.parse().ok()?) })
}

/// The deepest path that both paths are, or are below.
fn common_folder(a: &str, b: &str) -> String {
    let parts = a.split('/').zip(b.split('/')).take_while(|(a, b)| a == b).map(|(part, _)| part);
    let common = parts.collect::<Vec<_>>().join("/");
    if common.is_empty() { "/".to_owned() } else { common }
}
