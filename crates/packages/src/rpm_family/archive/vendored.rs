//! Directories of vendored packages.
//!
//! ```text
//! vendor.toml                        which repositories it has
//! repositories/<id>/repodata/...     metadata as they were fetched and checked
//! repositories/<id>/...              packages, at the paths that image.lock has
//! ```

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::sources::{Place, named};
use crate::rpm::RepositorySource;
use crate::{DistroError, Gathering, VENDOR_MARK};

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contents {
    pub format: u32,
    pub repository: Vec<Vendored>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Vendored {
    pub id: String,
    /// Which of the recipe's repositories it stands for, or is a part of.
    pub of: String,
}

pub(crate) fn repository_directory(directory: &Path, id: &str) -> PathBuf {
    directory.join("repositories").join(id.replace('/', "_"))
}

/// The repositories of a vendored directory, as far trusted as those that they stand for.
/// Errors: [`DistroError::NoSource`] for a directory that `imgbuild vendor` did not make.
pub(crate) fn places(gathering: &Gathering<'_>, directory: &Path) -> Result<Vec<Place>, DistroError> {
    let no = |problem: String| DistroError::NoSource {
        problem: format!("`{}` contains no vendored packages: {problem}", directory.display()),
        help: "create it with `imgbuild vendor DIR` on a machine that can reach the mirror".to_owned(),
    };
    let text = std::fs::read_to_string(directory.join(VENDOR_MARK)).map_err(|error| no(error.to_string()))?;
    if text.is_empty() {
        return Err(no("`imgbuild vendor` was interrupted before it was whole: run it again".to_owned()));
    }
    let contents: Contents = toml::from_str(&text).map_err(|error| no(error.message().to_owned()))?;
    let directory = directory.canonicalize().map_err(|error| no(error.to_string()))?;
    let known = named(gathering)?;
    let mut found = Vec::new();
    for one in contents.repository {
        let Some(source) = known.iter().find(|source| source.id == one.of) else {
            return Err(no(format!("it has the repository `{}`, which the recipe does not name", one.of)));
        };
        let base = repository_directory(&directory, &one.id);
        let is_signed = base.join("repodata/repomd.xml.asc").is_file();
        found.push(Place::Repository(RepositorySource {
            id: one.id,
            base: vec![format!("file:{}", base.display())],
            mirrorlist: None,
            metalink: None,
            // Its repomd.xml is the one that was checked, or one made here: then the packages must be signed.
            repo_gpgcheck: source.repo_gpgcheck && is_signed,
            gpgcheck: source.gpgcheck || (source.repo_gpgcheck && !is_signed),
            ..source.clone()
        }));
    }
    Ok(found)
}
