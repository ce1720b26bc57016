//! What `check` says of archives: files that cannot be used, places of this machine that are not there; with `online` all of them.

use super::gather::{sources, unless_optional};
use super::named::{Architectures, of_one};
use super::release::fetch_suite;
use crate::apt::Source;
use crate::{DistroError, Gathering, Keyring, Unusable};

/// Looks at the archives of a recipe, and gives those that cannot be used. Without `online` no server is asked, and what this host itself is set
/// up for is left alone.
pub(crate) fn check(gathering: &Gathering<'_>, online: bool) -> Vec<Unusable> {
    let said = |repo: Option<usize>, is_of_place: bool| move |error: DistroError| Unusable { repo, error, is_of_place };
    let repos = &gathering.recipe.model.repo;
    let mut wrong = Vec::new();
    for (index, _) in repos.iter().enumerate().filter(|(_, repo)| repo.source.is_none()) {
        match of_one(gathering, index) {
            Err(error) => wrong.push(said(Some(index), false)(error)),
            Ok(all) => {
                let seen = all.into_iter().filter(|one| online || one.source.uri.starts_with("file:"));
                let errors = seen.flat_map(|one| look(gathering, &one.source, &one.keyring));
                wrong.extend(errors.map(said(Some(index), true)));
            }
        }
    }
    let of_host = repos.iter().position(|repo| repo.source.is_some());
    if online && (of_host.is_some() || repos.is_empty()) && wrong.is_empty() {
        match sources(gathering) {
            Err(error) => wrong.push(said(of_host, false)(error)),
            // Those that the recipe names itself were asked.
            Ok(all) => {
                let own: Vec<Source> = (0..repos.len())
                    .filter(|index| repos[*index].source.is_none())
                    .flat_map(|index| of_one(gathering, index).unwrap_or_default())
                    .map(|one| one.source)
                    .collect();
                let is_own =
                    |source: &Source| own.iter().any(|one| one.uri == source.uri && one.suites == source.suites);
                let others = all.into_iter().filter(|(source, _)| !is_own(source));
                let errors = others.flat_map(|(source, keyring)| look(gathering, &source, &keyring));
                wrong.extend(errors.map(said(of_host, true)));
            }
        }
    }
    wrong
}

/// Whether all archives of a recipe are directories of this machine.
pub(crate) fn is_local(gathering: &Gathering<'_>) -> bool {
    let repos = &gathering.recipe.model.repo;
    let is_file = |index: usize| {
        let all = of_one(gathering, index).unwrap_or_default();
        !all.is_empty() && all.iter().all(|one| one.source.uri.starts_with("file:"))
    };
    !repos.is_empty() && (0..repos.len()).all(|index| repos[index].source.is_none() && is_file(index))
}

/// Asks for the Release file of each suite, and looks whether the indices of one of this machine are there.
fn look(gathering: &Gathering<'_>, source: &Source, keyring: &Keyring) -> Vec<DistroError> {
    let architectures = Architectures::of(gathering.recipe);
    let one = |suite: &String| -> Result<(), DistroError> {
        let found = fetch_suite((gathering.fetcher, gathering.store), source, suite, &architectures, keyring);
        let Some((_, downloads)) = unless_optional(found, source, gathering.recipe, gathering.news)? else {
            return Ok(());
        };
        for download in downloads {
            let paths: Vec<&str> = download.urls.iter().filter_map(|url| url.strip_prefix("file:")).collect();
            let is_there = |path: &&str| {
                std::fs::metadata(format!("/{}", path.trim_start_matches('/'))).is_ok_and(|found| found.is_file())
            };
            if !paths.is_empty() && !paths.iter().any(is_there) {
                let file = paths.last().copied().unwrap_or_default().to_owned();
                let answer = "the Release file names it".to_owned();
                return Err(DistroError::NotThere { file, place: source.uri.clone(), answer });
            }
        }
        Ok(())
    };
    source.suites.iter().filter_map(|suite| one(suite).err()).collect()
}
