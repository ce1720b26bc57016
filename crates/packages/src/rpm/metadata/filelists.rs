//! filelists: all files of all packages. Large, so that it is read only for paths that `primary` leaves out.

use std::collections::{BTreeSet, HashMap};
use std::io::{BufRead, BufReader};

use crate::DistroError;
use crate::rpm::decompress::{Limited, decompressed};
use crate::rpm::{Checksum, Repository};
use base::xml::{Event, Reader};

/// Largest filelists.xml that is read, unpacked; the largest distributions have about a gigabyte.
const FILELISTS_LIMIT: u64 = 8 << 30;

/// The candidates of a repository that have some paths.
/// Errors: [`DistroError::Format`] for a file that cannot be read; a repository without it has nothing to add.
pub(in crate::rpm) fn packages_with(
    repository: &Repository,
    wanted: &BTreeSet<String>,
) -> Result<Vec<(usize, String)>, DistroError> {
    let mut found = Vec::new();
    each_path(repository, &mut |index, path| {
        if wanted.contains(path) {
            found.push((index, path.to_owned()));
        }
    })?;
    Ok(found)
}

/// The paths of some candidates, by their index, for which `is_wanted` holds.
/// Errors: As [`packages_with`].
pub fn paths_of(
    repository: &Repository,
    candidates: &BTreeSet<usize>,
    is_wanted: &dyn Fn(&str) -> bool,
) -> Result<HashMap<usize, Vec<String>>, DistroError> {
    let mut found: HashMap<usize, Vec<String>> = HashMap::new();
    each_path(repository, &mut |index, path| {
        if candidates.contains(&index) && is_wanted(path) {
            found.entry(index).or_default().push(path.to_owned());
        }
    })?;
    Ok(found)
}

/// Calls `take` with each path of each candidate.
fn each_path(repository: &Repository, take: &mut dyn FnMut(usize, &str)) -> Result<(), DistroError> {
    let Some(metadata) = repository.metadata.iter().find(|one| one.kind == "filelists") else {
        return Ok(());
    };
    let wrong = |problem: String| DistroError::Format {
        file: format!("{} of the repository {}", metadata.location, repository.id),
        problem,
    };
    let file = std::fs::File::open(&metadata.file).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    let limit = metadata.open_size.unwrap_or(FILELISTS_LIMIT).min(FILELISTS_LIMIT);
    let content = decompressed(file).map_err(|error| wrong(format!("cannot be unpacked: {error}")))?;
    let by_digest: HashMap<String, usize> =
        repository.candidates.iter().enumerate().map(|(index, one)| (digits(&one.checksum), index)).collect();
    read_paths(BufReader::with_capacity(1 << 16, Limited::new(content, limit)), |package, path| {
        if let Some(index) = by_digest.get(package) {
            take(*index, path);
        }
    })
    .map_err(wrong)
}

/// A digest as other metadata files name packages by it.
fn digits(checksum: &Checksum) -> String {
    let text = checksum.to_string();
    text.split_once(':').map_or_else(String::new, |(_, digits)| digits.to_owned())
}

/// Reads an unpacked filelists.xml; calls `found` with the digits of a package's digest and a path, for each path.
fn read_paths(data: impl BufRead, mut found: impl FnMut(&str, &str)) -> Result<(), String> {
    let mut reader = Reader::new(data);
    let mut package = String::new();
    while let Some(event) = reader.event()? {
        match event {
            Event::Start { name: "package", attributes } => {
                package.clear();
                package.push_str(attributes.get("pkgid").unwrap_or_default());
            }
            Event::End { name: "file", text } => found(&package, text),
            _ => {}
        }
    }
    reader.ended_within("filelists")
}
