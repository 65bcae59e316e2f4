//! What operators do: one owner of the data, backups, the doctor, TLS, packages, and documents that say so.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output, Stdio},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use serde_json::{Value, json};

use crate::{
    WITAN,
    authority::Authority,
    checkout,
    up::{Up, built},
};

const SYSTEM: &str = "schema = 1\n[components.site]\nsource = \"site.wasm\"\nallow-unsigned = true\n[[mounts]]\npath = \"/site\"\n\
                      component = \"site\"\n";

fn witan(folder: &Path, line: &str) -> Output {
    let mut command = Command::new(WITAN);
    command.args(line.split(' ')).current_dir(folder).stdin(Stdio::null()).env_remove("WITAN_LOG");
    command.output().unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}{}", text(&output.stdout), text(&output.stderr)))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A folder with the default system of the checkout, and a data folder of its own.
fn default_system() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    // Builds the components, if they are not there.
    assert!(witan(&checkout(), "check").status.success());
    let system = fs::read_to_string(checkout().join("system.toml")).unwrap();
    let system = system.replace("source = \"components/", &format!("source = \"{}/components/", checkout().display()));
    fs::write(folder.path().join("system.toml"), system).unwrap();
    folder
}

fn finding(found: &Value, check: &str) -> Value {
    let found = found.as_array().unwrap().iter().find(|finding| finding["check"] == check);
    found.unwrap_or_else(|| panic!("nothing was said of {check}")).clone()
}

#[test]
fn the_doctor_tries_the_collector_and_the_policies() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let doctor = |collector: &str, more: &str| {
        let telemetry = format!("[host.telemetry]\notlp = \"{collector}\"\n");
        let policy = "[host.policy]\nfolder = \"policies\"\nshadow = \"next\"\n";
        fs::write(at.join("system.toml"), format!("schema = 1\n{telemetry}{policy}")).unwrap();
        let output = witan(at, &format!("doctor --json{more}"));
        (output.status.code(), json(&output))
    };
    for (name, text) in [("policies", "permit (principal, action, resource);"), ("next", "forbid (principal, action")] {
        fs::create_dir(at.join(name)).unwrap();
        fs::write(at.join(name).join("rules.cedar"), text).unwrap();
    }
    let collector = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", collector.local_addr().unwrap());
    let serving = std::thread::spawn(move || {
        for status in ["200 OK", "403 Forbidden"] {
            let (mut stream, _) = collector.accept().unwrap();
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") {
                std::io::Read::read_exact(&mut stream, &mut byte).unwrap();
                head.extend_from_slice(&byte);
            }
            assert!(text(&head).starts_with("POST /v1/traces "), "{}", text(&head));
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            std::io::Write::write_all(&mut stream, answer.as_bytes()).unwrap();
        }
    });
    // A candidate that cannot be loaded is told beside policies that can.
    let (code, found) = doctor(&address, "");
    assert_eq!(code, Some(1), "{found}");
    assert_eq!(finding(&found, "telemetry")["state"], "ok", "{found}");
    let policies: Vec<&Value> =
        found.as_array().unwrap().iter().filter(|finding| finding["check"] == "policies").collect();
    assert_eq!((&policies[0]["state"], &policies[1]["state"]), (&json!("ok"), &json!("problem")), "{policies:?}");
    assert!(policies[1]["message"].as_str().unwrap().contains("host.policy.shadow"), "{policies:?}");
    assert!(policies[1]["remedy"].as_str().unwrap().starts_with("witan policy check "), "{policies:?}");

    fs::write(at.join("next/rules.cedar"), "permit (principal, action, resource);").unwrap();
    for _ in ["it refuses", "nobody is there"] {
        let (code, found) = doctor(&address, "");
        let told = finding(&found, "telemetry");
        assert_eq!((code, &told["state"]), (Some(3), &json!("warning")), "{found}");
        assert!(told["message"].as_str().unwrap().contains(&address) && told["remedy"].is_string(), "{told}");
    }
    serving.join().unwrap();
    let (code, found) = doctor(&address, " --offline");
    assert_eq!(code, Some(0), "{found}");
    assert!(!found.to_string().contains("telemetry"), "{found}");
}

