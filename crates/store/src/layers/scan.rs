//! Turns a directory that an action wrote into a layer: normalises times, hashes, compares, commits.
//!
//! Runs inside the namespace. Every file is reached from a directory descriptor and no link is followed, because
//! what lies there was written by package scripts.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, LazyLock};

use rayon::prelude::*;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::commit::commit;
use super::looked_at;
use super::read::merged_of;
use crate::{Entry, Kind, Manifest, Merged, layer_between};
use base::device;
use base::digest::Digest;
use node_words::name::{bytes_of, shown, text_of};

/// Marks of overlayfs, which are not content. Source: kernel, Documentation/filesystems/overlayfs.rst.
const OVERLAY_XATTRS: [&str; 2] = ["user.overlay.", "trusted.overlay."];

/// Attributes that the host's own policy adds and that say nothing of the image.
const HOST_XATTRS: [&str; 3] = ["security.selinux", "security.ima", "security.evm"];

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ScanRequest {
    /// The directory, relative to the store's.
    pub tree: String,
    pub base: Vec<Digest>,
    /// No time in the layer is later than this, in seconds since 1970.
    pub epoch: i64,
    /// Whether the directory holds the whole tree, and not only what differs from the layers below.
    pub whole: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ScanAnswer {
    /// Digest of its manifest; its name in the store.
    pub layer: Digest,
    pub entries: u64,
    /// Bytes in its regular files.
    pub bytes: u64,
    /// Device nodes that were to be in it and that it does not have, each as a line of tmpfiles.d(5).
    #[serde(default)]
    pub devices: Vec<String>,
}

struct Found {
    path: String,
    stat: Stat,
    xattrs: BTreeMap<String, Vec<u8>>,
    link: Option<String>,
    opaque: bool,
}

/// Makes a layer of a directory and moves it to its place in the store.
/// Errors: A text for the person: a name that is not UTF-8, a tree too deep, or an I/O error with its path.
pub fn scan(request: &ScanRequest) -> Result<ScanAnswer, String> {
    scan_knowing(request, &BTreeMap::new())
}

/// The same, where the digests of some files are known, by their paths: these are not read.
/// Errors: As [`scan`].
pub fn scan_knowing(request: &ScanRequest, known: &BTreeMap<String, Digest>) -> Result<ScanAnswer, String> {
    let before = merged_of(&request.base)?;
    let root = open_directory(rustix::fs::CWD, &request.tree).map_err(|error| format!("{}: {error}", request.tree))?;
    let mut found = collect(&root)?;
    found.sort_by(|a, b| a.path.cmp(&b.path));
    fault::point("scan.listed");
    let mut digests = hash_files(&root, &found, known)?;
    fault::point("scan.hashed");
    let (devices, stand_ins) = take_devices(&mut found, &mut digests);
    let whole = request.whole && !request.base.is_empty();
    let is_directory = |file: &Found| FileType::from_raw_mode(file.stat.st_mode) == FileType::Directory;
    let changes = found.iter().map(|file| (file.path.as_str(), file.opaque || !is_directory(file)));
    let before = if whole { before } else { Arc::new(before.part(changes)) };
    let start = if whole { Merged::default() } else { (*before).clone() };
    let (after, unchanged) = lay_over(&before, start, whole, &found, &digests, request.epoch)?;
    let layer = layer_between(&before, &after);
    open_up(&root, &found, &layer)?;
    remove_unchanged(&root, &stand_ins)?;
    remove_unchanged(&root, &unchanged)?;
    if whole {
        reduce(&root, &found, &layer)?;
    }
    set_times(&root, &found, &unchanged, request.epoch)?;
    fault::point("scan.settled");
    let (digest, _) = commit(&request.tree, &layer.to_text())?;
    looked_at::add([digest]);
    Ok(ScanAnswer { layer: digest, entries: layer.0.len() as u64, bytes: layer.file_bytes(), devices })
}

/// Takes out what stands for device nodes: lines of tmpfiles.d(5), and the paths.
fn take_devices(found: &mut Vec<Found>, digests: &mut HashMap<usize, Digest>) -> (Vec<String>, Vec<String>) {
    static STAND_INS: LazyLock<HashMap<Digest, (u32, u32)>> = LazyLock::new(|| {
        device::common().map(|(a, b)| (Digest::of(device::stand_in(a, b).as_bytes()), (a, b))).collect()
    });
    let of = |index: usize| digests.get(&index).and_then(|digest| STAND_INS.get(digest));
    if fault::planted("device-stand-in-stays") || !(0..found.len()).any(|index| of(index).is_some()) {
        return Default::default();
    }
    let (mut kept, mut hashed, mut lines, mut paths) = (Vec::new(), HashMap::new(), Vec::new(), Vec::new());
    for (index, file) in std::mem::take(found).into_iter().enumerate() {
        if let Some((major, minor)) = of(index) {
            let stat = &file.stat;
            let (path, mode) = (shown(&file.path), stat.st_mode & 0o7777);
            lines.push(format!("c /{path} {mode:04o} {} {} - {major}:{minor}", stat.st_uid, stat.st_gid));
            paths.push(file.path);
        } else {
            hashed.extend(digests.get(&index).map(|digest| (kept.len(), *digest)));
            kept.push(file);
        }
    }
    (*found, *digests) = (kept, hashed);
    (lines, paths)
}

fn open_directory(at: impl AsFd, path: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let path = bytes_of(path);
    rustix::fs::openat2(at, &*path, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)
}

fn child_path(parent: &str, name: &str) -> String {
    if parent == "." { name.to_owned() } else { format!("{parent}/{name}") }
}

/// Finds everything below a directory. Each directory is opened by its path from the root, so that a deep tree takes no more
/// open files than a flat one.
fn collect(root: &OwnedFd) -> Result<Vec<Found>, String> {
    let mut found = Vec::new();
    let mut waiting = vec![".".to_owned()];
    while let Some(path) = waiting.pop() {
        let said = |error: Errno| match error {
            // The kernel's PATH_MAX: what cannot be named cannot be unpacked on a node either.
            Errno::NAMETOOLONG => format!("`{}` is longer than the limit of 4095 bytes", shown(&shortened(&path))),
            error => format!("cannot read `{}`: {error}", shortened(&path)),
        };
        let directory = open_directory(root, &path).map_err(said)?;
        let stat = rustix::fs::fstat(&directory).map_err(said)?;
        let (xattrs, opaque) = read_xattrs(directory.as_fd()).map_err(said)?;
        for entry in Dir::read_from(&directory).map_err(said)? {
            let entry = entry.map_err(said)?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let child = child_path(&path, &text_of(name.to_bytes()));
            let said = |error: Errno| format!("cannot read `{}`: {error}", shortened(&child));
            let stat = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(said)?;
            let mut one = Found { path: child.clone(), stat, xattrs: BTreeMap::new(), link: None, opaque: false };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    waiting.push(child);
                    continue;
                }
                FileType::Symlink => {
                    let target = rustix::fs::readlinkat(&directory, name, Vec::new()).map_err(said)?;
                    one.link = Some(text_of(target.to_bytes()).into_owned());
                }
                FileType::RegularFile => {
                    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
                    let file = rustix::fs::openat(&directory, name, flags, Mode::empty()).map_err(said)?;
                    one.xattrs = read_xattrs(file.as_fd()).map_err(said)?.0;
                }
                _ => {}
            }
            found.push(one);
        }
        found.push(Found { path, stat, xattrs, link: None, opaque });
    }
    Ok(found)
}

