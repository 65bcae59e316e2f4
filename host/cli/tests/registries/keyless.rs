//! Signing as somebody without a key: by the binary, against a test authority and a log that listen on this machine.

use std::{fs, time::SystemTime};

use serde_json::Value;
use witan_authority::{Authority, Conduct, Served as Authorities, token};

use crate::{Home, LOCK, SUMS, Said, Served};

pub(crate) const ISSUER: &str = "https://accounts.example";
pub(crate) const EMAIL: &str = "author@acme.example";

/// An author with a token and no key, a registry, and an operator who trusts the author's name.
pub(crate) struct World {
    pub(crate) home: Home,
    pub(crate) served: Served,
    pub(crate) authority: Authorities,
    /// Where the authority and its log listen.
    pub(crate) address: String,
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

impl World {
    pub(crate) fn new() -> Self {
        let home = Home::new();
        let served = Served::start(&home);
        let authority = Authority::new().serve();
        let address = authority.address.to_string();
        home.component("sums.wasm", SUMS);
        home.file("Cargo.lock", LOCK);
        home.file("token", token(ISSUER, EMAIL, now() + 600));
        served.login(&home, "acme:pull,push");
        let world = Self { home, served, authority, address };
        world.root();
        world.system(EMAIL, ISSUER);
        world
    }

    /// Writes a root that trusts the authority, its log, and the log of the registry.
    fn root(&self) {
        self.home.run(&["registry", "trust", &self.served.host, "--out", "registry.json"]).well();
        let registry: Value = serde_json::from_slice(&fs::read(self.home.path("registry.json")).unwrap()).unwrap();
        let mut root: Value = serde_json::from_slice(&self.authority.authority.trusted_root()).unwrap();
        root["tlogs"].as_array_mut().unwrap().push(registry["tlogs"][0].clone());
        root["certificateAuthorities"][0]["uri"] = format!("http://{}", self.address).into();
        self.home.file("trusted_root.json", root.to_string());
    }

    /// Writes the operator's system, which trusts one name.
    fn system(&self, email: &str, issuer: &str) {
        self.home.file(
            "system.toml",
            format!(
                "schema = 1\n[registries]\nacme = \"{}\"\n[trust]\nroot = \"trusted_root.json\"\n[[trust.rules]]\n\
                 packages = \"acme:*\"\nidentities = [{{ issuer = \"{issuer}\", email = \"{email}\" }}]\n\
                 [components.sums]\nsource = \"acme:sums@1.0.0\"\n",
                self.served.host
            ),
        );
    }

    /// Publishes `sums`, with the token in the file `token` and a log of the author's choice.
    pub(crate) fn publish(&self, more: &[&str]) -> Said {
        let base = ["publish", "sums.wasm", "--package", "acme:sums@1.0.0", "--registry", &self.served.host];
        let said = self.home.run(&[&base[..], &["--lock", "Cargo.lock", "--json"], more].concat());
        let token = fs::read_to_string(self.home.path("token")).unwrap();
        let (_, signed) = token.split_once('.').unwrap();
        assert!(!said.out.contains(signed) && !said.err.contains(signed), "the token is shown");
        said
    }

    fn call(&self) -> Said {
        self.home.run(&["call", "sums", "acme:sums/add@1.0.0#add", "5", "3"])
    }

