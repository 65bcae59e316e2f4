//! Flags that run one component that no system names: what it is granted, within which limits, and where its data
//! lies.
//!
//! The flags become a system of one component, checked by the same code as `system.toml` and loaded by the same
//! loader. Without flags the component has the baseline and nothing more.

mod grant;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use witan_capability::{CallContext, Privacy};
use witan_system::{
    ComponentName, FilesystemGrant, Grants, HttpGrant, KeyvalueGrant, LoggingGrant, SocketGrant, Source, System,
};

/// What one run grants and allows.
#[derive(Args, Clone, Default)]
pub(crate) struct Flags {
    /// Grant a file or folder: HOST is its path here, GUEST the absolute path that the component sees. For reading,
    /// unless `:rw` follows.
    #[arg(long, value_name = "HOST[::GUEST][:ro|:rw]", value_parser = grant::directory, help_heading = GRANTS)]
    dir: Vec<FilesystemGrant>,
    /// Grant requests to what is below URL, by GET and HEAD unless methods are named.
    #[arg(long, value_name = "[METHOD,…=]URL", value_parser = grant::http, help_heading = GRANTS)]
    http: Vec<HttpGrant>,
    /// Grant connections to a host and port, by TCP unless `udp:` stands before.
    #[arg(long, value_name = "[udp:]HOST:PORT", value_parser = grant::socket, help_heading = GRANTS)]
    socket: Vec<SocketGrant>,
    /// Let the names in `--http` and `--socket` lead to addresses of this machine or of a private network.
    #[arg(long, help_heading = GRANTS)]
    private: bool,
    /// Grant an environment variable; without VALUE, the one of this process.
    #[arg(long, value_name = "NAME[=VALUE]", value_parser = grant::environment, help_heading = GRANTS)]
    env: Vec<(String, String)>,
    /// Grant a setting that it reads through `wasi:config`.
    #[arg(long, value_name = "KEY=VALUE", value_parser = grant::pair, help_heading = GRANTS)]
    config: Vec<(String, String)>,
    /// Let it know the time of day.
    #[arg(long, help_heading = GRANTS)]
    wall_clock: bool,
    /// Let it write to the log through `wasi:logging`.
    #[arg(long, help_heading = GRANTS)]
    logging: bool,
    /// Grant a key-value store of its own, of 1MiB unless SIZE is named. It lasts from run to run.
    #[arg(long, value_name = "SIZE", value_parser = grant::bytes, num_args = 0..=1, require_equals = true,
        default_missing_value = "1MiB", help_heading = GRANTS)]
    keyvalue: Option<u64>,
    /// Refuse everything that would leave this machine, whatever is granted.
    #[arg(long, help_heading = LIMITS)]
    local_only: bool,
    /// Memory of a call, such as `256MiB`.
    #[arg(long, value_name = "SIZE", value_parser = grant::size, help_heading = LIMITS)]
    memory: Option<String>,
    /// Processor time of a call, such as `10s`.
    #[arg(long, value_name = "TIME", value_parser = grant::time, help_heading = LIMITS)]
    cpu: Option<String>,
    /// Time on the clock until a call must have ended, such as `60s`.
    #[arg(long, value_name = "TIME", value_parser = grant::time, help_heading = LIMITS)]
    deadline: Option<String>,
    /// Run it although nobody signed it. `witan build` signs what it builds.
    #[arg(long, help_heading = LIMITS)]
    allow_unsigned: bool,
    /// Where compiled code, decisions and stored keys are kept; else in a folder for this file, below
    /// `$XDG_STATE_HOME/witan`.
    #[arg(long, value_name = "FOLDER", env = "WITAN_STATE", help_heading = LIMITS)]
    state: Option<PathBuf>,
}

const GRANTS: &str = "Grants (without any: the baseline and nothing more)";
const LIMITS: &str = "Limits";

impl Flags {
    /// Whether nothing is granted or limited.
    pub(crate) fn is_empty(&self) -> bool {
        let limits = [&self.memory, &self.cpu, &self.deadline];
        self.grants().is_empty() && !self.private && limits.iter().all(|limit| limit.is_none())
    }

