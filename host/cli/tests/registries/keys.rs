//! `witan keys`.

use std::{fs, os::unix::fs::PermissionsExt as _};

use crate::Home;

#[test]
fn a_key_is_made_listed_and_exported_and_never_shown() {
    let home = Home::new();
    home.file("secret", "correct horse\n");
    let made = home.run(&["keys", "generate", "release", "--passphrase-file", "secret", "--json"]).well();
    assert!(!made.out.contains("PRIVATE") && made.json()["encrypted"] == true);
    let file = home.path(".config/witan/keys/release.key");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(fs::read_to_string(&file).unwrap().contains("BEGIN ENCRYPTED PRIVATE KEY"));
    home.key("ci");
    let listed = home.run(&["keys", "list", "--json"]).well().json();
    let names: Vec<_> =
        listed.as_array().unwrap().iter().map(|key| (key["name"].clone(), key["encrypted"].clone())).collect();
    assert_eq!(names, [("ci".into(), false.into()), ("release".into(), true.into())]);
    let exported = home.run(&["keys", "export", "release"]).well().out;
    assert!(exported.starts_with("-----BEGIN PUBLIC KEY-----"), "{exported}");
    assert_eq!(exported.trim(), made.json()["public"].as_str().unwrap().trim());
}

#[test]
fn a_key_is_replaced_and_the_old_one_named() {
    let home = Home::new();
    home.key("release");
    let old = home.run(&["keys", "list", "--json"]).well().json()[0]["id"].clone();
    home.run(&["keys", "rotate", "release", "--no-passphrase"]).well();
    let now = home.run(&["keys", "list", "--json"]).well().json();
    assert_ne!(now[0]["id"], old);
    assert_eq!(now[0]["replaced"][0], old);
}

#[test]
fn what_cannot_be_done_says_why() {
    let home = Home::new();
    home.key("release");
    home.run(&["keys", "generate", "release", "--no-passphrase"]).badly(&["already", "rotate"]);
    home.run(&["keys", "export", "other"]).badly(&["`other`", "witan keys list"]);
    home.run(&["keys", "generate", "Release", "--no-passphrase"]).badly(&["Release"]);
    // Nobody is there to be asked.
    home.run(&["keys", "generate", "ci"]).badly(&["--passphrase-file", "WITAN_PASSPHRASE"]);
    home.file("empty", "\n");
    home.run(&["keys", "generate", "ci", "--passphrase-file", "empty"]).badly(&["--no-passphrase"]);
}
