//! Directories that others can write to: everything in them is reached from the descriptor of their root, never through a link, and
//! only regular files are read, so that nothing outside is read, written or removed, and nothing is waited for.

mod moves;
mod owner;
mod writers;

use std::collections::BTreeSet;
use std::fs::{File, Metadata};
use std::io::{Error, ErrorKind, Read, Result};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, mkdirat, openat2, renameat, unlinkat};
use rustix::io::Errno;

use crate::{Durability, TEMPORARY};

pub use moves::Named;
pub use owner::own_directory;
pub use writers::{Writers, open_to_others, writers};

/// A directory, opened.
#[derive(Debug)]
pub struct Shared {
    root: File,
    path: PathBuf,
    /// Whether what is made there belongs to its owner, with modes as for open(2); else it is this user's, whatever the umask is.
    is_owners: bool,
    /// Whether it has the modes that are asked for although it is its owner's.
    has_modes: bool,
}

/// What has a name in a folder.
#[derive(Debug)]
pub struct Entry {
    pub name: String,
    /// The name's own: a link is not what it leads to.
    pub metadata: Found,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    File {
        size: u64,
        modified: std::time::SystemTime,
        owner: u32,
    },
    Folder,
    /// A link, a pipe, a device, a socket.
    Other,
}

fn odd(what: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, what.to_owned())
}

