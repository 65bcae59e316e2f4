//! What spans say: who they are for, so that lines within can name it, and what came of them, so that it can be exported.

use std::{fmt, time::SystemTime};

use opentelemetry::{Key, KeyValue, Value};
use serde::Serialize;
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    layer::{Context, Layer},
    registry::{LookupSpan, Scope},
};

use crate::{Traces, masking::Masking};

/// The spans that are exported, and which end of a call each is.
const EXPORTED: [(&str, End); 4] = [
    ("http.request", End::Server),
    ("task.run", End::Inside),
    ("component.call", End::Inside),
    ("http.send", End::Client),
];

/// Which end of a call a span is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Server,
    Client,
    Inside,
}

/// Attributes of one span, the bytes of one value, and notes within one span. More are counted and left out.
const ATTRIBUTES: usize = 32;
const VALUE_BYTES: usize = 1 << 10;
const NOTES: usize = 8;

/// Whether spans from this place are exported while any are.
pub(crate) fn is_exported(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && end(metadata).is_some()
}

/// Whether spans from this place are those of a task or of a component's call.
pub(crate) fn is_call(metadata: &Metadata<'_>) -> bool {
    end(metadata) == Some(End::Inside) && metadata.is_span()
}

fn end(metadata: &Metadata<'_>) -> Option<End> {
    let ours = metadata.target().starts_with("witan_");
    EXPORTED.iter().find(|(name, _)| ours && *name == metadata.name()).map(|(_, end)| *end)
}

/// For whom a span is. Found on the span itself or on the nearest above it that says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Names {
    #[serde(rename = "trace_id", skip_serializing_if = "Option::is_none")]
    pub(crate) trace: Option<String>,
    #[serde(rename = "span_id", skip_serializing_if = "Option::is_none")]
    pub(crate) span: Option<String>,
    #[serde(rename = "task_id", skip_serializing_if = "Option::is_none")]
    pub(crate) task: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tenant: Option<String>,
}

impl Names {
    fn fill_from(&mut self, above: &Self) {
        let fill = |own: &mut Option<String>, above: &Option<String>| {
            if own.is_none() {
                own.clone_from(above);
            }
        };
        fill(&mut self.trace, &above.trace);
        fill(&mut self.span, &above.span);
        fill(&mut self.task, &above.task);
        fill(&mut self.tenant, &above.tenant);
    }
}

/// For whom the innermost span of `scope` is, if any span says.
pub(crate) fn names<'a, S: LookupSpan<'a>>(scope: Option<Scope<'a, S>>) -> Option<Names> {
    let mut found = None::<Names>;
    for span in scope? {
        if let Some(names) = span.extensions().get::<Names>() {
            found.get_or_insert_default().fill_from(names);
        }
    }
    found
}

/// A span that is to be exported, as far as it got.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) name: &'static str,
    pub(crate) end: End,
    pub(crate) trace: u128,
    pub(crate) span: u64,
    pub(crate) parent: u64,
    pub(crate) sampled: bool,
    pub(crate) began: SystemTime,
    pub(crate) attributes: Vec<KeyValue>,
    pub(crate) left_out: u32,
    pub(crate) notes: Vec<(SystemTime, String)>,
    pub(crate) notes_left_out: u32,
    pub(crate) failed: Option<String>,
}

/// Reads what spans say.
pub(crate) struct Spans {
    traces: Traces,
    masking: Masking,
}

