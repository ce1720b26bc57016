//! Owners and modes of what a recipe brings: one rule for lists, scripts and inputs (D51). What git tracks is root's, and 0644 or
//! 0755 by git's index, so that no clone's umask is part of a recipe. In all else user and group are judged by themselves: the number
//! that the recipe's file has is root's, the others stay, and so does the mode. Who builds plays no part.

pub mod checkout;
mod home;
pub mod private;
mod said;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::load::moved;
use crate::fault;
use crate::git::{Tracked, is_whole, tracked};
use crate::witness;

pub use home::{Home, homes};
pub use said::{Said, SaidProblem, account_number};

/// Owner and mode of a file of the build host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Owned {
    pub uid: u32,
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
    pub is_tracked: bool,
}

thread_local! {
    /// The folder that was looked at last, in which recording, and its path without links.
    static LAST: RefCell<Option<(u64, PathBuf, PathBuf)>> = const { RefCell::new(None) };
}

/// A path without links.
fn real(path: &Path) -> io::Result<PathBuf> {
    if witness::is_link(path) {
        return witness::canonicalize(path);
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Ok(path.to_owned()) };
    let Some(number) = witness::recording_number() else { return Ok(witness::canonicalize(folder)?.join(name)) };
    let known = LAST.with_borrow(|last| match last {
        Some((of, at, real)) if (*of, at.as_path()) == (number, folder) => Some(real.join(name)),
        _ => None,
    });
    if let Some(path) = known {
        return Ok(path);
    }
    let found = witness::canonicalize(folder)?;
    LAST.set(Some((number, folder.to_owned(), found.clone())));
    Ok(found.join(name))
}

/// What a file has before it is compared with the recipe's: its own numbers, or what git says of it.
/// Errors: It cannot be looked at, or git's index cannot be read.
pub fn read(path: &Path) -> io::Result<Owned> {
    if let Some(moved) = moved::owned(path) {
        return moved;
    }
    let (mode, uid, gid) = witness::owner(path)?;
    let as_it_is = Owned { uid, gid, mode: mode & 0o7777, is_tracked: false };
    Ok(match tracked(&real(path)?)? {
        _ if fault::planted("modes-of-the-clone") => as_it_is,
        Tracked::No => as_it_is,
        Tracked::File { executable: false } => Owned { mode: 0o644, is_tracked: true, ..Owned::default() },
        Tracked::File { executable: true } | Tracked::Folder | Tracked::Submodule => {
            Owned { mode: 0o755, is_tracked: true, ..Owned::default() }
        }
    })
}

/// The mode that counts of a file that is read, shown or run: who else may write to it here plays no part (D25).
/// Errors: As [`read`].
pub fn mode(path: &Path) -> io::Result<u32> {
    read(path).map(|found| found.mode & !0o022)
}

/// Whether a file is one that git tracks; not where it comes from another machine.
pub fn is_tracked(path: &Path) -> bool {
    read(path).is_ok_and(|found| found.is_tracked)
}

/// How a recipe judges files.
#[derive(Debug, Clone, Default)]
pub struct Owners {
    /// The recipe's own file.
    file: Owned,
    /// What `[sync.owner]` says, by destination.
    pub said: BTreeMap<String, Said>,
}

impl Owners {
    /// Those of a recipe in a directory. What cannot be read of `[sync.owner]` is left out: loading reports it.
    pub fn new(directory: &Path, said: &BTreeMap<String, String>) -> Self {
        let files = ["image.toml", "image.kdl"].map(|name| directory.join(name));
        let file = files.iter().find(|path| witness::is_file(path)).and_then(|path| own(path).ok());
        let said = said.iter().filter_map(|(path, text)| Some((path.clone(), Said::parse(text).ok()?))).collect();
        Self { file: file.unwrap_or_default(), said }
    }

    /// What an image has of a file.
    /// Errors: As [`read`].
    pub fn of(&self, path: &Path) -> io::Result<Owned> {
        read(path).map(|found| self.judged(found))
    }

    /// Source: decision 51. A file of root's was given its group on purpose.
    fn judged(&self, found: Owned) -> Owned {
        let uid = if found.uid == self.file.uid { 0 } else { found.uid };
        let gid = if found.gid == self.file.gid && found.uid != 0 { 0 } else { found.gid };
        Owned { uid, gid, ..found }
    }

    /// What the recipe says of the first of some destinations that it names.
    pub fn said(&self, destinations: &[String]) -> Option<&Said> {
        destinations.iter().find_map(|one| self.said.get(one))
    }

    /// The bits for group and others that git would open and that are closed here on purpose: where files next to it, or the recipe,
    /// have them, no umask explains it.
    pub fn opened(&self, path: &Path, owned: &Owned) -> u32 {
        if !owned.is_tracked || is_whole(path) || moved::is_moved() {
            return 0;
        }
        let bits = |path: &Path| witness::mode(path).map_or(0, |mode| mode & 0o044);
        let Ok(here) = witness::mode(path) else { return 0 };
        let lost = owned.mode & !here & 0o077;
        // Who may not read is meant; a bit to execute that git alone has is none.
        if lost & 0o044 == 0 {
            return 0;
        }
        let beside = || {
            let names = path.parent().and_then(|folder| Some((folder, witness::list(folder).ok()?)));
            let files = names.into_iter().flat_map(|(folder, names)| {
                let files = names.into_iter().filter(|(_, kind)| *kind == witness::Kind::File);
                files.map(|(name, _)| folder.join(name)).collect::<Vec<_>>()
            });
            let tracked = files.filter(|other| other != path && is_tracked(other));
            tracked.fold(0, |all, other| all | bits(&other))
        };
        // Who may read may enter, too.
        let both = |seen: u32| seen | (seen >> 2);
        match lost & both(self.file.mode & 0o044) {
            0 => lost & both(beside()),
            found => found,
        }
    }
}

/// What a file has itself.
fn own(path: &Path) -> io::Result<Owned> {
    if let Some(moved) = moved::owned(path) {
        return moved;
    }
    let (mode, uid, gid) = witness::owner(path)?;
    Ok(Owned { uid, gid, mode: mode & 0o7777, is_tracked: false })
}

#[cfg(test)]
mod tests;
