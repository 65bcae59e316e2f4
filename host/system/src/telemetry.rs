//! What of a host's work is shown to its operator, and where.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::check::Checker;
use crate::file::{Bytes, Time};
use crate::name::{ComponentName, Intent};
use crate::problem::Key;

/// Traces, and log lines in a file. Where neither is set, logs go to standard error and traces nowhere.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct TelemetryFile {
    /// The collector that traces are sent to, as OTLP over HTTP: `http://127.0.0.1:4318`. Default: that of
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`, and without it none.
    pub(crate) otlp: Option<String>,
    /// The name of the service in traces. Default: that of `OTEL_SERVICE_NAME`, and without it `witan`.
    pub(crate) service: Option<String>,
    /// How much is kept of the traces that begin here, such as `10%`. Default: `100%`.
    pub(crate) sample: Option<Percent>,
    /// Exceptions for intents and components; the first that a trace meets holds.
    pub(crate) rules: Vec<SampleRule>,
    /// Whether traces in which something failed are kept in any case. Default: true.
    pub(crate) errors: Option<bool>,
    /// Whether requests that components send carry `traceparent`, the trace they belong to. Default: true.
    pub(crate) propagate: Option<bool>,
    /// A file that log lines are written to besides, relative to this file. Default: none.
    pub(crate) log_file: Option<String>,
    /// The size at which the log file is put aside and a new one begun. Default: `64MiB`.
    pub(crate) log_size: Option<Bytes>,
    /// Log files that are kept beside the one that is written. Default: 5.
    #[schemars(range(max = 1000))]
    pub(crate) log_files: Option<u32>,
    /// The age at which the log file is put aside, and at which one that was put aside is removed. Default: `168h`.
    pub(crate) log_age: Option<Time>,
}

/// How much is kept of the traces that an intent or a component appears in.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct SampleRule {
    /// The intent of the task.
    pub(crate) intent: Option<String>,
    /// A component that was called.
    pub(crate) component: Option<String>,
    /// How much is kept, such as `10%`.
    pub(crate) sample: Percent,
}

/// A part of all: a number from 0 to 100 with at most four decimals and `%`, such as `0.5%`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(extend("pattern" = r"^[0-9]{1,3}(\.[0-9]{1,4})?%$"))]
pub(crate) struct Percent(pub(crate) String);

const PERCENT_HELP: &str = "write a number from 0 to 100 with at most four decimals and `%`, such as \"10%\"";

/// What of a host's work is shown to its operator, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Telemetry {
    /// The collector that traces are sent to; none leaves it to the environment.
    pub otlp: Option<String>,
    /// The name of the service in traces; none leaves it to the environment.
    pub service: Option<String>,
    /// Of a million traces that begin here, how many are kept.
    pub sample_millionths: u32,
    /// Exceptions for intents and components.
    pub rules: Vec<TraceRule>,
    /// Whether traces in which something failed are kept in any case.
    pub errors: bool,
    /// Whether requests that components send carry `traceparent`.
    pub propagate: bool,
    /// A file that log lines are written to besides.
    pub log_file: Option<PathBuf>,
    /// The size at which the log file is put aside, in bytes.
    pub log_size: u64,
    /// Log files that are kept beside the one that is written.
    pub log_files: u32,
    /// The age at which the log file is put aside, and one that was put aside is removed.
    pub log_age: Duration,
}

/// How much is kept of the traces that an intent or a component appears in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TraceRule {
    /// The intent of the task.
    pub intent: Option<Intent>,
    /// A component that was called.
    pub component: Option<ComponentName>,
    /// Of a million, how many are kept.
    pub sample_millionths: u32,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            otlp: None,
            service: None,
            sample_millionths: 1_000_000,
            rules: Vec::new(),
            errors: true,
            propagate: true,
            log_file: None,
            log_size: 64 << 20,
            log_files: 5,
            log_age: Duration::from_secs(7 * 24 * 3_600),
        }
    }
}

impl Checker<'_> {
    pub(crate) fn telemetry(&mut self, key: &Key, written: &TelemetryFile) -> Telemetry {
        let default = Telemetry::default();
        let rules = written.rules.iter().enumerate();
        Telemetry {
            otlp: self.collector(&key.child("otlp"), written.otlp.as_deref()),
            service: written.service.clone(),
            sample_millionths: self.sample(&key.child("sample"), written.sample.as_ref(), default.sample_millionths),
            rules: rules.map(|(index, rule)| self.sample_rule(&key.child("rules").index(index), rule)).collect(),
            errors: written.errors.unwrap_or(default.errors),
            propagate: written.propagate.unwrap_or(default.propagate),
            log_file: written.log_file.as_ref().map(|path| self.resolve(&key.child("log-file"), path)),
            log_size: self.positive_bytes(&key.child("log-size"), &written.log_size, default.log_size),
            log_files: written.log_files.unwrap_or(default.log_files),
            log_age: self.positive_time(&key.child("log-age"), &written.log_age, default.log_age),
        }
    }

    fn collector(&mut self, key: &Key, url: Option<&str>) -> Option<String> {
        let url = url?;
        let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
        if rest.is_none_or(|rest| rest.is_empty() || rest.contains(['@', '?', '#', ' '])) {
            let help = "write `http://host:port`; credentials belong into `OTEL_EXPORTER_OTLP_HEADERS`";
            self.report(key, format!("`{key}` is no address of a collector"), help);
        }
        Some(url.to_owned())
    }

    fn sample(&mut self, key: &Key, written: Option<&Percent>, default: u32) -> u32 {
        self.parsed(key, written.map(|text| text.0.as_str()), millionths, PERCENT_HELP, default)
    }

    fn sample_rule(&mut self, key: &Key, rule: &SampleRule) -> TraceRule {
        if rule.intent.is_none() && rule.component.is_none() {
            self.report(key, format!("`{key}` is about no traces"), "name an `intent`, a `component` or both");
        }
        TraceRule {
            intent: rule.intent.as_deref().and_then(|name| self.name(&key.child("intent"), name)),
            component: rule.component.as_deref().and_then(|name| self.name(&key.child("component"), name)),
            sample_millionths: self.sample(&key.child("sample"), Some(&rule.sample), 0),
        }
    }
}

/// Millionths from a text such as `0.5%`.
fn millionths(text: &str) -> Option<u32> {
    let number = text.strip_suffix('%')?;
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(part) || whole.len() > 3 || part.len() > 4 {
        return None;
    }
    let millionths = whole.parse::<u32>().ok()? * 10_000 + format!("{part:0<4}").parse::<u32>().ok()?;
    (millionths <= 1_000_000).then_some(millionths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_all_is_read_to_the_last_decimal() {
        for (text, expected) in [
            ("0%", Some(0)),
            ("10%", Some(100_000)),
            ("0.5%", Some(5_000)),
            ("0.0001%", Some(1)),
            ("100%", Some(1_000_000)),
            ("100.0001%", None),
            ("101%", None),
            ("10", None),
            ("%", None),
            (".5%", None),
            ("-1%", None),
            ("1.%", None),
            ("1.00001%", None),
        ] {
            assert_eq!(millionths(text), expected, "{text}");
        }
    }
}
