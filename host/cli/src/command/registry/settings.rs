//! The settings of a registry: a file in TOML, and flags that hold before it.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::Args;
use serde::{Deserialize, Deserializer, de::Error as _};
use url::Url;
use witan_registry_server::{DatabaseSettings, Deletion, Limits, Settings};
use witan_system::{parse_bytes, parse_duration};

/// Where a registry is.
#[derive(Args, Clone)]
pub(super) struct At {
    /// A TOML file of settings.
    #[arg(long, value_name = "FILE", env = "WITAN_REGISTRY_SETTINGS")]
    settings: Option<PathBuf>,
    /// The folder of everything that the registry keeps.
    #[arg(long, value_name = "FOLDER", env = "WITAN_REGISTRY_DATA")]
    data: Option<PathBuf>,
    /// A PostgreSQL database instead of a file in the folder. The variable keeps its password out of lists of processes.
    #[arg(long, value_name = "URL", env = "WITAN_REGISTRY_DATABASE", hide_env_values = true)]
    database: Option<String>,
}

/// How a registry is served.
#[derive(Args)]
pub(super) struct Serve {
    #[command(flatten)]
    pub(super) at: At,
    /// Where to listen: an address of this machine, unless TLS ends before it.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// The address that clients use, such as `https://registry.example.org`.
    #[arg(long, value_name = "URL")]
    public_url: Option<Url>,
    /// The path before the namespaces of components.
    #[arg(long, value_name = "PATH")]
    namespace_prefix: Option<String>,
    /// Let everyone pull.
    #[arg(long)]
    anonymous_pull: bool,
    /// What may be deleted with the scope `delete`.
    #[arg(long, value_enum)]
    deletion: Option<DeletionChoice>,
    /// Listen on addresses that other machines reach: your word that TLS ends before them.
    #[arg(long)]
    behind_tls: bool,
    /// Read a client's address from `X-Forwarded-For`, which the proxy before must write itself.
    #[arg(long)]
    trust_forwarded_for: bool,
    /// The host that the log is named after, if not that of the public URL.
    #[arg(long, value_name = "HOST")]
    log_host: Option<String>,
    /// The key of a witness whose co-signatures the log takes: `name+hash+key`.
    #[arg(long = "witness", value_name = "KEY")]
    witnesses: Vec<String>,
}

#[derive(Clone, Copy, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
enum DeletionChoice {
    /// Nothing.
    Refused,
    /// What no released version needs.
    Unreleased,
    /// Anything.
    All,
}

/// A registry's file of settings.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct File {
    data: Option<PathBuf>,
    listen: Option<SocketAddr>,
    database: Option<String>,
    public_url: Option<Url>,
    namespace_prefix: Option<String>,
    anonymous_pull: bool,
    deletion: Option<DeletionChoice>,
    behind_tls: bool,
    trust_forwarded_for: bool,
    log_host: Option<String>,
    witnesses: Vec<String>,
    limits: FileLimits,
}

/// A size as people write it.
#[derive(Clone, Copy)]
struct Bytes(u64);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_bytes(&text).map(Self).ok_or_else(|| D::Error::custom(format!("`{text}` is no size; write `10GiB`")))
    }
}

/// A length of time as people write it.
#[derive(Clone, Copy)]
struct Time(Duration);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_duration(&text).map(Self).ok_or_else(|| D::Error::custom(format!("`{text}` is no time; write `24h`")))
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct FileLimits {
    manifest_bytes: Option<Bytes>,
    blob_bytes: Option<Bytes>,
    namespace_bytes: Option<Bytes>,
    namespace_uploads: Option<usize>,
    upload_idle: Option<Time>,
    unreferenced: Option<Time>,
    untagged: Option<Time>,
    collect_every: Option<Time>,
    metadata_lifetime: Option<Time>,
    requests_per_second: Option<u32>,
    request_burst: Option<u32>,
    wrong_secrets_per_minute: Option<u32>,
    access_token: Option<Time>,
    header_bytes: Option<u32>,
    header_time: Option<Time>,
    stall_time: Option<Time>,
    connections: Option<usize>,
    drain: Option<Time>,
}