    /// What was published.
    fn published(&self) -> usize {
        let found = self.home.run(&["search", "--registry", &self.served.host, "--json"]).well().json();
        found.as_array().unwrap().len()
    }
}

impl Said {
    /// Of a command that must have failed and said so in JSON, with each of `parts`.
    #[track_caller]
    fn refused(self, parts: &[&str]) {
        assert!(!self.success, "{}", self.out);
        let error = self.json()["error"].to_string();
        for part in parts {
            assert!(error.contains(part), "no `{part}` in {error}");
        }
    }
}

#[test]
fn what_an_identity_publishes_runs_where_it_is_trusted() {
    let world = World::new();
    let said = world.publish(&["--identity-token", "token"]).well().json();
    assert_eq!((&said["identity"]["subject"], &said["identity"]["issuer"]), (&EMAIL.into(), &ISSUER.into()));
    // In the registry's log: the authority was asked for a certificate alone.
    assert_eq!(world.authority.asked(), ["/api/v2/signingCert"]);
    assert_eq!(world.call().well().out.trim(), "8");
    let (_, decisions) = world.home.ledger();
    assert!(decisions.contains(EMAIL), "{decisions}");
    world.system("other@acme.example", ISSUER);
    world.call().badly(&[EMAIL, "is not trusted"]);
    world.system(EMAIL, "https://evil.example");
    world.call().badly(&["was vouched for by another than `https://evil.example`"]);
    world.system(EMAIL, ISSUER);
    world.call().well();
}

#[test]
fn a_log_that_is_asked_as_rekor_is_witnesses_too() {
    let world = World::new();
    world.publish(&["--identity-token", "token", "--transparency-log", &world.address]).well();
    let log = "/api/v1/log/entries";
    assert_eq!(world.authority.asked(), ["/api/v2/signingCert", log, log, log]);
    assert_eq!(world.call().well().out.trim(), "8");
}

#[test]
fn somebody_else_with_a_token_publishes_in_vain() {
    let world = World::new();
    world.home.file("token", token(ISSUER, "other@acme.example", now() + 600));
    world.publish(&["--identity-token", "token"]).well();
    world.call().badly(&["other@acme.example", "is not trusted"]);
}

#[test]
fn what_was_not_asked_for_is_not_signed_with() {
    let world = World::new();
    let publish = || world.publish(&["--identity-token", "token", "--transparency-log", &world.address]);
    for (conduct, parts) in [
        (Conduct::OtherKey, &["certified another key"][..]),
        (Conduct::OtherIdentity, &["other-author@acme.example", EMAIL]),
        (Conduct::OtherAuthority, &["nobody would believe", "the certificate is refused"]),
        (Conduct::NoCertificate, &["is no certificate"]),
        (Conduct::GarbagePromise, &["nobody would believe", "promise"]),
        (Conduct::OtherEntry, &["nobody would believe", "proof"]),
        (Conduct::AuthorityFails, &["500", "the authority is broken"]),
        (Conduct::LogFails, &["503", "the log is broken"]),
    ] {
        world.authority.behave(conduct);
        publish().refused(parts);
        assert_eq!(world.published(), 0, "{conduct:?}");
    }
    world.authority.behave(Conduct::Honest);
    publish().well();
    assert_eq!(world.published(), 1);
}

#[test]
fn without_a_certificate_nothing_is_logged() {
    let world = World::new();
    world.authority.behave(Conduct::AuthorityFails);
    world.publish(&["--identity-token", "token", "--transparency-log", &world.address]).refused(&["no certificate"]);
    assert_eq!(world.authority.asked(), ["/api/v2/signingCert"]);
    // Nobody there at all.
    let World { home, served, authority, address } = world;
    drop(authority);
    let arguments = ["publish", "sums.wasm", "--package", "acme:sums@1.0.0", "--lock", "Cargo.lock"];
    let said = home.run(&[&arguments[..], &["--registry", &served.host, "--identity-token", "token"]].concat());
    said.badly(&["cannot reach", &address]);
}

#[test]
fn a_token_comes_from_a_file_or_from_the_environment() {
    let world = World::new();
    let sign = |variables: &[(&str, &str)]| {
        let arguments = ["sign", "sums.wasm", "--package", "acme:sums@1.0.0", "--lock", "Cargo.lock", "--keyless"];
        let to = ["--transparency-log", &world.address, "--out", "signed", "--json"];
        let mut command = world.home.command(&[&arguments[..], &to[..]].concat());
        Said::of(&command.envs(variables.iter().copied()).output().unwrap())
    };
    sign(&[]).refused(&["--identity-token", "SIGSTORE_ID_TOKEN", "id-token: write"]);
    let text = fs::read_to_string(world.home.path("token")).unwrap();
    assert_eq!(sign(&[("SIGSTORE_ID_TOKEN", &text)]).well().json()["identity"]["subject"], EMAIL);
    let address = format!("http://{}/token?api-version=2.0", world.address);
    let github = |secret: &'static str| {
        sign(&[("ACTIONS_ID_TOKEN_REQUEST_URL", &address), ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", secret)])
    };
    assert_eq!(github("the job's").well().json()["identity"]["subject"], "ci@acme.example");
    github("another's").refused(&["gave no identity token"]);
}

#[test]
fn a_token_that_is_of_no_use_is_refused_before_anybody_is_asked() {
    let world = World::new();
    let publish = || world.publish(&["--identity-token", "token"]);
    world.home.file("token", token(ISSUER, EMAIL, now() - 1));
    publish().refused(&["ended at"]);
    world.home.file("token", "nonsense.gibberish");
    publish().refused(&["identity token cannot be read"]);
    assert_eq!((world.authority.asked(), world.published()), (Vec::new(), 0));
    world.home.file("token", token(ISSUER, EMAIL, now() + 600));
    world.publish(&["--identity-token", "token", "--unlogged"]).refused(&["only a log can say"]);
    fs::remove_file(world.home.path("system.toml")).unwrap();
    publish().refused(&["--trusted-root"]);
    let root = ["--identity-token", "token", "--trusted-root", "trusted_root.json"];
    world.publish(&root).well();
    // A root that knows the log alone names nobody to ask.
    world.publish(&["--identity-token", "token", "--trusted-root", "registry.json"]).refused(&["--fulcio"]);
}
