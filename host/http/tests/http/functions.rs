//! Every function that is linked is one that enters the guard, and the standard's own.

use std::{collections::BTreeSet, path::Path, sync::atomic::Ordering};

use wit_parser::Resolve;
use witan_capability::Capability as _;
use witan_http::{Client, Settings, Types};

use crate::host::{FETCHERS, Fetch, Server, Setup, grant};

/// The functions of `interfaces`, as WIT encodes their names, without those that the standard calls unstable.
fn standard(folder: &str, packages: &[&str], interfaces: &[&str]) -> BTreeSet<String> {
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit/deps").join(folder);
    let mut resolve = Resolve::default();
    for package in packages {
        resolve.push_file(wit.join(format!("{package}.wit"))).unwrap();
    }
    let mut functions = BTreeSet::new();
    for (id, interface) in resolve.interfaces.iter() {
        let Some(name) = resolve.id_of(id).filter(|name| interfaces.contains(&name.as_str())) else { continue };
        functions.extend(interface.functions.keys().map(|function| format!("{name}#{function}")));
    }
    functions
}

fn linked(functions: Vec<witan_capability::HostFunction>) -> BTreeSet<String> {
    let count = functions.len();
    let names: BTreeSet<_> = functions.iter().map(ToString::to_string).collect();
    assert_eq!(names.len(), count, "a function is listed twice");
    names
}

const P2: [&str; 7] = ["io", "clocks", "random", "filesystem", "sockets", "cli", "http"];
const P3: [&str; 6] = ["clocks", "random", "filesystem", "sockets", "cli", "http"];

#[test]
fn the_functions_are_those_of_the_standard() {
    let mut types = standard("0.2", &P2, &["wasi:http/types@0.2.12"]);
    types.extend(standard("", &P3, &["wasi:http/types@0.3.0"]));
    assert_eq!(linked(Types.functions()), types);
    let mut client = standard("0.2", &P2, &["wasi:http/outgoing-handler@0.2.12"]);
    client.extend(standard("", &P3, &["wasi:http/client@0.3.0"]));
    assert_eq!(linked(Client::new(Settings::default()).unwrap().functions()), client);
}

#[test]
fn each_capability_knows_its_imports_by_any_version_of_its_line() {
    let client = Client::new(Settings::default()).unwrap();
    for (interface, types, sends) in [
        ("wasi:http/types@0.2.0", true, false),
        ("wasi:http/types@0.2.12", true, false),
        ("wasi:http/types@0.3.0", true, false),
        ("wasi:http/types@0.3.0-rc-2025-09-16", false, false),
        ("wasi:http/types@0.20.0", false, false),
        ("wasi:http/outgoing-handler@0.2.6", false, true),
        ("wasi:http/client@0.3.0", false, true),
        ("wasi:http/client@0.2.0", false, false),
        ("wasi:http/handler@0.3.0", false, false),
        ("wasi:http/types", false, false),
    ] {
        assert_eq!((Types.serves(interface), client.serves(interface)), (types, sends), "{interface}");
    }
}

#[tokio::test]
async fn host_calls_are_counted() {
    for (guest, _) in FETCHERS {
        let server = Server::ok("").await;
        let host = Setup::grants(vec![grant(server.address)]).start(guest).unwrap();
        host.fetch(Fetch::get(server.authority(), "/")).await.unwrap();
        assert!(host.kernel.host_calls.load(Ordering::Relaxed) > 10, "{guest}");
        assert_eq!(host.kernel.denials.load(Ordering::Relaxed), 0, "{guest}");
    }
}
