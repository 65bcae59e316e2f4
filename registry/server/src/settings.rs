//! How a registry is set up. The defaults are the strict ones.

use std::{path::PathBuf, time::Duration};

use url::Url;

/// How a registry is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The folder of everything that is kept. One process at a time uses it.
    pub data: PathBuf,
    /// Where what is known about the bytes is kept.
    pub database: DatabaseSettings,
    /// The address by which clients reach the registry, such as `https://registry.example.org`. Tokens are asked for
    /// there, and the log is named after its host.
    pub public_url: Url,
    /// What stands before the namespace in the repositories of components, such as `components/`.
    pub namespace_prefix: String,
    /// Whether everyone may pull.
    pub anonymous_pull: bool,
    /// What may be deleted.
    pub deletion: Deletion,
    /// Whether other machines may reach the listener. TLS must end before it, since tokens travel through it.
    pub behind_tls: bool,
    /// Whether the address of a client is read from `X-Forwarded-For`, as the proxy before us writes it.
    pub trust_forwarded_for: bool,
    /// The host that the log is named after, if not that of the public URL. A log keeps its name for good.
    pub log_host: Option<String>,
    /// Witnesses whose co-signatures the log takes, each as a C2SP verifier key: `name+hash+key`.
    pub witnesses: Vec<String>,
    /// Bounds on what clients may send and hold.
    pub limits: Limits,
}

/// Where what is known about the bytes is kept.
#[derive(Clone, PartialEq, Eq)]
pub enum DatabaseSettings {
    /// A file in the folder of the data.
    Sqlite,
    /// A PostgreSQL database, by its URL.
    Postgres(String),
}

/// A URL of PostgreSQL holds a password.
impl std::fmt::Debug for DatabaseSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Sqlite => "Sqlite",
            Self::Postgres(_) => "Postgres(…)",
        })
    }
}

/// What a client with the scope `delete` may delete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Deletion {
    /// Nothing.
    #[default]
    Refused,
    /// What no released version needs.
    Unreleased,
    /// Anything. The name of a released version stays taken.
    All,
}

/// Bounds on what clients may send and hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a manifest.
    pub manifest_bytes: u64,
    /// Bytes of a blob.
    pub blob_bytes: u64,
    /// Bytes that a namespace holds, uploads under way included, unless it has a quota of its own.
    pub namespace_bytes: u64,
    /// Uploads of a namespace at once.
    pub namespace_uploads: usize,
    /// How long an upload may be idle before it is collected.
    pub upload_idle: Duration,
    /// How long a blob that no manifest names is kept.
    pub unreferenced: Duration,
    /// How long a manifest that no tag needs is kept; for good where there is none, since a lock file may name it.
    pub untagged: Option<Duration>,
    /// How often what nothing needs is collected.
    pub collect_every: Duration,
    /// How long the TUF metadata hold that the registry signs itself; they are signed anew when half of it is over.
    pub metadata_lifetime: Duration,
    /// Requests of one client in a second, on average.
    pub requests_per_second: u32,
    /// Requests of one client at once above the average.
    pub request_burst: u32,
    /// Wrong secrets of one address in a minute.
    pub wrong_secrets_per_minute: u32,
    /// How long a token that was fetched with a secret is good.
    pub access_token: Duration,
    /// Bytes of a request's line and headers together.
    pub header_bytes: u32,
    /// How long a client may take to send a request's line and headers; also how long a connection may be idle.
    pub header_time: Duration,
    /// How long a client may send nothing of a body, and how long it may leave a part of the answer untaken.
    pub stall_time: Duration,
    /// Connections that are open at once; the next waits to be accepted.
    pub connections: usize,
    /// How long requests that are under way may go on when the registry stops.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            manifest_bytes: 4 << 20,
            blob_bytes: 1 << 30,
            namespace_bytes: 10 << 30,
            namespace_uploads: 64,
            upload_idle: Duration::from_secs(24 * 3600),
            unreferenced: Duration::from_secs(24 * 3600),
            untagged: None,
            collect_every: Duration::from_secs(3600),
            metadata_lifetime: Duration::from_secs(72 * 3600),
            requests_per_second: 200,
            request_burst: 2_000,
            wrong_secrets_per_minute: 20,
            access_token: Duration::from_secs(300),
            header_bytes: 32 << 10,
            header_time: Duration::from_secs(15),
            stall_time: Duration::from_secs(60),
            connections: 4_000,
            drain: Duration::from_secs(30),
        }
    }
}

impl Settings {
    /// A registry that keeps everything in `data`, and that clients reach at `public_url`.
    pub fn new(data: PathBuf, public_url: Url) -> Self {
        Self {
            data,
            database: DatabaseSettings::Sqlite,
            public_url,
            namespace_prefix: "components/".to_owned(),
            anonymous_pull: false,
            deletion: Deletion::default(),
            behind_tls: false,
            trust_forwarded_for: false,
            log_host: None,
            witnesses: Vec::new(),
            limits: Limits::default(),
        }
    }

    /// The address without a slash at its end.
    pub(crate) fn base(&self) -> &str {
        self.public_url.as_str().trim_end_matches('/')
    }

    /// The host and port of the address, as clients write them before a repository.
    pub(crate) fn authority(&self) -> String {
        let host = self.public_url.host_str().unwrap_or("localhost");
        self.public_url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }
}
