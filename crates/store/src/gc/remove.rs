//! Taking things out of the store: first out of their places, then away. Runs inside the namespace.
//!
//! What is half removed has no name that anybody looks under: each thing is renamed into a scratch directory, the renames
//! are made durable, and only then anything is deleted. A process that is killed on the way leaves a scratch directory,
//! which goes with the next command.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::layers::commit::{sync, turn};
use crate::{Store, StoreError, check_layers};
use base::digest::Digest;

/// Directories that are open at once while a tree is removed; what lies deeper is first moved up. Far below the 1,024
/// files that a process may usually open, with room for several threads.
const OPEN_AT_ONCE: usize = 64;

/// Asks to remove things that belong to root inside.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RemoveRequest {
    /// Paths relative to the store's directory.
    pub paths: Vec<String>,
    /// Scratch directory, relative to the store's; it must not be there yet.
    pub scratch: String,
    /// Whether a layer stays that is whole: someone else may have made it again since it was found damaged.
    #[serde(default)]
    pub only_damaged: bool,
}

/// When something goes, compared with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    /// It says that something else is whole: a layer's manifest, what describes a frame.
    First,
    /// It has a name under which others look for it.
    Then,
    /// No one looks for it under its name: it is deleted where it is.
    Nobodys,
}

impl Turn {
    fn of(path: &str) -> Self {
        match path.split('/').next() {
            Some("manifests") => Self::First,
            Some("frames") if path.ends_with(".info") => Self::First,
            Some("scratch" | "handover" | "logs") => Self::Nobodys,
            // A directory of the store itself: what is in it goes.
            _ if !path.contains('/') => Self::Nobodys,
            _ => Self::Then,
        }
    }
}

fn layer_of(path: &str) -> Option<Digest> {
    let (directory, name) = path.split_once('/')?;
    matches!(directory, "trees" | "manifests").then(|| Digest::parse(name).ok()).flatten()
}

/// Removes files and directories; gives how many there were. What cannot be removed stops no other.
/// Errors: A text with the first path that could not be removed, and how many more there are.
pub fn remove(request: &RemoveRequest) -> Result<usize, String> {
    let mut paths: Vec<&String> = request.paths.iter().collect();
    // What says that another thing is whole goes before it.
    paths.sort_by_key(|path| Turn::of(path));
    if fault::planted("removal-keeps-manifest") {
        paths.reverse();
    }
    std::fs::create_dir_all(&request.scratch).map_err(|error| format!("cannot create {}: {error}", request.scratch))?;
    let mut failed = Failed::default();
    let mut moved = 0;
    // No layer is given its name meanwhile.
    let turn = turn().map_err(|error| format!("cannot wait for others in the store: {error}"))?;
    if request.only_damaged {
        let layers: BTreeSet<Digest> = paths.iter().filter_map(|path| layer_of(path)).collect();
        let damaged: Vec<Digest> =
            check_layers(&layers.into_iter().collect::<Vec<_>>())?.into_iter().map(|one| one.layer).collect();
        paths.retain(|path| layer_of(path).is_none_or(|layer| damaged.contains(&layer)));
    }
    for (number, path) in paths.into_iter().enumerate() {
        if Turn::of(path) == Turn::Nobodys {
            failed.note(remove_tree(path));
            moved += 1;
            continue;
        }
        match std::fs::rename(path, format!("{}/{number}", request.scratch)) {
            Ok(()) => moved += 1,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => failed.note(Err(format!("cannot remove `{path}` from the store: {error}"))),
        }
        fault::point("remove.renamed");
    }
    sync();
    drop(turn);
    fault::point("remove.out-of-place");
    failed.note(remove_tree(&request.scratch));
    failed.outcome().map(|()| moved)
}

#[derive(Default)]
struct Failed {
    first: Option<String>,
    more: usize,
}

impl Failed {
    fn note(&mut self, outcome: Result<(), String>) {
        match (outcome, &self.first) {
            (Ok(()), _) => {}
            (Err(text), None) => self.first = Some(text),
            (Err(_), Some(_)) => self.more += 1,
        }
    }

    fn outcome(self) -> Result<(), String> {
        match (self.first, self.more) {
            (None, _) => Ok(()),
            (Some(text), 0) => Err(text),
            (Some(text), more) => Err(format!("{text}, and {more} more")),
        }
    }
}

fn open_directory(at: impl AsFd, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat2(at, name, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)
}

/// Removes a directory, or a file, and all below it, whatever the names in it and however deep it is, without following a
/// link or crossing into another file system. What cannot be removed stops nothing else.
/// Errors: A text with the path and the first thing in it that stayed.
pub fn remove_tree(path: &str) -> Result<(), String> {
    let said = |error: Errno| format!("cannot remove `{path}`: {error}");
    let (parent, name) = path.rsplit_once('/').unwrap_or((".", path));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let parent = match rustix::fs::open(parent, flags, Mode::empty()) {
        Ok(parent) => parent,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(said(error)),
    };
    let device = rustix::fs::fstat(&parent).map_err(said)?.st_dev;
    let mut work = Removal { parent: parent.as_fd(), name: path, device, moved: Vec::new(), first: None };
    let name = CString::new(name).map_err(|_| said(Errno::INVAL))?;
    work.remove(parent.as_fd(), &name, 0);
    while let Some(name) = work.moved.pop() {
        work.remove(parent.as_fd(), &name, 0);
    }
    match work.first {
        None => Ok(()),
        Some(text) => Err(text),
    }
}

