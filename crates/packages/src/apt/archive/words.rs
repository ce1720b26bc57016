//! What words of lists mean in an archive: `folder/name`, tasks, those that nothing has, and which version of a package. Source: apt-get(8), `install`, and apt's pkgVersionMatch: an exact version or,
//! before `*`, how it begins; a suite by its name or its codename.

use std::collections::BTreeSet;

use super::index::{Archive, Candidate};
use crate::DistroError;
use crate::apt::SuiteRelease;
use base::source::nearest;
use recipe::{is_meant, is_pattern};

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
pub(crate) fn of_version(archive: &Archive, item: &str) -> Result<(), String> {
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
pub(crate) fn of_suite(archive: &Archive, suites: &[SuiteRelease], item: &str) -> Result<(), Option<String>> {
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
pub(crate) fn is_apt_pattern(word: &str) -> bool {
    word.starts_with(['?', '~'])
}

/// The task in `task^`. Source: apt-get(8).
pub(crate) fn task_of(word: &str) -> Option<&str> {
    word.strip_suffix('^').filter(|task| !is_apt_pattern(word) && !task.is_empty())
}

/// Whether a package belongs to a task.
pub(crate) fn is_of_task(candidate: &Candidate<'_>, task: &str) -> bool {
    candidate.fields.get_field("Task").is_some_and(|field| field.join().split([',', ' ']).any(|one| one == task))
}

/// Whether a package is asked for by a name or pattern of a list.
pub(crate) fn is_asked(candidate: &Candidate<'_>, item: &str) -> bool {
    let name = candidate.field("Package").unwrap_or_default();
    match item {
        "?essential" => candidate.field("Essential") == Some("yes"),
        "~prequired" => candidate.field("Priority") == Some("required"),
        // Which ones it means, apt alone knows: none is to be removed as no longer needed.
        item if is_apt_pattern(item) => true,
        item => match task_of(item) {
            Some(task) => is_of_task(candidate, task),
            None => is_named(name, item),
        },
    }
}

/// Whether a word of a list names a package. In `folder/name` and `name/suite` one part is the name; no package is named like a folder or a
/// suite.
pub(crate) fn is_named(name: &str, item: &str) -> bool {
    let is_it = |word: &str| match word.contains(['*', '?']) {
        true => globset::Glob::new(word).is_ok_and(|glob| glob.compile_matcher().is_match(name)),
        false => word == name,
    };
    let of_suite = item.rsplit_once('/').map(|(first, _)| plain_name(first));
    is_it(plain_name(item)) || of_suite.is_some_and(is_it)
}

/// The name in `folder/name=version` or `name:architecture`.
pub(crate) fn plain_name(item: &str) -> &str {
    let name = item.rsplit('/').next().unwrap_or(item);
    name.split(['=', ':']).next().unwrap_or(name)
}

/// How many names are offered in place of another.
const SHOWN_NAMES: usize = 3;

/// What `folder/name`, `folder/name*` or `folder/name.arch` of an otherpkgs list means: the newest of each name that this folder has for
/// the image's CPU.
pub(crate) fn in_folder<'a>((archive, architecture): (&'a Archive, &str), item: &str) -> Vec<Candidate<'a>> {
    let Some((folder, name)) = item.rsplit_once('/').filter(|_| !is_apt_pattern(item)) else { return Vec::new() };
    let (name, wanted) = name.split_once('=').map_or((name, None), |(name, version)| (name, Some(version)));
    let name = name.strip_suffix(&format!(":{architecture}")).unwrap_or(name);
    let origin = format!("otherpkgs/{folder}");
    let fits = |candidate: &Candidate<'_>| {
        let runs = candidate.field("Architecture").is_none_or(|one| one == "all" || one == architecture);
        runs && wanted.is_none_or(|version| candidate.field("Version") == Some(version))
    };
    let newest = |name: &str| {
        let own = archive.candidates(name).into_iter();
        let own = own.filter(|candidate| candidate.index.origin == origin && fits(candidate));
        own.filter_map(|candidate| Some((candidate.version()?, candidate)))
            .max_by(|a, b| a.0.cmp(&b.0))
            .map(|one| one.1)
    };
    let names: Vec<&str> = match is_pattern(name) {
        true => archive.names().into_iter().filter(|one| is_meant(name, one)).collect(),
        false => vec![name],
    };
    let all: Vec<_> = names.into_iter().filter_map(newest).collect();
    // `name.arch`, as lists for both kinds of distributions have it; a name may end so by itself.
    let bare = [architecture, "all"].iter().find_map(|one| name.strip_suffix(one)?.strip_suffix('.'));
    match bare {
        Some(bare) if all.is_empty() => newest(bare).into_iter().collect(),
        _ => all,
    }
}

