//! Frames: an archive cut into pieces that are compressed by themselves and kept by what they hold (D29 to D31).
//!
//! The first frame has all directories, so that the others can be unpacked in any order; the last has them again,
//! deepest first, and the trailer: GNU cpio sets a directory's time when it reads the entry, and what comes later in
//! the directory would change it.
//! Between them files stand sorted by path and are cut where a hash of the path says so, which keeps all other
//! cuts where they were when one file comes or goes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};

use super::form::Stream;
use crate::compress::Compression;
use crate::cpio::{Body, Head, write_entry, write_trailer};
use crate::tar;
use base::digest::{Digest, FieldHasher, Sha256};
use store::{Entry, Kind};

/// A frame is cut from here on where a path's hash allows, in bytes before compression.
pub(crate) const FRAME_LEAST: u64 = 1 << 20;
/// A frame is cut here whatever the hash says, in bytes before compression.
pub(crate) const FRAME_MOST: u64 = 8 << 20;
/// One path in so many may start a frame.
const CUT_ODDS: u32 = 32;
/// A frame of so many bytes before compression, or fewer, is put together in memory, once for each thread.
const AT_ONCE: u64 = 16 << 20;

/// One entry of the archive: its path, what it is, and which layer has its content.
#[derive(Debug, Clone)]
pub struct PackEntry {
    /// Path; `.` is the root.
    pub path: String,
    pub entry: Entry,
    /// The layer that it comes from.
    pub layer: usize,
    /// Inode number: 0 for a file with one name.
    pub inode: u32,
    /// Number of names in the archive.
    pub links: u32,
    /// Whether the content follows: the last name of a hard link carries it.
    pub carries_content: bool,
    /// The name that a hard link of tar leads to.
    pub link_to: Option<String>,
}

