//! Secrets by the binary: kept, used, refused, and found nowhere.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Command, Output, Stdio},
    sync::mpsc::Receiver,
    thread,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    WITAN,
    telemetry::Collector,
    up::{Up, built},
};

const CANARY: &str = "canary-of-the-vault-0123456789";

fn witan(folder: &Path, line: &str, input: &str) -> Output {
    let mut command = Command::new(WITAN);
    command.args(line.split(' ')).current_dir(folder).env_remove("WITAN_LOG").env_remove("WITAN_SECRETS_KEY_FILE");
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let _refused = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn good(folder: &Path, line: &str, input: &str) -> Value {
    let output = witan(folder, line, input);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{line}: {text}{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&text).unwrap()
}

fn refused(folder: &Path, line: &str, input: &str) -> String {
    let output = witan(folder, line, input);
    assert_eq!(output.status.code(), Some(1), "{line}");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!text.contains(CANARY), "{text}");
    text
}

/// A server that answers with all that it is sent, in a header and in the body, and says what that was.
fn echo() -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (seen, receive) = std::sync::mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
                head.extend_from_slice(&byte);
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let _ended = seen.send(head.clone());
            let line = head.lines().find(|line| line.starts_with("authorization")).unwrap_or_default().to_owned();
            let answer = format!("HTTP/1.1 200 OK\r\nx-echo: {line}\r\ncontent-length: {}\r\n\r\n{head}", head.len());
            let _gone = stream.write_all(answer.as_bytes());
        }
    });
    (address, receive)
}

fn system(origin: SocketAddr, other: SocketAddr, collector: &str) -> String {
    format!(
        "schema = 1\n[host.telemetry]\notlp = \"{collector}\"\nsample = \"100%\"\nlog-file = \"host.jsonl\"\n\
         [intents]\ntell = \"site\"\n\
         [secrets.key]\norigins = [\"http://{origin}\"]\n[secrets.gone]\norigins = [\"http://{origin}\"]\n\
         file = \"gone\"\n{}{}{}",
        component("site", "[{ secret = \"key\", config = \"key\" }]", origin, other),
        component("unset", "[{ secret = \"gone\", config = \"key\" }]", origin, other),
        component("without", "[]", origin, other).replace("secrets = []", "config = { other = \"value\" }"),
    )
}

fn component(name: &str, secrets: &str, origin: SocketAddr, other: SocketAddr) -> String {
    let http = |address: SocketAddr| {
        format!("{{ scheme = \"http\", host = \"{}\", port = {}, private = true }}", address.ip(), address.port())
    };
    format!(
        "[components.{name}]\nsource = \"site.wasm\"\nallow-unsigned = true\n[components.{name}.grants]\n\
         http = [{}, {}]\nlogging = {{}}\nsecrets = {secrets}\n[[mounts]]\npath = \"/{name}\"\ncomponent = \"{name}\"\n",
        http(origin),
        http(other)
    )
}

/// The secret, and what Base64 makes of it wherever it stands.
fn forms() -> Vec<Vec<u8>> {
    let encoded = (0..3).map(|before| {
        let all = STANDARD.encode([&vec![0; before], CANARY.as_bytes()].concat());
        // Without the digits that say something of what stands beside it.
        all.as_bytes()[3..all.len() - 4].to_vec()
    });
    [CANARY.as_bytes().to_vec()].into_iter().chain(encoded).collect()
}

fn has_canary(bytes: &[u8]) -> bool {
    forms().iter().any(|form| bytes.windows(form.len()).any(|part| part == form))
}

/// All files below `folder` that have the secret in them.
fn with_canary(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(with_canary(&path));
        } else if has_canary(&fs::read(&path).unwrap_or_default()) {
            found.push(path.display().to_string());
        }
    }
    found
}

/// What happened, as `/v1/events` tells it from the start to an event with `last` in it.
fn events(up: &Up, last: &str) -> String {
    let mut stream = up.begin("GET", "/v1/events?starting_after=0", 0).unwrap();
    let mut told = String::new();
    while !told.contains(last) {
        let mut bytes = [0; 4096];
        let read = stream.read(&mut bytes).unwrap();
        assert!(read > 0, "{told}");
        told += &String::from_utf8_lossy(&bytes[..read]);
    }
    told
}

