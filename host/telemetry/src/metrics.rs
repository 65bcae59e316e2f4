//! Metrics in the formats that Prometheus scrapes.
//!
//! Labels come from bounded sets only: the intents and components of the system, the routes, the limits, the ways to end.
//! What a client or component may choose freely is never a label, and where a set could grow all the same, what comes after
//! its bound is counted as `other`.

use std::{
    collections::HashSet,
    fmt,
    sync::atomic::AtomicU64,
    time::{Duration, Instant},
};

use parking_lot::RwLock;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text},
    metrics::{
        counter::{ConstCounter, Counter},
        exemplar::HistogramWithExemplars,
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};
use witan_capability::{Limit, Trace};
use witan_engine::ServiceStats;

use crate::{SpanCounts, plain, process};

/// Intents that have labels of their own; a system has a few.
const INTENTS: usize = 200;
/// Routes and codes that have labels of their own; the API has some dozens of each.
const ROUTES: usize = 200;
/// What comes after the bound of a set.
const OTHER: &str = "other";

/// What others count already, gathered at each scrape.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Host calls that entered the guard.
    pub host_calls: u64,
    /// Host calls that policy refused, by what they were about to do.
    pub denials: Vec<(&'static str, u64)>,
    /// Bytes that components sent to other machines.
    pub egress_bytes: u64,
    /// Decisions that the decision log could not keep up with.
    pub decisions_dropped: u64,
    /// How the ledger does.
    pub ledger: LedgerSample,
    /// Tasks that run or wait.
    pub tasks_unfinished: u64,
    /// Tasks that run.
    pub tasks_running: u64,
    /// Requests that are being answered.
    pub requests_inside: u64,
    /// Requests that wait for their turn.
    pub requests_waiting: u64,
    /// What became of spans.
    pub spans: SpanCounts,
    /// Each component's counters.
    pub components: Vec<(String, ServiceStats)>,
}

/// What a ledger has done since the host started, and how it is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LedgerSample {
    /// Entries that are durable.
    pub entries: u64,
    /// Entries that were not taken: what they would have told of was refused, unless it was a refusal itself.
    pub refused: u64,
    /// Entries that wait for the disk.
    pub waiting: u64,
    /// Writes that were made durable, each of all entries that were there.
    pub writes: u64,
    /// Writes that failed; they are tried again.
    pub failures: u64,
    /// How long the writes that were made durable took, all together.
    pub write_time: Duration,
    /// Whether nothing can be written now.
    pub failing: bool,
}

