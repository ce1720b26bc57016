//! What `crashkernel=` means. Source: Linux, Documentation/admin-guide/kdump/kdump.rst and kernel/crash_core.c.

/// Smaller ones hold no kernel with drivers; larger ones are slips of a letter.
const SMALLEST: u64 = 64 << 20;
const LARGEST: u64 = 64 << 30;

/// Memory that a node's kernel keeps for the one that writes a dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reserve {
    /// From so many bytes of memory, and below so many (none: without end): so many bytes.
    ranges: Vec<(u64, Option<u64>, u64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReserveProblem {
    /// Not a size, nor ranges of sizes.
    Form,
    /// The word `auto`, which only some kernels know.
    Auto,
    Small,
    Large,
    /// A range ends before it begins, or begins before the one in front of it ends.
    Order,
}

impl ReserveProblem {
    /// A sentence's end.
    pub fn text(self) -> &'static str {
        match self {
            Self::Form => "it is neither a size nor a list of ranges",
            Self::Auto => "only some Red Hat kernels support it",
            Self::Small => "the minimum is 64M",
            Self::Large => "the limit is 64G",
            Self::Order => "the ranges overlap, or one ends before it begins",
        }
    }
}

/// A number with K, M, G or T behind it.
fn size(text: &str) -> Result<u64, ReserveProblem> {
    let letter = text.chars().last().unwrap_or_default().to_ascii_uppercase();
    let shift = match letter {
        'K' => 10,
        'M' => 20,
        'G' => 30,
        'T' => 40,
        _ => 0,
    };
    let digits = if shift > 0 { &text[..text.len() - 1] } else { text };
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = digits.parse().ok().filter(|_| is_number).ok_or(ReserveProblem::Form)?;
    number.checked_mul(1 << shift).ok_or(ReserveProblem::Large)
}

/// An address may be in hexadecimal.
fn is_address(text: &str) -> bool {
    match text.strip_prefix("0x") {
        Some(digits) => !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => size(text).is_ok(),
    }
}

fn reserved(text: &str) -> Result<u64, ReserveProblem> {
    match size(text)? {
        bytes if bytes < SMALLEST => Err(ReserveProblem::Small),
        bytes if bytes > LARGEST => Err(ReserveProblem::Large),
        bytes => Ok(bytes),
    }
}

impl Reserve {
    /// Reads `256M`, `256M@64M`, `512M,high`, `1G-4G:192M,4G-:256M`.
    pub fn parse(text: &str) -> Result<Self, ReserveProblem> {
        if text == "auto" {
            return Err(ReserveProblem::Auto);
        }
        let plain = match text.split_once('@') {
            Some((plain, address)) if is_address(address) => plain,
            Some(_) => return Err(ReserveProblem::Form),
            None => text,
        };
        if !plain.contains(':') {
            let plain = plain.strip_suffix(",high").unwrap_or(plain);
            return Ok(Self { ranges: vec![(0, None, reserved(plain)?)] });
        }
        let mut ranges: Vec<(u64, Option<u64>, u64)> = Vec::new();
        for range in plain.split(',') {
            let (span, bytes) = range.split_once(':').ok_or(ReserveProblem::Form)?;
            let (from, to) = span.split_once('-').ok_or(ReserveProblem::Form)?;
            let from = size(from)?;
            let to = if to.is_empty() { None } else { Some(size(to)?) };
            let is_behind = match ranges.last() {
                Some((_, Some(end), _)) => from >= *end || fault::planted("kdump-ranges-overlap"),
                Some((_, None, _)) => false,
                None => true,
            };
            if !is_behind || to.is_some_and(|to| to <= from) {
                return Err(ReserveProblem::Order);
            }
            ranges.push((from, to, reserved(bytes)?));
        }
        Ok(Self { ranges })
    }

    /// The fewest bytes that a node keeps which keeps any.
    pub fn smallest(&self) -> u64 {
        self.ranges.iter().map(|(_, _, bytes)| *bytes).min().unwrap_or_default()
    }

    /// Bytes that a node with so much memory keeps.
    pub fn of(&self, memory: u64) -> u64 {
        let fits = |(from, to, _): &&(u64, Option<u64>, u64)| memory >= *from && to.is_none_or(|to| memory < to);
        self.ranges.iter().find(fits).map_or(0, |(_, _, bytes)| *bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_ranges_are_those_of_the_kernel() {
        const MIB: u64 = 1 << 20;
        const GIB: u64 = 1 << 30;
        let of = |text: &str, memory: u64| Reserve::parse(text).map(|reserve| reserve.of(memory));
        assert_eq!(of("256M", GIB), Ok(256 * MIB));
        assert_eq!(of("268435456", GIB), Ok(256 * MIB));
        assert_eq!(of("256M@0x4000000", GIB), Ok(256 * MIB));
        assert_eq!(of("1G,high", GIB), Ok(GIB));
        let ranges = "1G-4G:192M,4G-64G:256M,64G-:512m";
        assert_eq!(Reserve::parse(ranges).unwrap().smallest(), 192 * MIB);
        let found = [MIB, GIB, 4 * GIB, 100 * GIB].map(|memory| of(ranges, memory).unwrap() / MIB);
        assert_eq!(found, [0, 192, 256, 512]);
        for (text, problem) in [
            ("", ReserveProblem::Form),
            ("M", ReserveProblem::Form),
            ("256MB", ReserveProblem::Form),
            ("-1", ReserveProblem::Form),
            ("256M@", ReserveProblem::Form),
            ("1G-4G", ReserveProblem::Form),
            ("1G:192M", ReserveProblem::Form),
            ("auto", ReserveProblem::Auto),
            ("256", ReserveProblem::Small),
            ("16M", ReserveProblem::Small),
            ("256T", ReserveProblem::Large),
            ("99999999999999999999T", ReserveProblem::Form),
            ("9999999999999T", ReserveProblem::Large),
            ("4G-1G:256M", ReserveProblem::Order),
            ("1G-:256M,4G-:512M", ReserveProblem::Order),
            ("1G-8G:256M,4G-:512M", ReserveProblem::Order),
        ] {
            assert_eq!(of(text, GIB), Err(problem), "{text}");
        }
    }
}
