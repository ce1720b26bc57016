//! Directories that belong to an account, in which root works too.

use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Mode, OFlags, Uid, fchown, openat};
use rustix::io::Errno;

use super::{Found, Shared, list, odd, open_to_others};

/// How deep folders lie in a directory that is given away.
const DEEPEST: usize = 16;
/// How many links one path leads through. Source: path_resolution(7).
const MOST_LINKS: usize = 40;

/// The real path of a directory of which this user and root alone decide what it is: no link of another user leads there, and no one
/// else can put another directory in the place of one on the way. Whose the directory itself is does not matter.
/// Errors: Those of the operating system; `InvalidInput` with what others decide.
pub fn own_directory(path: &Path) -> Result<PathBuf> {
    if let Some(link) = link_of_others(&std::path::absolute(path)?, &mut 0)? {
        return Err(odd(&format!("`{}` is a link of another user", link.display())));
    }
    let directory = path.canonicalize()?;
    match directory.parent().map(open_to_others).transpose()?.flatten() {
        Some(open) => Err(odd(&format!("others can replace what is in `{}`", open.display()))),
        None => Ok(directory),
    }
}

/// The first link on the way to a path that is neither this user's nor root's, also of those that a link leads through.
fn link_of_others(path: &Path, links: &mut usize) -> Result<Option<PathBuf>> {
    let own = [0, rustix::process::geteuid().as_raw()];
    let mut real = PathBuf::new();
    for part in path.components() {
        let at = real.join(part);
        let found = std::fs::symlink_metadata(&at)?;
        if !found.is_symlink() {
            real = at;
            continue;
        }
        *links += 1;
        if !own.contains(&found.uid()) || *links > MOST_LINKS {
            return Ok(Some(at));
        }
        if let Some(link) = link_of_others(&real.join(std::fs::read_link(&at)?), links)? {
            return Ok(Some(link));
        }
        real = at.canonicalize()?;
    }
    Ok(None)
}

impl Shared {
    /// Gives something that this process made to the owner of the directory, where it is another's and this process may do so.
    pub(super) fn give(&self, file: &File) -> Result<()> {
        let (owner, found) = (self.metadata()?, file.metadata()?);
        let user = rustix::process::geteuid();
        // In a directory of root's own lies what is already another's while it is handed over.
        if [found.uid(), user.as_raw()].contains(&owner.uid()) || !user.is_root() {
            return Ok(());
        }
        let is_own = found.uid() == user.as_raw() && (found.is_dir() || found.is_file() && found.nlink() == 1);
        if !is_own && !fault::planted("state-gives-what-is-anothers") {
            return Err(odd("it is not a file that imgbuild made there: remove it"));
        }
        Ok(fchown(file, Some(Uid::from_raw(owner.uid())), Some(Gid::from_raw(owner.gid())))?)
    }

    /// Opens a file whose lock says whose turn it is, and makes it where it is missing.
    /// Errors: Those of the operating system; `InvalidInput` for a link, for what is no regular file, and for one with other names.
    pub fn lock_file(&self, name: &str) -> Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE;
        let file = self.at_with(name, flags, Mode::from_raw_mode(0o644))?;
        let found = file.metadata()?;
        if !found.is_file() || found.nlink() != 1 {
            return Err(odd("it is no regular file, or has other names: remove it"));
        }
        self.give(&file)?;
        Ok(file)
    }

    /// Gives all that is in the directory to an account, and the directory last: until then no one else puts anything there. Links are
    /// left alone, and so are files with several names: they may be another place's.
    /// Errors: Those of the operating system, and which folder is too deep.
    pub fn hand_to(&self, account: (u32, u32)) -> Result<()> {
        hand(&self.root, account, DEEPEST)
    }
}