fn put<T, U>(place: &mut T, value: Option<U>, read: impl FnOnce(U) -> T) {
    if let Some(value) = value {
        *place = read(value);
    }
}

impl FileLimits {
    fn over(self, mut limits: Limits) -> Limits {
        let (bytes, time) = (|bytes: Bytes| bytes.0, |time: Time| time.0);
        put(&mut limits.manifest_bytes, self.manifest_bytes, bytes);
        put(&mut limits.blob_bytes, self.blob_bytes, bytes);
        put(&mut limits.namespace_bytes, self.namespace_bytes, bytes);
        put(&mut limits.namespace_uploads, self.namespace_uploads, |count| count);
        put(&mut limits.upload_idle, self.upload_idle, time);
        put(&mut limits.unreferenced, self.unreferenced, time);
        put(&mut limits.untagged, self.untagged, |age| Some(age.0));
        put(&mut limits.collect_every, self.collect_every, time);
        put(&mut limits.metadata_lifetime, self.metadata_lifetime, time);
        put(&mut limits.requests_per_second, self.requests_per_second, |count| count);
        put(&mut limits.request_burst, self.request_burst, |count| count);
        put(&mut limits.wrong_secrets_per_minute, self.wrong_secrets_per_minute, |count| count);
        put(&mut limits.access_token, self.access_token, time);
        put(&mut limits.header_bytes, self.header_bytes, |count| count);
        put(&mut limits.header_time, self.header_time, time);
        put(&mut limits.stall_time, self.stall_time, time);
        put(&mut limits.connections, self.connections, |count| count);
        put(&mut limits.drain, self.drain, time);
        limits
    }
}

/// Where it listens unless something else is said.
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 5000);

impl At {
    /// The file of settings, if one is named.
    pub(super) fn file(&self) -> anyhow::Result<File> {
        let Some(path) = &self.settings else { return Ok(File::default()) };
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
        // Without the line itself, which may hold the database's password.
        toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            anyhow::anyhow!("`{}` cannot be read: line {line}: {}", path.display(), error.message())
        })
    }

    /// The settings of a registry that is tended to and not served.
    pub(super) fn settings(&self) -> anyhow::Result<Settings> {
        let file = self.file()?;
        let address = file.listen.unwrap_or(LISTEN);
        let mut settings = self.common(file, None, address)?;
        // What a log is called is for whoever serves it to say; here it is called what it was.
        if settings.log_host.is_none() {
            settings.log_host = logged_as(&settings.data)?;
        }
        Ok(settings)
    }

    /// The folder of the registry.
    pub(super) fn data(&self) -> anyhow::Result<PathBuf> {
        let data = self.data.clone().or(self.file()?.data);
        data.context("name the registry's folder with `--data FOLDER`, or in a file of settings")
    }

    fn common(&self, file: File, public_url: Option<Url>, address: SocketAddr) -> anyhow::Result<Settings> {
        let Some(data) = self.data.clone().or(file.data) else {
            bail!("name the registry's folder with `--data FOLDER`, or in a file of settings");
        };
        let public = match public_url.or(file.public_url) {
            Some(url) => url,
            None => Url::parse(&format!("http://{address}")).context("the address is no URL")?,
        };
        let mut settings = Settings::new(data, public);
        if let Some(url) = self.database.clone().or(file.database) {
            settings.database = DatabaseSettings::Postgres(url);
        }
        put(&mut settings.namespace_prefix, file.namespace_prefix, |prefix| prefix);
        settings.anonymous_pull = file.anonymous_pull;
        put(&mut settings.deletion, file.deletion, deletion);
        settings.behind_tls = file.behind_tls;
        settings.trust_forwarded_for = file.trust_forwarded_for;
        settings.log_host = file.log_host;
        settings.witnesses = file.witnesses;
        settings.limits = file.limits.over(settings.limits);
        Ok(settings)
    }
}

