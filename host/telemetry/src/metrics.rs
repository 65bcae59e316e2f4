//! Metrics in the format that Prometheus scrapes.
//!
//! Labels come from bounded sets only: the intents and components of the system, the limits, the ways to end. What a
//! client or component may choose freely is never a label.

use std::{
    fmt,
    time::{Duration, Instant},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text},
    metrics::{
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::ConstGauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};
use witan_capability::Limit;
use witan_engine::ServiceStats;

use crate::resident_bytes;

/// What others count already, gathered at each scrape.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Host calls that entered the guard.
    pub host_calls: u64,
    /// Host calls that policy refused.
    pub denials: u64,
    /// Decisions that the decision log could not keep up with.
    pub decisions_dropped: u64,
    /// Tasks that run or wait.
    pub tasks_unfinished: u64,
    /// Each component's counters.
    pub components: Vec<(String, ServiceStats)>,
}

/// The metrics of a host.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    tasks: Family<TaskLabels, Counter>,
    durations: Family<TaskLabels, Histogram, fn() -> Histogram>,
    limits: Family<LimitLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TaskLabels {
    intent: String,
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabels {
    limit: &'static str,
}

/// From 1 ms to a little over 4 minutes, each four times the last: a task is a cached answer or a long document.
fn durations() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 4.0, 10))
}

impl Metrics {
    /// The metrics of a host that starts now, which asks `sample` at each scrape.
    #[must_use]
    pub fn new(sample: impl Fn() -> Sample + Send + Sync + 'static) -> Self {
        let mut registry = Registry::with_prefix("witan");
        let tasks = Family::default();
        registry.register("tasks", "Tasks that have ended, by intent and status", tasks.clone());
        let duration: Family<_, _, fn() -> Histogram> = Family::new_with_constructor(durations);
        registry.register("task_duration_seconds", "From acceptance to end, waiting included", duration.clone());
        let limits = Family::<LimitLabels, Counter>::default();
        for limit in Limit::ALL {
            // A counter that appears with its first count cannot be alerted on.
            drop(limits.get_or_create(&LimitLabels { limit: limit.name() }));
        }
        registry.register("limits_exceeded", "Call trees that a limit ended, by limit", limits.clone());
        registry.register_collector(Box::new(Gathered { sample: Box::new(sample), started: Instant::now() }));
        Self { registry, tasks, durations: duration, limits }
    }

    /// Counts a task of a served `intent` that ended in `status` after `duration`.
    pub fn task_ended(&self, intent: &str, status: &'static str, duration: Duration) {
        let labels = TaskLabels { intent: intent.to_owned(), status };
        self.tasks.get_or_create(&labels).inc();
        self.durations.get_or_create(&labels).observe(duration.as_secs_f64());
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
        counter("denials", "Host calls that policy refused", sample.denials)?;
        counter("decisions_dropped", "Decisions that the decision log could not keep", sample.decisions_dropped)?;
        let mut gauge = |name: &str, help: &str, value: f64| {
            let metric = ConstGauge::new(value);
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
        };
        gauge("tasks_unfinished", "Tasks that run or wait", number(sample.tasks_unfinished))?;
        gauge("uptime_seconds", "Since the host started", self.started.elapsed().as_secs_f64())?;
        if let Some(bytes) = resident_bytes() {
            gauge("process_resident_memory_bytes", "Memory that the host has resident", number(bytes))?;
        }
        components(&mut encoder, &sample.components)
    }
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
            denials: 2,
            components: vec![(
                "documents".into(),
                ServiceStats { completed: 3, cpu_ns: 1_500_000_000, ..Default::default() },
            )],
            ..Sample::default()
        });
        metrics.task_ended("summarize", "ok", Duration::from_millis(5));
        metrics.limit_exceeded(Limit::Memory);
        let text = metrics.encode().unwrap();
        for line in [
            "witan_tasks_total{intent=\"summarize\",status=\"ok\"} 1",
            "witan_task_duration_seconds_count{intent=\"summarize\",status=\"ok\"} 1",
            "witan_limits_exceeded_total{limit=\"memory\"} 1",
            "witan_limits_exceeded_total{limit=\"cpu\"} 0",
            "witan_host_calls_total 7",
            "witan_denials_total 2",
            "witan_component_calls_total{component=\"documents\",outcome=\"completed\"} 3",
            "witan_component_cpu_seconds_total{component=\"documents\"} 1.5",
            "witan_uptime_seconds ",
            "witan_process_resident_memory_bytes ",
        ] {
            assert!(text.contains(line), "no `{line}` in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
