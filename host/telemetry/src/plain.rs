//! Metrics in the older of the two formats, for scrapers that do not ask for the newer.

use std::collections::HashMap;

/// `openmetrics` as Prometheus' text format 0.0.4: counters are declared by the name of their samples, and exemplars,
/// units and the end mark are left out.
pub(crate) fn from_openmetrics(openmetrics: &str) -> String {
    let kinds: HashMap<&str, &str> =
        openmetrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let mut text = String::with_capacity(openmetrics.len());
    for line in openmetrics.lines() {
        match line.strip_prefix("# ").and_then(|rest| rest.split_once(' ')) {
            Some((keyword @ ("TYPE" | "HELP"), rest)) => {
                let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
                let suffix = if kinds.get(name) == Some(&"counter") { "_total" } else { "" };
                let rest = if rest == "unknown" { "untyped" } else { rest };
                text.extend(["# ", keyword, " ", name, suffix, " ", rest, "\n"]);
            }
            _ if line.starts_with('#') => {}
            _ => {
                let sample = exemplar(line).map_or(line, |at| line.get(..at).unwrap_or(line));
                text.extend([sample.trim_end(), "\n"]);
            }
        }
    }
    text
}

/// Where the exemplar of a sample begins: at a `#` outside of the values of labels.
fn exemplar(line: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    line.bytes().position(|byte| {
        let found = byte == b'#' && !quoted;
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
        found
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_older_format_does_not_know_is_left_out() {
        let newer = "# HELP a Things.\n# TYPE a counter\n# UNIT a seconds\na_total{x=\"#\\\"#\"} 1 # {t=\"1\"} 1.0 2\n\
                     # HELP b More.\n# TYPE b gauge\nb 2\n# EOF\n";
        let older = "# HELP a_total Things.\n# TYPE a_total counter\na_total{x=\"#\\\"#\"} 1\n\
                     # HELP b More.\n# TYPE b gauge\nb 2\n";
        assert_eq!(from_openmetrics(newer), older);
    }
}