#[test]
fn one_process_has_the_data_folder() {
    let folder = default_system();
    let mut up = Up::serve(folder, &[]);
    // Another host is refused, and says what to do.
    let second = witan(up.folder(), "up --listen 127.0.0.1:0");
    assert_eq!(second.status.code(), Some(1));
    assert!(text(&second.stderr).contains("witan stop"), "{}", text(&second.stderr));
    // A task is done by the host that has it, which counts it.
    let sentence = "One two three. Four five six.";
    let mut task = Command::new(WITAN);
    let task =
        task.args(["task", "summarize", "--json", "--text", sentence]).current_dir(up.folder()).output().unwrap();
    assert_eq!(json(&task)["status"], "OK");
    assert!(text(&task.stderr).contains("has the state folder"), "{}", text(&task.stderr));
    assert_eq!(up.get("/v1/tasks").json()["data"].as_array().unwrap().len(), 1);
    // What needs the folder for itself says so; what looks on does not.
    let call = witan(up.folder(), "call summarize x --json");
    assert!(json(&call)["error"]["message"].as_str().unwrap().contains("has it alone"), "{}", text(&call.stdout));
    assert!(witan(up.folder(), "check").status.success());
    let found = json(&witan(up.folder(), "doctor --json --offline"));
    let owner = found.as_array().unwrap().iter().find(|finding| finding["check"] == "owner").unwrap();
    assert!(owner["message"].as_str().unwrap().contains("witan up"), "{owner}");
    up.kill();
    // The lock of a host that was killed holds nobody up.
    let mut task = Command::new(WITAN);
    let task =
        task.args(["task", "summarize", "--json", "--text", sentence]).current_dir(up.folder()).output().unwrap();
    assert!(!text(&task.stderr).contains("has the state folder"), "{}", text(&task.stderr));
    assert_eq!(json(&task)["status"], "OK");
}