fn hand(folder: &File, account: (u32, u32), deepest: usize) -> Result<()> {
    let to = (Some(Uid::from_raw(account.0)), Some(Gid::from_raw(account.1)));
    for entry in list(folder)? {
        let flags = match entry.metadata {
            Found::Folder => OFlags::DIRECTORY,
            Found::File { .. } => OFlags::NONBLOCK,
            Found::Other => continue,
        };
        let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = match openat(folder, entry.name.as_str(), flags, Mode::empty()) {
            // Another has its name by now.
            Err(Errno::LOOP | Errno::NOENT | Errno::NOTDIR | Errno::NXIO) => continue,
            opened => File::from(opened?),
        };
        let found = opened.metadata()?;
        match found.is_dir() {
            true if deepest == 0 => {
                return Err(Error::new(ErrorKind::InvalidInput, format!("`{}` lies too deep", entry.name)));
            }
            true => hand(&opened, account, deepest - 1)?,
            false if found.is_file() && found.nlink() == 1 => {
                fchown(&opened, to.0, to.1)?;
                fault::point("state.given");
            }
            false => {}
        }
    }
    Ok(fchown(folder, to.0, to.1)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};

    use super::*;
    use crate::Durability;

    #[test]
    fn links_of_others_and_directories_that_others_replace_are_refused() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().canonicalize().unwrap().join(name);
        std::fs::create_dir_all(at("own/state")).unwrap();
        std::fs::set_permissions(at(""), PermissionsExt::from_mode(0o755)).unwrap();
        symlink("own", at("link")).unwrap();
        symlink("link/state", at("second")).unwrap();
        for name in ["own/state", "link/state", "second", "link/../own/state"] {
            assert_eq!(own_directory(&at(name)).unwrap(), at("own/state"), "{name}");
        }
        assert!(own_directory(&at("own/none")).is_err());
        let refused = |name: &str, what: &str| {
            let error = own_directory(&at(name)).unwrap_err().to_string();
            assert!(error.contains(what), "{name}: {error}");
        };
        std::fs::set_permissions(at("own"), PermissionsExt::from_mode(0o777)).unwrap();
        refused("own/state", "others can replace");
        std::fs::set_permissions(at("own"), PermissionsExt::from_mode(0o755)).unwrap();
        if !rustix::process::geteuid().is_root() {
            return;
        }
        // The directory itself may be an account's already.
        chown(at("own/state"), Some(1234), Some(1234)).unwrap();
        own_directory(&at("own/state")).unwrap();
        // Also where a link of root's leads through it.
        lchown(at("link"), Some(1234), Some(1234)).unwrap();
        refused("link/state", "link of another user");
        refused("second", "link of another user");
        chown(at("own"), Some(1234), Some(1234)).unwrap();
        refused("own/state", "others can replace");
    }

    #[test]
    fn what_root_makes_is_the_owners_and_what_is_anothers_stays_so() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        let owner = |name: &str| std::fs::symlink_metadata(at(name)).unwrap().uid();
        std::fs::create_dir_all(at("state")).unwrap();
        std::fs::write(at("precious"), "precious").unwrap();
        chown(at("state"), Some(1234), Some(1234)).unwrap();
        let shared = Shared::of_owner(&at("state")).unwrap();
        // What the account put where root looks.
        let locked = || shared.lock_file(".lock").map(drop);
        locked().unwrap();
        locked().unwrap();
        assert_eq!(owner("state/.lock"), 1234);
        for plant in [0, 1, 2, 3] {
            std::fs::remove_file(at("state/.lock")).unwrap();
            match plant {
                0 => symlink(at("precious"), at("state/.lock")).unwrap(),
                1 => symlink(at("new"), at("state/.lock")).unwrap(),
                2 => std::fs::hard_link(at("precious"), at("state/.lock")).unwrap(),
                _ => {
                    let kind = rustix::fs::FileType::Fifo;
                    rustix::fs::mknodat(rustix::fs::CWD, at("state/.lock"), kind, Mode::RWXU, 0).unwrap();
                }
            }
            assert_eq!(locked().unwrap_err().kind(), ErrorKind::InvalidInput, "{plant}");
            assert!(owner("precious") == 0 && !at("new").exists(), "{plant}");
        }
        // A third user's file is not handed on.
        std::fs::remove_file(at("state/.lock")).unwrap();
        std::fs::write(at("state/.lock"), "").unwrap();
        chown(at("state/.lock"), Some(99), Some(99)).unwrap();
        assert_eq!(locked().unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(owner("state/.lock"), 99);
        shared.write("a/b/file", (0o755, 0o600), Durability::Kill, &mut |_| Ok(())).unwrap();
        assert_eq!(["state/a", "state/a/b", "state/a/b/file"].map(owner), [1234; 3]);
        // A directory that is handed over: nothing outside, and nothing that has a name elsewhere.
        std::fs::create_dir_all(at("elsewhere/deep")).unwrap();
        std::fs::write(at("elsewhere/deep/file"), "").unwrap();
        symlink(at("elsewhere"), at("state/a/link")).unwrap();
        std::fs::hard_link(at("precious"), at("state/a/name")).unwrap();
        shared.hand_to((55, 55)).unwrap();
        assert_eq!(["state", "state/a", "state/a/b", "state/a/b/file"].map(owner), [55; 4]);
        assert_eq!(["elsewhere", "elsewhere/deep/file", "state/a/link", "precious"].map(owner), [0; 4]);
    }
}