struct Removal<'a> {
    /// The directory that the tree lies in; deep directories are moved here.
    parent: BorrowedFd<'a>,
    name: &'a str,
    device: u64,
    moved: Vec<CString>,
    first: Option<String>,
}

impl Removal<'_> {
    fn failed(&mut self, name: &CStr, error: Errno) {
        let name = name.to_bytes().escape_ascii();
        self.first.get_or_insert_with(|| format!("cannot remove `{name}` below `{}`: {error}", self.name));
    }

    fn remove(&mut self, parent: BorrowedFd<'_>, name: &CStr, depth: usize) {
        match self.try_to_remove(parent, name, depth) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => self.failed(name, error),
        }
    }

    fn try_to_remove(&mut self, parent: BorrowedFd<'_>, name: &CStr, depth: usize) -> Result<(), Errno> {
        let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return rustix::fs::unlinkat(parent, name, AtFlags::empty());
        }
        if stat.st_dev != self.device {
            return Err(Errno::XDEV);
        }
        if stat.st_mode & 0o700 != 0o700 {
            let _ = rustix::fs::chmodat(parent, name, Mode::from_raw_mode(0o700), AtFlags::empty());
        }
        if depth >= OPEN_AT_ONCE && rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) != Ok(()) {
            return self.move_up(parent, name);
        } else if depth >= OPEN_AT_ONCE {
            return Ok(());
        }
        let directory = open_directory(parent, name)?;
        for entry in Dir::read_from(&directory)? {
            let entry = entry?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                self.remove(directory.as_fd(), entry.file_name(), depth + 1);
            }
        }
        rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
    }

    /// Moves a directory beside the tree that is removed, under a name that is free.
    fn move_up(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let base = self.name.rsplit('/').next().unwrap_or_default();
        loop {
            let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let Ok(to) = CString::new(format!("{base}.deep-{number}")) else { return Err(Errno::INVAL) };
            match rustix::fs::renameat_with(parent, name, self.parent, &to, rustix::fs::RenameFlags::NOREPLACE) {
                Ok(()) => {
                    self.moved.push(to);
                    return Ok(());
                }
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Store {
    /// Removes files and directories of the user's own, given relative to the store's directory, in the same way: out of
    /// their places, durably, then away. What names others goes first.
    /// Errors: [`StoreError`] with the path; what was out of its place by then goes with the next command.
    pub fn remove(&self, paths: &[String]) -> Result<(), StoreError> {
        if paths.is_empty() {
            return Ok(());
        }
        let aside = self.aside_directory()?;
        let mut paths: Vec<&String> = paths.iter().collect();
        paths.sort_by_key(|path| match path.split('/').next() {
            Some("roots" | "earlier" | "pins") => 0,
            Some("actions") => 1,
            _ => 2,
        });
        let out = tempfile::Builder::new().prefix("gone-").tempdir_in(&aside);
        let out = out.map_err(|source| StoreError::io("create a directory in", &aside, source))?;
        for (number, path) in paths.into_iter().enumerate() {
            let from = self.directory().join(path);
            match std::fs::rename(&from, out.path().join(number.to_string())) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    return Err(StoreError::io("remove", &from, source));
                }
                _ => {}
            }
            fault::point("remove.own-renamed");
        }
        let here = std::fs::File::open(self.directory());
        let _ = here.map(|here| rustix::fs::syncfs(&here));
        fault::point("remove.own-out-of-place");
        let place = out.path().to_owned();
        out.close().map_err(|source| StoreError::io("remove", place, source))
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn any_name_and_any_depth_goes_and_nothing_beside_it() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("kept"), "x").unwrap();
        let directory = tempfile::tempdir().unwrap();
        let tree = directory.path().join("tree");
        std::fs::create_dir_all(tree.join(OsStr::from_bytes(b"caf\xe9/inner\xff"))).unwrap();
        std::fs::write(tree.join(OsStr::from_bytes(b"caf\xe9/file\xfe")), "x").unwrap();
        std::os::unix::fs::symlink(outside.path(), tree.join("link")).unwrap();
        // Deeper than a path can name, and than files can be opened.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut at = rustix::fs::open(&tree, flags, Mode::empty()).unwrap();
        for _ in 0..5000 {
            rustix::fs::mkdirat(&at, "dir", Mode::from_raw_mode(0o500)).unwrap();
            rustix::fs::chmodat(&at, "dir", Mode::from_raw_mode(0o700), AtFlags::empty()).unwrap();
            at = rustix::fs::openat(&at, "dir", flags, Mode::empty()).unwrap();
        }
        drop(at);
        std::fs::set_permissions(tree.join("dir"), std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
        remove_tree(tree.to_str().unwrap()).unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
        remove_tree(tree.to_str().unwrap()).unwrap();
    }
}
