//! What RPM packages of one transaction need of each other.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::packages::spellings;
use crate::rpm::{Candidate, Capability, Comps, PackageKind, Repository, paths_of, plain_names};
use crate::{DistroError, Relations};
use recipe::PinnedPackage;

/// A package of the transaction: its repository's and its own index, and what the repository says of it.
#[derive(Clone, Copy)]
struct Found<'a> {
    repository: usize,
    index: usize,
    candidate: &'a Candidate,
}

/// The relations of packages to each other, and to the words of a list (of `a|b` the one that is there; none: nothing). None,
/// where a word says nothing about its packages.
/// Errors: [`DistroError::Format`] for damaged `filelists`, which are read where a path is needed that `primary` does not name.
pub(super) fn relations(
    repositories: &[Repository],
    packages: &[PinnedPackage],
    words: &[Option<String>],
) -> Result<Option<Relations>, DistroError> {
    let Some(found) = found(repositories, packages) else { return Ok(None) };
    let required = found.iter().map(|one| {
        let requires = one.candidate.requires.iter();
        requires.flat_map(|requirement| plain_names(&requirement.capability)).collect::<Vec<Capability>>()
    });
    let required: Vec<Vec<Capability>> = required.collect();
    let names = required.iter().flatten().map(|one| &*one.name).chain(words.iter().flatten().map(String::as_str));
    let known = known(repositories, &found, &names.filter(|name| name.starts_with('/')).collect())?;
    let all = |wanted: &Capability| {
        let of_name = known.get(&*wanted.name).into_iter().flatten().copied();
        let meets = |at: &usize| {
            let provides = &found[*at].candidate.provides;
            wanted.version.is_none() || provides.iter().any(|provided| wanted.met_by(provided))
        };
        of_name.filter(meets).collect::<Vec<usize>>()
    };
    let needs = required.iter().enumerate().map(|(at, required)| {
        let needed: BTreeSet<usize> = required.iter().flat_map(all).filter(|other| *other != at).collect();
        needed.into_iter().collect()
    });
    let needs = needs.collect();
    let asked = words.iter().map(|word| match word {
        Some(word) => meant(repositories, word, &found, &all),
        None => Some(Vec::new()),
    });
    Ok(asked.collect::<Option<Vec<_>>>().map(|asked| Relations { needs, asked }))
}

/// The packages where their repositories have them.
fn found<'a>(repositories: &'a [Repository], packages: &[PinnedPackage]) -> Option<Vec<Found<'a>>> {
    let mut of_name: HashMap<&str, Vec<Found<'a>>> =
        packages.iter().map(|package| (package.name.as_str(), Vec::new())).collect();
    for (number, repository) in repositories.iter().enumerate() {
        for (index, candidate) in repository.candidates.iter().enumerate() {
            if let Some(all) = of_name.get_mut(candidate.name.as_str()) {
                all.push(Found { repository: number, index, candidate });
            }
        }
    }
    let is_it = |found: &&Found<'_>, package: &PinnedPackage| {
        repositories[found.repository].id == package.origin
            && found.candidate.arch == package.architecture
            && found.candidate.evr.to_string() == package.version
    };
    let of = |package: &PinnedPackage| of_name.get(&*package.name)?.iter().find(|one| is_it(one, package)).copied();
    packages.iter().map(of).collect()
}

