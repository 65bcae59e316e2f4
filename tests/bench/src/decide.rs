//! How long one decision takes.

use std::{
    hint::black_box,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use witan_authorize::{Authorizer, Set, sample};
use witan_capability::{Action, CallContext, Component, HostFunction, Policy as _, Request, Resource};
use witan_ledger::{Ledger, Settings as LedgerSettings};
use witan_policy::{DecisionLog, GrantPolicy};
use witan_system::System;

use crate::{
    Setting,
    rounds::time,
    table::{Figure, Row},
};

/// Decisions of a kind in one round, of which the slowest hundredth is left out.
const DECISIONS: usize = 20_000;
/// Rounds, of which the middle one counts: in one that somebody else has the processor for a while, that is what is measured.
const ROUNDS: usize = 5;

/// Decisions one after another before the ledger has time to write what it was told: what is decided faster than it is written
/// down is refused before long, so that a host decides no faster than that for more than a moment.
const BURST: usize = 1_000;

/// Grants that a request is held against.
const GRANTS: usize = 50;

pub(crate) fn measure(_: &Setting) -> anyhow::Result<Vec<Row>> {
    // Before the ledger below has something to write beside it.
    let requests = requests()?;
    let state = tempfile::tempdir()?;
    let ledger = Ledger::open(&state.path().join("ledger"), LedgerSettings::default())?;
    let policy = GrantPolicy::new(DecisionLog::to_ledger(ledger.clone()));
    let rest = || {
        let _in_time = ledger.flush(Duration::from_secs(30));
    };
    let component = component()?;
    let decide = |name: &str, action: Action, resource: Resource<'_>, bar_us: f64| {
        let context = CallContext::local();
        let function = HostFunction::new("wasi:http/outgoing-handler@0.2.6", "handle");
        let request = Request { context: &context, component: &component, function, action, resource };
        row(format!("decision: {name}"), bar_us, || once(|| policy.decide(black_box(&request))), rest)
    };
    let file = Resource::Path { guest: "/docs/a/b.md", host: Some(Path::new("docs")) };
    let url = |path| Resource::Url { method: "GET", scheme: "https", host: "api49.example.com", port: 443, path };
    let mut rows = vec![
        decide("a file read, asked again and again (there is no cache: decision 0013)", Action::FileRead, file, 1.0),
        decide("a request that the last of 50 grants allows, logged", Action::HttpSend, url("/v1/things/7"), 10.0),
        decide("a request that 50 grants deny, explained and logged", Action::HttpSend, url("/v2"), 10.0),
    ];
    rows.extend(requests);
    Ok(rows)
}

/// Request policy by itself: 100 policies of a host of many tenants beside the host's own roles, and 1,000 entities.
fn requests() -> anyhow::Result<Vec<Row>> {
    let authorizer = Authorizer::new(Set::new(&sample::sources(100, 1_000))?, 1);
    let principal = sample::principal();
    let mut rows = Vec::new();
    for (name, action, resource) in sample::questions() {
        let request = witan_authorize::Request { principal: &principal, action, resource, context: sample::context() };
        let measure = format!("request policy, 100 policies and 1,000 entities: {name}");
        rows.push(row(measure, 10.0, || once(|| authorizer.decide(black_box(&request))), || {}));
    }
    Ok(rows)
}

fn component() -> anyhow::Result<Component> {
    let grants: String =
        (0..GRANTS).map(|n| format!("{{ host = \"api{n}.example.com\", path-prefix = \"/v1\" }},\n")).collect();
    let text = format!(
        "schema = 1\n[components.a]\nsource = \"a.wasm\"\n[components.a.grants]\nhttp = [\n{grants}]\n\
         filesystem = [{{ path = \"docs\", guest = \"/docs\" }}]\n"
    );
    let system = System::parse(&text, Path::new("system.toml"))?;
    let grants = system.components.into_values().next().map(|component| component.grants).unwrap_or_default();
    Ok(Component { name: "a".into(), digest: [0; 32], grants: Arc::new(grants) })
}

/// How long `decide` takes, in the middle one of some rounds, with a `rest` after each burst.
fn row(measure: String, bar_us: f64, decide: impl Fn() -> Duration, rest: impl Fn()) -> Row {
    let timed = |number: usize| {
        if number.is_multiple_of(BURST) {
            rest();
        }
        decide()
    };
    let mut rounds: Vec<(Duration, Duration)> = (0..ROUNDS)
        .map(|_| {
            let mut times: Vec<_> = (0..DECISIONS).map(&timed).collect();
            times.sort_unstable();
            let at = |hundredth: usize| times.get(DECISIONS * hundredth / 100).copied().unwrap_or_default();
            (at(99), at(50))
        })
        .collect();
    rounds.sort_unstable();
    let (p99, median) = rounds.get(ROUNDS / 2).copied().unwrap_or_default();
    Row {
        measure,
        value: format!("median {}", time(median)),
        floor: String::new(),
        figure: Figure::AtMost { value: p99.as_secs_f64() * 1e6, bar: bar_us, aim: None, unit: " µs p99" },
    }
}

fn once<T>(decide: impl FnOnce() -> T) -> Duration {
    let started = Instant::now();
    black_box(decide());
    started.elapsed()
}
