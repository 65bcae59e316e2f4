//! An author, a registry, and an operator's system of one component that comes from it.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{Home, LOCK, SUMS, Said, Served};

/// Long enough for a host on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is asked whether it has come so far.
const POLL: Duration = Duration::from_millis(50);

/// An author who publishes to a registry, and an operator who trusts the author and nobody else.
pub(crate) struct World {
    pub(crate) served: Served,
    pub(crate) home: Home,
}

impl World {
    pub(crate) fn new() -> Self {
        let home = Home::new();
        let served = Served::start(&home);
        home.key("release");
        home.file("Cargo.lock", LOCK);
        served.login(&home, "acme:pull,push");
        let world = Self { served, home };
        world.publish("1.0.0", "i32.add", &[]);
        world.home.run(&["registry", "trust", &world.served.host, "--out", "trusted_root.json"]).well();
        world.write_system(&world.system_of("acme:sums@1.0.0"));
        world
    }

    /// Publishes a version that does `operation`. It is made of what `Cargo.lock` names, unless `more` says otherwise.
    pub(crate) fn publish(&self, version: &str, operation: &str, more: &[&str]) {
        self.home.component("sums.wasm", &SUMS.replace("i32.add", operation));
        let package = format!("acme:sums@{version}");
        let mut arguments = vec!["publish", "sums.wasm", "--package", &package, "--registry", &self.served.host];
        arguments.extend(["--key", "release"]);
        arguments.extend(if more.contains(&"--sbom") { &[][..] } else { &["--lock", "Cargo.lock"] });
        self.home.run(&[&arguments, more].concat()).well();
    }

    /// The key that signs.
    pub(crate) fn key(&self) -> String {
        self.home.run(&["keys", "export", "release"]).well().out
    }

    /// The operator's system, in which `sums` comes from `package`.
    pub(crate) fn system_of(&self, package: &str) -> String {
        let (host, key) = (&self.served.host, self.key());
        format!(
            "schema = 1\n[registries]\nacme = \"{host}\"\n[trust]\nroot = \"trusted_root.json\"\nrefresh = \"200ms\"\n\
             [[trust.rules]]\npackages = \"acme:*\"\nkeys = [{{ key = \"\"\"{key}\"\"\" }}]\n\
             [components.sums]\nsource = \"{package}\"   # what adds\n"
        )
    }

    pub(crate) fn system(&self) -> String {
        fs::read_to_string(self.home.path("system.toml")).unwrap()
    }

    /// Puts a system in the place of the operator's, at once: a host may be reading it.
    pub(crate) fn write_system(&self, text: &str) {
        let new = self.home.file("system.toml.new", text);
        fs::rename(new, self.home.path("system.toml")).unwrap();
    }

    /// What `sums` makes of 5 and 3.
    pub(crate) fn call(&self, more: &[&str]) -> Said {
        self.home.run(&[&["call", "sums", "acme:sums/add@1.0.0#add", "5", "3"], more].concat())
    }

    /// Whether the load of a component was refused for a reason with `part` in it.
    pub(crate) fn refused_once(&self, part: &str) -> bool {
        let refused = |entry: &Value| {
            entry["decision"] == "deny" && entry["reason"].as_str().is_some_and(|reason| reason.contains(part))
        };
        self.home.ledger().0.iter().any(refused)
    }

    /// The newest decision about `sums`, which must be a refusal to load `resource` for a reason with `part` in it.
    #[track_caller]
    pub(crate) fn refused(&self, resource: &str, part: &str) {
        let began = Instant::now();
        loop {
            let entries = self.home.ledger().0;
            let newest = entries.into_iter().rfind(|entry| entry["component"] == "sums").unwrap_or_default();
            let text = |key: &str| newest[key].as_str().unwrap_or_default();
            let load = newest["decision"] == "deny" && text("action") == "component-load";
            if load && text("resource").starts_with(resource) && text("reason").contains(part) {
                return;
            }
            // A host that runs writes what has gathered every so often.
            assert!(began.elapsed() < PATIENCE, "no `{part}` in {newest}");
            std::thread::sleep(POLL);
        }
    }

    pub(crate) fn lock(&self) -> toml::Table {
        fs::read_to_string(self.home.path("witan.lock")).unwrap().parse().unwrap()
    }
}

/// A host that serves the system of a home.
pub(crate) struct Up {
    child: Child,
    url: String,
    log: PathBuf,
}

impl Up {
    pub(crate) fn start(home: &Home) -> Self {
        let mut command = home.command(&["up", "--listen", "127.0.0.1:0", "--json"]);
        let log = home.path("up.log");
        let mut child = command.stdout(Stdio::piped()).stderr(fs::File::create(&log).unwrap()).spawn().unwrap();
        let mut announced = String::new();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        while !announced.contains('}') {
            assert!(lines.read_line(&mut announced).unwrap() > 0, "the host ended before it served");
        }
        let announced: Value = serde_json::from_str(&announced).unwrap();
        Self { child, url: announced["url"].as_str().unwrap().to_owned(), log }
    }

    /// What it has written to standard error.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until what `/readyz` warns of is as `fits` wants it, and gives it.
    #[track_caller]
    fn until(&self, fits: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let began = Instant::now();
        loop {
            let out = Command::new("curl").args(["-s", &format!("{}/readyz", self.url)]).output().unwrap();
            let ready: Value = serde_json::from_slice(&out.stdout).unwrap();
            let warnings = ready["warnings"].as_array().cloned().unwrap_or_default();
            if fits(&warnings) {
                return warnings;
            }
            assert!(began.elapsed() < PATIENCE, "it still says {ready}\n{}", self.log());
            std::thread::sleep(POLL);
        }
    }

    /// Waits until `/readyz` warns of something.
    #[track_caller]
    pub(crate) fn warned(&self) -> String {
        self.until(|warnings| !warnings.is_empty())[0].to_string()
    }

    /// Waits until `/readyz` warns of nothing.
    #[track_caller]
    pub(crate) fn sound(&self) {
        self.until(<[Value]>::is_empty);
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}
