//! Copies of a site's lists in the workspace, and what became of them since.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::definitions::Places;
use base::digest::Digest;
use files::beside;
use files::{Aside, Durability};

use super::ImportError;
use super::reads::Reads;

/// Folder of the workspace with what was copied, below it the paths of the management node.
pub(super) const FOLDER: &str = "site";

/// File in it with the digests of what was copied, as sha256sum's but of BLAKE3: `b3sum --check` reads it.
const DIGESTS: &str = "imported.b3";

/// What is to be copied, and how paths of the management node are found afterwards.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Copies {
    /// Files: path of the management node, where it lies here.
    pub files: BTreeMap<String, PathBuf>,
    pub path_map: BTreeMap<String, String>,
}

pub(super) fn plan(all: &Reads, others: &BTreeSet<String>, places: &Places) -> Copies {
    let mut copies = Copies::default();
    let is_below = |path: &str, folder: &str| {
        path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let to = |path: &str| format!("{FOLDER}{path}");
    for path in all.lists.iter().chain(&all.synced) {
        let here = places.here(path);
        if here.is_dir() {
            let walk = walkdir::WalkDir::new(&here).sort_by_file_name().into_iter().flatten();
            for entry in walk.filter(|entry| entry.file_type().is_file() || entry.file_type().is_symlink()) {
                let below = entry.path().strip_prefix(&here).unwrap_or(entry.path());
                copies.files.insert(format!("{path}/{}", below.display()), entry.path().to_owned());
            }
            copies.path_map.insert(path.clone(), to(path));
        } else if here.exists() {
            copies.files.insert(path.clone(), here);
            // Lists that are added to their folder later are found too, unless packages lie below it.
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            let is_plain =
                all.lists.contains(path) && !folder.is_empty() && !others.iter().any(|one| is_below(one, folder));
            let from = if is_plain { folder } else { path };
            copies.path_map.insert(from.to_owned(), to(from));
        } else if all.synced.contains(path) && places.lacks(path) {
            // Where someone puts it, it is found.
            copies.path_map.insert(path.clone(), to(path));
        }
    }
    copies
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Copied {
    /// Files that were written, from the workspace.
    pub written: Vec<String>,
    /// What was left as it is, and why.
    pub notes: Vec<String>,
}

fn digests(into: &Path) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(into.join(FOLDER).join(DIGESTS)).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_once("  "))
        .map(|(digest, path)| (path.to_owned(), digest.to_owned()))
        .collect()
}

/// Copies what is new or changed there; a copy that was edited here stays.
/// Errors: [`ImportError::Unwritable`].
pub(super) fn copy(copies: &Copies, into: &Path, dry_run: bool) -> Result<Copied, ImportError> {
    let mut known = digests(into);
    let mut copied = Copied::default();
    let below = into.join(FOLDER);
    let unwritable = |path: &Path, error: std::io::Error| ImportError::Unwritable { path: path.to_owned(), error };
    for (path, here) in &copies.files {
        let target = below.join(path.trim_start_matches('/'));
        let name = path.trim_start_matches('/').to_owned();
        let shown = format!("{FOLDER}/{name}");
        let bytes = match read_regular(here) {
            Ok(bytes) => bytes,
            Err(error) => {
                copied.notes.push(format!("{path} was not copied: {error}"));
                continue;
            }
        };
        let theirs = Digest::of(&bytes).to_string();
        let ours = std::fs::read(&target).ok().map(|bytes| Digest::of(&bytes).to_string());
        if ours.as_ref() == Some(&theirs) {
            known.insert(name, theirs);
            continue;
        }
        let before = known.get(&name);
        if before == Some(&theirs) {
            continue;
        }
        if ours.is_some() && ours.as_ref() != before {
            copied.notes.push(format!(
                "{shown} was edited here and changed on the management node: yours is kept; compare with {path}"
            ));
            continue;
        }
        if is_secret(here, &bytes) {
            copied.notes.push(format!("{shown} contains a secret: think before committing it"));
        }
        copied.written.push(shown);
        if dry_run {
            continue;
        }
        beside::check(into, &target).map_err(|error| unwritable(&target, error))?;
        put(&target, &bytes, here).map_err(|error| unwritable(&target, error))?;
        known.insert(name, theirs);
    }
    if !copied.written.is_empty() && !dry_run {
        let text: String = known.iter().map(|(path, digest)| format!("{digest}  {path}\n")).collect();
        let path = below.join(DIGESTS);
        write_whole(&path, text.as_bytes()).map_err(|error| unwritable(&path, error))?;
    }
    Ok(copied)
}

/// Whether a file is for its owner's eyes alone: by its mode, or as a private key.
fn is_secret(path: &Path, bytes: &[u8]) -> bool {
    let is_key = memchr::memmem::find(bytes, b"PRIVATE KEY-----").is_some();
    let mode = std::fs::metadata(path).map(|one| std::os::unix::fs::PermissionsExt::mode(&one.permissions()));
    is_key || mode.is_ok_and(|mode| mode & 0o004 == 0)
}

/// A file's bytes; what is no regular file has none.
fn read_regular(path: &Path) -> std::io::Result<Vec<u8>> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("it is not a regular file"));
    }
    std::fs::read(path)
}

fn put(target: &Path, bytes: &[u8], from: &Path) -> std::io::Result<()> {
    let mut file = Aside::of(target, 0o600)?;
    file.write_all(bytes)?;
    fault::point("import.writing");
    file.as_file().set_permissions(std::fs::metadata(from)?.permissions())?;
    file.replace(Durability::PowerCut)
}

/// Writes a file in the place of what is there.
pub fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = Aside::of(path, 0o644)?;
    file.write_all(bytes)?;
    fault::point("import.writing");
    file.replace(Durability::PowerCut)
}
