//! Systems that must not load.

use witan_loader::{LoadError, LoadProblem};

use crate::{
    guest::{component, gives, runs},
    host::{Host, call, service},
};
use witan_capability::{CallContext, CallError, Limits};

const HEALTH: &str = "witan:component/health-sync@0.1.0-draft";

/// Calls the health check of whatever it is linked to, and gives 10 if that is well.
pub fn asks() -> Vec<u8> {
    component(
        &format!("import {HEALTH}; export run: func() -> u32;"),
        &format!(
            r#"(import "{HEALTH}" "check" (func $check (param i32)))
            (memory (export "memory") 1)
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
            (func (export "run") (result i32)
                (call $check (i32.const 0))
                (i32.add (i32.const 10) (i32.load8_u (i32.const 0))))"#
        ),
    )
}

/// Is well.
pub fn well() -> Vec<u8> {
    component(
        &format!("export {HEALTH};"),
        &format!(
            r#"(memory (export "memory") 1)
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
            (func (export "{HEALTH}#check") (result i32) (i32.const 0))"#
        ),
    )
}

fn two(link: &str) -> String {
    format!(
        "[components.asks]\nsource = \"asks.wasm\"\n[components.well]\nsource = \"well.wasm\"\n\
         [components.asks.links]\n{link}"
    )
}

#[tokio::test]
async fn an_import_without_a_grant_names_the_component_the_import_and_the_line_to_add() {
    let host = Host::new();
    host.put("other", &gives(1));
    let mut checked = 0;
    for (import, capability, line) in [
        ("wasi:sockets/ip-name-lookup@0.2.12", "sockets", "grants.sockets = [{ host = \"a.example\", port = 1 }]"),
        ("wasi:sockets/ip-name-lookup@0.3.0", "sockets", "grants.sockets = [{ host = \"a.example\", port = 1 }]"),
        ("wasi:http/outgoing-handler@0.2.12", "http", "grants.http = [{ host = \"a.example\" }]"),
        ("wasi:http/client@0.3.0", "http", "grants.http = [{ host = \"a.example\" }]"),
        ("wasi:config/store@0.2.0-rc.1", "config", "grants.config = { a = \"b\" }"),
        ("wasi:logging/logging@0.1.0-draft", "logging", "grants.logging = {}"),
        ("wasi:keyvalue/store@0.2.0-draft", "keyvalue", "grants.keyvalue = {}"),
        ("witan:tools/broker@0.1.0-draft", "tools", "grants.tools = [\"other.tool\"]"),
        ("witan:tools/broker-sync@0.1.0-draft", "tools", "grants.tools = [\"other.tool\"]"),
    ] {
        host.put("guest", &crate::functions::imports(import));
        let system = "[components.other]\nsource = \"other.wasm\"\n[components.guest]\nsource = \"guest.wasm\"\n";
        let error = host.load(system).await.err().expect("nothing is granted");
        let problem = error.problems.iter().find(|problem| problem.to_string().contains(import));
        let problem = problem.unwrap_or_else(|| panic!("`{import}` is not named: {error}"));
        let LoadProblem::NotGranted { component, capability: named, remedy, .. } = problem else { panic!("{problem}") };
        assert_eq!((component.as_str(), *named), ("guest", capability));
        // The line that it names is one that works.
        let key = remedy.split(' ').next().unwrap();
        assert!(line.starts_with(&format!("grants.{key}")), "{remedy}");
        assert!(problem.to_string().contains(remedy) && problem.to_string().contains("[components.guest.grants]"));
        host.system(&format!("{system}[components.guest.grants]\n{}", remedy.replace("component.tool", "other.tool")));
        host.loader.prepare(host.system(&format!("{system}{line}")), &|_| {}).unwrap_or_else(|error| panic!("{error}"));
        checked += 1;
    }
    assert_eq!(checked, 9);
}

