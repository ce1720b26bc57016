//! Whether layers are what their manifests say. Runs inside.
//!
//! Two depths. Reading hashes every file. Looking compares what `stat` says (kind, mode, owner, size, time) of everything in
//! the directory with the manifest, and reads only what was touched after the manifest got its name: a file's ctime cannot
//! be set back. So a layer that nobody touched costs one `stat` an entry before it is used, and no byte of it is read.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Mutex;

use rayon::prelude::*;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::{Entry, Kind, Manifest, Store, scan};
use crate::digest::Digest;
use crate::failure::DAMAGED;
use crate::name::{bytes_of, text_of};

/// How closely a layer is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// What `stat` says, and the content of what was touched later.
    Look,
    /// All content and attributes.
    Read,
}

/// A layer that is not what it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedLayer {
    /// The layer.
    pub layer: Digest,
    /// A path in it, and what is wrong with it.
    pub problem: String,
}

/// Compares the directories of layers with their manifests, content too; gives those that differ.
pub fn check_layers(layers: &[Digest]) -> Vec<DamagedLayer> {
    let check = |layer: &Digest| check_layer(layer, &read_manifest(layer)?, Depth::Read);
    layers
        .par_iter()
        .filter_map(|layer| check(layer).err().map(|problem| DamagedLayer { layer: *layer, problem }))
        .collect()
}

fn read_manifest(layer: &Digest) -> Result<Manifest, String> {
    let bytes = std::fs::read(Store::manifest_name(layer)).map_err(|error| format!("its manifest: {error}"))?;
    if Digest::of(&bytes) != *layer {
        return Err("its manifest was changed".to_owned());
    }
    let text = String::from_utf8(bytes).map_err(|_| "its manifest is no UTF-8".to_owned())?;
    Manifest::parse(&text).map_err(|error| format!("its manifest: {error}"))
}

/// Reads the manifest of a layer.
///
/// # Errors
/// A text that says that the store is damaged, with the layer.
pub fn manifest_of(layer: &Digest) -> Result<Manifest, String> {
    read_manifest(layer).map_err(|problem| damaged(layer, &problem))
}

fn damaged(layer: &Digest, problem: &str) -> String {
    format!("{DAMAGED}: in the layer {}, {problem}", layer.short())
}

/// Names the directories of layers, lowest first, for whoever mounts them: each is looked at once in this process.
///
/// # Errors
/// A text with the layer and the path that is not what it was.
pub fn lower_directories(layers: &[Digest]) -> Result<Vec<String>, String> {
    static LOOKED_AT: Mutex<BTreeSet<Digest>> = Mutex::new(BTreeSet::new());
    let mut known = LOOKED_AT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    for layer in layers {
        if !known.contains(layer) {
            check_layer(layer, &manifest_of(layer)?, Depth::Look).map_err(|problem| damaged(layer, &problem))?;
            known.insert(*layer);
        }
    }
    Ok(layers.iter().map(Store::tree_name).collect())
}

/// What a directory of a layer must hold.
#[derive(Default)]
struct Expected<'m> {
    /// Entries by name: those of the manifest, and directories that only lead to some.
    names: BTreeMap<&'m str, Option<&'m Entry>>,
}

/// Compares a layer's directory with its manifest. Of directories that the manifest does not name nothing is known but that
/// they are directories: the same layer may have come of two stacks in which they differ.
///
/// # Errors
/// A path, and what is wrong with it.
pub fn check_layer(layer: &Digest, manifest: &Manifest, depth: Depth) -> Result<(), String> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = rustix::fs::open(Store::tree_name(layer).as_str(), flags, Mode::empty())
        .map_err(|error| format!("its directory cannot be opened: {error}"))?;
    let name = Store::manifest_name(layer);
    let sealed = rustix::fs::stat(name.as_str()).map_err(|error| format!("its manifest: {error}"))?;
    let look = Look { root: &root, sealed: (sealed.st_ctime, sealed.st_ctime_nsec), depth };
    let top = rustix::fs::fstat(&root).map_err(|error| format!("its directory: {error}"))?;
    manifest
        .0
        .get(".")
        .map_or(Ok(()), |entry| as_said(&root, ".", &top, entry, depth == Depth::Read))
        .map_err(|problem| format!("`.` {problem}"))?;
    let directories = directories(manifest);
    let outcomes: Vec<Result<bool, String>> =
        directories.par_iter().map(|(path, expected)| look.directory(path, expected)).collect();
    let mut touched = false;
    let mut wrong: Option<String> = None;
    for outcome in outcomes {
        match outcome {
            Ok(some) => touched |= some,
            Err(problem) => wrong = Some(wrong.map_or(problem.clone(), |known: String| known.min(problem))),
        }
    }
    if let Some(problem) = wrong {
        return Err(problem);
    }
    if touched {
        // A store that was copied has new times everywhere: what was read once need not be read again.
        let now = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        let _ = rustix::fs::utimensat(rustix::fs::CWD, name.as_str(), &times, AtFlags::SYMLINK_NOFOLLOW);
    }
    Ok(())
}

