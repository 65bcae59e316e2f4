//! There is no way to the engine that goes round the gate: whatever loads a component refuses one that nobody signed and
//! one that was changed after it was signed, and runs the very same bytes where an operator says so.

use std::{
    fs,
    io::Read as _,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;
use witan_registry_types::Digest;

use crate::{
    WITAN,
    up::{Up, built, signature},
};

/// A way to load the component in `tool.wasm`.
struct Way {
    /// What it runs.
    program: &'static str,
    /// A byte of the program may differ here without it being another kind of program.
    text: &'static str,
    command: &'static str,
    /// Whether it serves until it is ended, rather than end by itself.
    serves: bool,
}

const PROGRAM: (&str, &str) = ("program-p2", "Hello!");
const VERSIONED: (&str, &str) = ("versioned", "the version's mark: 1f");

const fn way((program, text): (&'static str, &'static str), command: &'static str) -> Way {
    Way { program, text, command, serves: false }
}

const fn serving((program, text): (&'static str, &'static str), command: &'static str) -> Way {
    Way { program, text, command, serves: true }
}

/// Every command that loads components. `FLAG` is where `--allow-unsigned` goes; the others take it from the system.
const WAYS: [Way; 15] = [
    way(PROGRAM, "run FLAG tool.wasm"),
    way(PROGRAM, "call FLAG tool.wasm"),
    way(PROGRAM, "grants suggest run FLAG tool.wasm"),
    way(PROGRAM, "grants suggest --trial run FLAG tool.wasm"),
    way(PROGRAM, "grants suggest call FLAG tool.wasm"),
    way(PROGRAM, "grants suggest --trial call FLAG tool.wasm"),
    serving(VERSIONED, "serve FLAG tool.wasm --listen 127.0.0.1:0"),
    serving(VERSIONED, "serve FLAG tool.wasm --listen 127.0.0.1:0 --reuse concurrent"),
    serving(VERSIONED, "up --listen 127.0.0.1:0"),
    serving(VERSIONED, "up --listen 127.0.0.1:0 --watch"),
    way(VERSIONED, "call tool"),
    way(VERSIONED, "check"),
    way(VERSIONED, "task tell --text hello"),
    way(VERSIONED, "grants suggest task tell --text hello"),
    way(VERSIONED, "grants suggest --trial task tell --text hello"),
];

/// The commands that load no component, each for its reason.
const OTHERS: [(&str, &[&str]); 7] = [
    ("reads what is running elsewhere", &["status", "ps", "logs", "stop", "tasks"]),
    ("reads bytes and compiles nothing", &["inspect", "audit", "graph", "verify"]),
    ("makes, signs or moves bytes and runs nothing", &["build", "keys", "sign", "publish", "pull", "search", "yank"]),
    ("changes what the next load does", &["upgrade", "rollback", "trust", "quarantine", "registry"]),
    ("copies or looks at what a host keeps", &["backup", "doctor"]),
    ("says who may, and what with", &["auth", "policy", "secrets"]),
    ("prints", &["completions", "help"]),
];

const SYSTEM: &str = "schema = 1\n[components.tool]\nsource = \"tool.wasm\"\n";
const SERVED: &str = "[intents]\ntell = \"tool\"\n[[mounts]]\npath = \"/site\"\ncomponent = \"tool\"\n";

#[test]
fn every_command_is_one_that_loads_or_one_that_does_not() {
    let help = Command::new(WITAN).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let commands = help.split_once("Commands:\n").unwrap().1.split_once("\n\n").unwrap().0;
    // What is set in further is the end of a sentence.
    let commands = commands.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let commands: Vec<&str> = commands.filter(|name| !name.is_empty()).collect();
    assert!(commands.len() > 20, "{commands:?}");
    let loads = |name: &&&str| WAYS.iter().any(|way| way.command.split(' ').next() == Some(name));
    let not = |name: &&&str| OTHERS.iter().any(|(_, names)| names.contains(name));
    let unknown: Vec<_> = commands.iter().filter(|name| !loads(name) && !not(name)).collect();
    assert!(unknown.is_empty(), "do these load components? {unknown:?}");
}

/// What `line` came to: nothing if it did what it should, else what it wrote.
fn outcome(folder: &Path, way: &Way, allowed: bool) -> Result<String, String> {
    let flag = if allowed { "--allow-unsigned" } else { "" };
    let line = way.command.replace("FLAG", flag);
    let mut command = Command::new(WITAN);
    command.args(line.split(' ').filter(|word| !word.is_empty())).current_dir(folder);
    // One place for the state of systems and of files, so that the code of both is kept.
    command.env("WITAN_STATE", folder.join(".witan")).env_remove("WITAN_SYSTEM").env_remove("WITAN_LOG");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut written = String::new();
    if way.serves {
        // It says where it serves, or ends.
        let mut stdout = child.stdout.take().unwrap();
        let mut byte = [0];
        while !written.ends_with('\n') && stdout.read(&mut byte).unwrap() == 1 {
            written.push(char::from(byte[0]));
        }
        // What was decided is written when it ends.
        let _ended = Command::new("kill").arg(child.id().to_string()).status().unwrap();
    }
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let good = if way.serves { written.contains("http://") } else { output.status.success() };
    if good { Ok(errors) } else { Err(errors) }
}

/// The newest entry of the ledger about the load of `tool`.
fn newest(folder: &Path) -> Value {
    let show = ["audit", "show", "--kind", "load", "--last", "1", "--json"];
    let shown = Command::new(WITAN).args(show).current_dir(folder).output().unwrap();
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown[0]["entry"]["action"], "component-load", "no load was decided on");
    shown[0]["entry"].clone()
}

