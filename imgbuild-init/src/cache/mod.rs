//! A disk of the node that keeps what was fetched, so that the next boot asks the server only for what changed (`imgcache=`).
//!
//! Nothing on it is believed: each frame is compared with the index, which the server has, whenever it is read. A disk that is
//! missing, full, damaged or read-only costs a message and a download, and nothing else. What lies there:
//!
//! | `imgbuild-cache/1/..` | |
//! |---|---|
//! | `frames/ab/abcd..` | a frame, by its SHA-256 |
//! | `images/abcd..` | an image that nodes mount from here, by its index's SHA-256 |
//! | `images/abcd...frames` | digest, size and place of its frames, a line each |
//! | `current`, `before` | the index's digest of the last two images, and their frames |
//! | `writes` | what the node writes; emptied at each boot |

mod device;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};

use crate::image::{Frame, Index, sha256};
use crate::modules::Modules;
use crate::{say, sys};

/// Where the disk is mounted.
const PLACE: &str = "/imgbuild-cache";

/// Where the bytes of a frame are said to be.
#[derive(Debug, Clone)]
struct Held {
    file: PathBuf,
    offset: u64,
    size: u64,
}

/// A disk that keeps frames.
pub struct Cache {
    folder: PathBuf,
    /// By digest.
    known: BTreeMap<String, Held>,
    /// The image that is fetched: its frames' digests, and its index's.
    wanted: BTreeSet<String>,
    digest: String,
    /// Whether frames that are fetched are kept; not where the whole image lies here.
    keeps: bool,
    /// Whether something of the disk stays in use.
    is_used: bool,
    /// Whether everything else was removed already.
    made_room: bool,
    damaged: usize,
}

/// An image on the disk, as far as it is there.
pub struct OnDisk {
    path: PathBuf,
    file: File,
}

impl OnDisk {
    /// Writes a frame to its place, unless it stands there.
    pub fn put(&mut self, frame: &Frame, bytes: &[u8]) -> io::Result<()> {
        let mut there = vec![0; bytes.len()];
        if self.file.read_exact_at(&mut there, frame.offset).is_ok() && there == bytes {
            return Ok(());
        }
        self.file.write_all_at(bytes, frame.offset)
    }

    /// The image, open for reading alone.
    pub fn whole(self) -> io::Result<File> {
        File::open(self.path)
    }
}

/// A folder, made if it is not there; nothing else may have its name.
fn folder(path: &Path) -> io::Result<()> {
    match path.symlink_metadata() {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(io::Error::new(io::ErrorKind::NotADirectory, format!("{} is not a directory", path.display()))),
        Err(_) => std::fs::DirBuilder::new().mode(0o700).create(path),
    }
}

