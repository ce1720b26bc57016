//! The repositories of a recipe or of a vendored directory, fetched, checked and read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::local::read_directory;
use super::medium::parts;
use super::sources::{Place, named};
use super::vendored;
use crate::rpm::{Repository, RepositorySource, fetch_repository};
use crate::{DistroError, Gathering, Progress};
use base::source::{Finding, Severity};

/// How deep below a `file:` directory repositories may lie.
const DEPTH_LIMIT: usize = 6;

pub(crate) fn places(gathering: &Gathering<'_>) -> Result<Vec<Place>, DistroError> {
    if let Some(directory) = &gathering.places.vendor {
        return vendored::places(gathering, directory);
    }
    named(gathering)?.into_iter().try_fold(Vec::new(), |mut all, source| {
        all.extend(spread(gathering, source)?);
        Ok(all)
    })
}

/// A `file:` repository without metadata of its own stands for those below it (xCAT: pkgdir), or for its packages.
/// Errors: [`DistroError::NoSource`] for what is not a directory.
pub(crate) fn spread(gathering: &Gathering<'_>, source: RepositorySource) -> Result<Vec<Place>, DistroError> {
    let recipe = gathering.recipe;
    let local = match source.base.first().and_then(|base| base.strip_prefix("file:")) {
        Some(path) if source.base.len() == 1 => PathBuf::from(format!("/{}", path.trim_start_matches('/'))),
        _ => return Ok(vec![Place::Repository(source)]),
    };
    if local.join("repodata/repomd.xml").is_file() {
        return Ok(vec![Place::Repository(source)]);
    }
    if !local.is_dir() && source.skip_if_unavailable.is_some() {
        let (file, place) = (local.display().to_string(), "this machine".to_owned());
        let gone = DistroError::NotThere { file, place, answer: "it is not a directory".to_owned() };
        return done_without(gathering, &source, gone).map(|()| Vec::new());
    }
    if !local.is_dir() {
        let span = recipe.spans.nearest("repo").map(ToString::to_string).unwrap_or_default();
        return Err(DistroError::NoSource {
            problem: format!("`{}` ({span}) is not a directory", local.display()),
            help: "correct the `uri` of the ‹[[repo]]›".to_owned(),
        });
    }
    let mut found = Vec::new();
    for entry in walkdir::WalkDir::new(&local).max_depth(DEPTH_LIMIT).sort_by_file_name().into_iter().flatten() {
        if entry.file_name() != "repomd.xml" || entry.path().parent().is_none_or(|parent| !parent.ends_with("repodata"))
        {
            continue;
        }
        if let Some(folder) = entry.path().parent().and_then(Path::parent) {
            found.push(folder.to_owned());
        }
    }
    if found.is_empty() {
        // Where there is no index that could be signed, the packages must be.
        let gpgcheck = source.gpgcheck || source.repo_gpgcheck;
        let source = RepositorySource { gpgcheck, ..source };
        return Ok(vec![Place::Directory { source, directory: local }]);
    }
    let name = |folder: &Path| {
        let below = folder.strip_prefix(&local).unwrap_or(folder).display().to_string();
        let word: String =
            below.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' }).collect();
        format!("{}-{word}", source.id)
    };
    Ok(found
        .iter()
        .map(|folder| {
            let base = vec![format!("file:{}", folder.display())];
            Place::Repository(RepositorySource { id: name(folder), base, ..source.clone() })
        })
        .collect())
}

/// Fetches, checks and reads the distribution's repositories.
pub(crate) fn gather_repositories(
    gathering: &Gathering<'_>,
) -> Result<Vec<(RepositorySource, Repository)>, DistroError> {
    let news = gathering.news.downloads("repository metadata");
    let mut all = Vec::new();
    for place in places(gathering)? {
        match place {
            Place::Repository(source) => {
                gathering.news.progress(&format!("checking {}", source.id));
                match fetch_with_parts(gathering, &source, news.as_ref()) {
                    Ok(found) => all.extend(found),
                    Err(error) => done_without(gathering, &source, error)?,
                }
            }
            Place::Directory { source, directory } => {
                gathering.news.progress(&format!("reading the packages of {}", source.id));
                let found = read_directory(gathering, &source, &directory)?;
                all.push((source, found));
            }
        }
    }
    Ok(all)
}

/// A repository, or those of a medium of several.
fn fetch_with_parts(
    gathering: &Gathering<'_>,
    source: &RepositorySource,
    progress: &dyn Progress,
) -> Result<Vec<(RepositorySource, Repository)>, DistroError> {
    let fetched = |source: RepositorySource| {
        let found = fetch_repository(gathering.fetcher, gathering.store, &source, progress)?;
        told_without_list(gathering, &found);
        Ok::<_, DistroError>((source, found))
    };
    match fetched(source.clone()) {
        Ok(found) => Ok(vec![found]),
        Err(gone) => parts(gathering.fetcher, source, gone)?.into_iter().map(fetched).collect(),
    }
}

/// A repository whose file says that it may be missing is reported and done without; of any other it is an error.
fn done_without(gathering: &Gathering<'_>, source: &RepositorySource, error: DistroError) -> Result<(), DistroError> {
    let Some(span) = source.skip_if_unavailable.as_ref().filter(|_| error.is_unavailable()) else { return Err(error) };
    let message = format!("the repository `{}` cannot be reached and is skipped: {error}", source.id);
    let finding = Finding::warning("repo_file::unavailable", span, message).label("allowed by this option").help(
        "packages of the lists that it has come from other repositories, or are unknown; without the option this is an error",
    );
    gathering.news.finding(&finding);
    Ok(())
}

/// Says that a list of mirrors was done without.
fn told_without_list(gathering: &Gathering<'_>, found: &Repository) {
    let Some(problem) = &found.without_list else { return };
    let message = format!("the mirror list of `{}` was skipped and its own address used: {problem}", found.id);
    let finding = Finding::nowhere(Severity::Warning, "repo_file::list", message);
    gathering.news.finding(&finding.help("correct `mirrorlist` or `metalink` of the repository, or remove it"));
}

/// Roots of the repositories by short name.
/// Errors: [`DistroError`] for what cannot be read; a list of mirrors is asked for.
pub(crate) fn roots(gathering: &Gathering<'_>) -> Result<BTreeMap<String, Vec<String>>, DistroError> {
    let news = gathering.news.downloads("repository metadata");
    let mut all = BTreeMap::new();
    let known: Vec<RepositorySource> = match &gathering.places.vendor {
        Some(_) => Vec::new(),
        None => named(gathering)?,
    };
    let needs_asking = known.iter().any(|source| source.base.is_empty());
    for place in places(gathering)? {
        let (Place::Repository(source) | Place::Directory { source, .. }) = place;
        let bases = if source.base.is_empty() && needs_asking {
            match fetch_repository(gathering.fetcher, gathering.store, &source, news.as_ref()) {
                Ok(found) => found.bases,
                Err(error) => {
                    done_without(gathering, &source, error)?;
                    continue;
                }
            }
        } else {
            source.base
        };
        all.insert(source.id, bases.iter().map(|base| base.trim_end_matches('/').to_owned()).collect());
    }
    Ok(all)
}