impl Spans {
    /// What is written of lines within spans is masked by `masking`.
    pub(crate) fn new(traces: Traces, masking: Masking) -> Self {
        Self { traces, masking }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Spans {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut said = Said::default();
        let end = end(attributes.metadata()).filter(|_| self.traces.exporting());
        said.all = end.is_some();
        attributes.record(&mut said);
        if let Some((trace, own)) = end.and(said.ids()) {
            let open = Open {
                name: attributes.metadata().name(),
                end: end.unwrap_or(End::Inside),
                trace,
                span: own,
                parent: said.parent.as_deref().and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or(0),
                sampled: said.sampled,
                began: SystemTime::now(),
                attributes: std::mem::take(&mut said.attributes),
                left_out: said.left_out,
                notes: Vec::new(),
                notes_left_out: 0,
                failed: None,
            };
            if self.traces.opened(&open) {
                span.extensions_mut().insert(open);
            }
        }
        if said.names != Names::default() {
            span.extensions_mut().insert(said.names);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut extensions = span.extensions_mut();
        let Some(open) = extensions.get_mut::<Open>() else { return };
        let mut said = Said { all: true, attributes: std::mem::take(&mut open.attributes), ..Said::default() };
        values.record(&mut said);
        open.attributes = said.attributes;
        open.left_out += said.left_out;
        if let Some(outcome) = said.outcome {
            open.failed = (outcome != "ok").then_some(outcome);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if !self.traces.exporting() || *event.metadata().level() > Level::WARN {
            return;
        }
        let Some(scope) = context.event_scope(event) else { return };
        for span in scope {
            let mut extensions = span.extensions_mut();
            let Some(open) = extensions.get_mut::<Open>() else { continue };
            if open.notes.len() < NOTES {
                let mut message = Message::default();
                event.record(&mut message);
                let mut note = self.masking.text(None, message.0);
                note.truncate(note.floor_char_boundary(VALUE_BYTES));
                open.notes.push((SystemTime::now(), note));
            } else {
                open.notes_left_out += 1;
            }
            return;
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let open = span.extensions_mut().remove::<Open>();
        if let Some(open) = open {
            self.traces.closed(open);
        }
    }
}

/// What is read of a span.
#[derive(Default)]
struct Said {
    names: Names,
    parent: Option<String>,
    sampled: bool,
    outcome: Option<String>,
    /// Whether to read attributes too.
    all: bool,
    attributes: Vec<KeyValue>,
    left_out: u32,
}

impl Said {
    fn ids(&self) -> Option<(u128, u64)> {
        let trace = u128::from_str_radix(self.names.trace.as_deref()?, 16).ok()?;
        let span = u64::from_str_radix(self.names.span.as_deref()?, 16).ok()?;
        (trace != 0 && span != 0).then_some((trace, span))
    }

    fn text(&mut self, field: &Field, text: impl FnOnce() -> String) {
        let slot = match field.name() {
            "trace" => &mut self.names.trace,
            "span" => &mut self.names.span,
            "parent" => &mut self.parent,
            name => {
                let slot = match name {
                    "task" => Some(&mut self.names.task),
                    "tenant" => Some(&mut self.names.tenant),
                    "outcome" => Some(&mut self.outcome),
                    _ => None,
                };
                if slot.is_none() && !self.all {
                    return;
                }
                let mut text = text();
                text.truncate(text.floor_char_boundary(VALUE_BYTES));
                if let Some(slot) = slot {
                    *slot = Some(text.clone());
                }
                return self.value(field, text);
            }
        };
        *slot = Some(text());
    }

    fn value(&mut self, field: &Field, value: impl Into<Value>) {
        if !self.all {
        } else if self.attributes.len() < ATTRIBUTES {
            self.attributes.push(KeyValue::new(Key::from_static_str(attribute(field.name())), value));
        } else {
            self.left_out += 1;
        }
    }
}

/// What a field is called in traces: OpenTelemetry's own word where there is one, and else ours in our namespace.
fn attribute(field: &'static str) -> &'static str {
    match field {
        "method" => "http.request.method",
        "status" => "http.response.status_code",
        "route" => "http.route",
        "server" => "server.address",
        "request_id" => "witan.request.id",
        "component" => "witan.component",
        "digest" => "witan.component.digest",
        "intent" => "witan.intent",
        "tenant" => "witan.tenant",
        "task" => "witan.task.id",
        "depth" => "witan.depth",
        "cpu_us" => "witan.cpu_us",
        "memory_peak" => "witan.memory_peak_bytes",
        "tokens" => "gen_ai.usage.total_tokens",
        "outcome" => "witan.outcome",
        other => other,
    }
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, || format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, || value.to_owned());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        if field.name() == "sampled" {
            self.sampled = value;
        } else {
            self.value(field, value);
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.value(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.value(field, i64::try_from(value).unwrap_or(i64::MAX));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.value(field, value);
    }
}

/// The message of a line.
#[derive(Default)]
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}
