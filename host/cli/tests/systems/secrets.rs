//! Secrets by the binary: kept, used, refused, and found nowhere.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Command, Output, Stdio},
    thread,
};

use serde_json::Value;

use crate::{
    WITAN,
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

/// A server that answers with all that it is sent, in a header and in the body, and has seen the secret or not.
fn echo() -> (SocketAddr, std::sync::mpsc::Receiver<bool>) {
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
            let _ended = seen.send(head.contains(CANARY));
            let line = head.lines().find(|line| line.contains("Bearer")).unwrap_or_default().to_owned();
            let answer = format!("HTTP/1.1 200 OK\r\nx-echo: {line}\r\ncontent-length: {}\r\n\r\n{head}", head.len());
            let _gone = stream.write_all(answer.as_bytes());
        }
    });
    (address, receive)
}

fn system(origin: SocketAddr, other: SocketAddr) -> String {
    format!(
        "schema = 1\n[secrets.key]\norigins = [\"http://{origin}\"]\n[secrets.gone]\norigins = [\"http://{origin}\"]\n\
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
         http = [{}, {}]\nsecrets = {secrets}\n[[mounts]]\npath = \"/{name}\"\ncomponent = \"{name}\"\n",
        http(origin),
        http(other)
    )
}

/// All files below `folder` that have the secret in them.
fn with_canary(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(with_canary(&path));
        } else if fs::read(&path).unwrap_or_default().windows(CANARY.len()).any(|part| part == CANARY.as_bytes()) {
            found.push(path.display().to_string());
        }
    }
    found
}

#[test]
fn a_secret_is_used_where_it_may_be_and_found_nowhere() {
    let (origin, seen) = echo();
    let (other, seen_by_other) = echo();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("system.toml"), system(origin, other)).unwrap();
    fs::write(folder.path().join("site.wasm"), built("secret")).unwrap();
    assert_eq!(good(folder.path(), "secrets set key --json", CANARY)["version"], 1);
    let errors = fs::File::create(folder.path().join("errors.log")).unwrap();
    let up = Up::serve_logged(folder, &["--log", "trace", "--log-calls", "all", "--log-format", "json"], errors);
    let mut said = vec![up.get("/site/show").body];
    assert!(said[0].starts_with("witan-secret-"), "{}", said[0]);

    // Where it may go, it arrives, and what comes back is covered.
    said.push(up.get(&format!("/site/send/authorization/{origin}")).body);
    assert_eq!(seen.try_recv(), Ok(true), "{said:?}");
    assert!(said[1].contains(&"*".repeat(CANARY.len())), "{said:?}");
    // To another origin, in another header, without a value and without the grant, nothing is sent.
    for path in [
        format!("/site/send/authorization/{other}"),
        format!("/site/send/x-other/{origin}"),
        format!("/unset/send/authorization/{origin}"),
    ] {
        let answer = up.get(&path).body;
        assert!(answer.contains("HttpRequestDenied"), "{path}: {answer}");
        said.push(answer);
    }
    said.push(up.get("/without/show").body);
    assert_eq!(said.last().unwrap(), "", "no placeholder is seen without the grant");
    // A new value is used by the host that runs; a removed one is used no more.
    good(up.folder(), "secrets rotate key --json", &format!("{CANARY}-2\n"));
    said.push(up.get(&format!("/site/send/authorization/{origin}")).body);
    assert_eq!(seen.try_recv(), Ok(true), "{said:?}");
    assert_eq!(good(up.folder(), "secrets rotate --operator-key --json", "")["secrets"], 1);
    said.push(up.get(&format!("/site/send/authorization/{origin}")).body);
    assert_eq!(seen.try_recv(), Ok(true), "{said:?}");
    good(up.folder(), "secrets rm key --json", "");
    said.push(up.get(&format!("/site/send/authorization/{origin}")).body);
    assert!(said.last().unwrap().contains("HttpRequestDenied"), "{said:?}");
    assert!(seen.try_recv().is_err() && seen_by_other.try_recv().is_err());
    for path in ["/metrics", "/v1/host", "/v1/components", "/v1/tasks", "/v1/host/logs?limit=1000", "/openapi.json"] {
        said.push(up.get(path).body);
    }
    let logged = fs::read_to_string(up.folder().join("errors.log")).unwrap();
    assert!(logged.contains("request refused") && logged.contains("[secrets.key]"), "a refusal says what to do");
    assert!(said.iter().all(|text| !text.contains(CANARY)));
    up.signal("TERM");
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
    assert!(!written.contains(CANARY), "{written}");
    assert_eq!(with_canary(up.folder()), [""; 0]);
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
