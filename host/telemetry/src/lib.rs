//! Logs, spans and metrics.
//!
//! [`init`] sends what the host logs to standard error and keeps the last of it in a [`Ring`], for `witan logs`.
//! [`Metrics`] counts what the host does, and gathers at each scrape what others count already.

mod logs;
mod metrics;
mod process;
mod ring;

pub use logs::{Color, Format, LogError, LogSettings, Spans, init};
pub use metrics::{Metrics, Sample};
pub use process::resident_bytes;
pub use ring::{LogRecord, Ring};