/// The host that the log in a registry's folder is named after, where there is one.
fn logged_as(data: &Path) -> anyhow::Result<Option<String>> {
    let path = data.join("log").join("checkpoint");
    match std::fs::read_to_string(&path) {
        Ok(note) => Ok(note.lines().next().and_then(|origin| Some(origin.rsplit_once(" - ")?.0.to_owned()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read `{}`", path.display())),
    }
}

fn deletion(choice: DeletionChoice) -> Deletion {
    match choice {
        DeletionChoice::Refused => Deletion::Refused,
        DeletionChoice::Unreleased => Deletion::Unreleased,
        DeletionChoice::All => Deletion::All,
    }
}

impl Serve {
    /// Where to listen.
    pub(super) fn listen(&self, file: &File) -> SocketAddr {
        self.listen.or(file.listen).unwrap_or(LISTEN)
    }

    /// The settings, for a registry that listens on `address`.
    pub(super) fn settings(&self, file: File, address: SocketAddr) -> anyhow::Result<Settings> {
        let mut settings = self.at.common(file, self.public_url.clone(), address)?;
        put(&mut settings.namespace_prefix, self.namespace_prefix.clone(), |prefix| prefix);
        settings.anonymous_pull |= self.anonymous_pull;
        put(&mut settings.deletion, self.deletion, deletion);
        settings.behind_tls |= self.behind_tls;
        settings.trust_forwarded_for |= self.trust_forwarded_for;
        put(&mut settings.log_host, self.log_host.clone(), Some);
        settings.witnesses.extend(self.witnesses.iter().cloned());
        // A path before namespaces ends where they begin.
        if !settings.namespace_prefix.is_empty() && !settings.namespace_prefix.ends_with('/') {
            settings.namespace_prefix.push('/');
        }
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Flags {
        #[command(flatten)]
        serve: Serve,
    }

    fn settings(file: &str, flags: &[&str]) -> anyhow::Result<Settings> {
        let flags = Flags::try_parse_from([&["x"], flags].concat())?;
        flags.serve.settings(toml::from_str(file)?, "127.0.0.1:7".parse()?)
    }

    #[test]
    fn a_flag_holds_before_the_file_and_the_file_before_the_default() {
        let file = r#"
            data = "from-file"
            public-url = "https://registry.example"
            namespace-prefix = "parts"
            [limits]
            blob-bytes = "2MiB"
            untagged = "720h""#;
        let read = settings(file, &["--data", "from-flag", "--anonymous-pull", "--deletion", "unreleased"]).unwrap();
        assert_eq!(read.data, PathBuf::from("from-flag"));
        assert_eq!(read.public_url.as_str(), "https://registry.example/");
        assert_eq!(read.namespace_prefix, "parts/");
        assert!(read.anonymous_pull && read.deletion == Deletion::Unreleased);
        assert_eq!(read.limits.blob_bytes, 2 << 20);
        assert_eq!(read.limits.untagged, Some(Duration::from_secs(720 * 3600)));
        let plain = settings("", &["--data", "x"]).unwrap();
        assert_eq!(plain.public_url.as_str(), "http://127.0.0.1:7/");
        assert_eq!(plain.limits, Limits::default());
        assert!(!plain.anonymous_pull && !plain.behind_tls && plain.deletion == Deletion::Refused);
    }

    #[test]
    fn a_setting_that_is_none_is_refused() {
        for file in
            ["dta = \"x\"", "[limits]\nblob-bytes = 5", "[limits]\nblob-bytes = \"many\"", "deletion = \"some\""]
        {
            assert!(settings(file, &["--data", "x"]).is_err(), "{file}");
        }
        assert!(settings("", &[]).unwrap_err().to_string().contains("--data"));
    }
}
