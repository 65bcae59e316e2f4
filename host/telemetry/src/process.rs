//! What this process uses.

use std::fs;

/// Bytes of memory that this process has resident, where the system says so (Linux).
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    status("VmRSS:")?.checked_mul(1024)
}

/// The figures of this process that the system gives: name, help and value.
pub(crate) fn figures() -> impl Iterator<Item = (&'static str, &'static str, f64)> {
    #[allow(clippy::cast_precision_loss, reason = "no process counts beyond 2^53 of these")]
    let number = |count: Option<u64>| count.map(|count| count as f64);
    let open = fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as u64);
    [
        ("process_resident_memory_bytes", "Memory that the host has resident", number(resident_bytes())),
        ("process_threads", "Threads of the host", number(status("Threads:"))),
        ("process_open_fds", "Files and sockets that the host has open", number(open)),
    ]
    .into_iter()
    .filter_map(|(name, help, value)| Some((name, help, value?)))
}

/// The first number behind `name` in what the system says of this process.
fn status(name: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Seconds of processor time that this process has used: user and system time. Linux counts them in hundredths of a second on every machine that we run on.
pub(crate) fn cpu_seconds() -> Option<f64> {
    const TICKS: f64 = 100.0;
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program stands in brackets, and may contain anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut time = || fields.next()?.parse::<f64>().ok();
    Some((time()? + time()?) / TICKS)
}