#[tokio::test]
async fn the_clock_that_is_linked_for_everyone_is_refused_to_who_reads_it_without_a_grant() {
    let reads = component(
        "import wasi:clocks/wall-clock@0.2.12; export run: func() -> u32;",
        r#"(import "wasi:clocks/wall-clock@0.2.12" "now" (func $now (param i32)))
            (memory (export "memory") 1)
            (func (export "run") (result i32)
                (call $now (i32.const 0)) (i64.gt_u (i64.load (i32.const 0)) (i64.const 0)))"#,
    );
    let host = Host::new();
    assert_eq!(host.guest(&reads, "grants.wall-clock = true").await.call("run").await, Ok(1));
    let guest = host.guest(&reads, "").await;
    let CallError::Denied(denial) = guest.attack(Limits::default()).await else { panic!("it is denied") };
    assert!(denial.reason.contains("wall-clock = true"), "{denial}");
    assert!(host.policy.log().find(denial.decision).is_some_and(|entry| !entry.allowed));
}

#[tokio::test]
async fn an_unknown_import_is_refused_by_name() {
    let text = |import: &str| {
        let text = format!(
            r#"(component
                (import "{import}" (instance (export "do" (func))))
                (core module $m (func (export "run") (result i32) (i32.const 1)))
                (core instance $i (instantiate $m))
                (func (export "run") (result u32) (canon lift (core func $i "run"))))"#
        );
        wat::parse_str(text).unwrap()
    };
    let host = Host::new();
    for import in ["acme:things/do@1.0.0", "wasi:filesystem/typos@0.2.12", "wasi:cli/environment@9.0.0", "do"] {
        host.put("guest", &text(import));
        let problem = host.problem("[components.guest]\nsource = \"guest.wasm\"").await;
        let LoadProblem::Unsatisfied { component, import: named, .. } = &problem else { panic!("{problem}") };
        assert_eq!((component.as_str(), named.as_str()), ("guest", import));
        assert!(problem.to_string().contains("[components.guest.links]"), "{problem}");
    }
}

#[tokio::test]
async fn an_import_of_another_shape_than_what_is_linked_is_refused() {
    let host = Host::new();
    let text = |result: &str| {
        let text = format!(
            r#"(component
                (import "wasi:clocks/monotonic-clock@0.2.12" (instance (export "now" (func (result {result}))))))"#
        );
        wat::parse_str(text).unwrap()
    };
    host.put("guest", &text("u64"));
    assert!(host.load("[components.guest]\nsource = \"guest.wasm\"").await.is_ok());
    host.put("guest", &text("string"));
    let problem = host.problem("[components.guest]\nsource = \"guest.wasm\"").await;
    assert!(matches!(&problem, LoadProblem::Mismatch { .. }), "{problem}");
}

#[tokio::test]
async fn a_link_to_a_component_that_does_not_export_it_is_refused() {
    let host = Host::new();
    host.put("asks", &asks());
    host.put("well", &well());
    let link = "\"witan:component/health-sync\" = { component = \"well\" }";
    let running = host.load(&two(link)).await.unwrap_or_else(|error| panic!("{error}"));
    let account = host.loader.engine.open_account(Limits::default());
    assert_eq!(call(service(&running, "asks"), &CallContext::local(), &account, "run").await, Ok(10));

    host.put("well", &gives(1));
    let problem = host.problem(&two(link)).await;
    let LoadProblem::NotExported { component, target, .. } = &problem else { panic!("{problem}") };
    assert_eq!((component.as_str(), target.as_str()), ("asks", "well"));

    let problem = host.problem(&two("")).await;
    assert!(matches!(&problem, LoadProblem::Unsatisfied { import, .. } if import == HEALTH), "{problem}");
}

