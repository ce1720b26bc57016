//! Whether layers are what their manifests say. Runs inside.
//!
//! Two depths. Reading hashes every file. Looking compares what `stat` says (kind, mode, owner, size, time) of everything in
//! the directory with the manifest, and reads only what was touched after the manifest got its name: a file's ctime cannot
//! be set back. So a layer that no one touched costs one `stat` an entry before it is used, and no byte of it is read.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::fd::{AsFd, OwnedFd};

use rayon::prelude::*;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::{looked_at, read, scan};
use crate::{Entry, Kind, Manifest, Store};
use base::digest::Digest;
use base::failure::{DAMAGED, Failure};
use node_words::name::{bytes_of, shown, text_of};

/// How closely a layer is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// What `stat` says, and the content of what was touched later.
    Look,
    /// All content and attributes.
    Read,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedLayer {
    pub layer: Digest,
    /// A path in it, and what is wrong with it.
    pub problem: String,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wrong {
    /// It does not match its manifest: anyone who needs it makes it again.
    Damaged(String),
    /// It could not be compared, for want of memory or of files that may be open; it may well be whole.
    Unread(String),
}

impl Wrong {
    /// The kernel's answer about something that should be there.
    fn of(error: Errno) -> Self {
        match error {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP => Self::Damaged("is missing".to_owned()),
            Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS => {
                Self::Unread(format!("cannot be read: {error}"))
            }
            error => Self::Damaged(format!("cannot be read: {error}")),
        }
    }

    pub(super) fn of_io(error: &std::io::Error) -> Self {
        Errno::from_io_error(error).map_or_else(|| Self::Damaged(error.to_string()), Self::of)
    }

    /// The same with the place before it.
    pub(super) fn at(self, place: &str) -> Self {
        match self {
            Self::Damaged(problem) => Self::Damaged(format!("{place} {problem}")),
            Self::Unread(problem) => Self::Unread(format!("{place} {problem}")),
        }
    }

    pub(crate) fn message(&self, layer: &Digest) -> String {
        match self {
            Self::Damaged(problem) => {
                Failure::Damaged.met(format!("{DAMAGED}: in the layer {}", layer.short())) + ", " + problem
            }
            Self::Unread(problem) => format!("cannot check the layer {}: {problem}", layer.short()),
        }
    }
}

/// Compares the directories of layers with their manifests, content too; gives those that differ.
/// Errors: A text when one could not be compared.
pub fn check_layers(layers: &[Digest]) -> Result<Vec<DamagedLayer>, String> {
    let depth = if fault::planted("damage-not-seen") { Depth::Look } else { Depth::Read };
    let check = |layer: &Digest| check_layer(layer, &read::of_store(layer)?, depth);
    let outcomes = layers.par_iter().map(|layer| match check(layer) {
        Ok(()) => Ok(None),
        Err(Wrong::Damaged(problem)) => Ok(Some(DamagedLayer { layer: *layer, problem })),
        Err(wrong) => Err(wrong.message(layer)),
    });
    Ok(outcomes.collect::<Result<Vec<_>, String>>()?.into_iter().flatten().collect())
}

/// Names the directories of layers, lowest first, for anyone who mounts them: each is looked at once in a build.
/// Errors: A text with the layer and the path that is not what it was.
pub fn lower_directories(layers: &[Digest]) -> Result<Vec<String>, String> {
    let known = looked_at::all();
    let look = |layer: &Digest| {
        check_layer(layer, &read::manifest_of(layer)?, Depth::Look).map_err(|wrong| wrong.message(layer))
    };
    let new: BTreeSet<Digest> = layers.iter().filter(|layer| !known.contains(*layer)).copied().collect();
    new.par_iter().map(look).collect::<Result<(), String>>()?;
    looked_at::add(new);
    Ok(each_once(layers).map(Store::tree_name).collect())
}

/// Overlayfs takes no directory twice. What a layer says again further up it need not say further down.
fn each_once(layers: &[Digest]) -> impl Iterator<Item = &Digest> {
    let is_last = |at: usize, layer: &Digest| !layers[at + 1..].contains(layer);
    layers.iter().enumerate().filter(move |(at, layer)| is_last(*at, layer)).map(|(_, layer)| layer)
}

#[derive(Default)]
struct Expected<'m> {
    /// Entries by name: those of the manifest, and directories that only lead to some.
    names: BTreeMap<&'m str, Option<&'m Entry>>,
}