/// The metrics of a host.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    intents: Bounded,
    routes: Bounded,
    codes: Bounded,
    tasks: Family<TaskLabels, Counter>,
    durations: Family<TaskLabels, Histogram, fn() -> Histogram>,
    cost: Family<IntentLabels, Counter<f64, AtomicU64>>,
    tokens: Family<IntentLabels, Counter>,
    limits: Family<LimitLabels, Counter>,
    requests: Family<RequestLabels, Counter>,
    request_durations: Family<RouteLabels, Latency, fn() -> Latency>,
    refused: Family<CodeLabels, Counter>,
    auth_failures: Family<CodeLabels, Counter>,
    throttled: Family<ByLabels, Counter>,
    subscribers: Family<KindLabels, Gauge>,
    decisions: Family<OutcomeLabels, Counter>,
    evaluation: Histogram,
    shadow_differences: Family<WouldLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WouldLabels {
    would: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

type Latency = HistogramWithExemplars<TraceLabels>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TaskLabels {
    intent: String,
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct IntentLabels {
    intent: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabels {
    limit: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: String,
    method: &'static str,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabels {
    code: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByLabels {
    by: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TraceLabels {
    trace_id: String,
}

/// A request that was answered.
#[derive(Clone, Copy, Debug)]
pub struct RequestEnd<'a> {
    /// The route as the API describes it, or `mount`, or `none`.
    pub route: &'a str,
    /// The method, of those that there are.
    pub method: &'static str,
    /// The status of the answer.
    pub status: u16,
    /// The code of the refusal, if it was one.
    pub refused: Option<&'static str>,
    /// From its headers to the head of the answer.
    pub duration: Duration,
    /// Where it stands in its trace.
    pub trace: Trace,
}

/// Somebody who listens to events; counted until it is dropped.
#[derive(Debug)]
pub struct Subscriber(Gauge);

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A set of names that cannot grow beyond its bound.
#[derive(Debug)]
struct Bounded {
    most: usize,
    known: RwLock<HashSet<String>>,
}

impl Bounded {
    fn new(most: usize) -> Self {
        Self { most, known: RwLock::default() }
    }

    /// `name` itself while there is room, and `other` after that.
    fn label(&self, name: &str) -> String {
        if self.known.read().contains(name) {
            return name.to_owned();
        }
        let mut known = self.known.write();
        if known.len() < self.most {
            known.insert(name.to_owned());
        }
        if known.contains(name) { name.to_owned() } else { OTHER.to_owned() }
    }
}

/// From 1 ms to a little over 4 minutes, each four times the last: a task is a cached answer or a long document.
fn durations() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 4.0, 10))
}

/// From 1 µs to 2 ms, each twice the last: what a decision may cost is 10 µs.
fn evaluations() -> Histogram {
    Histogram::new(exponential_buckets(0.000_001, 2.0, 12))
}

/// From 0.1 ms to some 100 s, each twice the last: a percentile between two buckets is off by a factor of two at most.
fn latencies() -> Latency {
    HistogramWithExemplars::new(exponential_buckets(0.0001, 2.0, 20))
}

impl Metrics {
    /// The metrics of a host that starts now, which asks `sample` at each scrape.
    #[must_use]
    pub fn new(sample: impl Fn() -> Sample + Send + Sync + 'static) -> Self {
        let duration: Family<_, _, fn() -> Histogram> = Family::new_with_constructor(durations);
        let request_durations: Family<_, _, fn() -> Latency> = Family::new_with_constructor(latencies);
        let mut metrics = Self {
            registry: Registry::with_prefix("witan"),
            intents: Bounded::new(INTENTS),
            routes: Bounded::new(ROUTES),
            codes: Bounded::new(ROUTES),
            tasks: Family::default(),
            durations: duration,
            cost: Family::default(),
            tokens: Family::default(),
            limits: Family::default(),
            requests: Family::default(),
            request_durations,
            refused: Family::default(),
            auth_failures: Family::default(),
            throttled: Family::default(),
            subscribers: Family::default(),
            decisions: Family::default(),
            evaluation: evaluations(),
            shadow_differences: Family::default(),
        };
        metrics.register();
        metrics.begin_at_zero();
        let gathered = Gathered { sample: Box::new(sample), started: Instant::now() };
        metrics.registry.register_collector(Box::new(gathered));
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("tasks", "Tasks that have ended, by intent and status", self.tasks.clone());
        registry.register("task_duration_seconds", "From acceptance to end, waiting included", self.durations.clone());
        registry.register("task_cost_usd", "US dollars that tasks have cost", self.cost.clone());
        registry.register("task_tokens", "Tokens of models that tasks have used", self.tokens.clone());
        registry.register("limits_exceeded", "Call trees that a limit ended, by limit", self.limits.clone());
        registry.register(
            "requests",
            "Requests that were answered, by route, method and status",
            self.requests.clone(),
        );
        let help = "From the headers of a request to the head of its answer";
        registry.register("request_duration_seconds", help, self.request_durations.clone());
        registry.register(
            "requests_refused",
            "Requests that were refused, by the code of the error",
            self.refused.clone(),
        );
        let help = "Requests whose client did not show who it is, by the code of the error";
        registry.register("auth_failures", help, self.auth_failures.clone());
        let help = "Requests that were over a rate or share, by whose it was";
        registry.register("requests_throttled", help, self.throttled.clone());
        let help = "Decisions of request policy, for clients and for what components do for them, by outcome";
        registry.register("policy_decisions", help, self.decisions.clone());
        let help = "How long request policy took to decide";
        registry.register("policy_evaluation_seconds", help, self.evaluation.clone());
        let help = "Requests that a candidate in the policies' shadow would have decided otherwise, by how";
        registry.register("policy_shadow_differences", help, self.shadow_differences.clone());
        registry.register("subscribers", "Clients that listen to events, by how", self.subscribers.clone());
    }

    /// A counter that appears with its first count cannot be alerted on.
    fn begin_at_zero(&self) {
        for limit in Limit::ALL {
            drop(self.limits.get_or_create(&LimitLabels { limit: limit.name() }));
        }
        drop(self.auth_failures.get_or_create(&CodeLabels { code: "unauthorized".to_owned() }));
        for code in ["overloaded", "rate_limited"] {
            drop(self.refused.get_or_create(&CodeLabels { code: code.to_owned() }));
        }
        for would in ["allow", "deny", "oblige"] {
            drop(self.shadow_differences.get_or_create(&WouldLabels { would }));
        }
        for by in ["key", "user", "tenant", "address", "host"] {
            drop(self.throttled.get_or_create(&ByLabels { by }));
        }
        for outcome in ["allow", "deny"] {
            drop(self.decisions.get_or_create(&OutcomeLabels { outcome }));
        }
        for kind in ["sse", "websocket"] {
            drop(self.subscribers.get_or_create(&KindLabels { kind }));
        }
    }

    /// Counts a task of a served `intent` that ended in `status` after `duration`.
    pub fn task_ended(&self, intent: &str, status: &'static str, duration: Duration) {
        let labels = TaskLabels { intent: self.intents.label(intent), status };
        self.tasks.get_or_create(&labels).inc();
        self.durations.get_or_create(&labels).observe(duration.as_secs_f64());
    }

    /// Counts what a task of a served `intent` has used of models: tokens, and US dollars.
    pub fn task_used(&self, intent: &str, tokens: u64, cost_usd: f64) {
        let labels = IntentLabels { intent: self.intents.label(intent) };
        self.tokens.get_or_create(&labels).inc_by(tokens);
        self.cost.get_or_create(&labels).inc_by(if cost_usd.is_finite() { cost_usd.max(0.0) } else { 0.0 });
    }

    /// Counts a request that was answered. Those of traces that are kept leave their trace beside the latency.
    pub fn request_ended(&self, end: &RequestEnd<'_>) {
        let route = self.routes.label(end.route);
        let labels = RequestLabels { route: route.clone(), method: end.method, status: end.status };
        self.requests.get_or_create(&labels).inc();
        let exemplar = end.trace.sampled().then(|| TraceLabels { trace_id: end.trace.to_string() });
        let seconds = end.duration.as_secs_f64();
        self.request_durations.get_or_create(&RouteLabels { route }).observe(seconds, exemplar, None);
        if let Some(code) = end.refused {
            let labels = CodeLabels { code: self.codes.label(code) };
            self.refused.get_or_create(&labels).inc();
            if end.status == 401 {
                self.auth_failures.get_or_create(&labels).inc();
            }
        }
    }

    /// Counts a decision of request policy, which took `duration`.
    pub fn policy_decided(&self, allowed: bool, duration: Duration) {
        let outcome = if allowed { "allow" } else { "deny" };
        self.decisions.get_or_create(&OutcomeLabels { outcome }).inc();
        self.evaluation.observe(duration.as_secs_f64());
    }

    /// Counts a request that a candidate policy `would` have decided otherwise: `allow`, `deny` or `oblige`.
    pub fn policy_shadow_differed(&self, would: &'static str) {
        self.shadow_differences.get_or_create(&WouldLabels { would }).inc();
    }

    /// Counts a request that was over the rate or share of `by`: `key`, `user`, `tenant`, `address` or `host`.
    pub fn throttled(&self, by: &'static str) {
        self.throttled.get_or_create(&ByLabels { by }).inc();
    }

    /// Counts somebody who listens to events by `kind`, `sse` or `websocket`, for as long as the result lives.
    #[must_use]
    pub fn subscriber(&self, kind: &'static str) -> Subscriber {
        let gauge = self.subscribers.get_or_create_owned(&KindLabels { kind });
        gauge.inc();
        Subscriber(gauge)
    }

    /// Counts a call tree that `limit` ended.
    pub fn limit_exceeded(&self, limit: Limit) {
        self.limits.get_or_create(&LimitLabels { limit: limit.name() }).inc();
    }

    /// All metrics, as [`Self::CONTENT_TYPE`].
    ///
    /// # Errors
    /// When a metric cannot be written.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// All metrics, as [`Self::PLAIN_CONTENT_TYPE`]: without exemplars.
    ///
    /// # Errors
    /// When a metric cannot be written.
    pub fn encode_plain(&self) -> Result<String, fmt::Error> {
        Ok(plain::from_openmetrics(&self.encode()?))
    }

    /// The media type of [`Self::encode_plain`], which every scraper reads.
    pub const PLAIN_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

    /// The media type of [`Self::encode`].
    pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
}

struct Gathered {
    sample: Box<dyn Fn() -> Sample + Send + Sync>,
    started: Instant,
}

impl fmt::Debug for Gathered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gathered").finish_non_exhaustive()
    }
}

