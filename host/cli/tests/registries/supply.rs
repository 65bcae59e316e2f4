//! From a registry to a running system: verified, locked, upgraded, rolled back, put aside.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{Home, LOCK, SUMS, Said, Served};

/// The same component, which may need the setting `unit` as well.
const CONFIGURED: &str = "config = [\"unit\"]\n";

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
        world.publish("1.0.0", "i32.add", None);
        world.home.run(&["registry", "trust", &world.served.host, "--out", "trusted_root.json"]).well();
        world.system("");
        world
    }

    /// Publishes a version that does `operation`, with a ceiling where it is not the empty one.
    pub(crate) fn publish(&self, version: &str, operation: &str, ceiling: Option<&str>) {
        self.home.component("sums.wasm", &SUMS.replace("i32.add", operation));
        let package = format!("acme:sums@{version}");
        let mut arguments = vec!["publish", "sums.wasm", "--package", &package, "--registry", &self.served.host];
        arguments.extend(["--key", "release", "--lock", "Cargo.lock"]);
        if let Some(ceiling) = ceiling {
            self.home.file("ceiling.toml", ceiling);
            arguments.extend(["--ceiling", "ceiling.toml"]);
        }
        self.home.run(&arguments).well();
    }

    /// Writes the operator's system, with `more` at its end.
    fn system(&self, more: &str) {
        let key = self.home.run(&["keys", "export", "release"]).well().out;
        let host = &self.served.host;
        self.home.file(
            "system.toml",
            format!(
                "schema = 1\n[registries]\nacme = \"{host}\"\n[trust]\nroot = \"trusted_root.json\"\nrefresh = \"200ms\"\n\
                 [[trust.rules]]\npackages = \"acme:*\"\nkeys = [{{ key = \"\"\"{key}\"\"\" }}]\n\
                 [components.sums]\nsource = \"acme:sums@1.0.0\"   # what adds\n{more}"
            ),
        );
    }

    /// What `sums` makes of 5 and 3.
    pub(crate) fn call(&self, more: &[&str]) -> Said {
        self.home.run(&[&["call", "sums", "acme:sums/add@1.0.0#add", "5", "3"], more].concat())
    }

    fn decisions(&self) -> String {
        fs::read_to_string(self.home.path(".witan/decisions.jsonl")).unwrap()
    }

    fn lock(&self) -> toml::Table {
        fs::read_to_string(self.home.path("witan.lock")).unwrap().parse().unwrap()
    }
}

#[test]
fn a_published_component_runs_and_is_locked() {
    let world = World::new();
    assert_eq!(world.call(&[]).well().out.trim(), "8");
    let lock = world.lock();
    let locked = &lock["components"]["sums"];
    assert_eq!(locked["package"].as_str(), Some("acme:sums@1.0.0"));
    assert!(locked["signers"][0].as_str().unwrap().starts_with("the key "));
    for digest in ["manifest", "layer", "wit", "ceiling", "grants"] {
        assert!(locked[digest].as_str().unwrap().starts_with("sha256:"), "{digest}");
    }
    assert!(world.decisions().contains("signed by the key "));
    // From here on no registry is needed, nor believed.
    let World { served, home } = world;
    assert!(served.stop());
    let said = home.run(&["call", "sums", "acme:sums/add@1.0.0#add", "5", "3", "--locked"]).well();
    assert_eq!(said.out.trim(), "8");
}

#[test]
fn nothing_differs_from_the_lock_where_it_must_not() {
    let world = World::new();
    world.call(&["--locked"]).badly(&["is not in the lock"]);
    world.call(&[]).well();
    world.call(&["--locked"]).well();
    let path = world.home.path("witan.lock");
    let text = fs::read_to_string(&path).unwrap();
    let grants = world.lock()["components"]["sums"]["grants"].as_str().unwrap().to_owned();
    fs::write(&path, text.replace(&grants, &format!("sha256:{}", "0".repeat(64)))).unwrap();
    world.call(&["--locked"]).badly(&["`sums`: grants is", "is locked"]);
}

