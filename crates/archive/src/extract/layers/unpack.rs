//! Takes away what a layer takes away, and unpacks it over those below.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, XattrFlags};
use rustix::io::Errno;
use tar::EntryType;

use super::{DEEPEST, LayerLook, Part, part_of};
use crate::extract::{Extractor, Meta, meta_of, times};
use crate::open_tar;
use node_words::name::{bytes_of, shown};

/// Attributes that are not an image's: those that overlayfs or the kernel would obey, and labels, which follow from the policy.
const NOT_TAKEN: [&str; 5] = ["user.overlay.", "trusted.", "security.selinux", "security.ima", "security.evm"];

impl Extractor {
    /// Takes away what a layer takes away, and unpacks it.
    /// Errors: A text with the entry that cannot be made.
    pub fn layer(&mut self, stream: &mut dyn Read, look: &LayerLook) -> Result<(), String> {
        for path in &look.gone {
            self.take_away(path)?;
        }
        for path in &look.emptied {
            self.empty(path)?;
        }
        let mut archive = open_tar(stream);
        for entry in archive.entries().map_err(|error| error.to_string())? {
            let mut entry = entry.map_err(|error| format!("the archive is damaged: {error}"))?;
            let path = entry.path_bytes().into_owned();
            let kind = entry.header().entry_type();
            if kind == EntryType::XGlobalHeader {
                continue;
            }
            let Part::Made(name) = part_of(&path)? else { continue };
            if matches!(kind, EntryType::Char | EntryType::Block) {
                continue;
            }
            self.make_way(&name, kind == EntryType::Directory)?;
            let meta =
                meta_of(&mut entry, &name, |attribute| !NOT_TAKEN.iter().any(|start| attribute.starts_with(start)))?;
            let target = entry.link_name_bytes().map(|target| target.into_owned());
            let target = || target.clone().ok_or_else(|| format!("the link `{}` has no target", shown(&name)));
            let made = match kind {
                EntryType::Directory => self.directory(&path, &meta).and_then(|()| self.attributes(&name, &meta)),
                EntryType::Regular | EntryType::Continuous => self.file(&path, &meta, &mut entry),
                EntryType::Symlink => self.symlink(&path, &target()?, &meta),
                EntryType::Link => self.hard_link(&path, &target()?),
                EntryType::Fifo => self.pipe(&name, &meta),
                other => Err(format!("`{}` is a special file ({other:?})", shown(&name))),
            };
            made.map_err(|said| explained(said, &meta))?;
        }
        // What is gone again has no time.
        let times = std::mem::take(&mut self.directory_times);
        self.directory_times = times.into_iter().filter(|(path, _)| self.open_directory(path).is_ok()).collect();
        self.finish()
    }

