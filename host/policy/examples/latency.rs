//! How long a decision takes: `cargo run --release -p witan-policy --example latency`.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use witan_capability::{Action, CallContext, Component, HostFunction, Policy, Request, Resource};
use witan_policy::{DecisionLog, GrantPolicy};
use witan_system::System;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let grants: String =
        (0..50).map(|n| format!("{{ host = \"api{n}.example.com\", path-prefix = \"/v1\" }},\n")).collect();
    let text = format!(
        "schema = 1\n[components.a]\nsource = \"a.wasm\"\n[components.a.grants]\nhttp = [\n{grants}]\nfilesystem = [{{ path = \"docs\", guest = \"/docs\" }}]\n"
    );
    let system = System::parse(&text, Path::new("system.toml"))?;
    let grants = system.components.values().next().map(|component| component.grants.clone()).unwrap_or_default();
    let component = Component { name: "a".into(), digest: [0; 32], grants: Arc::new(grants) };
    let folder = std::env::temp_dir().join(format!("witan-latency-{}.jsonl", std::process::id()));
    let policy = GrantPolicy::new(DecisionLog::to_file(&folder)?);
    let context = CallContext::local();
    let url = |path| Resource::Url { method: "GET", scheme: "https", host: "api49.example.com", port: 443, path };
    let cases = [
        (
            "file read, allowed, not logged",
            Action::FileRead,
            Resource::Path { guest: "/docs/a/b.md", host: Some(Path::new("docs")) },
        ),
        ("http, allowed by the last of 50 grants, logged", Action::HttpSend, url("/v1/things/7")),
        ("http, denied, logged", Action::HttpSend, url("/v2")),
    ];
    for (name, action, resource) in cases {
        let function = HostFunction::new("wasi:http/outgoing-handler@0.2.6", "handle");
        let request = Request { context: &context, component: &component, function, action, resource };
        let mut times: Vec<Duration> = (0..10_000).map(|_| time(&policy, &request)).collect();
        times.sort_unstable();
        let at = |share: usize| times.get(times.len() * share / 1000).copied().unwrap_or_default();
        println!("{name}: median {:?}, p99 {:?}, p99.9 {:?}", at(500), at(990), at(999));
    }
    println!("dropped from the file: {}", policy.log().dropped());
    std::fs::remove_file(folder)?;
    Ok(())
}

fn time(policy: &GrantPolicy, request: &Request<'_>) -> Duration {
    let start = Instant::now();
    std::hint::black_box(policy.decide(std::hint::black_box(request)));
    start.elapsed()
}