impl Shared {
    /// Opens a directory; the path to it may lead through links.
    /// Errors: Those of the operating system.
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = File::from(rustix::fs::open(path, flags, Mode::empty())?);
        Ok(Self { root, path: path.to_owned(), is_owners: false, has_modes: false })
    }

    /// The same of a directory that belongs to an account: what root makes there is the account's, with modes as for open(2).
    /// Errors: Those of the operating system.
    pub fn of_owner(path: &Path) -> Result<Self> {
        Ok(Self { is_owners: true, ..Self::open(path)? })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory's own.
    pub fn metadata(&self) -> Result<Metadata> {
        self.root.metadata()
    }

    fn at(&self, name: &str, flags: OFlags) -> Result<File> {
        self.at_with(name, flags, Mode::empty())
    }

    fn at_with(&self, name: &str, flags: OFlags, mode: Mode) -> Result<File> {
        let way = match fault::planted("shared-follows-links") {
            true => ResolveFlags::empty(),
            false => ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
        };
        // Nothing is waited for: a pipe opens at once, and is no regular file.
        let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        match openat2(&self.root, name, flags, mode, way) {
            Ok(file) => Ok(File::from(file)),
            Err(Errno::LOOP | Errno::XDEV) => Err(odd("it is a link, or a link leads to it")),
            Err(error) => Err(error.into()),
        }
    }

    /// A folder below it, if it exists.
    /// Errors: `InvalidInput` for a link or anything else that is not a folder.
    fn folder(&self, name: &str) -> Result<Option<File>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        match self.at(if name.is_empty() { "." } else { name }, flags) {
            Ok(folder) => Ok(Some(folder)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind() == ErrorKind::NotADirectory => Err(odd("it is not a folder")),
            Err(error) => Err(error),
        }
    }

    /// Opens a regular file to read, if it exists.
    /// Errors: `InvalidInput` for anything else.
    pub fn file(&self, name: &str) -> Result<Option<File>> {
        let file = match self.at(name, OFlags::RDONLY) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            // A socket cannot be opened.
            Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => return Err(odd(NO_FILE)),
            Err(error) => return Err(error),
        };
        if file.metadata()?.is_file() { Ok(Some(file)) } else { Err(odd(NO_FILE)) }
    }

    /// Reads a file of no more than `most` bytes, if it exists.
    /// Errors: `InvalidInput` for a larger one, and as [`Shared::file`].
    pub fn read(&self, name: &str, most: u64) -> Result<Option<Vec<u8>>> {
        let Some(file) = self.file(name)? else { return Ok(None) };
        let mut bytes = Vec::new();
        // One that is much larger and has nothing in it costs no memory.
        let size = file.metadata()?.len();
        if size <= most {
            file.take(most + 1).read_to_end(&mut bytes)?;
        }
        match size > most || bytes.len() as u64 > most {
            true => Err(odd(&format!("it is larger than {most} bytes"))),
            false => Ok(Some(bytes)),
        }
    }

    /// Writes a file, which gets its name when it is whole, and on the disk where it is to outlast a power cut. Folders that are
    /// missing are made with the mode `of_folders`.
    /// Errors: Those of the operating system, as [`Shared::file`], and those of `fill`; nothing is left then.
    pub fn write(
        &self,
        name: &str,
        (of_folders, of_file): (u32, u32),
        durability: Durability,
        fill: &mut dyn FnMut(&mut File) -> Result<()>,
    ) -> Result<()> {
        let (above, last) = name.rsplit_once('/').unwrap_or(("", name));
        let folder = self.make_folders(above, of_folders)?;
        self.sweep(above, &folder)?;
        let aside = format!("{TEMPORARY}{}", random()?);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = if self.is_owners { of_file } else { 0o600 };
        let mut file = File::from(rustix::fs::openat(&folder, aside.as_str(), flags, Mode::from_raw_mode(mode))?);
        // Others of this user see by it that it is being written.
        let _ = file.try_lock();
        let mut written = || -> Result<()> {
            fill(&mut file)?;
            self.make_own(&file, of_file)?;
            if durability == Durability::PowerCut {
                file.sync_all()?;
            }
            renameat(&folder, aside.as_str(), &folder, last)?;
            if durability == Durability::Kill {
                return Ok(());
            }
            match folder.sync_all() {
                Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Ok(()),
                done => done,
            }
        };
        let done = written();
        if done.is_err() {
            let _ = unlinkat(&folder, aside.as_str(), AtFlags::empty());
        }
        done
    }

    fn make_folders(&self, name: &str, mode: u32) -> Result<File> {
        let mut at = String::new();
        let mut folder = self.root.try_clone()?;
        for part in name.split('/').filter(|part| !part.is_empty()) {
            let made = mkdirat(&folder, part, Mode::from_raw_mode(if self.is_owners { mode } else { 0o700 }));
            at = join(&at, part);
            folder = match made {
                Ok(()) | Err(Errno::EXIST) => self.folder(&at)?.ok_or(ErrorKind::NotFound)?,
                Err(error) => return Err(error.into()),
            };
            // One that a killed writer made has not its mode yet: no one else could use it.
            if made.is_ok() || self.is_half_made(&folder)? {
                self.make_own(&folder, mode)?;
            }
        }
        Ok(folder)
    }

    fn is_half_made(&self, folder: &File) -> Result<bool> {
        let found = folder.metadata()?;
        let own = rustix::process::geteuid().as_raw();
        Ok(found.uid() == own && found.mode() & 0o7777 == 0o700 && !self.is_owners)
    }

    /// Gives something that this process just made the mode and the owner that it is to have.
    fn make_own(&self, file: &File, mode: u32) -> Result<()> {
        match self.is_owners {
            true => {
                self.give(file)?;
                match self.has_modes {
                    true => file.set_permissions(std::fs::Permissions::from_mode(mode)),
                    false => Ok(()),
                }
            }
            false if fault::planted("cache-modes-of-umask") => Ok(()),
            false => file.set_permissions(std::fs::Permissions::from_mode(mode)),
        }
    }

    /// Removes what killed processes of this user left in a folder; once in each.
    fn sweep(&self, name: &str, folder: &File) -> Result<()> {
        static SWEPT: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
        if !SWEPT.lock().is_ok_and(|mut swept| swept.insert(self.path.join(name))) {
            return Ok(());
        }
        for entry in list(folder)? {
            let is_half = entry.name.starts_with(TEMPORARY) && entry.is_own();
            if is_half
                && let Ok(Some(file)) = self.file(&join(name, &entry.name))
                && file.try_lock().is_ok()
            {
                let _ = unlinkat(folder, entry.name.as_str(), AtFlags::empty());
            }
        }
        Ok(())
    }

    /// What is in a folder; nothing where it does not exist.
    /// Errors: As for [`Shared::file`].
    pub fn list(&self, name: &str) -> Result<Vec<Entry>> {
        self.folder(name)?.map_or(Ok(Vec::new()), |folder| list(&folder))
    }

    /// Removes a file; whether it was there. A link goes, and not what it leads to.
    /// Errors: Those of the operating system; `InvalidInput` where a link leads to its folder.
    pub fn remove(&self, name: &str) -> Result<bool> {
        let (above, last) = name.rsplit_once('/').unwrap_or(("", name));
        let Some(folder) = self.folder(above)? else { return Ok(false) };
        match unlinkat(&folder, last, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Notes that a file was used now, where this user may. One of another user takes this time, and no other.
    pub fn touch(&self, name: &str) {
        use rustix::fs::{Timespec, Timestamps, UTIME_NOW, futimens};
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let file = self.at(name, OFlags::WRONLY).ok();
        if let Some(file) = file.filter(|file| file.metadata().is_ok_and(|found| found.is_file())) {
            let _ = futimens(&file, &Timestamps { last_access: now, last_modification: now });
        }
    }
}

/// A name below a folder, or below the root.
fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

const NO_FILE: &str = "it is not a regular file";

impl Entry {
    /// Whether it is a regular file of this user.
    pub fn is_own(&self) -> bool {
        let own = rustix::process::geteuid().as_raw();
        matches!(self.metadata, Found::File { owner, .. } if owner == own)
    }
}

fn list(folder: &File) -> Result<Vec<Entry>> {
    let mut all = Vec::new();
    for entry in rustix::fs::Dir::read_from(folder)? {
        let name = entry?.file_name().to_owned();
        if [&b"."[..], b".."].contains(&name.to_bytes()) {
            continue;
        }
        // Someone else may remove it meanwhile.
        let Ok(found) = rustix::fs::statat(folder, &name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        let seconds = std::time::Duration::from_secs(u64::try_from(found.st_mtime).unwrap_or(0));
        let metadata = match rustix::fs::FileType::from_raw_mode(found.st_mode) {
            rustix::fs::FileType::RegularFile => Found::File {
                size: u64::try_from(found.st_size).unwrap_or(0),
                modified: std::time::UNIX_EPOCH.checked_add(seconds).unwrap_or(std::time::UNIX_EPOCH),
                owner: found.st_uid,
            },
            rustix::fs::FileType::Directory => Found::Folder,
            _ => Found::Other,
        };
        all.push(Entry { name: name.to_string_lossy().into_owned(), metadata });
    }
    all.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(all)
}

fn random() -> Result<String> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(data_encoding::HEXLOWER.encode(&bytes))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nothing_is_read_written_or_removed_through_a_link() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        std::fs::create_dir_all(at("other")).unwrap();
        std::fs::create_dir_all(at("root/v1/real")).unwrap();
        std::fs::write(at("other/precious"), "precious").unwrap();
        symlink(at("other"), at("root/v1/linked")).unwrap();
        symlink(at("other/precious"), at("root/v1/real/link")).unwrap();
        symlink("real/link", at("root/v1/inside")).unwrap();
        symlink(at("root"), at("way")).unwrap();
        // The way to the root is the administrator's.
        let root = Shared::open(&at("way")).unwrap();
        let refused = |error: Error| assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        for name in ["v1/linked/precious", "v1/real/link", "v1/inside"] {
            refused(root.file(name).unwrap_err());
            refused(root.read(name, 100).unwrap_err());
        }
        refused(root.list("v1/linked").unwrap_err());
        refused(root.remove("v1/linked/precious").unwrap_err());
        let mut fill = |file: &mut File| file.write_all(b"new");
        refused(root.write("v1/linked/new", (0o755, 0o644), Durability::PowerCut, &mut fill).unwrap_err());
        refused(root.write("v1/real/link/new", (0o755, 0o644), Durability::PowerCut, &mut fill).unwrap_err());
        assert!(root.file("../other/precious").is_err());
        // A link in a file's place is replaced, and goes where it is to go.
        root.write("v1/real/link", (0o755, 0o640), Durability::PowerCut, &mut fill).unwrap();
        assert_eq!(root.read("v1/real/link", 3).unwrap().unwrap(), b"new");
        symlink(at("other/precious"), at("root/v1/gone")).unwrap();
        assert!(root.remove("v1/gone").unwrap() && !root.remove("v1/gone").unwrap());
        root.touch("v1/inside");
        assert_eq!(std::fs::read(at("other/precious")).unwrap(), b"precious");
        assert_eq!(std::fs::read_dir(at("other")).unwrap().count(), 1);
        let names: Vec<_> = root.list("v1/real").unwrap().into_iter().map(|entry| entry.name).collect();
        assert_eq!(names, ["link"]);
        assert!(root.list("v1/nothing").unwrap().is_empty() && root.file("v1/nothing").unwrap().is_none());
    }

    #[test]
    fn pipes_are_not_waited_for_and_holes_take_no_memory() {
        let place = tempfile::tempdir().unwrap();
        let root = Shared::open(place.path()).unwrap();
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, place.path().join("pipe"), kind, Mode::RWXU, 0).unwrap();
        assert!(root.read("pipe", 10).unwrap_err().to_string().contains("not a regular file"));
        assert!(root.file(".").is_err());
        root.touch("pipe");
        File::create(place.path().join("holes")).unwrap().set_len(20 << 30).unwrap();
        assert!(root.read("holes", 64 << 20).unwrap_err().to_string().contains("larger than"));
        // What is given up leaves nothing, and what a killed one left goes.
        std::fs::create_dir(place.path().join("a")).unwrap();
        std::fs::write(place.path().join(format!("a/{TEMPORARY}dead")), "half").unwrap();
        let mut failing = |_: &mut File| Err(Error::from(ErrorKind::StorageFull));
        assert_eq!(
            root.write("a/x", (0o755, 0o644), Durability::Kill, &mut failing).unwrap_err().kind(),
            ErrorKind::StorageFull
        );
        assert!(root.list("a").unwrap().is_empty());
        let left = place.path().join(format!("{TEMPORARY}of-the-root"));
        std::fs::write(&left, "half").unwrap();
        root.write("y", (0o755, 0o644), Durability::Kill, &mut |_| Ok(())).unwrap();
        assert!(!left.exists());
    }

    #[test]
    fn a_folder_that_a_killed_writer_made_gets_its_mode() {
        let place = tempfile::tempdir().unwrap();
        let root = Shared::open(place.path()).unwrap();
        let mode = |name: &str| place.path().join(name).metadata().unwrap().mode() & 0o7777;
        for name in ["v1", "v1/objects", "v1/objects/aa"] {
            std::fs::create_dir(place.path().join(name)).unwrap();
            std::fs::set_permissions(place.path().join(name), PermissionsExt::from_mode(0o700)).unwrap();
        }
        root.write("v1/objects/aa/x", (0o2775, 0o664), Durability::Kill, &mut |_| Ok(())).unwrap();
        assert_eq!(["v1", "v1/objects", "v1/objects/aa"].map(mode), [0o2775; 3]);
        // One that was narrowed since is as it is meant to be.
        std::fs::set_permissions(place.path().join("v1/objects"), PermissionsExt::from_mode(0o750)).unwrap();
        root.write("v1/objects/aa/y", (0o2775, 0o664), Durability::Kill, &mut |_| Ok(())).unwrap();
        assert_eq!(mode("v1/objects"), 0o750);
    }
}
