//! Who names a component and numbers its versions: the distribution, or a registry of a language.

use std::cmp::Ordering;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a component has its name from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Ecosystem {
    /// The image's distribution.
    Distribution,
    /// Modules of Go, and its standard library as `stdlib`.
    Go,
    /// Rust's registry.
    CratesIo,
    /// Python's.
    PyPi,
    /// Java's.
    Maven,
    /// None that is known: drivers, what comes from a site's own source.
    Generic,
}

impl Ecosystem {
    /// Those of languages.
    pub const LANGUAGES: [Self; 4] = [Self::Go, Self::CratesIo, Self::PyPi, Self::Maven];

    /// As OSV calls it. Source: ossf.github.io/osv-schema, "Defined Ecosystems".
    pub fn osv(self) -> Option<&'static str> {
        match self {
            Self::Go => Some("Go"),
            Self::CratesIo => Some("crates.io"),
            Self::PyPi => Some("PyPI"),
            Self::Maven => Some("Maven"),
            Self::Distribution | Self::Generic => None,
        }
    }

    /// A language's, as OSV calls it.
    pub(crate) fn of_osv(text: &str) -> Option<Self> {
        let head = text.split(':').next().unwrap_or_default();
        Self::LANGUAGES.into_iter().find(|one| one.osv() == Some(head))
    }

    /// The type of its package URLs; none where that is the distribution's. Source: purl-spec, PURL-TYPES.
    pub fn purl_type(self) -> Option<&'static str> {
        match self {
            Self::Distribution => None,
            Self::Go => Some("golang"),
            Self::CratesIo => Some("cargo"),
            Self::PyPi => Some("pypi"),
            Self::Maven => Some("maven"),
            Self::Generic => Some("generic"),
        }
    }

    /// A name as it is compared. Source: PEP 503 for Python's.
    pub(crate) fn normal(self, name: &str) -> String {
        if self != Self::PyPi {
            return name.to_owned();
        }
        let parts: Vec<&str> = name.split(['-', '_', '.']).filter(|part| !part.is_empty()).collect();
        parts.join("-").to_ascii_lowercase()
    }
}

/// Numbers with dots between them at the beginning of a text, and what follows.
fn numbers(text: &str) -> (Vec<&str>, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (numbers, rest) = text.split_at(end);
    (numbers.split('.').filter(|number| !number.is_empty()).collect(), rest)
}

/// Compares numbers of any length.
fn number(one: &str, two: &str) -> Ordering {
    let (one, two) = (one.trim_start_matches('0'), two.trim_start_matches('0'));
    one.len().cmp(&two.len()).then_with(|| one.cmp(two))
}

/// Compares lists of numbers; those that are missing are 0.
fn lists(one: &[&str], two: &[&str]) -> Ordering {
    fn at<'a>(list: &[&'a str], at: usize) -> &'a str {
        list.get(at).copied().unwrap_or_default()
    }
    let mut orders = (0..one.len().max(two.len())).map(|index| number(at(one, index), at(two, index)));
    orders.find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

/// Semantic versions. Source: semver.org 2.0.0, 11; Go's own `1.22rc1` is before `1.22`, too.
pub(crate) fn semantic(one: &str, two: &str) -> Ordering {
    fn parts(text: &str) -> (Vec<&str>, &str) {
        let text = text.trim().trim_start_matches('v');
        let (core, rest) = numbers(text.split('+').next().unwrap_or_default());
        (core, rest.trim_start_matches('-'))
    }
    let ((core, before), (other_core, other_before)) = (parts(one), parts(two));
    lists(&core, &other_core).then_with(|| match (before.is_empty(), other_before.is_empty()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) => identifiers(before, other_before),
    })
}

fn identifiers(one: &str, two: &str) -> Ordering {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (mut one, mut two) = (one.split('.'), two.split('.'));
    loop {
        let order = match (one.next(), two.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (Some(one), Some(two)) => match (is_number(one), is_number(two)) {
                (true, true) => number(one, two),
                (true, false) => Ordering::Less,
                (false, true) => Ordering::Greater,
                (false, false) => one.cmp(two),
            },
        };
        if order.is_ne() {
            return order;
        }
    }
}

/// A version of Python's packages. Source: packaging.python.org, "Version specifiers" (PEP 440), summary of permitted suffixes.
#[derive(Debug, Default)]
struct Python<'a> {
    epoch: &'a str,
    release: Vec<&'a str>,
    /// Rank and number of a pre-release: `a` 0, `b` 1, `rc` 2.
    before: Option<(u8, &'a str)>,
    after: Option<&'a str>,
    development: Option<&'a str>,
}