#[test]
fn whom_the_operator_does_not_trust_publishes_in_vain() {
    let world = World::new();
    world.call(&[]).well();
    let other = Home::new();
    other.key("release");
    let key = other.run(&["keys", "export", "release"]).well().out;
    let own = world.home.run(&["keys", "export", "release"]).well().out;
    let text = fs::read_to_string(world.home.path("system.toml")).unwrap();
    world.home.file("system.toml", text.replace(own.trim(), key.trim()));
    world.call(&[]).badly(&["is not trusted"]);
    assert!(
        world.decisions().lines().any(|line| line.contains("is not trusted") && line.contains("\"allowed\":false"))
    );
    let held = world.home.run(&["quarantine", "list", "--json"]).well().json();
    assert_eq!((&held[0]["component"], &held[0]["cause"]), (&Value::from("sums"), &Value::from("verification")));
    world.home.run(&["verify", "acme:sums@1.0.0"]).badly(&["is not trusted"]);
    world.home.file("system.toml", text);
    world.home.run(&["verify", "acme:sums@1.0.0"]).well();
    world.call(&[]).well();
    assert_eq!(world.home.run(&["quarantine", "list", "--json"]).well().json(), Value::Array(Vec::new()));
}

#[test]
fn what_was_fetched_and_then_changed_is_refused() {
    let world = World::new();
    world.call(&[]).well();
    let blobs: Vec<PathBuf> = fs::read_dir(world.home.path(".local/share/witan/components/sha256"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    let wasm = blobs.iter().find(|path| fs::read(path).unwrap().starts_with(b"\0asm")).unwrap();
    let mut bytes = fs::read(wasm).unwrap();
    bytes.push(0);
    fs::remove_file(wasm).unwrap();
    fs::write(wasm, bytes).unwrap();
    let World { served, home } = world;
    assert!(served.stop());
    let said = home.run(&["call", "sums", "acme:sums/add@1.0.0#add", "5", "3"]);
    assert!(!said.success, "{}", said.out);
}

#[test]
fn an_upgrade_says_what_is_new_and_asks() {
    let world = World::new();
    world.call(&[]).well();
    world.publish("1.1.0", "i32.sub", Some(CONFIGURED));
    let before = fs::read_to_string(world.home.path("system.toml")).unwrap();
    let shown = world.home.run(&["upgrade", "--dry-run", "--json"]).well().json();
    assert_eq!(shown[0]["to"], "acme:sums@1.1.0");
    assert_eq!(shown[0]["may_need"][0][0], "config");
    world.home.run(&["upgrade"]).badly(&["may need `config`", "--accept config"]);
    assert_eq!(fs::read_to_string(world.home.path("system.toml")).unwrap(), before);

    world.home.run(&["upgrade", "sums", "--accept", "config"]).well();
    let after = fs::read_to_string(world.home.path("system.toml")).unwrap();
    assert_eq!(after, before.replace("sums@1.0.0", "sums@1.1.0"), "the rest of the file stays");
    assert_eq!(world.call(&["--locked"]).well().out.trim(), "2");

    world.home.run(&["rollback", "sums"]).badly(&["1.1.0 ran here", "--below-mark"]);
    world.home.run(&["rollback", "sums", "--below-mark"]).well();
    assert_eq!(fs::read_to_string(world.home.path("system.toml")).unwrap(), before);
    assert_eq!(world.call(&["--locked"]).well().out.trim(), "8");
}

#[test]
fn an_older_version_in_the_file_alone_is_refused() {
    let world = World::new();
    world.publish("1.1.0", "i32.sub", None);
    world.call(&[]).well();
    let text = fs::read_to_string(world.home.path("system.toml")).unwrap();
    world.home.file("system.toml", text.replace("sums@1.0.0", "sums@1.1.0"));
    world.call(&[]).well();
    world.home.file("system.toml", text);
    world.call(&[]).badly(&["version 1.0.0 is older than 1.1.0"]);
}

/// A host that serves the system.
pub(crate) struct Up(Child, String);

impl Up {
    pub(crate) fn start(home: &Home) -> Self {
        let mut command = home.command(&["up", "--listen", "127.0.0.1:0", "--json"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut announced = String::new();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        while !announced.contains('}') {
            assert!(lines.read_line(&mut announced).unwrap() > 0, "the host ended before it served");
        }
        let announced: Value = serde_json::from_str(&announced).unwrap();
        Self(child, announced["url"].as_str().unwrap().to_owned())
    }

    /// Waits until `/readyz` warns of something.
    pub(crate) fn warned(&self) -> String {
        let began = Instant::now();
        loop {
            let out = std::process::Command::new("curl").args(["-s", &format!("{}/readyz", self.1)]).output().unwrap();
            let ready: Value = serde_json::from_slice(&out.stdout).unwrap();
            if let Some(warning) = ready["warnings"].get(0) {
                return warning.to_string();
            }
            assert!(began.elapsed() < Duration::from_secs(60), "nothing was said: {ready}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _status = self.0.wait();
    }
}

#[test]
fn a_version_that_is_yanked_while_it_runs_is_stopped() {
    let world = World::new();
    let up = Up::start(&world.home);
    world.home.run(&["yank", "acme:sums@1.0.0", "--reason", "adds wrongly", "--registry", &world.served.host]).well();
    assert!(up.warned().contains("takes no more calls"));
    let held = world.home.run(&["quarantine", "show", "sums", "--json"]).well().json();
    assert_eq!((&held[0]["cause"], &held[0]["reason"]), (&Value::from("yanked"), &Value::from("adds wrongly")));
    world.call(&[]).badly(&["in quarantine: adds wrongly"]);
    assert!(world.decisions().contains("adds wrongly"));
}

#[test]
fn a_component_whose_signer_is_no_longer_trusted_is_stopped() {
    let world = World::new();
    let up = Up::start(&world.home);
    let other = Home::new();
    other.key("release");
    let key = other.run(&["keys", "export", "release"]).well().out;
    let own = world.home.run(&["keys", "export", "release"]).well().out;
    let text = fs::read_to_string(world.home.path("system.toml")).unwrap();
    world.home.file("system.toml", text.replace(own.trim(), key.trim()));
    assert!(up.warned().contains("takes no more calls"));
    let held = world.home.run(&["quarantine", "show", "sums", "--json"]).well().json();
    assert_eq!(held[0]["cause"], "revoked");
    assert!(held[0]["reason"].as_str().unwrap().contains("is not trusted"), "{held}");
}

#[test]
fn an_operator_stops_a_component_that_runs() {
    let world = World::new();
    let up = Up::start(&world.home);
    world.home.run(&["quarantine", "add", "sums", "--reason", "answers oddly"]).well();
    assert!(up.warned().contains("sums"));
    drop(up);
    world.call(&[]).badly(&["in quarantine: answers oddly"]);
    world.home.run(&["quarantine", "release", "sums"]).well();
    world.call(&[]).well();
    world.home.run(&["quarantine", "release", "sums"]).badly(&["is not in quarantine"]);
}

#[test]
fn a_file_runs_on_the_word_of_this_machine_or_of_an_operator() {
    let home = Home::new();
    home.component("sums.wasm", SUMS);
    let call = ["call", "sums.wasm", "acme:sums/add@1.0.0#add", "5", "3"];
    home.run(&call).badly(&["`sums` may not run", "is not signed", "--allow-unsigned"]);
    assert_eq!(home.run(&[&call[..], &["--allow-unsigned"]].concat()).well().out.trim(), "8");
    home.file("system.toml", "schema = 1\n[components.sums]\nsource = \"sums.wasm\"\n");
    home.run(&["call", "sums", "acme:sums/add@1.0.0#add", "5", "3"]).badly(&["is not signed"]);
    home.file("system.toml", "schema = 1\n[components.sums]\nsource = \"sums.wasm\"\nallow-unsigned = true\n");
    let up = Up::start(&home);
    assert!(up.warned().contains("UNSIGNED"));
    assert!(fs::read_to_string(home.path(".witan/decisions.jsonl")).unwrap().contains("UNSIGNED"));
}
