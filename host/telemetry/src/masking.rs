//! What log lines must not say.

use std::{fmt, sync::Arc};

use parking_lot::RwLock;
use tracing::{Event, Subscriber};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

/// Gives a text without what must not be in it. It must not log.
pub type Mask = Arc<dyn Fn(String) -> String + Send + Sync>;

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

    pub(crate) fn text(&self, text: String) -> String {
        let mask = self.0.read().clone();
        match mask {
            Some(mask) => mask(text),
            None => text,
        }
    }

    /// The JSON of `line` with each text in it masked alone, so that it stays JSON, in its order.
    fn json(&self, line: &str) -> String {
        let mut masked = String::with_capacity(line.len());
        let mut rest = line;
        while let Some((before, from)) = rest.find('"').and_then(|at| rest.split_at_checked(at)) {
            masked.push_str(before);
            let (literal, after) = from.split_at(literal(from));
            let is_name = after.trim_start().starts_with(':');
            match serde_json::from_str::<String>(literal) {
                Ok(text) if !is_name => masked.push_str(&serde_json::Value::String(self.text(text)).to_string()),
                _ => masked.push_str(literal),
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

/// Writes lines as `F` does, masked. Of a line that is an object, each text is masked alone, so that it stays one.
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
        writer.write_str(&if self.json { self.masking.json(&line) } else { self.masking.text(line) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn masking() -> Masking {
        let masking = Masking::default();
        masking.by(Arc::new(|text: String| text.replace("canary", "[masked]")));
        masking
    }

    #[test]
    fn texts_of_an_object_are_masked_and_it_stays_one_in_its_order() {
        let line = r#"{"z":"a canary","canary":{"b":["\"canary\\",1,null]},"a":"x"}"#;
        let expected = r#"{"z":"a [masked]","canary":{"b":["\"[masked]\\",1,null]},"a":"x"}"#;
        assert_eq!(masking().json(&format!("{line}\n")), format!("{expected}\n"));
        assert_eq!(Masking::default().text("canary".to_owned()), "canary");
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
