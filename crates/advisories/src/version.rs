//! The order of versions, as each family of distributions has it, and ranges of them.

use std::cmp::Ordering;

use packages::rpm::Evr;
use recipe::Family;

use crate::ecosystem::{self, Ecosystem};

/// How versions are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// As dpkg does.
    Debian,
    /// As rpm does.
    Rpm,
    /// As semver.org has it: Go's and Rust's.
    Semantic,
    /// As Python's packages are.
    Python,
}

impl Order {
    /// The order of a family's versions.
    pub fn of(family: Family) -> Self {
        match family {
            Family::Debian => Self::Debian,
            Family::RedHat | Family::Suse => Self::Rpm,
        }
    }

    /// Compares two versions: `[EPOCH:]VERSION[-RELEASE]`, an epoch that is left out is 0. Any text has a place.
    pub fn compare(self, one: &str, two: &str) -> Ordering {
        match self {
            Self::Debian => debian(one, two),
            Self::Rpm => Evr::parse(one).cmp(&Evr::parse(two)),
            Self::Semantic => ecosystem::semantic(one, two),
            Self::Python => ecosystem::python(one, two),
        }
    }

    /// The order of a language's versions; none where it is not known, as Maven's, or does not exist.
    pub fn of_language(ecosystem: Ecosystem) -> Option<Self> {
        match ecosystem {
            Ecosystem::Go | Ecosystem::CratesIo => Some(Self::Semantic),
            Ecosystem::PyPi => Some(Self::Python),
            Ecosystem::Maven | Ecosystem::Generic | Ecosystem::Distribution => None,
        }
    }
}

/// Compares as dpkg does. Source: deb-version(7), dpkg's lib/dpkg/version.c (described, not copied). The crate `debversion` has `1.a` before
/// `1.a0`, which are one version to dpkg, and refuses what others write into advisories.
fn debian(one: &str, two: &str) -> Ordering {
    let ((epoch, upstream, revision), (other_epoch, other_upstream, other_revision)) = (parts(one), parts(two));
    number(epoch, other_epoch)
        .then_with(|| compare(upstream, other_upstream))
        .then_with(|| compare(revision, other_revision))
}

/// Epoch, upstream's version and revision.
fn parts(version: &str) -> (&[u8], &[u8], &[u8]) {
    let (epoch, rest) = match version.trim().split_once(':') {
        Some((epoch, rest)) if !epoch.is_empty() && epoch.bytes().all(|byte| byte.is_ascii_digit()) => (epoch, rest),
        _ => ("", version.trim()),
    };
    let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
    (epoch.as_bytes(), upstream.as_bytes(), revision.as_bytes())
}

/// Compares numbers of any length; an empty one is 0.
fn number(one: &[u8], two: &[u8]) -> Ordering {
    let (one, two) = (without_zeros(one), without_zeros(two));
    one.len().cmp(&two.len()).then_with(|| one.cmp(two))
}

fn without_zeros(digits: &[u8]) -> &[u8] {
    &digits[digits.iter().position(|byte| *byte != b'0').unwrap_or(digits.len())..]
}

fn compare(mut one: &[u8], mut two: &[u8]) -> Ordering {
    let is_letter = |text: &[u8]| text.first().is_some_and(|byte| !byte.is_ascii_digit());
    let weight = |text: &[u8]| match text.first() {
        Some(b'~') if fault::planted("audit-tilde-is-newer") => 256,
        Some(b'~') => -1,
        Some(letter) if letter.is_ascii_alphabetic() => i32::from(*letter),
        Some(digit) if digit.is_ascii_digit() => 0,
        Some(other) => i32::from(*other) + 256,
        None => 0,
    };
    while !one.is_empty() || !two.is_empty() {
        while is_letter(one) || is_letter(two) {
            let order = weight(one).cmp(&weight(two));
            if order.is_ne() {
                return order;
            }
            (one, two) = (one.get(1..).unwrap_or_default(), two.get(1..).unwrap_or_default());
        }
        let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (left, rest) = one.split_at(digits(one));
        let (right, other) = two.split_at(digits(two));
        let order = number(left, right);
        if order.is_ne() {
            return order;
        }
        (one, two) = (rest, other);
    }
    Ordering::Equal
}

/// A place in the line of versions where something changes. Source: OSV's schema, `affected[].ranges[].events`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// From here on it is vulnerable; `0` is before all versions.
    Introduced(String),
    /// From here on it is not.
    Fixed(String),
    /// The last version that is vulnerable.
    Last(String),
}

impl Event {
    pub(crate) fn version(&self) -> &str {
        match self {
            Self::Introduced(version) | Self::Fixed(version) | Self::Last(version) => version,
        }
    }
}

/// Which versions a vulnerability is in: some ranges, and single ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Versions {
    pub(crate) ranges: Vec<Vec<Event>>,
    pub(crate) single: Vec<String>,
}