impl Collector for Gathered {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let sample = (self.sample)();
        let mut counter = |name: &str, help: &str, value: u64| {
            let metric = ConstCounter::new(value);
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
        };
        counter("host_calls", "Host calls that entered the guard", sample.host_calls)?;
        counter("egress_bytes", "Bytes that components sent to other machines", sample.egress_bytes)?;
        counter("decisions_dropped", "Decisions that the decision log could not keep", sample.decisions_dropped)?;
        let ledger = sample.ledger;
        counter("ledger_entries", "Entries of the ledger that are durable", ledger.entries)?;
        counter("ledger_refused", "Entries that the ledger did not take", ledger.refused)?;
        counter("ledger_writes", "Writes of entries that were made durable", ledger.writes)?;
        counter("ledger_write_failures", "Writes of entries that failed and are tried again", ledger.failures)?;
        let seconds = ConstCounter::new(ledger.write_time.as_secs_f64());
        let help = "How long the writes that were made durable took";
        seconds.encode(encoder.encode_descriptor("ledger_write_seconds", help, None, seconds.metric_type())?)?;
        let mut gauge = |name: &str, help: &str, value: f64| {
            let metric = ConstGauge::new(value);
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
        };
        gauge("tasks_unfinished", "Tasks that run or wait", number(sample.tasks_unfinished))?;
        gauge("tasks_running", "Tasks that run", number(sample.tasks_running))?;
        let queued = sample.tasks_unfinished.saturating_sub(sample.tasks_running);
        gauge("tasks_queued", "Tasks that wait for a place", number(queued))?;
        gauge("requests_inside", "Requests that are being answered", number(sample.requests_inside))?;
        gauge("requests_waiting", "Requests that wait for their turn", number(sample.requests_waiting))?;
        gauge("ledger_waiting", "Entries that wait for the disk", number(ledger.waiting))?;
        gauge("ledger_failing", "Whether the ledger cannot be written", f64::from(u8::from(ledger.failing)))?;
        gauge("uptime_seconds", "Since the host started", self.started.elapsed().as_secs_f64())?;
        for (name, help, value) in process::figures() {
            gauge(name, help, value)?;
        }
        if let Some(seconds) = process::cpu_seconds() {
            let metric = ConstCounter::new(seconds);
            let help = "Processor time that the host has used, its components included";
            let kind = metric.metric_type();
            metric.encode(encoder.encode_descriptor("process_cpu_seconds", help, None, kind)?)?;
        }
        let kinds = sample.denials.iter().map(|(action, count)| (*action, *count));
        counters(
            &mut encoder,
            "denials",
            "Host calls that policy refused, by what they were about to do",
            "action",
            kinds,
        )?;
        let spans = sample.spans;
        let spans = [
            ("exported", spans.exported),
            ("unsampled", spans.unsampled),
            ("dropped", spans.dropped),
            ("failed", spans.failed),
        ];
        counters(&mut encoder, "spans", "Spans, by what became of them", "outcome", spans)?;
        components(&mut encoder, &sample.components)
    }
}