#[test]
fn commands_wait_for_one_another() {
    let folder = default_system();
    let start = || {
        let mut task = Command::new(WITAN);
        task.args(["task", "summarize", "--json", "--text", "One two three. Four five six."])
            .current_dir(folder.path());
        task.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    for task in [start(), start(), start()] {
        assert_eq!(json(&task.wait_with_output().unwrap())["status"], "OK");
    }
}

#[test]
fn a_backup_is_made_while_the_host_serves_and_restored_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("system.toml"), SYSTEM).unwrap();
    fs::write(folder.path().join("site.wasm"), built("hello-p3")).unwrap();
    let up = Up::serve(folder, &[]);
    assert!(up.get("/site").body.contains("Hello"));
    let mut set = Command::new(WITAN);
    let mut set = set.args(["secrets", "set", "key"]).current_dir(up.folder()).stdin(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut set.stdin.take().unwrap(), b"a-secret-text").unwrap();
    assert!(set.wait().unwrap().success());
    // Requests go on while it is made.
    let address = up.address().to_owned();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let load = std::thread::spawn(move || {
        let mut served = 0;
        while stopped.try_recv().is_err() {
            let mut stream = std::net::TcpStream::connect(&address).unwrap();
            let head = format!("GET /site HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
            std::io::Write::write_all(&mut stream, head.as_bytes()).unwrap();
            let mut answer = String::new();
            std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            served += 1;
        }
        served
    });
    let made = json(&witan(up.folder(), "backup create made.tar --json"));
    stop.send(()).unwrap();
    assert!(load.join().unwrap() > 0);
    assert!(made["files"].as_u64().unwrap() >= 4, "{made}");
    let file = up.folder().join("made.tar");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(json(&witan(up.folder(), "backup verify made.tar --json"))["files"], made["files"]);
    let again = witan(up.folder(), "backup create made.tar");
    assert!(text(&again.stderr).contains("exists"), "{}", text(&again.stderr));
    // Nothing is restored over the data of a host.
    let over = witan(up.folder(), "backup restore made.tar");
    assert!(text(&over.stderr).contains("not empty"), "{}", text(&over.stderr));

    let other = tempfile::tempdir().unwrap();
    for name in ["system.toml", "site.wasm", "made.tar"] {
        fs::copy(up.folder().join(name), other.path().join(name)).unwrap();
    }
    drop(up);
    let restored = json(&witan(other.path(), "backup restore made.tar --json"));
    assert_eq!(restored["files"], made["files"]);
    for name in ["witan.db", "secrets.json", "secrets.key", "ledger/keys"] {
        let mode = fs::metadata(other.path().join(".witan").join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    assert!(!other.path().join(".witan/host.json").exists());
    assert!(other.path().join("witan.lock").exists());
    assert_eq!(json(&witan(other.path(), "audit verify --json"))["holds"], true);
    let findings = json(&witan(other.path(), "doctor --json --offline"));
    let wrong: Vec<&Value> =
        findings.as_array().unwrap().iter().filter(|finding| finding["state"] == "problem").collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert!(findings.to_string().contains("opens 1 stored secret"), "{findings}");
    let up = Up::serve(other, &[]);
    assert!(up.get("/site").body.contains("Hello"));
}

#[test]
fn an_encrypted_backup_has_the_tasks_of_the_host_and_opens_with_its_key_alone() {
    let folder = crate::killed::folder();
    let up = Up::on(folder.path(), &[]);
    let submit = |name: &str, ms: u32| {
        let task = json!({ "intent": "record", "input": { "text": format!("{name} {ms}") } });
        let answer = up.ask("POST", "/v1/tasks", &task.to_string()).unwrap();
        assert_eq!(answer.status, 202, "{}", answer.body);
        answer.json()["id"].as_str().unwrap().to_owned()
    };
    let done = submit("finished-before", 0);
    up.until(&format!("/v1/tasks/{done}"), |task| task.contains("\"state\":\"completed\""));
    // Three run at once in this system, for a minute: the fourth waits.
    let run: Vec<String> = (0..3).map(|number| submit(&format!("run-{number}"), 55_000)).collect();
    for id in &run {
        up.until(&format!("/v1/tasks/{id}"), |task| task.contains("\"state\":\"working\""));
    }
    let waits = submit("waited-before", 0);
    let result = up.get(&format!("/v1/tasks/{done}")).json()["envelope"]["result"].clone();
    assert!(result.to_string().contains("finished-before"), "{result}");

    let keys = tempfile::tempdir().unwrap();
    let key = |name: &str, digit: &str| {
        let path = keys.path().join(name);
        fs::write(&path, digit.repeat(64)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    };
    let (right, wrong) = (key("right", "1"), key("wrong", "2"));
    let made = json(&witan(up.folder(), &format!("backup create made --key-file {right} --json")));
    assert!(made["files"].as_u64().unwrap() >= 4, "{made}");
    let bytes = fs::read(up.folder().join("made")).unwrap();
    for word in [&b"finished-before"[..], b"SQLite format", b"backup.json"] {
        assert!(!bytes.windows(word.len()).any(|part| part == word), "{}", text(word));
    }
    drop(up);

    let other = crate::killed::folder();
    fs::copy(folder.path().join("made"), other.path().join("made")).unwrap();
    for (line, expected) in [
        ("backup restore made".to_owned(), "--key-file"),
        (format!("backup restore made --key-file {wrong}"), "bring it back"),
        (format!("backup verify made --key-file {wrong}"), "bring it back"),
        (format!("backup verify made --key-file {wrong}-not"), "openssl rand"),
    ] {
        let refused = witan(other.path(), &line);
        assert_eq!(refused.status.code(), Some(1), "{line}");
        assert!(text(&refused.stderr).contains(expected), "{line}: {}", text(&refused.stderr));
    }
    assert!(!other.path().join(".witan").exists());
    let restored = json(&witan(other.path(), &format!("backup restore made --key-file {right} --json")));
    assert_eq!(restored["files"], made["files"]);
    assert_eq!(json(&witan(other.path(), "audit verify --json"))["holds"], true);

    // What had ended is there with its result, and what waited runs.
    let up = Up::on(other.path(), &[]);
    assert_eq!(up.get(&format!("/v1/tasks/{done}")).json()["envelope"]["result"], result);
    up.until(&format!("/v1/tasks/{waits}"), |task| task.contains("\"state\":\"completed\""));
    let task = up.get(&format!("/v1/tasks/{waits}")).json();
    assert!(task["envelope"]["result"].to_string().contains("waited-before"), "{task}");
    // What ran was of the host before, and is not said to have ended well.
    for id in run {
        up.until(&format!("/v1/tasks/{id}"), |task| task.contains("interrupted"));
    }
}

#[test]
fn backups_beside_a_host_that_works_are_whole_and_their_ledgers_verify() {
    let folder = crate::killed::folder();
    let system = folder.path().join("system.toml");
    let text_of_system = fs::read_to_string(&system).unwrap();
    fs::write(&system, format!("{text_of_system}\n[host.ledger]\ncheckpoint = \"100ms\"\n")).unwrap();
    let up = Up::on(folder.path(), &[]);
    let done = AtomicBool::new(false);
    let submitted = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let task = json!({ "intent": "record", "input": { "text": "one 0" } });
                up.ask("POST", "/v1/tasks?wait=30", &task.to_string()).unwrap();
                submitted.fetch_add(1, Ordering::Relaxed);
            }
        });
        let ended = Ended(&done);
        for number in 0..5 {
            let before = submitted.load(Ordering::Relaxed);
            while submitted.load(Ordering::Relaxed) < before + 20 {
                std::thread::yield_now();
            }
            let made = witan(up.folder(), &format!("backup create made-{number}"));
            assert!(made.status.success(), "{}", text(&made.stderr));
        }
        drop(ended);
    });
    drop(up);
    for number in 0..5 {
        let other = crate::killed::folder();
        fs::copy(folder.path().join(format!("made-{number}")), other.path().join("made")).unwrap();
        assert!(witan(other.path(), "backup restore made").status.success());
        let verified = json(&witan(other.path(), "audit verify --json"));
        assert_eq!(verified["holds"], true, "{verified}");
        let up = Up::on(other.path(), &[]);
        assert_eq!(up.get("/readyz").status, 200);
    }
}