impl Versions {
    /// All versions.
    pub(crate) fn all() -> Self {
        Self { ranges: vec![vec![Event::Introduced("0".to_owned())]], single: Vec::new() }
    }

    /// All before one.
    pub(crate) fn before(fixed: &str) -> Self {
        let range = vec![Event::Introduced("0".to_owned()), Event::Fixed(fixed.to_owned())];
        Self { ranges: vec![range], single: Vec::new() }
    }

    /// One alone.
    pub(crate) fn only(version: &str) -> Self {
        Self { ranges: Vec::new(), single: vec![version.to_owned()] }
    }

    /// Whether a version is among them; then the first later one that is not, where that is known.
    pub(crate) fn has(&self, order: Order, version: &str) -> Option<Option<String>> {
        let is_in = |events: &Vec<Event>| {
            let mut sorted: Vec<&Event> = events.iter().collect();
            let is_first = |event: &Event| matches!(event, Event::Introduced(from) if from == "0");
            sorted.sort_by(|a, b| is_first(b).cmp(&is_first(a)).then_with(|| order.compare(a.version(), b.version())));
            let mut is_vulnerable = false;
            for event in sorted {
                let place = order.compare(version, event.version());
                match event {
                    Event::Introduced(_) if is_first(event) || place.is_ge() => is_vulnerable = true,
                    Event::Fixed(_) if place.is_eq() && fault::planted("audit-fixed-is-affected") => {}
                    Event::Fixed(_) if place.is_ge() => is_vulnerable = false,
                    Event::Last(_) if place.is_gt() => is_vulnerable = false,
                    _ => {}
                }
            }
            is_vulnerable
        };
        let is_single = self.single.iter().any(|one| order.compare(version, one).is_eq());
        if !is_single && !self.ranges.iter().any(is_in) {
            return None;
        }
        let fixes = self.ranges.iter().flatten().filter_map(|event| match event {
            Event::Fixed(fixed) if order.compare(fixed, version).is_gt() => Some(fixed),
            _ => None,
        });
        Some(fixes.min_by(|a, b| order.compare(a, b)).cloned())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Versions of packages of Debian, Ubuntu and backports, and what is hard about them.
    const DEBIAN: [&str; 22] = [
        "1.0-1",
        "1:1.0-1",
        "1:1.0~rc1-1",
        "0:1.0-1",
        "1.0",
        "1.0-0",
        "1.0~",
        "1.0~~",
        "1.0+b1",
        "1.0-1+b1",
        "1.0-1+deb12u1",
        "1.0-1+deb12u10",
        "1.0-1~bpo12+1",
        "2.6.2+samba4.17.12+dfsg-0+deb12u1",
        "3.0.11-1~deb12u2",
        "3.0.14-1~deb12u1",
        "6.1.128-1",
        "6.8.0-50.51",
        "1.a",
        "1.a0",
        "1.0a",
        "20240203.1",
    ];
    const RPM: [&str; 21] = [
        "1.0-1",
        "1:1.0-1",
        "0:1.0-1",
        "1.0~rc1-1",
        "1.0^git1-1",
        "1.0-1.el9",
        "1.0-1.el9_4",
        "1.0-1.el9_4.1",
        "5.14.0-427.13.1.el9_4",
        "5.14.0-427.9.1.el9_4",
        "3.0.7-27.el9",
        "3.0.7-28.el9_4",
        "1.1.1w-150600.5.3.1",
        "1.1.1w-150600.5.10.1",
        "9.6.22-1.module_el8",
        "12.5-1.module+el8",
        "2024a-1",
        "2.34-100",
        "2.34-100.4",
        "1.0.1-1",
        "1.0a-1",
    ];

    /// The order of all pairs as a program sees it.
    fn compared(all: &[&str], order: Order, program: impl Fn(&str, &str) -> Option<Ordering>) -> usize {
        let mut count = 0;
        for (at, one) in all.iter().enumerate() {
            for two in &all[at + 1..] {
                let Some(expected) = program(one, two) else { continue };
                assert_eq!(order.compare(one, two), expected, "{one} {two}");
                assert_eq!(order.compare(two, one), expected.reverse(), "{two} {one}");
                count += 1;
            }
        }
        count
    }

    #[test]
    fn two_hundred_pairs_are_ordered_as_dpkg_orders_them() {
        let dpkg = |one: &str, two: &str| {
            let is = |relation: &str| {
                let mut command = std::process::Command::new("dpkg");
                let status = command.args(["--compare-versions", one, relation, two]).status().ok()?;
                Some(status.code() == Some(0))
            };
            Some(match (is("lt")?, is("gt")?) {
                (true, false) => Ordering::Less,
                (false, true) => Ordering::Greater,
                _ => Ordering::Equal,
            })
        };
        let has_dpkg = std::process::Command::new("dpkg").arg("--version").output().is_ok();
        assert_eq!(compared(&DEBIAN, Order::Debian, dpkg), if has_dpkg { 231 } else { 0 });
    }

    #[test]
    fn two_hundred_pairs_are_ordered_as_rpm_orders_them() {
        // One program for all of them: it takes a tenth of a second to start.
        let pairs: Vec<String> = (0..RPM.len())
            .flat_map(|one| (one + 1..RPM.len()).map(move |two| (one, two)))
            .map(|(one, two)| {
                let full =
                    |at: usize| if RPM[at].contains(':') { RPM[at].to_owned() } else { format!("0:{}", RPM[at]) };
                format!(
                    "rpm.ver('{}') < rpm.ver('{}') and '<' or (rpm.ver('{}') == rpm.ver('{}') and '=' or '>')",
                    full(one),
                    full(two),
                    full(one),
                    full(two)
                )
            })
            .collect();
        let lua =
            format!("%{{lua: {}}}", pairs.iter().map(|pair| format!("print({pair})")).collect::<Vec<_>>().join(" "));
        let Ok(output) = std::process::Command::new("rpm").args(["--eval", &lua]).output() else { return };
        let signs: Vec<char> = String::from_utf8_lossy(&output.stdout).chars().filter(|c| "<=>".contains(*c)).collect();
        assert_eq!(signs.len(), 210, "{}", String::from_utf8_lossy(&output.stderr));
        let next = std::cell::RefCell::new(signs.into_iter());
        let count = compared(&RPM, Order::Rpm, |_, _| {
            Some(match next.borrow_mut().next()? {
                '<' => Ordering::Less,
                '=' => Ordering::Equal,
                _ => Ordering::Greater,
            })
        });
        assert_eq!(count, 210);
    }

    /// The table has `debian` or `rpm`, a version, `<`, `=` or `>`, and another version.
    #[test]
    fn two_hundred_pairs_are_ordered_as_univers_orders_them() {
        let mut count = 0;
        for line in include_str!("orders.tsv").lines().filter(|line| !line.starts_with('#')) {
            let [kind, one, sign, two] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
            let order = if kind == "debian" { Order::Debian } else { Order::Rpm };
            let expected = match sign {
                "<" => Ordering::Less,
                ">" => Ordering::Greater,
                _ => Ordering::Equal,
            };
            assert_eq!(order.compare(one, two), expected, "{line}");
            assert_eq!(order.compare(two, one), expected.reverse(), "{line}");
            count += 1;
        }
        assert_eq!(count, 200);
    }

    #[test]
    fn ranges_have_a_beginning_and_an_end() {
        let events = |list: &[(&str, &str)]| {
            let event = |(kind, version): &(&str, &str)| match *kind {
                "introduced" => Event::Introduced((*version).to_owned()),
                "fixed" => Event::Fixed((*version).to_owned()),
                _ => Event::Last((*version).to_owned()),
            };
            Versions { ranges: vec![list.iter().map(event).collect()], single: Vec::new() }
        };
        let has = |versions: &Versions, version: &str| versions.has(Order::Debian, version);
        // Events need not be in order.
        let twice = events(&[("fixed", "1.2-1"), ("introduced", "0"), ("introduced", "2.0-1"), ("fixed", "2.1-1")]);
        for (version, fix) in [
            ("0~1", Some(Some("1.2-1"))),
            ("1.1-1", Some(Some("1.2-1"))),
            ("1.2-1", None),
            ("1.9", None),
            ("2.0-1", Some(Some("2.1-1"))),
            ("2.1-1", None),
        ] {
            assert_eq!(has(&twice, version), fix.map(|fix| fix.map(str::to_owned)), "{version}");
        }
        let last = events(&[("introduced", "1.0"), ("last", "1.5")]);
        assert_eq!((has(&last, "1.5"), has(&last, "1.5+b1"), has(&last, "0.9")), (Some(None), None, None));
        assert_eq!(has(&events(&[("introduced", "1.0"), ("fixed", "1.0")]), "1.0"), None);
        assert_eq!(has(&events(&[]), "1"), None);
        assert_eq!(has(&Versions::only("1.0-0"), "1.0"), Some(None));
        assert_eq!(has(&Versions::all(), "~"), Some(None));
    }

    proptest! {
        #[test]
        fn the_order_is_one(one in "[0-9a-c.+~:-]{0,8}", two in "[0-9a-c.+~:-]{0,8}", three in "[0-9a-c.+~:-]{0,8}") {
            for order in [Order::Debian, Order::Rpm] {
                prop_assert_eq!(order.compare(&one, &two), order.compare(&two, &one).reverse());
                if order.compare(&one, &two).is_lt() && order.compare(&two, &three).is_lt() {
                    prop_assert!(order.compare(&one, &three).is_lt());
                }
            }
        }

        #[test]
        fn any_text_has_a_place(one in "\\PC{0,30}", two in "\\PC{0,30}") {
            let _ = (Order::Debian.compare(&one, &two), Order::Rpm.compare(&one, &two));
        }
    }
}
