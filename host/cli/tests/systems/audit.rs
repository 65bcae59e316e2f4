//! `witan audit`: what a host wrote down, and what is found when the files of it are changed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;
use witan_ledger::{Entry, Kind, Ledger, Settings};

use crate::{
    WITAN,
    up::{Up, built},
};

/// A system of one component, whose load is refused: nobody signed it.
const SYSTEM: &str = "schema = 1\n[components.tool]\nsource = \"tool.wasm\"\n";

/// A system that serves.
const SERVED: &str = "schema = 1\n[components.site]\nsource = \"site.wasm\"\nallow-unsigned = true\n\
    [[mounts]]\npath = \"/site\"\ncomponent = \"site\"\n";

struct Home(tempfile::TempDir);

impl Home {
    /// A folder with a system and a ledger of `count` entries, by turns of two people.
    fn filled(count: u64) -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        fs::write(home.path("system.toml"), SYSTEM).unwrap();
        home.fill(count);
        home
    }

    fn fill(&self, count: u64) {
        let ledger = Ledger::open(&self.path(".witan/ledger"), Settings::default()).unwrap();
        for number in 0..count {
            let person = ["alice", "bob"][(number % 2) as usize];
            ledger.append(Entry::new(Kind::Decision, "http-send", number.to_string()).by("acme", person)).unwrap();
        }
        ledger.close();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(WITAN);
        command.arg("audit").args(arguments).current_dir(self.0.path()).env_remove("WITAN_SYSTEM").output().unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--json"]].concat());
        let text = String::from_utf8_lossy(&output.stdout);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
    }

    fn well(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// That verification fails, and says `part`.
    #[track_caller]
    fn fault(&self, more: &[&str], part: &str) {
        let output = self.run(&[&["verify"], more].concat());
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(!output.status.success() && said.contains(part), "no `{part}` in {said}");
    }

    fn copy(&self) -> Self {
        let copy = Self(tempfile::tempdir().unwrap());
        copy_folder(self.0.path(), copy.0.path());
        copy
    }

    fn entries(&self) -> PathBuf {
        self.path(&format!(".witan/ledger/entries/{:020}.entries", 0))
    }

    /// Writes the records of the file of entries anew, numbered from 0, each with its frame.
    fn rewrite(&self, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
        let bytes = fs::read(self.entries()).unwrap();
        let (mut at, mut bodies) = (16, Vec::new());
        while at + 12 <= bytes.len() {
            let length = u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
            bodies.push(bytes[at + 12..at + 12 + length].to_vec());
            at += 12 + length;
        }
        change(&mut bodies);
        let mut written = bytes[..16].to_vec();
        for (number, mut body) in (0_u64..).zip(bodies) {
            body[..8].copy_from_slice(&number.to_be_bytes());
            written.extend_from_slice(&(body.len() as u32).to_be_bytes());
            written.extend_from_slice(&blake3::hash(&body).as_bytes()[..8]);
            written.extend_from_slice(&body);
        }
        fs::write(self.entries(), written).unwrap();
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let (source, target) = (file.as_ref().unwrap().path(), to.join(file.unwrap().file_name()));
        if source.is_dir() { copy_folder(&source, &target) } else { drop(fs::copy(source, target).unwrap()) }
    }
}

#[test]
fn every_change_of_the_files_is_found_by_the_command() {
    let home = Home::filled(300);
    fs::write(home.path("key.pem"), home.well(&["checkpoint", "--key-only"])).unwrap();
    fs::write(home.path("kept.txt"), home.well(&["checkpoint"])).unwrap();
    let held = ["--key", "key.pem", "--against", "kept.txt"];
    let report = home.json(&[&["verify"], &held[..]].concat());
    assert_eq!((&report["holds"], &report["size"], &report["kept"]), (&true.into(), &300.into(), &1.into()));

    let changed = home.copy();
    let bundle = changed.path(".witan/ledger/log/tile/entries/000");
    let mut bytes = fs::read(&bundle).unwrap();
    bytes[60] ^= 1;
    fs::write(bundle, bytes).unwrap();
    changed.fault(&[], "is not the one that was logged");

    let payload = home.copy();
    payload.rewrite(|all| all[40][90] ^= 1);
    payload.fault(&[], "entry 40 is not the one that was written");

    let tail = home.copy();
    tail.rewrite(|all| all.truncate(280));
    tail.fault(&[], "entries 280 to 299 are missing");

    let middle = home.copy();
    middle.rewrite(|all| drop(all.drain(100..110)));
    middle.fault(&[], "entry 100 is not the one that was written");

    let order = home.copy();
    order.rewrite(|all| all.swap(7, 8));
    order.fault(&[], "entry 7 is not the one that was written");

    // Whoever has the keys writes all of it anew: by itself it holds, and against what was kept it does not.
    let anew = home.copy();
    let ledger = anew.path(".witan/ledger");
    for part in ["entries", "log"] {
        fs::remove_dir_all(ledger.join(part)).unwrap();
    }
    fs::remove_file(ledger.join("checkpoint")).unwrap();
    anew.fill(300);
    assert_eq!(anew.json(&["verify"])["holds"], true);
    anew.fault(&held, "the log was written anew");

    let foreign = Home::filled(300);
    for file in ["key.pem", "kept.txt"] {
        fs::copy(home.path(file), foreign.path(file)).unwrap();
    }
    foreign.fault(&held[..2], "not signed with the key that was given");
}

