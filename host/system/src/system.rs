//! The parts of a system.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use witan_registry_types::{Host as RegistryHost, Namespace, Package, PackageName, Registry};

use crate::auth::Auth;
pub use crate::file::{CompileIn, LinkMode, Reuse};
use crate::grants::Grants;
use crate::ledger::Ledger;
use crate::limits::{ComponentLimits, Limits};
use crate::name::{ComponentName, Intent, InterfaceName, SecretName};
use crate::operate::{Egress, Tls};
use crate::problem::Origin;
use crate::request_policy::RequestPolicy;
use crate::requests::Requests;
use crate::secrets::{HostSecrets, Secret};
use crate::tasks::Tasks;
use crate::telemetry::Telemetry;
use crate::trust::TrustFile;

/// The components that one host runs: every name parsed, every reference to a component that exists, every path
/// resolved. The default is a system without components.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct System {
    /// Where it came from, to name lines in later errors.
    #[serde(skip)]
    pub origin: Origin,
    /// Settings of the host as a whole.
    pub host: Host,
    /// What one call tree may use.
    pub limits: Limits,
    /// The components.
    pub components: BTreeMap<ComponentName, Component>,
    /// For each intent, the component that serves it.
    pub intents: BTreeMap<Intent, ComponentName>,
    /// The HTTP paths that components serve, longest first: the first that matches serves.
    pub mounts: Vec<Mount>,
    /// Where packages come from.
    pub registries: Registries,
    /// Whom this system trusts to sign what comes from a registry.
    pub trust: Trust,
    /// The secrets that components may use.
    pub secrets: BTreeMap<SecretName, Secret>,
}

/// Where packages come from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Registries {
    /// Of these namespaces.
    pub namespaces: BTreeMap<Namespace, Registry>,
    /// Of all others.
    pub others: Option<Registry>,
}

impl Registries {
    /// The registry that `package` comes from. A namespace has one: what another registry has under the same name is not
    /// looked at.
    pub fn of(&self, package: &PackageName) -> Option<&Registry> {
        self.namespaces.get(&package.namespace).or(self.others.as_ref())
    }

    /// The registry at `host`, if packages of any namespace come from there.
    pub fn at(&self, host: &RegistryHost) -> Option<&Registry> {
        self.namespaces.values().chain(&self.others).find(|registry| registry.host == *host)
    }
}

/// Whom a system trusts to sign what comes from a registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trust {
    /// The `trusted_root.json`.
    pub root: Option<PathBuf>,
    /// The TUF roots that are pinned, each for a registry.
    pub tuf: BTreeMap<RegistryHost, PathBuf>,
    /// A folder of advisories.
    pub advisories: Option<PathBuf>,
    /// How often a running host asks the registries what was yanked.
    pub refresh: Duration,
    /// The rules as they were written, with how old trust metadata may be.
    pub rules: TrustFile,
}

impl Default for Trust {
    fn default() -> Self {
        let refresh = Duration::from_secs(300);
        Self { root: None, tuf: BTreeMap::new(), advisories: None, refresh, rules: TrustFile::default() }
    }
}

/// Where the bytes of a component come from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// A `.wasm` file of this machine.
    File(PathBuf),
    /// A package in a version.
    Registry(#[serde(serialize_with = "as_text")] Package),
}

fn as_text<S: serde::Serializer>(package: &Package, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(package)
}

impl Source {
    /// The file, if it is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Registry(_) => None,
        }
    }

    /// The package, if it is one.
    pub fn package(&self) -> Option<&Package> {
        match self {
            Self::File(_) => None,
            Self::Registry(package) => Some(package),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Registry(package) => package.fmt(f),
        }
    }
}

/// Settings of the host as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Host {
    /// The folder that the host keeps its data in.
    pub state: PathBuf,
    /// Folders under which a task that comes over HTTP may name paths.
    pub roots: Vec<PathBuf>,
    /// The URL of the PostgreSQL database that keeps the host's rows; none is SQLite in the state folder.
    pub database: Option<String>,
    /// Where the policies come from that decide each request.
    pub policy: RequestPolicy,
    /// Who may ask; without it, whoever is on this machine.
    pub auth: Option<Auth>,
    /// How many components can be alive at once.
    pub pool: Pool,
    /// What compiling a component may take.
    pub compile: Compile,
    /// How secrets are kept and fetched.
    pub secrets: HostSecrets,
    /// TLS for the clients of the host.
    pub tls: Option<Tls>,
    /// The way from the host to other machines.
    pub egress: Egress,
    /// Whether a crash may leave an image of the host's memory on the disk.
    pub core_dumps: bool,
    /// How much clients may ask of the host.
    pub requests: Requests,
    /// What of the host's work is shown to its operator, and where.
    pub telemetry: Telemetry,
    /// How many tasks run and wait, and how long they are kept.
    pub tasks: Tasks,
    /// How the audit log is kept.
    pub ledger: Ledger,
}

