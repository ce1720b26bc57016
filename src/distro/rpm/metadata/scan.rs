//! Directories of plain package files, with or without an index.

use std::path::{Path, PathBuf};

use crate::distro::DistroError;
use crate::distro::damaged::DamagedFile;
use crate::distro::rpm::{Candidate, Package};
use crate::witness;

/// How deep below a directory package files may lie.
const DEPTH_LIMIT: usize = 8;

/// All package files below a directory, links to files too, sorted; source and delta packages are left out.
/// Errors: [`DistroError::Format`] for a directory that cannot be read.
pub fn package_files(directory: &Path) -> Result<Vec<PathBuf>, DistroError> {
    let mut files = Vec::new();
    for entry in witness::walk().following().at_most(DEPTH_LIMIT).through(directory) {
        let entry = match entry {
            Ok(entry) => entry,
            Err(problem) if problem.is_of_link(directory) => continue,
            Err(problem) => {
                let file = directory.display().to_string();
                return Err(DistroError::Format { file, problem: problem.to_string() });
            }
        };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linked_directories_are_gone_through_and_links_that_lead_nowhere_do_no_harm() {
        let root = tempfile::tempdir().unwrap();
        let (start, other) = (root.path().join("start"), root.path().join("other/folder"));
        std::fs::create_dir_all(start.join("own")).unwrap();
        std::fs::create_dir_all(&other).unwrap();
        std::fs::write(start.join("own/a.rpm"), "").unwrap();
        std::fs::write(other.join("b.rpm"), "").unwrap();
        for (name, target) in [("linked", other.as_path()), ("own/loop", &start), ("gone.rpm", Path::new("nowhere"))] {
            std::os::unix::fs::symlink(target, start.join(name)).unwrap();
        }
        let found = package_files(&start).unwrap();
        assert_eq!(found, [start.join("linked/b.rpm"), start.join("own/a.rpm")]);
        assert!(package_files(&root.path().join("none")).is_err());
    }
}
