//! The last log lines, in memory, for whoever asks a running host.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, OnceLock},
    time::{SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    layer::{Context, Layer},
    registry::LookupSpan,
};

use crate::{LogFile, masking::Masking, spans};

/// Lines that are kept, and their bytes in all.
const LINES: usize = 4_000;
const BYTES: usize = 2 << 20;
/// The longest message or field that is kept, in bytes.
const FIELD_BYTES: usize = 4 << 10;
/// What a line takes beyond its texts, about.
const OVERHEAD: usize = 128;

/// A log line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogRecord {
    /// Counts from 1.
    pub sequence: u64,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// `ERROR`, `WARN`, `INFO`, `DEBUG` or `TRACE`.
    pub level: String,
    /// The module that wrote it.
    pub target: String,
    /// What it says.
    pub message: String,
    /// What else it names.
    pub fields: Map<String, Value>,
    /// The spans it was written in, outermost first.
    pub spans: Vec<String>,
    /// The trace, span, task and tenant that it belongs to, where it belongs to any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// See `trace_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub span_id: Option<String>,
    /// See `trace_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_id: Option<String>,
    /// See `trace_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
}

impl LogRecord {
    fn bytes(&self) -> usize {
        let fields: usize =
            self.fields.iter().map(|(name, value)| name.len() + value.as_str().map_or(16, str::len)).sum();
        let names = [&self.trace_id, &self.span_id, &self.task_id, &self.tenant];
        let names: usize = names.into_iter().flatten().map(String::len).sum();
        let spans: usize = self.spans.iter().map(String::len).sum();
        OVERHEAD + self.message.len() + self.target.len() + fields + names + spans
    }
}

impl fmt::Display for LogRecord {
    /// Level, target, message and fields on one line. Control characters are escaped: what a component logs must not
    /// steer the terminal of whoever reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = format!("{:>5} {}: {}", self.level, self.target, self.message);
        for (name, value) in &self.fields {
            line += &match value.as_str() {
                Some(text) => format!(" {name}={text}"),
                None => format!(" {name}={value}"),
            };
        }
        for part in line.chars() {
            if part.is_control() { write!(f, "{}", part.escape_default())? } else { write!(f, "{part}")? }
        }
        Ok(())
    }
}

/// The last log lines. Cloning is cheap.
#[derive(Clone, Debug, Default)]
pub struct Ring(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    lines: Mutex<Lines>,
    file: OnceLock<LogFile>,
    masking: Masking,
}

#[derive(Debug, Default)]
struct Lines {
    lines: VecDeque<LogRecord>,
    bytes: usize,
    last: u64,
}

impl Ring {
    /// At most `limit` lines after number `after`, oldest first. Without `after`, the last `limit` lines.
    #[must_use]
    pub fn read(&self, after: Option<u64>, limit: usize) -> Vec<LogRecord> {
        let lines = &self.0.lines.lock().lines;
        let first = match after {
            Some(after) => lines.partition_point(|line| line.sequence <= after),
            None => lines.len().saturating_sub(limit),
        };
        lines.iter().skip(first).take(limit).cloned().collect()
    }

    /// Writes each line to `file` too, from now on. The first file stays.
    pub fn write_to(&self, file: LogFile) {
        let _first = self.0.file.set(file);
    }

    /// Waits until each line so far is in the file, where there is one: before the process ends.
    pub fn flush(&self) {
        if let Some(file) = self.0.file.get() {
            file.flush();
        }
    }

    /// What masks lines before they are kept.
    pub(crate) fn masking(&self) -> &Masking {
        &self.0.masking
    }

