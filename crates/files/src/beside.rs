//! What is made beside a name that was given: another user may have put a link, or a directory of theirs, there first.

use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, mkdirat, openat, unlinkat};

/// A directory of this user, opened: its files are reached through it, and never through a link.
#[derive(Debug)]
pub struct Beside {
    directory: File,
    path: PathBuf,
}

impl Beside {
    /// Makes a directory, or opens the one that an earlier run made.
    /// Errors: Those of the operating system; `InvalidInput` for a link, a file, or a directory of another user.
    pub fn make(path: &Path) -> Result<Self> {
        match mkdirat(CWD, path, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => Self::open(path),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a directory that is there.
    /// Errors: As [`Beside::make`].
    pub fn open(path: &Path) -> Result<Self> {
        let found = std::fs::symlink_metadata(path)?;
        if !found.is_dir() {
            let what = if found.is_symlink() { "is a link" } else { "is not a directory" };
            return Err(planted(what));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = File::from(openat(CWD, path, flags, Mode::empty())?);
        if directory.metadata()?.uid() != rustix::process::geteuid().as_raw() {
            return Err(planted("belongs to another user"));
        }
        Ok(Self { directory, path: path.to_owned() })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its path with a name behind it, for messages.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Opens a file to write, and makes it where it is missing. Whatever else has that name goes: a link, a second name of
    /// another file, a file of another user.
    pub fn file(&self, name: &str) -> Result<File> {
        for _ in 0..2 {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            match openat(&self.directory, name, flags, Mode::from_raw_mode(0o644)) {
                Ok(file) => {
                    let file = File::from(file);
                    let found = file.metadata()?;
                    let is_own = found.uid() == rustix::process::geteuid().as_raw();
                    if found.is_file() && found.nlink() == 1 && is_own {
                        return Ok(file);
                    }
                }
                Err(rustix::io::Errno::LOOP | rustix::io::Errno::NXIO | rustix::io::Errno::ISDIR) => {}
                Err(error) => return Err(error.into()),
            }
            self.remove(name)?;
        }
        Err(planted("comes back as soon as it is removed"))
    }

    /// Opens a file to read; what is not a regular file is an error.
    pub fn read(&self, name: &str) -> Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(openat(&self.directory, name, flags, Mode::empty())?);
        match file.metadata()?.is_file() {
            true => Ok(file),
            false => Err(planted("is not a regular file")),
        }
    }

    /// Gives a file of this user a second name here.
    /// Errors: Those of the operating system; a link, or a file of another user.
    pub fn link(&self, from: &Path, name: &str) -> Result<()> {
        let found = std::fs::symlink_metadata(from)?;
        if !found.is_file() || found.uid() != rustix::process::geteuid().as_raw() {
            return Err(planted("is not a file of this user"));
        }
        rustix::fs::linkat(CWD, from, &self.directory, name, AtFlags::empty())?;
        Ok(())
    }

    /// Removes a name, whatever it leads to.
    /// Errors: Those of the operating system; a missing one does not count.
    pub fn remove(&self, name: &str) -> Result<()> {
        match unlinkat(&self.directory, name, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            // A directory, with all that is in it; links in it are not followed.
            Err(rustix::io::Errno::ISDIR) => std::fs::remove_dir_all(self.path.join(name)),
            Err(error) => Err(error.into()),
        }
    }

    pub fn names(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.directory)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// Waits until its files and their names are on the disk.
    pub fn sync(&self) -> Result<()> {
        for name in self.names()? {
            self.read(&name)?.sync_all()?;
        }
        self.directory.sync_all()
    }

    /// Whether the path still leads to this directory.
    pub fn is_in_place(&self) -> bool {
        match (self.directory.metadata(), std::fs::symlink_metadata(&self.path)) {
            (Ok(held), Ok(named)) => (held.dev(), held.ino()) == (named.dev(), named.ino()),
            _ => false,
        }
    }
}

/// What another user may have put there.
fn planted(what: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("it {what}: nothing is written through it; remove it"))
}

/// Makes the folders of a path below a root.
/// Errors: As [`check`], and those of the operating system.
pub fn make_folders(root: &Path, path: &Path) -> Result<()> {
    check(root, path)?;
    std::fs::create_dir_all(path.parent().unwrap_or(root))
}

/// Checks that no folder on the way from a root to a path is a link, as far as they are there; the last name may be anything.
/// Errors: The first folder that is a link or a file, as `InvalidInput`.
pub fn check(root: &Path, path: &Path) -> Result<()> {
    let outside = |what: String| Error::new(ErrorKind::InvalidInput, what);
    let below = path.strip_prefix(root).map_err(|_| outside(format!("it is not below {}", root.display())))?;
    let mut at = root.to_owned();
    let parts: Vec<Component<'_>> = below.components().collect();
    for (number, part) in parts.iter().enumerate() {
        let Component::Normal(name) = part else { return Err(outside("its path escapes its root".to_owned())) };
        at.push(name);
        if number + 1 == parts.len() {
            return Ok(());
        }
        match std::fs::symlink_metadata(&at) {
            Ok(found) if found.is_dir() || fault::planted("link-followed") && at.is_dir() => {}
            Ok(_) => {
                let at = at.display();
                return Err(outside(format!("{at} is a link or a file: nothing is written through it")));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Err(outside("its path escapes its root".to_owned()))
}

/// Checks that no folder on the way from a root to a path is a link that another user made: those of this user and of root are
/// followed, because a site may have its folders elsewhere.
/// Errors: The first such link, as `InvalidInput`.
pub fn check_owners(root: &Path, path: &Path) -> Result<()> {
    let folders = path.strip_prefix(root).unwrap_or(path).parent().into_iter().flat_map(Path::components);
    let mut at = root.to_owned();
    for folder in folders {
        at.push(folder);
        let Ok(found) = std::fs::symlink_metadata(&at) else { return Ok(()) };
        if found.is_symlink() && ![0, rustix::process::geteuid().as_raw()].contains(&found.uid()) {
            let text = format!("{} is a link of another user: nothing is written through it; remove it", at.display());
            return Err(Error::new(ErrorKind::InvalidInput, text));
        }
    }
    Ok(())
}

pub fn first_link(directory: &Path) -> Option<PathBuf> {
    let walk = walkdir::WalkDir::new(directory).min_depth(1).sort_by_file_name();
    walk.into_iter().flatten().find(|entry| entry.path_is_symlink()).map(walkdir::DirEntry::into_path)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_and_dots_on_the_way_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        symlink("/tmp", root.join("a/l")).unwrap();
        for good in ["x", "a/b/x", "a/new/x"] {
            make_folders(&root, &root.join(good)).unwrap();
        }
        for bad in ["a/l/x", "a/../x", "../x", "a/b/..", ""] {
            assert!(make_folders(&root, &root.join(bad)).is_err(), "{bad}");
        }
        assert!(make_folders(&root, Path::new("/etc/x")).is_err());
        assert_eq!(first_link(&root), Some(root.join("a/l")));
    }

    #[test]
    fn planted_names_are_replaced_and_planted_directories_refused() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        std::fs::write(at("victim"), "precious").unwrap();
        std::fs::create_dir(at("other")).unwrap();
        symlink(at("other"), at("linked")).unwrap();
        std::fs::write(at("file"), "").unwrap();
        for name in ["linked", "file"] {
            assert_eq!(Beside::make(&at(name)).unwrap_err().kind(), ErrorKind::InvalidInput, "{name}");
        }
        let beside = Beside::make(&at("own")).unwrap();
        symlink(at("victim"), at("own/link")).unwrap();
        symlink(at("nothing"), at("own/dangling")).unwrap();
        std::fs::hard_link(at("victim"), at("own/second")).unwrap();
        rustix::fs::mknodat(CWD, at("own/pipe"), rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
        std::fs::create_dir(at("own/folder")).unwrap();
        for name in ["link", "dangling", "second", "pipe", "folder", "new"] {
            beside.file(name).unwrap().write_all(b"new").unwrap();
            assert_eq!(std::fs::read(at("own").join(name)).unwrap(), b"new", "{name}");
        }
        assert_eq!(std::fs::read(at("victim")).unwrap(), b"precious");
        assert!(!at("nothing").exists());
        // What is there stays for the next run.
        assert_eq!(std::fs::read(beside.join("new")).unwrap(), b"new");
        assert!(beside.is_in_place());
        std::fs::rename(at("own"), at("away")).unwrap();
        std::fs::create_dir(at("own")).unwrap();
        assert!(!beside.is_in_place());
        if rustix::process::geteuid().is_root() {
            let linked = place.path().join("linked/deep/file");
            assert!(check_owners(place.path(), &linked).is_ok());
            std::os::unix::fs::lchown(at("linked"), Some(1234), Some(1234)).unwrap();
            assert!(check_owners(place.path(), &linked).is_err());
            std::os::unix::fs::chown(at("own"), Some(1234), Some(1234)).unwrap();
            assert_eq!(Beside::make(&at("own")).unwrap_err().kind(), ErrorKind::InvalidInput);
        }
    }
}
