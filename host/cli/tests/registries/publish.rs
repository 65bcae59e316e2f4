//! A registry served, published to, searched, yanked in, fetched from, and ended.

use std::{fs, os::unix::fs::PermissionsExt as _};

use serde_json::Value;

use crate::{Home, LOCK, SUMS, Said, Served};

fn publisher(served: &Served) -> Home {
    let home = Home::new();
    home.key("release");
    home.component("sums.wasm", SUMS);
    home.file("Cargo.lock", LOCK);
    served.login(&home, "acme:pull,push");
    home
}

fn publish(home: &Home, served: &Served, version: &str, more: &[&str]) -> Said {
    let package = format!("acme:sums@{version}");
    let base = ["publish", "sums.wasm", "--package", &package, "--registry", &served.host];
    home.run(&[&base[..], &["--key", "release", "--lock", "Cargo.lock", "--json"], more].concat())
}

#[test]
fn a_component_is_published_found_yanked_and_fetched() {
    let operator = Home::new();
    let served = Served::start(&operator);
    let home = publisher(&served);
    let registry = ["--registry", served.host.as_str(), "--json"];
    let run = |arguments: &[&str]| home.run(&[arguments, &registry[..]].concat());

    let tried = publish(&home, &served, "1.0.0", &["--dry-run"]).well().json();
    assert_eq!(tried["published"], false);
    assert_eq!(run(&["search"]).well().json(), Value::from(Vec::<Value>::new()));
    let published = publish(&home, &served, "1.0.0", &[]).well().json();
    assert_eq!((&published["published"], &published["digest"]), (&Value::from(true), &tried["digest"]));
    home.component("sums.wasm", &SUMS.replace("i32.add", "i32.sub"));
    publish(&home, &served, "1.1.0", &[]).well();
    let found = run(&["search", "sums"]).well().json();
    assert_eq!((&found[0]["name"], &found[0]["versions"]), (&Value::from("acme:sums"), &Value::from(2)));

    let fetched = |package: &str| run(&["pull", package]).well().json();
    assert_eq!(fetched("acme:sums")["package"], "acme:sums@1.1.0");
    run(&["yank", "acme:sums@1.1.0", "--reason", "adds wrongly"]).well();
    let newest = fetched("acme:sums");
    assert_eq!((&newest["package"], &newest["digest"]), (&Value::from("acme:sums@1.0.0"), &published["digest"]));
    assert_eq!(newest["signatures"], 3);
    let yanked = run(&["pull", "acme:sums@1.1.0"]).well();
    assert!(yanked.err.contains("adds wrongly"), "{}", yanked.err);
    run(&["yank", "acme:sums@1.1.0", "--undo"]).well();
    assert_eq!(fetched("acme:sums")["package"], "acme:sums@1.1.0");

    // What is not verified does not leave the store.
    run(&["pull", "acme:sums@1.0.0", "--out", "out.wasm"]);
    assert!(!home.path("out.wasm").exists());
    assert!(home.path(".local/share/witan/components/packages/acme/sums/1.0.0").is_dir());
    run(&["pull", "acme:other"]).badly_in_json("acme/other");
    assert!(served.stop());
}

#[test]
fn a_version_is_published_once() {
    let operator = Home::new();
    let served = Served::start(&operator);
    let home = publisher(&served);
    publish(&home, &served, "1.0.0", &[]).well();
    // Again is nothing new, and by another key one signature more of each statement.
    let signatures = || {
        let _none = fs::remove_dir_all(home.path("store"));
        let pull = ["pull", "acme:sums@1.0.0", "--registry", &served.host, "--store", "store", "--json"];
        let pulled = home.run(&pull).well();
        pulled.json()["signatures"].as_u64().unwrap()
    };
    publish(&home, &served, "1.0.0", &[]).well();
    assert_eq!(signatures(), 3);
    home.key("second");
    let by_second = ["publish", "sums.wasm", "--package", "acme:sums@1.0.0", "--registry", &served.host];
    home.run(&[&by_second[..], &["--key", "second", "--lock", "Cargo.lock"]].concat()).well();
    assert_eq!(signatures(), 6);
    home.component("sums.wasm", &SUMS.replace("i32.add", "i32.sub"));
    publish(&home, &served, "1.0.0", &[]).badly_in_json("publish this as a new version");
    publish(&home, &served, "1.0.1", &[]).well();
    assert!(served.stop());
}

