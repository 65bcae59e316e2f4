//! cosign verifies what we sign, and we let in what it signs.

use super::*;

in_both!(
    cosign_verifies_what_we_publish,
    cosign_verifies_each_statement,
    cosign_refuses_what_was_signed_for_other_bytes,
    what_cosign_signs_counts_where_no_log_is_needed,
);

/// Verifies a version of `sums` as anyone would who has our key and the root of our log.
fn cosign(world: &World, cosign: &Found, command: &[&str], key: &Path, reference: &str) -> Said {
    let key = key.to_str().unwrap();
    let how = ["--key", key, "--trusted-root", "trusted_root.json", "--allow-http-registry", reference];
    world.tool(cosign, &[command, &how[..]].concat())
}

fn cosign_verifies_what_we_publish(place: Place) {
    let Some(program) = Tool::Cosign.or_skip() else { return };
    let Some(world) = World::new(place) else { return };
    let digest = world.publish("1.0.0");
    world.home.key("other");
    let (release, other) = (world.key("release"), world.key("other"));
    let reference = format!("{}:1.0.0", world.repository());
    let said = cosign(&world, &program, &["verify"], &release, &reference).well();
    assert!(said.out.contains(&digest), "{}", said.out);
    assert!(!cosign(&world, &program, &["verify"], &other, &reference).success);
    // Nor does it believe a log that it does not know.
    let elsewhere = Home::new();
    let stranger = Served::start(&elsewhere);
    fs::remove_file(world.home.path("trusted_root.json")).unwrap();
    world.home.run(&["registry", "trust", &stranger.host, "--out", "trusted_root.json"]).well();
    assert!(!cosign(&world, &program, &["verify"], &release, &reference).success);
}

fn cosign_verifies_each_statement(place: Place) {
    let Some(program) = Tool::Cosign.or_skip() else { return };
    let Some(world) = World::new(place) else { return };
    let digest = world.publish("1.0.0");
    world.home.key("other");
    let (release, other) = (world.key("release"), world.key("other"));
    let reference = format!("{}@{digest}", world.repository());
    let verify = |kind, key: &Path| cosign(&world, &program, &["verify-attestation", "--type", kind], key, &reference);
    for kind in ["urn:witan:release:v1", "slsaprovenance1", "cyclonedx"] {
        let said = verify(kind, &release).well();
        let envelope: Value = serde_json::from_str(said.out.lines().next().unwrap()).unwrap();
        let statement = BASE64.decode(envelope["payload"].as_str().unwrap()).unwrap();
        let statement: Value = serde_json::from_slice(&statement).unwrap();
        assert_eq!(statement["subject"][0]["name"], "acme:sums@1.0.0", "{kind}");
        assert!(!verify(kind, &other).success, "{kind}");
    }
    assert!(!verify("spdx", &release).success);
}

fn cosign_refuses_what_was_signed_for_other_bytes(place: Place) {
    let Some(program) = Tool::Cosign.or_skip() else { return };
    let Some(world) = World::new(place) else { return };
    let key = world.key("release");
    let log = ["--key", "release", "--transparency-log", &world.ours.host];
    let one = world.sign("1.0.0", &log);
    world.home.component("sums.wasm", &SUMS.replace("i32.add", "i32.sub"));
    let mut other = world.sign("1.0.1", &log);
    assert_ne!(one.digest, other.digest);
    let verify = |version: &str| {
        let reference = format!("{}:{version}", world.repository());
        cosign(&world, &program, &["verify"], &key, &reference)
    };
    world.push("1.0.0", &one.artifact);
    verify("1.0.0").well();
    other.artifact.bundles = one.artifact.bundles;
    world.push("1.0.1", &other.artifact);
    assert!(!verify("1.0.1").success);
}

/// cosign signs our statements with a key of its own, in no log.
fn what_cosign_signs_counts_where_no_log_is_needed(place: Place) {
    let Some(program) = Tool::Cosign.or_skip() else { return };
    let Some(world) = World::new(place) else { return };
    let mut version = world.sign("1.0.0", &["--key", "release", "--unlogged"]);
    world.tool(&program, &["generate-key-pair"]).well();
    // No service is asked, and none is trusted but our log.
    world.tool(&program, &["signing-config", "create", "--out", "no-services.json"]).well();
    for number in 0..version.artifact.bundles.len() {
        world.home.file("statement.json", version.statement(number));
        let sign = ["attest-blob", "--statement", "statement.json", "--key", "cosign.key", "--yes"];
        let to =
            ["--signing-config", "no-services.json", "--trusted-root", "trusted_root.json", "--bundle", "bundle.json"];
        world.tool(&program, &[&sign[..], &to[..]].concat()).well();
        version.artifact.bundles[number] = fs::read(world.home.path("bundle.json")).unwrap();
    }
    world.push("1.0.0", &version.artifact);
    let key = fs::read_to_string(world.home.path("cosign.pub")).unwrap();
    world.system(&key, "");
    world.call().badly(&["is in no transparency log"]);
    world.system(&fs::read_to_string(world.key("release")).unwrap(), "allow-unlogged = true");
    world.call().badly(&["is not trusted"]);
    world.system(&key, "allow-unlogged = true");
    assert_eq!(world.call().well().out.trim(), "8");
}