/// Says that the work beside a test is over, also where the test failed.
struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_damaged_backup_is_refused_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("system.toml"), "schema = 1\n[host]\nstate = \"data\"\n").unwrap();
    fs::write(folder.path().join("damaged.tar"), "no archive").unwrap();
    for line in
        ["backup restore damaged.tar", "backup verify damaged.tar", "backup restore none.tar", "backup create x.tar"]
    {
        let output = witan(folder.path(), line);
        assert_eq!(output.status.code(), Some(1), "{line}");
        assert!(text(&output.stderr).contains("error: "), "{line}: {}", text(&output.stderr));
    }
    assert!(!folder.path().join("data").exists());
}

#[test]
fn the_doctor_finds_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join(".witan");
    fs::create_dir(&state).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o777)).unwrap();
    fs::write(folder.path().join("system.toml"), "schema = 1\n[secrets.key]\norigins = [\"https://a.example\"]\n[host.tls]\ncertificate = \"c.pem\"\nkey = \"k.pem\"\n").unwrap();
    fs::write(state.join("witan.db"), "no database, but bytes of one that is damaged").unwrap();
    fs::write(state.join("secrets.json"), "{}").unwrap();
    let output = witan(folder.path(), "doctor --json --offline");
    assert_eq!(output.status.code(), Some(1));
    let found = json(&output);
    let wrong = |check: &str| {
        let finding =
            found.as_array().unwrap().iter().find(|finding| finding["check"] == check && finding["state"] == "problem");
        finding.unwrap_or_else(|| panic!("{check}: {found}"))["remedy"].as_str().unwrap().to_owned()
    };
    assert!(wrong("folder").contains("chmod"));
    assert!(wrong("tls").contains("[host.tls]"));
    assert!(wrong("database").contains("backup"));
    assert!(wrong("secrets").contains("backup"));
    let words = text(&witan(folder.path(), "doctor --offline").stdout);
    assert!(words.contains("problem") && words.contains("help: "), "{words}");
    fs::write(folder.path().join("system.toml"), "schema = 7\n").unwrap();
    assert_eq!(json(&witan(folder.path(), "doctor --json"))[0]["check"], "system");
}

#[tokio::test]
async fn a_database_of_a_newer_program_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("system.toml"), SYSTEM).unwrap();
    fs::write(folder.path().join("site.wasm"), built("hello-p3")).unwrap();
    drop(Up::on(folder.path(), &[]));
    let rows = folder.path().join(".witan/witan.db");
    let database = witan_database::Database::open(witan_database::Location::Sqlite(rows)).await.unwrap();
    let newer = sqlx::query("UPDATE part SET version = 999").execute(database.pool()).await.unwrap();
    assert!(newer.rows_affected() > 0);
    database.pool().close().await;
    let refused = witan(folder.path(), "up --listen 127.0.0.1:0");
    let said = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1));
    assert!(said.contains("have version 999") && said.contains("restore a backup from before"), "{said}");
}

