//! From what was written to what it means, with every problem on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use witan_registry_types::{Host as RegistryHost, Namespace, ReferenceError, Registry};

use crate::file::{self, CompileIn, File, LinkMode, Reuse};
use crate::limits::{Breaker, ComponentLimits, Limits};
use crate::name::{ComponentName, Intent, InterfaceName};
use crate::path::normalise_guest_path;
use crate::problem::{Key, Origin, Problem};
use crate::shape::nearest;
use crate::system::{Compile, Component, Host, Instances, Link, Mount, Pool, Registries, Source, System, Trust};
use crate::trust::TrustFile;
use crate::unit::{self, Rate};

/// Paths that the host answers itself, with what is below them.
const HOST_PATHS: [&str; 5] = ["/v1", "/healthz", "/readyz", "/metrics", "/openapi.json"];

/// Collects problems while a file is read.
pub(crate) struct Checker<'a> {
    origin: &'a Origin,
    folder: &'a Path,
    problems: Vec<Problem>,
}

/// The system that `file` describes, as far as it can be read, and what is wrong with it.
pub(crate) fn check(file: &File, origin: Origin) -> (System, Vec<Problem>) {
    let folder = origin.file.parent().unwrap_or(Path::new("")).to_owned();
    let mut checker = Checker { origin: &origin, folder: &folder, problems: Vec::new() };
    let root = Key::root();
    let mut host = checker.host(&file.host);
    let limits = checker.limits(&root.child("limits"), &Limits::default(), &file.limits, None);
    let components = checker.components(file, &limits);
    let intents = checker.intents(&file.intents, &file.components);
    host.tasks = checker.tasks(&file.host.tasks, &intents);
    let mounts = checker.mounts(&file.mounts, &file.components);
    let registries = checker.registries(&root.child("registries"), &file.registries);
    let trust = checker.trust(&root.child("trust"), &file.trust, &registries);
    let secrets = checker.secrets(&root.child("secrets"), &file.secrets, &host.secrets);
    checker.reachable(&components, &registries);
    checker.cycles(&components);
    for (name, component) in &components {
        checker.fused(name, component, &components, file);
    }
    let problems = checker.problems;
    (System { origin, host, limits, components, intents, mounts, registries, trust, secrets }, problems)
}

