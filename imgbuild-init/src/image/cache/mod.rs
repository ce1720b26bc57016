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
//!
//! A frame may be there several times: in an image that was begun its place has other bytes, and an older image has them.

mod device;
mod files;
pub(crate) mod running;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};

pub(crate) use self::device::find as find_disk;
use self::files::{Held, Kind, folder, names};
use crate::image::index::{Frame, Index, sha256};
use crate::modules::Modules;
use crate::{say, sys};

/// Where the disk is mounted.
pub(crate) const PLACE: &str = "/imgbuild-cache";

/// A disk that keeps frames.
pub(crate) struct Cache {
    folder: PathBuf,
    /// By digest, the likeliest place first.
    known: BTreeMap<String, Vec<Held>>,
    /// The image that is fetched: its frames' digests, and its index's.
    wanted: BTreeSet<String>,
    digest: String,
    /// Whether frames that are fetched are kept; not where the whole image lies here.
    keeps: bool,
    /// Whether something of the disk stays in use.
    is_used: bool,
    /// Whether the image that is fetched lies here, with all of its bytes.
    has_image: bool,
    /// What was removed already for want of room.
    made_room: Room,
    damaged: usize,
}

/// What was removed for want of room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    Nothing,
    /// All that the image does not need.
    Others,
    /// Kept frames too: the image itself has them, or gets them from the server.
    All,
}

/// An image on the disk, as far as it is there.
pub(crate) struct OnDisk {
    path: PathBuf,
    file: File,
}

impl OnDisk {
    /// Writes a frame to its place, unless it stands there.
    pub(crate) fn put(&mut self, frame: &Frame, bytes: &[u8]) -> io::Result<()> {
        let mut there = vec![0; bytes.len()];
        if self.file.read_exact_at(&mut there, frame.offset).is_ok() && there == bytes {
            return Ok(());
        }
        self.file.write_all_at(bytes, frame.offset)
    }

    /// The image, open for reading alone.
    pub(crate) fn whole(self) -> io::Result<File> {
        files::open(&self.path, File::options().read(true))
    }
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

impl Cache {
    /// Finds the disk and mounts it; nothing, and a message, where that fails. The image is held there whole where `whole` says so.
    pub(crate) fn open(words: &str, index: &Index, whole: bool, modules: &Modules) -> Option<Self> {
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
        opened.inspect_err(|problem| say!("imgcache={words}: {problem}; booting without it")).ok()
    }

    /// Reads what a disk claims to have.
    fn read_from(place: &Path, index: &Index, whole: bool) -> io::Result<Self> {
        let above = place.join("imgbuild-cache");
        let own = above.join("1");
        for path in [&above, &own, &own.join("frames"), &own.join("images")] {
            folder(path)?;
        }
        discard_writes(&own);
        let images = own.join("images");
        let mut known = BTreeMap::<String, Vec<Held>>::new();
        // What stands in the image that is asked for needs no copy; an image that was begun has least.
        let mut lists: Vec<String> =
            names(&images).into_iter().filter_map(|name| name.strip_suffix(".frames").map(str::to_owned)).collect();
        lists.sort_by_key(|name| *name != index.digest);
        for name in lists.iter().filter(|name| is_digest(name)) {
            for line in files::text(&images.join(format!("{name}.frames"))).lines() {
                let words: Vec<&str> = line.split(' ').collect();
                let [digest, size, offset] = words.as_slice() else { continue };
                if let (true, Ok(size), Ok(offset)) = (is_digest(digest), size.parse(), offset.parse()) {
                    let held = Held { file: images.join(name), offset, size, kind: Kind::File };
                    known.entry((*digest).to_owned()).or_default().push(held);
                }
            }
        }
        for (file, name) in kept_files(&own) {
            match file.symlink_metadata() {
                Ok(found) if found.is_file() && is_digest(&name) => {
                    let held = Held { file, offset: 0, size: found.len(), kind: Kind::File };
                    known.entry(name).or_default().push(held);
                }
                // What was begun when the node lost its power.
                _ => drop(std::fs::remove_file(file)),
            }
        }
        Ok(Self {
            folder: own,
            known,
            wanted: index.frames.iter().map(|frame| frame.sha256.clone()).collect(),
            digest: index.digest.clone(),
            keeps: !whole,
            is_used: false,
            has_image: false,
            made_room: Room::Nothing,
            damaged: 0,
        })
    }

