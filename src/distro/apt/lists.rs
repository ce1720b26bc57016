//! What the words of a package list mean in an archive: `folder/name`, tasks, and those that nothing has.

use super::archive::words::{is_apt_pattern, is_of_task, of_suite, of_version, task_of};
use super::resolve::plain_name;
use super::{Archive, Candidate, SuiteRelease};
use crate::distro::DistroError;
use crate::recipe::{is_meant, is_pattern};
use crate::source::nearest;

/// How many names are offered in place of another.
const SHOWN_NAMES: usize = 3;

/// What `folder/name`, `folder/name*` or `folder/name.arch` of an otherpkgs list means: the newest of each name that this folder has for
/// the image's CPU.
pub fn in_folder<'a>((archive, architecture): (&'a Archive, &str), item: &str) -> Vec<Candidate<'a>> {
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
pub fn unknown_words(
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
pub fn near_in_folders(archive: &Archive, item: &str) -> Option<String> {
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
pub fn unknown_names(archive: &Archive, unknown: Vec<(String, Option<String>)>) -> DistroError {
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