/// One secret through everything that a host writes and says. It is at the server that it is for, and nowhere else.
#[test]
fn a_secret_is_used_where_it_may_be_and_found_nowhere() {
    let (origin, seen) = echo();
    let (other, seen_by_other) = echo();
    let collector = Collector::start();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("system.toml"), system(origin, other, &collector.url)).unwrap();
    fs::write(folder.path().join("site.wasm"), built("secret")).unwrap();
    assert_eq!(good(folder.path(), "secrets set key --json", CANARY)["version"], 1);
    let errors = fs::File::create(folder.path().join("errors.log")).unwrap();
    let mut up = Up::serve_logged(folder, &["--log", "trace", "--log-calls", "all", "--log-format", "json"], errors);
    let mut said = vec![up.get("/site/show").body];
    assert!(said[0].starts_with("witan-secret-"), "{}", said[0]);

    // Where it may go, it arrives, and what comes back is covered.
    said.push(up.get(&format!("/site/send/authorization/{origin}")).body);
    assert!(seen.try_recv().unwrap().contains(&format!("authorization: Bearer {CANARY}\r\n")), "{said:?}");
    assert!(said[1].contains(&"*".repeat(CANARY.len())), "{said:?}");
    said.push(up.get(&format!("/site/basic/authorization/{origin}")).body);
    let basic = STANDARD.encode(format!("user:{CANARY}"));
    let found = [CANARY, basic.as_str(), &STANDARD.encode(CANARY), &STANDARD.encode(format!("a:{CANARY}:b"))];
    assert!(found.iter().all(|found| has_canary(found.as_bytes())), "what is looked for below would be found");
    assert!(seen.try_recv().unwrap().contains(&format!("authorization: Basic {basic}\r\n")), "{said:?}");
    assert!(said[2].contains("******"), "{said:?}");
    // To another origin, in another header, without a value and without the grant, nothing is sent.
    for path in [
        format!("/site/send/authorization/{other}"),
        format!("/site/basic/authorization/{other}"),
        format!("/site/send/x-other/{origin}"),
        format!("/site/basic/x-other/{origin}"),
        format!("/unset/send/authorization/{origin}"),
    ] {
        let answer = up.get(&path).body;
        assert!(answer.contains("HttpRequestDenied"), "{path}: {answer}");
        said.push(answer);
    }
    said.push(up.get("/without/show").body);
    assert_eq!(said.last().unwrap(), "", "no placeholder is seen without the grant");
    // A trap of whoever has just been told it, in a request and in a task; a task that tells all that it sees.
    let trapped = up.get(&format!("/site/trap/authorization/{origin}"));
    assert!(trapped.status >= 500 && seen.try_recv().unwrap().contains(CANARY), "{}", trapped.body);
    said.push(trapped.body);
    let task = |path: &str| {
        let asked = json!({ "intent": "tell", "input": { "text": format!("{path}/authorization/{origin}") } });
        let answer = up.ask("POST", "/v1/tasks?wait=60", &asked.to_string()).unwrap();
        (answer.json()["task_id"].as_str().unwrap().to_owned(), answer)
    };
    let mut tasks = Vec::new();
    for (path, status) in [("/send", "OK"), ("/basic", "OK"), ("/trap", "ERROR")] {
        let (id, answer) = task(path);
        assert_eq!(answer.json()["status"], status, "{}", answer.body);
        assert!(seen.try_recv().is_ok(), "{}", answer.body);
        assert_eq!(answer.body.contains("******"), status == "OK", "{}", answer.body);
        said.extend([
            answer.body,
            up.get(&format!("/v1/tasks/{id}/events")).body,
            up.get(&format!("/v1/tasks/{id}")).body,
        ]);
        tasks.push(id);
    }
    said.push(events(&up, "task.failed"));
    // A new value is used by the host that runs; a removed one is used no more.
    good(up.folder(), "secrets rotate key --json", &format!("{CANARY}-2\n"));
    said.push(up.get(&format!("/site/send/authorization/{origin}")).body);
    assert!(seen.try_recv().unwrap().contains(&format!("{CANARY}-2")), "{said:?}");
    assert_eq!(good(up.folder(), "secrets rotate --operator-key --json", "")["secrets"], 1);
    said.push(up.get(&format!("/site/send/authorization/{origin}")).body);
    assert!(seen.try_recv().unwrap().contains(CANARY), "{said:?}");
    good(up.folder(), "secrets rm key --json", "");
    said.push(up.get(&format!("/site/send/authorization/{origin}")).body);
    assert!(said.last().unwrap().contains("HttpRequestDenied"), "{said:?}");
    assert!(seen.try_recv().is_err() && seen_by_other.try_recv().is_err());
    for path in [
        "/metrics",
        "/v1/host",
        "/v1/components",
        "/v1/tasks",
        "/v1/host/logs?limit=4000",
        "/v1/audit/entries?limit=100",
        "/readyz",
        "/openapi.json",
    ] {
        let answer = up.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        said.push(answer.body);
    }
    let logged = fs::read_to_string(up.folder().join("errors.log")).unwrap();
    assert!(logged.contains("request refused") && logged.contains("[secrets.key]"), "a refusal says what to do");
    assert!(
        logged.contains("told to trap with [redacted:credential]"),
        "what stands in for a secret is masked too: {logged}"
    );
    up.signal("TERM");
    assert!(up.ended().success());
    let spans = format!("{:?}", collector.spans());
    assert!(spans.contains("task.run") && spans.contains("component.call"), "{spans}");
    said.extend([spans, up.said()]);
    // Each request that went out or was to go is an entry, with who sent it where, and in which trace.
    let egress = good(up.folder(), "audit show --kind egress --last 1000 --json", "");
    for to in [origin, other] {
        let of = |shown: &&Value| shown["entry"]["resource"].as_str().unwrap().contains(&to.to_string());
        let first = &egress.as_array().unwrap().iter().find(of).unwrap()["entry"];
        assert_eq!((&first["action"], &first["decision"]), (&"http-send".into(), &"allow".into()), "{first}");
        assert_eq!((&first["component"], &first["tenant"]), (&"site".into(), &"local".into()), "{first}");
        assert_eq!(first["trace_id"].as_str().unwrap().len(), 32, "{first}");
    }
    // Its entries are sealed, so that it is not enough to look for the secret in its files.
    let written = good(up.folder(), "audit show --last 1000 --json", "").to_string();
    for action in ["secret-use", "secret-set", "secret-rotated", "secrets-key-rotated", "secret-removed"] {
        assert!(written.contains(action), "no `{action}` in {written}");
    }
    said.push(written);
    for (number, id) in tasks.iter().enumerate() {
        let exported = witan(up.folder(), &format!("audit export --task {id} --out task-{number}.jsonl"), "");
        assert!(exported.status.success(), "{}", String::from_utf8_lossy(&exported.stderr));
    }
    for said in said {
        assert!(!has_canary(said.as_bytes()), "{said}");
    }
    assert!(up.folder().join("host.jsonl").exists() && up.folder().join("task-2.jsonl").exists());
    assert_eq!(with_canary(up.folder()), [""; 0]);
}

