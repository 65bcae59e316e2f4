//! What the person who waits for a build sees.

use std::io::{IsTerminal, stderr};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Fast enough to look alive, slow enough to cost nothing.
const TICK: Duration = Duration::from_millis(120);

/// Shows how a build comes along, on standard error, so that standard output stays the program's answer.
#[derive(Debug, Clone)]
pub struct Progress(Option<ProgressBar>);

impl Progress {
    /// A spinner where standard error is a terminal, else a line per build.
    #[must_use]
    pub fn stderr() -> Self {
        if !stderr().is_terminal() {
            return Self(None);
        }
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix}: {wide_msg}") {
            bar.set_style(style);
        }
        Self(Some(bar))
    }

    /// Shows nothing.
    #[must_use]
    pub fn hidden() -> Self {
        Self(Some(ProgressBar::hidden()))
    }

    pub(crate) fn begin(&self, what: &str) {
        match &self.0 {
            Some(bar) => {
                bar.set_prefix(format!("building {what}"));
                bar.enable_steady_tick(TICK);
            }
            None => eprintln!("building {what} …"),
        }
    }

    pub(crate) fn step(&self, message: &str) {
        if let Some(bar) = &self.0 {
            bar.set_message(message.trim().to_owned());
        }
    }

    pub(crate) fn end(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