#[tokio::test]
async fn links_in_a_circle_are_refused_however_the_system_was_made() {
    let host = Host::new();
    host.put("asks", &asks());
    host.put("well", &well());
    let mut system = host.system(&two("\"witan:component/health-sync\" = { component = \"well\" }"));
    let link = system
        .components
        .values()
        .find_map(|component| component.links.iter().next().map(|(interface, link)| (interface.clone(), link.clone())));
    let (interface, mut link) = link.unwrap();
    link.component = "asks".parse().unwrap();
    system.components.get_mut(&"well".parse().unwrap()).unwrap().links.insert(interface, link);
    let LoadError { problems } = host.loader.load(system, &|_| {}).await.err().unwrap();
    assert!(matches!(&problems[..], [LoadProblem::Cycle(path)] if path == "asks → well → asks"), "{problems:?}");
}

#[tokio::test]
async fn other_bytes_than_those_that_were_pinned_are_refused() {
    let host = Host::new();
    host.put("guest", &gives(1));
    let pinned = |digest: &str| format!("[components.guest]\nsource = \"guest.wasm\"\ndigest = \"blake3:{digest}\"");
    let digest = blake3::hash(&gives(1)).to_hex();
    assert!(host.load(&pinned(&digest)).await.is_ok());
    host.put("guest", &gives(2));
    let problem = host.problem(&pinned(&digest)).await;
    let LoadProblem::Digest { expected, found, .. } = &problem else { panic!("{problem}") };
    assert_eq!((expected.as_str(), found.as_str()), (&*digest, &*blake3::hash(&gives(2)).to_hex()));
}

#[tokio::test]
async fn a_component_that_does_not_start_or_is_not_well_is_refused() {
    let host = Host::new();
    let system = "[components.guest]\nsource = \"guest.wasm\"";
    host.put("guest", &well());
    assert!(host.load(system).await.is_ok());
    host.put(
        "guest",
        &runs(r#"(func $trap unreachable) (start $trap) (func (export "run") (result i32) (i32.const 1))"#),
    );
    let problem = host.problem(system).await;
    assert!(matches!(&problem, LoadProblem::Unhealthy { message, .. } if message.contains("trapped")), "{problem}");
    let ill = component(
        &format!("export {HEALTH};"),
        &format!(
            r#"(memory (export "memory") 1)
            (data (i32.const 0) "\01\00\00\00\10\00\00\00\08\00\00\00")
            (data (i32.const 16) "no model")
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
            (func (export "{HEALTH}#check") (result i32) (i32.const 0))"#
        ),
    );
    host.put("guest", &ill);
    let problem = host.problem(system).await;
    assert!(matches!(&problem, LoadProblem::Unhealthy { message, .. } if message.contains("no model")), "{problem}");
}

#[tokio::test]
async fn a_source_that_is_no_file_or_too_large_is_refused_without_being_read() {
    let host = Host::new();
    let path = host.folder.path().join("guest.wasm");
    let system = "[components.guest]\nsource = \"guest.wasm\"";
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    let problem = host.problem(system).await;
    assert!(matches!(&problem, LoadProblem::Refused { .. }), "{problem}");
    std::fs::remove_file(&path).unwrap();
    std::fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    let problem = host.problem(system).await;
    assert!(problem.to_string().contains("host.compile.size"), "{problem}");
}

#[tokio::test]
async fn a_fused_system_equals_the_isolated_one() {
    let host = Host::new();
    host.put("asks", &asks());
    host.put("well", &well());
    let mut answers = Vec::new();
    for mode in ["isolated", "fused"] {
        let link = format!("\"witan:component/health-sync\" = {{ component = \"well\", mode = \"{mode}\" }}");
        let running = host.load(&two(&link)).await.unwrap_or_else(|error| panic!("{mode}: {error}"));
        assert_eq!(running.component(&"asks".parse().unwrap()).unwrap().fused.len(), usize::from(mode == "fused"));
        let account = host.loader.engine.open_account(Limits::default());
        answers.push(call(service(&running, "asks"), &CallContext::local(), &account, "run").await);
    }
    assert_eq!(answers, [Ok(10), Ok(10)]);
}
