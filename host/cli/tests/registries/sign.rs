//! `witan sign`.

use std::fs;

use serde_json::Value;
use witan_registry_sign::{Attestation, Rule, TrustPolicy, TrustRoot, TrustedKey, TrustedLog, evaluate, trusted_root};

use crate::{Home, LOCK, SUMS};

const SIGN: [&str; 9] =
    ["sign", "sums.wasm", "--package", "acme:sums@1.0.0", "--key", "release", "--unlogged", "--out", "signed"];

fn sign(home: &Home, more: &[&str]) -> crate::Said {
    home.run(&[&SIGN, more].concat())
}

#[test]
fn what_is_signed_verifies() {
    let home = Home::new();
    home.key("release");
    home.component("sums.wasm", SUMS);
    home.file("Cargo.lock", LOCK);
    let said = sign(&home, &["--lock", "Cargo.lock", "--build-command", "cargo build", "--json"]).well().json();
    assert_eq!(said["exports"][0], "acme:sums/add@1.0.0");
    assert_eq!((&said["dependencies"], &said["imports"]), (&Value::from(1), &Value::from(Vec::<Value>::new())));
    let read = |name: &str| fs::read(home.path("signed").join(name)).unwrap();
    assert_eq!(read("component.wasm"), fs::read(home.path("sums.wasm")).unwrap());
    let digest = witan_registry_types::Digest::of(&read("manifest.json"));
    assert_eq!(said["digest"], digest.to_string());
    let bundles = ["release", "provenance", "sbom"].map(|name| read(&format!("{name}.sigstore.json")));
    let bundles: Vec<&[u8]> = bundles.iter().map(Vec::as_slice).collect();
    let key: witan_registry_sign::PublicKey = home.run(&["keys", "export", "release"]).well().out.parse().unwrap();
    let now = std::time::SystemTime::now();
    let rule = Rule {
        packages: "acme:*".parse().unwrap(),
        keys: vec![TrustedKey { key: key.clone(), not_after: None }],
        identities: Vec::new(),
        threshold: 1,
        require: Attestation::ALL.into(),
        allow_unlogged: true,
    };
    let policy = TrustPolicy::new(vec![rule], TrustPolicy::MAX_AGE).unwrap();
    let log = TrustedLog { host: "none.test".to_owned(), key, since: std::time::SystemTime::UNIX_EPOCH };
    let root = TrustRoot::parse(&trusted_root(&[log]), now).unwrap();
    let package = "acme:sums@1.0.0".parse().unwrap();
    let verified = evaluate(&policy, &root, &package, &digest, &bundles, now).unwrap();
    assert!(verified.release.ceiling.is_empty());
    assert_eq!(verified.release.wit.to_string(), said["wit"].as_str().unwrap());
    assert_eq!(verified.sbom.unwrap().dependencies().len(), 1);
    let other = "acme:other@1.0.0".parse().unwrap();
    assert!(evaluate(&policy, &root, &other, &digest, &bundles, now).is_err());
}

#[test]
fn the_same_file_gives_the_same_manifest() {
    let home = Home::new();
    home.key("release");
    home.component("sums.wasm", SUMS);
    home.file("Cargo.lock", LOCK);
    let digest = || sign(&home, &["--lock", "Cargo.lock", "--json"]).well().json()["digest"].clone();
    assert_eq!(digest(), digest());
}