    /// The directory of a path, where it is there, and the last part of the name.
    fn place<'p>(&self, path: &'p str) -> Option<(OwnedFd, std::borrow::Cow<'p, [u8]>)> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        Some((self.open_directory(parent).ok()?, bytes_of(name)))
    }

    fn take_away(&mut self, path: &str) -> Result<(), String> {
        self.last_parent = None;
        let Some((parent, name)) = self.place(path) else { return Ok(()) };
        remove(&parent, &name, 0).map_err(|error| format!("cannot remove `{}`: {error}", shown(path)))
    }

    fn empty(&mut self, path: &str) -> Result<(), String> {
        self.last_parent = None;
        let said = |error: Errno| format!("cannot empty `{}`: {error}", shown(path));
        // A link to a directory is itself replaced by a directory that the layer brings.
        let handle = match path {
            "" => self.open_directory("").map_err(said)?,
            path => {
                let Some((parent, name)) = self.place(path) else { return Ok(()) };
                match open_below(&parent, &name) {
                    Ok(handle) => handle,
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
                    Err(error) => return Err(said(error)),
                }
            }
        };
        empty(&handle, 0).map_err(said)
    }

    /// Takes away what stands where something of another kind is to be. A directory over a directory gives it another owner.
    fn make_way(&mut self, path: &str, is_directory: bool) -> Result<(), String> {
        if path.is_empty() {
            return Ok(());
        }
        let Some((parent, name)) = self.place(path) else { return Ok(()) };
        let Ok(stat) = rustix::fs::statat(&parent, &*name, AtFlags::SYMLINK_NOFOLLOW) else { return Ok(()) };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory if is_directory => Ok(()),
            _ => self.take_away(path),
        }
    }

    fn attributes(&self, path: &str, meta: &Meta) -> Result<(), String> {
        if meta.xattrs.is_empty() {
            return Ok(());
        }
        let said = |error: Errno| format!("cannot set the attributes of `{}`: {error}", shown(path));
        let handle = self.open_directory(path).map_err(said)?;
        for (name, value) in &meta.xattrs {
            rustix::fs::fsetxattr(&handle, name.as_str(), value, XattrFlags::empty()).map_err(said)?;
        }
        Ok(())
    }

    fn pipe(&mut self, path: &str, meta: &Meta) -> Result<(), String> {
        let said = |error: Errno| format!("cannot create the pipe `{}`: {error}", shown(path));
        let (parent, name) = self.parent(path).map_err(said)?;
        rustix::fs::mknodat(&parent, &*name, FileType::Fifo, Mode::from_raw_mode(0o600), 0).map_err(said)?;
        let owner = (Some(Uid::from_raw(meta.uid)), Some(Gid::from_raw(meta.gid)));
        rustix::fs::chownat(&parent, &*name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW).map_err(said)?;
        rustix::fs::chmodat(&parent, &*name, Mode::from_raw_mode(meta.mode), AtFlags::empty()).map_err(said)?;
        rustix::fs::utimensat(&parent, &*name, &times(meta.mtime), AtFlags::SYMLINK_NOFOLLOW).map_err(said)
    }

    /// The text of a file, at most so many bytes of it; links are followed within the tree.
    pub fn text(&self, path: &str, most: u64) -> Option<String> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let file = rustix::fs::openat2(&self.root, &*bytes_of(path), flags, Mode::empty(), resolve).ok()?;
        let file = std::fs::File::from(file);
        if !file.metadata().ok()?.is_file() {
            return None;
        }
        let mut bytes = Vec::new();
        file.take(most).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Bytes of a file; links are followed within the tree.
    pub fn size(&self, path: &str) -> Option<u64> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let file = rustix::fs::openat2(&self.root, &*bytes_of(path), flags, Mode::empty(), resolve).ok()?;
        Some(u64::try_from(rustix::fs::fstat(&file).ok()?.st_size).unwrap_or(0))
    }

    pub fn link(&self, path: &str) -> Option<String> {
        let (parent, name) = self.place(path)?;
        let target = rustix::fs::readlinkat(&parent, &*name, Vec::new()).ok()?;
        Some(String::from_utf8_lossy(target.as_bytes()).into_owned())
    }
}

/// Says what the kernel means where an owner is not to be had.
fn explained(said: String, meta: &Meta) -> String {
    const MOST: u32 = 65_535;
    match said.contains("Invalid argument") && (meta.uid > MOST || meta.gid > MOST) {
        true => format!(
            "{said}: it belongs to {}:{}, and this machine has not so many subordinate ids (/etc/subuid, /etc/subgid)",
            meta.uid, meta.gid
        ),
        false => said,
    }
}

fn open_below(parent: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

fn remove(parent: &OwnedFd, name: &[u8], depth: usize) -> Result<(), Errno> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error),
    }
    empty(&open_below(parent, name)?, depth)?;
    rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
}

fn empty(directory: &OwnedFd, depth: usize) -> Result<(), Errno> {
    // Links may have made it deeper than a path says.
    if depth > 4 * DEEPEST {
        return Err(Errno::NAMETOOLONG);
    }
    let names: Vec<Vec<u8>> = Dir::read_from(directory.as_fd())?
        .map(|entry| entry.map(|entry| entry.file_name().to_bytes().to_vec()))
        .collect::<Result<_, _>>()?;
    names
        .iter()
        .filter(|name| !matches!(&name[..], b"." | b".."))
        .try_for_each(|name| remove(directory, name, depth + 1))
}
