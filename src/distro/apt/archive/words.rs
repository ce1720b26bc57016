//! Words of lists that say which version of a package is meant. Source: apt-get(8), `install`, and apt's pkgVersionMatch: an exact version or,
//! before `*`, how it begins; a suite by its name or its codename.

use std::collections::BTreeSet;

use super::index::{Archive, Candidate};
use crate::distro::apt::SuiteRelease;
use crate::recipe::{is_meant, is_pattern};

/// How many versions of a package are reported.
const SHOWN: usize = 8;

/// The versions of a package that there are, newest first, each with where it is.
fn versions(archive: &Archive, name: &str) -> String {
    let candidates = archive.candidates(name);
    let mut found: Vec<_> =
        candidates.iter().filter_map(|one| Some((one.version()?, one.index.origin.as_str()))).collect();
    found.sort_by(|a, b| b.cmp(a));
    found.dedup();
    let shown: Vec<String> =
        found.iter().take(SHOWN).map(|(version, origin)| format!("{version} ({origin})")).collect();
    let more = found.len().saturating_sub(SHOWN);
    format!("{}{}", shown.join(", "), if more > 0 { format!(" and {more} more") } else { String::new() })
}

/// Whether there is what `name=version` names, of a package that there is.
pub fn of_version(archive: &Archive, item: &str) -> Result<(), String> {
    let Some((name, wanted)) = item.split_once('=') else { return Ok(()) };
    let name = name.split(':').next().unwrap_or(name);
    let fits = |version: &str| match wanted.strip_suffix('*') {
        Some(start) => version.starts_with(start),
        None => version == wanted,
    };
    if archive.candidates(name).iter().any(|one| one.field("Version").is_some_and(fits)) {
        return Ok(());
    }
    Err(format!("available versions of `{name}`: {}", versions(archive, name)))
}

/// Whether there is what `name/suite` names.
/// Errors: What there is instead; none for a package that no repository has.
pub fn of_suite(archive: &Archive, suites: &[SuiteRelease], item: &str) -> Result<(), Option<String>> {
    // apt takes what follows the last one.
    let Some((name, wanted)) = item.rsplit_once('/') else { return Err(None) };
    let is_it = |suite: &&SuiteRelease| {
        let mut lines = suite.text.iter().flat_map(|text| text.lines());
        let values =
            lines.by_ref().filter_map(|line| line.strip_prefix("Suite:").or_else(|| line.strip_prefix("Codename:")));
        suite.suite == wanted || values.map(str::trim).any(|value| value == wanted)
    };
    let origins: BTreeSet<&str> = suites.iter().filter(is_it).map(|suite| suite.origin.as_str()).collect();
    let missing = format!(
        "the suite `{wanted}` is in no ‹[[repo]]›: add one, ‹[[repo]] uri = \"...\", suites = [\"{wanted}\"], components = [\"main\"]›"
    );
    // Which packages such a pattern means, apt knows.
    if is_apt_pattern(name) {
        return if origins.is_empty() { Err(Some(missing)) } else { Ok(()) };
    }
    let name = name.split(':').next().unwrap_or(name);
    let meant: Vec<&str> = match is_pattern(name) {
        true => archive.names().into_iter().filter(|one| is_meant(name, one)).collect(),
        false => vec![name],
    };
    let Some(first) = meant.iter().find(|one| !archive.candidates(one).is_empty()) else { return Err(None) };
    let is_there = |name: &&str| archive.candidates(name).iter().any(|one| origins.contains(one.index.origin.as_str()));
    if meant.iter().any(is_there) {
        return Ok(());
    }
    let there = format!("available versions of `{first}`: {}", versions(archive, first));
    Err(Some(match origins.is_empty() {
        false => there,
        true => format!("{there}; {missing}"),
    }))
}

/// Whether a word is a pattern of apt's own. Source: apt-patterns(7).
pub fn is_apt_pattern(word: &str) -> bool {
    word.starts_with(['?', '~'])
}

/// The task in `task^`. Source: apt-get(8).
pub fn task_of(word: &str) -> Option<&str> {
    word.strip_suffix('^').filter(|task| !is_apt_pattern(word) && !task.is_empty())
}

/// Whether a package belongs to a task.
pub fn is_of_task(candidate: &Candidate<'_>, task: &str) -> bool {
    candidate.fields.get_field("Task").is_some_and(|field| field.join().split([',', ' ']).any(|one| one == task))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Sha256;
    use crate::distro::apt::SuiteIndex;

    #[test]
    fn versions_and_suites_are_found_or_what_there_is_is_told() {
        let digest = Sha256::of(b"x");
        let index = |origin: &str, versions: &[&str]| {
            let stanzas = versions.iter().map(|version| {
                format!(
                    "Package: a\nVersion: {version}\nArchitecture: all\nFilename: a.deb\nSize: 1\nSHA256: {digest}\n\n"
                )
            });
            SuiteIndex::new(origin.to_owned(), "http://h".to_owned(), stanzas.collect())
        };
        let mut archive = Archive::default();
        archive.indices.extend([index("site:stable", &["1.2-1", "1.10-1"]), index("backports", &["2.0~bpo-1"])]);
        let suite = |suite: &str, origin: &str, text: Option<&str>| SuiteRelease {
            suite: suite.to_owned(),
            origin: origin.to_owned(),
            uri: "http://h".to_owned(),
            files: Vec::new(),
            text: text.map(str::to_owned),
            digest,
            indices: Vec::new(),
            tools: Vec::new(),
        };
        let suites = [
            suite("stable", "site:stable", Some("Origin: x\nSuite: stable\nCodename: trixie\n")),
            suite("backports", "backports", None),
            suite("empty", "empty", None),
        ];
        for good in ["a", "a=1.2-1", "a=1.*", "a:amd64=2.0*"] {
            assert_eq!(of_version(&archive, good), Ok(()), "{good}");
        }
        let there = "available versions of `a`: 2.0~bpo-1 (backports), 1.10-1 (site:stable), 1.2-1 (site:stable)";
        for bad in ["a=1", "a=3*", "a=1.2-1 "] {
            assert_eq!(of_version(&archive, bad), Err(there.to_owned()), "{bad}");
        }
        for good in ["a/stable", "a/trixie", "a/backports", "a:amd64/backports"] {
            assert_eq!(of_suite(&archive, &suites, good), Ok(()), "{good}");
        }
        for good in ["a*/stable", "[ab]/trixie", "?name(^a$)/stable", "~na/trixie", "?or(?name(a),?name(b))/backports"]
        {
            assert_eq!(of_suite(&archive, &suites, good), Ok(()), "{good}");
        }
        assert_eq!(of_suite(&archive, &suites, "a*/empty"), Err(Some(there.to_owned())));
        assert_eq!(of_suite(&archive, &suites, "b*/stable"), Err(None));
        let hint = of_suite(&archive, &suites, "?name(^a$)/sid").unwrap_err().unwrap();
        assert!(hint.starts_with("the suite `sid` is in no ‹[[repo]]›"), "{hint}");
        assert_eq!(of_suite(&archive, &suites, "a/empty"), Err(Some(there.to_owned())));
        assert_eq!(of_suite(&archive, &suites, "b/stable"), Err(None));
        let hint = of_suite(&archive, &suites, "a/sid").unwrap_err().unwrap();
        assert!(hint.starts_with(there) && hint.contains("suites = [\"sid\"]"), "{hint}");
    }
}
