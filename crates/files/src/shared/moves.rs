//! Files of a directory that others can write to, moved within it: each name is reached from the directory, never through a link.

use std::fs::File;
use std::io::{ErrorKind, Result};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, linkat, openat2, renameat, statat, unlinkat};
use rustix::io::Errno;

use super::{Shared, odd};
use crate::beside::check_owners;

/// What has a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    Nothing,
    File,
    Folder,
    /// A link, a pipe, a device, a socket.
    Other,
}

impl Shared {
    /// Opens a directory of a service for a user that publishes in it: what is made there belongs to the directory's owner, with exactly the
    /// modes that are asked for. Links of this user and of root lead there, those of others do not.
    /// Errors: Those of the operating system; `InvalidInput` for a link of another user.
    pub fn for_service(path: &Path) -> Result<Self> {
        let path = std::path::absolute(path)?;
        check_owners(Path::new("/"), &path.join("file"))?;
        let real = path.canonicalize()?;
        let way = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = File::from(openat2(CWD, &real, flags, Mode::empty(), way)?);
        Ok(Self { root, path, is_owners: true, has_modes: true })
    }

    /// What has a name: its own, not what a link leads to.
    /// Errors: Those of the operating system; `InvalidInput` where a link leads to its folder.
    pub fn named(&self, name: &str) -> Result<Named> {
        let (above, last) = split(name);
        let folder = match self.folder(above) {
            Ok(Some(folder)) => folder,
            Ok(None) => return Ok(Named::Nothing),
            Err(error) => return Err(error),
        };
        match statat(&folder, last, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(Named::Nothing),
            Err(error) => Err(error.into()),
            Ok(found) => Ok(match rustix::fs::FileType::from_raw_mode(found.st_mode) {
                rustix::fs::FileType::RegularFile => Named::File,
                rustix::fs::FileType::Directory => Named::Folder,
                _ => Named::Other,
            }),
        }
    }

    /// Makes a folder and those above it.
    /// Errors: Those of the operating system; `InvalidInput` for a link or anything else that is not a folder.
    pub fn make_folder(&self, name: &str, mode: u32) -> Result<()> {
        self.make_folders(name, mode).map(drop)
    }

    /// Gives a file another name in the place of what has that; its folder exists.
    /// Errors: As [`Shared::named`].
    pub fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.with_both(from, to, |from, to| Ok(renameat(from.0, from.1, to.0, to.1)?))
    }

    /// Gives a file a second name; what has that goes before.
    /// Errors: As [`Shared::named`].
    pub fn link(&self, from: &str, to: &str) -> Result<()> {
        self.remove(to)?;
        // A link itself gets the name, and not what it leads to.
        self.with_both(from, to, |from, to| Ok(linkat(from.0, from.1, to.0, to.1, AtFlags::empty())?))
    }

    /// Removes a folder if it is empty; whether it was.
    /// Errors: Those of the operating system; `InvalidInput` where a link leads to its folder.
    pub fn remove_empty_folder(&self, name: &str) -> Result<bool> {
        let (above, last) = split(name);
        let Some(folder) = self.folder(above)? else { return Ok(false) };
        match unlinkat(&folder, last, AtFlags::REMOVEDIR) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until the names in a folder are on the disk, where its file system knows how.
    /// Errors: Those of the operating system.
    pub fn flush(&self, name: &str) -> Result<()> {
        let Some(folder) = self.folder(name)? else { return Ok(()) };
        match folder.sync_all() {
            Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Ok(()),
            done => done,
        }
    }

    fn with_both(
        &self,
        from: &str,
        to: &str,
        work: impl FnOnce((&File, &str), (&File, &str)) -> Result<()>,
    ) -> Result<()> {
        let ((above, last), (above_to, last_to)) = (split(from), split(to));
        let folder = self.folder(above)?.ok_or(ErrorKind::NotFound)?;
        let folder_to = self.folder(above_to)?.ok_or(ErrorKind::NotFound)?;
        if [last, last_to].iter().any(|name| name.is_empty() || *name == "..") {
            return Err(odd("it is not the name of a file"));
        }
        work((&folder, last), (&folder_to, last_to))
    }
}

fn split(name: &str) -> (&str, &str) {
    name.rsplit_once('/').unwrap_or(("", name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Durability;

    #[test]
    fn names_are_reached_without_links() {
        let place = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let shared = Shared::for_service(place.path()).unwrap();
        let write = |name: &str| {
            shared.write(name, (0o755, 0o644), Durability::Kill, &mut |file| std::io::Write::write_all(file, b"new"))
        };
        write("a/file").unwrap();
        std::os::unix::fs::symlink(outside.path(), place.path().join("out")).unwrap();
        std::fs::write(outside.path().join("victim"), "precious").unwrap();
        std::os::unix::fs::symlink(outside.path().join("victim"), place.path().join("a/link")).unwrap();
        assert_eq!(shared.named("a/file").unwrap(), Named::File);
        assert_eq!(shared.named("a/none").unwrap(), Named::Nothing);
        assert_eq!(shared.named("none/none").unwrap(), Named::Nothing);
        assert_eq!(shared.named("a/link").unwrap(), Named::Other);
        assert_eq!(shared.named("a").unwrap(), Named::Folder);
        assert!(shared.named("out/victim").is_err());
        assert!(write("out/new").is_err());
        assert!(shared.rename("a/file", "out/new").is_err());
        assert!(shared.rename("out/victim", "a/taken").is_err());
        assert!(shared.link("a/file", "../x").is_err());
        assert!(shared.remove("out/victim").is_err());
        // A link is replaced, and what it leads to is not.
        shared.link("a/file", "a/second").unwrap();
        shared.rename("a/second", "a/link").unwrap_or_default();
        shared.make_folder("b/c", 0o755).unwrap();
        shared.rename("a/file", "b/c/file").unwrap();
        assert!(!shared.remove_empty_folder("b/c").unwrap());
        assert!(shared.remove("b/c/file").unwrap() && shared.remove_empty_folder("b/c").unwrap());
        assert_eq!(std::fs::read_to_string(outside.path().join("victim")).unwrap(), "precious");
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
    }
}
