//! otherpkgs: a directory of .deb files, with or without an index, sub-directories as repositories.

use std::path::Path;

use crate::DistroError;
use crate::apt::SuiteIndex;
use crate::damaged::{DamagedFile, files_below};
use archive::control_stanza;
use base::digest::Sha256;

#[derive(Debug, Clone)]
pub struct LocalRepository {
    /// Path below the otherpkgs directory; `.` for the directory itself.
    pub name: String,
    /// Its packages, with an index made from the files themselves.
    pub index: SuiteIndex,
}

/// All package files below a directory, links to files too, sorted.
/// Errors: [`DistroError::Format`] for a directory that cannot be read.
pub fn package_files(directory: &Path) -> Result<Vec<std::path::PathBuf>, DistroError> {
    files_below(directory, &|name| name.ends_with(".deb"))
}

/// Whether an origin is a directory of the recipe: `otherpkgs/FOLDER` or `kernels/FOLDER`, where suites have no slash.
pub(crate) fn is_local(origin: &str) -> bool {
    origin.starts_with("otherpkgs/") || origin.starts_with("kernels/")
}

/// Finds the repositories below a directory: each folder that holds package files.
///
/// The index is made from the packages, whatever index lies beside them: it is what will be installed.
/// Files that are not packages are given beside them.
/// Errors: [`DistroError::Format`] for a directory that cannot be read.
///
/// `origin` is the first part of what its packages have as their origin.
pub fn scan_local(directory: &Path, origin: &str) -> Result<(Vec<LocalRepository>, Vec<DamagedFile>), DistroError> {
    let mut found: std::collections::BTreeMap<String, Vec<std::path::PathBuf>> = std::collections::BTreeMap::new();
    for path in package_files(directory)? {
        let parent = path.parent().and_then(|parent| parent.strip_prefix(directory).ok());
        let name = parent.and_then(Path::to_str).filter(|name| !name.is_empty()).unwrap_or(".");
        found.entry(name.to_owned()).or_default().push(path);
    }
    let (mut repositories, mut damaged) = (Vec::new(), Vec::new());
    for (name, files) in found {
        let mut text = String::new();
        for file in files {
            let wrong = |problem: String| DamagedFile::new(directory, &file, problem);
            let read = || -> Result<_, DamagedFile> {
                let bytes = std::fs::read(&file).map_err(|error| wrong(error.to_string()))?;
                let stanza = control_stanza(&bytes[..]).map_err(|error| wrong(error.to_string()))?;
                let base = file.file_name().and_then(|name| name.to_str());
                Ok((bytes, stanza, base.ok_or_else(|| wrong("has a name that is not UTF-8".to_owned()))?))
            };
            let (bytes, stanza, base) = match read() {
                Ok(read) => read,
                Err(file) => {
                    damaged.push(file);
                    continue;
                }
            };
            // Fields that the index adds must not stand in the package as well.
            let own = stanza.lines().filter(|line| {
                !["Filename:", "Size:", "SHA256:", "MD5sum:", "SHA1:"].iter().any(|field| line.starts_with(field))
            });
            for line in own {
                text.push_str(line);
                text.push('\n');
            }
            text.push_str(&format!("Filename: {base}\nSize: {}\nSHA256: {}\n\n", bytes.len(), Sha256::of(&bytes)));
        }
        let url = format!("file:{}", directory.join(if name == "." { "" } else { &name }).display());
        let origin = format!("{origin}/{name}");
        repositories.push(LocalRepository { name, index: SuiteIndex::new(origin, url, text) });
    }
    Ok((repositories, damaged))
}
