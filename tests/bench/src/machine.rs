//! What the figures were measured on.

/// Cores, architecture and the versions that matter.
pub(crate) fn describe() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let model = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = model.lines().find_map(|line| line.strip_prefix("model name")?.trim_start().strip_prefix(':'));
    format!(
        "{cores} cores ({}), {} {}, wasmtime 48.",
        model.unwrap_or("unknown").trim(),
        std::env::consts::OS,
        std::env::consts::ARCH
    )
}
