//! What is logged, which can be changed while the process runs.

use std::sync::Arc;

use parking_lot::RwLock;
use tracing::{Metadata, Subscriber, level_filters::LevelFilter, subscriber::Interest};
use tracing_subscriber::{
    Layer,
    filter::{ParseError, Targets},
    layer::Context,
};

use crate::{Traces, spans};

/// The filter is none.
#[derive(Debug, thiserror::Error)]
#[error("`{filter}` does not say what to log; try `info`, `debug` or `info,witan_http=trace`")]
pub struct FilterError {
    filter: String,
    source: ParseError,
}

/// What a process logs. Cloning is cheap.
#[derive(Clone, Debug, Default)]
pub struct Levels(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    set: RwLock<Set>,
    /// Whether calls of components have spans at any level, because lines are to name what they belong to.
    calls: bool,
    traces: Traces,
}

#[derive(Debug, Default)]
struct Set {
    text: String,
    targets: Targets,
}

/// A filter longer than this is none: it is asked of every new place that logs.
const LONGEST: usize = 4 << 10;

impl Levels {
    pub(crate) fn new(filter: &str, calls: bool, traces: Traces) -> Result<Self, FilterError> {
        Ok(Self(Arc::new(Shared { set: RwLock::new(parse(filter)?), calls, traces })))
    }

    /// What is logged, as it was given.
    #[must_use]
    pub fn get(&self) -> String {
        self.0.set.read().text.clone()
    }

    /// Whether `filter` is one.
    ///
    /// # Errors
    /// When it is none.
    pub fn check(filter: &str) -> Result<(), FilterError> {
        parse(filter).map(|_| ())
    }

    /// Logs what `filter` says from now on, and returns what was logged until now.
    ///
    /// # Errors
    /// When it is no filter; then all stays as it was.
    pub fn set(&self, filter: &str) -> Result<String, FilterError> {
        let before = std::mem::replace(&mut *self.0.set.write(), parse(filter)?);
        tracing::callsite::rebuild_interest_cache();
        Ok(before.text)
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let wanted = |shared: &Shared| shared.set.read().targets.would_enable(metadata.target(), metadata.level());
        wanted(&self.0)
            || (self.0.traces.exporting() && spans::is_exported(metadata))
            || (self.0.calls && spans::is_call(metadata))
    }
}

fn parse(filter: &str) -> Result<Set, FilterError> {
    // The first that is too long is refused as the parser refuses what is none.
    let text = if filter.len() > LONGEST { "info,=loud" } else { filter };
    let targets = text.parse().map_err(|source| {
        let mut filter = filter.to_owned();
        filter.truncate(filter.floor_char_boundary(200));
        FilterError { filter, source }
    })?;
    Ok(Set { text: filter.to_owned(), targets })
}

/// Lets through what [`Levels`] say, and the spans that are exported.
///
/// What it says of a place that logs is remembered there, until it is told that the answer changed: a line or span that is
/// not wanted costs one comparison.
pub(crate) struct Filter(Levels);

impl Filter {
    pub(crate) fn new(levels: Levels) -> Self {
        Self(levels)
    }
}

impl<S: Subscriber> Layer<S> for Filter {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.0.enabled(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _context: Context<'_, S>) -> bool {
        self.0.enabled(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        // The most detailed of what any target may log.
        let targets = &self.0.0.set.read().targets;
        let logged = targets.iter().map(|(_, level)| level).chain(targets.default_level()).max();
        let logged = logged.unwrap_or(LevelFilter::OFF);
        Some(if self.0.0.traces.exporting() || self.0.0.calls { logged.max(LevelFilter::DEBUG) } else { logged })
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::Ring;

    #[test]
    fn a_filter_that_is_none_is_refused_with_what_to_try() {
        let error = Levels::new("info,=loud", false, Traces::default()).unwrap_err().to_string();
        assert!(error.contains("info,=loud") && error.contains("try `info`"), "{error}");
        let levels = Levels::new("info", false, Traces::default()).unwrap();
        assert!(levels.set(&"a".repeat(LONGEST + 1)).is_err());
        assert_eq!(levels.get(), "info", "what was refused changed nothing");
    }

    #[test]
    fn what_is_logged_changes_while_it_runs() {
        let levels = Levels::new("warn", false, Traces::default()).unwrap();
        let ring = Ring::default();
        let subscriber = tracing_subscriber::registry().with(ring.clone()).with(Filter::new(levels.clone()));
        tracing::subscriber::with_default(subscriber, || {
            let log = |number: u8| {
                tracing::debug!(number, "a line");
                tracing::debug_span!("unwanted").is_disabled()
            };
            assert!(log(1));
            assert_eq!(levels.set("warn,witan_telemetry=debug").unwrap(), "warn");
            assert!(!log(2));
            levels.set("off").unwrap();
            assert!(log(3));
        });
        let lines = ring.read(None, 10);
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].fields["number"], 2);
    }
}