#[derive(Debug, Clone, Default)]
pub struct Frame {
    /// Its entries, in order.
    pub entries: Vec<PackEntry>,
    pub trailer: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FrameInfo {
    /// Compressed bytes.
    pub size: u64,
    /// Bytes before compression.
    pub unpacked: u64,
    /// Digest of the compressed bytes; what the node checks.
    pub sha256: Sha256,
    /// Digest of the same bytes; what imgbuild checks, because it is faster.
    pub blake3: Digest,
}

impl FrameInfo {
    /// What compressed bytes are that were so many before.
    pub fn of(bytes: &[u8], unpacked: u64) -> Self {
        Self { size: bytes.len() as u64, unpacked, sha256: Sha256::of(bytes), blake3: Digest::of(bytes) }
    }
}

/// Version of how archives are cut and written; part of the keys. 1: first; 2: directories again at the end; 3: frames of zstd have
/// whole blocks; 4: those of 16 MiB or fewer are compressed as a whole.
pub const FRAME_VERSION: u32 = 4;

pub(super) fn size_of(entry: &Entry) -> u64 {
    match &entry.kind {
        Kind::File { size, .. } => *size + 128,
        _ => 128,
    }
}

fn path_hash(path: &str) -> u32 {
    let digest = blake3::hash(path.as_bytes());
    let bytes = digest.as_bytes();
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// Whether a frame that is large enough ends before this path.
pub(crate) fn starts_frame(path: &str) -> bool {
    path_hash(path).is_multiple_of(CUT_ODDS)
}

pub fn cut_frames(entries: Vec<(String, Entry, usize)>) -> Vec<Frame> {
    let mut groups: BTreeMap<(usize, String), Vec<usize>> = BTreeMap::new();
    for (index, (_, entry, layer)) in entries.iter().enumerate() {
        if let Some(group) = &entry.link_group {
            groups.entry((*layer, group.clone())).or_default().push(index);
        }
    }
    // Numbers from a hash of the group's first path; the next free one in the rare case of a clash.
    let mut taken = BTreeSet::from([0]);
    let mut inodes: BTreeMap<usize, (u32, u32, bool)> = BTreeMap::new();
    let mut followers: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for members in groups.values().filter(|members| members.len() > 1) {
        let mut number = path_hash(&entries[members[0]].0).max(1);
        while !taken.insert(number) {
            number = number.wrapping_add(1);
        }
        for (place, member) in members.iter().enumerate() {
            inodes.insert(*member, (number, members.len() as u32, place + 1 == members.len()));
        }
        followers.insert(members[0], members[1..].to_vec());
    }
    let moved: BTreeSet<usize> = followers.values().flatten().copied().collect();
    let make = |index: usize, (path, entry, layer): (String, Entry, usize)| {
        let is_directory = entry.is_directory();
        let (inode, links, carries_content) =
            inodes.get(&index).copied().unwrap_or((0, if is_directory { 2 } else { 1 }, true));
        PackEntry { path, entry, layer, inode, links, carries_content, link_to: None }
    };
    let mut first = Frame::default();
    let mut frames = Vec::new();
    let mut current = Frame::default();
    let mut bytes = 0;
    // Moved and not copied: large images have many.
    let mut entries: Vec<Option<(String, Entry, usize)>> = entries.into_iter().map(Some).collect();
    for index in 0..entries.len() {
        if moved.contains(&index) {
            continue;
        }
        let Some(item) = entries.get_mut(index).and_then(Option::take) else { continue };
        if item.1.is_directory() {
            first.entries.push(make(index, item));
            continue;
        }
        let cut = bytes >= FRAME_MOST || (bytes >= FRAME_LEAST && starts_frame(&item.0));
        if cut {
            frames.push(std::mem::take(&mut current));
            bytes = 0;
        }
        bytes += size_of(&item.1);
        current.entries.push(make(index, item));
        for follower in followers.get(&index).into_iter().flatten() {
            current.entries.extend(entries[*follower].take().map(|item| make(*follower, item)));
        }
    }
    if !current.entries.is_empty() {
        frames.push(current);
    }
    let last = Frame { entries: first.entries.iter().rev().cloned().collect(), trailer: true };
    frames.insert(0, first);
    frames.push(last);
    frames
}

/// Joins frames into one: a stream that has one archive with one end, as the kernel wants an initramfs (D30).
pub fn join_frames(frames: Vec<Frame>) -> Vec<Frame> {
    let mut entries = Vec::new();
    for frame in frames {
        // The last one only repeats the directories.
        if !frame.trailer {
            entries.extend(frame.entries);
        }
    }
    vec![Frame { entries, trailer: true }]
}

impl Frame {
    /// What identifies the compressed frame: all that its bytes are a function of.
    pub fn key(&self, stream: Stream, compression: Compression) -> Digest {
        let (context, version) = match stream {
            Stream::Cpio => ("imgbuild frame v1", FRAME_VERSION),
            Stream::Tar => ("imgbuild tar frame v1", tar::TAR_VERSION),
        };
        let mut hasher = FieldHasher::new(context);
        hasher.text(&version.to_string()).text(&compression.describe());
        hasher.text(if self.trailer { "trailer" } else { "" });
        for item in &self.entries {
            let Entry { kind, mode, uid, gid, mtime, .. } = &item.entry;
            let uid = if fault::planted("frame-key-forgets-owner") { &0 } else { uid };
            let kind = match kind {
                Kind::Directory => "d".to_owned(),
                Kind::File { size, digest } => format!("f {size} {digest}"),
                Kind::Symlink(target) => format!("l {target}"),
                Kind::Character(major, minor) => format!("c {major} {minor}"),
                Kind::Block(major, minor) => format!("b {major} {minor}"),
                Kind::Fifo => "p".to_owned(),
                Kind::Socket => "s".to_owned(),
                Kind::Whiteout => "w".to_owned(),
            };
            hasher
                .text(&item.path)
                .text(&kind)
                .text(&format!("{mode} {uid} {gid} {mtime} {} {} {}", item.inode, item.links, item.carries_content));
            if stream == Stream::Tar {
                hasher.text(item.link_to.as_deref().unwrap_or_default());
                // cpio has no place for them.
                hasher.text(&item.entry.xattrs.len().to_string());
                for (name, value) in &item.entry.xattrs {
                    hasher.text(name).field(value);
                }
            }
        }
        hasher.finish()
    }

    /// Writes the frame; `content` opens a regular file of a layer.
    /// Errors: The file's or the sink's, with the path in the text.
    pub fn write<'a>(
        &self,
        (stream, compression): (Stream, Compression),
        out: &mut dyn Write,
        content: &dyn Fn(&PackEntry) -> io::Result<Box<dyn Read + 'a>>,
    ) -> io::Result<FrameInfo> {
        let mut out = Counting { inner: out, size: 0, sha256: sha2::Digest::new(), blake3: blake3::Hasher::new() };
        let plain = |to: &mut dyn Write| match stream {
            Stream::Cpio => self.write_cpio(to, content),
            Stream::Tar => self.write_tar(to, content),
        };
        let expected: u64 = self.entries.iter().map(|item| size_of(&item.entry)).sum();
        let unpacked = if expected <= AT_ONCE {
            let mut bytes = Vec::with_capacity(expected as usize);
            plain(&mut bytes)?;
            compression.write_whole(&bytes, &mut out)?;
            bytes.len() as u64
        } else {
            compression.write(&mut out, |to| {
                let mut to = Plain { inner: to, size: 0 };
                plain(&mut to)?;
                Ok(to.size)
            })?
        };
        // One with the archive's end has nothing behind it; alone, it is a stream for the kernel, which knows no filling.
        if !self.trailer {
            let size = out.size;
            compression.pad(&mut out, size)?;
        }
        let sha256 = Sha256(sha2::Digest::finalize(out.sha256).into());
        Ok(FrameInfo { size: out.size, unpacked, sha256, blake3: Digest(*out.blake3.finalize().as_bytes()) })
    }

    fn write_tar<'a>(
        &self,
        out: &mut dyn Write,
        content: &dyn Fn(&PackEntry) -> io::Result<Box<dyn Read + 'a>>,
    ) -> io::Result<()> {
        for item in &self.entries {
            let said = |error: io::Error| io::Error::new(error.kind(), format!("`{}`: {error}", item.path));
            let content = match &item.entry.kind {
                Kind::Socket | Kind::Whiteout => continue,
                Kind::File { size, .. } if *size > 0 && item.link_to.is_none() => Some(content(item).map_err(said)?),
                _ => None,
            };
            tar::write_entry(out, &item.path, &item.entry, item.link_to.as_deref(), content).map_err(said)?;
        }
        if self.trailer { tar::write_trailer(out) } else { Ok(()) }
    }

