//! What people and programs read: errors with their remedy, and JSON where it is asked for.

use std::{
    io::{IsTerminal as _, Write as _},
    process::ExitCode,
};

use serde::Serialize;

use crate::Global;

/// Prints `error` with its causes to standard error, or as JSON to standard output, and gives the exit code.
pub(crate) fn failure(global: &Global, error: &anyhow::Error) -> ExitCode {
    let causes: Vec<String> = error.chain().skip(1).map(ToString::to_string).collect();
    if global.json {
        json(&serde_json::json!({ "error": { "message": error.to_string(), "causes": causes } }));
    } else {
        let mut stderr = std::io::stderr().lock();
        let (red, reset) = if colours() { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
        // What lists several errors says of each that it is one.
        let text = error.to_string();
        let label = if text.starts_with("error:") { String::new() } else { format!("{red}error:{reset} ") };
        let _closed = writeln!(stderr, "{label}{text}");
        for cause in causes {
            let _closed = writeln!(stderr, "  cause: {cause}");
        }
    }
    ExitCode::FAILURE
}

/// Whether standard error is a terminal that takes colours.
pub(crate) fn colours() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// Prints `value` as indented JSON. A reader that has gone away is no error.
pub(crate) fn json(value: &impl Serialize) {
    if let Ok(text) = serde_json::to_string_pretty(value) {
        line(&text);
    }
}

/// Prints a line of text. A reader that has gone away is no error.
pub(crate) fn line(text: &str) {
    let _closed = writeln!(std::io::stdout().lock(), "{text}");
}

/// `count` of what `one` is, such as `1 file` or `2 files`.
pub(crate) fn counted(count: usize, one: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {one}{ending}")
}

/// Prints why a task failed to standard error.
pub(crate) fn task_error(error: &witan_tasks::TaskError) {
    let (red, reset) = if colours() { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
    let mut stderr = std::io::stderr().lock();
    let _closed = writeln!(stderr, "{red}error:{reset} {}", error.message);
    for (label, detail) in [("param", &error.param), ("limit", &error.limit), ("decision", &error.decision)] {
        if let Some(detail) = detail {
            let _closed = writeln!(stderr, "  {label}: {detail}");
        }
    }
}

/// Prints why a call failed, as JSON on standard output where that is asked for.
pub(crate) fn call_error(global: &Global, error: &witan_tasks::TaskError) {
    match global.json {
        true => json(&serde_json::json!({ "error": error })),
        false => task_error(error),
    }
}

/// Prints something worth knowing to standard error. Its control characters are escaped: a part of it may come from a
/// component.
pub(crate) fn note(text: &str) {
    let text: String = text
        .chars()
        .flat_map(|char| if char.is_control() { char.escape_default().collect() } else { vec![char] })
        .collect();
    let _closed = writeln!(std::io::stderr().lock(), "note: {text}");
}
