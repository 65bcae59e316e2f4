//! Time as it is compared here: whole seconds since 1970, since certificates and log entries have no finer ones.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds since 1970; a time before that counts as 1970.
pub(crate) fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

/// The time so many seconds after 1970, or the latest that there is.
pub(crate) fn from_unix_seconds(seconds: u64) -> SystemTime {
    // A year of 12 digits cannot be printed and means nothing.
    const LATEST: u64 = 253_402_300_799;
    UNIX_EPOCH + Duration::from_secs(seconds.min(LATEST))
}

/// The time as RFC 3339, in UTC and whole seconds.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    let seconds = i64::try_from(unix_seconds(time)).unwrap_or_default();
    jiff::Timestamp::from_second(seconds).unwrap_or_default().to_string()
}

/// Reads a time that is written as RFC 3339.
pub(crate) fn parse_rfc3339(text: &str) -> Option<SystemTime> {
    let time: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(time.as_second()).ok().map(from_unix_seconds)
}
