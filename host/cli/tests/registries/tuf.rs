//! A registry that is held to its TUF metadata: by its operators, by a host, and against whoever stands between them.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    Home, Said, Served,
    world::{Up, World},
};

/// Signs as the operators of the registry in `data` do.
fn sign(home: &Home, data: &Path, more: &[&str]) -> Said {
    let base = ["registry", "metadata", "sign", "--data", data.to_str().unwrap(), "--json"];
    home.run(&[&base[..], more].concat())
}

/// A world whose registry has metadata, and whose operator pins their root and nothing else.
fn held() -> World {
    let world = World::new();
    world.home.key("ops");
    sign(&world.home, world.served.data(), &["--key", "ops"]).well();
    serves(&world, "timestamp.json");
    world.home.run(&["registry", "trust", &world.served.host, "--tuf", "--out", "root.json"]).well();
    pin(&world);
    world
}

/// Has the operator pin `root.json` in the place of `trusted_root.json`.
fn pin(world: &World) {
    fs::remove_file(world.home.path("trusted_root.json")).unwrap();
    let system = world.home.path("system.toml");
    let pin = format!("tuf = {{ \"{}\" = \"root.json\" }}", world.served.host);
    let text = fs::read_to_string(&system).unwrap().replace("root = \"trusted_root.json\"", &pin);
    fs::write(&system, text).unwrap();
}

/// Waits until the registry has signed a file.
fn serves(world: &World, name: &str) -> PathBuf {
    let path = world.served.data().join("tuf").join(name);
    eventually(|| path.exists().then_some(()));
    path
}

fn eventually<T>(look: impl Fn() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "it did not come");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn yank(world: &World, more: &[&str]) {
    let base = ["yank", "acme:sums@1.0.0", "--registry", &world.served.host];
    world.home.run(&[&base[..], more].concat()).well();
}

fn yanked(home: &Home) -> Value {
    home.run(&["trust", "refresh", "--json"]).well().json()["yanked"].clone()
}

#[test]
fn a_pinned_root_is_all_that_a_host_needs() {
    let world = held();
    assert_eq!(world.call(&[]).well().out.trim(), "8");
    assert_eq!(yanked(&world.home), Value::Array(Vec::new()));
    yank(&world, &["--reason", "adds wrongly"]);
    assert_eq!(yanked(&world.home)[0]["reason"], "adds wrongly");
    yank(&world, &["--undo"]);
    assert_eq!(yanked(&world.home), Value::Array(Vec::new()));
    let shown = world.home.run(&["trust", "show", "--json"]).well().json();
    assert_eq!(shown["tuf"][&world.served.host], "they hold");
    // What was kept is enough, for as long as it holds.
    let World { served, home } = world;
    assert!(served.stop());
    home.run(&["call", "sums", "acme:sums/add@1.0.0#add", "5", "3", "--locked"]).well();
    home.run(&["trust", "refresh"]).badly(&["cannot reach"]);
    // And no longer than the operator of the host says.
    let system = home.path("system.toml");
    let text = fs::read_to_string(&system).unwrap();
    fs::write(&system, text.replace("refresh = \"200ms\"", "refresh = \"200ms\"\nmax-age = \"1s\"")).unwrap();
    let said = eventually(|| {
        let said = home.run(&["call", "sums", "acme:sums/add@1.0.0#add", "5", "3"]);
        (!said.success).then_some(said)
    });
    said.badly(&["cannot reach", "the trusted root"]);
}

#[test]
fn a_yank_reaches_a_host_that_runs_and_one_that_upgrades() {
    let world = held();
    let up = Up::start(&world.home);
    yank(&world, &["--reason", "adds wrongly"]);
    assert!(up.warned().contains("takes no more calls"));
    let held = world.home.run(&["quarantine", "show", "sums", "--json"]).well().json();
    assert_eq!((&held[0]["cause"], &held[0]["reason"]), (&Value::from("yanked"), &Value::from("adds wrongly")));
    world.publish("1.1.0", "i32.sub", &[]);
    let offered = || world.home.run(&["upgrade", "--dry-run", "--json"]).well().json();
    assert_eq!(offered()[0]["to"], "acme:sums@1.1.0");
    let newer = ["yank", "acme:sums@1.1.0", "--reason", "too", "--registry", &world.served.host];
    world.home.run(&newer).well();
    assert_eq!(offered(), Value::Array(Vec::new()));
}

