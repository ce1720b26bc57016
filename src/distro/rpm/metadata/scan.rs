//! Directories of plain package files, with or without an index.

use std::path::{Path, PathBuf};

use crate::distro::DistroError;
use crate::distro::rpm::{Candidate, Package};
use crate::witness;

/// How deep below a directory package files may lie.
const DEPTH_LIMIT: usize = 8;

/// All package files below a directory, links to files too, sorted; source and delta packages are left out.
///
/// # Errors
/// [`DistroError::Format`] for a directory that cannot be read.
pub fn package_files(directory: &Path) -> Result<Vec<PathBuf>, DistroError> {
    let mut files = Vec::new();
    for entry in witness::walk().at_most(DEPTH_LIMIT).through(directory) {
        let entry = entry.map_err(|error| DistroError::Format {
            file: directory.display().to_string(),
            problem: error.to_string(),
        })?;
        let name = entry.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let other = [".src.rpm", ".nosrc.rpm", ".delta.rpm", ".patch.rpm"];
        if name.ends_with(".rpm") && !other.iter().any(|ending| name.ends_with(ending)) && witness::is_file(&entry.path)
        {
            files.push(entry.path);
        }
    }
    Ok(files)
}

/// Reads all packages below a directory; locations are relative to it.
///
/// Whatever index lies beside them does not count: the packages are what will be installed.
///
/// # Errors
/// [`DistroError::PackageFile`] for a file that is no package, or whose digests do not fit.
pub fn scan_directory(directory: &Path) -> Result<Vec<Candidate>, DistroError> {
    use rayon::prelude::*;
    let files = package_files(directory)?;
    let read = |path: &PathBuf| {
        let wrong = |problem: String| DistroError::PackageFile { path: path.clone(), problem };
        let package = Package::read(path).map_err(wrong)?;
        let location = path.strip_prefix(directory).ok().and_then(Path::to_str);
        let location = location.ok_or_else(|| wrong("has a name that is not UTF-8".to_owned()))?.to_owned();
        Ok(Candidate { location, ..package.candidate })
    };
    files.par_iter().map(read).collect()
}
