//! Logs to standard error.

use std::io::IsTerminal as _;

use tracing_subscriber::{
    Layer,
    fmt::{self, MakeWriter, format::FmtSpan},
    layer::{Layered, SubscriberExt as _},
    util::{SubscriberInitExt as _, TryInitError},
};

use crate::{
    Levels, Ring, Traces,
    json::Named,
    levels::{Filter, FilterError},
    masking::{Mask, Masked, MaskedFields, Masking},
    spans::Spans as SpanLayer,
};

/// The environment variable that names what is logged, where no flag does.
const VARIABLE: &str = "WITAN_LOG";
/// What is logged where nothing says otherwise.
const DEFAULT: &str = "info";
/// The same for a command that speaks for itself: what someone should look at. That a component trapped, and why
/// a server was not believed, the command says.
const QUIET: &str = "warn,witan_engine::service=error,rustls_platform_verifier=off";

/// How logs are written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogSettings {
    /// What is logged, as `tracing` directives: `debug`, or `info,witan_http=trace`. None takes it from `WITAN_LOG`, or
    /// else `info`.
    pub filter: Option<String>,
    /// Whether to log less where neither says what: warnings alone.
    pub quiet: bool,
    /// For whom.
    pub format: Format,
    /// Whether lines have colour.
    pub color: Color,
    /// Which spans write a line when they close, with how long they took and what came of them.
    pub spans: Spans,
}

/// For whom logs are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For a person.
    #[default]
    Pretty,
    /// For a program: an object a line.
    Json,
}

/// Whether lines have colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Color {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Never.
    Never,
}

/// Which spans write a line when they close.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spans {
    /// None.
    #[default]
    None,
    /// Calls of components.
    Components,
    /// Calls of components and of the host by components.
    All,
}

/// Logs could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is none.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// The process logs already.
    #[error("logs are set up already")]
    Twice(#[from] TryInitError),
}

/// What a process logs and traces: the last lines, what is logged, and which traces are kept. Cloning is cheap.
///
/// The default belongs to no process: it has no lines, and nothing is traced.
#[derive(Clone, Debug, Default)]
pub struct Logs {
    /// The last lines.
    pub ring: Ring,
    /// What is logged, which can be changed while the process runs.
    pub levels: Levels,
    /// Which traces are kept, and where they go.
    pub traces: Traces,
}

impl Logs {
    /// Masks each line by `mask` from now on: on standard error, in the ring and in the file.
    pub fn mask_by(&self, mask: Mask) {
        self.ring.masking().by(mask);
    }
}

/// Sends what this process logs to standard error, and keeps the last of it in the ring that is returned.
///
/// # Errors
/// When the filter is none, or the process logs already.
pub fn init(settings: &LogSettings) -> Result<Logs, LogError> {
    let traces = Traces::default();
    // Otherwise a call has a span only for who looks for one: it costs more than the call of a small function.
    let calls = settings.format == Format::Json || settings.spans != Spans::None;
    let levels = Levels::new(&filter(settings), calls, traces.clone())?;
    let logs = Logs { ring: Ring::default(), levels, traces };
    tracing_subscriber::registry()
        .with(SpanLayer::new(logs.traces.clone(), logs.ring.masking().clone()))
        .with(lines(settings, colored(settings.color), logs.ring.masking().clone(), std::io::stderr))
        .with(logs.ring.clone())
        .with(Filter::new(logs.levels.clone()))
        .try_init()?;
    Ok(logs)
}

fn filter(settings: &LogSettings) -> String {
    let set = std::env::var(VARIABLE).ok().filter(|set| !set.is_empty());
    let default = if settings.quiet { QUIET } else { DEFAULT };
    let mut filter = settings.filter.clone().or(set).unwrap_or_else(|| default.to_owned());
    if settings.spans == Spans::All {
        filter.push_str(",witan_capability=trace");
    }
    filter
}

type Base = Layered<SpanLayer, tracing_subscriber::Registry>;

/// Writes lines to `writer`, masked by `masking`.
fn lines<W>(settings: &LogSettings, color: bool, masking: Masking, writer: W) -> Box<dyn Layer<Base> + Send + Sync>
where
    W: for<'any> MakeWriter<'any> + Send + Sync + 'static,
{
    let spans = if settings.spans == Spans::None { FmtSpan::NONE } else { FmtSpan::CLOSE };
    let layer = fmt::layer().with_writer(writer).with_span_events(spans);
    match settings.format {
        Format::Pretty => {
            let fields = masking.clone();
            let masked = |format: fmt::format::Format| Masked { format: format.with_ansi(color), masking, json: false };
            let layer = layer.with_ansi(color).map_event_format(masked);
            if color {
                layer.map_fmt_fields(|format| MaskedFields { format, masking: fields }).boxed()
            } else {
                layer.boxed()
            }
        }
        Format::Json => {
            let layer = layer.json().flatten_event(true);
            layer.map_event_format(|format| Masked { format: Named(format), masking, json: true }).boxed()
        }
    }
}

fn colored(color: Color) -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    color == Color::Auto && std::io::stderr().is_terminal() && !set("NO_COLOR")
}

#[cfg(test)]
mod tests {
    use std::{fs::File, sync::Arc};

    use super::*;

    /// What is written of a line with a secret field, in a span with one.
    fn written(format: Format, color: bool) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        let masking = Masking::default();
        masking.by(Arc::new(|name: Option<&str>, text: String| match name {
            Some("password") => "[masked]".to_owned(),
            _ => text.replace("password=\"hunter2\"", "password=[masked]"),
        }));
        let settings = LogSettings { format, ..LogSettings::default() };
        let lines = lines(&settings, color, masking, Arc::new(File::create(file.path()).unwrap()));
        let subscriber =
            tracing_subscriber::registry().with(SpanLayer::new(Traces::default(), Masking::default())).with(lines);
        tracing::subscriber::with_default(subscriber, || {
            let _span = tracing::info_span!("outer", password = "hunter2", user = "alice").entered();
            tracing::warn!(password = "hunter2", user = "bob", "it did not fit");
        });
        std::fs::read_to_string(file.path()).unwrap()
    }

    #[test]
    fn a_field_whose_name_is_that_of_a_secret_is_masked_in_every_format() {
        for (format, color) in [(Format::Pretty, false), (Format::Pretty, true), (Format::Json, false)] {
            let line = written(format, color);
            assert_eq!(line.contains('\u{1b}'), color, "{line}");
            assert!(line.matches("[masked]").count() >= 2, "{line}");
            assert!(!line.contains("hunter2"), "{line}");
            assert!(["alice", "bob", "it did not fit"].iter().all(|part| line.contains(part)), "{line}");
        }
    }

    #[test]
    fn colour_can_be_switched_off() {
        assert!(!colored(Color::Never));
    }
}
