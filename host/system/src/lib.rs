//! `system.toml`, checked: components, grants, limits, links, mounts and intents.
//!
//! [`System::parse`] turns text into a [`System`] or into every problem that it has; nothing else in the host reads
//! the file's form. This crate is data: it compiles no component and decides no request. `docs/system-toml.md`
//! documents each key, its default and the order of overrides.

mod auth;
mod ceiling;
mod check;
mod check_grants;
mod explain;
mod file;
mod grants;
mod graph;
mod identity;
mod ledger;
mod limits;
mod name;
mod operate;
mod path;
mod problem;
mod request_policy;
mod requests;
mod secrets;
mod shape;
mod system;
mod tasks;
mod telemetry;
mod trust;
mod unit;
mod write;

use std::path::Path;

use serde::Deserialize;
use toml::de::DeTable;

pub use auth::{Auth, CertificateName, CertificateRule, Issuer, Login, Role, TenantRule};
pub use ceiling::{
    Ceiling, CeilingError, Excess, FilesystemCeiling, HostCeiling, HttpCeiling, KeyvalueCeiling, Names, PortCeiling,
    SocketCeiling, ToolCeiling,
};
pub use explain::Explanation;
pub use file::{json_schema, json_schema_text};
pub use grants::{
    Access, Files, FilesystemGrant, Grants, HostError, HostName, HostPattern, HttpGrant, KeyvalueGrant, LoggingGrant,
    Protocol, Scheme, SocketGrant, ToolGrant,
};
pub use graph::{Edge, EdgeKind, Graph, Interfaces, Node, NodeKind};
pub use identity::{Scope, ScopeError, TrustLevel, TrustLevelError, Verb};
pub use ledger::{FieldClass, Ledger, PersonalData, Treatment};
pub use limits::{Breaker, ComponentLimits, Limits};
pub use name::{ComponentName, Intent, InterfaceName, Name, NameError, SecretName, TenantName, ToolName};
pub use operate::{Egress, Resolve, Tls};
pub use path::{PathError, is_below, normalise_guest_path, normalise_http_path};
pub use problem::{Key, Origin, Position, Problem, SystemError};
pub use request_policy::RequestPolicy;
pub use requests::{RequestRates, Requests};
pub use secrets::{HostSecrets, KeyPlace, OriginName, OriginNameError, Secret, SecretGrant, SecretSource, VaultServer};
pub use system::{
    Compile, CompileIn, Component, Host, Instances, Link, LinkMode, Mount, Pool, Registries, Reuse, Source, System,
    Trust,
};
pub use tasks::Tasks;
pub use telemetry::{Telemetry, TraceRule};
pub use trust::{IdentityFile, KeyFile, RuleFile, StatementKind, TrustFile};
pub use unit::{Rate, format_bytes, format_duration, parse_bytes, parse_duration, parse_rate};
pub use write::grants_toml;

/// Generous for a hand-written file, and small enough that a hostile one costs little to refuse.
const LARGEST: usize = 1 << 20;

impl System {
    /// Reads and checks the file at `path`.
    pub fn load(path: &Path) -> Result<Self, SystemError> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            let origin = Origin { file: path.to_owned(), ..Origin::default() };
            let message = format!("cannot read `{}`: {error}", path.display());
            SystemError::new(vec![origin.problem(&Key::root(), message, "name the file with `--system`, or create it")])
        })?;
        Self::parse(&text, path)
    }

    /// Checks `text`, which came from `file`; relative paths in it are resolved against the folder of `file`. Looks
    /// at nothing else on this machine: see [`System::missing`] for what must exist.
    pub fn parse(text: &str, file: &Path) -> Result<Self, SystemError> {
        let mut origin = Origin { file: file.to_owned(), ..Origin::default() };
        if text.len() > LARGEST {
            let message = format!("`{}` is larger than {}", file.display(), format_bytes(LARGEST as u64));
            return Err(SystemError::new(vec![origin.problem(&Key::root(), message, "split the system in two")]));
        }
        let (mut table, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            return Err(syntax(text, &origin, &errors));
        }
        let mut problems = shape::check(table.get_mut(), text, &json_schema(), &mut origin);
        let file = match file::File::deserialize(toml::de::Deserializer::from(table)) {
            Ok(file) => file,
            Err(error) if problems.is_empty() => return Err(syntax(text, &origin, &[error])),
            Err(_) => return Err(SystemError::new(problems)),
        };
        let (system, more) = check::check(&file, origin);
        problems.extend(more);
        if problems.is_empty() { Ok(system) } else { Err(SystemError::new(problems)) }
    }

    /// What the system names on this machine that is not there: sources, granted files and roots.
    pub fn missing(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let trust = Key::root().child("trust");
        let mut look = |key: Key, path: &Path, help: &str| {
            if !path.exists() {
                let message = format!("there is no `{}`", path.display());
                problems.push(self.origin.problem(&key, message, help));
            }
        };
        for (index, root) in self.host.roots.iter().enumerate() {
            look(Key::root().child("host").child("roots").index(index), root, "create the folder, or remove the root");
        }
        let policy = Key::root().child("host").child("policy");
        let paths = &self.host.policy;
        for (name, path) in [("folder", &paths.folder), ("entities", &paths.entities), ("shadow", &paths.shadow)] {
            if let Some(path) = path {
                look(policy.child(name), path, "create it, or correct the path");
            }
        }
        for (name, path) in [("root", &self.trust.root), ("advisories", &self.trust.advisories)] {
            if let Some(path) = path {
                look(trust.child(name), path, "create it, or correct the path");
            }
        }
        for (host, path) in &self.trust.tuf {
            look(
                trust.child("tuf").child(host.as_str()),
                path,
                "take the root that the registry's operators published",
            );
        }
        for (name, component) in &self.components {
            let key = Key::component(name);
            if let Source::File(path) = &component.source {
                look(key.child("source"), path, "build the component, or correct the path");
            }
            for (index, grant) in component.grants.filesystem.iter().enumerate() {
                if let Files::Path { host, .. } = &grant.files {
                    let key = key.child("grants").child("filesystem").index(index).child("path");
                    look(key, host, "create it, or correct the path");
                }
            }
        }
        problems
    }
}

fn syntax(text: &str, origin: &Origin, errors: &[toml::de::Error]) -> SystemError {
    let problem = |error: &toml::de::Error| Problem {
        file: origin.file().to_owned(),
        position: error.span().map(|span| Position::of(text, span.start)),
        key: String::new(),
        message: error.message().replace('\n', ", "),
        help: "correct the TOML; https://toml.io describes it".to_owned(),
    };
    SystemError::new(errors.iter().map(problem).collect())
}