/// Compares a layer's directory with its manifest. Nothing is known about directories that the manifest does not name, except that
/// they are directories: the same layer may have come of two stacks in which they differ.
/// Errors: A path, and what is wrong with it.
pub(crate) fn check_layer(layer: &Digest, manifest: &Manifest, depth: Depth) -> Result<(), Wrong> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = rustix::fs::open(Store::tree_name(layer).as_str(), flags, Mode::empty())
        .map_err(|error| Wrong::of(error).at("its directory"))?;
    let name = Store::manifest_name(layer);
    let sealed = rustix::fs::stat(name.as_str()).map_err(|error| Wrong::of(error).at("its manifest"))?;
    let look = Look { root: &root, sealed: (sealed.st_ctime, sealed.st_ctime_nsec), depth };
    let top = rustix::fs::fstat(&root).map_err(|error| Wrong::of(error).at("its directory"))?;
    manifest
        .0
        .get(".")
        .map_or(Ok(()), |entry| as_said(&root, ".", &top, entry, depth == Depth::Read))
        .map_err(|wrong| wrong.at("`.`"))?;
    let directories = directories(manifest);
    let outcomes: Vec<Result<bool, Wrong>> =
        directories.par_iter().map(|(path, expected)| look.directory(path, expected)).collect();
    let mut touched = false;
    let mut first: Option<Wrong> = None;
    for outcome in outcomes {
        match outcome {
            Ok(some) => touched |= some,
            Err(wrong) => first = Some(first.map_or(wrong.clone(), |known| known.min(wrong))),
        }
    }
    if let Some(wrong) = first {
        return Err(wrong);
    }
    if touched {
        // A store that was copied has new times everywhere: what was read once need not be read again.
        let now = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        let _ = rustix::fs::utimensat(rustix::fs::CWD, name.as_str(), &times, AtFlags::SYMLINK_NOFOLLOW);
    }
    Ok(())
}

fn directories(manifest: &Manifest) -> Vec<(&str, Expected<'_>)> {
    let mut found: HashMap<&str, Expected<'_>> = HashMap::new();
    found.entry(".").or_default();
    for (path, entry) in &manifest.0 {
        if entry.is_directory() {
            found.entry(path).or_default();
        }
        if path == "." {
            continue;
        }
        let (parent, name) = path.rsplit_once('/').unwrap_or((".", path));
        found.entry(parent).or_default().names.insert(name, Some(entry));
        // Those above, up to one that is known.
        let mut above = parent;
        while above != "." {
            let (parent, name) = above.rsplit_once('/').unwrap_or((".", above));
            let names = &mut found.entry(parent).or_default().names;
            if names.contains_key(name) {
                break;
            }
            names.insert(name, manifest.0.get(above));
            above = parent;
        }
    }
    found.into_iter().collect()
}

struct Look<'a> {
    root: &'a OwnedFd,
    /// ctime of the manifest.
    sealed: (i64, u64),
    depth: Depth,
}

/// How paths in a layer are resolved.
const RESOLVE: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);

impl Look<'_> {
    /// Compares what a directory holds; whether something was touched later and had to be read.
    fn directory(&self, path: &str, expected: &Expected<'_>) -> Result<bool, Wrong> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let said = |error: Errno| Wrong::of(error).at(&format!("`{path}`", path = shown(path)));
        let directory =
            rustix::fs::openat2(self.root, &*bytes_of(path), flags, Mode::empty(), RESOLVE).map_err(said)?;
        let mut seen = 0;
        let mut touched = false;
        for entry in Dir::read_from(&directory).map_err(said)? {
            let entry = entry.map_err(said)?;
            if matches!(entry.file_name().to_bytes(), b"." | b"..") {
                continue;
            }
            let name = text_of(entry.file_name().to_bytes());
            let child = if path == "." { name.clone().into_owned() } else { format!("{path}/{name}") };
            let said = |wrong: Wrong| wrong.at(&format!("`{child}`", child = shown(&child)));
            let stat = rustix::fs::statat(&directory, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|error| said(Wrong::of(error)))?;
            let Some(expected) = expected.names.get(&*name) else {
                self.only_directories(&directory, entry.file_name(), &stat).map_err(said)?;
                continue;
            };
            seen += 1;
            let late = (stat.st_ctime, stat.st_ctime_nsec) > self.sealed;
            touched |= late;
            match expected {
                Some(entry) => {
                    let fully = late || self.depth == Depth::Read;
                    as_said(&directory, &name, &stat, entry, fully).map_err(said)?;
                }
                None if FileType::from_raw_mode(stat.st_mode) != FileType::Directory => {
                    return Err(said(Wrong::Damaged("has a different type".to_owned())));
                }
                None => {}
            }
        }
        if seen < expected.names.len() {
            let missing = expected
                .names
                .keys()
                .find(|name| rustix::fs::statat(&directory, &*bytes_of(name), AtFlags::SYMLINK_NOFOLLOW).is_err());
            let missing = missing.copied().unwrap_or_default();
            let slash = if path == "." { String::new() } else { format!("{path}/") };
            return Err(Wrong::Damaged(format!("`{slash}{missing}` is missing")));
        }
        Ok(touched)
    }

    /// A directory that no entry of the manifest lies in: overlayfs makes them, and nothing may be in them.
    fn only_directories(&self, parent: &OwnedFd, name: &std::ffi::CStr, stat: &Stat) -> Result<(), Wrong> {
        let stranger = || Err(Wrong::Damaged("is not in its manifest".to_owned()));
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return stranger();
        }
        // By paths, so that few files are open however deep it is.
        let mut paths = vec![name.to_bytes().to_vec()];
        while let Some(path) = paths.pop() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let directory = rustix::fs::openat2(parent, &*path, flags, Mode::empty(), RESOLVE).map_err(Wrong::of)?;
            for entry in Dir::read_from(&directory).map_err(Wrong::of)? {
                let entry = entry.map_err(Wrong::of)?;
                let name = entry.file_name();
                if matches!(name.to_bytes(), b"." | b"..") {
                    continue;
                }
                let stat = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(Wrong::of)?;
                if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                    return stranger();
                }
                paths.push([&path, &b"/"[..], name.to_bytes()].concat());
            }
        }
        Ok(())
    }
}

