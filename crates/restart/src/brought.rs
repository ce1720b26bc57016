//! Which files that differ are as their packages bring them: a script that edits one after its package was installed is not known to `sync`.
//! A second pass over the image, only if packages differ.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use data_encoding::HEXLOWER;
use md5::Digest as _;

use super::bring::names;
use super::facts::{Facts, unlisted};
use archive::{Listed, Look, list_directory, list_packed};
use build::diff::Difference;

/// Digests of the files that are wanted, and of those that share their content.
#[derive(Default)]
struct Hashing<'a> {
    wanted: BTreeSet<&'a str>,
    /// MD5 and SHA-256 in hexadecimal.
    found: BTreeMap<String, [String; 2]>,
    /// Names of one file: its content comes with one of them.
    names: BTreeMap<u64, Vec<String>>,
    /// Names whose content another has.
    same: Vec<(String, String)>,
}

fn digests(content: &mut dyn Read) -> io::Result<([String; 2], u64)> {
    let (mut md5, mut sha256) = (md5::Md5::new(), sha2::Sha256::new());
    let (mut buffer, mut size) = (vec![0; 1 << 17], 0);
    loop {
        let read = content.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        md5.update(&buffer[..read]);
        sha256.update(&buffer[..read]);
        size += read as u64;
    }
    Ok(([HEXLOWER.encode(&md5.finalize()), HEXLOWER.encode(&sha256.finalize())], size))
}

impl Hashing<'_> {
    fn take(&mut self, entry: &Listed, content: &mut dyn Read) -> io::Result<()> {
        if entry.mode & 0o170_000 != 0o100_000 {
            return Ok(());
        }
        if let Some(other) = &entry.same_as {
            self.same.push((entry.path.clone(), other.clone()));
            return Ok(());
        }
        if let Some((file, _)) = entry.file {
            self.names.entry(file).or_default().push(entry.path.clone());
        }
        let has_names = entry.file.is_some_and(|(_, names)| names > 1);
        if self.wanted.contains(entry.path.as_str()) || has_names {
            let (digests, size) = digests(content)?;
            // The other names of a file may come without its content.
            if size > 0 || !has_names {
                self.found.insert(entry.path.clone(), digests);
            }
        }
        Ok(())
    }

    /// The digests of all names.
    fn end(mut self) -> BTreeMap<String, [String; 2]> {
        for names in std::mem::take(&mut self.names).into_values() {
            let Some(found) = names.iter().find_map(|name| self.found.get(name)).cloned() else { continue };
            self.found.extend(names.into_iter().map(|name| (name, found.clone())));
        }
        for (name, other) in std::mem::take(&mut self.same) {
            if let Some(found) = self.found.get(&other).cloned() {
                self.found.insert(name, found);
            }
        }
        self.found
    }
}

impl Facts {
    /// Files of packages that differ, as these packages bring them, of the packed image that these facts are of.
    /// Errors: It cannot be read, or is damaged.
    pub fn brought(&self, file: &Path, difference: &Difference) -> io::Result<BTreeSet<String>> {
        self.as_brought(difference, |look| list_packed(&File::open(file)?, look).map(|_| ()).map_err(unlisted))
    }

    /// The same of a directory.
    /// Errors: A file or directory cannot be read.
    pub fn brought_of_directory(&self, directory: &Path, difference: &Difference) -> io::Result<BTreeSet<String>> {
        self.as_brought(difference, |look| list_directory(directory, &mut |_| true, look))
    }

    fn as_brought(
        &self,
        difference: &Difference,
        list: impl FnOnce(&mut Look<'_>) -> io::Result<()>,
    ) -> io::Result<BTreeSet<String>> {
        let moved = difference.packages.as_ref().map(names).unwrap_or_default();
        let files = difference.files.as_ref();
        let added = files.into_iter().flat_map(|files| &files.added).map(|file| file.path.as_str());
        let changed = files.into_iter().flat_map(|files| &files.changed).map(|file| file.path.as_str());
        let is_wanted = |path: &&str| {
            self.digest(path).is_some() && self.owner(path).is_some_and(|package| moved.contains(package))
        };
        let wanted: BTreeSet<&str> = added.chain(changed).filter(is_wanted).collect();
        if wanted.is_empty() {
            return Ok(BTreeSet::new());
        }
        let mut hashing = Hashing { wanted: wanted.clone(), ..Hashing::default() };
        list(&mut |entry: &Listed, content: &mut dyn Read| hashing.take(entry, content))?;
        let found = hashing.end();
        let is_brought = |path: &&str| {
            let found = found.get(*path).zip(self.digest(path));
            found.is_some_and(|(found, digest)| found.iter().any(|one| one == digest))
        };
        Ok(wanted.into_iter().filter(is_brought).map(str::to_owned).collect())
    }
}
