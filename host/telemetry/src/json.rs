//! Lines for programs, which name their trace, task and tenant where a program looks for them.

use std::fmt;

use tracing::{Event, Subscriber};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

use crate::spans::{self, Names};

/// Writes lines as `F` does, an object each, with `trace_id`, `span_id`, `task_id` and `tenant` before the rest.
pub(crate) struct Named<F>(pub(crate) F);

impl<S, N, F> FormatEvent<S, N> for Named<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        let names = spans::names(context.event_scope());
        match (names.and_then(|names| first_fields(&names)), line.strip_prefix('{')) {
            (Some(first), Some(rest)) => write!(writer, "{{{first},{rest}"),
            _ => writer.write_str(&line),
        }
    }
}

fn first_fields(names: &Names) -> Option<String> {
    let json = serde_json::to_string(names).ok()?;
    let fields = json.strip_prefix('{')?.strip_suffix('}')?;
    (!fields.is_empty()).then(|| fields.to_owned())
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use serde_json::Value;
    use tracing_subscriber::{fmt::MakeWriter, layer::SubscriberExt as _};

    use super::*;
    use crate::masking::Masking;
    use crate::{Traces, spans::Spans};

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Written {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    #[test]
    fn a_line_names_trace_task_and_tenant_and_stays_json() {
        let written = Written::default();
        let layer = tracing_subscriber::fmt::layer().with_writer(written.clone()).json().flatten_event(true);
        let subscriber = tracing_subscriber::registry()
            .with(Spans::new(Traces::default(), Masking::default()))
            .with(layer.map_event_format(Named));
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("outside");
            let task =
                tracing::info_span!("task.run", trace = "t1", span = "s1", task = "k1", tenant = "a\"b").entered();
            let _call = tracing::info_span!("component.call", trace = "t1", span = "s2").entered();
            tracing::info!(trace = "other", "inside");
            drop(task);
        });
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((&lines[0]["message"], lines[0].get("trace_id")), (&Value::from("outside"), None));
        let inside = &lines[1];
        assert_eq!((&inside["trace_id"], &inside["span_id"]), (&Value::from("t1"), &Value::from("s2")));
        assert_eq!((&inside["task_id"], &inside["tenant"]), (&Value::from("k1"), &Value::from("a\"b")));
        assert_eq!(inside["message"], "inside");
    }
}
