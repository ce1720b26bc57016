//! filelists: all files of all packages. Large, so that it is read only for paths that `primary` leaves out.

use std::collections::{BTreeSet, HashMap};
use std::io::{BufRead, BufReader};

use super::decompress::{Limited, decompressed};
use super::xml::{Event, Reader};
use super::{Checksum, Repository};
use crate::distro::DistroError;

/// Largest filelists.xml that is read, unpacked; the largest distributions have about a gigabyte.
const FILELISTS_LIMIT: u64 = 8 << 30;

/// The candidates of a repository that have some paths.
///
/// # Errors
/// [`DistroError::Format`] for a file that cannot be read; a repository without it has nothing to add.
pub(super) fn packages_with(
    repository: &Repository,
    wanted: &BTreeSet<String>,
) -> Result<Vec<(usize, String)>, DistroError> {
    let Some(metadata) = repository.metadata.iter().find(|one| one.kind == "filelists") else {
        return Ok(Vec::new());
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
    let mut found = Vec::new();
    find_paths(BufReader::with_capacity(1 << 16, Limited::new(content, limit)), wanted, |package, path| {
        if let Some(index) = by_digest.get(package) {
            found.push((*index, path.to_owned()));
        }
    })
    .map_err(wrong)?;
    Ok(found)
}

/// A digest as other metadata files name packages by it.
fn digits(checksum: &Checksum) -> String {
    let text = checksum.to_string();
    text.split_once(':').map_or_else(String::new, |(_, digits)| digits.to_owned())
}

/// Reads an unpacked filelists.xml for some paths; calls `found` with the digits of a package's digest and a path.
fn find_paths(data: impl BufRead, wanted: &BTreeSet<String>, mut found: impl FnMut(&str, &str)) -> Result<(), String> {
    let mut reader = Reader::new(data);
    let mut package = String::new();
    while let Some(event) = reader.event()? {
        match event {
            Event::Start { name: "package", attributes } => {
                package.clear();
                package.push_str(attributes.get("pkgid").unwrap_or_default());
            }
            Event::End { name: "file", text } if wanted.contains(text) => found(&package, text),
            _ => {}
        }
    }
    reader.ended_within("filelists")
}
