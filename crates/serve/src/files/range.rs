//! `Range`, as nodes and loaders ask for parts of a file.

use std::ops::Range;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    Whole,
    Bytes(Range<u64>),
    /// What was asked for lies behind the end.
    Unsatisfiable,
}

/// Reads the header's value for a file of `size` bytes. Several ranges, other units and what cannot be read mean the whole file.
/// Source: RFC 9110, section 14.2: a server may ignore the header.
pub(crate) fn part(header: &str, size: u64) -> Part {
    let Some(text) = header.trim().strip_prefix("bytes=") else { return Part::Whole };
    let Some((first, last)) = text.trim().split_once('-') else { return Part::Whole };
    let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a number holds lie behind the end of any file.
        true => Some(text.parse::<u64>().unwrap_or(u64::MAX)),
        false => None,
    };
    let (Some(from), Some(to)) = (number(first), number(last)) else { return Part::Whole };
    match (first.is_empty(), last.is_empty()) {
        (true, true) => Part::Whole,
        // The last so many bytes.
        (true, false) if to == 0 || size == 0 => Part::Unsatisfiable,
        (true, false) => Part::Bytes(size.saturating_sub(to)..size),
        _ if from >= size && !fault::planted("serve-range-behind-end") => Part::Unsatisfiable,
        (false, true) => Part::Bytes(from..size),
        (false, false) if to < from => Part::Whole,
        (false, false) => Part::Bytes(from..to.saturating_add(1).min(size)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_standard_says() {
        for (header, wanted) in [
            ("bytes=0-99", Part::Bytes(0..100)),
            ("bytes=0-", Part::Bytes(0..1000)),
            ("bytes=999-", Part::Bytes(999..1000)),
            ("bytes=10-5000", Part::Bytes(10..1000)),
            ("bytes=10-99999999999999999999999", Part::Bytes(10..1000)),
            ("bytes=-10", Part::Bytes(990..1000)),
            ("bytes=-5000", Part::Bytes(0..1000)),
            ("bytes=1000-", Part::Unsatisfiable),
            ("bytes=99999999999999999999999-", Part::Unsatisfiable),
            ("bytes=-0", Part::Unsatisfiable),
            ("bytes=9-5", Part::Whole),
            ("bytes=-", Part::Whole),
            ("bytes=0-1,5-6", Part::Whole),
            ("bytes=+1-2", Part::Whole),
            ("lines=1-2", Part::Whole),
            ("", Part::Whole),
        ] {
            assert_eq!(part(header, 1000), wanted, "{header}");
        }
        assert_eq!(part("bytes=0-", 0), Part::Unsatisfiable);
    }
}