#[test]
fn what_the_build_left_in_the_bytes_is_what_it_is_made_of() {
    let home = Home::new();
    home.key("release");
    let list = r#"{"packages":[
        {"name":"sums","version":"1.0.0","source":"local","root":true,"dependencies":[1]},
        {"name":"serde","version":"1.0.0","source":"crates.io"}]}"#;
    let compressed = miniz_oxide::deflate::compress_to_vec_zlib(list.as_bytes(), 6);
    let section: String = compressed.iter().map(|byte| format!("\\{byte:02x}")).collect();
    let module = format!("(core module $m (@custom \".dep-v0\" \"{section}\")");
    home.component("sums.wasm", &SUMS.replace("(core module $m", &module));
    assert_eq!(sign(&home, &["--json"]).well().json()["dependencies"], 1);
    // A document that leaves out what is in the bytes hides its advisories.
    home.file("sbom.json", r#"{"bomFormat":"CycloneDX","specVersion":"1.5","version":1,"components":[]}"#);
    sign(&home, &["--sbom", "sbom.json"]).badly(&["pkg:cargo/serde@1.0.0"]);
    let audited = home.run(&["audit", "sbom", "sums.wasm", "--advisories", "none"]);
    audited.badly(&["no folder of advisories"]);
}

#[test]
fn a_component_that_nobody_knows_the_parts_of_is_not_signed() {
    let home = Home::new();
    home.key("release");
    home.component("sums.wasm", SUMS);
    sign(&home, &[]).badly(&["cargo auditable", "--lock", "--sbom"]);
    home.file("some.lock", LOCK);
    sign(&home, &["--lock", "some.lock"]).badly(&["some.lock", "--sbom"]);
    home.file("sbom.json", "{}");
    sign(&home, &["--sbom", "sbom.json"]).badly(&["sbom.json"]);
    assert!(!home.path("signed").exists());
}

#[test]
fn what_needs_more_than_the_baseline_needs_a_ceiling() {
    let home = Home::new();
    home.key("release");
    home.file("Cargo.lock", LOCK);
    home.component(
        "sums.wasm",
        r#"(component
            (import "wasi:random/random@0.2.0" (instance (export "get-random-u64" (func (result u64)))))
            (import "wasi:logging/logging@0.1.0-draft" (instance (export "log" (func (param "a" string)))))
            (import "acme:other/thing" (instance (export "do" (func)))))"#,
    );
    sign(&home, &["--lock", "Cargo.lock"]).badly(&["--ceiling", "logging = true", "wasi:logging/logging"]);
    home.file("ceiling.toml", "wall-clock = true\n");
    let with = ["--lock", "Cargo.lock", "--ceiling", "ceiling.toml"];
    sign(&home, &with).badly(&["ceiling.toml", "logging = true"]);
    home.file("ceiling.toml", "loging = true\n");
    sign(&home, &with).badly(&["ceiling.toml"]);
    home.file("ceiling.toml", "logging = true\n");
    let said = sign(&home, &[&with[..], &["--json"]].concat()).well().json();
    assert_eq!(said["ceiling"]["logging"], true);
}

#[test]
fn what_is_no_component_or_has_no_log_is_not_signed() {
    let home = Home::new();
    home.key("release");
    home.component("sums.wasm", "(module)");
    home.file("Cargo.lock", LOCK);
    sign(&home, &["--lock", "Cargo.lock"]).badly(&["core module"]);
    home.component("sums.wasm", SUMS);
    let without: Vec<&str> = SIGN.into_iter().filter(|argument| *argument != "--unlogged").collect();
    home.run(&[&without[..], &["--lock", "Cargo.lock"]].concat()).badly(&["--transparency-log", "--unlogged"]);
}

#[test]
fn a_key_with_a_passphrase_signs_with_it_alone() {
    let home = Home::new();
    home.component("sums.wasm", SUMS);
    home.file("Cargo.lock", LOCK);
    home.file("secret", "correct horse\n");
    home.file("wrong", "other\n");
    home.run(&["keys", "generate", "release", "--passphrase-file", "secret"]).well();
    let with = |file: &str| sign(&home, &["--lock", "Cargo.lock", "--passphrase-file", file]);
    with("wrong").badly(&["passphrase"]);
    with("secret").well();
    sign(&home, &["--lock", "Cargo.lock"]).badly(&["WITAN_PASSPHRASE"]);
    let mut command = home.command(&[&SIGN[..], &["--lock", "Cargo.lock"]].concat());
    assert!(command.env("WITAN_PASSPHRASE", "correct horse").output().unwrap().status.success());
}