#[test]
fn only_who_may_publishes_and_only_as_long() {
    let operator = Home::new();
    let served = Served::start(&operator);
    let home = publisher(&served);
    publish(&home, &served, "1.0.0", &[]).well();
    let nobody = Home::new();
    nobody.run(&["search", "--registry", &served.host]).badly(&["WITAN_REGISTRY_TOKEN"]);
    let id = served.login(&home, "acme:pull,push");
    let data = served.data().to_str().unwrap();
    let listed = operator.run(&["registry", "token", "list", "--data", data, "--json"]).well();
    assert!(listed.out.contains(&id) && !listed.out.contains("witan_"), "{}", listed.out);
    operator.run(&["registry", "token", "revoke", &id, "--data", data]).well();
    operator.run(&["registry", "token", "revoke", &id, "--data", data]).badly(&["token list"]);
    publish(&home, &served, "1.1.0", &[]).badly_in_json("token");
    served.login(&home, "other:pull,push");
    publish(&home, &served, "1.1.0", &[]).badly_in_json("acme");
    // A namespace that may hold next to nothing takes nothing.
    served.login(&home, "acme:pull,push");
    operator.run(&["registry", "quota", "acme", "1KiB", "--data", data]).well();
    publish(&home, &served, "1.1.0", &[]).badly_in_json("may hold 1024 bytes");
    operator.run(&["registry", "quota", "acme", "--data", data]).well();
    publish(&home, &served, "1.1.0", &[]).well();
    // What is served is not collected by somebody else.
    operator.run(&["registry", "gc", "--data", data]).badly(&["another process"]);
    let data = served.data().to_owned();
    assert!(served.stop());
    let removed = operator.run(&["registry", "gc", "--data", data.to_str().unwrap(), "--json"]).well().json();
    assert_eq!(removed["manifests"], 0);
}

#[test]
fn a_log_is_trusted_once() {
    let operator = Home::new();
    let served = Served::start(&operator);
    let home = publisher(&served);
    let trust = ["registry", "trust", &served.host, "--out", "trusted_root.json"];
    let said = home.run(&[&trust[..], &["--json"]].concat()).well().json();
    let root: Value = serde_json::from_slice(&fs::read(home.path("trusted_root.json")).unwrap()).unwrap();
    assert_eq!(root["tlogs"][0]["baseUrl"], format!("https://{}", served.host));
    assert!(said["log"].as_str().unwrap().starts_with(&format!("{} - ", served.host)));
    home.run(&trust).badly(&["trusted_root.json", "there already"]);
}

#[test]
fn a_token_lies_in_a_file_that_others_cannot_read() {
    let operator = Home::new();
    let served = Served::start(&operator);
    let home = publisher(&served);
    let file = home.path(".config/witan/registries.toml");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    home.run(&["search", "--registry", &served.host]).well();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    home.run(&["search", "--registry", &served.host]).badly(&["registries.toml", "0600"]);
    // What is damaged is said without the token in it.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&file, "[registries.\"r.example\"]\ntoken = \"witan_secret\" x\n").unwrap();
    let said = home.run(&["search", "--registry", &served.host]).badly(&["line 2"]);
    assert!(!said.err.contains("witan_secret"), "{}", said.err);
    // The variable holds before the file, and for the registry that is asked alone.
    fs::remove_file(&file).unwrap();
    let (_, secret) = served.token(&operator, "acme:pull");
    let mut command = home.command(&["search", "--registry", &served.host]);
    assert!(command.env("WITAN_REGISTRY_TOKEN", secret).output().unwrap().status.success());
}