/// A path for a message: the end of a very long one.
fn shortened(path: &str) -> String {
    const SHOWN: usize = 200;
    let from = path.char_indices().rev().nth(SHOWN).map_or(0, |(at, _)| at);
    if from == 0 { path.to_owned() } else { format!("...{}", &path[from..]) }
}

/// The attributes that are content, and whether overlayfs marked the directory opaque.
pub(crate) fn read_xattrs(file: BorrowedFd<'_>) -> Result<(BTreeMap<String, Vec<u8>>, bool), Errno> {
    let mut names = [0u8; 4096];
    let length = match rustix::fs::flistxattr(file, &mut names) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => 0,
        Err(error) => return Err(error),
    };
    let mut kept = BTreeMap::new();
    let mut opaque = false;
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let name = String::from_utf8_lossy(name).into_owned();
        if name == "user.overlay.opaque" || name == "trusted.overlay.opaque" {
            opaque = true;
        }
        if OVERLAY_XATTRS.iter().any(|prefix| name.starts_with(prefix)) || HOST_XATTRS.contains(&name.as_str()) {
            continue;
        }
        let mut value = vec![0u8; 65_536];
        let length = rustix::fs::fgetxattr(file, name.as_str(), &mut value[..])?;
        value.truncate(length);
        kept.insert(name, value);
    }
    Ok((kept, opaque))
}

