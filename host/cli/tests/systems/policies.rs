//! Request policy of a host that runs, by the binary: loaded again, put back, shadowed, asked, counted and told of.

use std::{fs, path::Path, process::Command};

use serde_json::{Value, json};

use crate::{
    WITAN,
    up::{Answer, Up, ask, built},
};

const SYSTEM: &str = "schema = 1\n[host.policy]\nfolder = \"rules\"\n[components.site]\nsource = \"site.wasm\"\n\
                      allow-unsigned = true\n[[mounts]]\npath = \"/site\"\ncomponent = \"site\"\n";
const ALL: &str = "@id(\"all\") permit (principal, action, resource);";
const NO_MOUNTS: &str =
    "@id(\"no-mounts\") @reason(\"not here\") forbid (principal, action == Action::\"mount.call\", resource);";

fn witan(folder: &Path, line: &str) -> Result<Value, String> {
    let output = Command::new(WITAN).args(line.split(' ')).arg("--json").current_dir(folder).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    match output.status.success() {
        true => Ok(serde_json::from_str(&text).unwrap_or_default()),
        false => Err(text + &String::from_utf8(output.stderr).unwrap()),
    }
}

#[test]
fn policies_decide_and_are_changed_while_the_host_runs() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("system.toml"), SYSTEM).unwrap();
    fs::write(folder.path().join("site.wasm"), built("hello-p3")).unwrap();
    fs::create_dir(folder.path().join("rules")).unwrap();
    let rules = folder.path().join("rules/all.cedar");
    fs::write(&rules, ALL).unwrap();
    let mut up = Up::serve(folder, &[]);
    let at = up.folder().to_owned();
    assert_eq!(up.get("/site").status, 200);

    let explain = "policy explain --principal local:local/local --action mount.call --resource mount:/site";
    let next = at.join("next");
    fs::create_dir(&next).unwrap();
    fs::write(next.join("next.cedar"), format!("{ALL}{NO_MOUNTS}")).unwrap();
    witan(&at, "policy shadow next").unwrap();
    assert_eq!(up.get("/site").status, 200, "a candidate decides nothing");
    let shadow = witan(&at, "policy shadow").unwrap();
    assert_eq!(shadow["shadow"]["differences"][0]["would_by"], json!(["no-mounts"]), "{shadow}");
    assert_eq!(witan(&at, explain).unwrap()["allow"], true);

    fs::write(&rules, format!("{ALL}\n{NO_MOUNTS}")).unwrap();
    assert_eq!(witan(&at, "policy reload").unwrap()["version"], 2);
    let refused = up.get("/site");
    assert_eq!((refused.status, refused.json()["error"]["code"].as_str()), (403, Some("denied")));
    // Entries reach the disk a moment later.
    let denied = "/v1/audit/entries?decision=deny&kind=decision";
    up.until(denied, |entries| entries.contains("mount.call") && entries.contains("no-mounts"));
    let changes = up.get("/v1/audit/entries?kind=administration").body;
    assert!(changes.contains("policies-shadow-begin") && changes.contains("policies-reload"), "{changes}");
    let explained = witan(&at, explain).unwrap();
    assert_eq!((&explained["allow"], &explained["determining"][0]["id"]), (&json!(false), &json!("no-mounts")));
    fs::write(at.join("cases.toml"), "[[case]]\nname = \"no mounts\"\naction = \"mount.call\"\n\
        principal = { kind = \"local\", name = \"local\" }\nresource = { kind = \"mount\", id = \"/site\" }\nexpect = \"deny\"\n\
        by = [\"no-mounts\"]\n").unwrap();
    assert!(witan(&at, "policy test cases.toml").is_ok());
    // What is at fault changes nothing.
    fs::write(&rules, "permit (principal").unwrap();
    assert!(witan(&at, "policy reload").unwrap_err().contains("all.cedar"));
    assert_eq!(up.get("/site").status, 403);
    let metrics = up.get("/metrics").body;
    assert!(metrics.contains("witan_policy_decisions_total{outcome=\"deny\"} 2"), "{metrics}");
    assert!(metrics.contains("witan_policy_evaluation_seconds_count"), "{metrics}");
    // The one that was allowed under the candidate, and the two that are denied to both.
    assert!(metrics.contains("witan_policy_shadow_differences_total{would=\"deny\"} 1"), "{metrics}");
    assert!(metrics.contains("witan_policy_shadow_differences_total{would=\"allow\"} 0"), "{metrics}");
    let mut stream = up.begin("GET", "/v1/events?types=policy.reloaded&starting_after=0", 0).unwrap();
    let mut told = String::new();
    while !told.contains("policy.reloaded") {
        let mut bytes = [0; 1024];
        let read = std::io::Read::read(&mut stream, &mut bytes).unwrap();
        assert!(read > 0, "{told}");
        told += &String::from_utf8_lossy(&bytes[..read]);
    }

    assert_eq!(witan(&at, "policy rollback").unwrap()["version"], 1);
    assert_eq!(up.get("/site").status, 200);
    // It stays, although the files are at fault.
    up.kill();
    let up = Up::on(&at, &[]);
    assert_eq!(up.get("/site").status, 200);
    let versions = witan(&at, "policy list").unwrap();
    assert_eq!((&versions[1]["version"], &versions[1]["pinned"]), (&json!(1), &json!(true)), "{versions}");
}

