//! Request policy of a host that runs, by the binary: loaded again, put back, shadowed, asked, counted and told of.

use std::{fs, path::Path, process::Command};

use serde_json::{Value, json};

use crate::{
    WITAN,
    up::{Up, built},
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
