//! What log lines must not say.

use std::{fmt, sync::Arc};

use parking_lot::RwLock;
use tracing::{Event, Subscriber};
use tracing_subscriber::{
    field::RecordFields,
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

/// The longest text that is looked at: who logs waits for it, and others choose what is logged.
const READ_BYTES: usize = 16 << 10;
/// What is left away at the end of one that was longer: a secret that was cut is not known.
const EDGE_BYTES: usize = 4 << 10;

/// Gives a text without what must not be in it: the value of the field that is named, or a line, which has no name. It must not
/// log.
pub type Mask = Arc<dyn Fn(Option<&str>, String) -> String + Send + Sync>;

/// What masks the lines of a process, once somebody has said so. Cloning is cheap.
#[derive(Clone, Default)]
pub(crate) struct Masking(Arc<RwLock<Option<Mask>>>);

impl fmt::Debug for Masking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Masking").field(&self.0.read().is_some()).finish()
    }
}

impl Masking {
    /// Masks by `mask` from now on.
    pub(crate) fn by(&self, mask: Mask) {
        *self.0.write() = Some(mask);
    }

    /// The value of the field `name`, or a line, as it may be written; the beginning of one that is very long.
    pub(crate) fn text(&self, name: Option<&str>, mut text: String) -> String {
        let mask = self.0.read().clone();
        let is_long = text.len() > READ_BYTES;
        text.truncate(text.floor_char_boundary(READ_BYTES));
        let mut masked = match mask {
            Some(mask) => mask(name, text),
            None => text,
        };
        if is_long {
            masked.truncate(masked.floor_char_boundary(masked.len().saturating_sub(EDGE_BYTES)));
            masked.push('…');
        }
        masked
    }

    /// A line of text.
    fn line(&self, line: String) -> String {
        let mut masked = self.text(None, line);
        if !masked.ends_with('\n') {
            masked.push('\n');
        }
        masked
    }

    /// The JSON of `line` with each text in it masked under its name, so that it stays JSON, in its order.
    fn json(&self, line: &str) -> String {
        let mut masked = String::with_capacity(line.len());
        let mut name = None;
        let mut rest = line;
        while let Some((before, from)) = rest.find('"').and_then(|at| rest.split_at_checked(at)) {
            masked.push_str(before);
            let (literal, after) = from.split_at(literal(from));
            let is_name = after.trim_start().starts_with(':');
            match serde_json::from_str::<String>(literal) {
                Ok(text) if is_name => {
                    masked.push_str(literal);
                    name = Some(text);
                }
                Ok(text) => {
                    let text = self.text(name.as_deref(), text);
                    masked.push_str(&serde_json::Value::String(text).to_string());
                }
                Err(_) => masked.push_str(literal),
            }
            rest = after;
        }
        masked + rest
    }
}

/// How long the literal is that `text` begins with.
fn literal(text: &str) -> usize {
    let mut escaped = false;
    let end = text.bytes().skip(1).position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    });
    end.map_or(text.len(), |end| end + 2)
}

/// Writes lines as `F` does, masked. Of a line that is an object, each text is masked under its name, so that it stays one.
pub(crate) struct Masked<F> {
    pub(crate) format: F,
    pub(crate) masking: Masking,
    pub(crate) json: bool,
}

impl<S, N, F> FormatEvent<S, N> for Masked<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = String::new();
        self.format.format_event(context, Writer::new(&mut line), event)?;
        writer.write_str(&if self.json { self.masking.json(&line) } else { self.masking.line(line) })
    }
}

/// Writes fields as `F` does, masked and without colour: with what colours a name between it and its value, no name would be known.
pub(crate) struct MaskedFields<F> {
    pub(crate) format: F,
    pub(crate) masking: Masking,
}

impl<'writer, F: for<'any> FormatFields<'any>> FormatFields<'writer> for MaskedFields<F> {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut text = String::new();
        self.format.format_fields(Writer::new(&mut text), fields)?;
        writer.write_str(&self.masking.text(None, text))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn masking() -> Masking {
        let masking = Masking::default();
        masking.by(Arc::new(|name: Option<&str>, text: String| match name {
            Some("password") => "[masked]".to_owned(),
            _ => text.replace("canary", "[masked]"),
        }));
        masking
    }

    #[test]
    fn texts_of_an_object_are_masked_and_it_stays_one_in_its_order() {
        let line = r#"{"z":"a canary","canary":{"b":["\"canary\\",1,null]},"a":"x"}"#;
        let expected = r#"{"z":"a [masked]","canary":{"b":["\"[masked]\\",1,null]},"a":"x"}"#;
        assert_eq!(masking().json(&format!("{line}\n")), format!("{expected}\n"));
        assert_eq!(Masking::default().text(None, "canary".to_owned()), "canary");
    }

    #[test]
    fn a_value_of_an_object_is_masked_by_its_name() {
        let line = r#"{"a":"x","span":{"password":"hunter2","b":"y"},"password":["hunter2","z"],"c":"w"}"#;
        let expected = r#"{"a":"x","span":{"password":"[masked]","b":"y"},"password":["[masked]","[masked]"],"c":"w"}"#;
        assert_eq!(masking().json(line), expected);
    }

    #[test]
    fn of_a_long_text_the_beginning_is_looked_at_and_no_part_of_a_secret_is_left_at_its_end() {
        let cut = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let (longest, masking) = (cut.clone(), Masking::default());
        masking.by(Arc::new(move |_: Option<&str>, text: String| {
            longest.fetch_max(text.len(), std::sync::atomic::Ordering::Relaxed);
            text.replace("canary", "[masked]")
        }));
        let long = format!("canary{}canary{}\n", "é".repeat((READ_BYTES - 9) / 2), "x".repeat(1 << 20));
        let line = masking.line(long.clone());
        assert!(line.starts_with("[masked]é") && line.ends_with("é…\n") && line.len() < READ_BYTES, "{}", line.len());
        let object: serde_json::Value =
            serde_json::from_str(&masking.json(&serde_json::json!({ "a": long }).to_string())).unwrap();
        assert!(object["a"].as_str().unwrap().ends_with("é…"));
        assert!(cut.load(std::sync::atomic::Ordering::Relaxed) <= READ_BYTES);
        let exact = "x".repeat(READ_BYTES);
        assert_eq!(masking.text(None, exact.clone()), exact);
    }

    proptest! {
        #[test]
        fn any_line_is_masked_without_harm_and_json_stays_json(text in ".{0,60}", names in "[a-z\"\\\\]{0,8}") {
            let _any = masking().json(&text);
            let line = serde_json::json!({ names.as_str(): [text.as_str(), "canary"], "other": text.as_str() });
            let masked: serde_json::Value = serde_json::from_str(&masking().json(&line.to_string())).unwrap();
            prop_assert_eq!(&masked["other"], &text.replace("canary", "[masked]"));
        }
    }
}