/// Words of suffixes, the longer before those that they begin with.
const SUFFIXES: [(&str, u8); 14] = [
    ("alpha", 0),
    ("beta", 1),
    ("preview", 2),
    ("pre", 2),
    ("rc", 2),
    ("post", 3),
    ("rev", 3),
    ("dev", 4),
    ("a", 0),
    ("b", 1),
    ("c", 2),
    ("r", 3),
    // An implicit release behind it: `1.0-1`.
    ("-", 3),
    ("_", 3),
];

impl<'a> Python<'a> {
    fn read(text: &'a str) -> Self {
        let text = text.split('+').next().unwrap_or_default().trim_start_matches('v');
        let (epoch, text) = text.split_once('!').unwrap_or(("", text));
        let (release, mut rest) = numbers(text);
        let mut found = Self { epoch, release, ..Self::default() };
        while !rest.is_empty() {
            let word = rest.trim_start_matches(['.', '-', '_']);
            let suffix =
                |text: &'a str| SUFFIXES.iter().find_map(|(word, rank)| Some((text.strip_prefix(word)?, *rank)));
            let Some((behind, rank)) = suffix(word).or_else(|| suffix(rest)) else { break };
            let behind = behind.trim_start_matches(['.', '-', '_']);
            let end = behind.find(|c: char| !c.is_ascii_digit()).unwrap_or(behind.len());
            let (digits, after) = behind.split_at(end);
            match rank {
                0..=2 => found.before = Some((rank, digits)),
                3 => found.after = Some(digits),
                _ => found.development = Some(digits),
            }
            rest = after;
        }
        found
    }

    /// Where it stands among those with the same release: before all, a pre-release, or the release itself.
    fn rank(&self) -> u8 {
        match (self.before, self.after, self.development) {
            (Some((rank, _)), ..) => 1 + rank,
            (None, None, Some(_)) => 0,
            _ => 4,
        }
    }
}

/// Versions of Python's packages.
pub(crate) fn python(one: &str, two: &str) -> Ordering {
    let [one, two] = [one, two].map(|text| text.trim().to_ascii_lowercase());
    let (one, two) = (Python::read(&one), Python::read(&two));
    let optional = |one: Option<&str>, two: Option<&str>| match (one, two) {
        (Some(one), Some(two)) => number(one, two),
        (one, two) => one.is_some().cmp(&two.is_some()),
    };
    number(one.epoch, two.epoch)
        .then_with(|| lists(&one.release, &two.release))
        .then_with(|| one.rank().cmp(&two.rank()))
        .then_with(|| number(one.before.map_or("", |(_, number)| number), two.before.map_or("", |(_, number)| number)))
        .then_with(|| optional(one.after, two.after))
        // What is being developed is before what it becomes.
        .then_with(|| match (one.development, two.development) {
            (Some(one), Some(two)) => number(one, two),
            (one, two) => two.is_some().cmp(&one.is_some()),
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Each is before the next.
    fn ascending(all: &[&str], compare: fn(&str, &str) -> Ordering) {
        for (at, one) in all.iter().enumerate() {
            for two in &all[at + 1..] {
                assert_eq!((compare(one, two), compare(two, one)), (Ordering::Less, Ordering::Greater), "{one} {two}");
            }
        }
    }

    #[test]
    fn versions_of_go_and_rust_are_semantic() {
        // The example of semver.org, and what Go makes of a commit.
        let all =
            ["0.0.0-20230101000000-abc", "0.17.0", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta"];
        let more =
            ["1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.9.0", "1.10.0", "1.22rc1", "1.22", "1.22.3"];
        ascending(&[&all[..], &more].concat(), semantic);
        assert_eq!(semantic("v2.0.0+incompatible", "2.0.0"), Ordering::Equal);
    }

    #[test]
    fn versions_of_python_are_those_of_pep_440() {
        let all = [
            "1.0.dev1",
            "1.0a1.dev1",
            "1.0a1",
            "1.0b2",
            "1.0rc1",
            "1.0",
            "1.0.post1.dev1",
            "1.0.post1",
            "1.0.1",
            "1.10",
            "1!0.1",
        ];
        ascending(&all, python);
        for (one, two) in [
            ("1.0", "1.0.0"),
            ("1.0-1", "1.0.post1"),
            ("1.0alpha1", "1.0a1"),
            ("V1.0c2", "1.0-rc.2"),
            ("1.0+cu121", "1.0"),
        ] {
            assert_eq!(python(one, two), Ordering::Equal, "{one} {two}");
        }
    }

    proptest! {
        #[test]
        fn any_text_has_a_place(one in "[0-9a-cv.!+_-]{0,10}", two in "\\PC{0,12}") {
            for compare in [semantic, python] {
                prop_assert_eq!(compare(&one, &two), compare(&two, &one).reverse());
            }
        }
    }
}