/// What the packages provide, by name; of paths those that are asked for.
fn known(
    repositories: &[Repository],
    found: &[Found<'_>],
    paths: &BTreeSet<&str>,
) -> Result<HashMap<String, Vec<usize>>, DistroError> {
    let mut known: HashMap<String, Vec<usize>> = HashMap::new();
    for (at, one) in found.iter().enumerate() {
        let files = one.candidate.files.iter().map(String::as_str).filter(|file| paths.contains(file));
        let own = one.candidate.provides.iter().map(|provided| &*provided.name);
        for name in own.chain([one.candidate.name.as_str()]).chain(files) {
            let all = known.entry(name.to_owned()).or_default();
            if all.last() != Some(&at) {
                all.push(at);
            }
        }
    }
    // `primary` names a path for all packages that have it, or for none: what it names elsewhere is not in these.
    let mut missing: BTreeSet<&str> = paths.iter().copied().filter(|path| !known.contains_key(*path)).collect();
    if !missing.is_empty() {
        for file in repositories.iter().flat_map(|one| &one.candidates).flat_map(|one| &one.files) {
            missing.remove(file.as_str());
        }
    }
    for (number, repository) in repositories.iter().enumerate().filter(|_| !missing.is_empty()) {
        let own = found.iter().enumerate().filter(|(_, one)| one.repository == number);
        let own: BTreeMap<usize, usize> = own.map(|(at, one)| (one.index, at)).collect();
        if !own.is_empty() {
            let files = paths_of(repository, &own.keys().copied().collect(), &|path| missing.contains(path))?;
            for (index, files) in files {
                files.into_iter().for_each(|file| known.entry(file).or_default().push(own[&index]));
            }
        }
    }
    Ok(known)
}

/// The packages that a word of a list means: as it is spelled, or else what provides it. None: that cannot be said.
fn meant(
    repositories: &[Repository],
    word: &str,
    found: &[Found<'_>],
    all: &dyn Fn(&Capability) -> Vec<usize>,
) -> Option<Vec<usize>> {
    let those = |is_it: &dyn Fn(&Candidate) -> bool| -> Vec<usize> {
        found.iter().enumerate().filter(|(_, one)| is_it(one.candidate)).map(|(at, _)| at).collect()
    };
    if let Some(group) = word.strip_prefix('@') {
        let named = named_by(repositories, group.trim_start_matches('^'))?;
        return Some(those(&|one| named.contains(one.name.as_str())));
    }
    let own = match word.rsplit_once('/').filter(|_| !word.starts_with('/')) {
        Some((_, name)) => those(&|one| one.name == name),
        None if word.contains(['*', '?', '[']) => {
            let pattern = globset::Glob::new(word).ok()?.compile_matcher();
            those(&|one| pattern.is_match(&one.name) || spellings(one).iter().any(|spelled| pattern.is_match(spelled)))
        }
        None => those(&|one| {
            let rest = word.strip_prefix(one.name.as_str());
            rest.is_some_and(|rest| rest.is_empty() || spellings(one).iter().any(|spelled| spelled == word))
        }),
    };
    if own.is_empty() { Some(plain_names(&Capability::parse(word)).iter().flat_map(all).collect()) } else { Some(own) }
}

/// The packages of a group or an environment, in whatever repository.
fn named_by<'a>(repositories: &'a [Repository], group: &str) -> Option<HashSet<&'a str>> {
    let comps: Vec<&Comps> = repositories.iter().filter_map(|one| one.comps.as_ref()).collect();
    let environments: Vec<_> = comps.iter().filter_map(|comps| comps.environment(group)).collect();
    let of_them = environments.iter().flat_map(|one| {
        let options = one.options.iter().filter(|(_, default)| *default).map(|(id, _)| id.as_str());
        one.groups.iter().map(String::as_str).chain(options)
    });
    let ids: Vec<&str> = if environments.is_empty() { vec![group] } else { of_them.collect() };
    let groups: Vec<_> = ids.iter().flat_map(|id| comps.iter().filter_map(|comps| comps.group(id))).collect();
    let packages = groups.iter().flat_map(|group| &group.packages);
    let brought = packages.filter(|package| package.kind != PackageKind::Optional);
    (!groups.is_empty()).then(|| brought.map(|package| package.name.as_str()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpm::{Checksum, Environment, Evr, Group, GroupPackage, Requirement, Weak};
    use base::digest::Sha256;

    /// `name: what it requires; what it provides`.
    fn candidate(text: &str) -> Candidate {
        let (name, rest) = text.split_once(':').unwrap();
        let (requires, provides) = rest.split_once(';').unwrap_or((rest, ""));
        let list = |text: &str| -> Vec<Capability> {
            text.split(',').filter(|one| !one.trim().is_empty()).map(Capability::parse).collect()
        };
        let requires = list(requires).into_iter().map(|capability| Requirement { capability, pre: false });
        let mut provides = list(provides);
        provides.push(Capability::parse(&format!("{name} = 1-1")));
        Candidate {
            name: name.to_owned(),
            arch: "x86_64".to_owned(),
            evr: Evr::parse("1-1"),
            checksum: Checksum::Sha256(Sha256::of(name.as_bytes())),
            size: 1,
            installed_size: 1,
            location: format!("{name}.rpm"),
            base: None,
            header_range: None,
            source: None,
            files: vec![format!("/usr/bin/{name}")],
            provides,
            requires: requires.collect(),
            conflicts: Vec::new(),
            obsoletes: Vec::new(),
            weak: Weak::default(),
        }
    }

    fn repository(packages: &[&str]) -> Repository {
        Repository {
            id: "r".to_owned(),
            candidates: packages.iter().map(|text| candidate(text)).collect(),
            ..Repository::default()
        }
    }

    fn pinned(repository: &Repository, names: &[&str]) -> Vec<PinnedPackage> {
        let pin = |candidate: &Candidate| PinnedPackage {
            name: candidate.name.clone(),
            version: candidate.evr.to_string(),
            architecture: candidate.arch.clone(),
            size: 1,
            sha256: Sha256::of(b""),
            origin: repository.id.clone(),
            file: String::new(),
            automatic: false,
            beside: false,
        };
        let named = |name: &&str| pin(repository.candidates.iter().find(|one| one.name == **name).unwrap());
        names.iter().map(named).collect()
    }

    fn words(words: &[&str]) -> Vec<Option<String>> {
        words.iter().map(|word| Some((*word).to_owned())).collect()
    }

    #[test]
    fn names_versions_paths_and_boolean_dependencies_are_followed() {
        let repository = repository(&[
            "a: lib.so()(64bit), (b if c), /usr/bin/d",
            "b: virtual >= 2, below",
            "c:;virtual = 1",
            "d: d;virtual = 2, lib.so()(64bit)",
            "below:",
        ]);
        let packages = pinned(&repository, &["a", "b", "c", "d"]);
        let repositories = [repository];
        let list = words(&["a", "b-1-1.x86_64", "/usr/bin/c", "virtual", "[ab]*", "folder/d", "below", "d >= 1"]);
        let found = relations(&repositories, &packages, &list).unwrap().unwrap();
        assert_eq!(found.needs, [vec![1, 2, 3], vec![3], vec![], vec![]]);
        let asked = [vec![0], vec![1], vec![2], vec![2, 3], vec![0, 1], vec![3], vec![], vec![3]];
        assert_eq!(found.asked, asked);
        let other = PinnedPackage { version: "2-1".into(), ..packages[0].clone() };
        assert_eq!(relations(&repositories, &[other], &[]).unwrap(), None);
    }

    #[test]
    fn groups_mean_what_they_bring() {
        let mut repository = repository(&["a:", "b:", "c:", "d:"]);
        let group = |id: &str, packages: &[(&str, PackageKind)]| Group {
            id: id.to_owned(),
            packages: packages
                .iter()
                .map(|(name, kind)| GroupPackage { name: (*name).to_owned(), kind: *kind, requires: None })
                .collect(),
            ..Group::default()
        };
        let core = group("core", &[("a", PackageKind::Mandatory), ("d", PackageKind::Optional)]);
        let more = group("more", &[("b", PackageKind::Default), ("not-here", PackageKind::Mandatory)]);
        let other = group("other", &[("c", PackageKind::Mandatory)]);
        let minimal = Environment {
            id: "minimal".to_owned(),
            groups: vec!["core".to_owned()],
            options: vec![("more".to_owned(), true), ("other".to_owned(), false)],
            ..Environment::default()
        };
        repository.comps = Some(Comps { groups: vec![core, more, other], environments: vec![minimal] });
        let packages = pinned(&repository, &["a", "b", "c", "d"]);
        let repositories = [repository];
        let asked = |list: &[&str]| relations(&repositories, &packages, &words(list)).unwrap().map(|one| one.asked);
        assert_eq!(asked(&["@^minimal", "@core", "@other", "d"]).unwrap(), [vec![0, 1], vec![0], vec![2], vec![3]]);
        // A stream of a module, or what only the solver knows.
        assert_eq!(asked(&["@core", "@nodejs:20"]), None);
    }
}
