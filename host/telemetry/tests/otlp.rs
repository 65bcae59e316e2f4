//! Traces as a collector gets them: decoded by the standard's own messages, over real connections.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop at what it did not expect")]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use axum::{Router, body::Bytes, extract::State, http::StatusCode, routing::post};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{Span, span::SpanKind, status::StatusCode as SpanStatus},
};
use prost::Message as _;
use tokio::net::TcpListener;
use tracing::field;
use witan_capability::Trace;
use witan_telemetry::{Export, LogSettings, Logs, Ratio, Rule, Sampling, init};

/// A collector that keeps what it gets.
#[derive(Clone, Default)]
struct Collector {
    got: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
}

impl Collector {
    async fn start() -> (Self, String) {
        let collector = Self::default();
        let router = Router::new().route("/v1/traces", post(take)).with_state(collector.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (collector, url)
    }

    fn spans(&self) -> BTreeMap<String, Vec<Span>> {
        let mut spans: BTreeMap<String, Vec<Span>> = BTreeMap::new();
        for request in self.got.lock().unwrap().iter() {
            for span in request.resource_spans.iter().flat_map(|of| &of.scope_spans).flat_map(|of| &of.spans) {
                spans.entry(hex(&span.trace_id)).or_default().push(span.clone());
            }
        }
        spans
    }
}

async fn take(State(collector): State<Collector>, body: Bytes) -> StatusCode {
    collector.got.lock().unwrap().push(ExportTraceServiceRequest::decode(body).unwrap());
    StatusCode::OK
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attribute(attributes: &[KeyValue], key: &str) -> Option<String> {
    let value = attributes.iter().find(|attribute| attribute.key == key)?.value.clone()?.value?;
    Some(match value {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    })
}

/// A component's call within `above`, as the engine makes its span; the target is one that is exported.
fn call(above: Trace, component: &str, outcome: &str) -> Trace {
    let trace = above.child();
    let span = tracing::debug_span!(
        target: "witan_engine::service",
        "component.call",
        component,
        digest = "0123456789abcdef",
        tenant = "acme",
        trace = %trace,
        span = trace.span().map(field::display),
        parent = trace.parent().map(field::display),
        sampled = trace.sampled(),
        cpu_us = field::Empty,
        memory_peak = field::Empty,
        outcome = field::Empty,
    );
    span.record("cpu_us", 1_500_u64);
    span.record("memory_peak", 65_536_u64);
    span.in_scope(|| tracing::warn!("something to look at"));
    span.record("outcome", outcome);
    trace
}

/// The one test of this process that sets logs up: a process has one place to send spans to.
#[tokio::test]
async fn what_a_collector_gets_and_what_it_does_not() {
    let logs: Logs = init(&LogSettings { filter: Some("off".into()), ..LogSettings::default() }).unwrap();
    let off = call(Trace::begin(true), "before", "ok");
    assert!(tracing::debug_span!(target: "witan_engine::service", "component.call").is_disabled(), "free while off");

    let (collector, url) = Collector::start().await;
    let rule = |component: &str, ratio| Rule { intent: None, component: Some(component.into()), ratio };
    let export = Export {
        egress: Default::default(),
        endpoint: Some(url),
        service: Some("a-host".into()),
        sampling: Sampling { ratio: Ratio::NONE, rules: vec![rule("quiet", Ratio::NONE)], errors: true },
        queue: 64,
    };
    let exporting = logs.traces.export_to(&export).unwrap();
    assert!(!tracing::debug_span!(target: "witan_engine::service", "component.call").is_disabled());
    assert!(tracing::debug_span!(target: "witan_engine::service", "another").is_disabled(), "only what is exported");
    assert!(logs.traces.export_to(&export).is_err(), "one collector a process");

    let given = Trace::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
    let asked = call(given, "asked", "ok");
    let quiet = call(Trace::begin(true), "quiet", "ok");
    let unasked = call(logs.traces.begin(), "unasked", "ok");
    let failed = call(Trace::begin(false), "failed", "trapped");
    exporting.finish().await;

    let spans = collector.spans();
    for (trace, kept) in [(asked, true), (failed, true), (quiet, false), (unasked, false), (off, false)] {
        assert_eq!(spans.contains_key(&trace.to_string()), kept, "{trace} in {:?}", spans.keys());
    }
    let span = &spans[&asked.to_string()][0];
    assert_eq!(
        (hex(&span.span_id), hex(&span.parent_span_id)),
        (asked.span().unwrap().to_string(), "00f067aa0ba902b7".into())
    );
    assert_eq!((span.name.as_str(), span.kind), ("component.call", SpanKind::Internal as i32));
    assert!(span.end_time_unix_nano >= span.start_time_unix_nano && span.start_time_unix_nano > 0);
    for (key, value) in [
        ("witan.component", "asked"),
        ("witan.component.digest", "0123456789abcdef"),
        ("witan.tenant", "acme"),
        ("witan.cpu_us", "1500"),
        ("witan.memory_peak_bytes", "65536"),
        ("witan.outcome", "ok"),
    ] {
        assert_eq!(attribute(&span.attributes, key).as_deref(), Some(value), "{key}");
    }
    let failure = &spans[&failed.to_string()][0];
    let status = failure.status.as_ref().unwrap();
    assert_eq!((status.code, status.message.as_str()), (SpanStatus::Error as i32, "trapped"));
    let resource = collector.got.lock().unwrap()[0].resource_spans[0].resource.clone().unwrap();
    assert_eq!(attribute(&resource.attributes, "service.name").as_deref(), Some("a-host"));
    let counts = logs.traces.counts();
    assert_eq!((counts.exported, counts.unsampled, counts.dropped, counts.failed), (2, 2, 0, 0));
    assert!(
        tracing::debug_span!(target: "witan_engine::service", "component.call").is_disabled(),
        "free after the end"
    );
}