    fn write_cpio<'a>(
        &self,
        out: &mut dyn Write,
        content: &dyn Fn(&PackEntry) -> io::Result<Box<dyn Read + 'a>>,
    ) -> io::Result<()> {
        for item in &self.entries {
            let said = |error: io::Error| io::Error::new(error.kind(), format!("`{}`: {error}", item.path));
            let Entry { kind, mode, uid, gid, mtime, .. } = &item.entry;
            let head = Head { inode: item.inode, links: item.links, mode: *mode, uid: *uid, gid: *gid, mtime: *mtime };
            let body = match kind {
                Kind::Directory => Body::Directory,
                Kind::File { size, .. } if item.carries_content => {
                    Body::File(*size, Some(content(item).map_err(said)?))
                }
                Kind::File { .. } => Body::File(0, None),
                Kind::Symlink(target) => Body::Symlink(target),
                Kind::Character(major, minor) => Body::Character(*major, *minor),
                Kind::Block(major, minor) => Body::Block(*major, *minor),
                Kind::Fifo => Body::Fifo,
                Kind::Socket => Body::Socket,
                Kind::Whiteout => continue,
            };
            write_entry(out, &item.path, head, body).map_err(said)?;
        }
        if self.trailer {
            write_trailer(out)?;
        }
        Ok(())
    }
}

struct Plain<'a> {
    inner: &'a mut dyn Write,
    size: u64,
}

impl Write for Plain<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

struct Counting<'a> {
    inner: &'a mut dyn Write,
    size: u64,
    sha256: sha2::Sha256,
    blake3: blake3::Hasher,
}

impl Write for Counting<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        sha2::Digest::update(&mut self.sha256, &bytes[..written]);
        self.blake3.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, size: u64, group: Option<&str>) -> (String, Entry, usize) {
        let kind = Kind::File { size, digest: Digest::of(path.as_bytes()) };
        let entry = Entry { kind, mode: 0o644, link_group: group.map(str::to_owned), ..Entry::whiteout() };
        (path.to_owned(), entry, 0)
    }

    fn directory(path: &str) -> (String, Entry, usize) {
        (path.to_owned(), Entry { kind: Kind::Directory, mode: 0o755, ..Entry::whiteout() }, 0)
    }

    fn keys(entries: Vec<(String, Entry, usize)>) -> Vec<Digest> {
        cut_frames(entries).iter().map(|frame| frame.key(Stream::Cpio, Compression::Zstd(3))).collect()
    }

    #[test]
    fn one_more_file_changes_one_frame() {
        let tree = |extra: bool| {
            let mut entries = vec![directory(".")];
            entries.extend((0..2000).map(|number| file(&format!("f{number:05}"), 20_000, None)));
            if extra {
                entries.push(file("f00777x", 10, None));
            }
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            entries
        };
        let (before, after) = (keys(tree(false)), keys(tree(true)));
        assert!(before.len() > 8, "{}", before.len());
        let changed = after.iter().filter(|key| !before.contains(key)).count();
        assert_eq!(changed, 1);
    }

    #[test]
    fn a_hard_link_group_stands_together_with_its_data_last() {
        let frames =
            cut_frames(vec![directory("."), file("a", 3, Some("a")), file("m", 1, None), file("z", 3, Some("a"))]);
        let names: Vec<(&str, bool, u32)> =
            frames[1].entries.iter().map(|item| (item.path.as_str(), item.carries_content, item.links)).collect();
        assert_eq!(names, [("a", false, 2), ("z", true, 2), ("m", true, 1)]);
        assert_eq!(frames[1].entries[0].inode, frames[1].entries[1].inode);
        assert!(frames[2].trailer);
    }

    #[test]
    fn a_group_of_which_one_name_is_left_is_a_plain_file() {
        let frames = cut_frames(vec![directory("."), file("a", 3, Some("a"))]);
        assert_eq!((frames[1].entries[0].links, frames[1].entries[0].inode), (1, 0));
    }

    #[test]
    fn all_that_is_written_of_a_file_is_in_the_key() {
        let keys_of = |change: &dyn Fn(&mut Entry)| {
            let mut one = file("a", 3, None);
            change(&mut one.1);
            keys(vec![directory("."), one])
        };
        let plain = keys_of(&|_| {});
        let changes: [&dyn Fn(&mut Entry); 6] = [
            &|entry| entry.mode = 0o600,
            &|entry| entry.uid = 7,
            &|entry| entry.gid = 7,
            &|entry| entry.mtime = 7,
            &|entry| entry.kind = Kind::File { size: 3, digest: Digest::of(b"other") },
            &|entry| entry.kind = Kind::Symlink("b".to_owned()),
        ];
        for (number, change) in changes.iter().enumerate() {
            assert_ne!(keys_of(change)[1], plain[1], "{number}");
        }
    }
}
