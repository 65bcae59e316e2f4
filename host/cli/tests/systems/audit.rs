//! `witan audit`: what a host wrote down, and what is found when the files of it are changed.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use witan_ledger::{Entry, Kind, Ledger, Settings};

use crate::{
    WITAN, killed,
    up::{self, Up, built},
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
        if source.is_dir() {
            copy_folder(&source, &target);
        } else {
            fs::copy(source, target).unwrap();
        }
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
    // Beside the host that runs, by the files and over HTTP, once there is a checkpoint.
    while up.get("/v1/audit/checkpoint").status == 404 {
        std::thread::yield_now();
    }
    assert!(home(&["verify"]).status.success());
    let pem = home(&["checkpoint", "--server", &server, "--key-only"]);
    assert!(pem.status.success(), "{}", String::from_utf8_lossy(&pem.stderr));
    let pem = pem.stdout;
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

#[test]
fn a_host_that_is_killed_before_it_signs_leaves_a_ledger_that_holds_and_says_what_is_not_signed() {
    let system = format!("{SERVED}[host.ledger]\ncheckpoint = \"1h\"\n");
    let home = Home(tempfile::tempdir().unwrap());
    fs::write(home.path("system.toml"), system).unwrap();
    fs::write(home.path("site.wasm"), built("hello-p3")).unwrap();
    let killed = || {
        let mut up = Up::on(home.0.path(), &[]);
        up.kill();
        home.json(&["verify"])
    };
    let first = killed();
    assert_eq!((&first["holds"], &first["size"]), (&true.into(), &0.into()), "{first}");
    assert!(first["time"].is_u64(), "{first}");
    let pending = first["pending"].as_u64().unwrap();
    assert!(pending >= 2 && home.well(&["verify"]).contains("no checkpoint yet"), "{first}");
    // Each start goes on where the one before ended.
    let second = killed();
    assert_eq!((&second["holds"], &second["size"]), (&true.into(), &0.into()), "{second}");
    assert!(second["pending"].as_u64().unwrap() > pending, "{second}");

    // Between two checkpoints.
    fs::write(home.path("kept.txt"), home.well(&["checkpoint"])).unwrap();
    let kept = home.json(&["verify", "--against", "kept.txt"]);
    assert_eq!((&kept["size"], &kept["pending"]), (&second["pending"], &0.into()), "{kept}");
    let third = killed();
    assert_eq!((&third["holds"], &third["size"]), (&true.into(), &kept["size"]), "{third}");
    assert!(third["pending"].as_u64().unwrap() > 0 && third["time"].is_u64(), "{third}");
    assert!(home.json(&["verify", "--against", "kept.txt"])["holds"] == true);
    let size = usize::try_from(kept["size"].as_u64().unwrap()).unwrap();
    let tail = home.copy();
    tail.rewrite(|all| all.truncate(size - 1));
    tail.fault(&["--against", "kept.txt"], "are missing");
    let changed = home.copy();
    let entries = changed.entries();
    let mut bytes = fs::read(&entries).unwrap();
    bytes[200] ^= 1;
    fs::write(entries, bytes).unwrap();
    changed.fault(&[], "damaged");

    // What is signed is there from the beginning on, so that no host leaves a ledger without it.
    let untimed = home.copy();
    fs::remove_file(untimed.path(".witan/ledger/checkpoint")).unwrap();
    untimed.fault(&["--against", "kept.txt"], "FAULT: the file `checkpoint` does not hold: it was removed");
    let removed = home.copy();
    fs::remove_file(removed.path(".witan/ledger/log/checkpoint")).unwrap();
    removed.fault(&[], "FAULT: its checkpoint was removed");
    removed.fault(&["--against", "kept.txt"], "FAULT: its checkpoint was removed");
    // Nor is a shorter one signed where all that was signed before is gone.
    let shorter = home.copy();
    shorter.rewrite(|all| all.truncate(1));
    fs::remove_dir_all(shorter.path(".witan/ledger/log")).unwrap();
    fs::remove_file(shorter.path(".witan/ledger/checkpoint")).unwrap();
    shorter.fault(&[], "FAULT: its checkpoint was removed");
    let started = witan(shorter.0.path(), "up --listen 127.0.0.1:0");
    let said = String::from_utf8_lossy(&started.stderr).into_owned();
    assert!(!started.status.success() && said.contains("the checkpoint of its log was removed"), "{said}");
    shorter.fault(&[], "FAULT: its checkpoint was removed");
    // The next start makes the time anew, and says so.
    let mut up = Up::on(untimed.0.path(), &[]);
    up.signal("TERM");
    assert!(up.ended().success());
    let whole = untimed.json(&["verify", "--against", "kept.txt"]);
    assert_eq!((&whole["holds"], &whole["pending"]), (&true.into(), &0.into()), "{whole}");
    assert!(whole["time"].is_u64() && whole["size"].as_u64() > third["size"].as_u64(), "{whole}");
    let told = written(untimed.0.path(), " --kind ledger");
    assert!(actions(&told).contains(&"checkpoint-removed"), "{told:?}");
}

/// What no entry may have: it has no form by which it could be masked.
const CANARY: &str = "canary-of-a-client-0123456789";
/// What no entry may have, since it is a secret that the host keeps.
const KNOWN: &str = "kept-by-the-host-0123456789";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn witan(folder: &Path, line: &str) -> Output {
    Command::new(WITAN).args(line.split(' ')).current_dir(folder).env_remove("WITAN_SYSTEM").output().unwrap()
}

/// What is written, as it reads when it is opened.
fn written(folder: &Path, filter: &str) -> Vec<Value> {
    let output = witan(folder, &format!("audit show --json --last 1000{filter}"));
    let shown: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    shown.into_iter().map(|shown| shown["entry"].clone()).collect()
}

fn actions(entries: &[Value]) -> Vec<&str> {
    entries.iter().map(|entry| entry["action"].as_str().unwrap()).collect()
}

#[test]
fn each_state_of_a_task_is_an_entry_and_what_a_client_sent_is_in_none() {
    let folder = killed::folder();
    let mut set = Command::new(WITAN);
    let set = set.args(["secrets", "set", "known"]).current_dir(folder.path()).stdin(Stdio::piped());
    let mut set = set.spawn().unwrap();
    set.stdin.take().unwrap().write_all(KNOWN.as_bytes()).unwrap();
    assert!(set.wait().unwrap().success());
    let up = Up::on(folder.path(), &[]);
    let submit = |text: String, key: &str| -> String {
        let task = serde_json::json!({ "intent": "record", "input": { "text": text }, "metadata": { "name": CANARY } });
        let headers = format!(
            "idempotency-key: {key}-{CANARY}\r\ntraceparent: 00-{TRACE}-00f067aa0ba902b7-01\r\n\
                               authorization: Bearer {CANARY}\r\nx-api-key: {CANARY}\r\n"
        );
        let answer = up::ask(up.address(), "POST", "/v1/tasks", &headers, &task.to_string()).unwrap();
        assert_eq!(answer.status, 202, "{}", answer.body);
        answer.json()["id"].as_str().unwrap().to_owned()
    };
    let ended = |id: &str, state: &str| {
        up.until(&format!("/v1/tasks/{id}"), |task| task.contains(&format!("\"state\":\"{state}\"")));
    };
    let done = submit("plain 0".to_owned(), "done");
    ended(&done, "completed");
    ended(&submit(format!("{KNOWN} 0"), "known"), "completed");
    // The component says in its error what it was sent.
    let failed = submit(format!("plain {CANARY}"), "failed");
    ended(&failed, "failed");
    assert!(up.get(&format!("/v1/tasks/{failed}")).body.contains(CANARY));
    // Three run at once, so that a fourth waits and can be held.
    let run: Vec<String> = (0..3).map(|number| submit(format!("run-{number} 50000"), &number.to_string())).collect();
    run.iter().for_each(|id| ended(id, "working"));
    let held = submit("held 0".to_owned(), "held");
    for act in ["pause", "resume", "cancel"] {
        assert_eq!(up.ask("POST", &format!("/v1/tasks/{held}/{act}"), "").unwrap().status, 200, "{act}");
    }
    ended(&held, "cancelled");
    for id in &run {
        up.ask("POST", &format!("/v1/tasks/{id}/cancel"), "").unwrap();
    }

    // Durable within a moment.
    let of = |id: &str, last: &str| loop {
        let entries = written(up.folder(), &format!(" --kind task --task {id}"));
        if entries.last().is_some_and(|entry| entry["action"] == last) {
            return entries;
        }
    };
    let entries = of(&done, "task-completed");
    assert_eq!(actions(&entries), ["task-queued", "task-working", "task-completed"]);
    for entry in &entries {
        assert_eq!((&entry["tenant"], &entry["principal"]), (&"local".into(), &"local".into()), "{entry}");
        assert_eq!((&entry["trace_id"], &entry["resource"]), (&TRACE.into(), &"record".into()), "{entry}");
    }
    let entries = of(&failed, "task-failed");
    assert_eq!((&entries[2]["decision"], &entries[2]["reason"]), (&"deny".into(), &"invalid_request".into()));
    let entries = of(&held, "task-cancelled");
    assert_eq!(actions(&entries), ["task-queued", "task-paused", "task-queued", "task-cancelled"]);
    // Effects of the component are in the same trace, and name the task.
    let effects = written(up.folder(), &format!(" --kind decision --task {done}"));
    assert!(effects.iter().any(|entry| entry["action"] == "file-write" && entry["trace_id"] == TRACE), "{effects:?}");
    let all = Value::from(written(up.folder(), ""));
    assert!(!all.to_string().contains(CANARY) && !all.to_string().contains(KNOWN), "{all}");
    // The component names a file by what it is sent, so that the path of the effect would say it.
    assert!(all.to_string().contains("/ran/[redacted"), "{all}");
}

#[test]
fn what_an_operator_does_is_an_entry_beside_a_host_and_without_one() {
    let folder = killed::folder();
    let well = |line: &str| {
        let output = witan(folder.path(), line);
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    well("auth tenant create acme");
    well("trust refresh");
    let up = Up::on(folder.path(), &[]);
    let key: Value =
        serde_json::from_slice(&well("auth key create beside --tenant acme --scope tasks:read --json")).unwrap();
    let (id, secret) = (key["id"].as_str().unwrap(), key["secret"].as_str().unwrap());
    let made = up.ask("POST", "/v1/keys", "{\"name\": \"over-http\", \"scopes\": [\"tasks:read\"]}").unwrap();
    assert_eq!(made.status, 201, "{}", made.body);
    well(&format!("auth key revoke {id}"));
    drop(up);
    let entries = loop {
        let entries = written(folder.path(), " --kind administration");
        if actions(&entries).contains(&"key-revoked") {
            break entries;
        }
    };
    let found = actions(&entries);
    for action in ["tenant-created", "trust-refresh", "host-start", "key-created", "key-revoked"] {
        assert!(found.contains(&action), "no `{action}` in {found:?}");
    }
    assert_eq!(found.iter().filter(|action| **action == "key-created").count(), 2, "{found:?}");
    let created = entries.iter().find(|entry| entry["action"] == "key-created").unwrap();
    assert_eq!((&created["tenant"], &created["principal"]), (&"acme".into(), &"local".into()));
    assert_eq!(created["resource"], id);
    let all = Value::from(written(folder.path(), "")).to_string();
    assert!(!all.contains(secret) && !all.contains(made.json()["secret"].as_str().unwrap()));
    assert!(witan(folder.path(), "audit verify").status.success());
}

/// Rules by which each may do everything in their own tenant.
const RULES: &str = "permit (principal, action, resource);\n";

#[test]
fn an_entry_names_who_did_it_and_the_request_in_which_it_was_done() {
    let folder = killed::folder();
    let system = fs::read_to_string(folder.path().join("system.toml")).unwrap();
    let auth = "[host.auth]\n[host.policy]\nfolder = \"policies\"\n";
    fs::write(folder.path().join("system.toml"), system + auth).unwrap();
    fs::create_dir(folder.path().join("policies")).unwrap();
    fs::write(folder.path().join("policies/rules.cedar"), RULES).unwrap();
    let key = |line: &str| -> (String, String) {
        let made = witan(folder.path(), &format!("auth key create {line} --json"));
        let made: Value = serde_json::from_slice(&made.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&made.stderr)));
        let text = |name: &str| made[name].as_str().unwrap().to_owned();
        (format!("key/{}", text("id")), format!("authorization: Bearer {}\r\n", text("secret")))
    };
    assert!(witan(folder.path(), "auth tenant create acme").status.success());
    let (owner, owners) = key("owner --tenant acme --scope tasks:write --scope tasks:read");
    let (other, others) = key("other --tenant acme --scope * --trust elevated");
    let (operator, operators) = key("operator --scope * --trust privileged");
    let up = Up::on(folder.path(), &[]);
    // Each request is a trace of its own.
    let ask = |method: &str, path: &str, who: &str, trace: &str, body: &str| {
        let headers = format!("{who}traceparent: 00-{trace:0>32}-00f067aa0ba902b7-01\r\n");
        let answer = up::ask(up.address(), method, path, &headers, body).unwrap();
        assert!(answer.status < 300, "{method} {path}: {}", answer.body);
        answer
    };
    let task = r#"{"intent": "record", "input": {"text": "long 50000"}}"#;
    let id = ask("POST", "/v1/tasks", &owners, "a1", task).json()["id"].as_str().unwrap().to_owned();
    ask("POST", &format!("/v1/tasks/{id}/cancel"), &others, "a2", "");
    let made = ask("POST", "/v1/keys", &others, "a3", r#"{"name": "one", "scopes": ["tasks:read"]}"#);
    let made = made.json()["id"].as_str().unwrap().to_owned();
    ask("DELETE", &format!("/v1/keys/{made}"), &others, "a4", "");
    ask("POST", "/v1/policies/reload", &operators, "a5", "{}");
    let host = fs::read_to_string(folder.path().join(".witan/host.json")).unwrap();
    let host: Value = serde_json::from_str(&host).unwrap();
    let token = format!("authorization: Bearer {}\r\n", host["token"].as_str().unwrap());
    ask("POST", "/v1/logs/level", &token, "a6", r#"{"filter": "debug"}"#);

    let entry = |action: &str, trace: &str| -> Value {
        let began = std::time::Instant::now();
        loop {
            let page = ask("GET", "/v1/audit/entries?order=desc&limit=200", &operators, "ff", "").json();
            let found = page["data"]
                .as_array()
                .unwrap()
                .iter()
                .map(|entry| &entry["entry"])
                .find(|entry| entry["action"] == action && entry["trace_id"] == format!("{trace:0>32}"));
            if let Some(found) = found {
                return found.clone();
            }
            assert!(began.elapsed().as_secs() < 60, "no `{action}` in the trace {trace}: {page}");
        }
    };
    let by = |action: &str, trace: &str, who: &str| {
        let entry = entry(action, trace);
        assert_eq!((&entry["tenant"], &entry["principal"]), (&"acme".into(), &who.into()), "{entry}");
        entry
    };
    assert_eq!(by("task-queued", "a1", &owner)["task"], id.as_str());
    assert_eq!(by("task-cancelled", "a2", &other)["task"], id.as_str());
    assert_eq!(by("key-created", "a3", &other)["resource"], made.as_str());
    let revoked = by("key-revoked", "a4", &other);
    assert_eq!(revoked["resource"], made.as_str());
    // It is under the key of whom it is about, who can be found and forgotten by it.
    assert_eq!(revoked["about"], format!("key/{made}"));
    let reloaded = entry("policies-reload", "a5");
    assert_eq!((&reloaded["tenant"], &reloaded["principal"]), (&"local".into(), &operator.into()), "{reloaded}");
    entry("log-level", "a6");
}

/// A folder in the place of the file of keys stands for a disk that fails.
#[test]
fn a_host_whose_ledger_cannot_be_written_says_so_and_takes_nothing_until_it_can() {
    let folder = killed::folder();
    let mut up = Up::on(folder.path(), &[]);
    let submit = || {
        let task = serde_json::json!({ "intent": "record", "input": { "text": "plain 0" } });
        up.ask("POST", "/v1/tasks", &task.to_string()).unwrap().status
    };
    let until = |status: u16| while submit() != status {};
    until(202);
    assert!(up.get("/metrics").body.contains("witan_ledger_failing 0"));
    let (keys, away) = (folder.path().join(".witan/ledger/keys"), folder.path().join("keys"));
    fs::rename(&keys, &away).unwrap();
    fs::create_dir(&keys).unwrap();
    until(503);
    let ready = up.get("/readyz");
    assert_eq!((ready.status, &ready.json()["not_ready"][0]["what"]), (503, &"ledger".into()), "{}", ready.body);
    let metrics = up.get("/metrics").body;
    assert!(metrics.contains("witan_ledger_failing 1") && !metrics.contains("witan_ledger_write_failures_total 0"));

    fs::remove_dir(&keys).unwrap();
    fs::rename(away, &keys).unwrap();
    until(202);
    while up.get("/readyz").status != 200 {
        std::thread::yield_now();
    }
    let told = written(folder.path(), " --kind ledger");
    assert!(told.iter().any(|entry| entry["action"] == "unwritable" && entry["decision"] == "deny"), "{told:?}");
    up.signal("TERM");
    assert!(up.ended().success());
    let verified = witan(folder.path(), "audit verify");
    let said = String::from_utf8_lossy(&[verified.stdout, verified.stderr].concat()).into_owned();
    assert!(verified.status.success(), "{said}");
}
