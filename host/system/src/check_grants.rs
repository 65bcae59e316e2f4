//! The grants of a component, checked: each must be one that can match.

use std::collections::BTreeMap;

use crate::check::{Checker, Written};
use crate::file::{self, Access, Scheme};
use crate::grants::{
    Files, FilesystemGrant, Grants, HostName, HostPattern, HttpGrant, KeyvalueGrant, LoggingGrant, SocketGrant,
    ToolGrant,
};
use crate::path::{is_below, normalise_guest_path, normalise_http_path};
use crate::problem::Key;

impl Checker<'_> {
    pub(crate) fn grants(&mut self, key: &Key, name: &str, from: &file::Grants, file: &file::File) -> Grants {
        let all = &file.components;
        let filesystem = each(&key.child("filesystem"), &from.filesystem, |key, grant| self.filesystem(key, grant));
        let http = each(&key.child("http"), &from.http, |key, grant| self.http(key, grant));
        let sockets = each(&key.child("sockets"), &from.sockets, |key, grant| self.socket(key, grant));
        let tools = each(&key.child("tools"), &from.tools, |key, tool| self.tool(key, name, tool, all));
        self.twice(&filesystem);
        self.twice(&http);
        self.twice(&sockets);
        self.twice(&tools);
        self.overlapping(&filesystem);
        let secrets_key = key.child("secrets");
        let secrets = self.secret_grants(&secrets_key, &from.secrets, &file.secrets);
        let mut environment = self.environment(&key.child("environment"), &from.environment);
        let names = secrets.iter().filter_map(|grant| grant.environment.clone());
        self.placeholders(&secrets_key, names, &mut environment);
        let mut config = self.config(&key.child("config"), &from.config);
        let names = secrets.iter().filter_map(|grant| grant.config.clone());
        self.placeholders(&secrets_key, names, &mut config);
        Grants {
            filesystem: without_keys(filesystem),
            http: without_keys(http),
            sockets: without_keys(sockets),
            environment,
            config,
            wall_clock: from.wall_clock,
            logging: from.logging.as_ref().map(|grant| self.logging(&key.child("logging"), grant)),
            keyvalue: from.keyvalue.as_ref().map(|grant| self.keyvalue(&key.child("keyvalue"), grant)),
            tools: without_keys(tools),
            secrets,
        }
    }

    fn filesystem(&mut self, key: &Key, from: &file::Filesystem) -> Option<FilesystemGrant> {
        let access = from.access.unwrap_or_default();
        if access == Access::Read && from.max_bytes.is_some() {
            let message = format!("`{}` has no effect: the grant is for reading", key.child("max-bytes"));
            self.report(&key.child("max-bytes"), message, "set `access = \"read-write\"`, or remove it");
        }
        let max_bytes = from.max_bytes.is_some().then(|| self.bytes(&key.child("max-bytes"), &from.max_bytes, 0));
        let files = match (&from.path, &from.guest, from.task) {
            (Some(path), Some(guest), false) => {
                let host = self.resolve(&key.child("path"), path);
                Files::Path { host, guest: self.guest(&key.child("guest"), guest)? }
            }
            (Some(path), None, false) => {
                let message = format!("`{key}` does not say under which path the component sees `{path}`");
                self.report(key, message, "add `guest = \"/…\"`");
                return None;
            }
            (None, None, true) => {
                if access != Access::Read {
                    let message = "the files of a task are for reading only";
                    self.report(&key.child("access"), message, "remove `access`, or grant a folder by `path`");
                }
                Files::Task
            }
            _ => {
                let message = format!("`{key}` must have either `path` and `guest`, or `task = true`");
                self.report(key, message, "keep one of the two");
                return None;
            }
        };
        Some(FilesystemGrant { files, access, max_bytes })
    }

    fn guest(&mut self, key: &Key, guest: &str) -> Option<String> {
        let normalised = normalise_guest_path(guest);
        if normalised.is_none() {
            self.report(
                key,
                format!("`{guest}` is not an absolute path without `.` and `..`"),
                "write one such as \"/docs\"",
            );
        }
        normalised
    }

    fn http(&mut self, key: &Key, from: &file::Http) -> Option<HttpGrant> {
        let scheme = from.scheme.unwrap_or_default();
        let host = self.pattern(&key.child("host"), &from.host, from.private);
        let port = from.port.unwrap_or(match scheme {
            Scheme::Https => 443,
            Scheme::Http => 80,
        });
        self.port(&key.child("port"), port);
        let methods = self.methods(&key.child("methods"), from.methods.as_deref());
        let path_prefix = self.path_prefix(&key.child("path-prefix"), from.path_prefix.as_deref().unwrap_or("/"));
        Some(HttpGrant { scheme, host: host?, port, methods, path_prefix: path_prefix?, private: from.private })
    }

    fn socket(&mut self, key: &Key, from: &file::Socket) -> Option<SocketGrant> {
        self.port(&key.child("port"), from.port);
        let host = self.pattern(&key.child("host"), &from.host, from.private)?;
        Some(SocketGrant { protocol: from.protocol.unwrap_or_default(), host, port: from.port, private: from.private })
    }

    fn pattern(&mut self, key: &Key, text: &str, private: bool) -> Option<HostPattern> {
        let help = "write a host name, `*.` and a domain, or an IP address, without scheme, port or path";
        let pattern: HostPattern = text.parse().map_err(|error| self.report(key, format!("{error}"), help)).ok()?;
        let loopback = match &pattern {
            HostPattern::Exact(HostName::Name(name)) | HostPattern::Below(name) => {
                name == "localhost" || name.ends_with(".localhost")
            }
            HostPattern::Exact(HostName::Address(_)) => false,
        };
        if loopback && !private {
            let message = format!("the grant for `{text}` can never match: it is an address of this machine");
            self.report(key, message, "add `private = true`");
        }
        Some(pattern)
    }

    fn port(&mut self, key: &Key, port: u16) {
        if port == 0 {
            self.report(key, format!("`{key}` cannot be 0"), "write a port from 1 to 65535");
        }
    }

    fn methods(&mut self, key: &Key, methods: Option<&[String]>) -> Vec<String> {
        let Some(methods) = methods else {
            return vec!["GET".to_owned(), "HEAD".to_owned()];
        };
        if methods.is_empty() {
            self.report(key, "the grant can never match: it names no method", "name one, such as \"GET\"");
        }
        for (index, method) in methods.iter().enumerate() {
            if method.is_empty() || !method.bytes().all(|b| b.is_ascii_uppercase() || b == b'-') {
                let help = format!("write it in capitals, such as {:?}", capitals(method));
                self.report(&key.index(index), format!("`{method}` is not a method"), help);
            }
        }
        methods.to_vec()
    }

    fn path_prefix(&mut self, key: &Key, prefix: &str) -> Option<String> {
        match normalise_http_path(prefix) {
            Ok(path) if path.len() > 1 => Some(path.trim_end_matches('/').to_owned()).filter(|path| !path.is_empty()),
            Ok(path) => Some(path),
            Err(error) => {
                self.report(key, error.to_string(), "write a path such as \"/v1\", without a query");
                None
            }
        }
    }

    fn environment(&mut self, key: &Key, from: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        for (name, value) in from {
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                let message = format!("`{name}` cannot be an environment variable");
                self.report(&key.child(name), message, "choose a name without `=`, and a value without NUL");
            }
        }
        from.clone()
    }

    fn config(&mut self, key: &Key, from: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        if from.contains_key("") {
            self.report(&key.child(""), "a setting has no name", "give it one");
        }
        from.clone()
    }

    fn logging(&mut self, key: &Key, from: &file::Logging) -> LoggingGrant {
        LoggingGrant { rate: self.rate(&key.child("rate"), &from.rate, LoggingGrant::default().rate) }
    }

    fn keyvalue(&mut self, key: &Key, from: &file::Keyvalue) -> KeyvalueGrant {
        KeyvalueGrant {
            max_bytes: self.bytes(&key.child("max-bytes"), &from.max_bytes, KeyvalueGrant::default().max_bytes),
        }
    }

    fn tool(&mut self, key: &Key, name: &str, text: &str, all: &Written) -> Option<ToolGrant> {
        let Some((component, tool)) = text.split_once('.') else {
            self.report(
                key,
                format!("`{text}` names no tool"),
                "write `component.tool`, or `component.*` for all of it",
            );
            return None;
        };
        let component = self.existing(key, component, all)?;
        if component.as_str() == name {
            let message = format!("`{name}` is granted its own tools");
            self.report(key, message, "remove the grant: a component calls its own code directly");
        }
        let tool = if tool == "*" { None } else { Some(self.name(key, tool)?) };
        Some(ToolGrant { component, tool })
    }

    fn twice<T: PartialEq>(&mut self, grants: &[(Key, T)]) {
        for (index, (key, grant)) in grants.iter().enumerate() {
            if grants.iter().take(index).any(|(_, earlier)| earlier == grant) {
                self.report(key, format!("`{key}` is granted twice"), "remove one of the two");
            }
        }
    }

    /// A guest path inside another is two things at one place, and a write that one grant allows and the other does
    /// not could not be told apart.
    fn overlapping(&mut self, grants: &[(Key, FilesystemGrant)]) {
        let mut seen: Vec<&str> = Vec::new();
        for (key, grant) in grants {
            let Files::Path { guest, .. } = &grant.files else { continue };
            if let Some(earlier) = seen.iter().find(|earlier| is_below(earlier, guest) || is_below(guest, earlier)) {
                let message = format!("`{guest}` and `{earlier}` lie in one another, as the component would see them");
                self.report(key, message, "choose guest paths that lie beside one another");
            }
            seen.push(guest);
        }
    }
}

fn each<T, U>(key: &Key, from: &[T], mut read: impl FnMut(&Key, &T) -> Option<U>) -> Vec<(Key, U)> {
    let keyed = from.iter().enumerate().map(|(index, item)| (key.index(index), item));
    keyed.filter_map(|(key, item)| read(&key, item).map(|read| (key, read))).collect()
}

fn without_keys<T>(keyed: Vec<(Key, T)>) -> Vec<T> {
    keyed.into_iter().map(|(_, item)| item).collect()
}

fn capitals(method: &str) -> String {
    let letters: String = method.chars().filter(char::is_ascii_alphabetic).collect();
    if letters.is_empty() { "GET".to_owned() } else { letters.to_ascii_uppercase() }
}
