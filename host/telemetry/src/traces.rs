//! Which traces are kept: decided when the last of their spans within this host has ended, so that a failure keeps its
//! whole trace.

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::SystemTime,
};

use parking_lot::Mutex;
use tokio::sync::mpsc;
use witan_capability::Trace;

use crate::{
    export::{self, Export, ExportError},
    spans::Open,
};

/// Traces that are under way at once, spans of one trace, and spans of all traces that wait for their decision. What goes
/// beyond is counted and not kept.
const TRACES: usize = 8_192;
const SPANS: usize = 512;
const ALL_SPANS: usize = 65_536;

/// Which part of the traces is kept: of each 2^63, so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ratio(u64);

impl Ratio {
    /// None.
    pub const NONE: Self = Self(0);
    /// All.
    pub const ALL: Self = Self(1 << 63);

    /// `millionths` of a million; more are all.
    #[must_use]
    pub fn millionths(millionths: u32) -> Self {
        let part = u128::from(millionths.min(1_000_000)) << 63;
        Self(u64::try_from(part / 1_000_000).unwrap_or(Self::ALL.0))
    }

    /// Whether the trace `id` is in this part. The same for whoever asks with the same ratio.
    fn holds(self, id: u128) -> bool {
        // The standard promises that the last 7 bytes are random; 8 are taken, as the samplers of OpenTelemetry do.
        #[allow(clippy::cast_possible_truncation, reason = "the low half is meant")]
        let random = id as u64 >> 1;
        random < self.0
    }
}

/// A rule that says how much is kept of the traces in which an intent or a component appears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The intent, if it is about one.
    pub intent: Option<String>,
    /// The component, if it is about one.
    pub component: Option<String>,
    /// How much is kept.
    pub ratio: Ratio,
}

/// How traces are chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sampling {
    /// How much is kept of the traces that begin here. Of those that begin elsewhere, whoever began them says.
    pub ratio: Ratio,
    /// Exceptions; the first that a trace meets holds, wherever the trace began.
    pub rules: Vec<Rule>,
    /// Whether traces with a failure are kept whatever the rest says.
    pub errors: bool,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { ratio: Ratio::ALL, rules: Vec::new(), errors: true }
    }
}

/// What became of spans since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpanCounts {
    /// Sent, and taken.
    pub exported: u64,
    /// Of traces that were not chosen.
    pub unsampled: u64,
    /// For want of room.
    pub dropped: u64,
    /// Sent, and not taken.
    pub failed: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) exported: AtomicU64,
    pub(crate) unsampled: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) failed: AtomicU64,
}

/// The traces of a process. Cloning is cheap. Until [`Self::export_to`] is called nothing is kept.
#[derive(Clone, Debug, Default)]
pub struct Traces(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    exporting: AtomicBool,
    set: OnceLock<Set>,
    under_way: Mutex<UnderWay>,
    counters: Arc<Counters>,
}

#[derive(Debug)]
struct Set {
    sampling: Sampling,
    queue: mpsc::Sender<Finished>,
}

#[derive(Debug, Default)]
struct UnderWay {
    traces: HashMap<u128, Waiting>,
    spans: usize,
}

/// A trace with spans that have not ended.
#[derive(Debug, Default)]
struct Waiting {
    open: usize,
    ended: Vec<Finished>,
}

/// A span that has ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) open: Open,
    pub(crate) ended: SystemTime,
}

impl Traces {
    /// Where a request stands that brought no trace: at the begin of one.
    #[must_use]
    pub fn begin(&self) -> Trace {
        let sampling = self.0.set.get().filter(|_| self.exporting()).map(|set| &set.sampling);
        let trace = Trace::begin(true);
        if sampling.is_some_and(|sampling| sampling.ratio.holds(trace.id())) { trace } else { trace.unsampled() }
    }

