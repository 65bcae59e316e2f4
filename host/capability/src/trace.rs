//! Where a call stands in a trace, as W3C Trace Context has it.

use std::{
    fmt::{self, Write as _},
    num::NonZeroU64,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Where a call stands in a trace: the trace, the span of the call, the span above, and whether whoever began the trace
/// asked that it be kept.
///
/// Every call has one, whether traces are exported or not: what a trace is made of must not depend on who looks. It is a
/// few numbers, made without asking the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Trace {
    id: u128,
    /// 0 where nothing is under way yet.
    span: u64,
    /// 0 where there is none.
    parent: u64,
    sampled: bool,
}

/// The number of a span within its trace. Displayed as 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SpanId(NonZeroU64);

impl SpanId {
    /// The number itself.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The length of a `traceparent` of version 00.
const LENGTH: usize = 55;

impl Trace {
    /// A new trace, in which nothing is under way yet. Its number is no secret.
    #[must_use]
    pub fn begin(sampled: bool) -> Self {
        Self { id: fastrand::u128(1..), span: 0, parent: 0, sampled }
    }

    /// Reads the header `traceparent`: the trace of whoever asks, and their span. None where it is none; then a new
    /// trace begins, as the standard says.
    #[must_use]
    pub fn parse(traceparent: &str) -> Option<Self> {
        // A later version may append fields; its first four are these.
        let bytes = traceparent.as_bytes();
        let version = bytes.get(..2)?;
        let ends = bytes.len() == LENGTH || (version != b"00" && bytes.get(LENGTH) == Some(&b'-'));
        let dashes = [2, 35, 52].iter().all(|at| bytes.get(*at) == Some(&b'-'));
        if !ends || !dashes || version == b"ff" {
            return None;
        }
        number(version)?;
        let id = number(bytes.get(3..35)?)?;
        let span = u64::try_from(number(bytes.get(36..52)?)?).ok()?;
        let flags = number(bytes.get(53..55)?)?;
        (id != 0 && span != 0).then_some(Self { id, span, parent: 0, sampled: flags & 1 == 1 })
    }

    /// The same trace, in a new span below this one.
    #[must_use]
    pub fn child(self) -> Self {
        Self { span: fastrand::u64(1..), parent: self.span, ..self }
    }

    /// The same, not asked to be kept. The other way there is none.
    #[must_use]
    pub fn unsampled(self) -> Self {
        Self { sampled: false, ..self }
    }

    /// The number of the trace.
    #[must_use]
    pub fn id(self) -> u128 {
        self.id
    }

    /// This call's span; none where nothing is under way yet.
    #[must_use]
    pub fn span(self) -> Option<SpanId> {
        NonZeroU64::new(self.span).map(SpanId)
    }

    /// The span above, if there is one.
    #[must_use]
    pub fn parent(self) -> Option<SpanId> {
        NonZeroU64::new(self.parent).map(SpanId)
    }

    /// Whether whoever began the trace asked that it be kept.
    #[must_use]
    pub fn sampled(self) -> bool {
        self.sampled
    }

    /// The header `traceparent` for whoever is asked within this call.
    #[must_use]
    pub fn traceparent(self) -> String {
        let mut text = String::with_capacity(LENGTH);
        // Writing into a string does not fail.
        let _written = write!(text, "00-{:032x}-{:016x}-{:02x}", self.id, self.span, u8::from(self.sampled));
        text
    }
}

impl fmt::Display for Trace {
    /// The number of the trace, as logs and traces show it: 32 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.id)
    }
}

/// Lower-case hexadecimal digits alone, as the standard has them.
fn number(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0_u128, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(value))
    })
}

/// What a journal holds: numbers as JSON has them lose their last digits in many readers.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    id: String,
    span: String,
    parent: String,
    sampled: bool,
}

impl Serialize for Trace {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let written = Written {
            id: format!("{:032x}", self.id),
            span: format!("{:016x}", self.span),
            parent: format!("{:016x}", self.parent),
            sampled: self.sampled,
        };
        written.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Trace {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = Written::deserialize(deserializer)?;
        let wide = |text: &str| (text.len() == 32).then(|| number(text.as_bytes())).flatten();
        let narrow = |text: &str| (text.len() == 16).then(|| u64::try_from(number(text.as_bytes())?).ok()).flatten();
        match (wide(&written.id), narrow(&written.span), narrow(&written.parent)) {
            (Some(id), Some(span), Some(parent)) if id != 0 => Ok(Self { id, span, parent, sampled: written.sampled }),
            _ => Err(serde::de::Error::custom("the trace has numbers that are none")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_is_asked_below_names_this_span_and_keeps_the_trace() {
        let given = Trace::parse(GIVEN).unwrap();
        assert_eq!(given.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert!(given.sampled() && given.traceparent() == GIVEN);
        let below = given.child();
        assert_eq!((below.id(), below.parent()), (given.id(), given.span()));
        assert_eq!(Trace::parse(&below.traceparent()).unwrap().span(), below.span());
        assert!(!below.unsampled().child().sampled());
        assert_eq!(Trace::begin(true).child().parent(), None, "the first span of a trace has none above");
    }

    #[test]
    fn what_is_no_traceparent_begins_a_new_trace() {
        for wrong in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "0g-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(Trace::parse(wrong), None, "{wrong}");
        }
        let later = Trace::parse("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03-more").unwrap();
        assert!(later.sampled());
        assert_eq!(Trace::parse("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03.more"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_harm_and_what_is_read_is_written_back(text in ".{0,80}") {
            if let Some(trace) = Trace::parse(&text) {
                prop_assert_eq!(Trace::parse(&trace.traceparent()), Some(trace));
            }
        }

        #[test]
        fn what_is_written_is_read(id in 1_u128.., span in 1_u64.., sampled: bool) {
            let trace = Trace { id, span, parent: 0, sampled };
            prop_assert_eq!(Trace::parse(&trace.traceparent()), Some(trace));
            let below = trace.child();
            let json = serde_json::to_string(&below).unwrap();
            prop_assert_eq!(serde_json::from_str::<Trace>(&json).unwrap(), below);
        }
    }
}
