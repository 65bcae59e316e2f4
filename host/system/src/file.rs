//! The shape of `system.toml`, and the JSON Schema that is made from it.
//!
//! These types stay at the edge: they hold what was written, and [`crate::check`] turns them into a
//! [`System`](crate::System). Their documentation is what editors show beside a key, because it reaches the schema.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde::{Deserialize, Serialize};

use crate::auth::AuthFile;
use crate::operate::{EgressFile, TlsFile};
use crate::request_policy::RequestPolicyFile;
use crate::requests::RequestsFile;
use crate::secrets::{HostSecretsFile, SecretFile, SecretUseFile};
use crate::tasks::TasksFile;
use crate::telemetry::TelemetryFile;
use crate::trust::TrustFile;

/// A number of bytes: a whole number with `B`, `KiB`, `MiB` or `GiB`, such as `64MiB`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(extend("pattern" = "^[0-9]+(B|KiB|MiB|GiB)$"))]
pub(crate) struct Bytes(pub(crate) String);

/// A length of time: a whole number with `ms`, `s`, `m` or `h`, such as `30s`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(extend("pattern" = "^[0-9]+(ms|s|m|h)$"))]
pub(crate) struct Time(pub(crate) String);

/// How often something may happen: a whole number from 1 to 1000000 and `/s` or `/m`, such as `100/s`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(extend("pattern" = "^[0-9]+/(s|m)$"))]
pub(crate) struct PerTime(pub(crate) String);

/// A system: the components that one host runs, how they are linked, and what each may do.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(title = "system.toml")]
pub(crate) struct File {
    /// The version of this file's form. It is 1.
    #[schemars(range(min = 1, max = 1))]
    #[expect(dead_code, reason = "held to the schema's range before this type is read")]
    pub(crate) schema: u32,
    /// Settings of the host as a whole.
    #[serde(default)]
    pub(crate) host: Host,
    /// What one call tree may use: a call from outside and every call that follows from it.
    #[serde(default)]
    pub(crate) limits: Limits,
    /// The components by name. Names are lower-case letters, digits and single hyphens.
    #[serde(default)]
    pub(crate) components: BTreeMap<String, Component>,
    /// For each intent, the component that serves it.
    #[serde(default)]
    pub(crate) intents: BTreeMap<String, String>,
    /// HTTP paths that components serve.
    #[serde(default)]
    pub(crate) mounts: Vec<Mount>,
    /// Where packages come from: a namespace, or `*` for all others, and its registry as `host[:port][/prefix]`.
    #[serde(default)]
    pub(crate) registries: BTreeMap<String, String>,
    /// Secrets by name. Names are lower-case letters, digits and single hyphens.
    #[serde(default)]
    pub(crate) secrets: BTreeMap<String, SecretFile>,
    /// Whom this system trusts to sign what comes from a registry. Default: nobody.
    #[serde(default)]
    pub(crate) trust: TrustFile,
}

/// Settings of the host as a whole.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Host {
    /// The folder that the host keeps its data in, relative to this file. Default: `.witan`.
    pub(crate) state: Option<String>,
    /// Folders under which a task that comes over HTTP may name `paths`, relative to this file. Default: none, so that
    /// such tasks must carry their documents.
    pub(crate) roots: Vec<String>,
    /// The URL of a PostgreSQL database that keeps the host's rows, such as `postgres://witan@db.example/witan`. Its password is
    /// better left to `PGPASSWORD` or `PGPASSFILE`. Default: `witan.db`, a SQLite database in the state folder.
    pub(crate) database: Option<String>,
    /// Where the policies come from that decide each request.
    pub(crate) policy: RequestPolicyFile,
    /// Who may ask, and how they show who they are. Default: whoever is on this machine, and nobody else.
    pub(crate) auth: Option<AuthFile>,
    /// How many components can be alive at once, and what each may take of the engine.
    pub(crate) pool: Pool,
    /// What compiling a component may take.
    pub(crate) compile: Compile,
    /// How secrets are kept and fetched.
    pub(crate) secrets: HostSecretsFile,
    /// TLS for the clients of the host. Default: none, so that only this machine can be listened on.
    pub(crate) tls: Option<TlsFile>,
    /// The way from the host to other machines.
    pub(crate) egress: EgressFile,
    /// Whether a crash may leave an image of the host's memory, with its secrets, on the disk. Default: false.
    pub(crate) core_dumps: bool,
    /// How much clients may ask of the host.
    pub(crate) requests: RequestsFile,
    /// Traces, and log lines in a file.
    pub(crate) telemetry: TelemetryFile,
    /// How many tasks run and wait, how long they are kept, and what becomes of those that ran when the host ended.
    pub(crate) tasks: TasksFile,
    /// How the audit log is kept, and what is taken out before it is written.
    pub(crate) ledger: crate::ledger::LedgerFile,
}

