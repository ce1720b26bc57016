//! Directories of plain package files, with or without an index.

use std::path::{Path, PathBuf};

use crate::DistroError;
use crate::damaged::{DamagedFile, files_below};
use crate::rpm::{Candidate, Package};

/// All package files below a directory, links to files too, sorted; source and delta packages are left out.
/// Errors: [`DistroError::Format`] for a directory that cannot be read.
pub fn package_files(directory: &Path) -> Result<Vec<PathBuf>, DistroError> {
    let other = [".src.rpm", ".nosrc.rpm", ".delta.rpm", ".patch.rpm"];
    files_below(directory, &|name| name.ends_with(".rpm") && !other.iter().any(|ending| name.ends_with(ending)))
}

/// Reads all packages below a directory; locations are relative to it.
///
/// Whatever index lies beside them does not count: the packages are what will be installed.
/// Files that are not packages, or whose digests do not fit, are given beside them.
/// Errors: [`DistroError::Format`] for a directory that cannot be read.
pub fn scan_directory(directory: &Path) -> Result<(Vec<Candidate>, Vec<DamagedFile>), DistroError> {
    use rayon::prelude::*;
    let files = package_files(directory)?;
    let read = |path: &PathBuf| {
        let wrong = |problem: String| DamagedFile::new(directory, path, problem);
        let package = Package::read(path).map_err(wrong)?;
        let location = path.strip_prefix(directory).ok().and_then(Path::to_str);
        let location = location.ok_or_else(|| wrong("has a name that is not UTF-8".to_owned()))?.to_owned();
        Ok(Candidate { location, ..package.candidate })
    };
    let (mut candidates, mut damaged) = (Vec::new(), Vec::new());
    for one in files.par_iter().map(read).collect::<Vec<_>>() {
        match one {
            Ok(candidate) => candidates.push(candidate),
            Err(file) => damaged.push(file),
        }
    }
    Ok((candidates, damaged))
}
