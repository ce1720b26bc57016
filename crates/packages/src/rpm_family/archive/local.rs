//! Directories of packages without metadata, and otherpkgs: their metadata are made here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::packages::spellings;
use crate::damaged::{self, DamagedFile};
use crate::rpm::{Candidate, Repository, RepositorySource, scan_directory};
use crate::{DistroError, Gathering};
use recipe::{is_meant, is_pattern};

/// Start of the ids of folders of otherpkgs.
pub(crate) const OTHERPKGS: &str = "otherpkgs/";

/// What stands for repomd.xml of a directory: all that is known of its packages.
fn fingerprint(candidates: &[Candidate]) -> Vec<u8> {
    candidates.iter().flat_map(|one| format!("{} {:?}\n", one.location, one.checksum).into_bytes()).collect()
}

/// Reads a directory of packages as a repository; what is not a package is reported.
/// Errors: [`DistroError::PackageFiles`] for such files that the recipe asks for.
pub(crate) fn read_directory(
    gathering: &Gathering<'_>,
    source: &RepositorySource,
    directory: &Path,
) -> Result<Repository, DistroError> {
    let (candidates, damaged) = scan_directory(directory)?;
    damaged::report(gathering, "repo", &damaged)?;
    Ok(Repository {
        id: source.id.clone(),
        bases: vec![format!("file:{}", directory.display())],
        repomd: fingerprint(&candidates),
        candidates,
        priority: source.priority.unwrap_or(99),
        module_hotfixes: source.module_hotfixes,
        exclude: source.exclude.clone(),
        include: source.include.clone(),
        ..Repository::default()
    })
}

/// Finds the repositories below a directory of the recipe: each folder that holds package files, whatever metadata lie beside them.
/// Files that are not packages are given beside them.
/// Errors: [`DistroError::Format`] for a directory that cannot be read.
pub(crate) fn other_packages(
    directory: &Path,
    origin: &str,
) -> Result<(Vec<Repository>, Vec<DamagedFile>), DistroError> {
    let mut folders: BTreeMap<String, Vec<Candidate>> = BTreeMap::new();
    let (candidates, damaged) = scan_directory(directory)?;
    for mut candidate in candidates {
        let (folder, file) = match candidate.location.rsplit_once('/') {
            Some((folder, file)) => (folder.to_owned(), file.to_owned()),
            None => (".".to_owned(), candidate.location.clone()),
        };
        candidate.location = file;
        folders.entry(folder).or_default().push(candidate);
    }
    let repository = |(folder, candidates): (String, Vec<Candidate>)| Repository {
        bases: vec![format!("file:{}", directory.join(if folder == "." { "" } else { &folder }).display())],
        id: format!("{origin}/{folder}"),
        repomd: fingerprint(&candidates),
        candidates,
        priority: 99,
        // A package that the site puts here is meant, whatever module streams are chosen.
        module_hotfixes: true,
        ..Repository::default()
    };
    Ok((folders.into_iter().map(repository).collect(), damaged))
}

/// Whether a word of a list means a package by its name, with its CPU or version, or by a pattern.
pub(crate) fn means(word: &str, candidate: &Candidate) -> bool {
    word == candidate.name
        || (is_pattern(word) && is_meant(word, &candidate.name))
        || (word.starts_with(candidate.name.as_str()) && spellings(candidate).iter().any(|one| one == word))
}

/// Leaves out what otherpkgs has in the same version: of other repositories, and of other folders than the one that `named` (folder and
/// word of a list) or else comes first. The solver then knows what that package needs.
pub(crate) fn prefer_own(repositories: &mut [Repository], named: &[(String, String)]) {
    let folder = |repository: &Repository| repository.id.strip_prefix(OTHERPKGS).map(str::to_owned);
    let mut own: BTreeMap<String, (bool, usize)> = BTreeMap::new();
    for (number, repository) in repositories.iter().enumerate() {
        let Some(folder) = folder(repository) else { continue };
        for candidate in &repository.candidates {
            let is_named = named.iter().any(|(of, word)| *of == folder && means(word, candidate));
            let known = own.entry(candidate.nevra()).or_insert((is_named, number));
            if is_named && !known.0 {
                *known = (true, number);
            }
        }
    }
    if fault::planted("archive-before-otherpkgs") {
        return;
    }
    for (number, repository) in repositories.iter_mut().enumerate().filter(|(_, one)| !one.id.starts_with("kernels/")) {
        let other = |candidate: &Candidate| own.get(&candidate.nevra()).is_some_and(|(_, of)| *of != number);
        let gives_way: BTreeSet<usize> =
            (0..repository.candidates.len()).filter(|index| other(&repository.candidates[*index])).collect();
        repository.exclude.extend(gives_way.iter().map(|index| repository.candidates[*index].nevra()));
        repository.hidden.extend(gives_way);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpm::Evr;

    fn repository(id: &str, packages: &[(&str, &str)]) -> Repository {
        let candidate = |(name, evr): &(&str, &str)| Candidate {
            name: (*name).to_owned(),
            arch: "noarch".to_owned(),
            evr: Evr::parse(evr),
            ..Candidate::nothing()
        };
        Repository { id: id.to_owned(), candidates: packages.iter().map(candidate).collect(), ..Repository::default() }
    }

    #[test]
    fn a_sites_package_goes_before_others_of_the_same_version() {
        let all = [
            repository("distro", &[("hello", "1-1"), ("other", "2-1"), ("less", "1-1")]),
            repository("otherpkgs/a", &[("hello", "1-1"), ("other", "1-1")]),
            repository("otherpkgs/b", &[("hello", "1-1"), ("hello", "3-1")]),
        ];
        let hidden = |named: &[(&str, &str)]| {
            let named: Vec<(String, String)> =
                named.iter().map(|(folder, word)| ((*folder).to_owned(), (*word).to_owned())).collect();
            let mut all = all.clone();
            prefer_own(&mut all, &named);
            let of = |one: &Repository| one.exclude.iter().map(|name| format!("{} {name}", one.id)).collect::<Vec<_>>();
            all.iter().flat_map(of).collect::<Vec<_>>()
        };
        assert_eq!(hidden(&[]), ["distro hello-1-1.noarch", "otherpkgs/b hello-1-1.noarch"]);
        for word in ["hello", "hel*", "hello.noarch", "hello-1-1"] {
            assert_eq!(hidden(&[("b", word)]), ["distro hello-1-1.noarch", "otherpkgs/a hello-1-1.noarch"], "{word}");
        }
    }
}
