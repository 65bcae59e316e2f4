//! What operators see of a host: traces at a collector, metrics behind every panel and alert.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::Command,
    sync::{Arc, Mutex},
    thread,
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::any_value::Value as Any,
    trace::v1::{Span, span::SpanKind},
};
use prost::Message as _;
use serde_json::json;
use witan_test_tools::Tool;

use crate::{
    checkout,
    up::{TELLING, Up, built},
};

/// A collector of traces on this machine, which keeps what it is sent.
pub(crate) struct Collector {
    pub(crate) url: String,
    got: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
}

impl Collector {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let collector = Self { url: format!("http://{}", listener.local_addr().unwrap()), got: Arc::default() };
        let got = collector.got.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let got = got.clone();
                thread::spawn(move || while let Ok(true) = take(&stream, &got) {});
            }
        });
        collector
    }

    pub(crate) fn spans(&self) -> Vec<Span> {
        let requests = self.got.lock().unwrap();
        let scopes = requests.iter().flat_map(|request| &request.resource_spans).flat_map(|of| &of.scope_spans);
        scopes.flat_map(|of| &of.spans).cloned().collect()
    }
}

/// Takes one request; false at the end of the connection.
fn take(stream: &TcpStream, got: &Mutex<Vec<ExportTraceServiceRequest>>) -> io::Result<bool> {
    let mut reader = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    if reader.read_line(&mut line)? == 0 {
        return Ok(false);
    }
    assert!(line.starts_with("POST /v1/traces "), "{line}");
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    got.lock().unwrap().push(ExportTraceServiceRequest::decode(body.as_slice()).unwrap());
    (&*stream).write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
    Ok(true)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attribute(span: &Span, key: &str) -> Option<String> {
    let value = span.attributes.iter().find(|attribute| attribute.key == key)?.value.clone()?.value?;
    match value {
        Any::StringValue(text) => Some(text),
        Any::IntValue(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Sends a request with `traceparent`.
fn ask(up: &Up, path: &str, traceparent: &str, body: &str) -> crate::up::Answer {
    let mut stream = TcpStream::connect(up.address()).unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-type: application/json\r\n\
         traceparent: {traceparent}\r\ncontent-length: {}\r\n\r\n{body}",
        up.address(),
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    crate::up::end(stream).unwrap()
}

fn task() -> String {
    json!({ "intent": "tell", "input": { "text": "which version?" } }).to_string()
}

#[test]
fn a_request_is_one_trace_from_its_client_to_its_component() {
    let collector = Collector::start();
    let system = format!("{TELLING}\n[host.telemetry]\notlp = \"{}\"\nsample = \"0%\"\n", collector.url);
    let mut up = Up::start(&system, &built("versioned"));
    let traceparent = |trace: &str, flags: &str| format!("00-{trace}-00f067aa0ba902b7-{flags}");
    let (tasks, mounts) = ("1".repeat(32), "2".repeat(32));
    assert_eq!(ask(&up, "/v1/tasks?wait=60", &traceparent(&tasks, "01"), &task()).status, 200);
    assert_eq!(ask(&up, "/site", &traceparent(&mounts, "01"), "{}").status, 200);
    assert_eq!(ask(&up, "/site", &traceparent(&"3".repeat(32), "00"), "{}").status, 200);
    up.signal("TERM");
    assert!(up.ended().success());

    let mut traces: BTreeMap<String, Vec<Span>> = BTreeMap::new();
    for span in collector.spans() {
        traces.entry(hex(&span.trace_id)).or_default().push(span);
    }
    assert_eq!(traces.keys().collect::<Vec<_>>(), [&tasks, &mounts], "what nobody asked for is not sent");
    for (trace, path) in [
        (&tasks, ["http.request", "task.run", "component.call"].as_slice()),
        (&mounts, ["http.request", "component.call"].as_slice()),
    ] {
        let spans = &traces[trace];
        let mut above = "00f067aa0ba902b7".to_owned();
        for name in path {
            let span = spans.iter().find(|span| span.name == *name).unwrap_or_else(|| panic!("no {name} in {spans:?}"));
            assert_eq!(hex(&span.parent_span_id), above, "{name}");
            assert_eq!(span.kind == SpanKind::Server as i32, *name == "http.request");
            above = hex(&span.span_id);
            if *name != "http.request" {
                assert_eq!(attribute(span, "witan.component").as_deref(), Some("site"));
                assert_eq!(attribute(span, "witan.tenant").as_deref(), Some("local"));
                assert_eq!(attribute(span, "witan.outcome").as_deref(), Some("ok"));
            }
            if *name == "component.call" {
                assert_eq!(attribute(span, "witan.component.digest").unwrap().len(), 16);
                assert!(attribute(span, "witan.cpu_us").unwrap().parse::<u64>().unwrap() > 0);
                assert!(attribute(span, "witan.memory_peak_bytes").unwrap().parse::<u64>().unwrap() > 0);
            }
        }
    }
    let route = attribute(traces[&tasks].iter().find(|span| span.name == "http.request").unwrap(), "http.route");
    assert_eq!(route.as_deref(), Some("/v1/tasks"));
}

/// Every word in `text` that names one of our metrics.
fn named(text: &str) -> BTreeSet<String> {
    text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'))
        .filter(|word| word.starts_with("witan_"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_metric_that_dashboards_and_alerts_name_is_one_that_a_host_has() {
    let up = Up::start(TELLING, &built("versioned"));
    assert_eq!(up.ask("POST", "/v1/tasks?wait=60", &task()).unwrap().status, 200);
    assert_eq!(up.get("/site").status, 200);
    assert_eq!(up.ask("POST", "/v1/host/stop", "{}").unwrap().status, 401);
    let metrics = up.get("/metrics").body;
    let samples: BTreeSet<&str> = metrics
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next())
        .collect();
    let operations = checkout().join("docs/operations");
    let mut files = vec![operations.join("alerts.yml")];
    files.extend(fs::read_dir(operations.join("grafana")).unwrap().map(|entry| entry.unwrap().path()));
    assert!(files.len() >= 4);
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        if file.extension().is_some_and(|extension| extension == "json") {
            drop(serde_json::from_str::<serde_json::Value>(&text).unwrap());
        }
        let named = named(&text);
        assert!(named.len() > 5, "{}", file.display());
        let missing: Vec<&String> = named.iter().filter(|name| !samples.contains(name.as_str())).collect();
        assert!(missing.is_empty(), "{} names {missing:?}, which a host does not have:\n{metrics}", file.display());
    }

    let Some(promtool) = Tool::Promtool.or_skip() else { return };
    let rules = promtool.command().args(["check", "rules"]).arg(operations.join("alerts.yml")).output().unwrap();
    assert!(rules.status.success(), "{}", String::from_utf8_lossy(&rules.stderr));
    let file = up.folder().join("metrics.txt");
    fs::write(&file, &metrics).unwrap();
    let mut check: Command = promtool.command();
    let checked = check.args(["check", "metrics"]).stdin(fs::File::open(&file).unwrap()).output().unwrap();
    // 3 is advice on names, and 1 a fault.
    assert_ne!(checked.status.code(), Some(1), "{}", String::from_utf8_lossy(&checked.stderr));
}

#[test]
fn what_is_logged_changes_while_a_host_runs_and_files_are_kept() {
    let system = format!("{TELLING}\n[host.telemetry]\nlog-file = \"host.jsonl\"\n");
    let mut up = Up::start(&system, &built("versioned"));
    let level = |more: &[&str]| {
        let witan = Command::new(crate::WITAN).args(["logs", "level"]).args(more).current_dir(up.folder()).output();
        let output = witan.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(level(&[]), "info");
    assert_eq!(level(&["info,witan_api=debug"]), "info,witan_api=debug");
    assert_eq!(level(&[]), "info,witan_api=debug");
    up.signal("TERM");
    assert!(up.ended().success());
    let lines = fs::read_to_string(up.folder().join("host.jsonl")).unwrap();
    let changed = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let changed: Vec<_> = changed.filter(|line| line["message"] == "what is logged was changed").collect();
    assert_eq!(changed.len(), 1, "{lines}");
    assert_eq!(changed[0]["fields"]["filter"], "info,witan_api=debug");
}

#[test]
fn what_the_ledger_does_not_have_no_log_line_has() {
    for format in ["pretty", "json"] {
        let folder = tempfile::tempdir().unwrap();
        let ledger = "[host.ledger]\npatterns = [\"emp_[0-9]{4}\"]\n";
        let system = format!("{TELLING}\n{ledger}[host.telemetry]\nlog-file = \"host.jsonl\"\n");
        fs::write(folder.path().join("system.toml"), system).unwrap();
        fs::write(folder.path().join("site.wasm"), built("versioned")).unwrap();
        let mut set = Command::new(crate::WITAN);
        let set = set.args(["secrets", "set", "known"]).current_dir(folder.path()).stdin(std::process::Stdio::piped());
        let mut set = set.spawn().unwrap();
        set.stdin.take().unwrap().write_all(b"kept_by_the_host").unwrap();
        assert!(set.wait().unwrap().success());
        let errors = folder.path().join("errors");
        let mut up = Up::serve_logged(folder, &["--log-format", format], fs::File::create(&errors).unwrap());
        // What is written of a change is the filter, in which somebody stands who should not.
        let filter = "info,kept_by_the_host=debug,emp_1234=debug,a_token=trace";
        let level =
            Command::new(crate::WITAN).args(["logs", "level", filter]).current_dir(up.folder()).output().unwrap();
        assert!(level.status.success(), "{}", String::from_utf8_lossy(&level.stderr));
        let ring = up.get("/v1/host/logs").body;
        up.signal("TERM");
        assert!(up.ended().success());
        let file = fs::read_to_string(up.folder().join("host.jsonl")).unwrap();
        let errors = fs::read_to_string(&errors).unwrap();
        for (place, text) in [("the ring", &ring), ("the file", &file), ("standard error", &errors)] {
            assert!(text.contains("what is logged was changed"), "{format}, {place}: {text}");
            for canary in ["kept_by_the_host", "emp_1234", "a_token=trace"] {
                assert!(!text.contains(canary), "{format}, {place}: {text}");
            }
            for mark in ["[redacted:secret]=debug", "[redacted:pattern]=debug", "a_token=[redacted:credential]"] {
                assert!(text.contains(mark), "{format}, {place}: no {mark} in {text}");
            }
        }
        for line in file.lines().chain(errors.lines().filter(|_| format == "json")) {
            serde_json::from_str::<serde_json::Value>(line).unwrap();
        }
    }
}
