//! Parts of blobs: what `Range` asks for, and what `Content-Range` says an upload's part is.

/// What of `size` bytes a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// All of them.
    Whole,
    /// From the first to the last, both included.
    Part(u64, u64),
    /// Bytes that there are not.
    Outside,
}

/// Reads the header `Range` of a request for `size` bytes. What is no range of bytes, and more than one range, is passed
/// over, as HTTP lets a server do.
pub fn asked(header: &str, size: u64) -> Asked {
    let Some(range) = header.strip_prefix("bytes=") else { return Asked::Whole };
    let Some((first, last)) = range.split_once('-') else { return Asked::Whole };
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first > last => Asked::Whole,
        (Some(first), _) if first >= size && (last.is_empty() || number(last).is_some()) => Asked::Outside,
        (Some(first), Some(last)) => Asked::Part(first, last.min(size - 1)),
        (Some(first), None) if last.is_empty() => Asked::Part(first, size - 1),
        (None, Some(0)) if first.is_empty() => Asked::Outside,
        (None, Some(_)) if first.is_empty() && size == 0 => Asked::Outside,
        (None, Some(count)) if first.is_empty() => Asked::Part(size.saturating_sub(count), size - 1),
        _ => Asked::Whole,
    }
}

/// Reads the header `Content-Range` of a part of an upload: the first byte and the last, both included. OCI clients
/// write `0-99`; HTTP would have `bytes 0-99/*`.
pub fn part(header: &str) -> Option<(u64, u64)> {
    let range = header.strip_prefix("bytes ").unwrap_or(header);
    let range = range.split_once('/').map_or(range, |(range, _)| range);
    let (first, last) = range.split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    (first <= last && last < u64::MAX).then_some((first, last))
}

/// A number in digits alone: the standard parser would take a sign.
fn number(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_are_of_bytes_that_there_are() {
        for (header, size, expected) in [
            ("bytes=0-0", 10, Asked::Part(0, 0)),
            ("bytes=2-5", 10, Asked::Part(2, 5)),
            ("bytes=2-", 10, Asked::Part(2, 9)),
            ("bytes=-3", 10, Asked::Part(7, 9)),
            ("bytes=-30", 10, Asked::Part(0, 9)),
            ("bytes=5-99", 10, Asked::Part(5, 9)),
            ("bytes=10-", 10, Asked::Outside),
            ("bytes=10-12", 10, Asked::Outside),
            ("bytes=-0", 10, Asked::Outside),
            ("bytes=0-", 0, Asked::Outside),
            ("bytes=-1", 0, Asked::Outside),
            ("bytes=5-2", 10, Asked::Whole),
            ("bytes=0-1,3-4", 10, Asked::Whole),
            ("bytes=a-b", 10, Asked::Whole),
            ("bytes=+1-2", 10, Asked::Whole),
            ("bytes=-", 10, Asked::Whole),
            ("items=0-1", 10, Asked::Whole),
            ("", 10, Asked::Whole),
            ("bytes=18446744073709551616-", 10, Asked::Whole),
        ] {
            assert_eq!(asked(header, size), expected, "{header}");
        }
    }

    #[test]
    fn a_part_has_a_first_and_a_last_byte() {
        assert_eq!(part("0-99"), Some((0, 99)));
        assert_eq!(part("bytes 5-5/*"), Some((5, 5)));
        for header in ["", "-", "5", "9-5", "-5", "5-", "a-b", "0-18446744073709551615", "+1-2", "1--2"] {
            assert_eq!(part(header), None, "{header}");
        }
    }

    proptest! {
        #[test]
        fn what_is_asked_for_is_there(header in "(bytes=)?[0-9]{0,20}-[0-9]{0,20}", size in 0..1000_u64) {
            if let Asked::Part(first, last) = asked(&header, size) {
                prop_assert!(first <= last && last < size);
            }
        }

        #[test]
        fn a_part_is_what_was_written(first in 0..u64::MAX, more in 0..1_000_000_u64) {
            let last = first.saturating_add(more).min(u64::MAX - 1);
            prop_assert_eq!(part(&format!("{first}-{last}")), Some((first, last)));
        }
    }
}