/// How many components can be alive at once, and what each may take of the engine. Address space for them is reserved
/// when the host starts; memory is used as they run.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Pool {
    /// Component instances alive at once, callers and callees together. Default: 2000.
    pub(crate) instances: Option<u32>,
    /// Linear memories of one component. Default: 8.
    pub(crate) memories_per_instance: Option<u32>,
    /// Tables of one component. Default: 16.
    pub(crate) tables_per_instance: Option<u32>,
    /// Memory of a finished instance that stays with the pool, so that the next starts faster. Default: `2MiB`.
    pub(crate) keep_resident: Option<Bytes>,
}

/// What compiling a component may take. Compilation cannot be stopped from within, so that it runs in a child process
/// that can be.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Compile {
    /// The largest component, in bytes of its file. Default: `64MiB`.
    pub(crate) size: Option<Bytes>,
    /// Functions in one component. Default: 200000.
    pub(crate) functions: Option<u32>,
    /// Memory of the child process that compiles. Default: `2GiB`.
    pub(crate) memory: Option<Bytes>,
    /// How long a compilation may take. Default: `2m`.
    pub(crate) time: Option<Time>,
}

/// What one call tree may use: a call from outside and every call that follows from it. In a component, what calls of
/// that component may use: narrower, never wider.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Limits {
    /// Bytes of linear memory, tables, buffered bodies and queued stream items, all components together. Default:
    /// `256MiB`.
    pub(crate) memory: Option<Bytes>,
    /// Processor time that the components' own code may take; waiting is free. Default: `10s`.
    pub(crate) cpu: Option<Time>,
    /// Time on the clock until the answer, waiting included. Default: `60s`.
    pub(crate) deadline: Option<Time>,
    /// How deep calls may nest. Default: 16.
    pub(crate) depth: Option<u16>,
    /// Handles that are open at once in one component: files, streams, requests and the like. Default: 10000.
    pub(crate) handles: Option<u32>,
    /// Bytes that cross from a component to the host in one host call. Default: `64MiB`.
    pub(crate) call_bytes: Option<Bytes>,
    /// Bytes written to disk. Default: `64MiB`.
    pub(crate) disk_bytes: Option<Bytes>,
    /// Bytes of log lines and standard output. Default: `1MiB`.
    pub(crate) log_bytes: Option<Bytes>,
    /// Sockets and outgoing connections opened. Default: 64.
    pub(crate) sockets: Option<u32>,
    /// Bytes sent to other machines. Default: `64MiB`.
    pub(crate) bytes_out: Option<Bytes>,
}

/// A component, and what it may do. Without grants it has the baseline: no files, no network, no environment.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Component {
    /// A `.wasm` file relative to this file, or a reference into a registry, `namespace:name@1.2.3`.
    pub(crate) source: String,
    /// The digest that the bytes must have, `blake3:` and 64 hexadecimal digits. Default: any.
    pub(crate) digest: Option<String>,
    /// Whether it runs although nobody has signed it. Said aloud at each start. Default: false.
    #[serde(default)]
    pub(crate) allow_unsigned: bool,
    /// Where it is compiled. Default: `child`.
    pub(crate) compile: Option<CompileIn>,
    /// What its calls may use, and how many run at once.
    #[serde(default)]
    pub(crate) limits: ComponentLimits,
    /// Whether an instance serves one call or more.
    #[serde(default)]
    pub(crate) instances: Instances,
    /// What it may do beyond the baseline.
    #[serde(default)]
    pub(crate) grants: Grants,
    /// How its imports are satisfied: the name of an interface, and the component that provides it.
    #[serde(default)]
    pub(crate) links: BTreeMap<String, Link>,
}

