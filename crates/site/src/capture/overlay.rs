//! Writing the overlay: a tar archive of the files that no package brings as they are.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use archive::{Listed, write_tar_entry, write_tar_trailer};
use base::digest::Digest;
use files::beside;
use store::{Entry, Kind};

use super::CaptureError;
use super::census::Census;
use super::classify::Classified;
use super::source::Opened;

/// Extended attributes that come from where the tree lay, or that a rebuild computes: SELinux labels from the policy.
fn is_kept(name: &str) -> bool {
    let of_image = ["user.", "system.posix_acl_", "security.capability", "security.ima", "security.evm"];
    of_image.iter().any(|start| name.starts_with(start)) && !name.contains(".overlay.")
}

fn entry_of(listed: &Listed) -> Option<Entry> {
    let kind = match listed.mode & 0o170_000 {
        0o040_000 => Kind::Directory,
        0o100_000 => Kind::File { size: listed.size, digest: Digest::of(b"") },
        0o120_000 => Kind::Symlink(listed.target.clone()?),
        0o010_000 => Kind::Fifo,
        _ => return None,
    };
    let xattrs: BTreeMap<String, Vec<u8>> = listed.xattrs.iter().filter(|(name, _)| is_kept(name)).cloned().collect();
    Some(Entry {
        kind,
        mode: listed.mode & 0o7777,
        uid: listed.uid,
        gid: listed.gid,
        mtime: listed.mtime.max(0),
        link_group: None,
        xattrs,
    })
}

/// What is written of the source: into the archive, and as files of their own.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub overlay: BTreeSet<String>,
    /// Modules: path of the node whose content it is, files below the image's directory.
    modules: BTreeMap<String, Vec<String>>,
    /// Content that comes under another name: path whose content it is, the paths that want it.
    shared: BTreeMap<String, BTreeSet<String>>,
}

impl Wanted {
    pub(super) fn is_empty(&self) -> bool {
        self.overlay.is_empty() && self.modules.is_empty()
    }

    pub(super) fn of(found: &Classified, census: &Census, modules: BTreeMap<String, String>) -> Self {
        let mut wanted = Self::default();
        for (path, file) in modules {
            let same = census.seen.get(&path).and_then(|seen| seen.listed.same_as.clone());
            wanted.modules.entry(same.unwrap_or(path)).or_default().push(file);
        }
        for file in found.overlay.iter().filter(|file| file.is_in_archive()) {
            let same = census.seen.get(&file.path).and_then(|seen| seen.listed.same_as.clone());
            wanted.overlay.insert(file.path.clone());
            if let Some(same) = same {
                wanted.shared.entry(same).or_default().insert(file.path.clone());
            }
        }
        wanted
    }
}

/// Writes the archive and the modules by a second reading of the source, as the first one saw it.
/// Errors: [`CaptureError`]; also where a file is no longer what it was.
pub(super) fn write(
    opened: &Opened,
    census: &Census,
    wanted: &Wanted,
    archive: &mut dyn Write,
    directory: &Path,
) -> Result<(), CaptureError> {
    let path = PathBuf::from(super::text::ARCHIVE);
    let said = |error: io::Error| CaptureError::Io { path: path.clone(), error };
    // Directories first, so that what is below them has its place whatever the order of the source.
    let is_directory = |path: &&String| census.seen.get(*path).is_some_and(super::census::Seen::is_directory);
    for path in wanted.overlay.iter().filter(is_directory) {
        let Some(entry) = census.seen.get(path).and_then(|seen| entry_of(&seen.listed)) else { continue };
        write_tar_entry(archive, path, &entry, None, None).map_err(said)?;
    }
    let mut written: BTreeSet<String> = BTreeSet::new();
    let mut failed = None;
    let listed = opened.list(&mut |listed, content| {
        let path = &listed.path;
        let Some(seen) = census.seen.get(path).filter(|seen| !seen.is_directory()) else { return Ok(()) };
        let mut module = Vec::new();
        let files = wanted.modules.get(path);
        if let Some(files) = files {
            content.read_to_end(&mut module)?;
            for file in files {
                let to = directory.join(file);
                beside::make_folders(directory, &to)?;
                std::fs::write(&to, &module)?;
            }
        }
        // A module may have other names, which the overlay has.
        let mut module = &module[..];
        let content: &mut dyn Read = if files.is_some() { &mut module } else { content };
        let others: Vec<&String> = wanted.shared.get(path).into_iter().flatten().collect();
        let is_own = wanted.overlay.contains(path) && seen.listed.same_as.is_none();
        if !is_own && others.is_empty() {
            return Ok(());
        }
        let Some(entry) = entry_of(&seen.listed) else { return Ok(()) };
        let content: Option<Box<dyn Read + '_>> = seen.is_file().then_some(Box::new(content) as Box<dyn Read + '_>);
        // The first name of a file has the content, the others are links to it.
        let (first, links) = match is_own {
            true => (path.clone(), &others[..]),
            false => (others[0].clone(), &others[1..]),
        };
        let write = || -> io::Result<()> {
            let mut content = content;
            write_tar_entry(archive, &first, &entry, None, content.take())?;
            for link in links {
                write_tar_entry(archive, link, &entry, Some(&first), None)?;
            }
            Ok(())
        };
        if let Err(error) = write() {
            failed = Some((first.clone(), error.kind() == io::ErrorKind::InvalidData));
            return Err(error);
        }
        written.insert(first);
        written.extend(links.iter().map(|link| (*link).clone()));
        Ok(())
    });
    match (listed, failed) {
        (Err(_), Some((path, true))) => return Err(CaptureError::Moved { path }),
        (done, _) => done?,
    }
    let is_missing = |path: &&String| !written.contains(*path) && !is_directory(path);
    if let Some(path) = wanted.overlay.iter().find(is_missing) {
        return Err(CaptureError::Moved { path: path.clone() });
    }
    write_tar_trailer(archive).map_err(said)
}