impl Checker<'_> {
    pub(crate) fn report(&mut self, key: &Key, message: impl Into<String>, help: impl Into<String>) {
        self.problems.push(self.origin.problem(key, message, help));
    }

    /// The value of a text, or its default where it is absent or wrong.
    pub(crate) fn parsed<T>(
        &mut self,
        key: &Key,
        text: Option<&str>,
        parse: fn(&str) -> Option<T>,
        help: &str,
        default: T,
    ) -> T {
        let Some(text) = text else { return default };
        parse(text).unwrap_or_else(|| {
            self.report(key, format!("`{key}` cannot be `{text}`"), help);
            default
        })
    }

    pub(crate) fn bytes(&mut self, key: &Key, text: &Option<file::Bytes>, default: u64) -> u64 {
        self.parsed(key, text.as_ref().map(|text| text.0.as_str()), unit::parse_bytes, unit::BYTES_HELP, default)
    }

    pub(crate) fn time(&mut self, key: &Key, text: &Option<file::Time>, default: Duration) -> Duration {
        let text = text.as_ref().map(|text| text.0.as_str());
        self.parsed(key, text, unit::parse_duration, unit::DURATION_HELP, default)
    }

    pub(crate) fn positive_bytes(&mut self, key: &Key, text: &Option<file::Bytes>, default: u64) -> u64 {
        let bytes = self.bytes(key, text, default);
        self.at_least_one(key, bytes, "with none, nothing fits")
    }

    pub(crate) fn positive_time(&mut self, key: &Key, text: &Option<file::Time>, default: Duration) -> Duration {
        let time = self.time(key, text, default);
        self.at_least_one(key, time, "with none, nothing would last")
    }

    pub(crate) fn rate(&mut self, key: &Key, text: &Option<file::PerTime>, default: Rate) -> Rate {
        self.parsed(key, text.as_ref().map(|text| text.0.as_str()), unit::parse_rate, unit::RATE_HELP, default)
    }

    /// A name, reported at `key` if it is not one.
    pub(crate) fn name<T: FromStr<Err: std::fmt::Display>>(&mut self, key: &Key, text: &str) -> Option<T> {
        let parsed = text.parse();
        parsed.map_err(|error: T::Err| self.report(key, error.to_string(), "choose a name of that form")).ok()
    }

    /// The name of a component that exists.
    pub(crate) fn existing(&mut self, key: &Key, text: &str, components: &Written) -> Option<ComponentName> {
        if components.contains_key(text) {
            // A malformed name was reported where the component is defined.
            return text.parse().ok();
        }
        let help = match nearest(text, components.keys().map(String::as_str)) {
            Some(meant) => format!("write `{meant}`, or add [components.{text}]"),
            None => format!("add [components.{text}], or name a component of this file"),
        };
        self.report(key, format!("there is no component `{text}`"), help);
        None
    }

    pub(crate) fn resolve(&mut self, key: &Key, path: &str) -> PathBuf {
        if path.is_empty() || path.contains('\0') {
            self.report(
                key,
                format!("`{key}` is not a path"),
                "write a path relative to this file, such as \"./docs\"",
            );
        }
        self.folder.join(path).components().filter(|part| *part != std::path::Component::CurDir).collect()
    }

    pub(crate) fn at_least_one<T: PartialOrd + Default>(&mut self, key: &Key, value: T, meaning: &str) -> T {
        if value <= T::default() {
            self.report(key, format!("`{key}` cannot be zero"), format!("write a positive value: {meaning}"));
        }
        value
    }

    fn host(&mut self, host: &file::Host) -> Host {
        let key = Key::root().child("host");
        let default = Host::default();
        let state = host.state.clone().unwrap_or_else(|| default.state.display().to_string());
        let roots = host.roots.iter().enumerate();
        Host {
            state: self.resolve(&key.child("state"), &state),
            roots: roots.map(|(index, root)| self.resolve(&key.child("roots").index(index), root)).collect(),
            database: self.database(&key.child("database"), host.database.as_deref()),
            policy: self.request_policy(&key.child("policy"), &host.policy),
            auth: host.auth.as_ref().map(|auth| self.auth(&key.child("auth"), auth)),
            pool: self.pool(&key.child("pool"), &host.pool, &default.pool),
            compile: self.compile(&key.child("compile"), &host.compile, &default.compile),
            ledger: self.ledger(&key.child("ledger"), &host.ledger),
            secrets: self.host_secrets(&key.child("secrets"), &host.secrets),
            tls: self.tls(&key.child("tls"), host.tls.as_ref()),
            egress: self.egress(&key.child("egress"), &host.egress),
            core_dumps: host.core_dumps,
            requests: self.requests(&key.child("requests"), &host.requests),
            telemetry: self.telemetry(&key.child("telemetry"), &host.telemetry),
            // Read once the intents are known.
            tasks: default.tasks,
        }
    }

    fn database(&mut self, key: &Key, url: Option<&str>) -> Option<String> {
        let url = url?;
        if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
            let message = "this is no URL of a PostgreSQL database".to_owned();
            self.report(
                key,
                message,
                "write `postgres://user@host/database`, or remove it to keep rows in the state folder",
            );
        }
        Some(url.to_owned())
    }

    fn pool(&mut self, key: &Key, pool: &file::Pool, default: &Pool) -> Pool {
        let none = "with none, no component can run";
        let mut count =
            |name, value: Option<u32>, default| self.at_least_one(&key.child(name), value.unwrap_or(default), none);
        Pool {
            instances: count("instances", pool.instances, default.instances),
            memories_per_instance: count(
                "memories-per-instance",
                pool.memories_per_instance,
                default.memories_per_instance,
            ),
            tables_per_instance: count("tables-per-instance", pool.tables_per_instance, default.tables_per_instance),
            keep_resident: self.bytes(&key.child("keep-resident"), &pool.keep_resident, default.keep_resident),
        }
    }

    fn compile(&mut self, key: &Key, compile: &file::Compile, default: &Compile) -> Compile {
        let none = "with none, no component can be compiled";
        let size = self.bytes(&key.child("size"), &compile.size, default.size);
        let memory = self.bytes(&key.child("memory"), &compile.memory, default.memory);
        let time = self.time(&key.child("time"), &compile.time, default.time);
        Compile {
            size: self.at_least_one(&key.child("size"), size, none),
            functions: self.at_least_one(&key.child("functions"), compile.functions.unwrap_or(default.functions), none),
            memory: self.at_least_one(&key.child("memory"), memory, none),
            time: self.at_least_one(&key.child("time"), time, none),
        }
    }

    /// The limits that `limits` states over `default`; where there is a `ceiling`, none may be wider than it.
    fn limits(&mut self, key: &Key, default: &Limits, limits: &file::Limits, ceiling: Option<&Limits>) -> Limits {
        let read = Limits {
            memory: self.bytes(&key.child("memory"), &limits.memory, default.memory),
            cpu: self.time(&key.child("cpu"), &limits.cpu, default.cpu),
            deadline: self.time(&key.child("deadline"), &limits.deadline, default.deadline),
            depth: limits.depth.unwrap_or(default.depth),
            handles: limits.handles.unwrap_or(default.handles),
            call_bytes: self.bytes(&key.child("call-bytes"), &limits.call_bytes, default.call_bytes),
            disk_bytes: self.bytes(&key.child("disk-bytes"), &limits.disk_bytes, default.disk_bytes),
            log_bytes: self.bytes(&key.child("log-bytes"), &limits.log_bytes, default.log_bytes),
            sockets: limits.sockets.map_or(default.sockets, u64::from),
            bytes_out: self.bytes(&key.child("bytes-out"), &limits.bytes_out, default.bytes_out),
        };
        for (name, zero) in [
            ("memory", limits.memory.is_some() && read.memory == 0),
            ("cpu", limits.cpu.is_some() && read.cpu.is_zero()),
            ("deadline", limits.deadline.is_some() && read.deadline.is_zero()),
            ("depth", limits.depth == Some(0)),
        ] {
            self.at_least_one(&key.child(name), u8::from(!zero), "with none, no call could run");
        }
        if let Some(ceiling) = ceiling {
            self.no_wider(key, &read, ceiling);
        }
        read
    }

    /// A call of the component counts against the call tree too, so that a wider limit would look set and never hold.
    fn no_wider(&mut self, key: &Key, limits: &Limits, ceiling: &Limits) {
        let wider = [
            ("memory", limits.memory > ceiling.memory),
            ("cpu", limits.cpu > ceiling.cpu),
            ("deadline", limits.deadline > ceiling.deadline),
            ("depth", limits.depth > ceiling.depth),
            ("handles", limits.handles > ceiling.handles),
            ("call-bytes", limits.call_bytes > ceiling.call_bytes),
            ("disk-bytes", limits.disk_bytes > ceiling.disk_bytes),
            ("log-bytes", limits.log_bytes > ceiling.log_bytes),
            ("sockets", limits.sockets > ceiling.sockets),
            ("bytes-out", limits.bytes_out > ceiling.bytes_out),
        ];
        for (name, _) in wider.into_iter().filter(|(_, wider)| *wider) {
            let key = key.child(name);
            let message = format!("`{key}` is wider than `limits.{name}`, which every call is held to");
            self.report(&key, message, format!("lower it, or raise `{name}` under [limits]"));
        }
    }

    fn components(&mut self, file: &File, limits: &Limits) -> BTreeMap<ComponentName, Component> {
        let mut components = BTreeMap::new();
        for (name, component) in &file.components {
            let key = Key::root().child("components").child(name);
            let parsed: Option<ComponentName> = self.name(&key, name);
            let component = self.component(&key, name, component, limits, file);
            if let Some(name) = parsed {
                components.insert(name, component);
            }
        }
        components
    }

    fn component(&mut self, key: &Key, name: &str, from: &file::Component, limits: &Limits, file: &File) -> Component {
        let all = &file.components;
        Component {
            source: self.source(&key.child("source"), &from.source),
            allow_unsigned: from.allow_unsigned,
            digest: self.digest(&key.child("digest"), from.digest.as_deref()),
            compile: from.compile.unwrap_or(CompileIn::Child),
            limits: self.component_limits(&key.child("limits"), &from.limits, limits),
            instances: self.instances(&key.child("instances"), &from.instances),
            grants: self.grants(&key.child("grants"), name, &from.grants, file),
            links: self.links(&key.child("links"), name, &from.links, all),
        }
    }

    fn source(&mut self, key: &Key, source: &str) -> Source {
        if source.ends_with(".wasm") {
            return Source::File(self.resolve(key, source));
        }
        match source.parse() {
            Ok(package) => Source::Registry(package),
            Err(_) => {
                let message = format!("`{source}` is neither a `.wasm` file nor a package in a version");
                self.report(key, message, "give the path of a `.wasm` file, or `namespace:name@1.2.3`");
                Source::File(PathBuf::new())
            }
        }
    }

    fn registries(&mut self, key: &Key, written: &BTreeMap<String, String>) -> Registries {
        let mut registries = Registries::default();
        for (name, registry) in written {
            let key = key.child(name);
            let help = "write the registry as `host`, `host:port` or `host/prefix`";
            let registry: Option<Registry> =
                registry.parse().map_err(|error: ReferenceError| self.report(&key, error.to_string(), help)).ok();
            if name == "*" {
                registries.others = registry;
            } else if let (Some(namespace), Some(registry)) = (self.name::<Namespace>(&key, name), registry) {
                registries.namespaces.insert(namespace, registry);
            }
        }
        registries
    }

    fn trust(&mut self, key: &Key, written: &TrustFile, registries: &Registries) -> Trust {
        let path = |checker: &mut Self, name: &str, path: &Option<String>| {
            path.as_ref().map(|path| checker.resolve(&key.child(name), path))
        };
        let refresh = written.refresh.as_deref();
        let default = Trust::default().refresh;
        Trust {
            root: path(self, "root", &written.root),
            tuf: self.tuf(&key.child("tuf"), &written.tuf, registries),
            advisories: path(self, "advisories", &written.advisories),
            refresh: self.parsed(&key.child("refresh"), refresh, unit::parse_duration, unit::DURATION_HELP, default),
            rules: written.clone(),
        }
    }

    fn tuf(
        &mut self,
        key: &Key,
        written: &BTreeMap<String, String>,
        registries: &Registries,
    ) -> BTreeMap<RegistryHost, PathBuf> {
        let mut roots = BTreeMap::new();
        for (host, path) in written {
            let key = key.child(host);
            let path = self.resolve(&key, path);
            match host.parse::<RegistryHost>() {
                Err(error) => self.report(&key, error.to_string(), "write the registry as `host` or `host:port`"),
                // A name with a slip of the pen would leave the registry that is meant without a root.
                Ok(host) if registries.at(&host).is_none() => {
                    self.report(
                        &key,
                        format!("no package comes from `{host}`"),
                        "name a host that is under [registries]",
                    );
                }
                Ok(host) => {
                    roots.insert(host, path);
                }
            }
        }
        roots
    }

    /// Each package has a registry that it comes from.
    fn reachable(&mut self, components: &BTreeMap<ComponentName, Component>, registries: &Registries) {
        for (name, component) in components {
            let Source::Registry(package) = &component.source else { continue };
            if registries.of(&package.name).is_none() {
                let namespace = &package.name.namespace;
                self.report(
                    &Key::component(name).child("source"),
                    format!("no registry is named for `{package}`"),
                    format!("add `{namespace} = \"registry.example.org\"` under [registries]"),
                );
            }
            if component.allow_unsigned {
                self.report(
                    &Key::component(name).child("allow-unsigned"),
                    format!("`{package}` comes from a registry, and must be signed"),
                    "remove `allow-unsigned`; to run bytes that nobody signed, give their file as the source",
                );
            }
        }
    }

    fn digest(&mut self, key: &Key, digest: Option<&str>) -> Option<[u8; 32]> {
        let parse = |text: &str| parse_digest(text).map(Some);
        self.parsed(key, digest, parse, "write `blake3:` and 64 hexadecimal digits, as `b3sum` prints them", None)
    }

    fn component_limits(&mut self, key: &Key, from: &file::ComponentLimits, system: &Limits) -> ComponentLimits {
        let from_call = from.call();
        let default = ComponentLimits::of(system);
        let call = self.limits(key, system, &from_call, Some(system));
        let concurrency = from.concurrency.unwrap_or(default.concurrency);
        ComponentLimits {
            call,
            concurrency: self.at_least_one(&key.child("concurrency"), concurrency, "with none, no call could run"),
            queue: from.queue.unwrap_or(default.queue),
            breaker: self.breaker(key, from, &default.breaker),
        }
    }

    fn breaker(&mut self, key: &Key, from: &file::ComponentLimits, default: &Breaker) -> Breaker {
        let traps = from.breaker_traps.unwrap_or(default.traps);
        let time = self.positive_time(&key.child("breaker-time"), &from.breaker_time, default.time);
        let longest = default.longest.max(time);
        let longest = self.positive_time(&key.child("breaker-longest"), &from.breaker_longest, longest);
        if longest < time {
            let key = key.child("breaker-longest");
            let message = format!("`{key}` is shorter than `breaker-time`, with which it begins");
            self.report(&key, message, "raise it, or lower `breaker-time`");
        }
        let key = key.child("breaker-traps");
        Breaker { traps: self.at_least_one(&key, traps, "with none, no call could run"), time, longest }
    }

    fn instances(&mut self, key: &Key, from: &file::Instances) -> Instances {
        let default = Instances::default();
        let reuse = from.reuse.unwrap_or_default();
        for (name, stated) in [("keep", from.keep.is_some()), ("calls", from.calls.is_some())] {
            if stated && reuse == Reuse::Fresh {
                let key = key.child(name);
                let message = format!("`{key}` has no effect: each call gets a fresh instance");
                self.report(&key, message, "set `reuse = \"serial\"`, or remove it");
            }
        }
        Instances {
            reuse,
            keep: from.keep.unwrap_or(default.keep),
            calls: self.at_least_one(
                &key.child("calls"),
                from.calls.unwrap_or(default.calls),
                "calls that an instance serves",
            ),
        }
    }

    fn links(
        &mut self,
        key: &Key,
        name: &str,
        links: &BTreeMap<String, file::Link>,
        all: &Written,
    ) -> BTreeMap<InterfaceName, Link> {
        let mut checked = BTreeMap::new();
        for (interface, link) in links {
            let key = key.child(interface);
            let interface: Option<InterfaceName> = self.name(&key, interface);
            let component = self.existing(&key.child("component"), &link.component, all);
            if link.component == name {
                let message = format!("`{name}` is linked to itself");
                self.report(&key.child("component"), message, "name the component that provides the interface");
            }
            if let (Some(interface), Some(component)) = (interface, component) {
                checked.insert(interface, Link { component, mode: link.mode.unwrap_or_default() });
            }
        }
        checked
    }

    fn intents(&mut self, intents: &BTreeMap<String, String>, all: &Written) -> BTreeMap<Intent, ComponentName> {
        let mut checked = BTreeMap::new();
        for (intent, component) in intents {
            let key = Key::root().child("intents").child(intent);
            let intent: Option<Intent> = self.name(&key, intent);
            let component = self.existing(&key, component, all);
            checked.extend(intent.zip(component));
        }
        checked
    }

    fn mounts(&mut self, mounts: &[file::Mount], all: &Written) -> Vec<Mount> {
        let mut taken: BTreeMap<String, usize> = BTreeMap::new();
        let mut checked = Vec::new();
        for (index, mount) in mounts.iter().enumerate() {
            let key = Key::root().child("mounts").index(index);
            let component = self.existing(&key.child("component"), &mount.component, all);
            let Some(path) = self.mount_path(&key.child("path"), &mount.path) else {
                continue;
            };
            if let Some(first) = taken.insert(path.clone(), index) {
                let first = Key::root().child("mounts").index(first);
                let line = self.origin.position(&first).map_or(String::new(), |at| format!(" in line {}", at.line));
                let message = format!("`{path}` is mounted twice, first{line}");
                self.report(&key.child("path"), message, "remove one of the two mounts, or choose another path");
            }
            checked.extend(component.map(|component| Mount { path, component }));
        }
        checked.sort_by_key(|mount| std::cmp::Reverse(mount.path.len()));
        checked
    }

    fn mount_path(&mut self, key: &Key, path: &str) -> Option<String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "/-._~".contains(c);
        let normalised = normalise_guest_path(path).filter(|path| path.chars().all(plain));
        let Some(normalised) = normalised else {
            let help = "write a path such as \"/hello\": letters, digits, `-`, `.`, `_` and `~` between slashes";
            self.report(key, format!("`{path}` cannot be mounted"), help);
            return None;
        };
        if let Some(own) = HOST_PATHS.iter().find(|own| crate::path::is_below(&normalised, own)) {
            self.report(
                key,
                format!("`{path}` cannot be mounted: the host answers `{own}` itself"),
                "choose another path",
            );
        }
        Some(normalised)
    }

    /// Every cycle of links is a call that waits for itself.
    fn cycles(&mut self, components: &BTreeMap<ComponentName, Component>) {
        let mut finished = BTreeSet::new();
        for name in components.keys() {
            let mut path = Vec::new();
            self.follow(name, components, &mut path, &mut finished);
        }
    }

    fn follow<'c>(
        &mut self,
        name: &'c ComponentName,
        components: &'c BTreeMap<ComponentName, Component>,
        path: &mut Vec<&'c ComponentName>,
        finished: &mut BTreeSet<&'c ComponentName>,
    ) {
        if finished.contains(name) {
            return;
        }
        path.push(name);
        for (interface, link) in components.get(name).into_iter().flat_map(|component| &component.links) {
            // A link to itself was reported where it is written.
            match path.iter().position(|visited| *visited == &link.component) {
                Some(start) if link.component != *name => {
                    let cycle = path.iter().skip(start).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" → ");
                    let key = Key::component(name).child("links").child(interface.as_str());
                    let message = format!("the links go in a cycle: {cycle} → `{}`", link.component);
                    self.report(&key, message, "remove one of these links");
                }
                Some(_) => {}
                None => self.follow(&link.component, components, path, finished),
            }
        }
        path.pop();
        finished.insert(name);
    }

    /// Fused parts are one component: what is set for the provider alone could not be held to.
    fn fused(
        &mut self,
        name: &ComponentName,
        component: &Component,
        all: &BTreeMap<ComponentName, Component>,
        file: &File,
    ) {
        for (interface, link) in component.links.iter().filter(|(_, link)| link.mode == LinkMode::Fused) {
            let key = Key::component(name).child("links").child(interface.as_str()).child("mode");
            let (Some(provider), Some(written)) =
                (all.get(&link.component), file.components.get(link.component.as_str()))
            else {
                continue;
            };
            let provider_name = &link.component;
            if !provider.grants.is_empty() && provider.grants != component.grants {
                let message = format!(
                    "`{provider_name}` cannot be fused into `{name}`: it has grants that `{name}` has not, or the other way round"
                );
                self.report(&key, message, "link it isolated, or give both the same grants");
            }
            if written.limits.is_stated() && provider.limits != component.limits {
                let message = format!(
                    "`{provider_name}` has limits of its own, which cannot hold while it is fused into `{name}`"
                );
                let help = format!("link it isolated, or remove [components.{provider_name}.limits]");
                self.report(&key, message, help);
            }
        }
    }
}

/// The components as they were written.
pub(crate) type Written = BTreeMap<String, file::Component>;

fn parse_digest(text: &str) -> Option<[u8; 32]> {
    let hex =
        text.strip_prefix("blake3:").filter(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()))?;
    let mut digest = [0; 32];
    for (index, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(hex.get(index * 2..index * 2 + 2)?, 16).ok()?;
    }
    Some(digest)
}

impl file::ComponentLimits {
    /// The part that is limits of a call.
    fn call(&self) -> file::Limits {
        let this = self.clone();
        file::Limits {
            memory: this.memory,
            cpu: this.cpu,
            deadline: this.deadline,
            depth: this.depth,
            handles: this.handles,
            call_bytes: this.call_bytes,
            disk_bytes: this.disk_bytes,
            log_bytes: this.log_bytes,
            sockets: this.sockets,
            bytes_out: this.bytes_out,
        }
    }

    fn is_stated(&self) -> bool {
        *self != Self::default()
    }
}