#[test]
fn what_is_exported_is_verified_without_the_host_and_what_is_erased_verifies() {
    let home = Home::filled(20);
    let elsewhere = Home(tempfile::tempdir().unwrap());
    fs::write(elsewhere.path("key.pem"), home.well(&["checkpoint", "--key-only"])).unwrap();
    fs::write(home.path("kept.txt"), home.well(&["checkpoint"])).unwrap();
    let export = elsewhere.path("bob.jsonl");
    home.well(&["export", "--principal", "bob", "--out", export.to_str().unwrap()]);
    let verify = ["verify", "--export", "bob.jsonl", "--key", "key.pem"];
    let report = elsewhere.json(&verify);
    assert_eq!((&report["entries"], &report["complete"]), (&10.into(), &false.into()));
    let text = fs::read_to_string(&export).unwrap();
    fs::write(&export, text.replacen("\"resource\":\"3\"", "\"resource\":\"4\"", 1)).unwrap();
    let output = elsewhere.run(&verify);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("does not say what was committed to"));

    home.well(&["erase", "--tenant", "acme", "--principal", "alice"]);
    let report = home.json(&["verify", "--against", "kept.txt"]);
    assert_eq!((&report["holds"], &report["erased"]), (&true.into(), &10.into()));
    let shown = home.json(&["show", "--last", "100"]);
    assert_eq!((&shown[0]["erased"], &shown[1]["erased"]), (&true.into(), &false.into()));
    assert!(!shown.to_string().contains("alice"));
    assert_eq!(shown[20]["entry"]["action"], "erase");

    home.well(&["rotate-key"]);
    let report = home.json(&["verify", "--against", "kept.txt", "--key", elsewhere.path("key.pem").to_str().unwrap()]);
    assert_eq!((&report["holds"], &report["pinned"]), (&true.into(), &true.into()));
}

#[test]
fn a_host_writes_down_what_it_does_and_shows_it() {
    let up = Up::start(SERVED, &built("hello-p3"));
    let folder = up.folder().to_owned();
    let home = |arguments: &[&str]| -> Output {
        Command::new(WITAN).arg("audit").args(arguments).current_dir(&folder).output().unwrap()
    };
    let server = format!("http://{}", up.address());
    let actions = || -> Vec<String> {
        let shown = home(&["show", "--server", &server, "--json", "--last", "1000"]);
        let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
        let action = |shown: &Value| shown["entry"]["action"].as_str().unwrap_or_default().to_owned();
        shown.as_array().unwrap().iter().map(action).collect()
    };
    assert!(actions().contains(&"component-load".to_owned()) && actions().contains(&"host-start".to_owned()));
    // Beside the host that runs, by the files and over HTTP.
    assert!(home(&["verify"]).status.success());
    let pem = home(&["checkpoint", "--server", &server, "--key-only"]).stdout;
    fs::write(folder.join("key.pem"), pem).unwrap();
    let kept = home(&["checkpoint", "--server", &server]).stdout;
    fs::write(folder.join("kept.txt"), kept).unwrap();
    let online = home(&["verify", "--server", &server, "--key", "key.pem", "--against", "kept.txt"]);
    assert!(online.status.success(), "{}", String::from_utf8_lossy(&online.stderr));
    assert!(!home(&["rotate-key"]).status.success());

    let logged = up.logged();
    let system = fs::read_to_string(folder.join("system.toml")).unwrap();
    up.put("system.toml", (system + "[components.site.grants]\nwall-clock = true\n").as_bytes());
    up.signal("HUP");
    up.until_logged(logged, "the system was loaded again");
    let actions = actions();
    assert!(actions.contains(&"grants-changed".to_owned()) && actions.contains(&"system-reload".to_owned()));
}