    /// The system of the one component in `file`.
    pub(crate) fn system(&self, file: &Path) -> anyhow::Result<(ComponentName, System)> {
        let about = std::fs::metadata(file).with_context(|| format!("cannot read `{}`", file.display()))?;
        if !about.is_file() {
            bail!("`{}` is no file; name a component's `.wasm` file", file.display());
        }
        let name = name(file)?;
        let mut system = self.parse(&name)?;
        system.host.state = match &self.state {
            Some(folder) => std::path::absolute(folder)?,
            None => state_of(&name, file)?,
        };
        if let Some(component) = system.components.get_mut(&name) {
            component.source = Source::File(std::path::absolute(file)?);
            component.allow_unsigned = self.allow_unsigned;
        }
        Ok((name, system))
    }

    /// The context that a call from the command line runs in.
    pub(crate) fn context(&self) -> CallContext {
        let privacy = if self.local_only { Privacy::LocalOnly } else { Privacy::Standard };
        CallContext::local().narrow_privacy(privacy)
    }

    /// Reads the flags as `system.toml` would be read, so that whatever is refused there is refused here.
    fn parse(&self, name: &ComponentName) -> anyhow::Result<System> {
        let limits = [("memory", &self.memory), ("cpu", &self.cpu), ("deadline", &self.deadline)];
        let limits = limits.iter().filter_map(|(key, value)| Some(format!("{key} = \"{}\"\n", value.as_ref()?)));
        let text = format!(
            "schema = 1\n[limits]\n{}\n[components.{name}]\nsource = \"component.wasm\"\n{}",
            limits.collect::<String>(),
            witan_system::grants_toml(name.as_str(), &self.grants(), Path::new(""))
        );
        match System::parse(&text, Path::new("flags")) {
            Ok(system) => Ok(System { origin: witan_system::Origin::default(), ..system }),
            Err(error) => {
                let problems = error.problems.iter().map(|problem| format!("{}; {}", problem.message, problem.help));
                bail!("the flags do not fit together: {}", problems.collect::<Vec<_>>().join("; "))
            }
        }
    }

    fn grants(&self) -> Grants {
        Grants {
            filesystem: self.dir.clone(),
            http: self
                .http
                .iter()
                .map(|grant| HttpGrant { private: self.may_be_private(&grant.host), ..grant.clone() })
                .collect(),
            sockets: self
                .socket
                .iter()
                .map(|grant| SocketGrant { private: self.may_be_private(&grant.host), ..grant.clone() })
                .collect(),
            environment: self.env.iter().cloned().collect(),
            config: self.config.iter().cloned().collect(),
            wall_clock: self.wall_clock,
            logging: self.logging.then(LoggingGrant::default),
            keyvalue: self.keyvalue.map(|max_bytes| KeyvalueGrant { max_bytes }),
            tools: Vec::new(),
            secrets: Vec::new(),
        }
    }

    /// Whoever writes `localhost` names this machine; any other name must not lead here by itself.
    fn may_be_private(&self, host: &witan_system::HostPattern) -> bool {
        self.private || host.to_string() == "localhost"
    }
}

/// The flag that grants `capability`, for the error of a refused load.
pub(crate) fn granting(capability: &str) -> Option<&'static str> {
    Some(match capability {
        "filesystem" => "--dir FOLDER",
        "http" => "--http URL",
        "sockets" => "--socket HOST:PORT",
        "environment" => "--env NAME",
        "config" => "--config KEY=VALUE",
        "wall-clock" => "--wall-clock",
        "logging" => "--logging",
        "keyvalue" => "--keyvalue",
        _ => return None,
    })
}

