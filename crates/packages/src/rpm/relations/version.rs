//! Versions as rpm compares them. Source: rpm-version(7) and rpmio/rpmvercmp.c of rpm 4.18 (described, not copied).

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Epoch, version and release of a package, or of one side of a dependency.
///
/// Its order is rpm's: `1.0~rc1` before `1.0` before `1.0^git1` before `1.0.1`. Two that compare as equal may be
/// written differently (`1.01` and `1.1`), so equality is that of the order, not of the text.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Evr {
    /// 0 where none is written.
    pub epoch: u32,
    /// Never empty in a package.
    pub version: String,
    /// Empty in a dependency that leaves it open.
    pub release: String,
}

/// Which sides of `=` a dependency accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Relation {
    pub less: bool,
    pub equal: bool,
    pub greater: bool,
}

impl Relation {
    /// `<`
    pub const LESS: Self = Self { less: true, equal: false, greater: false };
    /// `<=`
    pub const LESS_OR_EQUAL: Self = Self { less: true, equal: true, greater: false };
    /// `=`
    pub const EQUAL: Self = Self { less: false, equal: true, greater: false };
    /// `>=`
    pub const GREATER_OR_EQUAL: Self = Self { less: false, equal: true, greater: true };
    /// `>`
    pub const GREATER: Self = Self { less: false, equal: false, greater: true };

    /// Reads `<`, `<=`, `=`, `>=`, `>` as rpm writes them, or `LT`, `LE`, `EQ`, `GE`, `GT` as metadata do.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "<" | "LT" => Self::LESS,
            "<=" | "=<" | "LE" => Self::LESS_OR_EQUAL,
            "=" | "==" | "EQ" => Self::EQUAL,
            ">=" | "=>" | "GE" => Self::GREATER_OR_EQUAL,
            ">" | "GT" => Self::GREATER,
            _ => return None,
        })
    }

    /// Whether a version that compares so with the one written is accepted.
    pub fn accepts(self, order: Ordering) -> bool {
        match order {
            Ordering::Less => self.less,
            Ordering::Equal => self.equal,
            Ordering::Greater => self.greater,
        }
    }
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signs = [(self.less, '<'), (self.greater, '>'), (self.equal, '=')];
        signs.iter().filter(|(on, _)| *on).try_for_each(|(_, sign)| write!(f, "{sign}"))
    }
}

/// Compares two versions, or two releases, segment by segment.
pub(crate) fn compare(left: &str, right: &str) -> Ordering {
    if left == right {
        return Ordering::Equal;
    }
    let (mut left, mut right) = (left.as_bytes(), right.as_bytes());
    loop {
        let separator = |byte: &u8| !byte.is_ascii_alphanumeric() && *byte != b'~' && *byte != b'^';
        left = skip(left, separator);
        right = skip(right, separator);
        // A tilde sorts before everything, the end of the text too.
        match (left.first() == Some(&b'~'), right.first() == Some(&b'~')) {
            (true, true) => {
                (left, right) = (&left[1..], &right[1..]);
                continue;
            }
            (true, false) if fault::planted("rpm-tilde-is-newer") => return Ordering::Greater,
            (true, false) => return Ordering::Less,
            (false, true) => return Ordering::Greater,
            (false, false) => {}
        }
        // A caret sorts after the end of the text, and before everything else.
        match (left.first() == Some(&b'^'), right.first() == Some(&b'^')) {
            (true, true) => {
                (left, right) = (&left[1..], &right[1..]);
                continue;
            }
            (true, false) => return if right.is_empty() { Ordering::Greater } else { Ordering::Less },
            (false, true) => return if left.is_empty() { Ordering::Less } else { Ordering::Greater },
            (false, false) => {}
        }
        if left.is_empty() || right.is_empty() {
            return left.len().min(1).cmp(&right.len().min(1));
        }
        let numeric = left[0].is_ascii_digit();
        let same_kind = |byte: &u8| if numeric { byte.is_ascii_digit() } else { byte.is_ascii_alphabetic() };
        let (one, after_one) = split(left, same_kind);
        let (two, after_two) = split(right, same_kind);
        if two.is_empty() {
            // Numbers are newer than letters.
            return if numeric { Ordering::Greater } else { Ordering::Less };
        }
        let order = if numeric {
            let (one, two) = (skip(one, |byte| *byte == b'0'), skip(two, |byte| *byte == b'0'));
            one.len().cmp(&two.len()).then_with(|| one.cmp(two))
        } else {
            one.cmp(two)
        };
        if order.is_ne() {
            return order;
        }
        (left, right) = (after_one, after_two);
    }
}

fn skip(bytes: &[u8], which: impl Fn(&u8) -> bool) -> &[u8] {
    let at = bytes.iter().position(|byte| !which(byte)).unwrap_or(bytes.len());
    &bytes[at..]
}

fn split(bytes: &[u8], which: impl Fn(&u8) -> bool) -> (&[u8], &[u8]) {
    bytes.split_at(bytes.iter().position(|byte| !which(byte)).unwrap_or(bytes.len()))
}