impl Default for Host {
    fn default() -> Self {
        Self {
            state: ".witan".into(),
            roots: Vec::new(),
            database: None,
            policy: RequestPolicy::default(),
            auth: None,
            pool: Pool::default(),
            compile: Compile::default(),
            secrets: HostSecrets::default(),
            tls: None,
            egress: Egress::default(),
            core_dumps: false,
            requests: Requests::default(),
            telemetry: Telemetry::default(),
            tasks: Tasks::default(),
            ledger: Ledger::default(),
        }
    }
}

/// How many components can be alive at once, and what each may take of the engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pool {
    /// Component instances alive at once, callers and callees together.
    pub instances: u32,
    /// Linear memories of one component.
    pub memories_per_instance: u32,
    /// Tables of one component.
    pub tables_per_instance: u32,
    /// Bytes of a finished instance's memory that stay with the pool.
    pub keep_resident: u64,
}

impl Default for Pool {
    fn default() -> Self {
        // 1,000 concurrent calls, each of a component that calls another.
        Self { instances: 2_000, memories_per_instance: 8, tables_per_instance: 16, keep_resident: 2 << 20 }
    }
}

/// What compiling a component may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Compile {
    /// The largest component, in bytes.
    pub size: u64,
    /// Functions in one component.
    pub functions: u32,
    /// Memory of the child process that compiles, in bytes.
    pub memory: u64,
    /// How long a compilation may take.
    pub time: Duration,
}

impl Default for Compile {
    fn default() -> Self {
        Self { size: 64 << 20, functions: 200_000, memory: 2 << 30, time: Duration::from_secs(120) }
    }
}

/// A component as the host runs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Component {
    /// Where its bytes come from.
    pub source: Source,
    /// Whether it runs although nobody has signed it.
    pub allow_unsigned: bool,
    /// The blake3 digest that its bytes must have, if the operator pinned one.
    pub digest: Option<[u8; 32]>,
    /// Where it is compiled.
    pub compile: CompileIn,
    /// What calls of it may use.
    pub limits: ComponentLimits,
    /// Whether an instance serves one call or more.
    pub instances: Instances,
    /// What it may do beyond the baseline.
    pub grants: Grants,
    /// How its imports are satisfied, by interface.
    pub links: BTreeMap<InterfaceName, Link>,
}

impl Component {
    /// The component in `source` with the strict defaults: nothing granted, nothing linked, a fresh instance for each
    /// call, compiled in a child process.
    pub fn new(source: impl Into<PathBuf>, system: &Limits) -> Self {
        Self {
            source: Source::File(source.into()),
            allow_unsigned: false,
            digest: None,
            compile: CompileIn::Child,
            limits: ComponentLimits::of(system),
            instances: Instances::default(),
            grants: Grants::default(),
            links: BTreeMap::new(),
        }
    }

    /// How the import `interface` is satisfied. A link that names the version goes before one that does not.
    pub fn link(&self, interface: &str) -> Option<&Link> {
        let fitting = self.links.iter().filter(|(name, _)| name.matches(interface));
        fitting.max_by_key(|(name, _)| name.as_str().len()).map(|(_, link)| link)
    }
}

/// Whether an instance serves one call or more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Instances {
    /// One call, or one after another.
    pub reuse: Reuse,
    /// Idle instances that are kept for the next call, where instances are reused.
    pub keep: u32,
    /// Calls that one instance serves before it is replaced, where instances are reused.
    pub calls: u32,
}

impl Default for Instances {
    fn default() -> Self {
        Self { reuse: Reuse::Fresh, keep: 8, calls: 1_000 }
    }
}

/// How an import is satisfied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Link {
    /// The component that provides the interface.
    pub component: ComponentName,
    /// How the two are joined.
    pub mode: LinkMode,
}

/// An HTTP path that a component serves, with every path below it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mount {
    /// The path: begins with `/`, and ends with `/` only if it is `/`.
    pub path: String,
    /// The component.
    pub component: ComponentName,
}

impl System {
    /// The folder that holds the `system.toml`; empty means the current one.
    pub fn folder(&self) -> &Path {
        self.origin.file.parent().unwrap_or(Path::new(""))
    }

    /// The mount that serves the request path `path`, the longest that matches.
    pub fn mount(&self, path: &str) -> Option<&Mount> {
        self.mounts.iter().find(|mount| {
            let prefix = mount.path.trim_end_matches('/');
            path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }
}
