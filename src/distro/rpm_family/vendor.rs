//! Directories of vendored packages.
//!
//! ```text
//! vendor.toml                        which repositories it has
//! repositories/<id>/repodata/...     metadata as they were fetched and checked
//! repositories/<id>/...              packages, at the paths that image.lock has
//! ```

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::gather::gather_repositories;
use super::metadata::index_of;
use super::sources::{Place, named};
use crate::distro::rpm::RepositorySource;
use crate::distro::{DistroError, Gathering, VENDOR_MARK, write_file};
use crate::store::StoreError;

/// What a directory has.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    /// Version of this form.
    format: u32,
    /// Repositories.
    repository: Vec<Vendored>,
}

/// A repository of it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Vendored {
    /// Its short name.
    id: String,
    /// Which of the recipe's repositories it stands for, or is a part of.
    of: String,
}

/// Directory of a repository.
pub fn repository_directory(directory: &Path, id: &str) -> PathBuf {
    directory.join("repositories").join(id.replace('/', "_"))
}

/// The repositories of a vendored directory, as far trusted as those that they stand for.
///
/// # Errors
/// [`DistroError::NoSource`] for a directory that `imgbuild vendor` did not make.
pub fn places(gathering: &Gathering<'_>, directory: &Path) -> Result<Vec<Place>, DistroError> {
    let no = |problem: String| DistroError::NoSource {
        problem: format!("`{}` holds no vendored packages: {problem}", directory.display()),
        help: "make it with `imgbuild vendor DIR` where the mirror can be reached".to_owned(),
    };
    let text = std::fs::read_to_string(directory.join(VENDOR_MARK)).map_err(|error| no(error.to_string()))?;
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

/// Writes the metadata of all repositories into a directory; gives the files.
///
/// # Errors
/// [`DistroError`].
pub fn vendor(gathering: &Gathering<'_>, directory: &Path) -> Result<BTreeSet<PathBuf>, DistroError> {
    let mut kept = BTreeSet::new();
    let mut put = |path: PathBuf, bytes: &[u8]| -> Result<(), DistroError> {
        write_file(&path, bytes).map_err(|source| StoreError::io("write", &path, source))?;
        kept.insert(path);
        Ok(())
    };
    let mut contents = Contents { format: 1, repository: Vec::new() };
    let named = named(gathering)?;
    for (source, repository) in gather_repositories(gathering)? {
        let root = repository_directory(directory, &repository.id);
        for (path, bytes) in index_of(&repository)? {
            put(root.join(path), &bytes)?;
        }
        // A folder of a `file:` repository has the repository's name in front of its own.
        let whole = named.iter().find(|one| source.id == one.id || source.id.starts_with(&format!("{}-", one.id)));
        let of = whole.map_or_else(|| source.id.clone(), |one| one.id.clone());
        contents.repository.push(Vendored { of, id: repository.id });
    }
    put(directory.join(VENDOR_MARK), toml::to_string(&contents).unwrap_or_default().as_bytes())?;
    Ok(kept)
}
