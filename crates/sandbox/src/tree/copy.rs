//! The second way to assemble a tree: a copy of its layers, where overlayfs cannot be had (D5).
//!
//! What a caller put into the upper directory beforehand wins over the layers, as it does with overlayfs; a whiteout
//! there hides what the layers have.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

use node_words::name::{bytes_of, text_of};

/// Marks of overlayfs, which are not content. Source: kernel, Documentation/filesystems/overlayfs.rst.
const OVERLAY_XATTRS: &[u8] = b"user.overlay.";

struct Copier {
    /// Names of hard-linked files of the layer that is being copied, by inode.
    links: HashMap<(u64, u64), String>,
    /// Directories whose owner and mode come from a layer, with their times.
    directories: HashMap<String, Timespec>,
    root: OwnedFd,
}

fn open_directory(at: impl AsFd, path: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat2(at, path, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)
}

fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn time_of(stat: &Stat) -> Timestamps {
    let time = Timespec { tv_sec: stat.st_mtime, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

fn child(path: &str, name: &[u8]) -> String {
    let name = text_of(name);
    if path == "." { name.into_owned() } else { format!("{path}/{name}") }
}

/// Copies layers, lowest first, into `upper`; paths are relative to the working directory.
pub(crate) fn copy_layers(lower: &[String], upper: &str) -> Result<(), String> {
    let root = open_directory(rustix::fs::CWD, &bytes_of(upper)).map_err(|error| format!("{upper}: {error}"))?;
    let own = own_entries(&root)?;
    let mut copier = Copier { links: HashMap::new(), directories: HashMap::new(), root };
    for layer in lower {
        copier.links.clear();
        let from = open_directory(rustix::fs::CWD, &bytes_of(layer)).map_err(|error| format!("{layer}: {error}"))?;
        copier.directory(&from, ".", &own)?;
    }
    for (path, kind) in &own {
        if *kind == Own::Whiteout {
            let (parent, name) = path.rsplit_once('/').unwrap_or((".", path));
            let removed = open_directory(&copier.root, &bytes_of(parent))
                .and_then(|parent| rustix::fs::unlinkat(parent, &*bytes_of(name), AtFlags::empty()));
            removed.map_err(|error| format!("cannot hide `{path}`: {error}"))?;
        }
    }
    for (path, time) in &copier.directories {
        // A directory that a later layer took away is no more.
        if let Ok(directory) = open_directory(&copier.root, &bytes_of(path)) {
            let times = Timestamps { last_access: *time, last_modification: *time };
            rustix::fs::futimens(&directory, &times).map_err(|error| format!("`{path}`: {error}"))?;
        }
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Own {
    Directory,
    Other,
    Whiteout,
}

fn own_entries(root: &OwnedFd) -> Result<HashMap<String, Own>, String> {
    let mut found = HashMap::new();
    let mut waiting = vec![".".to_owned()];
    while let Some(path) = waiting.pop() {
        let said = |error: Errno| format!("cannot read `{path}`: {error}");
        let directory = open_directory(root, &bytes_of(&path)).map_err(said)?;
        for entry in Dir::read_from(&directory).map_err(said)? {
            let entry = entry.map_err(said)?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let stat = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(said)?;
            let inner = child(&path, name);
            let kind = match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    waiting.push(inner.clone());
                    Own::Directory
                }
                _ if is_whiteout(&stat) => Own::Whiteout,
                _ => Own::Other,
            };
            found.insert(inner, kind);
        }
    }
    Ok(found)
}

impl Copier {
    fn directory(&mut self, from: &OwnedFd, path: &str, own: &HashMap<String, Own>) -> Result<(), String> {
        let said = |error: Errno| format!("cannot copy `{path}`: {error}");
        let to = open_directory(&self.root, &bytes_of(path)).map_err(said)?;
        if !own.contains_key(path) {
            let stat = rustix::fs::fstat(from).map_err(said)?;
            let owner = (Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)));
            rustix::fs::fchown(&to, owner.0, owner.1).map_err(said)?;
            rustix::fs::fchmod(&to, Mode::from_raw_mode(stat.st_mode & 0o7777)).map_err(said)?;
            copy_xattrs(from, &to).map_err(said)?;
            self.directories.insert(path.to_owned(), Timespec { tv_sec: stat.st_mtime, tv_nsec: 0 });
        }
        for entry in Dir::read_from(from).map_err(said)? {
            let entry = entry.map_err(said)?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let inner = child(path, name);
            let said = |error: Errno| format!("cannot copy `{inner}`: {error}");
            let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW).map_err(said)?;
            let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            match own.get(&inner) {
                Some(Own::Other | Own::Whiteout) => continue,
                Some(Own::Directory) if !is_directory => continue,
                _ => {}
            }
            if is_directory {
                match rustix::fs::mkdirat(&to, name, Mode::from_raw_mode(0o755)) {
                    Ok(()) => {}
                    Err(Errno::EXIST) if open_directory(&to, name).is_ok() => {}
                    Err(Errno::EXIST) => {
                        rustix::fs::unlinkat(&to, name, AtFlags::empty()).map_err(said)?;
                        rustix::fs::mkdirat(&to, name, Mode::from_raw_mode(0o755)).map_err(said)?;
                    }
                    Err(error) => return Err(said(error)),
                }
                let from = open_directory(from, name).map_err(said)?;
                self.directory(&from, &inner, own)?;
                continue;
            }
            remove(&to, name).map_err(said)?;
            if !is_whiteout(&stat) {
                self.other(from, &to, name, &inner, &stat).map_err(said)?;
            }
        }
        Ok(())
    }

    fn other(&mut self, from: &OwnedFd, to: &OwnedFd, name: &[u8], path: &str, stat: &Stat) -> Result<(), Errno> {
        if stat.st_nlink > 1 {
            if let Some(known) = self.links.get(&(stat.st_dev, stat.st_ino)) {
                let (parent, first) = known.rsplit_once('/').unwrap_or((".", known));
                let parent = open_directory(&self.root, &bytes_of(parent))?;
                return rustix::fs::linkat(parent, &*bytes_of(first), to, name, AtFlags::empty());
            }
            self.links.insert((stat.st_dev, stat.st_ino), path.to_owned());
        }
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        let owner = (Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)));
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let input = rustix::fs::openat(from, name, flags, Mode::empty())?;
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let output = rustix::fs::openat(to, name, flags, Mode::from_raw_mode(0o600))?;
                copy_content(&input, &output)?;
                rustix::fs::fchown(&output, owner.0, owner.1)?;
                rustix::fs::fchmod(&output, mode)?;
                copy_xattrs(&input, &output)?;
                return rustix::fs::futimens(&output, &time_of(stat));
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(from, name, Vec::new())?;
                rustix::fs::symlinkat(target, to, name)?;
            }
            kind => rustix::fs::mknodat(to, name, kind, mode, stat.st_rdev)?,
        }
        rustix::fs::chownat(to, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)?;
        rustix::fs::utimensat(to, name, &time_of(stat), AtFlags::SYMLINK_NOFOLLOW)
    }
}