fn names(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

impl Cache {
    /// Finds the disk and mounts it; nothing, and a message, where that fails. The image is held there whole where `whole` says so.
    pub fn open(words: &str, index: &Index, whole: bool, modules: &Modules) -> Option<Self> {
        let opened = device::find(words, modules).and_then(|found| {
            modules.load(found.kind);
            sys::mount_cache(&found.path, PLACE, found.kind).map_err(|error| {
                format!("{} cannot be mounted: {error}; does the initrd have {}?", found.path, found.kind)
            })?;
            say!("imgcache={words} is {} ({})", found.path, found.kind);
            Self::read_from(Path::new(PLACE), index, whole).map_err(|error| {
                sys::unmount(PLACE);
                format!("{}: {error}", found.path)
            })
        });
        opened.inspect_err(|problem| say!("imgcache={words}: {problem}; this boot goes without it")).ok()
    }

    /// Reads what a disk claims to have.
    fn read_from(place: &Path, index: &Index, whole: bool) -> io::Result<Self> {
        let above = place.join("imgbuild-cache");
        let own = above.join("1");
        for path in [&above, &own, &own.join("frames"), &own.join("images")] {
            folder(path)?;
        }
        let mut known = BTreeMap::new();
        for part in names(&own.join("frames")) {
            for name in names(&own.join("frames").join(&part)) {
                let file = own.join("frames").join(&part).join(&name);
                match file.symlink_metadata() {
                    Ok(found) if found.is_file() && is_digest(&name) => {
                        known.insert(name, Held { file, offset: 0, size: found.len() });
                    }
                    // What was begun when the node lost its power.
                    _ => drop(std::fs::remove_file(file)),
                }
            }
        }
        let images = own.join("images");
        // The one that is asked for comes last: what stands there already needs no copy.
        let mut lists: Vec<String> =
            names(&images).into_iter().filter_map(|name| name.strip_suffix(".frames").map(str::to_owned)).collect();
        lists.sort_by_key(|name| *name == index.digest);
        for name in lists.iter().filter(|name| is_digest(name)) {
            let text = std::fs::read_to_string(images.join(format!("{name}.frames"))).unwrap_or_default();
            for line in text.lines() {
                let words: Vec<&str> = line.split(' ').collect();
                let [digest, size, offset] = words.as_slice() else { continue };
                if let (true, Ok(size), Ok(offset)) = (is_digest(digest), size.parse(), offset.parse()) {
                    known.insert((*digest).to_owned(), Held { file: images.join(name), offset, size });
                }
            }
        }
        Ok(Self {
            folder: own,
            known,
            wanted: index.frames.iter().map(|frame| frame.sha256.clone()).collect(),
            digest: index.digest.clone(),
            keeps: !whole,
            is_used: false,
            made_room: false,
            damaged: 0,
        })
    }

    /// Whether the disk says that it has a frame.
    pub fn claims(&self, frame: &Frame) -> bool {
        self.known.get(&frame.sha256).is_some_and(|held| held.size == frame.size)
    }

    /// A frame, if the disk has it and its bytes are those of the index.
    pub fn read(&mut self, frame: &Frame) -> Option<Vec<u8>> {
        let held = self.known.get(&frame.sha256).filter(|held| held.size == frame.size)?;
        let mut bytes = vec![0; usize::try_from(held.size).ok()?];
        let read = File::open(&held.file).and_then(|file| file.read_exact_at(&mut bytes, held.offset));
        if read.is_ok() && sha256(&bytes) == frame.sha256 {
            return Some(bytes);
        }
        self.damaged += 1;
        if let Some(held) = self.known.remove(&frame.sha256).filter(|held| held.file.ends_with(&frame.sha256)) {
            let _ = std::fs::remove_file(held.file);
        }
        None
    }

    /// Keeps a frame that was fetched; a disk that does not take it is not asked again.
    pub fn keep(&mut self, frame: &Frame, bytes: &[u8]) {
        if !self.keeps || !is_digest(&frame.sha256) {
            return;
        }
        let folder_of = self.folder.join("frames").join(&frame.sha256[..2]);
        let write = || {
            folder(&folder_of)?;
            let aside = folder_of.join(format!(".{}", &frame.sha256));
            std::fs::write(&aside, bytes)
                .and_then(|()| std::fs::rename(&aside, folder_of.join(&frame.sha256)))
                .inspect_err(|_| drop(std::fs::remove_file(&aside)))
        };
        let mut written = write();
        if written.as_ref().is_err_and(is_full) && self.make_room() {
            written = write();
        }
        if let Err(error) = written {
            say!("the disk of imgcache= takes no more frames: {error}; what is there is used at the next boot");
            self.keeps = false;
        }
    }

    /// Removes all that the image does not need, once.
    fn make_room(&mut self) -> bool {
        if std::mem::replace(&mut self.made_room, true) {
            return false;
        }
        let (wanted, digest) = (self.wanted.clone(), self.digest.clone());
        self.remove_others(&wanted, &BTreeSet::from([digest]));
        let _ = std::fs::remove_dir_all(self.folder.join("writes"));
        true
    }

    /// Removes frames and images but for some.
    fn remove_others(&mut self, frames: &BTreeSet<String>, images: &BTreeSet<String>) {
        let place = self.folder.join("images");
        for name in names(&place) {
            if !images.contains(name.strip_suffix(".frames").unwrap_or(&name)) {
                let _ = std::fs::remove_file(place.join(&name));
                self.known.retain(|_, held| held.file != place.join(&name));
            }
        }
        let place = self.folder.join("frames");
        let lies_there = |held: &Held| held.file.starts_with(&place);
        for (digest, held) in &self.known {
            if lies_there(held) && !frames.contains(digest) {
                let _ = std::fs::remove_file(&held.file);
            }
        }
        self.known.retain(|digest, held| !lies_there(held) || frames.contains(digest));
    }

    /// The file of the image on the disk, with room for all of it.
    pub fn image(&mut self, index: &Index) -> io::Result<OnDisk> {
        let path = self.folder.join("images").join(&index.digest);
        if path.symlink_metadata().is_ok_and(|found| !found.is_file()) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{} is not a file", path.display())));
        }
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&path)?;
        let mut room = file.set_len(index.size).and_then(|()| sys::reserve(file.as_raw_fd(), index.size));
        if room.as_ref().is_err_and(is_full) && self.make_room() {
            room = sys::reserve(file.as_raw_fd(), index.size);
        }
        if let Err(error) = room {
            drop(file);
            let _ = std::fs::remove_file(&path);
            return Err(error);
        }
        let lines = index.frames.iter().map(|frame| format!("{} {} {}\n", frame.sha256, frame.size, frame.offset));
        std::fs::write(path.with_extension("frames"), lines.collect::<String>())?;
        self.is_used = true;
        Ok(OnDisk { path, file })
    }

    /// An empty folder for what the node writes.
    pub fn writes(&mut self) -> io::Result<String> {
        let path = self.folder.join("writes");
        match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        std::fs::DirBuilder::new().mode(0o755).create(&path)?;
        self.is_used = true;
        Ok(path.display().to_string())
    }

    /// Forgets what the last two images do not have, where this one is whole now, and lets go of the disk.
    pub fn close(mut self, whole: bool) {
        if self.damaged > 0 {
            let (frames, were) = if self.damaged == 1 { ("frame", "was") } else { ("frames", "were") };
            say!("{} {frames} on the disk of imgcache= {were} not whole, and {were} fetched", self.damaged);
        }
        if whole && let Err(error) = self.settle() {
            say!("the disk of imgcache= cannot be tidied: {error}");
        }
        if self.is_used || !sys::unmount_now(PLACE) {
            sys::unmount(PLACE);
        }
    }

    fn settle(&mut self) -> io::Result<()> {
        let read = |name: &str| std::fs::read_to_string(self.folder.join(name)).unwrap_or_default();
        let current = read("current");
        if current.lines().next() != Some(&self.digest) {
            let mut text = format!("{}\n", self.digest);
            self.wanted.iter().for_each(|digest| text.extend([digest, "\n"]));
            std::fs::write(self.folder.join("before"), &current)?;
            std::fs::write(self.folder.join("current"), text)?;
        }
        let before = read("before");
        let mut images = BTreeSet::from([self.digest.clone()]);
        images.extend(before.lines().next().map(str::to_owned));
        let mut frames = self.wanted.clone();
        frames.extend(before.lines().skip(1).map(str::to_owned));
        // What was kept in this boot is not among what was read.
        self.remove_others(&frames, &images);
        Ok(())
    }
}

fn is_full(error: &io::Error) -> bool {
    [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded].contains(&error.kind())
}

#[cfg(test)]
mod tests;
