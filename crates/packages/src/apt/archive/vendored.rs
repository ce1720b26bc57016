//! A directory with vendored packages, read as archives.
//!
//! ```text
//! vendor.toml                     which suites and components it has
//! suites/<suite>/dists/<suite>/   InRelease as signed, and its indices
//! suites/<suite>/pool/...         packages, at the paths that image.lock has
//! suites/<repo>:<suite>/          the same of an archive that the lock calls so; a flat one has no dists
//! ```
//!
//! Each suite is an archive that apt itself can use.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::named::{built_in, named};
use crate::apt::Source;
use crate::{DistroError, Gathering, Keyring, VENDOR_MARK as MARK, keyring};

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contents {
    pub format: u32,
    pub suite: Vec<Suite>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Suite {
    /// Its name; also that of its directory.
    pub name: String,
    pub components: Vec<String>,
}

/// Root of a suite's archive.
pub(crate) fn suite_directory(directory: &Path, suite: &str) -> PathBuf {
    directory.join("suites").join(suite.replace('/', "_"))
}

/// The archives of a vendored directory, each with the keyring that the recipe has for its suite.
/// Errors: [`DistroError::NoSource`] for a directory that `imgbuild vendor` did not make.
pub(crate) fn sources(gathering: &Gathering<'_>, directory: &Path) -> Result<Vec<(Source, Keyring)>, DistroError> {
    let no = |problem: String| DistroError::NoSource {
        problem: format!("`{}` contains no vendored packages: {problem}", directory.display()),
        help: "create it with `imgbuild vendor DIR` on a machine that can reach the mirror".to_owned(),
    };
    let text = std::fs::read_to_string(directory.join(MARK)).map_err(|error| no(format!("{MARK}: {error}")))?;
    if text.is_empty() {
        return Err(no("`imgbuild vendor` was interrupted before it was whole: run it again".to_owned()));
    }
    let contents: Contents = toml::from_str(&text).map_err(|error| no(format!("{MARK}: {}", error.message())))?;
    let directory = directory.canonicalize().map_err(|error| no(error.to_string()))?;
    let recipe = gathering.recipe;
    let named = named(gathering)?;
    let mut found = Vec::new();
    for suite in contents.suite {
        let uri = format!("file:{}", suite_directory(&directory, &suite.name).display());
        // It is meant to stay as it is.
        let here =
            |source: Source| Source { uri: uri.clone(), optional: Vec::new(), check_valid_until: false, ..source };
        let own = named.iter().find_map(|one| {
            let real = one.source.suites.iter().find(|real| one.source.origin(real) == suite.name)?;
            Some((here(Source { suites: vec![real.clone()], ..one.source.clone() }), one.keyring.clone()))
        });
        if let Some(own) = own {
            found.push(own);
            continue;
        }
        // For a `source = "host"` the suites are not written down.
        let host = recipe.model.repo.iter().position(|repo| repo.source.is_some());
        let keyring = match host.and_then(|index| recipe.keyrings.get(index)).and_then(Option::as_ref) {
            Some(path) => keyring(path)?,
            None => built_in(recipe)?,
        };
        let source = Source {
            uri: String::new(),
            suites: vec![suite.name.clone()],
            optional: Vec::new(),
            components: suite.components,
            signed_by: None,
            trusted: false,
            called: None,
            check_valid_until: false,
        };
        found.push((here(source), keyring));
    }
    Ok(found)
}