#[test]
fn what_a_component_sends_is_decided_by_whose_request_it_serves() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _read = std::io::Read::read(&mut stream, &mut [0; 4096]);
            let _gone = std::io::Write::write_all(&mut stream, b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nsent");
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let grants = format!(
        "[components.site.grants]\nhttp = [{{ scheme = \"http\", host = \"127.0.0.1\", port = {}, private = true }}]\n\
         config = {{ key = \"value\" }}\nlogging = {{}}\n[[mounts]]",
        to.port()
    );
    fs::write(folder.path().join("system.toml"), SYSTEM.replace("[[mounts]]", &grants)).unwrap();
    fs::write(folder.path().join("site.wasm"), built("secret")).unwrap();
    fs::create_dir(folder.path().join("rules")).unwrap();
    let rules = |condition: &str| {
        let rule = format!("forbid (principal, action == Action::\"http.send\", resource) when {{ {condition} }};");
        fs::write(folder.path().join("rules/all.cedar"), format!("{ALL}\n@id(\"away\") {rule}")).unwrap();
    };
    rules("context has source && context.source.isInRange(ip(\"192.0.2.0/24\"))");
    let up = Up::on(folder.path(), &[]);
    let path = format!("/site/send/authorization/{to}");
    assert!(up.get(&path).body.contains("sent"), "{}", up.get(&path).body);
    rules("context has source && context.source.isLoopback()");
    witan(folder.path(), "policy reload").unwrap();
    let refused = up.get(&path).body;
    assert!(refused.contains("HttpRequestDenied"), "{refused}");
    up.until("/v1/audit/entries?decision=deny&kind=egress", |entries| entries.contains("http.send"));
}

#[test]
fn a_host_does_not_start_with_policies_at_fault() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("system.toml"), SYSTEM).unwrap();
    fs::write(folder.path().join("site.wasm"), built("hello-p3")).unwrap();
    fs::create_dir(folder.path().join("rules")).unwrap();
    fs::write(folder.path().join("rules/a.cedar"), "permit (principal, action, resource) when { principal.nose };")
        .unwrap();
    let refused = witan(folder.path(), "up --listen 127.0.0.1:0").unwrap_err();
    assert!(refused.contains("a.cedar") && refused.contains("nose"), "{refused}");
}

#[test]
fn the_host_is_stopped_by_its_token_and_by_whom_policy_lets() {
    let folder = tempfile::tempdir().unwrap();
    let site = "[components.site]\nsource = \"site.wasm\"\nallow-unsigned = true\n";
    fs::write(folder.path().join("system.toml"), format!("schema = 1\n[host.auth]\n{site}")).unwrap();
    fs::write(folder.path().join("site.wasm"), built("hello-p3")).unwrap();
    witan(folder.path(), "auth tenant create acme").unwrap();
    let key = |of: &str| {
        let made = witan(folder.path(), &format!("auth key create {of} --trust privileged --scope *")).unwrap();
        (format!("key/{}", made["id"].as_str().unwrap()), made["secret"].as_str().unwrap().to_owned())
    };
    let (operator, user) = (key("ops --role operator"), key("ann --tenant acme --role user"));
    let viewer = key("eve --role viewer");
    let mut up = Up::on(folder.path(), &[]);
    let post = |(_, secret): &(String, String), path: &str, body: &str| -> Answer {
        ask(up.address(), "POST", path, &format!("authorization: Bearer {secret}\r\n"), body).unwrap()
    };
    let level = |filter: &str| json!({ "filter": filter }).to_string();
    for who in [&user, &viewer] {
        for (path, body) in [("/v1/host/stop", "{}".to_owned()), ("/v1/logs/level", level("trace"))] {
            let refused = post(who, path, &body);
            let error = &refused.json()["error"];
            assert_eq!((refused.status, error["code"].as_str()), (403, Some("denied")), "{}", refused.body);
            assert!(error["decision"].is_string() && error["message"].as_str().unwrap().contains("system.admin"));
        }
    }
    assert_eq!(ask(up.address(), "POST", "/v1/host/stop", "", "{}").unwrap().status, 401);
    assert_eq!(post(&operator, "/v1/logs/level", &level("debug")).json()["filter"], "debug");
    let running: Value = serde_json::from_slice(&fs::read(up.folder().join(".witan/host.json")).unwrap()).unwrap();
    let token = (String::new(), running["token"].as_str().unwrap().to_owned());
    assert_eq!(post(&token, "/v1/logs/level", &level("info")).status, 200);
    assert_eq!(post(&operator, "/v1/host/stop", "{}").status, 202);
    assert!(up.ended().success());
    let written = witan(folder.path(), "audit show --kind administration --last 100").unwrap();
    let by = |action: &str| -> Vec<String> {
        let of = |shown: &&Value| shown["entry"]["action"] == action;
        let entries = written.as_array().unwrap().iter().filter(of);
        entries.map(|shown| shown["entry"]["principal"].as_str().unwrap().to_owned()).collect()
    };
    let mut levels = by("log-level");
    levels.sort();
    let mut expected = [operator.0.clone(), "local".to_owned()];
    expected.sort();
    assert_eq!((levels, by("host-stop-asked")), (expected.to_vec(), vec![operator.0]), "{written}");
    // The commands beside it show its token.
    let mut up = Up::on(folder.path(), &[]);
    witan(folder.path(), "stop").unwrap();
    assert!(up.ended().success());
}