/// All directories of a layer's tree with what they must hold.
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
    fn directory(&self, path: &str, expected: &Expected<'_>) -> Result<bool, String> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let said = |error: Errno| format!("`{path}` {}", gone(error));
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
            let said = |problem: String| format!("`{child}` {problem}");
            let stat = rustix::fs::statat(&directory, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|error| said(gone(error)))?;
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
                    return Err(said("is of another kind".to_owned()));
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
            return Err(format!("`{slash}{missing}` is gone"));
        }
        Ok(touched)
    }

    /// A directory that no entry of the manifest lies in: overlayfs makes them, and nothing may be in them.
    fn only_directories(&self, parent: &OwnedFd, name: &std::ffi::CStr, stat: &Stat) -> Result<(), String> {
        let stranger = || Err("is not in its manifest".to_owned());
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return stranger();
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = rustix::fs::openat2(parent, name, flags, Mode::empty(), RESOLVE).map_err(gone)?;
        for entry in Dir::read_from(&directory).map_err(gone)? {
            let entry = entry.map_err(gone)?;
            if matches!(entry.file_name().to_bytes(), b"." | b"..") {
                continue;
            }
            let stat = rustix::fs::statat(&directory, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW).map_err(gone)?;
            self.only_directories(&directory, entry.file_name(), &stat)?;
        }
        Ok(())
    }
}

fn gone(error: Errno) -> String {
    match error {
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP => "is gone".to_owned(),
        error => format!("cannot be read: {error}"),
    }
}

fn as_said(parent: &OwnedFd, name: &str, stat: &Stat, entry: &Entry, fully: bool) -> Result<(), String> {
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
        return Err("is of another kind".to_owned());
    }
    let is_link = kind == FileType::Symlink;
    if (stat.st_mode & 0o7777 != entry.mode && !is_link) || stat.st_uid != entry.uid || stat.st_gid != entry.gid {
        return Err("has another mode or owner".to_owned());
    }
    if let Kind::File { size, .. } = entry.kind
        && stat.st_size as u64 != size
    {
        return Err(format!("has other content ({} bytes instead of {size})", stat.st_size));
    }
    if fully {
        content(parent, name, entry)?;
    }
    if stat.st_mtime == entry.mtime { Ok(()) } else { Err("has another time".to_owned()) }
}

fn whiteout(kind: FileType, stat: &Stat) -> Result<(), String> {
    let is_one = kind == FileType::CharacterDevice && stat.st_rdev == 0;
    is_one.then_some(()).ok_or_else(|| "is no mark".to_owned())
}

fn content(parent: &OwnedFd, name: &str, entry: &Entry) -> Result<(), String> {
    match &entry.kind {
        Kind::File { digest, size } => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
            let file = rustix::fs::openat2(parent, &*bytes_of(name), flags, Mode::empty(), RESOLVE).map_err(gone)?;
            let (xattrs, _) = scan::read_xattrs(file.as_fd()).map_err(gone)?;
            let mut hasher = blake3::Hasher::new();
            let read = hasher.update_reader(std::fs::File::from(file)).map_err(|error| error.to_string())?.count();
            if read != *size || Digest(*hasher.finalize().as_bytes()) != *digest {
                return Err("has other content".to_owned());
            }
            if xattrs != entry.xattrs {
                return Err("has other extended attributes".to_owned());
            }
        }
        Kind::Symlink(target) => {
            let found = rustix::fs::readlinkat(parent, &*bytes_of(name), Vec::new()).map_err(gone)?;
            if found.to_bytes() != &*bytes_of(target) {
                return Err("points elsewhere".to_owned());
            }
        }
        Kind::Directory => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let directory =
                rustix::fs::openat2(parent, &*bytes_of(name), flags, Mode::empty(), RESOLVE).map_err(gone)?;
            let (xattrs, _) = scan::read_xattrs(directory.as_fd()).map_err(gone)?;
            if xattrs != entry.xattrs {
                return Err("has other extended attributes".to_owned());
            }
        }
        _ => {}
    }
    Ok(())
}