/// A server that answers as Vault does, with `value` in the field `value`.
fn vault(value: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
                head.extend_from_slice(&byte);
            }
            let body = json!({ "data": { "data": { "value": value } } }).to_string();
            let answer =
                format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
            let _gone = stream.write_all(answer.as_bytes());
        }
    });
    address
}

/// Values that look like nothing in particular, from everywhere that values come from: each is masked from its first use on,
/// and the one before it stays masked.
#[test]
fn a_value_is_masked_from_its_first_use_on_wherever_it_came_from() {
    let values = [
        ("key", "plainly_rotated_once"),
        ("file", "plainly_from_a_file"),
        ("environment", "plainly_from_the_environment"),
        ("command", "plainly_from_a_command"),
        ("vault", "plainly_from_a_vault"),
    ];
    let ((origin, seen), (other, _)) = (echo(), echo());
    let folder = tempfile::tempdir().unwrap();
    let sources = [
        ("key", String::new()),
        ("file", "file = \"value\"".to_owned()),
        ("environment", "environment = \"WITAN_TEST_VALUE\"".to_owned()),
        ("command", format!("command = [\"echo\", \"{}\"]", values[3].1)),
        ("vault", "vault = \"secret/data/one\"\nfield = \"value\"".to_owned()),
    ];
    let mut system = format!(
        "schema = 1\n[host.secrets.vault]\naddress = \"http://{}\"\ntoken-file = \"vault.token\"\n",
        vault(values[4].1)
    );
    for (name, source) in sources {
        system += &format!("[secrets.{name}]\norigins = [\"http://{origin}\"]\n{source}\n");
        system += &component(name, &format!("[{{ secret = \"{name}\", config = \"key\" }}]"), origin, other);
    }
    fs::write(folder.path().join("system.toml"), system).unwrap();
    fs::write(folder.path().join("site.wasm"), built("secret")).unwrap();
    fs::write(folder.path().join("value"), values[1].1).unwrap();
    fs::write(folder.path().join("vault.token"), "token-of-vault").unwrap();
    // Whoever starts the host gives it the variable.
    let started = folder.path().join("start.sh");
    let script = format!("#!/bin/sh\nexport WITAN_TEST_VALUE={}\nexec {WITAN} \"$@\"\n", values[2].1);
    fs::write(&started, script).unwrap();
    fs::set_permissions(&started, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    good(folder.path(), "secrets set key --json", "plainly_as_it_was_loaded");
    let up = Up::of(&started, folder.path());
    good(up.folder(), "secrets rotate key --json", values[0].1);

    // What is changed of a host is written down as somebody said it.
    let tell = |value: &str| good(up.folder(), &format!("logs level info,{value}=debug --json"), "");
    let shown = || good(up.folder(), "audit show --last 1000 --json", "").to_string();
    for (name, value) in values {
        let said = up.get(&format!("/{name}/send/authorization/{origin}")).body;
        assert!(seen.try_recv().is_ok_and(|seen| seen.contains(value)), "{name}: {said}");
    }
    for value in values.map(|(_, value)| value).into_iter().chain(["plainly_as_it_was_loaded"]) {
        tell(value);
        let shown = shown();
        assert!(!shown.contains(value), "{value} in {shown}");
    }
    tell("plainly_nothing");
    let shown = shown();
    assert_eq!(shown.matches("info,[redacted:secret]=debug").count(), 6, "{shown}");
    assert!(shown.contains("info,plainly_nothing=debug"), "what is no secret is written: {shown}");
}

#[test]
fn what_is_kept_is_listed_and_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("system.toml"), "schema = 1\n").unwrap();
    good(folder.path(), "secrets set key --json", CANARY);
    good(folder.path(), "secrets set key --tenant acme --json", &format!("{CANARY}\n"));
    let listed = good(folder.path(), "secrets list --json", "");
    assert_eq!((&listed[0]["tenant"], &listed[1]["tenant"]), (&"acme".into(), &"local".into()));
    assert!(!listed.to_string().contains(CANARY) && with_canary(folder.path()).is_empty());
    let words = witan(folder.path(), "secrets set other", CANARY);
    assert!(String::from_utf8_lossy(&words.stderr).contains("add [secrets.other]"));
    // Refusals say what to do, and take nothing from the command line.
    assert!(refused(folder.path(), "secrets rotate none", CANARY).contains("witan secrets set none"));
    assert!(refused(folder.path(), "secrets rm none", "").contains("witan secrets list"));
    assert!(refused(folder.path(), "secrets set short", "short").contains("fewer than 8"));
    assert!(refused(folder.path(), "secrets set long", &"a".repeat(9000)).contains("more than 8192"));
    assert!(refused(folder.path(), "secrets set lines", "two-lines\nof-it").contains("visible ASCII"));
    assert_eq!(witan(folder.path(), &format!("secrets set key {CANARY}"), "").status.code(), Some(2));
    fs::write(folder.path().join(".witan/secrets.json"), "{}").unwrap();
    assert!(refused(folder.path(), "secrets list", "").contains("restore it from a backup"));
}

#[test]
fn a_host_leaves_no_image_of_its_memory_unless_it_is_asked_to() {
    let start = |settings: &str| {
        let folder = tempfile::tempdir().unwrap();
        let text =
            format!("schema = 1\n{settings}\n[components.site]\nsource = \"site.wasm\"\nallow-unsigned = true\n");
        fs::write(folder.path().join("system.toml"), text).unwrap();
        fs::write(folder.path().join("site.wasm"), built("hello-p3")).unwrap();
        let up = Up::serve(folder, &[]);
        let limits = fs::read_to_string(format!("/proc/{}/limits", up.pid())).unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap().to_owned();
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        (words[4].clone(), words[5].clone())
    };
    assert_eq!(start("").0, "0");
    let (soft, hard) = start("[host]\ncore-dumps = true");
    assert_eq!(soft, hard);
}