    /// The frames of the image that runs, for one that takes its place: `running` says where they are on its device. Nothing is written,
    /// and it is not closed.
    pub(crate) fn of_running(device: &Path, running: &Index, index: &Index) -> Self {
        let mut known = BTreeMap::<String, Vec<Held>>::new();
        for frame in &running.frames {
            let Frame { offset, size, .. } = *frame;
            let held = Held { file: device.to_owned(), offset, size, kind: Kind::Device };
            known.entry(frame.sha256.clone()).or_default().push(held);
        }
        Self {
            folder: PathBuf::new(),
            known,
            wanted: index.frames.iter().map(|frame| frame.sha256.clone()).collect(),
            digest: index.digest.clone(),
            keeps: false,
            is_used: false,
            has_image: false,
            made_room: Room::Nothing,
            damaged: 0,
        }
    }

    /// Whether the disk seems to have a frame.
    pub(crate) fn claims(&self, frame: &Frame) -> bool {
        let places = self.known.get(&frame.sha256).into_iter().flatten();
        places.into_iter().any(|held| held.size == frame.size && held.is_written())
    }

    /// A frame, if the disk has it and its bytes are those of the index.
    pub(crate) fn read(&mut self, frame: &Frame) -> Option<Vec<u8>> {
        let places = self.known.remove(&frame.sha256)?;
        let mut was_damaged = false;
        for (at, held) in places.iter().enumerate().filter(|(_, held)| held.size == frame.size) {
            let bytes = held.bytes();
            if bytes.as_ref().is_ok_and(|bytes| sha256(bytes) == frame.sha256) {
                self.known.insert(frame.sha256.clone(), places[at..].to_vec());
                return bytes.ok();
            }
            // Room that was never filled is not damage.
            was_damaged |= held.is_written() || bytes.is_err();
            if held.file.ends_with(&frame.sha256) {
                let _ = std::fs::remove_file(&held.file);
            }
        }
        self.damaged += usize::from(was_damaged);
        None
    }

    /// Keeps a frame that was fetched; a disk that does not take it is not asked again.
    pub(crate) fn keep(&mut self, frame: &Frame, bytes: &[u8]) {
        if !self.keeps || !is_digest(&frame.sha256) {
            return;
        }
        let folder_of = self.folder.join("frames").join(&frame.sha256[..2]);
        let write = || {
            folder(&folder_of)?;
            files::write(&folder_of.join(&frame.sha256), bytes)
        };
        let mut written = write();
        if written.as_ref().is_err_and(is_full) && self.make_room() {
            written = write();
        }
        if let Err(error) = written {
            say!("the disk of imgcache= cannot store more frames: {error}; those stored are used at the next boot");
            self.keeps = false;
        }
    }

    /// Removes what the image does not need, and in the end kept frames too where the image itself lies here; whether anything was left
    /// to remove.
    fn make_room(&mut self) -> bool {
        let digest = BTreeSet::from([self.digest.clone()]);
        match self.made_room {
            Room::Nothing => {
                self.remove_others(&self.wanted.clone(), &digest);
                self.made_room = Room::Others;
            }
            Room::Others if !self.keeps => {
                self.remove_others(&BTreeSet::new(), &digest);
                self.made_room = Room::All;
            }
            Room::Others | Room::All => return false,
        }
        true
    }

    /// Removes frames and images but for some.
    fn remove_others(&mut self, frames: &BTreeSet<String>, images: &BTreeSet<String>) {
        let place = self.folder.join("images");
        let images =
            names(&place).into_iter().filter(|name| !images.contains(name.strip_suffix(".frames").unwrap_or(name)));
        let kept = kept_files(&self.folder).into_iter().filter(|(_, name)| !frames.contains(name));
        let gone: BTreeSet<PathBuf> = images.map(|name| place.join(name)).chain(kept.map(|(path, _)| path)).collect();
        for path in &gone {
            let _ = std::fs::remove_file(path);
        }
        self.known.values_mut().for_each(|places| places.retain(|held| !gone.contains(&held.file)));
    }