/// Words of a pass that nothing means, each with what there is instead, where that is known.
pub(crate) fn unknown_words(
    (archive, suites, architecture): (&Archive, &[SuiteRelease], &str),
    items: &[String],
    is_installed: &dyn Fn(&str) -> bool,
) -> Vec<(String, Option<String>)> {
    let mut unknown = Vec::new();
    let providers = std::cell::OnceCell::new();
    for item in items {
        let asked = item.split('=').next().unwrap_or(item);
        if (is_apt_pattern(item) || asked.contains('*')) && !item.contains('/') {
            continue;
        }
        if let Some(task) = task_of(item).filter(|_| !item.contains('/')) {
            let has_it = |name: &&str| archive.candidates(name).iter().any(|one| is_of_task(one, task));
            if !archive.names().iter().any(has_it) {
                unknown.push((item.clone(), Some(format!("no package belongs to the task `{task}`"))));
            }
            continue;
        }
        if item.contains('/') {
            if in_folder((archive, architecture), item).is_empty()
                && let Err(hint) = of_suite(archive, suites, item)
            {
                unknown.push((item.clone(), hint.or_else(|| near_in_folders(archive, item))));
            }
            continue;
        }
        let name = plain_name(item);
        if archive.candidates(name).is_empty() {
            let is_known = is_installed(name) || providers.get_or_init(|| archive.providers()).contains_key(name);
            unknown.extend((!is_known).then(|| (name.to_owned(), None)));
        } else if let Err(hint) = of_version(archive, item) {
            unknown.push((item.clone(), Some(hint)));
        }
    }
    unknown
}

/// What of the recipe's own directories is like `folder/name`.
pub(crate) fn near_in_folders(archive: &Archive, item: &str) -> Option<String> {
    let local = archive.indices.iter().filter_map(|index| Some((index.origin.strip_prefix("otherpkgs/")?, index)));
    let names = |text: &str| -> Vec<String> {
        let fields = text.lines().filter_map(|line| line.strip_prefix("Package:"));
        fields.map(|name| name.trim().to_owned()).collect()
    };
    let words: Vec<String> = local
        .flat_map(|(folder, index)| names(index.text()).into_iter().map(move |name| format!("{folder}/{name}")))
        .collect();
    let of_name: Vec<&str> =
        words.iter().filter(|word| word.rsplit('/').next() == item.rsplit('/').next()).map(String::as_str).collect();
    let near = if of_name.is_empty() { nearest(item, words.iter().map(String::as_str)) } else { of_name };
    let near: Vec<&str> = near.into_iter().take(SHOWN_NAMES).map(|word| word.trim_start_matches("./")).collect();
    (!near.is_empty()).then(|| format!("instead of `{item}`, did you mean {}?", near.join(", ")))
}

/// What is said of names that no archive has, each with what is known of it.
pub(crate) fn unknown_names(archive: &Archive, unknown: Vec<(String, Option<String>)>) -> DistroError {
    let names = archive.names();
    let hint = |(name, hint): (String, Option<String>)| {
        let near = || {
            let near = nearest(&name, names.iter().copied());
            (!near.is_empty()).then(|| format!("instead of `{name}`, did you mean {}?", near.join(", ")))
        };
        let hint = hint.or_else(near);
        (name, hint)
    };
    DistroError::unknown_packages(
        unknown.into_iter().map(hint).collect(),
        "check the suites and components of ‹[[repo]]›",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apt::SuiteIndex;
    use base::digest::Sha256;

    #[test]
    fn a_word_names_a_package_with_its_folder_suite_or_version() {
        for item in ["a", "a=1.2", "a:amd64", "site/a", "x86/dep/a=1*", "a/stable", "a*/stable", "site/a*", "?/stable"]
        {
            assert!(is_named("a", item), "{item}");
        }
        for item in ["b", "stable/b", "b*/stable", "site/b*", "ab"] {
            assert!(!is_named("a", item), "{item}");
        }
    }

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
