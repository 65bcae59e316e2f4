//! The span of a task, for logs and traces.

use tracing::{Span, field};
use witan_capability::CallContext;

use crate::{Envelope, Status};

/// The span that a task of `intent` runs in, with `context`.
pub(crate) fn open(context: &CallContext, intent: &str) -> Span {
    let trace = context.trace();
    tracing::info_span!(
        "task.run",
        intent,
        tenant = context.tenant(),
        task = context.task().map(field::display),
        trace = %trace,
        span = trace.span().map(field::display),
        parent = trace.parent().map(field::display),
        sampled = trace.sampled(),
        cpu_us = field::Empty,
        memory_peak = field::Empty,
        tokens = field::Empty,
        outcome = field::Empty,
        component = field::Empty,
    )
}

/// Notes in the span under way how its task ended.
pub(crate) fn record(envelope: &Envelope, component: Option<&str>) {
    let span = Span::current();
    if span.is_disabled() {
        return;
    }
    span.record("cpu_us", envelope.usage.cpu_ms.saturating_mul(1_000));
    span.record("memory_peak", envelope.usage.memory_peak);
    if envelope.usage.tokens > 0 {
        span.record("tokens", envelope.usage.tokens);
    }
    if let Some(component) = component {
        span.record("component", component);
    }
    let outcome = match (&envelope.error, envelope.status) {
        (Some(error), _) => error.code.name(),
        (None, Status::Ok) => "ok",
        (None, status) => status.name(),
    };
    span.record("outcome", outcome);
}