/// A family of counters with one label.
fn counters(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    label: &str,
    values: impl IntoIterator<Item = (&'static str, u64)>,
) -> fmt::Result {
    let kind = ConstCounter::new(0u64).metric_type();
    let mut family = encoder.encode_descriptor(name, help, None, kind)?;
    for (value, count) in values {
        ConstCounter::new(count).encode(family.encode_family(&[(label, value)])?)?;
    }
    Ok(())
}

fn components(encoder: &mut DescriptorEncoder, components: &[(String, ServiceStats)]) -> fmt::Result {
    let kind = ConstCounter::new(0u64).metric_type();
    let mut calls =
        encoder.encode_descriptor("component_calls", "Calls of a component, by how they ended", None, kind)?;
    for (name, stats) in components {
        let outcomes = [
            ("completed", stats.completed),
            ("trapped", stats.trapped),
            ("ended", stats.ended),
            ("refused", stats.refused),
        ];
        for (outcome, value) in outcomes {
            let labels = [("component", name.as_str()), ("outcome", outcome)];
            ConstCounter::new(value).encode(calls.encode_family(&labels)?)?;
        }
    }
    let help = "Processor time that a component's code ran";
    let mut cpu = encoder.encode_descriptor("component_cpu_seconds", help, None, kind)?;
    for (name, stats) in components {
        let seconds = Duration::from_nanos(stats.cpu_ns).as_secs_f64();
        ConstCounter::new(seconds).encode(cpu.encode_family(&[("component", name.as_str())])?)?;
    }
    type Read = fn(&ServiceStats) -> f64;
    let gauges: [(&str, &str, Read); 3] = [
        ("component_calls_active", "Calls under way", |stats| number(stats.active as u64)),
        ("component_calls_waiting", "Calls that wait for a place", |stats| number(stats.waiting as u64)),
        ("component_breaker_open", "1 while the breaker refuses calls", |stats| number(stats.breaker_open.into())),
    ];
    for (name, help, read) in gauges {
        let kind = ConstGauge::new(0.0f64).metric_type();
        let mut family = encoder.encode_descriptor(name, help, None, kind)?;
        for (component, stats) in components {
            ConstGauge::new(read(stats)).encode(family.encode_family(&[("component", component.as_str())])?)?;
        }
    }
    Ok(())
}

/// A count as the format wants it. Above 2^53 the last digits are lost, which no graph shows.
#[allow(clippy::cast_precision_loss, reason = "said above")]
fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_counted_is_written() {
        let metrics = Metrics::new(|| Sample {
            host_calls: 7,
            denials: vec![("file-read", 2)],
            components: vec![(
                "documents".into(),
                ServiceStats { completed: 3, cpu_ns: 1_500_000_000, ..Default::default() },
            )],
            ..Sample::default()
        });
        metrics.task_ended("summarize", "ok", Duration::from_millis(5));
        metrics.limit_exceeded(Limit::Memory);
        metrics.task_used("summarize", 9, 0.5);
        metrics.request_ended(&end("/v1/tasks", Trace::begin(true)));
        let _listening = metrics.subscriber("sse");
        drop(metrics.subscriber("websocket"));
        let text = metrics.encode().unwrap();
        for line in [
            "witan_tasks_total{intent=\"summarize\",status=\"ok\"} 1",
            "witan_task_duration_seconds_count{intent=\"summarize\",status=\"ok\"} 1",
            "witan_limits_exceeded_total{limit=\"memory\"} 1",
            "witan_limits_exceeded_total{limit=\"cpu\"} 0",
            "witan_host_calls_total 7",
            "witan_denials_total{action=\"file-read\"} 2",
            "witan_task_tokens_total{intent=\"summarize\"} 9",
            "witan_task_cost_usd_total{intent=\"summarize\"} 0.5",
            "witan_requests_total{route=\"/v1/tasks\",method=\"POST\",status=\"401\"} 1",
            "witan_auth_failures_total{code=\"unauthorized\"} 1",
            "witan_subscribers{kind=\"sse\"} 1",
            "witan_subscribers{kind=\"websocket\"} 0",
            "witan_process_open_fds ",
            "witan_component_calls_total{component=\"documents\",outcome=\"completed\"} 3",
            "witan_component_cpu_seconds_total{component=\"documents\"} 1.5",
            "witan_uptime_seconds ",
            "witan_process_resident_memory_bytes ",
        ] {
            assert!(text.contains(line), "no `{line}` in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    fn end(route: &str, trace: Trace) -> RequestEnd<'_> {
        let (status, refused) = (401, Some("unauthorized"));
        RequestEnd { route, method: "POST", status, refused, duration: Duration::from_millis(3), trace }
    }

    #[test]
    fn a_latency_names_a_trace_that_is_kept_where_the_format_allows() {
        let metrics = Metrics::new(Sample::default);
        let (kept, other) = (Trace::begin(true), Trace::begin(false));
        metrics.request_ended(&end("/a", kept));
        metrics.request_ended(&end("/b", other));
        let text = metrics.encode().unwrap();
        assert!(text.contains(&format!("# {{trace_id=\"{kept}\"}}")), "{text}");
        assert!(!text.contains(&other.to_string()));
        let plain = metrics.encode_plain().unwrap();
        assert!(
            !plain.contains("trace_id")
                && !plain.contains("# EOF")
                && plain.contains("# TYPE witan_requests_total counter")
        );
    }

    #[test]
    fn a_flood_of_names_does_not_become_a_flood_of_labels() {
        let metrics = Metrics::new(Sample::default);
        for number in 0..50_000 {
            let name = format!("made-up-{number}");
            metrics.task_ended(&name, "ok", Duration::ZERO);
            metrics.request_ended(&end(&name, Trace::begin(false)));
        }
        let text = metrics.encode().unwrap();
        let rows = |family: &str| text.lines().filter(|line| line.starts_with(family)).count();
        assert_eq!(rows("witan_tasks_total"), INTENTS + 1);
        assert_eq!(rows("witan_request_duration_seconds_count"), ROUTES + 1);
        assert!(
            text.contains("witan_tasks_total{intent=\"other\",status=\"ok\"} 49800"),
            "what is over is still counted"
        );
        assert!(text.len() < 1 << 20, "{} bytes", text.len());
    }
}