    fn push(&self, mut line: LogRecord) {
        let mut kept = self.0.lines.lock();
        kept.last += 1;
        line.sequence = kept.last;
        if let Some(file) = self.0.file.get() {
            file.write(&line);
        }
        kept.bytes += line.bytes();
        kept.lines.push_back(line);
        while kept.lines.len() > LINES || kept.bytes > BYTES {
            let Some(oldest) = kept.lines.pop_front() else { break };
            kept.bytes -= oldest.bytes();
        }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Ring {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut seen = Seen { masking: &self.0.masking, message: String::new(), fields: Map::new() };
        event.record(&mut seen);
        let spans = context
            .event_scope(event)
            .map(|scope| scope.from_root().map(|span| span.name().to_owned()).collect())
            .unwrap_or_default();
        let names = spans::names(context.event_scope(event)).unwrap_or_default();
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.push(LogRecord {
            sequence: 0,
            at_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            level: event.metadata().level().to_string(),
            target: event.metadata().target().to_owned(),
            message: seen.message,
            fields: seen.fields,
            spans,
            trace_id: names.trace,
            span_id: names.span,
            task_id: names.task,
            tenant: names.tenant,
        });
    }
}

/// What an event says, masked.
struct Seen<'a> {
    masking: &'a Masking,
    message: String,
    fields: Map<String, Value>,
}

impl Seen<'_> {
    fn text(&mut self, field: &Field, text: String) {
        // Before it is cut to what is kept: half a secret is not known by its value.
        let mut text = self.masking.text(Some(field.name()), text);
        text.truncate(text.floor_char_boundary(FIELD_BYTES));
        if field.name() == "message" {
            self.message = text;
        } else {
            self.fields.insert(field.name().to_owned(), text.into());
        }
    }

    fn value(&mut self, field: &Field, value: impl Into<Value>) {
        self.fields.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Seen<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value.to_owned());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.value(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.value(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.value(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.value(field, value);
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    fn logged(log: impl FnOnce()) -> Ring {
        let ring = Ring::default();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(ring.clone()), log);
        ring
    }

    #[test]
    fn a_line_has_its_message_fields_and_spans() {
        let ring = logged(|| {
            let _span = tracing::info_span!("component.call").entered();
            tracing::warn!(component = "a", calls = 3, "it trapped");
        });
        let line = &ring.read(None, 10)[0];
        assert_eq!((line.sequence, line.level.as_str(), line.message.as_str()), (1, "WARN", "it trapped"));
        assert_eq!(line.fields["component"], "a");
        assert_eq!(line.fields["calls"], 3);
        assert_eq!(line.spans, ["component.call"]);
    }

    #[test]
    fn the_oldest_lines_make_room_and_readers_go_on_where_they_were() {
        let ring = logged(|| (0..LINES + 10).for_each(|number| tracing::info!(number)));
        let all = ring.read(Some(0), usize::MAX);
        assert_eq!((all.len(), all[0].sequence), (LINES, 11));
        assert_eq!(ring.read(Some(LINES as u64 + 8), 10).len(), 2);
        assert_eq!(ring.read(None, 3).len(), 3);
    }

    #[test]
    fn bytes_are_bounded_too() {
        let ring = logged(|| {
            let long = "é".repeat(FIELD_BYTES);
            (0..2_000).for_each(|_| tracing::info!("{long}"));
        });
        let lines = ring.read(None, usize::MAX);
        assert!(lines.iter().map(LogRecord::bytes).sum::<usize>() <= BYTES);
        assert!(lines.iter().all(|line| line.message.len() <= FIELD_BYTES));
    }

    #[test]
    fn what_is_masked_is_masked_before_it_is_cut() {
        let ring = Ring::default();
        ring.masking().by(Arc::new(|name: Option<&str>, text: String| match name {
            Some("password") => "[masked]".to_owned(),
            _ => text.replace("canary", "[masked]"),
        }));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(ring.clone()), || {
            let long = format!("{}canary", "x".repeat(FIELD_BYTES - 3));
            tracing::info!(long, password = "hunter2", number = 1, "a {long}");
        });
        let line = &ring.read(None, 1)[0];
        assert_eq!(line.fields["password"], "[masked]");
        let text = line.fields["long"].as_str().unwrap();
        assert!(text.ends_with("x[ma") && line.message.ends_with("x[") && line.fields["number"] == 1, "{text}");
    }

    #[test]
    fn a_line_cannot_steer_a_terminal() {
        let ring = logged(|| tracing::info!("a\u{1b}[2Jb\nc"));
        let text = ring.read(None, 1)[0].to_string();
        assert!(!text.contains(char::is_control), "{text}");
    }
}