#[test]
fn a_registry_that_serves_what_it_served_before_is_refused() {
    let world = held();
    world.call(&[]).well();
    let timestamp = serves(&world, "timestamp.json");
    let before = fs::read(&timestamp).unwrap();
    yank(&world, &["--reason", "adds wrongly"]);
    yanked(&world.home);
    let after = fs::read(&timestamp).unwrap();
    fs::write(&timestamp, before).unwrap();
    let host = &world.served.host;
    let parts = [&format!("the TUF metadata of `{host}` do not hold"), "somebody serves old metadata", "ask the"];
    world.home.run(&["trust", "refresh"]).badly(&parts);
    fs::write(&timestamp, after).unwrap();
    assert_eq!(yanked(&world.home)[0]["reason"], "adds wrongly");
}

#[test]
fn metadata_that_nobody_signs_anew_end() {
    let world = World::new();
    world.home.key("ops");
    sign(&world.home, world.served.data(), &["--key", "ops"]).well();
    serves(&world, "timestamp.json");
    world.home.run(&["registry", "trust", &world.served.host, "--tuf", "--out", "root.json"]).well();
    pin(&world);
    world.call(&[]).well();
    // The same registry, with metadata that hold for seconds, and then somebody who serves them for ever.
    let World { served, home } = world;
    let (data, host) = (served.data().to_owned(), served.host.clone());
    assert!(served.stop());
    let settings = format!("listen = \"{host}\"\n[limits]\nmetadata-lifetime = \"4s\"\n");
    let settings = home.file("registry.toml", settings);
    let timestamp = data.join("tuf/timestamp.json");
    let before = fs::read(&timestamp).unwrap();
    let served = Served::start_with(&home, &["--settings", settings.to_str().unwrap()]);
    eventually(|| (fs::read(&timestamp).unwrap() != before).then_some(()));
    // What it signs at any moment is believed.
    eventually(|| home.run(&["trust", "refresh"]).success.then_some(()));
    assert!(served.stop());
    let call = ["call", "sums", "acme:sums/add@1.0.0#add", "5", "3"];
    let said = eventually(|| {
        let said = home.run(&call);
        (!said.success).then_some(said)
    });
    said.badly(&["do not hold", "the timestamp expired at", "witan trust refresh"]);
    let decisions = home.ledger().1;
    assert!(decisions.contains("the timestamp expired at"), "{decisions}");
    // The registry is back, and signs them anew.
    let _served = Served::start_with(&home, &["--listen", &host]);
    eventually(|| home.run(&call).success.then_some(()));
}

#[test]
fn operators_replace_a_key_and_the_thief_of_the_old_one_gains_nothing() {
    let world = held();
    world.call(&[]).well();
    world.home.key("new");
    let data = world.served.data();
    sign(&world.home, data, &["--key", "new", "--drop", "ops"]).badly_in_json("nothing that these keys signed");
    let signed = sign(&world.home, data, &["--key", "new", "--key", "ops", "--drop", "ops"]).well().json();
    assert_eq!((&signed["root_version"], &signed["keys"].as_array().unwrap().len()), (&Value::from(2), &1));
    eventually(|| world.home.run(&["trust", "refresh"]).success.then_some(()));
    world.call(&[]).well();
    sign(&world.home, data, &["--key", "ops", "--drop", "new"]).badly_in_json("signatures that count");
    // Nothing new is to be said by another root, so that there is none.
    let signed = sign(&world.home, data, &["--key", "new"]).well().json();
    assert_eq!((&signed["root_version"], &signed["root_is_new"]), (&Value::from(2), &Value::from(false)));
    world.home.run(&["trust", "refresh"]).well();
}

#[test]
fn a_threshold_of_operators_signs() {
    let home = Home::new();
    let served = Served::start(&home);
    ["a", "b", "c"].iter().for_each(|name| home.key(name));
    let data = served.data();
    sign(&home, data, &["--key", "a", "--threshold", "2"]).badly_in_json("2 of 1 keys can never sign");
    let all = ["--key", "a", "--key", "b", "--key", "c", "--threshold", "2"];
    assert_eq!(sign(&home, data, &all).well().json()["threshold"], 2);
    sign(&home, data, &["--key", "b"]).badly_in_json("needs 2");
    sign(&home, data, &["--key", "b", "--key", "c"]).well();
    let nowhere = home.path("nowhere");
    sign(&home, &nowhere, &["--key", "a"]).badly_in_json("serve the registry once");
}

#[test]
fn a_pin_that_names_no_registry_is_no_pin() {
    let world = held();
    let system = world.home.path("system.toml");
    let text = fs::read_to_string(&system).unwrap();
    fs::write(&system, text.replace(&format!("tuf = {{ \"{}\"", world.served.host), "tuf = { \"other.example\""))
        .unwrap();
    world.call(&[]).badly(&["no package comes from `other.example`", "[registries]"]);
}
