//! A layer's directory: what its manifest leaves out, and making it.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use crate::layers::scan;
use crate::{Entry, Kind, Manifest, Store};
use base::digest::Digest;
use node_words::name::{bytes_of, shown};

/// How an inside path is resolved: nothing that lies in a layer leads out of it.
const RESOLVE: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);

/// What is said of a content that has another digest.
pub(super) const DAMAGED: &str = "its content does not match the manifest";

/// Opens a directory relative to the working directory.
pub(super) fn open(path: &str) -> Result<OwnedFd, String> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|error| format!("{path}: {error}"))
}

fn directory(at: impl AsFd, path: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat2(at, &*bytes_of(path), flags, Mode::empty(), RESOLVE)
}

/// Opens a regular file of a layer.
/// Errors: The kernel's.
pub(super) fn open_file(root: &OwnedFd, path: &str) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::openat2(root, &*bytes_of(path), flags, Mode::empty(), RESOLVE)?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// The directories that a layer's tree has above its entries and that its manifest does not name.
pub(super) fn skeleton(layer: &Digest, manifest: &Manifest) -> Result<Manifest, String> {
    let root = open(&Store::tree_name(layer))?;
    let mut found = Manifest::default();
    let parents = manifest
        .0
        .keys()
        .flat_map(|path| std::iter::successors(parent_of(path), |path| parent_of(path)).collect::<Vec<_>>());
    for path in parents.chain([".".to_owned()]) {
        if manifest.0.contains_key(&path) || found.0.contains_key(&path) {
            continue;
        }
        let said = |error: Errno| format!("`{path}` of the layer {}: {error}", layer.short(), path = shown(&path));
        let handle = directory(&root, &path).map_err(said)?;
        let stat = rustix::fs::fstat(&handle).map_err(said)?;
        let (xattrs, _) = scan::read_xattrs(handle.as_fd()).map_err(said)?;
        let entry = Entry {
            kind: Kind::Directory,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: stat.st_mtime,
            link_group: None,
            xattrs,
        };
        found.0.insert(path.clone(), entry);
    }
    Ok(found)
}

fn parent_of(path: &str) -> Option<String> {
    match path.rsplit_once('/') {
        Some((parent, _)) => Some(parent.to_owned()),
        None if path == "." => None,
        None => Some(".".to_owned()),
    }
}

/// Makes one layer's tree below a directory.
pub(super) struct TreeMaker {
    root: OwnedFd,
}

impl TreeMaker {
    /// Makes the directory, with the parents' directories already there.
    pub(super) fn new(path: &str) -> Result<Self, String> {
        std::fs::create_dir(path).map_err(|error| format!("{path}: {error}"))?;
        Ok(Self { root: open(path)? })
    }

    fn parent<'p>(&self, path: &'p str) -> Result<(OwnedFd, Cow<'p, [u8]>), Errno> {
        let (parent, name) = path.rsplit_once('/').unwrap_or((".", path));
        // The kernel refuses `..` that leads out; none is needed within.
        if name.is_empty() || name == ".." || name == "." {
            return Err(Errno::INVAL);
        }
        Ok((directory(&self.root, parent)?, bytes_of(name)))
    }

    /// Makes a directory, writable for now; [`TreeMaker::settle`] gives it its mode and time.
    /// Errors: The kernel's.
    pub(super) fn directory(&self, path: &str) -> Result<(), Errno> {
        if path == "." {
            return Ok(());
        }
        let (parent, name) = self.parent(path)?;
        rustix::fs::mkdirat(parent, &*name, Mode::from_raw_mode(0o700))
    }

    /// Makes a regular file out of what `content` gives.
    /// Errors: The kernel's, or that the content is not what the manifest says.
    pub(super) fn file(&self, path: &str, entry: &Entry, content: &mut dyn Read) -> io::Result<()> {
        let Kind::File { size, digest } = entry.kind else { return Err(io::ErrorKind::InvalidInput.into()) };
        let (parent, name) = self.parent(path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(parent, &*name, flags, Mode::from_raw_mode(0o600))?);
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0u8; 1 << 18];
        let mut left = size;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            content.read_exact(&mut buffer[..most])?;
            hasher.update(&buffer[..most]);
            file.write_all(&buffer[..most])?;
            left -= most as u64;
        }
        if Digest(*hasher.finalize().as_bytes()) != digest {
            return Err(io::Error::new(io::ErrorKind::InvalidData, DAMAGED));
        }
        rustix::fs::fchown(&file, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(entry.mode & 0o7777))?;
        for (name, value) in &entry.xattrs {
            rustix::fs::fsetxattr(&file, name.as_str(), value, XattrFlags::empty())?;
        }
        rustix::fs::futimens(&file, &times(entry))?;
        Ok(())
    }

    /// Gives a file another name.
    /// Errors: The kernel's.
    pub(super) fn link(&self, path: &str, other: &str) -> Result<(), Errno> {
        let (from, from_name) = self.parent(other)?;
        let (to, name) = self.parent(path)?;
        rustix::fs::linkat(from, &*from_name, to, &*name, AtFlags::empty())
    }

    /// Makes what is neither directory nor regular file.
    /// Errors: The kernel's; for devices other than a whiteout it has only one.
    pub(super) fn other(&self, path: &str, entry: &Entry) -> Result<(), Errno> {
        let (parent, name) = self.parent(path)?;
        let mode = Mode::from_raw_mode(entry.mode & 0o7777);
        match &entry.kind {
            Kind::Whiteout => {
                return rustix::fs::mknodat(&parent, &*name, FileType::CharacterDevice, Mode::empty(), 0);
            }
            Kind::Symlink(target) => rustix::fs::symlinkat(&*bytes_of(target), &parent, &*name)?,
            Kind::Fifo => rustix::fs::mknodat(&parent, &*name, FileType::Fifo, mode, 0)?,
            Kind::Socket => rustix::fs::mknodat(&parent, &*name, FileType::Socket, mode, 0)?,
            Kind::Character(..) | Kind::Block(..) | Kind::Directory | Kind::File { .. } => return Err(Errno::PERM),
        }
        let owner = (Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)));
        rustix::fs::chownat(&parent, &*name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)?;
        if !matches!(entry.kind, Kind::Symlink(_)) {
            rustix::fs::chmodat(&parent, &*name, mode, AtFlags::empty())?;
        }
        rustix::fs::utimensat(&parent, &*name, &times(entry), AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Gives a directory owner, mode, attributes and time, when all below it is made.
    /// Errors: The kernel's.
    pub(super) fn settle(&self, path: &str, entry: &Entry) -> Result<(), Errno> {
        let handle = directory(&self.root, path)?;
        rustix::fs::fchown(&handle, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))?;
        rustix::fs::fchmod(&handle, Mode::from_raw_mode(entry.mode & 0o7777))?;
        for (name, value) in &entry.xattrs {
            rustix::fs::fsetxattr(&handle, name.as_str(), value, XattrFlags::empty())?;
        }
        rustix::fs::futimens(&handle, &times(entry))
    }
}

fn times(entry: &Entry) -> Timestamps {
    let time = Timespec { tv_sec: entry.mtime, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}