/// Where a component is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CompileIn {
    /// In a child process with memory and time limits.
    Child,
    /// In the host itself, without those limits. For components that you built.
    Host,
}

/// What calls of a component may use, and how many run at once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct ComponentLimits {
    /// Bytes of linear memory, tables, buffered bodies and queued stream items. Default: that of `[limits]`.
    pub(crate) memory: Option<Bytes>,
    /// Processor time; waiting is free. Default: that of `[limits]`.
    pub(crate) cpu: Option<Time>,
    /// Time on the clock until the answer. Default: that of `[limits]`.
    pub(crate) deadline: Option<Time>,
    /// Calls that lie above one another when it calls on, counted from the outermost. Default: that of `[limits]`.
    pub(crate) depth: Option<u16>,
    /// Handles that are open at once. Default: that of `[limits]`.
    pub(crate) handles: Option<u32>,
    /// Bytes that cross from a component to the host in one host call. Default: that of `[limits]`.
    pub(crate) call_bytes: Option<Bytes>,
    /// Bytes written to disk. Default: that of `[limits]`.
    pub(crate) disk_bytes: Option<Bytes>,
    /// Bytes of log lines and standard output. Default: that of `[limits]`.
    pub(crate) log_bytes: Option<Bytes>,
    /// Sockets and outgoing connections opened. Default: that of `[limits]`.
    pub(crate) sockets: Option<u32>,
    /// Bytes sent to other machines. Default: that of `[limits]`.
    pub(crate) bytes_out: Option<Bytes>,
    /// Calls that run at once. Default: 1000.
    pub(crate) concurrency: Option<u32>,
    /// Calls that wait while that many run; the next is refused. Default: 1000.
    pub(crate) queue: Option<u32>,
    /// Traps in a row after which calls are refused for a while. Default: 5.
    pub(crate) breaker_traps: Option<u32>,
    /// How long calls are refused at first; each further time twice as long. Default: `1s`.
    pub(crate) breaker_time: Option<Time>,
    /// How long calls are refused at most. Default: `30s`.
    pub(crate) breaker_longest: Option<Time>,
}

/// Whether an instance serves one call or more.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Instances {
    /// Whether an instance serves one call, one after another, or several at once. Default: `fresh`.
    pub(crate) reuse: Option<Reuse>,
    /// Idle instances that are kept for the next call. Only where instances are reused. Default: 8.
    pub(crate) keep: Option<u32>,
    /// Calls that one instance serves before it is replaced. Only where instances are reused. Default: 1000.
    pub(crate) calls: Option<u32>,
}

/// Whether an instance serves one call or more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Reuse {
    /// Every call gets an instance of its own, which ends with it.
    #[default]
    Fresh,
    /// An instance serves calls of the same tenant one after another. What one call leaves in memory, the next sees.
    /// Local-only calls get a fresh instance all the same.
    Serial,
    /// An instance serves calls of the same tenant and principal at once. They share its memory, its limits and its
    /// fate: a trap in one ends them all. Calls that are local-only, have a budget or come with files get a fresh
    /// instance all the same.
    Concurrent,
}

/// What a component may do beyond the baseline. What is not granted is refused.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Grants {
    /// Files and folders.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) filesystem: Vec<Filesystem>,
    /// HTTP requests to other machines.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) http: Vec<Http>,
    /// Connections to other machines.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) sockets: Vec<Socket>,
    /// Environment variables that it sees.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) environment: BTreeMap<String, String>,
    /// Settings that it reads through `wasi:config`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) config: BTreeMap<String, String>,
    /// The time of day. Default: false.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) wall_clock: bool,
    /// Lines in the host's log, with levels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) logging: Option<Logging>,
    /// A key-value store of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) keyvalue: Option<Keyvalue>,
    /// Tools that it may find and call, `component.tool`, or `component.*` for all of a component.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tools: Vec<String>,
    /// Secrets that it may use, each by a placeholder.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) secrets: Vec<SecretUseFile>,
}

/// A file or folder that a component may use: either `path`, or `task = true`.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Filesystem {
    /// The file or folder on this machine, relative to this file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<String>,
    /// The absolute path under which the component sees it. Required with `path`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) guest: Option<String>,
    /// Instead of a path: the files that the task at hand was given. Default: false.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) task: bool,
    /// What it may do there. Default: `read`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) access: Option<Access>,
    /// Bytes that one call tree may write there. Only with `read-write`. Default: `disk-bytes` of `[limits]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_bytes: Option<Bytes>,
}

