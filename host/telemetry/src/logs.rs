//! Logs to standard error.

use std::io::IsTerminal as _;

use tracing_subscriber::{
    Layer, Registry,
    filter::{ParseError, Targets},
    fmt::{self, format::FmtSpan},
    layer::SubscriberExt as _,
    util::{SubscriberInitExt as _, TryInitError},
};

use crate::Ring;

/// The environment variable that names what is logged, where no flag does.
const VARIABLE: &str = "WITAN_LOG";
/// What is logged where nothing says otherwise.
const DEFAULT: &str = "info";
/// The same for a command that speaks for itself: what someone should look at. That a component trapped, the command
/// says.
const QUIET: &str = "warn,witan_engine::service=error";

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
    #[error("`{filter}` does not say what to log; try `info`, `debug` or `info,witan_http=trace`")]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// The process logs already.
    #[error("logs are set up already")]
    Twice(#[from] TryInitError),
}

/// Sends what this process logs to standard error, and keeps the last of it in the ring that is returned.
///
/// # Errors
/// When the filter is none, or the process logs already.
pub fn init(settings: &LogSettings) -> Result<Ring, LogError> {
    let ring = Ring::default();
    tracing_subscriber::registry().with(stderr(settings)).with(ring.clone()).with(filter(settings)?).try_init()?;
    Ok(ring)
}

fn filter(settings: &LogSettings) -> Result<Targets, LogError> {
    let set = std::env::var(VARIABLE).ok().filter(|set| !set.is_empty());
    let default = if settings.quiet { QUIET } else { DEFAULT };
    let mut filter = settings.filter.clone().or(set).unwrap_or_else(|| default.to_owned());
    if settings.spans == Spans::All {
        filter.push_str(",witan_capability=trace");
    }
    filter.parse().map_err(|source| LogError::Filter { filter, source })
}

fn stderr(settings: &LogSettings) -> Box<dyn Layer<Registry> + Send + Sync> {
    let spans = if settings.spans == Spans::None { FmtSpan::NONE } else { FmtSpan::CLOSE };
    let layer = fmt::layer().with_writer(std::io::stderr).with_span_events(spans);
    match settings.format {
        Format::Pretty => layer.with_ansi(colored(settings.color)).boxed(),
        Format::Json => layer.json().flatten_event(true).boxed(),
    }
}

fn colored(color: Color) -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    color == Color::Auto && std::io::stderr().is_terminal() && !set("NO_COLOR")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_is_none_is_refused_with_what_to_try() {
        let settings = LogSettings { filter: Some("info,=loud".into()), ..LogSettings::default() };
        let error = filter(&settings).unwrap_err().to_string();
        assert!(error.contains("info,=loud") && error.contains("try `info`"), "{error}");
    }

    #[test]
    fn colour_can_be_switched_off() {
        assert!(!colored(Color::Never));
    }
}
