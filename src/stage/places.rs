//! Where packages come from, and having them brought.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::report::{DownloadNews, Report};
use super::vendored;
use crate::distro::apt::{HostSources, Source, only_suites, sources_for};
use crate::distro::{DistroError, Download, Fetcher, Keyring};
use crate::recipe::{PinnedPackage, Recipe};
use crate::source::{Finding, Severity};
use crate::store::Store;

/// Where packages come from, instead of where the recipe says.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// A mirror in place of the host's own.
    pub mirror: Option<String>,
    /// A directory that `imgbuild vendor` made: nothing else is asked then.
    pub vendor: Option<PathBuf>,
    /// How long a mirror may say nothing; none: the usual time.
    pub patience: Option<Duration>,
}

/// Sources of a recipe with the keyring of each.
///
/// # Errors
/// [`DistroError`] for sources or keyrings that cannot be used.
pub fn sources(recipe: &Recipe, places: &Places) -> Result<Vec<(Source, Keyring)>, DistroError> {
    let mirror = places.mirror.as_deref();
    if let Some(directory) = &places.vendor {
        return vendored::sources(recipe, directory);
    }
    let host = HostSources::read(Path::new("/etc/apt"));
    let built_in = || Keyring::debian().map_err(|problem| DistroError::Keyring { path: "(built in)".into(), problem });
    let release = &recipe.model.image.release;
    let mut found = Vec::new();
    if recipe.model.repo.is_empty() {
        for source in sources_for(release, &host, mirror)? {
            found.push((source, built_in()?));
        }
        return Ok(found);
    }
    for (index, repo) in recipe.model.repo.iter().enumerate() {
        let keyring = match recipe.keyrings.get(index).and_then(Option::as_ref) {
            Some(path) => Keyring::read(path)?,
            None => built_in()?,
        };
        let mut from = match &repo.uri {
            None => sources_for(release, &host, mirror)?,
            Some(uri) => vec![Source {
                uri: uri.trim_end_matches('/').to_owned(),
                suites: repo.suites.clone(),
                optional: Vec::new(),
                components: repo.components.clone(),
                signed_by: None,
                check_valid_until: true,
            }],
        };
        if repo.uri.is_none() && !repo.suites.is_empty() {
            from = only_suites(from, &repo.suites)?;
        }
        for source in &mut from {
            source.check_valid_until = repo.check_valid_until;
            if !repo.components.is_empty() {
                source.components.clone_from(&repo.components);
            }
        }
        found.extend(from.into_iter().map(|source| (source, keyring.clone())));
    }
    Ok(found)
}

/// A suite that the archive does not have, and that the recipe does not name, is told and left out.
///
/// # Errors
/// All others.
pub fn unless_optional<T>(
    found: Result<T, DistroError>,
    source: &Source,
    recipe: &Recipe,
    report: &dyn Report,
) -> Result<Option<T>, DistroError> {
    match found {
        Err(DistroError::NoSuite { uri, suite, problem }) if source.optional.contains(&suite) => {
            let text = format!("{uri} has no suite `{suite}` ({problem}): the image is made without it");
            let finding = match recipe.spans.nearest("image.release") {
                // Without it the image has known holes: that is worth more than a note.
                Some(span) if suite.ends_with("-security") => Finding::warning("distro::no_suite", span, text)
                    .label("the release asked for here")
                    .help("if that is meant, name the suites that are to be used: [[repo]] source = \"host\", suites = [...]"),
                _ => Finding::nowhere(Severity::Note, "distro::no_suite", text),
            };
            report.finding(&finding);
            Ok(None)
        }
        other => other.map(Some),
    }
}

/// Downloads the packages that the store lacks.
///
/// # Errors
/// [`DistroError`]; a package whose origin is not known is one.
pub fn download_packages(
    fetcher: &Fetcher,
    store: &Store,
    packages: &[PinnedPackage],
    url_of: &dyn Fn(&str) -> Vec<String>,
    report: &dyn Report,
) -> Result<(), DistroError> {
    let mut downloads = Vec::new();
    for package in packages {
        if store.package(&package.sha256).is_file() {
            continue;
        }
        let urls: Vec<String> = url_of(&package.origin).iter().map(|url| format!("{url}/{}", package.file)).collect();
        if urls.is_empty() {
            return Err(DistroError::NoSource {
                problem: format!(
                    "image.lock takes `{}` from `{}`, which the recipe's sources do not have",
                    package.name, package.origin
                ),
                help: "delete image.lock to resolve all packages again, or restore the source".to_owned(),
            });
        }
        downloads.push(Download {
            urls,
            size: package.size,
            sha256: package.sha256,
            destination: store.package(&package.sha256),
        });
    }
    fetcher.fetch_all(&downloads, &DownloadNews(report, "packages"))
}
