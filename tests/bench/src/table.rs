//! What was measured, as a table.

use std::fmt::Write as _;

use serde_json::{Value, json};

/// One figure beside its floor and its bar.
pub(crate) struct Row {
    /// What was measured.
    pub(crate) measure: String,
    /// As people read it: `28 µs`.
    pub(crate) value: String,
    /// What it is a ratio to: `23 µs, bare`; empty where the bar is no ratio.
    pub(crate) floor: String,
    /// What the bar is compared with.
    pub(crate) figure: Figure,
}

/// The number that a bar holds for.
#[derive(Clone, Copy)]
pub(crate) enum Figure {
    /// Must not be more than the bar.
    AtMost {
        /// What came out.
        value: f64,
        /// The bar.
        bar: f64,
        /// What we would like.
        aim: Option<f64>,
        /// After the number: ` ms`.
        unit: &'static str,
    },
    /// Must not be less than the bar.
    AtLeast {
        /// What came out.
        value: f64,
        /// The bar.
        bar: f64,
        /// What we would like.
        aim: Option<f64>,
    },
    /// Has no bar: it tells where time or memory goes.
    Report,
}

impl Figure {
    fn met(self) -> Option<bool> {
        match self {
            Self::AtMost { value, bar, .. } => Some(value <= bar),
            Self::AtLeast { value, bar, .. } => Some(value >= bar),
            Self::Report => None,
        }
    }

    fn value(self) -> String {
        match self {
            Self::AtMost { value, unit, .. } => format!("{}{unit}", short(value)),
            Self::AtLeast { value, .. } => short(value),
            Self::Report => String::new(),
        }
    }

    fn bar(self) -> String {
        let aimed = |aim: Option<f64>| aim.map_or_else(String::new, |aim| format!(", aim {aim}"));
        match self {
            Self::AtMost { bar, aim, unit, .. } => format!("≤ {bar}{unit}{}", aimed(aim)),
            Self::AtLeast { bar, aim, .. } => format!("≥ {bar}{}", aimed(aim)),
            Self::Report => "reported".to_owned(),
        }
    }

    fn verdict(self) -> &'static str {
        match self.met() {
            Some(true) => "met",
            Some(false) => "**missed**",
            None => "",
        }
    }
}

fn short(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

/// All that was measured in one run.
pub(crate) struct Table {
    /// What it was measured on.
    pub(crate) machine: String,
    /// The figures.
    pub(crate) rows: Vec<Row>,
}

impl Table {
    /// The page that is saved.
    pub(crate) fn markdown(&self) -> String {
        let mut text = format!(
            "# What the kernel costs\n\nMade by `cargo xtask bench`, which writes this page anew. Everything is on: \
             context, limits, policy, decisions, spans.\n{}\n\n\
             | measure | value | floor, same run | figure | bar | |\n| --- | --- | --- | --- | --- | --- |\n",
            self.machine
        );
        for Row { measure, value, floor, figure } in &self.rows {
            let (number, bar, verdict) = (figure.value(), figure.bar(), figure.verdict());
            // Writing to a string cannot fail.
            let _written = writeln!(text, "| {measure} | {value} | {floor} | {number} | {bar} | {verdict} |");
        }
        text
    }

    /// The same for programs.
    pub(crate) fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            json!({
                "measure": row.measure,
                "value": row.value,
                "floor": row.floor,
                "figure": row.figure.value(),
                "bar": row.figure.bar(),
                "met": row.figure.met(),
            })
        });
        json!({ "machine": self.machine, "rows": rows.collect::<Vec<_>>() })
    }
}
