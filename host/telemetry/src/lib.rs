//! Logs, spans and metrics.
//!
//! [`init`] sends what the host logs to standard error and keeps the last of it in a [`Ring`], for `witan logs`.
//! [`Traces`] decides which traces are kept, and sends those to a collector where one is named.
//! [`Metrics`] counts what the host does, and gathers at each scrape what others count already.

mod export;
mod file;
mod json;
mod levels;
mod logs;
mod masking;
mod metrics;
mod plain;
mod process;
mod ring;
mod spans;
mod traces;

pub use export::{Export, ExportError};
pub use file::{FileError, LogFile, Retention};
pub use levels::{FilterError, Levels};
pub use logs::{Color, Format, LogError, LogSettings, Logs, Spans, init};
pub use metrics::{LedgerSample, Metrics, RequestEnd, Sample, Subscriber};
pub use process::resident_bytes;
pub use ring::{LogRecord, Ring};
pub use traces::{Exporting, Ratio, Rule, Sampling, SpanCounts, Traces};
