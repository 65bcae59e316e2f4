//! What a host asks of registries and of the folder of advisories before it runs what it fetched, and how it tells.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::{Home, LOCK, SUMS, Served, world::World};

#[test]
fn whom_a_system_trusts_is_shown() {
    let world = World::new();
    let id = world.home.run(&["keys", "list", "--json"]).well().json()[0]["id"].as_str().unwrap().to_owned();
    let shown = world.home.run(&["trust", "show", "--json"]).well().json();
    assert!(shown["root"].as_str().unwrap().ends_with("trusted_root.json"), "{shown}");
    assert_eq!(shown["max_age_s"], 7 * 24 * 3600);
    let rule = &shown["rules"][0];
    assert_eq!((&rule["packages"], &rule["threshold"]), (&Value::from("acme:*"), &Value::from(1)));
    assert!(rule["signers"][0].as_str().unwrap().contains(&id), "{rule}");
    let text = world.home.run(&["trust", "show"]).well().out;
    assert!(text.contains("`acme:*`: 1 of") && text.contains(&id), "{text}");
    let nobody = Home::new();
    nobody.file("system.toml", "schema = 1\n");
    let text = nobody.run(&["trust", "show"]).well().out;
    assert!(text.contains("nobody may sign anything"), "{text}");
}

#[test]
fn what_a_system_trusts_is_kept_current() {
    let world = World::new();
    world.call(&[]).well();
    let heard = world.home.path(".witan/heard");
    assert!(!heard.exists());
    let said = world.home.run(&["trust", "refresh"]).well();
    assert!(said.out.contains("the logs go on as they were") && heard.exists(), "{}", said.out);
    let yank = ["yank", "acme:sums@1.0.0", "--reason", "adds wrongly", "--registry", &world.served.host];
    world.home.run(&yank).well();
    let said = world.home.run(&["trust", "refresh"]).well();
    assert!(said.err.contains("adds wrongly"), "{}", said.err);
    let said = world.home.run(&["trust", "refresh", "--json"]).well().json();
    assert_eq!(said["yanked"][0]["package"], "acme:sums@1.0.0");
    // Who is not heard is not taken for one who agrees.
    fs::remove_file(&heard).unwrap();
    let World { served, home } = world;
    assert!(served.stop());
    home.run(&["trust", "refresh"]).badly(&["127.0.0.1"]);
    assert!(!heard.exists());
}

/// An advisory about what `Cargo.lock` names, `serde` 1.0.0.
const ADVISORY: &str = "```toml\n[advisory]\nid = \"RUSTSEC-2026-0009\"\npackage = \"serde\"\ndate = \"2026-03-04\"\n\
    url = \"https://example.com/advisory\"\n\n[versions]\npatched = [\">= 1.0.1\"]\n```\n\n# It reads what is not there\n\nAlways.\n";