fn hash_files(
    root: &OwnedFd,
    found: &[Found],
    known: &BTreeMap<String, Digest>,
) -> Result<HashMap<usize, Digest>, String> {
    found
        .par_iter()
        .enumerate()
        .filter(|(_, file)| FileType::from_raw_mode(file.stat.st_mode) == FileType::RegularFile)
        .map(|(index, file)| {
            if let Some(digest) = known.get(&file.path) {
                return Ok((index, *digest));
            }
            let handle = open_file(root, &file.path)?;
            let mut hasher = blake3::Hasher::new();
            let read =
                hasher.update_reader(handle).map_err(|error| format!("cannot read `{}`: {error}", file.path))?.count();
            if read != file.stat.st_size as u64 {
                return Err(format!("`{}` changed while it was read", file.path));
            }
            Ok((index, Digest(*hasher.finalize().as_bytes())))
        })
        .collect()
}

fn open_file(root: &OwnedFd, path: &str) -> Result<std::fs::File, String> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    rustix::fs::openat2(root, &*bytes_of(path), flags, Mode::empty(), resolve)
        .map(std::fs::File::from)
        .map_err(|error| format!("cannot open `{path}`: {error}", path = shown(path)))
}

/// Lays what was found over the layers below; also tells which files are exactly as they were there.
fn lay_over(
    before: &Merged,
    mut after: Merged,
    is_whole: bool,
    found: &[Found],
    digests: &HashMap<usize, Digest>,
    epoch: i64,
) -> Result<(Merged, Vec<String>), String> {
    let mut groups: HashMap<(u64, u64), Vec<&str>> = HashMap::new();
    for file in found {
        if file.stat.st_nlink > 1
            && FileType::from_raw_mode(file.stat.st_mode) != FileType::Directory
            && !is_whiteout(file)
        {
            groups.entry((file.stat.st_dev, file.stat.st_ino)).or_default().push(&file.path);
        }
    }
    let mut unchanged = Vec::new();
    let mut below_opaque: Vec<String> = Vec::new();
    for (index, file) in found.iter().enumerate() {
        if is_whiteout(file) {
            after.apply(file.path.clone(), Entry::whiteout(), 0);
            continue;
        }
        if file.opaque {
            after.remove_below(&file.path, false);
            below_opaque.push(format!("{}/", file.path));
        }
        let link_group = groups
            .get(&(file.stat.st_dev, file.stat.st_ino))
            .filter(|names| names.len() > 1 && !file.stat.st_mode.eq(&0))
            .and_then(|names| names.first())
            .map(|name| (*name).to_owned());
        let kind = match FileType::from_raw_mode(file.stat.st_mode) {
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Symlink(file.link.clone().unwrap_or_default()),
            FileType::RegularFile => {
                let digest = *digests.get(&index).ok_or("a file was not hashed")?;
                Kind::File { size: file.stat.st_size as u64, digest }
            }
            FileType::CharacterDevice => {
                Kind::Character(rustix::fs::major(file.stat.st_rdev), rustix::fs::minor(file.stat.st_rdev))
            }
            FileType::BlockDevice => {
                Kind::Block(rustix::fs::major(file.stat.st_rdev), rustix::fs::minor(file.stat.st_rdev))
            }
            FileType::Fifo => Kind::Fifo,
            _ => Kind::Socket,
        };
        let entry = Entry {
            kind,
            mode: file.stat.st_mode & 0o7777,
            uid: file.stat.st_uid,
            gid: file.stat.st_gid,
            mtime: settled(&file.path, file.stat.st_mtime, epoch),
            link_group,
            xattrs: file.xattrs.clone(),
        };
        let same = before.0.get(&file.path).is_some_and(|was| was.entry == entry);
        if same && !entry.is_directory() {
            unchanged.push(file.path.clone());
        }
        // What lies in a directory that was recreated was taken out with the directory's old content.
        if same && !is_whole && !below_opaque.iter().any(|prefix| file.path.starts_with(prefix)) {
            continue;
        }
        after.apply(file.path.clone(), entry, 0);
    }
    Ok((after, unchanged))
}

/// A character device 0:0 stands for a path that is gone. Source: as for [`OVERLAY_XATTRS`].
fn is_whiteout(file: &Found) -> bool {
    FileType::from_raw_mode(file.stat.st_mode) == FileType::CharacterDevice && file.stat.st_rdev == 0
}