/// Removes what a lower layer put at a name, directories with all below.
fn remove(at: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
    match rustix::fs::unlinkat(at, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {
            let directory = open_directory(at, name)?;
            for entry in Dir::read_from(&directory)? {
                let entry = entry?;
                if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                    remove(&directory, entry.file_name().to_bytes())?;
                }
            }
            rustix::fs::unlinkat(at, name, AtFlags::REMOVEDIR)
        }
        Err(error) => Err(error),
    }
}

/// Shares the blocks where the file system can, else copies.
fn copy_content(input: &OwnedFd, output: &OwnedFd) -> Result<(), Errno> {
    if rustix::fs::ioctl_ficlone(output, input).is_ok() {
        return Ok(());
    }
    loop {
        if rustix::fs::copy_file_range(input, None, output, None, 1 << 30)? == 0 {
            return Ok(());
        }
    }
}

fn copy_xattrs(from: &OwnedFd, to: &OwnedFd) -> Result<(), Errno> {
    let mut names = [0u8; 4096];
    let length = match rustix::fs::flistxattr(from, &mut names) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => 0,
        Err(error) => return Err(error),
    };
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        if name.starts_with(OVERLAY_XATTRS) || name == b"security.selinux" {
            continue;
        }
        let mut value = vec![0u8; 65_536];
        let size = rustix::fs::fgetxattr(from, name, &mut value[..])?;
        rustix::fs::fsetxattr(to, name, &value[..size], XattrFlags::empty())?;
    }
    Ok(())
}
