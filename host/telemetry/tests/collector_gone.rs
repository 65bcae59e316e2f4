//! A collector that refuses, hangs or is gone costs spans, and nothing else.

#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

use tokio::net::TcpListener;
use tracing::field;
use witan_capability::Trace;
use witan_telemetry::{Export, LogSettings, init};

#[tokio::test]
async fn spans_beyond_the_queue_are_dropped_and_counted_and_nobody_waits() {
    let logs = init(&LogSettings { filter: Some("off".into()), ..LogSettings::default() }).unwrap();
    // Takes connections, and never answers.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let _exporting = logs.traces.export_to(&Export { endpoint: Some(url), queue: 16, ..Export::default() }).unwrap();
    // The test has one thread: were any of these to wait for the collector, it would not end.
    for _ in 0..1_000 {
        let trace = Trace::begin(true).child();
        let _span = tracing::debug_span!(
            target: "witan_engine::service",
            "component.call",
            trace = %trace,
            span = trace.span().map(field::display),
            sampled = true,
        );
    }
    let counts = logs.traces.counts();
    assert_eq!((counts.exported, counts.dropped), (0, 1_000 - 16));
}