/// What a component may do with a file or folder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Read and list.
    #[default]
    Read,
    /// Read, list, write, create and remove.
    ReadWrite,
}

/// HTTP requests that a component may send. Every part must match.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Http {
    /// The scheme. Default: `https`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) scheme: Option<Scheme>,
    /// A host name, `*.` and a domain for every name below it, or an IP address.
    pub(crate) host: String,
    /// The port. Default: 443 for https, 80 for http.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) port: Option<u16>,
    /// The methods, in capitals. Default: `GET` and `HEAD`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) methods: Option<Vec<String>>,
    /// The path, and what is below it: `/v1` means `/v1` and `/v1/…`. Default: `/`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) path_prefix: Option<String>,
    /// Whether the host may resolve to an address of this machine or a private network. An IP address that is named
    /// as the host is allowed in any case. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) private: bool,
}

/// The scheme of an HTTP request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Scheme {
    /// HTTP over TLS.
    #[default]
    Https,
    /// HTTP in the clear.
    Http,
}

/// Connections that a component may open. Listening is never granted.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Socket {
    /// The transport. Default: `tcp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) protocol: Option<Protocol>,
    /// A host name, `*.` and a domain for every name below it, or an IP address.
    pub(crate) host: String,
    /// The port.
    pub(crate) port: u16,
    /// Whether the host may resolve to an address of this machine or a private network. An IP address that is named
    /// as the host is allowed in any case. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) private: bool,
}

/// The transport of a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// A stream.
    #[default]
    Tcp,
    /// Datagrams.
    Udp,
}

/// Lines in the host's log, with levels.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Logging {
    /// Lines of this component; more are dropped and counted. Default: `100/s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rate: Option<PerTime>,
}

/// A key-value store of a component's own.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Keyvalue {
    /// Keys and values together, for one tenant. Default: `1MiB`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_bytes: Option<Bytes>,
}

/// How an import is satisfied.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Link {
    /// The component that provides the interface.
    pub(crate) component: String,
    /// How the two are joined. Default: `isolated`.
    pub(crate) mode: Option<LinkMode>,
}

/// How two components are joined.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LinkMode {
    /// The provider runs in a store of its own, with its own limits and grants.
    #[default]
    Isolated,
    /// Both become one component: the fastest calls, and shared limits and fate.
    Fused,
}

/// An HTTP path that a component serves, and every path below it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Mount {
    /// The path, such as `/hello`. Where several match, the longest serves.
    pub(crate) path: String,
    /// The component; it exports a `wasi:http` handler.
    pub(crate) component: String,
}

/// The JSON Schema of `system.toml`, as it is published for editors.
pub fn json_schema() -> serde_json::Value {
    // TOML has no null: an optional key is one that may be absent.
    let without_null = RecursiveTransform(drop_null);
    let settings = SchemaSettings::draft2020_12().for_deserialize().with_transform(without_null);
    let mut schema = settings.into_generator().into_root_schema_for::<File>().to_value();
    // Whether maps of JSON keep an order depends on what else is built.
    schema.sort_all_objects();
    schema
}

/// [`json_schema`] as the text of `docs/system.schema.json`.
pub fn json_schema_text() -> String {
    format!("{:#}\n", json_schema())
}

fn drop_null(schema: &mut schemars::Schema) {
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    let null = serde_json::json!("null");
    if let Some(serde_json::Value::Array(types)) = object.get_mut("type") {
        types.retain(|kind| *kind != null);
        if let [only] = types.as_slice() {
            let only = only.clone();
            object.insert("type".to_owned(), only);
        }
    }
    if let Some(serde_json::Value::Array(mut choices)) = object.remove("anyOf") {
        choices.retain(|choice| choice.get("type") != Some(&null));
        match choices.as_slice() {
            [serde_json::Value::Object(only)] => {
                for (key, value) in only {
                    object.entry(key.clone()).or_insert_with(|| value.clone());
                }
            }
            _ => {
                object.insert("anyOf".to_owned(), choices.into());
            }
        }
    }
    // Defaults stand in the descriptions; those that serde could give are empty tables.
    object.remove("default");
}