#[test]
fn a_version_with_a_known_vulnerability_is_refused() {
    let world = World::new();
    world.call(&[]).well();
    let sbom = |version: &str| {
        let serde = json!({ "type": "library", "name": "serde", "version": version, "purl": format!("pkg:cargo/serde@{version}") });
        json!({ "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1, "components": [serde] }).to_string()
    };
    world.home.file("advisories/crates/serde/RUSTSEC-2026-0009.md", ADVISORY);
    world.write_system(&world.system().replace("refresh =", "advisories = \"advisories\"\nrefresh ="));
    world.call(&[]).badly(&["is known to be vulnerable", "RUSTSEC-2026-0009", "trust.advisories"]);
    world.refused("acme:sums@1.0.0@sha256:", "RUSTSEC-2026-0009");
    let held = world.home.run(&["quarantine", "show", "sums", "--json"]).well().json();
    assert_eq!(held[0]["cause"], "verification", "{held}");

    // The audit says the same of what the version is made of, and how old its knowledge is.
    let audit = |version: &str| {
        world.home.file("sbom.json", sbom(version));
        world.home.run(&["audit", "sbom", "sbom.json", "--advisories", "advisories", "--json"])
    };
    let report = audit("1.0.0");
    assert!(!report.success);
    let report = report.json();
    assert_eq!(report["files"][0]["findings"][0]["advisory"], "RUSTSEC-2026-0009", "{report}");
    assert_eq!(report["advisoriesOf"], "2026-03-04");
    assert!(report["advisoriesAge"].as_i64().unwrap() > 0, "{report}");

    // A version without it is let in, and the audit has nothing against it.
    audit("1.0.1").well();
    world.publish("1.1.0", "i32.sub", &["--sbom", "sbom.json"]);
    world.write_system(&world.system().replace("sums@1.0.0", "sums@1.1.0"));
    assert_eq!(world.call(&[]).well().out.trim(), "2");
}

/// Copies a folder.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

#[test]
fn a_log_that_grew_from_another_history_is_refused() {
    let world = World::new();
    let address = world.served.host.clone();
    let World { served, home } = world;
    assert!(served.stop());
    copy(&home.path("registry"), &home.path("other"));
    // What the host sees first has the entries of 1.0.0 and 1.1.0.
    let world = World { served: Served::start_in(&home, "registry", &["--listen", &address]), home };
    world.publish("1.1.0", "i32.sub", &[]);
    world.call(&[]).well();
    world.write_system(&world.system_of("acme:sums@1.1.0"));
    assert_eq!(world.call(&[]).well().out.trim(), "2");
    // The same flow with a log that goes on from there.
    world.publish("1.2.0", "i32.mul", &[]);
    world.write_system(&world.system_of("acme:sums@1.2.0"));
    assert_eq!(world.call(&[]).well().out.trim(), "15");
    let marks = fs::read_to_string(world.home.path(".witan/marks.json")).unwrap();

    // The same registry with the same keys, whose log never had 1.1.0 and has grown larger than the one that was seen.
    let World { served, home } = world;
    assert!(served.stop());
    let world = World { served: Served::start_in(&home, "other", &["--listen", &address]), home };
    for (version, operation) in [("1.3.0", "i32.or"), ("1.4.0", "i32.and"), ("1.5.0", "i32.xor")] {
        world.publish(version, operation, &[]);
    }
    world.write_system(&world.system_of("acme:sums@1.5.0"));
    world.call(&[]).badly(&["`sums` is not loaded", "another history"]);
    world.refused("acme:sums@1.5.0@sha256:", "another history");
    assert_eq!(fs::read_to_string(world.home.path(".witan/marks.json")).unwrap(), marks);
    world.home.run(&["verify", "acme:sums@1.5.0"]).badly(&["would not be let in", "another history"]);
    world.home.run(&["trust", "refresh"]).badly(&["another history"]);
    world.write_system(&world.system_of("acme:sums@1.2.0"));
    world.home.run(&["upgrade", "sums"]).badly(&["another history"]);
}

#[test]
fn a_package_of_the_same_name_in_another_registry_is_not_looked_at() {
    let world = World::new();
    world.call(&[]).well();
    // A stranger has a registry with a newer version, and the operator a token for it.
    let other = Served::start_in(&world.home, "other", &["--listen", "127.0.0.1:0"]);
    let stranger = Home::new();
    stranger.key("release");
    other.login(&stranger, "acme:pull,push");
    other.login(&world.home, "acme:pull");
    stranger.component("sums.wasm", SUMS);
    stranger.file("Cargo.lock", LOCK);
    let publish = ["publish", "sums.wasm", "--package", "acme:sums@9.0.0", "--registry", &other.host];
    stranger.run(&[&publish[..], &["--key", "release", "--lock", "Cargo.lock"]].concat()).well();
    assert!(world.home.run(&["upgrade"]).well().out.contains("everything is at its newest version"));
    world.write_system(&world.system_of("acme:sums@9.0.0"));
    world.call(&[]).badly(&["acme:sums@9.0.0"]);
    world.refused("acme:sums@9.0.0", "acme:sums@9.0.0");
    // Where it is named, it is whom the operator trusts that counts.
    world.write_system(&world.system().replace(&world.served.host, &other.host));
    world.call(&[]).badly(&["sums` may not run"]);
    world.refused("acme:sums@9.0.0@sha256:", "that counts");
}

#[test]
fn what_cannot_be_fetched_as_it_was_locked_is_refused_and_written_down() {
    let world = World::new();
    world.call(&[]).well();
    let digest = world.lock()["components"]["sums"]["manifest"].as_str().unwrap().to_owned();
    let store = world.home.path(".local/share/witan/components");
    let forget = || fs::remove_dir_all(&store).unwrap();
    forget();
    world.call(&["--locked"]).well();
    let layer = world.lock()["components"]["sums"]["layer"].as_str().unwrap().replace("sha256:", "");
    forget();
    // The registry's disk has other bytes under the digest of the component.
    let blob = find(world.served.data(), &layer);
    let mut bytes = fs::read(&blob).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&blob, bytes).unwrap();
    let said = world.call(&["--locked"]);
    assert!(!said.success, "{}", said.out);
    world.refused(&format!("acme:sums@1.0.0@{digest}"), "the component");
    // What the lock does not know is not asked for.
    world.write_system(&world.system_of("acme:sums@1.9.0"));
    world.call(&["--locked"]).badly(&["is not in the lock"]);
    world.refused("acme:sums@1.9.0", "is not in the lock");
    world.call(&[]).badly(&["acme:sums@1.9.0"]);
    world.refused("acme:sums@1.9.0", "acme:sums@1.9.0");
    // A registry that is gone says nothing of what it had.
    world.write_system(&world.system_of("acme:sums@1.0.0"));
    let World { served, home } = world;
    let host = served.host.clone();
    assert!(served.stop());
    let call = home.run(&["call", "sums", "acme:sums/add@1.0.0#add", "5", "3"]);
    assert!(!call.success && call.err.contains(&host), "{}", call.err);
    let (entries, _) = home.ledger();
    assert!(entries.last().unwrap().to_string().contains(&host), "{entries:?}");
}

/// The file below `folder` whose name has `part` in it.
fn find(folder: &Path, part: &str) -> std::path::PathBuf {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.file_name().unwrap().to_string_lossy().contains(part) => return path,
                false => {}
            }
        }
    }
    panic!("there is no file named after {part}");
}
