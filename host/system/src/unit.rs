//! Sizes, durations and rates, written with their unit.
//!
//! A bare number is refused: `memory = 256` leaves the reader to guess, and a wrong guess is a limit that does not
//! hold.

use std::fmt;
use std::time::Duration;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// What a size looks like, for errors.
pub(crate) const BYTES_HELP: &str = "write a whole number with `B`, `KiB`, `MiB` or `GiB`, such as \"64MiB\"";
/// What a duration looks like, for errors.
pub(crate) const DURATION_HELP: &str = "write a whole number with `ms`, `s`, `m` or `h`, such as \"30s\"";
/// What a rate looks like, for errors.
pub(crate) const RATE_HELP: &str = "write a whole number from 1 to 1000000 and `/s` or `/m`, such as \"100/s\"";

/// How often something may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Rate {
    /// How often.
    pub count: u32,
    /// In which time.
    pub per: Duration,
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, if self.per == Duration::from_secs(60) { "m" } else { "s" })
    }
}

/// Bytes from a text such as `64MiB`. `None` if it is not one, or does not fit 64 bits.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let unit = match unit {
        "B" => 1,
        "KiB" => KIB,
        "MiB" => MIB,
        "GiB" => GIB,
        _ => return None,
    };
    number.checked_mul(unit)
}

/// A duration from a text such as `500ms`. `None` if it is not one, or is longer than a year.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let milliseconds = match unit {
        "ms" => number,
        "s" => number.checked_mul(1_000)?,
        "m" => number.checked_mul(60_000)?,
        "h" => number.checked_mul(3_600_000)?,
        _ => return None,
    };
    // Longer ones overflow instants on some platforms, and mean "never" anyway.
    const YEAR: u64 = 366 * 24 * 3_600_000;
    (milliseconds <= YEAR).then(|| Duration::from_millis(milliseconds))
}

/// A rate from a text such as `100/s`. `None` if it is not one.
pub fn parse_rate(text: &str) -> Option<Rate> {
    let (number, unit) = split(text)?;
    let per = match unit {
        "/s" => Duration::from_secs(1),
        "/m" => Duration::from_secs(60),
        _ => return None,
    };
    let count = u32::try_from(number).ok().filter(|count| (1..=1_000_000).contains(count))?;
    Some(Rate { count, per })
}

/// A number of bytes in the largest unit that divides it, as [`parse_bytes`] reads it.
pub fn format_bytes(bytes: u64) -> String {
    let units = [(GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")];
    let unit = units.into_iter().find(|(size, _)| bytes != 0 && bytes.is_multiple_of(*size));
    unit.map_or_else(|| format!("{bytes}B"), |(size, name)| format!("{}{name}", bytes / size))
}

/// A duration in the largest unit that divides it, as [`parse_duration`] reads it.
pub fn format_duration(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    let units = [(3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let unit = units.into_iter().find(|(size, _)| milliseconds != 0 && milliseconds.is_multiple_of(*size));
    unit.map_or_else(|| format!("{milliseconds}ms"), |(size, name)| format!("{}{name}", milliseconds / size))
}

fn split(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (digits, unit) = text.split_at(end);
    Some((digits.parse().ok()?, unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_need_a_binary_unit() {
        assert_eq!(parse_bytes("64MiB"), Some(64 << 20));
        assert_eq!(parse_bytes("0B"), Some(0));
        for bad in ["", "64", "64MB", "64 MiB", "-1B", "1.5GiB", "64mib", "99999999999999GiB", "MiB", "٣B"] {
            assert_eq!(parse_bytes(bad), None, "{bad}");
        }
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(parse_duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(parse_duration("5m"), Some(Duration::from_secs(300)));
        for bad in ["", "5", "5 s", "5min", "-5s", "1.5s", "9999999h"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn rates_are_per_second_or_minute() {
        assert_eq!(parse_rate("100/s"), Some(Rate { count: 100, per: Duration::from_secs(1) }));
        for bad in ["", "100", "0/s", "1/h", "1000001/s", "1 /s"] {
            assert_eq!(parse_rate(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_formatted_parses_to_the_same() {
        for bytes in [0, 1, 1023, KIB, MIB * 3, GIB + 1, u64::MAX] {
            assert_eq!(parse_bytes(&format_bytes(bytes)), Some(bytes));
        }
        for milliseconds in [0, 1, 1_000, 1_500, 60_000, 3_600_000] {
            let duration = Duration::from_millis(milliseconds);
            assert_eq!(parse_duration(&format_duration(duration)), Some(duration));
        }
    }
}