fn changed(way: &Way) -> Vec<u8> {
    let mut bytes = built(way.program);
    let text = way.text.as_bytes();
    let at = bytes.windows(text.len()).position(|window| window == text).expect("the program has its text");
    bytes[at] ^= 0x20;
    bytes
}

#[test]
fn whatever_loads_a_component_asks_the_gate() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for way in &WAYS {
        let system = if way.program == VERSIONED.0 { format!("{SYSTEM}{SERVED}") } else { SYSTEM.to_owned() };
        let put = |bytes: &[u8], signature: Option<Vec<u8>>, system: &str| {
            fs::write(folder.join("tool.wasm"), bytes).unwrap();
            fs::write(folder.join("system.toml"), system).unwrap();
            let beside = folder.join("tool.wasm.sigstore.json");
            match signature {
                Some(signature) => fs::write(beside, signature).unwrap(),
                None => drop(fs::remove_file(beside)),
            }
        };
        let what = way.command;
        let (sound, changed) = (built(way.program), changed(way));
        put(&sound, Some(signature(way.program)), &system);
        outcome(folder, way, false).unwrap_or_else(|errors| panic!("{what}: {errors}"));

        let allowing = system.replace("tool.wasm\"\n", "tool.wasm\"\nallow-unsigned = true\n");
        for (bytes, signed, reason) in [
            (&changed, Some(signature(way.program)), "tool.wasm` does not count: the statement is about sha256:"),
            (&sound, None, "tool.wasm` is not signed"),
        ] {
            put(bytes, signed.clone(), &system);
            let errors = outcome(folder, way, false).expect_err(what);
            assert!(errors.contains(reason), "{what}: {errors}");
            let entry = newest(folder);
            assert_eq!((&entry["decision"], &entry["component"]), (&"deny".into(), &"tool".into()), "{what}: {entry}");
            let resource = entry["resource"].as_str().unwrap();
            assert!(resource.ends_with(&format!("tool.wasm@{}", Digest::of(bytes))), "{what}: {entry}");
            assert!(entry["reason"].as_str().unwrap().contains(reason), "{what}: {entry}");

            // The gate alone was against it.
            put(bytes, signed, &allowing);
            let errors = outcome(folder, way, true).unwrap_or_else(|errors| panic!("{what}: {errors}"));
            assert!(errors.contains("UNSIGNED"), "{what}: {errors}");
            let entry = newest(folder);
            assert_eq!(entry["decision"], "allow", "{what}: {entry}");
            assert!(entry["reason"].as_str().unwrap().contains("UNSIGNED"), "{what}: {entry}");
        }
    }
}

#[test]
fn a_running_host_takes_nothing_that_the_gate_refuses() {
    for more in [&[][..], &["--watch"]] {
        let folder = tempfile::tempdir().unwrap();
        let site = SYSTEM.replace("tool", "site") + "[[mounts]]\npath = \"/site\"\ncomponent = \"site\"\n";
        fs::write(folder.path().join("system.toml"), site).unwrap();
        fs::write(folder.path().join("site.wasm"), built("versioned")).unwrap();
        fs::write(folder.path().join("site.wasm.sigstore.json"), signature("versioned")).unwrap();
        let up = Up::serve(folder, more);
        let first = up.digest();
        let reload = || {
            if more.is_empty() {
                up.signal("HUP");
            }
        };
        for (bytes, reason) in [
            (changed(&WAYS[8]), "does not count: the statement is about sha256:"),
            (built("hello-p3"), "does not count: the statement is about sha256:"),
        ] {
            let logged = up.logged();
            up.replace(&bytes);
            reload();
            up.until_logged(logged, "the former one goes on");
            let logs = up.get(&format!("/v1/host/logs?after={logged}")).body;
            assert!(logs.contains(reason), "{logs}");
            assert_eq!(up.digest(), first);
            assert!(up.ask("POST", "/site", "{}").unwrap().body.starts_with('1'));
        }
        let logged = up.logged();
        fs::remove_file(up.folder().join("site.wasm.sigstore.json")).unwrap();
        reload();
        up.until_logged(logged, "is not signed");
        assert_eq!(up.digest(), first);
        // With its own signature beside it, the same component is taken.
        let logged = up.logged();
        up.put("site.wasm.sigstore.json", &signature("hello-p3"));
        reload();
        up.until_logged(logged, "the system was loaded again");
        assert!(up.get("/site").body.contains("Hello, world!"));
    }
}
