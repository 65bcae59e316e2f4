//! What becomes of a component that runs when it should no longer: yanked, revoked, put aside, and taken back.

use serde_json::Value;

use crate::{
    Home, SUMS,
    world::{Up, World},
};

/// What is in quarantine of `sums`.
fn held(world: &World) -> Value {
    world.home.run(&["quarantine", "show", "sums", "--json"]).well().json()[0].clone()
}

#[test]
fn a_version_that_is_yanked_while_it_runs_is_stopped() {
    let world = World::new();
    let up = Up::start(&world.home);
    let yank = ["yank", "acme:sums@1.0.0", "--registry", &world.served.host];
    world.home.run(&[&yank[..], &["--reason", "adds wrongly"]].concat()).well();
    assert!(up.warned().contains("takes no more calls"));
    let held = held(&world);
    assert_eq!((&held["cause"], &held["reason"]), (&Value::from("yanked"), &Value::from("adds wrongly")));
    world.refused("acme:sums@1.0.0@sha256:", "adds wrongly");

    world.home.run(&[&yank[..], &["--undo"]].concat()).well();
    world.home.run(&["quarantine", "release", "sums"]).well();
    up.sound();
    // The host has its state folder alone.
    drop(up);
    world.call(&[]).well();
}

#[test]
fn a_component_whose_signer_is_no_longer_trusted_is_stopped_and_taken_back_when_it_is_again() {
    let world = World::new();
    let up = Up::start(&world.home);
    let other = Home::new();
    other.key("release");
    let other = other.run(&["keys", "export", "release"]).well().out;
    let (sound, own) = (world.system(), world.key());
    for (revoked, reason) in [
        (sound.replace(own.trim(), other.trim()), "is not trusted"),
        (
            sound.replace("\"\"\" }]", "\"\"\", not-after = \"2020-01-01T00:00:00Z\" }]"),
            "is trusted for signatures until",
        ),
        (sound.replace("packages = \"acme:*\"", "packages = \"other:*\""), "no rule of the trust policy is about"),
    ] {
        assert_ne!(revoked, sound);
        let told = up.log().matches("component.quarantined").count();
        world.write_system(&revoked);
        assert!(up.warned().contains("takes no more calls"));
        let held = held(&world);
        assert_eq!(held["cause"], "revoked", "{held}");
        assert!(held["reason"].as_str().unwrap().contains(reason), "{held}");
        let log = up.log();
        assert_eq!(log.matches("component.quarantined").count(), told + 1, "{log}");
        let logs = world.home.run(&["logs", "--json"]).well().out;
        assert!(logs.contains("component.quarantined"), "{logs}");
        world.refused("acme:sums@1.0.0@sha256:", reason);

        // An operator who trusts the signer again says so, and the host needs no other word.
        world.write_system(&sound);
        world.home.run(&["quarantine", "release", "sums"]).well();
        up.sound();
    }
    drop(up);
    assert_eq!(world.call(&[]).well().out.trim(), "8");
}

#[test]
fn an_operator_stops_a_component_that_runs_and_lets_it_go() {
    let world = World::new();
    let up = Up::start(&world.home);
    world.home.run(&["quarantine", "add", "sums", "--reason", "answers oddly"]).well();
    assert!(up.warned().contains("sums"));
    drop(up);
    world.call(&[]).badly(&["in quarantine: answers oddly"]);
    world.refused("acme:sums@1.0.0", "in quarantine: answers oddly");
    let up = Up::start(&world.home);
    world.home.run(&["quarantine", "release", "sums"]).well();
    up.sound();
    drop(up);
    world.call(&[]).well();
    world.home.run(&["quarantine", "release", "sums"]).badly(&["is not in quarantine"]);
}

#[test]
fn what_was_in_quarantine_at_the_start_is_taken_in_when_it_is_let_go() {
    let world = World::new();
    world.home.run(&["quarantine", "add", "sums"]).well();
    let up = Up::start(&world.home);
    assert!(up.warned().contains("in quarantine"));
    world.home.run(&["quarantine", "release", "sums"]).well();
    up.sound();
}

#[test]
fn a_file_runs_on_the_word_of_this_machine_or_of_an_operator() {
    let home = Home::new();
    home.component("sums.wasm", SUMS);
    let call = ["call", "sums.wasm", "acme:sums/add@1.0.0#add", "5", "3"];
    home.run(&call).badly(&["`sums` may not run", "is not signed", "--allow-unsigned"]);
    assert_eq!(home.run(&[&call[..], &["--allow-unsigned"]].concat()).well().out.trim(), "8");
    home.file("system.toml", "schema = 1\n[components.sums]\nsource = \"sums.wasm\"\n");
    home.run(&["call", "sums", "acme:sums/add@1.0.0#add", "5", "3"]).badly(&["is not signed"]);
    home.file("system.toml", "schema = 1\n[components.sums]\nsource = \"sums.wasm\"\nallow-unsigned = true\n");
    let up = Up::start(&home);
    assert!(up.warned().contains("UNSIGNED"));
    let log = up.log();
    assert!(log.contains("UNSIGNED") && log.contains("sums"), "{log}");
    assert!(home.ledger().1.contains("UNSIGNED"));
}