    /// Whether spans are kept for export.
    #[must_use]
    pub fn exporting(&self) -> bool {
        self.0.exporting.load(Ordering::Relaxed)
    }

    /// Exports traces from now on, in a task of the runtime that this is called in. A collector that is gone, slow or
    /// wrong costs spans, and nothing else.
    ///
    /// # Errors
    /// When the settings cannot be used, or traces are exported already.
    pub fn export_to(&self, export: &Export) -> Result<Exporting, ExportError> {
        let (queue, spans) = mpsc::channel(export.queue);
        let run = export::start(export, spans, self.0.counters.clone())?;
        let set = Set { sampling: export.sampling.clone(), queue };
        self.0.set.set(set).map_err(|_| ExportError::Twice)?;
        self.0.exporting.store(true, Ordering::Relaxed);
        tracing::callsite::rebuild_interest_cache();
        Ok(Exporting { traces: self.clone(), run })
    }

    /// What became of spans since the start.
    #[must_use]
    pub fn counts(&self) -> SpanCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.0.counters;
        SpanCounts {
            exported: read(&counters.exported),
            unsampled: read(&counters.unsampled),
            dropped: read(&counters.dropped),
            failed: read(&counters.failed),
        }
    }

    /// Notes a span that has begun; false where there is no room for it.
    pub(crate) fn opened(&self, open: &Open) -> bool {
        let mut under_way = self.0.under_way.lock();
        let full = under_way.traces.len() >= TRACES;
        let room = match under_way.traces.get_mut(&open.trace) {
            Some(waiting) => {
                let room = waiting.open + waiting.ended.len() < SPANS;
                waiting.open += usize::from(room);
                room
            }
            None if full => false,
            None => {
                under_way.traces.insert(open.trace, Waiting { open: 1, ended: Vec::new() });
                true
            }
        };
        if !room {
            self.0.counters.dropped.fetch_add(1, Ordering::Relaxed);
        }
        room
    }

    /// Notes a span that has ended. With the last of its trace, the trace is decided.
    pub(crate) fn closed(&self, open: Open) {
        let id = open.trace;
        let mut under_way = self.0.under_way.lock();
        let room = under_way.spans < ALL_SPANS;
        let Some(waiting) = under_way.traces.get_mut(&id) else { return };
        waiting.open = waiting.open.saturating_sub(1);
        if room {
            waiting.ended.push(Finished { open, ended: SystemTime::now() });
        } else {
            self.0.counters.dropped.fetch_add(1, Ordering::Relaxed);
        }
        let last = waiting.open == 0;
        under_way.spans += usize::from(room);
        if !last {
            return;
        }
        let ended = under_way.traces.remove(&id).map(|waiting| waiting.ended).unwrap_or_default();
        under_way.spans = under_way.spans.saturating_sub(ended.len());
        drop(under_way);
        self.decide(id, ended);
    }

    fn decide(&self, id: u128, ended: Vec<Finished>) {
        let Some(set) = self.0.set.get() else { return };
        if !set.sampling.keeps(id, &ended) {
            self.0.counters.unsampled.fetch_add(ended.len() as u64, Ordering::Relaxed);
            return;
        }
        for span in ended {
            if set.queue.try_send(span).is_err() {
                self.0.counters.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl Sampling {
    fn keeps(&self, id: u128, ended: &[Finished]) -> bool {
        if self.errors && ended.iter().any(|span| span.open.failed.is_some()) {
            return true;
        }
        match self.rules.iter().find(|rule| rule.meets(ended)) {
            Some(rule) => rule.ratio.holds(id),
            None => ended.iter().any(|span| span.open.sampled),
        }
    }
}

impl Rule {
    fn meets(&self, ended: &[Finished]) -> bool {
        let says = |key: &str, wanted: &Option<String>| {
            let Some(wanted) = wanted else { return true };
            let mut attributes = ended.iter().flat_map(|span| &span.open.attributes);
            attributes.any(|attribute| attribute.key.as_str() == key && attribute.value.as_str() == wanted.as_str())
        };
        says("witan.intent", &self.intent) && says("witan.component", &self.component)
    }
}

/// Traces are exported for as long as this lives.
#[derive(Debug)]
pub struct Exporting {
    traces: Traces,
    run: export::Run,
}

impl Exporting {
    /// Keeps no more spans, and sends those that were kept, for as long as one request to the collector may take.
    pub async fn finish(self) {
        self.traces.0.exporting.store(false, Ordering::Relaxed);
        tracing::callsite::rebuild_interest_cache();
        self.run.finish().await;
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::KeyValue;
    use proptest::prelude::*;

    use super::*;
    use crate::spans::End;

    fn span(trace: u128, attribute: Option<(&'static str, &str)>, failed: bool, sampled: bool) -> Finished {
        let attributes = attribute.map(|(key, value)| KeyValue::new(key, value.to_owned()));
        let open = Open {
            name: "task.run",
            end: End::Inside,
            trace,
            span: 1,
            parent: 0,
            sampled,
            began: SystemTime::UNIX_EPOCH,
            attributes: attributes.into_iter().collect(),
            left_out: 0,
            notes: Vec::new(),
            notes_left_out: 0,
            failed: failed.then(|| "internal".to_owned()),
        };
        Finished { open, ended: SystemTime::UNIX_EPOCH }
    }

    #[test]
    fn errors_are_kept_rules_go_before_the_ratio_and_the_rest_follows_who_began_it() {
        let rule = |component: &str, ratio| Rule { intent: None, component: Some(component.into()), ratio };
        let sampling = Sampling {
            ratio: Ratio::NONE,
            rules: vec![rule("loud", Ratio::NONE), rule("rare", Ratio::ALL)],
            errors: true,
        };
        let of = |component, failed, sampled| vec![span(7, Some(("witan.component", component)), failed, sampled)];
        assert!(sampling.keeps(7, &of("loud", true, false)));
        assert!(!sampling.keeps(7, &of("loud", false, true)), "the rule goes before the flag");
        assert!(sampling.keeps(7, &of("rare", false, false)));
        assert!(sampling.keeps(7, &of("other", false, true)));
        assert!(!sampling.keeps(7, &of("other", false, false)));
        let without = Sampling { errors: false, ..sampling };
        assert!(!without.keeps(7, &of("other", true, false)));
    }

    #[test]
    fn what_waits_for_its_decision_is_bounded() {
        let traces = Traces::default();
        let open = |trace| span(trace, None, false, true).open;
        let taken = (1..=TRACES as u128 + 10).filter(|id| traces.opened(&open(*id))).count();
        assert_eq!(taken, TRACES);
        let within = (0..SPANS + 10).filter(|_| traces.opened(&open(1))).count();
        assert_eq!(within, SPANS - 1);
        assert_eq!(traces.counts().dropped, 21);
        for _ in 0..SPANS {
            traces.closed(open(1));
        }
        assert!(traces.opened(&open(u128::MAX)), "a trace that was decided makes room");
    }

    #[test]
    fn nothing_is_asked_to_be_kept_while_nothing_is_exported() {
        assert!((0..100).all(|_| !Traces::default().begin().sampled()));
    }

    proptest! {
        #[test]
        fn a_ratio_holds_about_its_part(millionths in 0_u32..=1_000_000) {
            let ratio = Ratio::millionths(millionths);
            let held = (0..10_000).filter(|_| ratio.holds(random())).count();
            let expected = f64::from(millionths) / 100.0;
            prop_assert!((held as f64 - expected).abs() < 300.0, "{held} of 10000 at {millionths}");
            prop_assert!(millionths != 0 || held == 0);
            prop_assert!(millionths != 1_000_000 || held == 10_000);
        }
    }

    fn random() -> u128 {
        Trace::begin(false).id()
    }
}
