//! What a ceiling covers, and how it is written.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::System;

fn ceiling(json: &str) -> Ceiling {
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}"))
}

fn grants(toml: &str) -> Grants {
    let text = format!("schema = 1\n[components.a]\nsource = \"a.wasm\"\n[components.b]\nsource = \"b.wasm\"\n{toml}");
    let system = System::parse(&text, Path::new("/system.toml")).unwrap_or_else(|error| panic!("{error}"));
    system.components.values().find(|component| !component.grants.is_empty()).unwrap().grants.clone()
}

/// Each of these has one grant of each capability.
const GRANTS: &str = r#"
[components.b.grants]
filesystem = [{ path = "docs", guest = "/docs/in", access = "read-write", max-bytes = "1MiB" }, { task = true }]
http = [{ host = "api.example.com", methods = ["GET", "POST"], path-prefix = "/v1/items" }]
sockets = [{ host = "db.example.com", port = 5432 }]
environment = { HOME = "/" }
config = { key = "value" }
wall-clock = true
logging = {}
keyvalue = { max-bytes = "1MiB" }
tools = ["a.read"]
"#;

const CEILING: &str = r#"{
    "filesystem": [{ "guest": "/docs", "access": "read-write", "max-bytes": "1MiB" }, { "task": true }],
    "http": [{ "host": "*.example.com", "methods": ["GET", "POST"], "path-prefix": "/v1" }],
    "sockets": [{ "host": "*", "port": "*" }],
    "environment": ["HOME"],
    "config": ["*"],
    "wall-clock": true,
    "logging": true,
    "keyvalue": { "max-bytes": "1MiB" },
    "tools": ["*.read"]
}"#;

#[test]
fn grants_within_a_ceiling_have_nothing_beyond_it() {
    assert_eq!(ceiling(CEILING).excess_of_grants(&grants(GRANTS)), []);
    assert_eq!(Ceiling::of(&grants(GRANTS)).excess_of_grants(&grants(GRANTS)), []);
}

#[test]
fn each_constraint_that_is_crossed_is_named() {
    for (from, to, capability, wanted) in [
        ("\"/docs\"", "\"/doc\"", "filesystem", "read and write /docs/in, up to 1MiB"),
        ("\"read-write\", ", "\"read\", ", "filesystem", "read and write /docs/in, up to 1MiB"),
        (
            "\"read-write\", \"max-bytes\": \"1MiB\"",
            "\"read-write\", \"max-bytes\": \"1KiB\"",
            "filesystem",
            "read and write /docs/in, up to 1MiB",
        ),
        (", { \"task\": true }", "", "filesystem", "read the files of the task"),
        ("\"*.example.com\"", "\"*.api.example.com\"", "http", "GET, POST https://api.example.com:443/v1/items"),
        (
            "\"*.example.com\"",
            "\"*.example.com\", \"port\": 8443",
            "http",
            "GET, POST https://api.example.com:443/v1/items",
        ),
        (
            "\"*.example.com\"",
            "\"*.example.com\", \"scheme\": \"http\"",
            "http",
            "GET, POST https://api.example.com:443/v1/items",
        ),
        (", \"POST\"", "", "http", "POST https://api.example.com:443/v1/items"),
        ("\"/v1\"", "\"/v1/item\"", "http", "GET, POST https://api.example.com:443/v1/items"),
        ("\"port\": \"*\"", "\"port\": 80", "sockets", "tcp db.example.com:5432"),
        ("\"port\": \"*\"", "\"port\": \"*\", \"protocol\": \"udp\"", "sockets", "tcp db.example.com:5432"),
        ("\"HOME\"", "\"PATH\"", "environment", "HOME"),
        ("\"config\": [\"*\"]", "\"config\": [\"other\"]", "config", "key"),
        ("\"wall-clock\": true", "\"wall-clock\": false", "wall-clock", "true"),
        ("\"logging\": true", "\"logging\": false", "logging", "true"),
        (
            "\"keyvalue\": { \"max-bytes\": \"1MiB\" }",
            "\"keyvalue\": { \"max-bytes\": \"1KiB\" }",
            "keyvalue",
            "up to 1MiB",
        ),
        ("*.read", "*.write", "tools", "a.read"),
        ("*.read", "b.*", "tools", "a.read"),
    ] {
        assert!(CEILING.contains(from), "{from}");
        let excess = ceiling(&CEILING.replacen(from, to, 1)).excess_of_grants(&grants(GRANTS));
        let [only] = excess.as_slice() else { panic!("{to}: {excess:?}") };
        assert_eq!((only.capability, only.wanted.as_str()), (capability, wanted), "{to}");
    }
}

#[test]
fn an_empty_ceiling_names_everything() {
    let excess = Ceiling::default().excess_of_grants(&grants(GRANTS));
    let capabilities: Vec<&str> = excess.iter().map(|excess| excess.capability).collect();
    let expected = [
        "filesystem",
        "filesystem",
        "http",
        "sockets",
        "environment",
        "config",
        "wall-clock",
        "logging",
        "keyvalue",
        "tools",
    ];
    assert_eq!(capabilities, expected);
    assert_eq!(
        excess[2].to_string(),
        "`http` of `GET, POST https://api.example.com:443/v1/items` is beyond the ceiling, which has nothing of it"
    );
}

