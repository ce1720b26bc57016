//! What `check` says of repositories: files that cannot be used, places of this machine that are not there; with `online` all of them.

use std::path::PathBuf;

use super::medium::parts;
use super::reading::spread;
use super::sources::{Place, of_one};
use crate::rpm::{RepositorySource, look_at, package_files};
use crate::{DistroError, Gathering, Unusable};
use base::source::{Finding, Severity};

/// Looks at the repositories of a recipe, and gives those that cannot be used. Without `online` no server is asked, and what this host itself is
/// set up for is left alone.
pub(crate) fn check(gathering: &Gathering<'_>, online: bool) -> Vec<Unusable> {
    let mut wrong = Vec::new();
    for (index, repo) in gathering.recipe.model.repo.iter().enumerate() {
        if repo.source.is_some() && !online {
            continue;
        }
        match of_one(gathering, index) {
            Err(error) => wrong.push(Unusable { repo: Some(index), error, is_of_place: false }),
            Ok(sources) => {
                let seen = sources.into_iter().filter(|source| online || is_local(source));
                let errors = seen.filter_map(|source| look(gathering, source).err());
                wrong.extend(errors.map(|error| Unusable { repo: Some(index), error, is_of_place: true }));
            }
        }
    }
    wrong
}

fn is_local(source: &RepositorySource) -> bool {
    let has_list = source.mirrorlist.is_some() || source.metalink.is_some();
    !source.base.is_empty() && !has_list && source.base.iter().all(|base| base.starts_with("file:"))
}

/// Whether all repositories of a recipe are directories of this machine.
pub(crate) fn all_local(gathering: &Gathering<'_>) -> bool {
    let repos = &gathering.recipe.model.repo;
    let of = |index: usize| of_one(gathering, index).unwrap_or_default();
    let is_file = |index: usize| !of(index).is_empty() && of(index).iter().all(is_local);
    !repos.is_empty() && (0..repos.len()).all(|index| repos[index].source.is_none() && is_file(index))
}

/// Repositories that are directories of packages without metadata.
pub(crate) fn directories(gathering: &Gathering<'_>) -> Vec<(RepositorySource, PathBuf)> {
    let repos = gathering.recipe.model.repo.iter().enumerate().filter(|(_, repo)| repo.source.is_none());
    let sources = repos.flat_map(|(index, _)| of_one(gathering, index).unwrap_or_default()).filter(is_local);
    let places = sources.flat_map(|source| spread(gathering, source).unwrap_or_default());
    let directory = |place| match place {
        Place::Directory { source, directory } => Some((source, directory)),
        Place::Repository(_) => None,
    };
    places.filter_map(directory).collect()
}

/// Looks at a repository, or at those of a medium of several.
fn look_with_parts(gathering: &Gathering<'_>, source: &RepositorySource) -> Result<(), DistroError> {
    let gone = match look_at(gathering.fetcher, source) {
        Err(gone) => gone,
        Ok(()) => return Ok(()),
    };
    parts(gathering.fetcher, source, gone)?.iter().try_for_each(|part| look_at(gathering.fetcher, part))
}

fn look(gathering: &Gathering<'_>, source: RepositorySource) -> Result<(), DistroError> {
    for place in spread(gathering, source)? {
        match place {
            Place::Repository(source) => match look_with_parts(gathering, &source) {
                Err(error) if error.is_unavailable() && source.skip_if_unavailable.is_some() => {}
                other => other?,
            },
            Place::Directory { source, directory } if package_files(&directory)?.is_empty() => {
                let shown = directory.display();
                let message =
                    format!("the repository `{}` is empty: {shown} has no `repodata` and no packages", source.id);
                gathering.news.finding(&Finding::nowhere(Severity::Warning, "repo::empty", message).help(
                    "mount what belongs there, create its metadata (createrepo_c DIR), or correct the `uri` of the ‹[[repo]]›",
                ));
            }
            Place::Directory { .. } => {}
        }
    }
    Ok(())
}