fn damaged(problem: &str) -> Wrong {
    Wrong::Damaged(problem.to_owned())
}

fn as_said(parent: &OwnedFd, name: &str, stat: &Stat, entry: &Entry, fully: bool) -> Result<(), Wrong> {
    let kind = FileType::from_raw_mode(stat.st_mode);
    let device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    let same_kind = match &entry.kind {
        Kind::Directory => kind == FileType::Directory,
        Kind::File { .. } => kind == FileType::RegularFile,
        Kind::Symlink(_) => kind == FileType::Symlink,
        Kind::Whiteout => return whiteout(kind, stat),
        Kind::Character(major, minor) => kind == FileType::CharacterDevice && device == (*major, *minor),
        Kind::Block(major, minor) => kind == FileType::BlockDevice && device == (*major, *minor),
        Kind::Fifo => kind == FileType::Fifo,
        Kind::Socket => kind == FileType::Socket,
    };
    if !same_kind {
        return Err(damaged("has a different type"));
    }
    let is_link = kind == FileType::Symlink;
    if (stat.st_mode & 0o7777 != entry.mode && !is_link) || stat.st_uid != entry.uid || stat.st_gid != entry.gid {
        return Err(damaged("has a different mode or owner"));
    }
    if let Kind::File { size, .. } = entry.kind
        && stat.st_size as u64 != size
    {
        return Err(damaged(&format!("has different content ({} bytes instead of {size})", stat.st_size)));
    }
    if fully {
        content(parent, name, entry)?;
    }
    if stat.st_mtime == entry.mtime { Ok(()) } else { Err(damaged("has a different time")) }
}

fn whiteout(kind: FileType, stat: &Stat) -> Result<(), Wrong> {
    let is_one = kind == FileType::CharacterDevice && stat.st_rdev == 0;
    is_one.then_some(()).ok_or_else(|| damaged("is not a whiteout"))
}

fn content(parent: &OwnedFd, name: &str, entry: &Entry) -> Result<(), Wrong> {
    match &entry.kind {
        Kind::File { digest, size } => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
            let file =
                rustix::fs::openat2(parent, &*bytes_of(name), flags, Mode::empty(), RESOLVE).map_err(Wrong::of)?;
            let (xattrs, _) = scan::read_xattrs(file.as_fd()).map_err(Wrong::of)?;
            let mut hasher = blake3::Hasher::new();
            let read = hasher.update_reader(std::fs::File::from(file)).map_err(|error| Wrong::of_io(&error))?.count();
            if read != *size || Digest(*hasher.finalize().as_bytes()) != *digest {
                return Err(damaged("has different content"));
            }
            if xattrs != entry.xattrs {
                return Err(damaged("has different extended attributes"));
            }
        }
        Kind::Symlink(target) => {
            let found = rustix::fs::readlinkat(parent, &*bytes_of(name), Vec::new()).map_err(Wrong::of)?;
            if found.to_bytes() != &*bytes_of(target) {
                return Err(damaged("has a different target"));
            }
        }
        Kind::Directory => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let directory =
                rustix::fs::openat2(parent, &*bytes_of(name), flags, Mode::empty(), RESOLVE).map_err(Wrong::of)?;
            let (xattrs, _) = scan::read_xattrs(directory.as_fd()).map_err(Wrong::of)?;
            if xattrs != entry.xattrs {
                return Err(damaged("has different extended attributes"));
            }
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_that_stands_twice_counts_where_it_stands_last() {
        let [a, b] = [Digest([1; 32]), Digest([2; 32])];
        assert_eq!(each_once(&[a, b, a, b, a]).collect::<Vec<_>>(), [&b, &a]);
        assert_eq!(each_once(&[]).count(), 0);
    }
}
