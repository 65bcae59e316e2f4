//! From a registry to a running system: verified, locked, upgraded, rolled back, put aside.

use std::{fs, path::PathBuf};

use serde_json::Value;

use crate::{Home, world::World};

/// The same component, which may need the setting `unit` as well.
const CONFIGURED: &str = "config = [\"unit\"]\n";

#[test]
fn a_published_component_runs_and_is_locked() {
    let world = World::new();
    assert_eq!(world.call(&[]).well().out.trim(), "8");
    let lock = world.lock();
    let locked = &lock["components"]["sums"];
    assert_eq!(locked["package"].as_str(), Some("acme:sums@1.0.0"));
    assert!(locked["signers"][0].as_str().unwrap().starts_with("the key "));
    for digest in ["manifest", "layer", "wit", "ceiling", "grants"] {
        assert!(locked[digest].as_str().unwrap().starts_with("sha256:"), "{digest}");
    }
    assert!(world.home.ledger().1.contains("signed by the key "));
    // From here on no registry is needed, nor believed.
    let World { served, home } = world;
    assert!(served.stop());
    let said = home.run(&["call", "sums", "acme:sums/add@1.0.0#add", "5", "3", "--locked"]).well();
    assert_eq!(said.out.trim(), "8");
}

#[test]
fn nothing_differs_from_the_lock_where_it_must_not() {
    let world = World::new();
    world.call(&["--locked"]).badly(&["is not in the lock"]);
    world.call(&[]).well();
    world.call(&["--locked"]).well();
    let path = world.home.path("witan.lock");
    let text = fs::read_to_string(&path).unwrap();
    let grants = world.lock()["components"]["sums"]["grants"].as_str().unwrap().to_owned();
    fs::write(&path, text.replace(&grants, &format!("sha256:{}", "0".repeat(64)))).unwrap();
    world.call(&["--locked"]).badly(&["`sums`: grants is", "is locked"]);
}

#[test]
fn whom_the_operator_does_not_trust_publishes_in_vain() {
    let world = World::new();
    world.call(&[]).well();
    let other = Home::new();
    other.key("release");
    let key = other.run(&["keys", "export", "release"]).well().out;
    let own = world.home.run(&["keys", "export", "release"]).well().out;
    let text = fs::read_to_string(world.home.path("system.toml")).unwrap();
    world.home.file("system.toml", text.replace(own.trim(), key.trim()));
    world.call(&[]).badly(&["is not trusted"]);
    assert!(world.refused_once("is not trusted"));
    let held = world.home.run(&["quarantine", "list", "--json"]).well().json();
    assert_eq!((&held[0]["component"], &held[0]["cause"]), (&Value::from("sums"), &Value::from("verification")));
    world.home.run(&["verify", "acme:sums@1.0.0"]).badly(&["is not trusted"]);
    world.home.file("system.toml", text);
    world.home.run(&["verify", "acme:sums@1.0.0"]).well();
    world.call(&[]).well();
    assert_eq!(world.home.run(&["quarantine", "list", "--json"]).well().json(), Value::Array(Vec::new()));
}

#[test]
fn what_was_fetched_and_then_changed_is_refused() {
    let world = World::new();
    world.call(&[]).well();
    let blobs: Vec<PathBuf> = fs::read_dir(world.home.path(".local/share/witan/components/sha256"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    let wasm = blobs.iter().find(|path| fs::read(path).unwrap().starts_with(b"\0asm")).unwrap();
    let mut bytes = fs::read(wasm).unwrap();
    bytes.push(0);
    fs::remove_file(wasm).unwrap();
    fs::write(wasm, bytes).unwrap();
    let World { served, home } = world;
    assert!(served.stop());
    let said = home.run(&["call", "sums", "acme:sums/add@1.0.0#add", "5", "3"]);
    assert!(!said.success, "{}", said.out);
}

/// A version that may need the setting `unit` as well, in a world that has locked the one before it.
fn wider() -> World {
    let world = World::new();
    world.call(&[]).well();
    world.home.file("ceiling.toml", CONFIGURED);
    world.publish("1.1.0", "i32.sub", &["--ceiling", "ceiling.toml"]);
    world
}

/// The operator's files that an upgrade changes.
fn files(world: &World) -> [String; 2] {
    ["system.toml", "witan.lock"].map(|name| fs::read_to_string(world.home.path(name)).unwrap())
}

#[test]
fn an_upgrade_says_what_is_new_and_asks() {
    let world = wider();
    let before = files(&world);
    let shown = world.home.run(&["upgrade", "--dry-run", "--json"]).well().json();
    assert_eq!(shown[0]["to"], "acme:sums@1.1.0");
    assert_eq!(shown[0]["may_need"][0][0], "config");
    // Nobody is there to be asked.
    world.home.run(&["upgrade"]).badly(&["may need `config`", "nothing was changed", "--accept config"]);
    world.home.run(&["upgrade", "--accept", "http"]).badly(&["may need `config`", "nothing was changed"]);
    assert_eq!(files(&world), before);

    world.home.run(&["upgrade", "sums", "--accept", "capability=config"]).well();
    assert_eq!(world.system(), before[0].replace("sums@1.0.0", "sums@1.1.0"), "the rest of the file stays");
    assert_eq!(world.call(&["--locked"]).well().out.trim(), "2");

    world.home.run(&["rollback", "sums"]).badly(&["1.1.0 ran here", "--below-mark"]);
    world.home.run(&["rollback", "sums", "--below-mark"]).well();
    assert_eq!(world.system(), before[0]);
    assert_eq!(world.call(&["--locked"]).well().out.trim(), "8");
}

#[test]
fn an_upgrade_asks_on_a_terminal_and_does_what_is_answered() {
    let world = wider();
    let before = files(&world);
    for answer in ["n\n", "\n", "why?\n"] {
        let said = world.home.run_on_a_terminal(&["upgrade", "sums"], answer);
        assert!(!said.success, "{}", said.out);
        assert!(said.out.contains("may need `config`") && said.out.contains("May it? [y/N]"), "{}", said.out);
        assert!(said.out.contains("not accepted; nothing was changed"), "{}", said.out);
        assert_eq!(files(&world), before);
    }
    assert_eq!(world.call(&["--locked"]).well().out.trim(), "8");
    let said = world.home.run_on_a_terminal(&["upgrade", "sums"], "y\n").well();
    assert!(said.out.contains("May it? [y/N]"), "{}", said.out);
    assert_eq!(world.call(&["--locked"]).well().out.trim(), "2");
    // To accept what it may need is to grant nothing.
    assert!(!world.system().contains("unit"), "{}", world.system());
}

#[test]
fn an_older_version_in_the_file_alone_is_refused() {
    let world = World::new();
    world.publish("1.1.0", "i32.sub", &[]);
    world.call(&[]).well();
    let text = fs::read_to_string(world.home.path("system.toml")).unwrap();
    world.home.file("system.toml", text.replace("sums@1.0.0", "sums@1.1.0"));
    world.call(&[]).well();
    world.home.file("system.toml", text);
    world.call(&[]).badly(&["version 1.0.0 is older than 1.1.0"]);
}