#[test]
fn a_host_speaks_tls_and_the_commands_of_its_machine_know_it() {
    use rcgen::{CertificateParams, KeyPair};
    let folder = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["host.example".to_owned()]).unwrap().self_signed(&key).unwrap();
    fs::write(folder.path().join("certificate.pem"), certificate.pem()).unwrap();
    fs::write(folder.path().join("key.pem"), key.serialize_pem()).unwrap();
    fs::set_permissions(folder.path().join("key.pem"), fs::Permissions::from_mode(0o600)).unwrap();
    let tls = "[host.tls]\ncertificate = \"certificate.pem\"\nkey = \"key.pem\"\n";
    fs::write(folder.path().join("system.toml"), SYSTEM.replace("[components", &format!("{tls}[components"))).unwrap();
    fs::write(folder.path().join("site.wasm"), built("hello-p3")).unwrap();
    let mut up = Up::serve(folder, &[]);
    assert!(up.address().starts_with("https://"), "{}", up.address());
    assert_eq!(json(&witan(up.folder(), "status --json"))["state"], "serving");
    // Whoever has another certificate is not the host.
    let right = fs::read(up.folder().join("certificate.pem")).unwrap();
    let other = CertificateParams::new(vec!["host.example".to_owned()]).unwrap();
    let other = other.self_signed(&KeyPair::generate().unwrap()).unwrap().pem();
    let elsewhere = tempfile::tempdir().unwrap();
    fs::create_dir(elsewhere.path().join(".witan")).unwrap();
    fs::copy(up.folder().join(".witan/host.json"), elsewhere.path().join(".witan/host.json")).unwrap();
    fs::copy(up.folder().join("system.toml"), elsewhere.path().join("system.toml")).unwrap();
    fs::write(elsewhere.path().join("certificate.pem"), other).unwrap();
    assert!(!witan(elsewhere.path(), "status --json").status.success());
    fs::write(elsewhere.path().join("certificate.pem"), right).unwrap();
    assert!(witan(elsewhere.path(), "status --json").status.success());
    assert!(witan(up.folder(), "stop").status.success());
    assert!(up.ended().success());
}

#[test]
fn a_command_believes_the_host_elsewhere_that_a_named_authority_vouches_for() {
    let (servers, strangers) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    servers.certify("127.0.0.1").put(folder.path());
    let tls = "[host.tls]\ncertificate = \"certificate.pem\"\nkey = \"key.pem\"\n";
    fs::write(folder.path().join("system.toml"), SYSTEM.replace("[components", &format!("{tls}[components"))).unwrap();
    fs::write(folder.path().join("site.wasm"), built("hello-p3")).unwrap();
    let up = Up::serve(folder, &[]);
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join("servers.pem"), servers.pem()).unwrap();
    fs::write(elsewhere.path().join("strangers.pem"), strangers.pem()).unwrap();
    let ask = |more: &str| witan(elsewhere.path(), &format!("status --json --server {}{more}", up.address()));
    assert_eq!(json(&ask(" --ca servers.pem"))["state"], "serving");
    for more in ["", " --ca strangers.pem"] {
        let refused = json(&ask(more))["error"]["message"].to_string();
        assert!(refused.contains("name its authority with `--ca`"), "{refused}");
    }
    let missing = json(&ask(" --ca missing.pem"))["error"]["message"].to_string();
    assert!(missing.contains("`missing.pem`"), "{missing}");
}

/// Each command in the runbook's blocks, from the first word.
fn commands(document: &str) -> Vec<Vec<String>> {
    let blocks = document.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    let lines = blocks.flat_map(str::lines).flat_map(|line| line.split("&&"));
    lines
        .map(|line| line.split_whitespace().map(str::to_owned).collect())
        .filter(|words: &Vec<String>| !words.is_empty())
        .collect()
}

#[test]
fn every_command_of_the_runbook_is_one() {
    let document = fs::read_to_string(checkout().join("docs/operations.md")).unwrap();
    let all = commands(&document);
    let ours: Vec<_> = all.iter().filter(|words| words[0] == "witan").collect();
    assert!(ours.len() >= 20, "{}", ours.len());
    for words in ours {
        // With `--help` after its words, a command that there is not, and a flag that it has not, is an error.
        let flags: Vec<&String> = words.iter().filter(|word| word.starts_with("--")).collect();
        let path: Vec<&String> =
            words[1..].iter().take_while(|word| word.chars().all(|c| c.is_ascii_lowercase() || c == '-')).collect();
        let help =
            Command::new(WITAN).args(path.iter().filter(|word| !word.starts_with('-'))).arg("--help").output().unwrap();
        let help = text(&help.stdout);
        assert!(help.contains("Usage: witan"), "{words:?}");
        for flag in flags {
            assert!(help.contains(flag.as_str()), "{words:?}: {help}");
        }
    }
    for words in all.iter().filter(|words| words[0].contains('/')) {
        assert!(checkout().join(&words[0]).is_file(), "{words:?}");
    }
    // Commands within sentences and tables are commands too.
    for inline in document.split('`').skip(1).step_by(2).filter_map(|text| text.strip_prefix("witan ")) {
        let word = inline.split_whitespace().next().unwrap_or_default();
        if word.chars().all(|c| c.is_ascii_lowercase()) {
            let help = Command::new(WITAN).args([word, "--help"]).output().unwrap();
            assert!(help.status.success(), "witan {inline}");
        }
    }
}

fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

#[test]
fn the_service_is_one_that_systemd_takes() {
    if !has("systemd-analyze") {
        eprintln!("skipped: there is no systemd-analyze");
        return;
    }
    // The program is where the package puts it; here it is elsewhere.
    let folder = tempfile::tempdir().unwrap();
    let unit = fs::read_to_string(checkout().join("packaging/witan.service")).unwrap();
    let file = folder.path().join("witan.service");
    fs::write(&file, unit.replace("/usr/bin/witan", WITAN)).unwrap();
    let verified = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&file).output().unwrap();
    let said = text(&verified.stderr);
    let of_ours: Vec<&str> = said.lines().filter(|line| line.contains("witan.service")).collect();
    assert!(of_ours.is_empty(), "{of_ours:?}");
    let judged = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--threshold=20"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(judged.status.success(), "{}", text(&judged.stdout));
}

#[test]
fn the_container_file_is_one_that_hadolint_takes() {
    let file = checkout().join("packaging/Dockerfile");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("\nUSER 10001:10001\n"), "it does not run as root");
    if !has("hadolint") {
        eprintln!("skipped: there is no hadolint");
        return;
    }
    let linted = Command::new("hadolint").arg(&file).output().unwrap();
    assert!(linted.status.success(), "{}", String::from_utf8_lossy(&linted.stdout));
}

#[test]
fn the_package_has_the_host_and_keeps_its_data() {
    if !has("dpkg-deb") {
        eprintln!("skipped: there is no dpkg-deb");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // A small file in the place of the program: what is tried is the recipe.
    let program = folder.path().join("witan");
    fs::write(&program, format!("#!/bin/sh\nexec {WITAN} \"$@\"\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let built =
        Command::new(checkout().join("packaging/debian/build")).arg(&program).arg(folder.path()).output().unwrap();
    assert!(built.status.success(), "{}{}", text(&built.stdout), text(&built.stderr));
    let package = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    let package = package.into_iter().find(|path| path.extension().is_some_and(|end| end == "deb")).unwrap();
    let out = |arguments: &[&str]| {
        let output = Command::new("dpkg-deb").args(arguments).arg(&package).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let contents = out(&["--contents"]);
    for file in ["usr/bin/witan", "usr/lib/systemd/system/witan.service", "etc/witan/system.toml"] {
        assert!(
            contents.lines().any(|line| line.contains("root/root") && line.ends_with(file)),
            "{file} in {contents}"
        );
    }
    assert!(!contents.contains("var/lib/witan"), "the data is nobody's to unpack over");
    assert!(out(&["--info"]).contains("Package: witan"));
    // What it unpacks runs, twice over the same data, as an install and an upgrade do.
    let root = folder.path().join("root");
    for _ in 0..2 {
        let unpacked = Command::new("dpkg-deb").arg("--extract").arg(&package).arg(&root).output().unwrap();
        assert!(unpacked.status.success());
        let system = fs::read_to_string(root.join("etc/witan/system.toml")).unwrap();
        let data = root.join("var/lib/witan");
        fs::write(root.join("etc/witan/mine.toml"), system.replace("/var/lib/witan", data.to_str().unwrap())).unwrap();
        let mut set = Command::new(root.join("usr/bin/witan"));
        set.args(["secrets", "list", "--json", "--system"]).arg(root.join("etc/witan/mine.toml"));
        assert!(set.output().unwrap().status.success());
    }
    for script in ["postinst", "prerm", "postrm"] {
        let checked =
            Command::new("sh").arg("-n").arg(checkout().join("packaging/debian").join(script)).status().unwrap();
        assert!(checked.success(), "{script}");
        let text = fs::read_to_string(checkout().join("packaging/debian").join(script)).unwrap();
        assert!(!text.contains("rm -rf /var"), "{script}");
    }
}