impl Evr {
    /// Reads `[epoch:]version[-release]`. What is no number before a colon belongs to the version.
    pub fn parse(text: &str) -> Self {
        let (epoch, rest) = match text.split_once(':') {
            Some((epoch, rest)) if epoch.bytes().all(|byte| byte.is_ascii_digit()) => {
                (epoch.parse().unwrap_or(if epoch.is_empty() { 0 } else { u32::MAX }), rest)
            }
            _ => (0, text),
        };
        let (version, release) = rest.rsplit_once('-').unwrap_or((rest, ""));
        Self { epoch, version: version.to_owned(), release: release.to_owned() }
    }

    /// Compares the releases only where both have one, as dependencies do.
    pub fn compare_as_dependency(&self, other: &Self) -> Ordering {
        let order = self.epoch.cmp(&other.epoch).then_with(|| compare(&self.version, &other.version));
        if order.is_ne() || self.release.is_empty() || other.release.is_empty() {
            return order;
        }
        compare(&self.release, &other.release)
    }
}

impl fmt::Display for Evr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.epoch != 0 {
            write!(f, "{}:", self.epoch)?;
        }
        f.write_str(&self.version)?;
        if !self.release.is_empty() {
            write!(f, "-{}", self.release)?;
        }
        Ok(())
    }
}

impl Ord for Evr {
    fn cmp(&self, other: &Self) -> Ordering {
        self.epoch
            .cmp(&other.epoch)
            .then_with(|| compare(&self.version, &other.version))
            .then_with(|| compare(&self.release, &other.release))
    }
}

impl PartialOrd for Evr {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Evr {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Evr {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn versions_compare_as_rpm_documents() {
        use Ordering::{Equal, Greater, Less};
        for (left, right, order) in [
            ("1.0", "1.0", Equal),
            ("1.0", "2.0", Less),
            ("2.0.1", "2.0", Greater),
            ("2.0.1", "2.0.1a", Less),
            ("5.5p1", "5.5p10", Less),
            ("5.5p2", "5.6p1", Less),
            ("10xyz", "10.1xyz", Less),
            ("xyz10", "xyz10.1", Less),
            ("xyz.4", "8", Less),
            ("5.5p2", "5.5p1", Greater),
            ("1.01", "1.1", Equal),
            ("1.0010", "1.9", Greater),
            ("1.05", "1.5", Equal),
            ("4.999.9", "5.0", Less),
            ("20101121", "20101122", Less),
            ("2_0", "2.0", Equal),
            ("a+", "a_", Equal),
            ("+a", "_a", Equal),
            ("1.0", "1.0.", Equal),
            ("1.0a", "1.0.a", Equal),
            ("1.0~rc1", "1.0", Less),
            ("1.0~rc1", "1.0~rc2", Less),
            ("1.0~rc1~git123", "1.0~rc1", Less),
            ("1.0^", "1.0", Greater),
            ("1.0^git1", "1.0.1", Less),
            ("1.0^git1", "1.01", Less),
            ("1.0^20160101", "1.0.1", Less),
            ("1.0^20160102", "1.0^20160101^git1", Greater),
            ("1.0~rc1^git1", "1.0~rc1", Greater),
            ("1.0^git1~pre", "1.0^git1", Less),
            ("1.0~rc1", "1.0arc1", Less),
            ("", "1", Less),
            ("", "~", Greater),
            ("", "^", Less),
            ("FC5", "fc4", Less),
            ("00", "0", Equal),
        ] {
            assert_eq!(compare(left, right), order, "{left} {right}");
            assert_eq!(compare(right, left), order.reverse(), "{right} {left}");
        }
    }

    #[test]
    fn epochs_come_first_and_releases_last() {
        assert!(Evr::parse("1:1-1") > Evr::parse("2-9"));
        assert!(Evr::parse("2-9") < Evr::parse("2-10"));
        assert_eq!(Evr::parse("0:2-1"), Evr::parse("2-1"));
        assert_eq!(Evr::parse("3:4.5-6.el9").to_string(), "3:4.5-6.el9");
        assert_eq!(Evr::parse("4.5").to_string(), "4.5");
        assert!(Evr::parse("1").compare_as_dependency(&Evr::parse("1-7")).is_eq());
    }

    proptest! {
        #[test]
        fn the_order_is_one(one in "[0-9a-c.~^-]{0,8}", two in "[0-9a-c.~^-]{0,8}", three in "[0-9a-c.~^-]{0,8}") {
            prop_assert_eq!(compare(&one, &two), compare(&two, &one).reverse());
            prop_assert!(compare(&one, &one).is_eq());
            // rpm's order is transitive for what differs strictly.
            if compare(&one, &two).is_lt() && compare(&two, &three).is_lt() {
                prop_assert!(compare(&one, &three).is_lt(), "{one} {two} {three}");
            }
        }

        #[test]
        fn anything_can_be_read(text in "\\PC{0,20}") {
            let evr = Evr::parse(&text);
            prop_assert!(evr == evr.clone());
        }
    }
}
