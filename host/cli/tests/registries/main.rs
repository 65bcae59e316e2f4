//! Keys, signing and registries, by the binary as users run it: against a registry that it serves itself.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop at what it did not expect")]

mod audit;
mod interop;
mod keyless;
mod keys;
mod killed;
mod publish;
mod running;
mod sign;
mod supply;
mod trust;
mod tuf;
mod world;

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use serde_json::Value;

const WITAN: &str = env!("CARGO_BIN_EXE_witan");

/// A user's home: settings, keys and fetched components are nobody else's.
pub(crate) struct Home {
    folder: tempfile::TempDir,
}

/// What a command said and how it ended.
pub(crate) struct Said {
    pub(crate) success: bool,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { success: output.status.success(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// Of a command that must have succeeded.
    #[track_caller]
    pub(crate) fn well(self) -> Self {
        assert!(self.success, "{}{}", self.out, self.err);
        self
    }

    /// Of a command that must have failed, and said so in JSON.
    #[track_caller]
    pub(crate) fn badly_in_json(self, part: &str) {
        assert!(!self.success, "{}", self.out);
        assert!(self.json()["error"].to_string().contains(part), "no `{part}` in {}", self.out);
    }

    /// Of a command that must have failed, and said each of `parts`.
    #[track_caller]
    pub(crate) fn badly(self, parts: &[&str]) -> Self {
        assert!(!self.success, "{}", self.out);
        for part in parts {
            assert!(self.err.contains(part), "no `{part}` in {}", self.err);
        }
        self
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error} in {}", self.out))
    }
}

impl Home {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts a file there.
    pub(crate) fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    /// Puts a component there.
    pub(crate) fn component(&self, name: &str, wat: &str) -> PathBuf {
        self.file(name, wat::parse_str(wat).unwrap())
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.command_of(WITAN, arguments)
    }

    fn command_of(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.folder.path()).env("HOME", self.folder.path());
        for name in [
            "XDG_CONFIG_HOME",
            "XDG_DATA_HOME",
            "XDG_STATE_HOME",
            "WITAN_STORE",
            "WITAN_SYSTEM",
            "WITAN_DEVELOPMENT",
            "WITAN_KEYS",
            "WITAN_PASSPHRASE",
            "WITAN_REGISTRY",
            "SIGSTORE_ID_TOKEN",
            "ACTIONS_ID_TOKEN_REQUEST_URL",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
        ] {
            command.env_remove(name);
        }
        command.env_remove("WITAN_REGISTRY_TOKEN").env_remove("SOURCE_DATE_EPOCH").stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Said {
        Said::of(&self.command(arguments).output().unwrap())
    }

    /// The entries of the ledger of this home's system, the newest last, and all of them in one text.
    #[track_caller]
    pub(crate) fn ledger(&self) -> (Vec<Value>, String) {
        let shown = self.run(&["audit", "show", "--last", "100000", "--json"]).well();
        let entries = shown.json().as_array().unwrap().iter().map(|shown| shown["entry"].clone()).collect();
        (entries, shown.out)
    }

    pub(crate) fn run_with_input(&self, arguments: &[&str], input: &str) -> Said {
        Self::feed(self.command(arguments), input)
    }

    /// Runs a command on a terminal, where somebody types `input`. All that it writes is on standard output.
    pub(crate) fn run_on_a_terminal(&self, arguments: &[&str], input: &str) -> Said {
        let line = format!("{WITAN} {}", arguments.join(" "));
        Self::feed(self.command_of("script", &["--quiet", "--return", "--command", &line, "/dev/null"]), input)
    }

    fn feed(mut command: Command, input: &str) -> Said {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        Said::of(&child.wait_with_output().unwrap())
    }

    /// A key without a passphrase.
    pub(crate) fn key(&self, name: &str) {
        self.run(&["keys", "generate", name, "--no-passphrase"]).well();
    }
}

/// A component that needs nothing beyond the baseline.
pub(crate) const SUMS: &str = r#"(component
    (core module $m (func (export "f") (param i32 i32) (result i32) local.get 0 local.get 1 i32.add))
    (core instance $i (instantiate $m))
    (func $f (param "a" u32) (param "b" u32) (result u32) (canon lift (core func $i "f")))
    (instance $e (export "add" (func $f)))
    (export "acme:sums/add@1.0.0" (instance $e)))"#;

/// A lock file of one dependency.
pub(crate) const LOCK: &str = "version = 4\n\n[[package]]\nname = \"serde\"\nversion = \"1.0.0\"\n\
    source = \"registry+https://github.com/rust-lang/crates.io-index\"\n";

/// A registry that the binary serves, until it is asked to end.
pub(crate) struct Served {
    child: Option<Child>,
    pub(crate) host: String,
    data: PathBuf,
}

impl Served {
    pub(crate) fn start(home: &Home) -> Self {
        Self::start_with(home, &["--listen", "127.0.0.1:0"])
    }

    pub(crate) fn start_with(home: &Home, more: &[&str]) -> Self {
        Self::start_in(home, "registry", more)
    }

    /// Serves what is in a folder of `home`.
    pub(crate) fn start_in(home: &Home, data: &str, more: &[&str]) -> Self {
        let data = home.path(data);
        let folder = data.to_str().unwrap();
        let arguments = [&["registry", "serve", "--data", folder, "--json"], more].concat();
        let mut child = home.command(&arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut announced = String::new();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        while !announced.contains('}') {
            assert!(lines.read_line(&mut announced).unwrap() > 0, "the registry ended before it served");
        }
        let announced: Value = serde_json::from_str(&announced).unwrap();
        let host = announced["url"].as_str().unwrap().trim_start_matches("http://").to_owned();
        Self { child: Some(child), host, data }
    }

    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// A token's id and secret, made while the registry serves.
    pub(crate) fn token(&self, home: &Home, scope: &str) -> (String, String) {
        let data = self.data.to_str().unwrap();
        let made = home.run(&["registry", "token", "create", "test", "--scope", scope, "--data", data, "--json"]);
        let made = made.well().json();
        (made["id"].as_str().unwrap().to_owned(), made["secret"].as_str().unwrap().to_owned())
    }

    /// Logs `home` in with a token of `scope`.
    pub(crate) fn login(&self, home: &Home, scope: &str) -> String {
        let (id, secret) = self.token(home, scope);
        home.run_with_input(&["registry", "login", &self.host], &format!("{secret}\n")).well();
        id
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn stop(mut self) -> bool {
        let mut child = self.child.take().unwrap();
        let pid = child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        child.wait().unwrap().success()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _gone = child.kill();
            let _status = child.wait();
        }
    }
}
