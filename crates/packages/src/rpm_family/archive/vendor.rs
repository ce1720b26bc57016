//! Makes directories of vendored packages.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::metadata::index_of;
use super::reading::gather_repositories;
use super::sources::named;
use super::vendored::{Contents, Vendored, repository_directory};
use crate::{DistroError, Gathering, VENDOR_MARK};
use files::{self, Durability};
use store::StoreError;

/// Writes the metadata of all repositories into a directory; gives the files.
pub(crate) fn vendor(gathering: &Gathering<'_>, directory: &Path) -> Result<BTreeSet<PathBuf>, DistroError> {
    let mut kept = BTreeSet::new();
    let mut put = |path: PathBuf, bytes: &[u8]| -> Result<(), DistroError> {
        files::replace(&path, bytes, 0o644, Durability::Kill)
            .map_err(|source| StoreError::io("write", &path, source))?;
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
