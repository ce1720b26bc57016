//! Directories of packages without metadata, and otherpkgs: their metadata are made here.

use std::collections::BTreeMap;
use std::path::Path;

use crate::distro::DistroError;
use crate::distro::rpm::{Candidate, Repository, RepositorySource, scan_directory};

/// What stands for repomd.xml of a directory: all that is known of its packages.
fn fingerprint(candidates: &[Candidate]) -> Vec<u8> {
    candidates.iter().flat_map(|one| format!("{} {:?}\n", one.location, one.checksum).into_bytes()).collect()
}

/// Reads a directory of packages as a repository.
/// Errors: [`DistroError::Format`] for a file that is no package.
pub fn read_directory(source: &RepositorySource, directory: &Path) -> Result<Repository, DistroError> {
    let candidates = scan_directory(directory)?;
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
/// Errors: As [`read_directory`].
pub fn other_packages(directory: &Path, origin: &str) -> Result<Vec<Repository>, DistroError> {
    let mut folders: BTreeMap<String, Vec<Candidate>> = BTreeMap::new();
    for mut candidate in scan_directory(directory)? {
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
    Ok(folders.into_iter().map(repository).collect())
}