/// Turns directories that were recreated into plain ones with whiteouts, so that a layer's tree is a function of its
/// manifest and means the same over any layers below.
fn open_up(root: &OwnedFd, found: &[Found], layer: &Manifest) -> Result<(), String> {
    for file in found.iter().filter(|file| file.opaque) {
        let said = |error: Errno| format!("cannot open up `{}`: {error}", file.path);
        let directory = open_directory(root, &file.path).map_err(said)?;
        for name in ["user.overlay.opaque", "trusted.overlay.opaque"] {
            let _ = rustix::fs::fremovexattr(&directory, name);
        }
        let prefix = format!("{}/", file.path);
        for path in layer.0.iter().filter(|(_, entry)| entry.kind == Kind::Whiteout).map(|(path, _)| path) {
            if !path.starts_with(&prefix) {
                continue;
            }
            let (parent, name) = path.rsplit_once('/').unwrap_or((".", path));
            let parent = open_directory(root, parent).map_err(said)?;
            match rustix::fs::mknodat(&parent, &*bytes_of(name), FileType::CharacterDevice, Mode::empty(), 0) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(said(error)),
            }
        }
    }
    Ok(())
}

/// Removes files that are as they were below.
fn remove_unchanged(root: &OwnedFd, unchanged: &[String]) -> Result<(), String> {
    for path in unchanged {
        let (parent, name) = path.rsplit_once('/').unwrap_or((".", path));
        let said = |error: Errno| format!("cannot remove `{path}`: {error}", path = shown(path));
        let parent = open_directory(root, parent).map_err(said)?;
        rustix::fs::unlinkat(parent, &*bytes_of(name), AtFlags::empty()).map_err(said)?;
    }
    Ok(())
}

/// Where dpkg keeps what packages say of themselves: it unpacks these files and renames them, and on some file systems they
/// have the package's times then, on others those of the build.
const DPKG_INFO: &str = "var/lib/dpkg/info/";

/// A file's time in a layer: none is later than the epoch.
fn settled(path: &str, time: i64, epoch: i64) -> i64 {
    if path.starts_with(DPKG_INFO) {
        epoch
    } else if fault::planted("time-not-cut") {
        time
    } else {
        time.min(epoch)
    }
}

/// Sets all times that are later than the epoch or not whole.
fn set_times(root: &OwnedFd, found: &[Found], unchanged: &[String], epoch: i64) -> Result<(), String> {
    // Deepest first, so that a directory's time is set after its content.
    for file in found.iter().rev() {
        if is_whiteout(file) || unchanged.binary_search(&file.path).is_ok() {
            continue;
        }
        let seconds = settled(&file.path, file.stat.st_mtime, epoch);
        let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
        let said = |error: Errno| format!("cannot set the time of `{}`: {error}", file.path);
        let (parent, name) =
            if file.path == "." { (".", ".") } else { file.path.rsplit_once('/').unwrap_or((".", &file.path)) };
        let times = Timestamps { last_access: time, last_modification: time };
        let set = open_directory(root, parent)
            .and_then(|parent| rustix::fs::utimensat(parent, &*bytes_of(name), &times, AtFlags::SYMLINK_NOFOLLOW));
        match set {
            // A directory in which nothing changed was taken out.
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(said(error)),
        }
    }
    Ok(())
}

/// Makes of a whole tree, whose unchanged files are removed already, what a layer's directory is: whiteouts for what is
/// gone, and no directory in which nothing changed.
fn reduce(root: &OwnedFd, found: &[Found], layer: &Manifest) -> Result<(), String> {
    for (path, entry) in &layer.0 {
        let (parent, name) = path.rsplit_once('/').unwrap_or((".", path));
        if entry.kind == Kind::Whiteout {
            let said = |error: Errno| format!("cannot mark `{path}` as removed: {error}", path = shown(path));
            let parent = open_directory(root, parent).map_err(said)?;
            rustix::fs::mknodat(&parent, &*bytes_of(name), FileType::CharacterDevice, Mode::empty(), 0)
                .map_err(said)?;
        }
    }
    // Deepest first; one with content stays.
    for file in found.iter().rev() {
        let is_directory = FileType::from_raw_mode(file.stat.st_mode) == FileType::Directory;
        if is_directory && file.path != "." && !layer.0.contains_key(&file.path) {
            let (parent, name) = file.path.rsplit_once('/').unwrap_or((".", &file.path));
            let parent = open_directory(root, parent).map_err(|error| format!("`{}`: {error}", file.path))?;
            let _ = rustix::fs::unlinkat(&parent, &*bytes_of(name), AtFlags::REMOVEDIR);
        }
    }
    Ok(())
}