#[test]
fn any_host_does_not_mean_a_private_one() {
    let any = |private: bool| ceiling(&format!(r#"{{ "http": [{{ "host": "*", "private": {private} }}] }}"#));
    let granted = |host: &str, private: bool| {
        grants(&format!("[components.b.grants]\nhttp = [{{ host = \"{host}\", private = {private} }}]"))
    };
    assert_eq!(any(false).excess_of_grants(&granted("example.com", false)), []);
    assert_eq!(any(false).excess_of_grants(&granted("*.example.com", false)), []);
    assert_eq!(any(false).excess_of_grants(&granted("example.com", true)).len(), 1);
    assert_eq!(any(false).excess_of_grants(&granted("10.0.0.1", false)).len(), 1);
    assert_eq!(any(true).excess_of_grants(&granted("10.0.0.1", false)), []);
}

#[test]
fn methods_may_come_from_several_entries() {
    let text = r#"{ "http": [
        { "host": "*.example.com", "methods": ["GET"] },
        { "host": "api.example.com", "methods": ["POST"], "path-prefix": "/v1" } ] }"#;
    let wanted =
        r#"{ "http": [{ "host": "api.example.com", "methods": ["GET", "POST", "PUT"], "path-prefix": "/v1/" }] }"#;
    let [only] = ceiling(text).excess(&ceiling(wanted)).try_into().unwrap();
    assert_eq!(only.wanted, "PUT https://api.example.com:443/v1");
    assert_eq!(
        ceiling(text).excess(&ceiling(r#"{ "http": [{ "host": "api.example.com", "methods": ["*"] }] }"#)).len(),
        1
    );
}

#[test]
fn what_is_no_ceiling_is_refused() {
    for bad in [
        r#"{ "unknown": true }"#,
        r#"{ "http": [{ "host": "a", "unknown": 1 }] }"#,
        r#"{ "http": [{ "host": "a b" }] }"#,
        r#"{ "http": [{ "host": "*.*" }] }"#,
        r#"{ "http": [{ "host": "a", "port": 0 }] }"#,
        r#"{ "http": [{ "host": "a", "port": 65536 }] }"#,
        r#"{ "http": [{ "host": "a", "port": "443" }] }"#,
        r#"{ "http": [{ "host": "a", "methods": [] }] }"#,
        r#"{ "http": [{ "host": "a", "methods": ["get"] }] }"#,
        r#"{ "http": [{ "host": "a", "methods": ["GET", "*"] }] }"#,
        r#"{ "http": [{ "host": "a", "path-prefix": "/a/../b" }] }"#,
        r#"{ "filesystem": [{}] }"#,
        r#"{ "filesystem": [{ "guest": "docs" }] }"#,
        r#"{ "filesystem": [{ "guest": "/../docs" }] }"#,
        r#"{ "filesystem": [{ "guest": "/docs", "task": true }] }"#,
        r#"{ "filesystem": [{ "guest": "/docs", "max-bytes": 5 }] }"#,
        r#"{ "filesystem": [{ "guest": "/docs", "max-bytes": "5" }] }"#,
        r#"{ "environment": ["A=B"] }"#,
        r#"{ "environment": ["A", "*"] }"#,
        r#"{ "tools": ["read"] }"#,
        r#"{ "tools": ["A.read"] }"#,
        r#"{ "tools": ["a.b.c"] }"#,
    ] {
        assert!(serde_json::from_str::<Ceiling>(bad).is_err(), "{bad}");
    }
    let many = format!(r#"{{ "environment": [{}] }}"#, vec!["\"A\""; 257].join(","));
    assert!(serde_json::from_str::<Ceiling>(&many).is_err());
}

#[test]
fn the_same_ceiling_is_the_same_text() {
    let one = ceiling(
        r#"{ "tools": ["b.x", "a.x", "b.x"], "http": [{ "host": "B.example" }, { "host": "a.example", "port": 443 }] }"#,
    );
    let other = ceiling(r#"{ "http": [{ "host": "a.example" }, { "host": "b.example." }], "tools": ["a.x", "b.x"] }"#);
    assert_eq!(serde_json::to_string(&one).unwrap(), serde_json::to_string(&other).unwrap());
}

fn any_ceiling() -> impl Strategy<Value = Ceiling> {
    let hosts = prop::sample::select(vec!["*", "a.example", "*.example", "*.b.example", "1.2.3.4"]);
    let paths = prop::sample::select(vec!["/", "/a", "/a/b", "/c"]);
    let methods = prop::sample::subsequence(vec!["GET", "POST", "PUT"], 1..=3);
    let http = (hosts, paths, methods, any::<bool>());
    (prop::collection::vec(http, 0..3), any::<bool>(), prop::sample::subsequence(vec!["A", "B"], 0..=2)).prop_map(
        |(http, wall_clock, environment)| {
            let entry = |(host, path, methods, private): (&str, &str, Vec<&str>, bool)| {
                serde_json::json!({ "host": host, "path-prefix": path, "methods": methods, "private": private })
            };
            let http: Vec<_> = http.into_iter().map(entry).collect();
            let json = serde_json::json!({ "http": http, "wall-clock": wall_clock, "environment": environment });
            serde_json::from_value(json).unwrap()
        },
    )
}

proptest! {
    #[test]
    fn a_ceiling_is_within_itself_and_read_as_it_was_written(ceiling in any_ceiling()) {
        prop_assert_eq!(ceiling.excess(&ceiling), vec![]);
        let text = serde_json::to_string(&ceiling).unwrap();
        prop_assert_eq!(serde_json::from_str::<Ceiling>(&text).unwrap(), ceiling);
    }

    #[test]
    fn being_within_carries_over(a in any_ceiling(), b in any_ceiling(), c in any_ceiling()) {
        if a.excess(&b).is_empty() && b.excess(&c).is_empty() {
            prop_assert_eq!(a.excess(&c), vec![]);
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in ".{0,200}") {
        let _ceiling = serde_json::from_str::<Ceiling>(&text);
    }
}
