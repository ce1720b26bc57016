//! Owners and modes of what a recipe brings: one rule for lists, scripts and inputs (D51). What git tracks is root's, and 0644 or
//! 0755 by git's index, so that no clone's umask is part of a recipe. In all else user and group are judged by themselves: the number
//! that the recipe's file has is root's, the others stay, and so does the mode. Who builds plays no part.

pub mod checkout;
mod home;
pub mod private;
mod said;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::load::moved;
use git::{Tracked, is_whole, tracked};

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

/// The mode that counts of a file.
/// Errors: As [`read`].
pub fn mode(path: &Path) -> io::Result<u32> {
    read(path).map(|found| found.mode)
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
    readable: Arc<Mutex<Readable>>,
}

/// For a recording, if one runs, and a folder: how many tracked files group and others may read.
type Readable = HashMap<(Option<u64>, PathBuf), [usize; 2]>;

impl Owners {
    /// Those of a recipe in a directory. What cannot be read of `[sync.owner]` is left out: loading reports it.
    pub fn new(directory: &Path, said: &BTreeMap<String, String>) -> Self {
        let files = ["image.toml", "image.kdl"].map(|name| directory.join(name));
        let file = files.iter().find(|path| witness::is_file(path)).and_then(|path| own(path).ok());
        let said = said.iter().filter_map(|(path, text)| Some((path.clone(), Said::parse(text).ok()?))).collect();
        Self { file: file.unwrap_or_default(), said, ..Self::default() }
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
        let Ok(here) = witness::mode(path) else { return 0 };
        let lost = owned.mode & !here & 0o077;
        // Who may not read is meant, and not a bit to execute that git alone has.
        if lost & 0o044 == 0 {
            return 0;
        }
        let beside = || {
            let counts = path.parent().map(|folder| self.readable(folder)).unwrap_or_default();
            // Its own bits are among them where it is a file itself.
            let is_own = |bit: u32| usize::from(witness::is_file(path) && here & bit != 0);
            READ.into_iter().zip(counts).filter(|(bit, count)| *count > is_own(*bit)).fold(0, |all, (bit, _)| all | bit)
        };
        // Who may read may enter, too.
        let both = |seen: u32| seen | (seen >> 2);
        match lost & both(self.file.mode & 0o044) {
            0 => lost & both(beside()),
            found => found,
        }
    }

    /// How many tracked files of a folder group and others may read; looked up once for each recording.
    fn readable(&self, folder: &Path) -> [usize; 2] {
        let key = (witness::recording_number(), folder.to_owned());
        let mut known = self.readable.lock().unwrap_or_else(PoisonError::into_inner);
        *known.entry(key).or_insert_with(|| {
            let names = witness::list(folder).unwrap_or_default();
            let files = names.into_iter().filter(|(_, kind)| *kind == witness::Kind::File);
            let tracked = files.map(|(name, _)| folder.join(name)).filter(|file| is_tracked(file));
            let modes: Vec<u32> = tracked.filter_map(|file| witness::mode(&file).ok()).collect();
            READ.map(|bit| modes.iter().filter(|mode| *mode & bit != 0).count())
        })
    }
}

/// Permissions to read, of the group and of others.
const READ: [u32; 2] = [0o040, 0o004];

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