    /// The file of the image on the disk, with room for all of it.
    pub(crate) fn image(&mut self, index: &Index) -> io::Result<OnDisk> {
        let path = self.folder.join("images").join(&index.digest);
        let lines = index.frames.iter().map(|frame| format!("{} {} {}\n", frame.sha256, frame.size, frame.offset));
        let lines = lines.collect::<String>();
        let list = path.with_extension("frames");
        let file = files::open(&path, File::options().read(true).write(true).create(true).truncate(false))?;
        let take = || {
            file.set_len(index.size)?;
            sys::reserve(file.as_raw_fd(), index.size)?;
            if files::text(&list) == lines { Ok(()) } else { files::write(&list, lines.as_bytes()) }
        };
        let mut room = take();
        while room.as_ref().is_err_and(is_full) && self.make_room() {
            room = take();
        }
        if let Err(error) = room {
            drop(file);
            let _ = std::fs::remove_file(&path);
            return Err(error);
        }
        self.is_used = true;
        self.has_image = true;
        Ok(OnDisk { path, file })
    }

    /// Says that the image is not there after all.
    pub(crate) fn without_image(&mut self) {
        self.has_image = false;
    }

    /// An empty folder for what the node writes.
    pub(crate) fn writes(&mut self) -> io::Result<String> {
        let path = self.folder.join("writes");
        std::fs::DirBuilder::new().mode(0o755).create(&path)?;
        self.is_used = true;
        Ok(path.display().to_string())
    }

    /// Forgets what the last two images do not have, where this one is whole now, and lets go of the disk.
    pub(crate) fn close(mut self, whole: bool) {
        if self.damaged > 0 {
            let (frames, were) = if self.damaged == 1 { ("frame", "was") } else { ("frames", "were") };
            say!("{} {frames} on the disk of imgcache= {were} damaged and {were} fetched again", self.damaged);
        }
        if whole && let Err(error) = self.settle() {
            say!("cannot clean up the disk of imgcache=: {error}");
        }
        if self.is_used || !sys::unmount_now(PLACE) {
            sys::unmount(PLACE);
        }
    }

    fn settle(&mut self) -> io::Result<()> {
        let path = |name: &str| self.folder.join(name);
        let current = files::text(&path("current"));
        if current.lines().next() != Some(&self.digest) {
            let mut text = format!("{}\n", self.digest);
            self.wanted.iter().for_each(|digest| text.extend([digest, "\n"]));
            files::write(&path("before"), current.as_bytes())?;
            files::write(&path("current"), text.as_bytes())?;
        }
        let before = files::text(&path("before"));
        let mut images = BTreeSet::from([self.digest.clone()]);
        images.extend(before.lines().next().map(str::to_owned));
        let mut frames = self.wanted.clone();
        frames.extend(before.lines().skip(1).map(str::to_owned));
        if self.has_image {
            frames.retain(|digest| !self.wanted.contains(digest));
        }
        self.remove_others(&frames, &images);
        Ok(())
    }
}

/// All files that stand for kept frames, with their names.
fn kept_files(own: &Path) -> Vec<(PathBuf, String)> {
    let place = own.join("frames");
    let parts = names(&place).into_iter().filter(|part| part.len() == 2);
    parts
        .flat_map(|part| names(&place.join(&part)).into_iter().map(move |name| (part.clone(), name)))
        .map(|(part, name)| (place.join(part).join(&name), name))
        .collect()
}

/// Removes what the node wrote in earlier boots; what cannot be removed gets out of the way.
fn discard_writes(own: &Path) {
    for name in names(own).into_iter().filter(|name| name == "writes" || name.starts_with("writes.")) {
        let path = own.join(&name);
        let Err(error) = std::fs::remove_dir_all(&path) else { continue };
        say!("cannot remove what earlier boots wrote to the disk of imgcache=: {error}");
        if name == "writes" {
            let aside = (0..1000).map(|number| own.join(format!("writes.{number}")));
            let free = aside.into_iter().find(|aside| aside.symlink_metadata().is_err());
            let _ = free.map(|aside| std::fs::rename(&path, aside));
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded].contains(&error.kind())
}

#[cfg(test)]
mod tests;