/// What a component from `file` is called: the name of the file, in the form of names.
fn name(file: &Path) -> anyhow::Result<ComponentName> {
    const LONGEST: usize = 64;
    let stem = file.file_stem().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let words = stem.split(|char: char| !char.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let mut name = words.collect::<Vec<_>>().join("-");
    if !name.starts_with(|first: char| first.is_ascii_lowercase()) {
        name = format!("component-{name}");
    }
    name.truncate(LONGEST);
    Ok(name.trim_end_matches('-').parse()?)
}

/// Where the data of the component in `file` is kept. Another file of the same name is another component, and must not
/// find the keys that this one stored.
fn state_of(name: &ComponentName, file: &Path) -> anyhow::Result<PathBuf> {
    let path = file.canonicalize().with_context(|| format!("cannot find `{}`", file.display()))?;
    let digest = blake3::hash(path.as_os_str().as_encoded_bytes()).to_hex();
    let short = digest.get(..16).unwrap_or(&digest);
    Ok(state_home().join("witan").join("run").join(format!("{name}-{short}")))
}

/// Where programs of this user keep their data, by the XDG base directory specification.
fn state_home() -> PathBuf {
    let folder = |variable| std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    folder("XDG_STATE_HOME")
        .or_else(|| Some(folder("HOME")?.join(".local").join("state")))
        .unwrap_or_else(std::env::temp_dir)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: Flags,
    }

    fn flags(arguments: &[&str]) -> Result<Flags, String> {
        let line = std::iter::once("x").chain(arguments.iter().copied());
        Line::try_parse_from(line).map(|line| line.flags).map_err(|error| error.to_string())
    }

    fn grants(arguments: &[&str]) -> Result<Grants, String> {
        let name: ComponentName = "x".parse().unwrap();
        let system = flags(arguments)?.parse(&name).map_err(|error| error.to_string())?;
        Ok(system.components[&name].grants.clone())
    }

    #[test]
    fn no_flag_grants_nothing() {
        assert!(grants(&[]).unwrap().is_empty());
    }

    #[test]
    fn each_flag_grants_what_it_names() {
        let grants = grants(&[
            "--dir",
            "/data::/in",
            "--dir",
            "/out::/out:rw",
            "--http",
            "POST,GET=https://api.example.com:8443/v1",
            "--socket",
            "udp:192.0.2.1:53",
            "--env",
            "A=b=c",
            "--config",
            "k=v",
            "--wall-clock",
            "--logging",
            "--keyvalue=2MiB",
        ])
        .unwrap();
        let text = witan_system::grants_toml("x", &grants, Path::new(""));
        for part in [
            "access = \"read\", guest = \"/in\", path = \"/data\"",
            "access = \"read-write\", guest = \"/out\"",
            "methods = [\"POST\", \"GET\"], path-prefix = \"/v1\", port = 8443",
            "protocol = \"udp\"",
            "A = \"b=c\"",
            "wall-clock = true",
            "max-bytes = \"2MiB\"",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn a_name_leads_to_this_machine_only_where_that_is_said() {
        assert!(grants(&["--http", "http://localhost:1"]).unwrap().http[0].private);
        assert!(!grants(&["--http", "http://a.example"]).unwrap().http[0].private);
        assert!(grants(&["--http", "http://a.example", "--private"]).unwrap().http[0].private);
    }

    #[test]
    fn what_can_mean_nothing_is_refused() {
        for bad in [
            &["--dir", "../a"][..],
            &["--dir", "a::b"],
            &["--dir", "a::/b/../c"],
            &["--http", "ftp://a"],
            &["--http", "a.example"],
            &["--http", "https://u:p@a.example"],
            &["--http", "https://a.example/?q"],
            &["--http", "get=https://a.example"],
            &["--socket", "a.example"],
            &["--socket", "a.example:0"],
            &["--config", "k"],
            &["--keyvalue=2"],
            &["--memory", "2"],
            &["--deadline", "soon"],
            &["--dir", "a::/x", "--dir", "b::/x/y"],
        ] {
            assert!(grants(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn every_file_has_a_name() {
        for (file, expected) in
            [("a/Hello World.wasm", "hello-world"), ("7z.wasm", "component-7z"), ("ä.wasm", "component")]
        {
            assert_eq!(name(Path::new(file)).unwrap().as_str(), expected);
        }
        assert!(name(Path::new(&"a".repeat(200))).is_ok());
    }
}
